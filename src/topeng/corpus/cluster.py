"""K-Means over embedded rows, and how many rows are taken from each cluster."""

from functools import partial

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from xxhash import xxh3_64_intdigest

from topeng.corpus.sample import fill
from topeng.errors import CorpusError

STARTS = 4
"""Number of seedings (k-means++) that K-Means tries on `STARTING_ROWS`; the tightest continues with all rows."""
STARTING_ROWS = 20_000


def cluster(vectors: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The cluster number of each row, [R], and the centres [K, D]. Cluster 0 is the largest.

    Uses Lloyd's algorithm with Euclidean distances. Rows are first sorted by a hash of their vectors and added up by
    one thread, so that the partition does not depend on the order of the rows or the number of threads. In this order
    the first rows are a random sample, on which the seedings are tried.

    Args:
        vectors: fp32 [R, D].

    Raises:
        CorpusError: there are fewer distinct rows than clusters.
    """
    hashes = np.array([xxh3_64_intdigest(row) for row in np.ascontiguousarray(vectors)], np.uint64)
    distinct = len(np.unique(hashes))
    if distinct < clusters:
        raise CorpusError(
            f"corpus.clusters = {clusters} needs as many distinct rows, but only {distinct:,} of {len(vectors):,} rows "
            "are distinct. Use fewer clusters, or sample more rows."
        )
    order = np.argsort(hashes, kind="stable")
    rows = vectors[order]
    lloyd = partial(KMeans, clusters, algorithm="elkan", copy_x=False)  # Lloyd's partition, with fewer distances
    with threadpool_limits(1):
        start = lloyd(n_init=STARTS, random_state=seed).fit(rows[: max(STARTING_ROWS, clusters)])
        fitted = lloyd(init=start.cluster_centers_, n_init=1).fit(rows)
    by_size = np.argsort(-np.bincount(fitted.labels_, minlength=clusters), kind="stable")
    labels = np.empty(len(vectors), np.int32)
    labels[order] = np.argsort(by_size)[fitted.labels_]
    return labels, fitted.cluster_centers_[by_size]


def quotas(labels: np.ndarray, clusters: int, total: int) -> tuple[dict[str, int], dict[str, int]]:
    """Rows to take from each cluster, by its number as text: the equal quotas, and the quotas after topping up.

    Raises:
        CorpusError: all clusters together have too few rows.
    """
    sizes = {str(number): int((labels == number).sum()) for number in range(clusters)}
    if sum(sizes.values()) < total:
        raise CorpusError(
            f"corpus.train_rows = {total:,}, but only {sum(sizes.values()):,} usable rows were sampled. "
            "Sample more (corpus.sample_fraction, corpus.sample_rows), or ask for fewer."
        )
    equal = {name: total // clusters + (int(name) < total % clusters) for name in sizes}
    return equal, fill(equal, sizes)
