"""A source's files, as Daft reads them: Parquet, JSON Lines or CSV, from paths, globs and addresses."""

import glob
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import daft
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataType, col

from topeng.corpus.schema import COLUMNS, MESSAGES, RIGHT, TEXT_COLUMNS
from topeng.errors import CorpusError

READERS = {
    ".parquet": daft.read_parquet,
    ".jsonl": daft.read_json,
    ".json": daft.read_json,
    ".csv": daft.read_csv,
}
TEXTS = (DataType.string(), DataType.null(), DataType.bool())


def resolve(files: Sequence[str], option: str = "corpus.files") -> list[str]:
    """The files behind paths, globs and addresses, each glob's sorted by name.

    Args:
        option: that names them.

    Raises:
        CorpusError: one of them matches nothing.
    """
    found: list[str] = []
    for name in files:
        plain = [name] if Path(name).is_file() else sorted(glob.glob(name, recursive=True))
        matches = _remote(name) if "://" in name else plain
        if not matches:
            raise CorpusError(f"{option}: nothing matches {name}; give a path, a glob, or an hf:// address")
        found += matches
    return found


def tables(name: str) -> Iterator[pa.Table]:
    """A source file's rows as text columns; a null is an empty text.

    A file with `input` and `output` alone is one subset under one template, both named as the file is.
    """
    try:
        _check_encoding(name)
        frame = _frame(name)
        absent = [column for column in COLUMNS if column not in frame.column_names]
        if absent and absent != [column for column in COLUMNS if column not in TEXT_COLUMNS]:
            lacking = [column for column in TEXT_COLUMNS if column in absent] or absent
            raise CorpusError(
                f"{name} has no column {' and no column '.join(lacking)}: a corpus has {' and '.join(TEXT_COLUMNS)} "
                f"alone, or Cendol's seven, {', '.join(COLUMNS)}"
            )
        for field in frame.schema():
            if field.name in COLUMNS and not (field.dtype in TEXTS or field.dtype.is_numeric()):
                raise CorpusError(f"{name}: the column {field.name} holds {field.dtype}, and must hold text")
        texts = [col(column).cast(DataType.string()) for column in COLUMNS if column not in absent]
        rows = 0
        for batch in frame.select(*texts).to_arrow_iter(1):
            rows += batch.num_rows
            # not by Daft's `lit`, beside which it loses some errors of the scan, and the rows with them
            named = dict.fromkeys(absent, pa.repeat(Path(name).stem, batch.num_rows))
            read = {column: pc.fill_null(batch[column].cast(pa.string()), "") for column in batch.schema.names}
            plain = {
                MESSAGES: pa.nulls(batch.num_rows, pa.string()),
                RIGHT: pa.repeat(pa.scalar(False), batch.num_rows),
            }
            yield pa.table(named | read | plain).select([*COLUMNS, MESSAGES, RIGHT])
        told = rows_in(name)
        if told is not None and told != rows:
            raise CorpusError(f"cannot read {name}: it says that it holds {told:,} rows, and {rows:,} came")
    except CorpusError:
        raise
    except Exception as error:
        raise CorpusError(_unreadable(name, error)) from error


def read_table(name: str) -> pa.Table:
    """All of a small file of any of the formats, with the columns that it has.

    Raises:
        CorpusError: it cannot be read.
    """
    try:
        return _frame(name).to_arrow()
    except CorpusError:
        raise
    except Exception as error:
        raise CorpusError(_unreadable(name, error)) from error


def read_ordinals(path: str) -> list[int]:
    """Places of rows in a source, as the JSON file of `source.held_out` lists them under `rows`.

    Raises:
        CorpusError: it cannot be read, or holds something else.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"source.held_out = {path} must be a JSON file with a list `rows`: {error!r}") from error
    if not isinstance(rows, list) or not all(type(row) is int for row in rows):
        raise CorpusError(f"source.held_out = {path} must list places of rows under `rows`, whole numbers from 0")
    return rows


def rows_in(name: str) -> int | None:
    """What a local Parquet file says of itself."""
    if "://" in name or not name.endswith(".parquet"):
        return None
    return pq.read_metadata(name).num_rows


def count(name: str) -> int:
    """Rows of a source file; a Parquet file says so itself, others are read through.

    Raises:
        CorpusError: it cannot be read.
    """
    try:
        return rows_in(name) or _frame(name).count_rows()
    except CorpusError:
        raise
    except Exception as error:
        raise CorpusError(_unreadable(name, error)) from error


def one_file(path: str | Path) -> str:
    """A local path as Daft takes it, which globs whatever it is given."""
    return re.sub(r"([*?\[\]{}])", r"\\\1", str(Path(path).resolve()))


def _frame(name: str) -> daft.DataFrame:
    """A file as Daft reads it; all of a CSV file's columns are texts, as `007` is no number."""
    reader = READERS.get(Path(name).suffix.lower(), daft.read_parquet if "://" in name else None)
    if reader is None:
        raise CorpusError(f"{name} is none of {', '.join(READERS)}")
    path = name if "://" in name else one_file(name)
    frame = reader(path)
    if reader is not daft.read_csv:
        return frame
    texts = dict.fromkeys(frame.column_names, DataType.string())
    return daft.read_csv(path, infer_schema=False, schema=texts)


def _check_encoding(name: str) -> None:
    """Daft reads a CSV file's text that is not UTF-8 as null, and would drop such rows as empty."""
    if "://" in name or not name.lower().endswith(".csv"):
        return
    with Path(name).open(encoding="utf-8") as stream:
        try:
            while stream.read(2**20):
                pass
        except UnicodeDecodeError as error:
            raise CorpusError(f"{name} is not UTF-8 ({error.reason}): convert it, such as by iconv") from error


def _remote(name: str) -> list[str]:
    if "*" not in name:
        return [name]
    try:
        return sorted(daft.from_glob_path(name).to_pydict()["path"])
    except Exception as error:  # Daft's own errors have no common class below Exception
        raise CorpusError(_unreadable(name, error)) from error


def _unreadable(name: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "://" in name:
        return f"cannot reach {name} ({lines[-1][:120]}): download it, and point --corpus.files to the local copy"
    return f"cannot read {name}: {lines[0][:200]}"
