"""Words that distinguish a cluster from the others. Pages use them as its name.

Shapes: R texts, W words, C clusters, M templates.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from scipy import sparse

from topeng.corpus.source_text import FEWEST_ROWS, TEMPLATE_SHARE

WORD = r"(?u)\b[^\W\d_]{3,}\b"
MOST_WORDS = 20_000


def telling_words(
    texts: Sequence[str], templates: Sequence[str], labels: np.ndarray, clusters: int, count: int = 8
) -> list[list[str]]:
    """The most distinctive words of each cluster, best first.

    The score is a class-based TF-IDF (after Grootendorst, arXiv 2203.05794, eq. 2). A word that occurs n times in a
    text counts 1 + ln n, because one long text is not a theme, and all clusters have the same weight. Stop words are
    ignored. A word that occurs in over half of a template's texts is ignored in these texts, because it says how a row
    asks and not what it is about. Of words with the same beginning (`makan`, `makanan`) only the best is kept.

    Args:
        templates: name of each text's template, [R].
        labels: cluster of each text, [R].
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(max_features=MOST_WORDS, token_pattern=WORD, stop_words=sorted(stop_words()))
    try:
        found = sparse.csr_array(vectorizer.fit_transform(texts))
    except ValueError:  # stop words are the only words of three letters or more
        return [[] for _ in range(clusters)]
    found.data = 1 + np.log(found.data)
    words = vectorizer.get_feature_names_out()
    of_sources, of_all = (
        _scores(counts, labels, clusters) for counts in (_without_template_words(found, templates), found)
    )
    # If all texts of a cluster come from one template, its words are all there is.
    scores = np.where(of_sources.any(axis=1, keepdims=True), of_sources, of_all)
    return [_best(words, row, count) for row in scores]


@cache
def stop_words() -> frozenset[str]:
    """Stop words of Indonesian, English and regional languages of Indonesia, from `stop_words.txt`."""
    lines = (Path(__file__).parent / "stop_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def _without_template_words(found: sparse.csr_array, templates: Sequence[str]) -> sparse.csr_array:
    """The words of each text, [R, W], without those that occur in most texts of its template."""
    _, codes = np.unique(np.asarray(templates), return_inverse=True)
    sizes = np.bincount(codes)
    shares = _sums((found > 0).astype(int), codes, len(sizes)) / sizes[:, None]  # [M, W]
    common = (shares > TEMPLATE_SHARE) & (sizes >= FEWEST_ROWS)[:, None]
    rows, columns = found.nonzero()
    kept = ~common[codes[rows], columns]
    return sparse.csr_array((found.data[kept], (rows[kept], columns[kept])), shape=found.shape)


def _scores(found: sparse.csr_array, labels: np.ndarray, clusters: int) -> np.ndarray:
    """The score of each word in each cluster, [C, W]."""
    sums = _sums(found, labels, clusters)
    frequency = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1)
    return frequency * np.log1p(1 / clusters / np.maximum(frequency.sum(axis=0), 1e-12))


def _sums(found: sparse.csr_array, codes: np.ndarray, groups: int) -> np.ndarray:
    """Number of texts of each group that contain each word, [groups, W]."""
    grouping = sparse.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(groups, len(codes)))
    return (grouping @ found).toarray()


def _best(words: np.ndarray, scores: np.ndarray, count: int) -> list[str]:
    """The words with the highest scores, without those that begin like a better one."""
    best: list[str] = []
    for place in np.argsort(-scores, kind="stable"):
        if len(best) == count or scores[place] <= 0:
            break
        word = str(words[place])
        if not any(word.startswith(other) or other.startswith(word) for other in best):
            best.append(word)
    return best
