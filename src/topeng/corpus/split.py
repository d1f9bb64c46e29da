"""A test set without leaks: its rows are drawn first, and the rest of their groups is dropped."""

from collections.abc import Sequence

import numpy as np

from topeng.corpus.sample import Strata, allocate, fill
from topeng.errors import CorpusError


def reserve(
    groups: np.ndarray, strata: Strata, keys: np.ndarray, counts: Sequence[int], sizes: dict[str, int]
) -> list[np.ndarray]:
    """Draws disjoint, stratified sets of candidate rows, one row per group, lowest keys first.

    Args:
        groups, strata, keys: one value per candidate, [R].
        counts: number of rows in each set, such as test and validation.
        sizes: number of rows of each stratum in the corpus; the sets have the same proportions.

    Returns:
        The indices of each set's candidates, in order.

    Raises:
        CorpusError: there are too few groups.
    """
    order = np.lexsort((np.arange(len(keys)), keys))
    _, first = np.unique(groups[order], return_index=True)
    order = order[np.sort(first)]  # the row of each group with the lowest key
    free = {name: order[strata.codes[order] == code] for code, name in enumerate(strata.names)}
    sets = []
    for count in counts:
        spare = {name: len(rows) for name, rows in free.items()}
        if count > sum(spare.values()):
            raise CorpusError(
                f"{sum(counts)} test and validation rows are needed, but only {len(order)} rows share no source text. "
                "Ask for fewer (corpus.test_rows, corpus.validation_rows), or keep more rows (corpus.languages, "
                "corpus.subsets)."
            )
        shares = fill(allocate(sizes, count), spare)
        sets.append(np.sort(np.concatenate([free[name][: shares[name]] for name in free])))
        free = {name: rows[shares[name] :] for name, rows in free.items()}
    return sets
