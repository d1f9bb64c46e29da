"""K-Means over embeddings, an equal quota from each cluster, and a plane to look at them."""

from collections.abc import Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer

from topeng.corpus.sample import fill
from topeng.errors import CorpusError

STARTS = 4
"""K-Means runs from so many seedings (k-means++); the tightest is kept."""


def cluster(vectors: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """A cluster number for each row, [R]; 0 is the largest cluster.

    Raises:
        CorpusError: there are fewer rows than clusters.
    """
    if len(vectors) < clusters:
        raise CorpusError(f"corpus.clusters = {clusters} needs at least as many rows, and {len(vectors)} are left")
    labels = KMeans(clusters, n_init=STARTS, random_state=seed).fit_predict(vectors)
    by_size = np.argsort(-np.bincount(labels, minlength=clusters), kind="stable")
    return np.argsort(by_size)[labels]


def quotas(labels: np.ndarray, clusters: int, total: int) -> tuple[dict[str, int], dict[str, int]]:
    """Rows to take from each cluster (by its number as text): the equal quotas, and with top-ups from other clusters.

    Raises:
        CorpusError: all clusters together are short.
    """
    sizes = {str(number): int((labels == number).sum()) for number in range(clusters)}
    if sum(sizes.values()) < total:
        raise CorpusError(
            f"corpus.train_rows = {total:,}, and {sum(sizes.values()):,} rows were drawn and may be used: "
            "draw more (corpus.sample_fraction, corpus.sample_rows) or ask for fewer"
        )
    equal = {name: total // clusters + (int(name) < total % clusters) for name in sizes}
    return equal, fill(equal, sizes)


def telling_words(texts: Sequence[str], labels: np.ndarray, clusters: int, count: int = 8) -> list[list[str]]:
    """Of each cluster, the words that set it apart: class-based TF-IDF (Grootendorst, arXiv 2203.05794, eq. 2)."""
    vectorizer = CountVectorizer(max_features=20_000, token_pattern=r"(?u)\b[^\W\d_]{3,}\b")
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # there is no word of three letters
        return [[] for _ in range(clusters)]
    by_cluster = np.vstack([counts[labels == number].sum(axis=0) for number in range(clusters)])
    frequency = np.asarray(by_cluster / np.maximum(by_cluster.sum(axis=1), 1))
    average = by_cluster.sum() / clusters
    weight = frequency * np.log1p(average / np.maximum(np.asarray(by_cluster.sum(axis=0)), 1))
    words = vectorizer.get_feature_names_out()
    return [[str(words[index]) for index in np.argsort(-row, kind="stable")[:count]] for row in weight]


def plane(vectors: np.ndarray, seed: int) -> np.ndarray:
    """UMAP coordinates (McInnes et al., arXiv 1802.03426), [R, 2]."""
    from umap import UMAP

    neighbours = min(15, len(vectors) - 1)
    return UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(vectors)
