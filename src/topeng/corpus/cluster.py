"""K-Means over embedded rows, and how many rows each cluster gives."""

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
    """A cluster number for each row, [R], and the centres [K, D]; 0 is the largest cluster.

    Lloyd's algorithm, Euclidean. Rows are sorted by a hash of their vectors first, and one thread adds them up: the
    partition depends neither on the rows' order nor on the number of threads. Sorted so, the first rows are a random
    sample, on which the starts are tried.

    Args:
        vectors: fp32 [R, D].

    Raises:
        CorpusError: there are fewer rows that differ than clusters.
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
    lloyd = partial(KMeans, clusters, algorithm="elkan", copy_x=False)  # Lloyd's partition, with fewer distances taken
    with threadpool_limits(1):
        start = lloyd(n_init=STARTS, random_state=seed).fit(rows[: max(STARTING_ROWS, clusters)])
        fitted = lloyd(init=start.cluster_centers_, n_init=1).fit(rows)
    by_size = np.argsort(-np.bincount(fitted.labels_, minlength=clusters), kind="stable")
    labels = np.empty(len(vectors), np.int32)
    labels[order] = np.argsort(by_size)[fitted.labels_]
    return labels, fitted.cluster_centers_[by_size]


def quotas(labels: np.ndarray, clusters: int, total: int) -> tuple[dict[str, int], dict[str, int]]:
    """Rows to take from each cluster (by its number as text): the equal quotas, and with top-ups from other clusters.

    Raises:
        CorpusError: all clusters together are short.
    """
    sizes = {str(number): int((labels == number).sum()) for number in range(clusters)}
    if sum(sizes.values()) < total:
        raise CorpusError(
            f"corpus.train_rows = {total:,}, but only {sum(sizes.values()):,} usable rows were sampled. "
            "Sample more (corpus.sample_fraction, corpus.sample_rows), or ask for fewer."
        )
    equal = {name: total // clusters + (int(name) < total % clusters) for name in sizes}
    return equal, fill(equal, sizes)
