"""Exact stratified sampling: counts, largest remainders, and ranks by a hash of (seed, row_id).

The rows drawn depend on the rows and the seed alone: not on files, partitions, threads or engine. Ranks come from
the row, never from its text: a hash of the text would draw all copies of an upsampled row or none.
"""

from collections.abc import Mapping
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
from daft import col

from topeng.corpus.schema import ROW_ID
from topeng.errors import CorpusError


def allocate(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Shares `total` in proportion to `sizes` by largest remainders, none above its size.

    Ties go to the lower name. What capped strata cannot take goes to the others by the same rule.

    Raises:
        CorpusError: the sizes together are under `total`.
    """
    if total > sum(sizes.values()):
        raise CorpusError(f"{total:,} rows were asked for and {sum(sizes.values()):,} are there: ask for fewer")
    whole = sum(sizes.values())
    exact = {name: total * size / whole if whole else 0.0 for name, size in sizes.items()}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares


def fill(quotas: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """Quotas capped by sizes; what is short is shared by what the others can still give.

    Raises:
        CorpusError: the sizes together are under the quotas together.
    """
    taken = {name: min(quota, sizes[name]) for name, quota in quotas.items()}
    short = sum(quotas.values()) - sum(taken.values())
    spare = {name: sizes[name] - taken[name] for name in taken}
    extra = allocate(spare, short)
    return {name: taken[name] + extra[name] for name in taken}


def read_strata(path: Path, stratum: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row in `path`: its id, its stratum, and its rank key, a 64-bit hash of (seed, row_id)."""
    frame = daft.read_parquet(str(path)).select(ROW_ID, stratum, col(ROW_ID).hash(seed=seed).alias("key"))
    table = frame.to_arrow()
    strata = table[stratum].cast(pa.string()).to_numpy(zero_copy_only=False)
    return table[ROW_ID].to_numpy(), strata, table["key"].to_numpy()


def rank_keys(row_ids: np.ndarray, seed: int) -> np.ndarray:
    """The rank keys of `read_strata`, for rows in memory."""
    frame = daft.from_arrow(pa.table({ROW_ID: row_ids})).select(col(ROW_ID).hash(seed=seed))
    return frame.to_arrow()[ROW_ID].to_numpy()


def draw(row_ids: np.ndarray, strata: np.ndarray, keys: np.ndarray, counts: Mapping[str, int]) -> np.ndarray:
    """Ids of the `counts[stratum]` rows with the lowest keys in each stratum, ordered by id."""
    order = np.lexsort((row_ids, keys, strata))
    names, starts = np.unique(strata[order], return_index=True)
    chosen = [order[start : start + counts.get(name, 0)] for name, start in zip(names, starts, strict=True)]
    return np.sort(row_ids[np.concatenate(chosen)]) if chosen else row_ids[:0]


def sizes_of(strata: np.ndarray) -> dict[str, int]:
    """Rows in each stratum."""
    names, counts = np.unique(strata, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))
