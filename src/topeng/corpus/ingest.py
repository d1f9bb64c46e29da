"""Reads a corpus once, with Daft: every row gets its ordinal, and what is not asked for is counted and left."""

import glob
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataType, col

from topeng.corpus.schema import COLUMNS, ROW_ID
from topeng.errors import CorpusError

ROW_GROUP = 20_000
SCHEMA = pa.schema([(ROW_ID, pa.int64()), *((name, pa.string()) for name in COLUMNS)])
READERS = {
    ".parquet": daft.read_parquet,
    ".jsonl": daft.read_json,
    ".json": daft.read_json,
    ".csv": daft.read_csv,
}


def ingest(
    files: Sequence[str],
    path: Path,
    subsets: Sequence[str] = (),
    progress: Callable[[int], None] = lambda rows: None,
) -> tuple[Counter[str], Counter[str]]:
    """Writes the rows of some subsets to one Parquet file, with `row_id`, their ordinal in the source.

    Args:
        files: Parquet, JSON Lines or CSV in Cendol's seven columns: paths, globs, hf:// addresses.
        path: written whole or not at all.
        subsets: to keep; all of them without it.
        progress: told how many rows were read.

    Returns:
        Rows read of each subset, and rows left for each reason.

    Raises:
        CorpusError: a file is missing, unreadable or lacks a column, or a subset does not occur.
    """
    read, dropped = Counter[str](), Counter[str]()
    partial = path.with_suffix(".partial")
    with pq.ParquetWriter(partial, SCHEMA) as writer:
        for batch in _batches(files):
            table = _with_row_ids(batch, first=read.total())
            read.update(_value_counts(table["subset_name"]))
            kept = _keep(table, subsets, dropped)
            if kept.num_rows:
                writer.write_table(kept)
            progress(batch.num_rows)
    missing = sorted(set(subsets) - set(read))
    if missing:
        raise CorpusError(
            f"corpus.subsets names {', '.join(missing)}, which the source does not hold; it holds "
            f"{', '.join(sorted(read))}"
        )
    if read.total() == sum(dropped.values()):
        raise CorpusError(f"no row is left of {', '.join(files)}: {dict(dropped) or 'the source is empty'}")
    partial.replace(path)
    return read, dropped


def resolve(files: Sequence[str]) -> list[str]:
    """Local files behind paths and globs, each glob's sorted by name; hf:// addresses as they are.

    Raises:
        CorpusError: one of them matches nothing.
    """
    found = []
    for name in files:
        matches = [name] if "://" in name else sorted(glob.glob(name, recursive=True))
        if not matches:
            raise CorpusError(f"corpus.files: nothing matches {name}; give a path, a glob, or an hf:// address")
        found += matches
    return found


def _batches(files: Sequence[str]) -> Iterator[pa.Table]:
    for name in resolve(files):
        reader = READERS.get(Path(name).suffix.lower(), daft.read_parquet if "://" in name else None)
        if reader is None:
            raise CorpusError(f"corpus.files: {name} is none of {', '.join(READERS)}")
        try:
            frame = reader(name)
            absent = [column for column in COLUMNS if column not in frame.column_names]
            if absent:
                raise CorpusError(
                    f"{name} lacks the column {', '.join(absent)}; a corpus has Cendol's seven: {', '.join(COLUMNS)}"
                )
            for batch in frame.select(*(col(column).cast(DataType.string()) for column in COLUMNS)).to_arrow_iter():
                yield _without_nulls(pa.Table.from_batches([batch]))
        except CorpusError:
            raise
        except Exception as error:  # Daft's own errors have no common class below Exception
            raise CorpusError(_unreadable(name, error)) from error


def _without_nulls(table: pa.Table) -> pa.Table:
    """Text columns; a null is an empty text, which `_keep` counts where it is an input or an output."""
    return pa.table({name: pc.fill_null(table[name].cast(pa.string()), "") for name in COLUMNS})


def _unreadable(name: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "://" in name:
        return f"cannot reach {name} ({lines[-1][:120]}): download it, and point --corpus.files to the local copy"
    return f"cannot read {name}: {lines[0][:200]}"


def _with_row_ids(batch: pa.Table, first: int) -> pa.Table:
    return batch.add_column(0, ROW_ID, pa.array(range(first, first + batch.num_rows), pa.int64()))


def _keep(table: pa.Table, subsets: Sequence[str], dropped: Counter[str]) -> pa.Table:
    wanted = pc.is_in(table["subset_name"], pa.array(subsets, pa.string())) if subsets else None
    kept = table if wanted is None else table.filter(wanted)
    dropped.update({"subset not asked for": table.num_rows - kept.num_rows} if kept.num_rows < table.num_rows else {})
    texts = [pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(kept[name])), 0) for name in ("input", "output")]
    whole = kept.filter(pc.and_(*texts))
    dropped.update({"empty input or output": kept.num_rows - whole.num_rows} if whole.num_rows < kept.num_rows else {})
    return whole


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {str(entry["values"]): entry["counts"] for entry in pc.value_counts(column).to_pylist()}
