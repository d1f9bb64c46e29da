"""Reads the files of a source, of any format and convention, as tables with the columns of a corpus."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topeng.corpus import conventions, files, formats, turns
from topeng.corpus.conventions import ABOUT, Convention, Reading
from topeng.corpus.files import resolve
from topeng.corpus.formats import Batch
from topeng.corpus.json_rows import Record, kind_of
from topeng.corpus.schema import COLUMNS, MESSAGES, RIGHT
from topeng.corpus.settings import IngestOptions, SourceOptions
from topeng.errors import CorpusError

PROBLEM, PLACE = "problem", "place"
"""Why a row cannot be used (null if it can), and its line or row in the file, from 1."""
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in (*COLUMNS, MESSAGES)),
        (RIGHT, pa.bool_()),
        (PROBLEM, pa.string()),
        (PLACE, pa.int64()),
    ]
)
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}

__all__ = ["Source", "count", "open_source", "read_ordinals", "read_texts", "reading", "resolve", "rows_in", "tables"]


class Source(NamedTuple):
    """A file that is being read.

    Attributes:
        format, unit: as in `formats.Rows`.
        convention: convention of its columns. Columns that only later rows have are added to `unread` when they occur.
        tables: all rows in order, as tables of `SCHEMA`.
    """

    format: str
    unit: str
    convention: Convention
    tables: Iterator[pa.Table]


def reading(options: IngestOptions | SourceOptions, section: str) -> Reading:
    """How the files of a section of a recipe should be read."""
    return Reading(options.columns, options.separator, options.right_answers, section)


def open_source(name: str, reading: Reading | None = None) -> Source:
    """Opens a source file. Only its head is read at once.

    Raises:
        CorpusError: it cannot be read, or its columns fit no convention. Raised at once or while reading the tables.
    """
    reading = reading or Reading()
    rows = formats.open_rows(name, reading.separator)
    if not rows.columns:  # JSON without rows
        return Source(rows.format, rows.unit, Convention("no row", {}, {}, None, []), iter(()))
    try:
        found = conventions.find(name, rows.columns, reading)
    except CorpusError:
        rows.stack.close()
        raise
    return Source(rows.format, rows.unit, found, _tables(name, rows, found, reading))


def tables(name: str, reading: Reading | None = None) -> Iterator[pa.Table]:
    """The rows of a source file, in order, as tables of `SCHEMA`."""
    return open_source(name, reading).tables


def read_texts(name: str) -> list[str]:
    """The texts of a file of plain text: its lines, or its column `text`. Blank ones are skipped.

    Raises:
        CorpusError: it cannot be read, or has no such column.
    """
    rows = formats.open_rows(name)
    with rows.stack:
        if rows.columns and conventions.PLAIN not in rows.columns:
            raise CorpusError(
                f"{name} needs a column {conventions.PLAIN}, but its columns are {', '.join(rows.columns)}"
            )
        records = [pair for batch in rows.batches for pair in zip(batch.places, batch.records(), strict=True)]
    for place, record in records:
        text = record.get(conventions.PLAIN)
        if not isinstance(text, str | None):
            raise CorpusError(f"{name}, {rows.unit} {place}: `{conventions.PLAIN}` is {kind_of(text)}, not text")
    return [text for _, record in records if (text := record.get(conventions.PLAIN)) and text.strip()]


def read_ordinals(path: str) -> list[int]:
    """The row numbers that the JSON file of `source.held_out` lists under `rows`.

    Raises:
        CorpusError: it cannot be read, or contains something else.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8-sig"))["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"source.held_out = {path} must be a JSON file with a list `rows`: {error!r}") from error
    if not isinstance(rows, list) or not all(type(row) is int for row in rows):
        raise CorpusError(f"source.held_out = {path} must list row numbers under `rows`, counted from 0")
    return rows


def rows_in(name: str) -> int | None:
    """The metadata of a local Parquet file."""
    if files.is_address(name) or files.ending(name) != ".parquet":
        return None
    return pq.read_metadata(name).num_rows


def count(name: str, separator: str | None = None) -> int:
    """Number of rows of a source file. A Parquet file states it; other files are read to the end.

    Raises:
        CorpusError: it cannot be read.
    """
    rows = formats.open_rows(name, separator)  # first, because it reports what is wrong with a broken file
    told = rows_in(name)
    with rows.stack:
        return sum(len(batch.places) for batch in rows.batches) if told is None else told


def _tables(name: str, rows: formats.Rows, found: Convention, reading: Reading) -> Iterator[pa.Table]:
    done = 0
    for batch in rows.batches:
        table = _plain_table(name, batch, found)
        if table is not None:
            yield _from_table(name, batch._replace(rows=table), found, reading)
        else:
            yield _from_records(name, batch, rows.unit, found, reading)
        done += len(batch.places)
    told = rows_in(name)
    if told is not None and told != done:
        raise CorpusError(f"cannot read {name}: it should contain {told:,} rows, but only {done:,} could be read")


def _plain_table(name: str, batch: Batch, found: Convention) -> pa.Table | None:
    """The batch as a table, if each row is two texts and none needs to be examined separately."""
    if isinstance(batch.rows, pa.Table):
        return batch.rows if _is_plain(name, batch.rows, found) else None
    if not found.plain or found.right:
        return None
    columns = batch.rows if isinstance(batch.rows, dict) else _gathered(batch.rows, found)
    if columns is None or not found.used() <= columns.keys() <= found.used() | set(found.unread):
        return None
    try:
        return pa.table({column: pa.array(columns[column], pa.string()) for column in found.used()})
    except pa.ArrowTypeError:  # one of them contains something other than text
        return None


def _gathered(records: Sequence[Record], found: Convention) -> dict[str, list[Any]] | None:
    """The columns that are read, if all records have them and no other relevant ones."""
    known = found.used() | set(found.unread)
    if not all(found.used() <= record.keys() <= known for record in records):
        return None
    return {column: [record[column] for record in records] for column in found.used()}


def _is_plain(name: str, table: pa.Table, found: Convention) -> bool:
    """Whether columns can be used as they are, judged by their types.

    Raises:
        CorpusError: a column of texts contains something else.
    """
    for role, column in (*found.roles.items(), *found.about.items()):
        kind = table.schema.field(column).type
        fits = _is_text(kind) or (role in ABOUT and (pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)))
        if not fits and (found.plain or role in ("instruction", "system")):
            raise CorpusError(f"{name}: the column {column} contains {kind}, but must contain text")
    right = found.right is None or pa.types.is_boolean(table.schema.field(found.right).type)
    return found.plain and right


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    known = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(test(kind) for test in known)


def _from_table(name: str, batch: Batch, found: Convention, reading: Reading) -> pa.Table:
    count, stem = len(batch.places), _stem(name)
    columns: dict[str, Any] = {about: pa.repeat(stem, count) for about in ABOUT}
    for role, column in (*found.about.items(), *found.roles.items()):
        columns[role] = pc.fill_null(batch.rows[column].cast(pa.string()), "")
    columns[MESSAGES] = columns[PROBLEM] = pa.nulls(count, pa.string())
    columns[RIGHT] = pc.fill_null(batch.rows[found.right], False) if found.right else pa.repeat(False, count)
    if reading.right_answers == "all":
        columns[RIGHT] = pa.repeat(True, count)
    columns[PLACE] = pa.array(batch.places, pa.int64())
    return pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA)


def _from_records(name: str, batch: Batch, unit: str, found: Convention, reading: Reading) -> pa.Table:
    columns: dict[str, list[Any]] = {field.name: [] for field in SCHEMA}
    stem, known = _stem(name), found.used() | set(found.unread)
    about = [(column, found.about.get(column)) for column in ABOUT]
    for place, record in zip(batch.places, batch.records(), strict=True):
        if not record.keys() <= known:
            found.unread.extend(conventions.new_columns(name, f"{unit} {place}", record, found, reading))
            known = found.used() | set(found.unread)
        turn = turns.turn(record, found.roles)
        problem = turn.problem
        for target, column in about:
            value, odd = (stem, None) if column is None else _about(record.get(column), column)
            columns[target].append(value)
            problem = problem or odd
        right, odd = _right(record, found, reading)
        columns["input"].append(turn.input)
        columns["output"].append(turn.output)
        columns[MESSAGES].append(None if turn.messages is None else json.dumps(turn.messages, ensure_ascii=False))
        columns[RIGHT].append(right)
        columns[PROBLEM].append(problem or odd)
    columns[PLACE] = list(batch.places)
    return pa.table(columns, schema=SCHEMA)


def _about(value: Any, column: str) -> tuple[str, str | None]:
    """A value that says where a row comes from, as text, and what is wrong with it."""
    if value is None or isinstance(value, str):
        return value or "", None
    if isinstance(value, bool | int | float):
        return json.dumps(value), None
    return "", f"`{column}` is {kind_of(value)}, not text"


def _right(record: Record, found: Convention, reading: Reading) -> tuple[bool, str | None]:
    if reading.right_answers == "all" or found.right is None:
        return reading.right_answers == "all", None
    value = record.get(found.right)
    truth = TRUTHS.get(value.strip().lower()) if isinstance(value, str) else False if value is None else value
    if isinstance(truth, bool):
        return truth, None
    return False, f"`{found.right}` is not true or false"


def _stem(name: str) -> str:
    """The subset of rows that name none: the name of the file, or of the folder that `datasets` saved."""
    path = Path(name.partition("?")[0] if files.is_address(name) else name)
    if (path.parent / files.SAVED).exists():
        return path.parent.resolve().name
    whole = path.name
    for suffix in (*files.COMPRESSED, files.ending(name)):
        if suffix and whole.lower().endswith(suffix):
            whole = whole[: -len(suffix)]
    return whole or path.name
