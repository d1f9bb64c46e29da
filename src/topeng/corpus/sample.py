"""Exact stratified sampling with largest remainders, and ranks from a hash of (seed, row_id).

Which rows are drawn only depends on the rows and the seed, and not on files, partitions, threads or the engine. Ranks
come from the number of a row and not from its text, because a hash of the text would draw all copies of an upsampled
row or none of them.
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
    """Divides `total` in proportion to `sizes` by largest remainders. No share exceeds its size.

    Ties go to the lower name. What a stratum cannot take is divided among the others by the same rule.

    Raises:
        CorpusError: the sizes add up to less than `total`.
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
    """Caps quotas by sizes. What is missing is divided among the other strata by their spare rows.

    Raises:
        CorpusError: the sizes add up to less than the quotas.
    """
    taken = {name: min(quota, sizes[name]) for name, quota in quotas.items()}
    short = sum(quotas.values()) - sum(taken.values())
    spare = {name: sizes[name] - taken[name] for name in taken}
    extra = allocate(spare, short)
    return {name: taken[name] + extra[name] for name in taken}


@dataclass(frozen=True)
class Strata:
    """The stratum of each row, as the place of its name in `names`. `codes` is [R]."""

    names: list[str]
    codes: np.ndarray

    @classmethod
    def of(cls, column: pa.Array | pa.ChunkedArray) -> "Strata":
        """Strata from a column of names."""
        encoded = pa.chunked_array(column).unify_dictionaries().combine_chunks().dictionary_encode()
        return cls.of_codes(encoded.dictionary.to_pylist(), encoded.indices.to_numpy())

    @classmethod
    def of_codes(cls, names: Sequence[str], codes: np.ndarray) -> "Strata":
        """Sorts the names, because their numbers depend on the order in which they occurred."""
        order = sorted(range(len(names)), key=lambda place: names[place])
        return cls([names[place] for place in order], np.argsort(order).astype(np.int32)[codes])

    def sizes(self) -> dict[str, int]:
        """Number of rows in each stratum."""
        counts = np.bincount(self.codes, minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))

    def take(self, rows: np.ndarray) -> "Strata":
        """The strata of some rows, chosen by places or a mask."""
        return Strata(self.names, self.codes[rows])


def read_strata(
    folder: Path, columns: Sequence[str], seed: int, subsets: Sequence[str] = (), engine: Engine = NATIVE
) -> tuple[np.ndarray, list[Strata], np.ndarray]:
    """The id, strata and rank key (a hash of (seed, row_id)) of each row in a folder of Parquet files.

    Args:
        columns: columns of strata, such as `template_name`.
        subsets: subsets to keep, by default all.

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
    """`read_strata` for one file, with its strata as dictionaries."""
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
    """A local path escaped for Daft, which treats every path as a glob."""
    return re.sub(r"([*?\[\]{}])", r"\\\1", str(path.resolve()))


def rank_keys(row_ids: np.ndarray, seed: int) -> np.ndarray:
    """The rank keys of `read_strata`, for rows in memory."""
    frame = daft.from_arrow(pa.table({ROW_ID: row_ids})).select(col(ROW_ID).hash(seed=seed))
    return frame.to_arrow()[ROW_ID].to_numpy()


def draw(row_ids: np.ndarray, strata: Strata, keys: np.ndarray, counts: Mapping[str, int]) -> np.ndarray:
    """Ids of the `counts[stratum]` rows with the lowest keys in each stratum, in order. Ties go to the lower id."""
    few = len(strata.names) <= 2**16  # makes sorting ten times as fast
    by_stratum = np.argsort(strata.codes.astype(np.uint16) if few else strata.codes, kind="stable")
    stops = np.cumsum(np.bincount(strata.codes, minlength=len(strata.names)))
    chosen = [row_ids[:0]]
    for name, rows in zip(strata.names, np.split(by_stratum, stops)[:-1], strict=True):
        chosen.append(row_ids[rows[_lowest(keys[rows], row_ids[rows], counts.get(name, 0))]])
    return np.sort(np.concatenate(chosen))


def _lowest(keys: np.ndarray, row_ids: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` lowest keys, with ties in favour of lower ids, without sorting the other keys."""
    if not 0 < count < len(keys):
        return np.arange(len(keys))[: max(0, count)]
    places = np.flatnonzero(keys <= np.partition(keys, count - 1)[count - 1])
    return places[np.lexsort((row_ids[places], keys[places]))[:count]]
