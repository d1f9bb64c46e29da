"""Reads files of any format as batches of rows, with the line or row number of each.

Only this file and `files` know formats. In text formats each row is read by itself, so that types never depend on
earlier rows. Parquet and Arrow files are read in columns.
"""

import io
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from topeng.corpus import delimited, files, json_rows
from topeng.corpus.json_rows import Record
from topeng.errors import CorpusError

ROWS, SIZE = 4_096, 2**23
"""Largest number of rows of a batch, and the number of bytes or characters at which a batch ends."""


class Batch(NamedTuple):
    """Rows, and the place of each in its file, counted from 1.

    Attributes:
        rows: records, columns by name, or a `pyarrow.Table`.
    """

    places: Sequence[int]
    rows: Any

    def records(self) -> list[Record]:
        if isinstance(self.rows, dict):
            return [dict(zip(self.rows, cells, strict=True)) for cells in zip(*self.rows.values(), strict=True)]
        return self.rows if isinstance(self.rows, list) else self.rows.to_pylist()


class Rows(NamedTuple):
    """An open file.

    Attributes:
        format: name for people, such as `CSV separated by ;`.
        unit: unit of a place: `line` or `row`.
        columns: its columns; for JSON, those of the first batch.
        stack: open resources, closed after the last batch or by a caller that reads none.
    """

    format: str
    unit: str
    columns: list[str]
    batches: Iterator[Batch]
    stack: ExitStack = ExitStack()


def open_rows(name: str, separator: str | None = None) -> Rows:
    """Opens a file of rows. Only its head is read at once.

    Args:
        separator: separator of a CSV file. If None, the header decides.

    Raises:
        CorpusError: it cannot be read; the message has the line and the remedy. Raised at once or from the batches.
    """
    kind = files.ending(name)
    query = kind and "?" in name  # Daft would treat it as part of a glob
    if files.is_address(name) and kind in ("", ".parquet") and not query:
        return _remote_parquet(name)
    if kind not in READERS:
        hint = " Save it as CSV (UTF-8)." if kind in (".xlsx", ".xls", ".ods") else ""
        raise CorpusError(
            f"{name} has an unknown format. Known: {', '.join(files.ENDINGS)}, and .txt for prompts.{hint}"
        )
    stack = ExitStack()
    with stack:
        local = stack.enter_context(files.at_hand(name))
        with _named(name, local):
            found = READERS[kind](local, stack, separator)
            zipped = "" if kind in files.TABLES else _compression(local)
        held = stack.pop_all()
    batches = _guarded(name, local, found.batches, held)
    return found._replace(format=found.format + zipped, batches=batches, stack=held)


def _guarded(name: str, local: str, batches: Iterator[Batch], stack: ExitStack) -> Iterator[Batch]:
    with stack, _named(name, local):
        yield from batches


@contextmanager
def _named(name: str, local: str) -> Iterator[None]:
    """Turns errors into ones that name the file as the user did. Library errors about broken files share no class."""
    try:
        yield
    except CorpusError as error:
        raise CorpusError(str(error).replace(local, name)) from error
    except UnicodeDecodeError as error:
        raise CorpusError(str(files.not_utf8(local)).replace(local, name)) from error
    except Exception as error:
        raise CorpusError(files.unreadable(name, error)) from error


def _compression(name: str) -> str:
    with open(name, "rb") as file:
        magic = file.read(4)
    return ", gzip" if magic.startswith(files.GZIP) else ", zstd" if magic == files.ZSTD else ""


def _gathered(
    rows: Iterable[tuple[int, Any, int]], add: Callable[[list[Any], Any], None] = list.append
) -> Iterator[Batch]:
    """Collects (place, record, size) into batches.

    Args:
        add: adds a record to a batch.
    """
    places: list[int] = []
    records: list[Any] = []
    held = 0
    for place, record, size in rows:
        places.append(place)
        add(records, record)
        held += size
        if held >= SIZE or len(places) >= ROWS:
            yield Batch(places, records)
            places, records, held = [], [], 0
    if places:
        yield Batch(places, records)


def _json(name: str, stack: ExitStack, _: str | None) -> Rows:
    """Reads an array of objects, or one object per line."""
    stream = stack.enter_context(files.opened(name))
    head, skipped = json_rows.first_byte(stream)
    array = head == b"["
    batches = _alike(json_rows.array(name, stream, skipped) if array else json_rows.lines(name, stream, head, skipped))
    first = next(batches, Batch([], {}))
    rows = [first.rows] if isinstance(first.rows, dict) else first.rows
    columns = list(dict.fromkeys(column for record in rows for column in record))
    if first.places and not columns:
        raise CorpusError(f"{name}, line {first.places[0]} is an empty object. A row needs named fields.")
    return Rows("JSON array" if array else "JSON Lines", "line", columns, itertools.chain([first], batches))


def _csv(name: str, stack: ExitStack, separator: str | None) -> Rows:
    preferred = "\t" if files.ending(name) == ".tsv" else ","
    used, columns, rows = delimited.read(name, _text(name, stack, ""), separator, preferred)
    return Rows(f"CSV separated by {delimited.NAMES.get(used, used)}", "line", columns, _in_columns(columns, rows))


def _alike(rows: Iterable[json_rows.Row]) -> Iterator[Batch]:
    """Stores a batch in columns if all its records have the same fields, so that objects need not be read again."""
    names: list[str] = []

    def add(held: list[Any], record: Record) -> None:
        nonlocal names
        if not held:
            names = [*record]
        if names and [*record] == names:
            held.extend(record.values())
            return
        if names:
            held[:], names = Batch([], _columns(names, held)).records(), []
        held.append(record)

    for places, held in _gathered(rows, add):
        yield Batch(places, _columns(names, held) if names else held)


def _in_columns(columns: Sequence[str], rows: Iterable[tuple[int, list[str], int]]) -> Iterator[Batch]:
    """Keeps the cells of a batch in one list. With a list per row, garbage collection takes a third of the time."""
    for places, cells in _gathered(rows, list.extend):
        yield Batch(places, _columns(columns, cells))


def _columns(names: Sequence[str], cells: Sequence[Any]) -> dict[str, Sequence[Any]]:
    return {name: cells[at :: len(names)] for at, name in enumerate(names)}


def _text(name: str, stack: ExitStack, newline: str | None) -> io.TextIOWrapper:
    stream = stack.enter_context(files.opened(name))
    return stack.enter_context(io.TextIOWrapper(stream, "utf-8-sig", newline=newline))


def _plain(name: str, stack: ExitStack, _: str | None) -> Rows:
    """Reads lines of text, each a row with only `text`. Blank lines are skipped."""
    text = _text(name, stack, None)
    texts = ((number, line.removesuffix("\n")) for number, line in enumerate(text, 1) if line.strip())
    return Rows(
        "lines of text", "line", ["text"], _gathered((number, {"text": text}, len(text)) for number, text in texts)
    )


def _parquet(name: str, stack: ExitStack, _: str | None) -> Rows:
    import pyarrow.parquet as pq

    file = stack.enter_context(pq.ParquetFile(Path(name).expanduser()))
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    widest = max((group.total_byte_size / max(1, group.num_rows) for group in groups), default=1)
    rows = max(1, min(ROWS * 4, int(SIZE * 4 / max(1, widest))))
    return _tables("Parquet", name, file.schema_arrow.names, file.iter_batches(rows, use_threads=False))


def _remote_parquet(name: str) -> Rows:
    """Reads from an address through Daft, which only fetches what is needed."""
    import daft

    with _named(name, name):
        frame = daft.read_parquet(name)
        rows = _tables("Parquet", name, frame.column_names, frame.to_arrow_iter(1))
    return rows._replace(batches=_guarded(name, name, rows.batches, ExitStack()))


def _arrow(name: str, stack: ExitStack, _: str | None) -> Rows:
    """Reads an Arrow stream, as `datasets` saves it, or a file with a footer."""
    import pyarrow as pa

    source = stack.enter_context(pa.memory_map(str(Path(name).expanduser())))
    if source.read(6) == b"ARROW1":
        file = pa.ipc.open_file(source)
        return _tables("Arrow", name, file.schema.names, map(file.get_batch, range(file.num_record_batches)))
    source.seek(0)
    stream = pa.ipc.open_stream(source)
    return _tables("Arrow", name, stream.schema.names, stream)


def _tables(format: str, name: str, columns: list[str], batches: Iterable[Any]) -> Rows:
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise CorpusError(f"{name} has the column {twice[0]!r} twice. Rename one of them.")
    return Rows(format, "row", columns, _slices(batches))


def _slices(batches: Iterable[Any]) -> Iterator[Batch]:
    import pyarrow as pa

    done = 0
    for batch in batches:
        batch.validate(full=True)  # a damaged file may contain invalid text
        for start in range(0, batch.num_rows, ROWS * 4):
            part = pa.Table.from_batches([batch.slice(start, ROWS * 4)])
            yield Batch(range(done + 1, done + part.num_rows + 1), part)
            done += part.num_rows


READERS: dict[str, Callable[[str, ExitStack, str | None], Rows]] = {
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _csv,
    ".txt": _plain,
    "": _plain,
}
