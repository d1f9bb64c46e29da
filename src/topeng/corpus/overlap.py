"""Remaining overlap between test and training rows: the share of a test row's 8-grams that occur in training rows."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from topeng.corpus import similar
from topeng.corpus.filters import NGRAM, source_ngrams
from topeng.corpus.schema import ROW_ID
from topeng.corpus.source_text import TemplateText
from topeng.corpus.words import offsets_of

BINS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0)


def overlap(test: pa.Table, train: pa.Table, template_text: TemplateText, pairs: int = 10) -> dict[str, Any]:
    """The distribution over test rows, and the most similar pairs of a test and a training row.

    Template text is removed first. The share of a row counts its 8-grams that occur in any training row. The share of a
    pair counts those that occur in one training row.
    """
    rows, others = source_ngrams(test, template_text), source_ngrams(train, template_text)
    known = np.isin(rows.hashes, others.hashes)
    seen = offsets_of(known)[rows.offsets]
    measured = rows.sizes > 0
    shares = np.diff(seen)[measured] / rows.sizes[measured]
    counts = [int((shares == 0).sum())]
    counts += [int(((shares > low) & (shares <= high)).sum()) for low, high in pairwise(BINS)]
    return {
        "ngram": NGRAM,
        "test_rows": test.num_rows,
        "too_short": int((~measured).sum()),
        "mean_share": float(shares.mean()) if len(shares) else 0.0,
        "rows_by_share": [{"above": low, "rows": rows} for low, rows in zip([None, *BINS], counts, strict=False)],
        "most_alike": _most_alike(test, train, similar.found_in(rows, others), pairs),
    }


def _most_alike(test: pa.Table, train: pa.Table, found: similar.Pairs, count: int) -> list[dict[str, Any]]:
    """The best match of each test row, most similar first."""
    order = np.lexsort((found.right, found.left, -found.share))
    _, first = np.unique(found.left[order], return_index=True)
    best = order[np.sort(first)][:count]
    return [
        {
            "share": float(found.share[pair]),
            "test": _row(test, found.left[pair]),
            "train": _row(train, found.right[pair]),
        }
        for pair in best
    ]


def _row(table: pa.Table, place: int) -> dict[str, Any]:
    return {name: table[name][int(place)].as_py() for name in (ROW_ID, "template_name", "input", "output")}
