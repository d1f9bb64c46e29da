"""Selects rows of each cluster: those with the lowest rank keys, or those that cover the cluster best."""

from collections.abc import Mapping

import numpy as np
from threadpoolctl import threadpool_limits


def take(
    vectors: np.ndarray,
    labels: np.ndarray,
    keys: np.ndarray,
    asked: Mapping[str, int],
    shares: Mapping[str, int],
    selection: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Places of the selected rows, ascending, and of those among them that make up for small clusters.

    Args:
        vectors: fp32 [R, D].
        labels: cluster of each row, [R]; `keys` are the rank keys.
        asked: quota of each cluster, by its number as text; `shares` are the numbers of rows that are taken.
        selection: `random` (lowest keys first) or `k-center`.
    """
    taken, added = [], []
    for name, share in shares.items():
        rows = np.flatnonzero(labels == int(name))
        if selection == "k-center":
            order = rows[k_center(vectors[rows], share)]
        else:
            order = rows[np.argsort(keys[rows], kind="stable")[:share]]
        taken.append(order)
        added.append(order[asked[name] :])
    return np.sort(np.concatenate(taken)), np.sort(np.concatenate(added))


def k_center(vectors: np.ndarray, count: int) -> np.ndarray:
    """Places of `count` rows, each as far as possible from the earlier ones. The first is the nearest to the mean.

    Greedy k-center (Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5): the farthest row is at most twice as far from
    the selected rows as with the best selection. Ties go to the lower place.

    Args:
        vectors: fp32 [R, D].
    """
    squared = np.einsum("rd,rd->r", vectors, vectors)

    def distances(point: np.ndarray) -> np.ndarray:
        return np.maximum(squared + point @ point - 2 * (vectors @ point), 0)

    nearest = np.full(len(vectors), np.inf, np.float32)  # squared distance to the nearest selected row
    with threadpool_limits(1):  # so that sums do not depend on the number of threads
        chosen = [int(distances(vectors.mean(axis=0)).argmin())]
        while len(chosen) < count:
            np.minimum(nearest, distances(vectors[chosen[-1]]), out=nearest)
            nearest[chosen[-1]] = -1  # below the 0 of its copies, so that no row is selected twice
            chosen.append(int(nearest.argmax()))
    return np.array(chosen[:count], int)


def coverage(vectors: np.ndarray, chosen: np.ndarray) -> dict[str, float]:
    """Distances of all rows to the nearest selected row: the largest (`radius`) and the mean.

    Args:
        vectors: fp32 [R, D].
        chosen: places of the selected rows.
    """
    from sklearn.metrics import pairwise_distances_argmin_min

    _, nearest = pairwise_distances_argmin_min(vectors, vectors[chosen])
    return {"radius": float(nearest.max()), "mean": float(nearest.mean())}
