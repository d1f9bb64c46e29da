"""Exact stratified sampling: counts, largest remainders, and ranks by a hash of (seed, row_id).

The rows drawn depend on the rows and the seed alone: not on files, partitions, threads or engine. Ranks come from
the row, never from its text: a hash of the text would draw all copies of an upsampled row or none.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
from daft import col

from topeng.corpus.engine import NATIVE, Engine
from topeng.corpus.schema import ROW_ID
from topeng.errors import CorpusError


def allocate(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Shares `total` in proportion to `sizes` by largest remainders, none above its size.

    Ties go to the lower name. What capped strata cannot take goes to the others by the same rule.

    Raises:
        CorpusError: the sizes together are under `total`.
    """
    if total > sum(sizes.values()):
        raise CorpusError(f"{total:,} rows were requested, but there are only {sum(sizes.values()):,}. Ask for fewer.")
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


@dataclass(frozen=True)
class Strata:
    """The stratum of each row, as the place of its name: `codes` is [R]."""

    names: list[str]
    codes: np.ndarray

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> "Strata":
        """Of a column of names."""
        encoded = pa.chunked_array(column).unify_dictionaries().combine_chunks().dictionary_encode()
        return cls.of_codes(encoded.dictionary.to_pylist(), encoded.indices.to_numpy())

    @classmethod
    def of_codes(cls, names: Sequence[str], codes: np.ndarray) -> "Strata":
        """With the names sorted, as numbers depend on the order in which they were met."""
        order = sorted(range(len(names)), key=lambda place: names[place])
        return cls([names[place] for place in order], np.argsort(order).astype(np.int32)[codes])

    def sizes(self) -> dict[str, int]:
        """Rows in each stratum."""
        counts = np.bincount(self.codes, minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    def take(self, rows: np.ndarray) -> "Strata":
        """Of some rows, by their places or a mask."""
        return Strata(self.names, self.codes[rows])


def read_strata(
    folder: Path, columns: Sequence[str], seed: int, subsets: Sequence[str] = (), engine: Engine = NATIVE
) -> tuple[np.ndarray, list[Strata], np.ndarray]:
    """Of each row in a folder of Parquet files: its id, its strata, and its rank key, a hash of (seed, row_id).

    Args:
        columns: of strata, such as `template_name`.
        subsets: to keep; all of them without it.

    Returns:
        Row ids [R], ascending; strata of each column; rank keys, uint64 [R].
    """
    read = partial(_read_file, columns=columns, seed=seed, subsets=subsets)
    found = engine.map(read, sorted(folder.resolve().glob("*.parquet")))
    names = [(name, pa.dictionary(pa.int32(), pa.string())) for name in columns]
    none = pa.schema([(ROW_ID, pa.int64()), ("key", pa.uint64()), *names]).empty_table()
    table = pa.concat_tables([none, *found])
    row_ids = table[ROW_ID].to_numpy()
    assert (row_ids[1:] > row_ids[:-1]).all()
    return row_ids, [Strata.of(table[name]) for name in columns], table["key"].to_numpy()


def _read_file(path: Path, columns: Sequence[str], seed: int, subsets: Sequence[str]) -> pa.Table:
    """`read_strata` of one file, with its strata as dictionaries."""
    frame = daft.read_parquet(_one_file(path))
    if subsets:
        frame = frame.where(col("subset_name").is_in(list(subsets)))
    frame = frame.select(ROW_ID, col(ROW_ID).hash(seed=seed).alias("key"), *columns)
    with daft.execution_config_ctx(scantask_max_parallel=1):
        table = frame.to_arrow()
    for place, name in enumerate(columns, start=2):
        table = table.set_column(place, name, table[name].cast(pa.string()).dictionary_encode())
    return table


def _one_file(path: Path) -> str:
    """A local path as Daft takes it, which globs whatever it is given."""
    return re.sub(r"([*?\[\]{}])", r"\\\1", str(path.resolve()))


def rank_keys(row_ids: np.ndarray, seed: int) -> np.ndarray:
    """The rank keys of `read_strata`, for rows in memory."""
    frame = daft.from_arrow(pa.table({ROW_ID: row_ids})).select(col(ROW_ID).hash(seed=seed))
    return frame.to_arrow()[ROW_ID].to_numpy()


def draw(row_ids: np.ndarray, strata: Strata, keys: np.ndarray, counts: Mapping[str, int]) -> np.ndarray:
    """Ids of the `counts[stratum]` rows with the lowest keys in each stratum, in order; ties go to the lower id."""
    few = len(strata.names) <= 2**16  # then sorting takes a tenth of the time
    by_stratum = np.argsort(strata.codes.astype(np.uint16) if few else strata.codes, kind="stable")
    stops = np.cumsum(np.bincount(strata.codes, minlength=len(strata.names)))
    chosen = [row_ids[:0]]
    for name, rows in zip(strata.names, np.split(by_stratum, stops)[:-1], strict=True):
        chosen.append(row_ids[rows[_lowest(keys[rows], row_ids[rows], counts.get(name, 0))]])
    return np.sort(np.concatenate(chosen))


def _lowest(keys: np.ndarray, row_ids: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` lowest keys, of equal ones those of the lower ids, without sorting the others."""
    if not 0 < count < len(keys):
        return np.arange(len(keys))[: max(0, count)]
    places = np.flatnonzero(keys <= np.partition(keys, count - 1)[count - 1])
    return places[np.lexsort((row_ids[places], keys[places]))[:count]]
