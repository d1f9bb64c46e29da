"""Describes clusters for people: words, subsets, templates, central rows, and coordinates for a plot.

Shapes: R rows of the pool, D width of their vectors, K clusters.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topeng.corpus.diverse import coverage
from topeng.corpus.schema import ROW_ID
from topeng.corpus.telling import telling_words

NEIGHBOURS = 15
"""Number of neighbours of a row, as by default in umap."""
FEWEST = 5
"""Smallest number of rows that umap can place. Fewer rows are put on a line."""
CENTRAL_ROWS = 3
TEMPLATES_SHOWN = 5
TEXT_SHOWN = 240
"""Number of characters of a text that are shown."""


def clusters(
    pool: pa.Table,
    vectors: np.ndarray,
    labels: np.ndarray,
    centres: np.ndarray,
    selected: np.ndarray,
    asked: Mapping[str, int],
    shown: np.ndarray,
) -> list[dict[str, Any]]:
    """Describes each cluster: number of rows and of selected ones, subsets, templates, words and most central rows.

    Args:
        vectors: fp32 [R, D]; `labels` [R] and `centres` [K, D] are their clusters.
        selected: places of the selected rows; `asked` is the equal quota of each cluster, by its number as text.
        shown: places of the rows whose words are used.
    """
    rows = pool.select(["template_name", "input", "output"]).take(pa.array(shown))
    texts = pc.binary_join_element_wise(rows["input"], rows["output"], " ").to_pylist()
    words = telling_words(texts, rows["template_name"].to_pylist(), labels[shown], len(centres))
    columns = {name: pool[name].to_numpy(zero_copy_only=False) for name in ("subset_name", "template_name")}
    found = []
    for number, centre in enumerate(centres):
        rows = np.flatnonzero(labels == number)
        taken = np.flatnonzero(np.isin(rows, selected))
        by_distance = rows[np.argsort(np.linalg.norm(vectors[rows] - centre, axis=1), kind="stable")]
        found.append(
            {
                "cluster": number,
                "rows": len(rows),
                "selected": len(taken),
                "topped_up": max(0, len(taken) - asked[str(number)]),
                "short": max(0, asked[str(number)] - len(taken)),
                "covering": coverage(vectors[rows], taken),
                "subsets": dict(Counter(columns["subset_name"][rows].tolist()).most_common()),
                "templates": dict(Counter(columns["template_name"][rows].tolist()).most_common(TEMPLATES_SHOWN)),
                "words": words[number],
                "central": _first_distinct(pool, by_distance),
            }
        )
    return found


def plane(
    pool: pa.Table, vectors: np.ndarray, labels: np.ndarray, selected: np.ndarray, shown: np.ndarray, seed: int
) -> pa.Table:
    """Some rows with their UMAP coordinates (McInnes et al., arXiv 1802.03426).

    Args:
        shown: places of the rows to plot.
    """
    x, y = _umap(vectors[shown], seed).T
    rows = pool.take(pa.array(shown)).select([ROW_ID, "subset_name", "template_name", "input", "output"])
    places = pa.table({"x": x, "y": y, "cluster": labels[shown], "selected": np.isin(shown, selected)})
    for name in places.column_names:
        rows = rows.append_column(name, places[name])
    return _cut(rows)


def _umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Uses exact neighbours, because numba takes longer to compile umap's search than 20,000 rows take to compare."""
    if len(vectors) < FEWEST:
        return np.column_stack([np.arange(len(vectors)), np.zeros(len(vectors))]).astype(np.float32)
    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP

    _keep_compiled()
    count = min(NEIGHBOURS, len(vectors) - 1)
    distances, places = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(vectors).kneighbors(vectors)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn.* is not an NNDescent object")
        umap = UMAP(n_neighbors=count, random_state=seed, n_jobs=1, precomputed_knn=(places, distances))
        return umap.fit_transform(vectors)


def _keep_compiled() -> None:
    """Lets numba keep umap's compiled loops on disk. Otherwise each process compiles them, for 5 s of CPU time."""
    from numba.core.dispatcher import Dispatcher
    from umap import layouts, umap_

    for function in (*vars(umap_).values(), *vars(layouts).values()):
        if isinstance(function, Dispatcher):
            function.enable_caching()


def _first_distinct(pool: pa.Table, places: np.ndarray) -> list[dict[str, Any]]:
    """The first rows with distinct contents."""
    near = pool.select([ROW_ID, "content_hash", "input", "output"]).take(pa.array(places[: 100 * CENTRAL_ROWS]))
    distinct: dict[bytes, dict[str, Any]] = {}
    for row in _cut(near).to_pylist():
        distinct.setdefault(row.pop("content_hash"), row)
    return list(distinct.values())[:CENTRAL_ROWS]


def _cut(rows: pa.Table) -> pa.Table:
    for name in ("input", "output"):
        cut = pc.utf8_slice_codeunits(rows[name], 0, TEXT_SHOWN)
        texts = pc.if_else(pc.equal(cut, rows[name]), cut, pc.binary_join_element_wise(cut, "…", ""))
        rows = rows.set_column(rows.column_names.index(name), name, texts)
    return rows
