"""A test set that leaks nothing: its rows are drawn first, and their groups leave the rest."""

from collections.abc import Sequence

import numpy as np

from topeng.corpus.sample import Strata, allocate, fill
from topeng.errors import CorpusError


def reserve(
    groups: np.ndarray, strata: Strata, keys: np.ndarray, counts: Sequence[int], sizes: dict[str, int]
) -> list[np.ndarray]:
    """Draws disjoint sets of candidate rows, one row a group, stratified, lowest keys first.

    Args:
        groups, strata, keys: of each candidate, [R].
        counts: rows of each set, such as test and validation.
        sizes: rows of each stratum in the corpus, which the sets' strata follow.

    Returns:
        Of each set, the indices of its candidates, in order.

    Raises:
        CorpusError: there are too few groups.
    """
    order = np.lexsort((np.arange(len(keys)), keys))
    _, first = np.unique(groups[order], return_index=True)
    order = order[np.sort(first)]  # the first row of each group, by key
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
