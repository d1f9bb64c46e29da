"""Words that set a cluster apart, of which pages make its name.

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
    """Of each cluster, the words that set it apart, the most telling first.

    The score is a class-based TF-IDF (after Grootendorst, arXiv 2203.05794, eq. 2): a word that occurs n times in a
    text counts 1 + ln n, since one long text is no theme, and each cluster weighs the same. Stop words do not count.
    Words in over half of a template's texts do not count in these texts: they say how a row asks, not what it is about.
    Of words that begin alike (`makan`, `makanan`) only the first is kept.

    Args:
        templates: the name of each text's template, [R].
        labels: the cluster of each text, [R].
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(max_features=MOST_WORDS, token_pattern=WORD, stop_words=sorted(stop_words()))
    try:
        found = sparse.csr_array(vectorizer.fit_transform(texts))
    except ValueError:  # there is no word of three letters but stop words
        return [[] for _ in range(clusters)]
    found.data = 1 + np.log(found.data)
    words = vectorizer.get_feature_names_out()
    of_sources, of_all = (
        _scores(counts, labels, clusters) for counts in (_without_template_words(found, templates), found)
    )
    # Where all texts of a cluster are a template's own, its words are all that there is to tell.
    scores = np.where(of_sources.any(axis=1, keepdims=True), of_sources, of_all)
    return [_best(words, row, count) for row in scores]


@cache
def stop_words() -> frozenset[str]:
    """Of Indonesian, English and regional languages of Indonesia, from `stop_words.txt`."""
    lines = (Path(__file__).parent / "stop_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def _without_template_words(found: sparse.csr_array, templates: Sequence[str]) -> sparse.csr_array:
    """The words of each text, [R, W], except those that occur in most texts of its template."""
    _, codes = np.unique(np.asarray(templates), return_inverse=True)
    sizes = np.bincount(codes)
    shares = _sums((found > 0).astype(int), codes, len(sizes)) / sizes[:, None]  # [M, W]
    common = (shares > TEMPLATE_SHARE) & (sizes >= FEWEST_ROWS)[:, None]
    rows, columns = found.nonzero()
    kept = ~common[codes[rows], columns]
    return sparse.csr_array((found.data[kept], (rows[kept], columns[kept])), shape=found.shape)


def _scores(found: sparse.csr_array, labels: np.ndarray, clusters: int) -> np.ndarray:
    """How telling each word is of each cluster, [C, W]."""
    sums = _sums(found, labels, clusters)
    frequency = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1)
    return frequency * np.log1p(1 / clusters / np.maximum(frequency.sum(axis=0), 1e-12))


def _sums(found: sparse.csr_array, codes: np.ndarray, groups: int) -> np.ndarray:
    """Texts of each group that have each word, [groups, W]."""
    grouping = sparse.csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(groups, len(codes)))
    return (grouping @ found).toarray()


def _best(words: np.ndarray, scores: np.ndarray, count: int) -> list[str]:
    """The words of the highest scores, of those that begin alike the first."""
    best: list[str] = []
    for place in np.argsort(-scores, kind="stable"):
        if len(best) == count or scores[place] <= 0:
            break
        word = str(words[place])
        if not any(word.startswith(other) or other.startswith(word) for other in best):
            best.append(word)
    return best
