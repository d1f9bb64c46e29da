"""What a file holds, whatever its format: batches of rows, each with the line or the row that it stands at.

Nothing past this file and `files` knows formats. A row of text is read by itself, so that no type depends on those
before it; Parquet and Arrow files give their columns as they are.
"""

import codecs
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, NamedTuple

from topeng.corpus import delimited, files
from topeng.errors import CorpusError

ROWS, SIZE = 4_096, 2**23
"""Most rows of a batch, and the bytes or characters at which it ends."""
LARGEST = 2**25
"""Most bytes of a row of JSON: beyond it a file is one that is not cut into rows."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

Record = dict[str, Any]


class Batch(NamedTuple):
    """Rows, as records or as a `pyarrow.Table`, and the place of each in its file, counted from 1."""

    places: Sequence[int]
    rows: Any

    def records(self) -> list[Record]:
        return self.rows if isinstance(self.rows, list) else self.rows.to_pylist()


class Rows(NamedTuple):
    """An open file.

    Attributes:
        format: for people, such as `CSV separated by ;`.
        unit: of a place: `line` or `row`.
        columns: that it has; those of JSON are the first batch's.
        stack: what is open; it is closed with the last batch, or by who reads none.
    """

    format: str
    unit: str
    columns: list[str]
    batches: Iterator[Batch]
    stack: ExitStack = ExitStack()


def open_rows(name: str, separator: str | None = None) -> Rows:
    """A file of rows, of which the head alone is read at once.

    Args:
        separator: of a CSV file; without it the header tells.

    Raises:
        CorpusError: at once or from the batches: it cannot be read, with the line and the remedy.
    """
    kind = files.ending(name)
    if files.is_address(name) and kind in ("", ".parquet"):
        return _remote_parquet(name)
    if kind not in READERS:
        hint = "; save it as CSV (UTF-8)" if kind in (".xlsx", ".xls", ".ods") else ""
        raise CorpusError(f"{name} is none of {', '.join(files.ENDINGS)}, or .txt for prompts{hint}")
    stack = ExitStack()
    try:
        local = stack.enter_context(files.at_hand(name))
        found = READERS[kind](local, stack, separator)
    except BaseException as error:
        stack.close()
        raise _named(name, error) from error
    zipped = "" if kind in files.TABLES else _compression(local)
    return found._replace(format=found.format + zipped, batches=_guarded(name, found.batches, stack), stack=stack)


def _guarded(name: str, batches: Iterator[Batch], stack: ExitStack | None = None) -> Iterator[Batch]:
    with stack or ExitStack():
        try:
            yield from batches
        except Exception as error:
            raise _named(name, error) from error


def _named(name: str, error: BaseException) -> BaseException:
    """The error for a user; what a library raises over a broken file has no common class."""
    if isinstance(error, UnicodeDecodeError) and not files.is_address(name):
        return files.not_utf8(name)
    if isinstance(error, CorpusError) or not isinstance(error, Exception):
        return error
    return CorpusError(files.unreadable(name, error))


def _compression(name: str) -> str:
    with open(name, "rb") as file:
        magic = file.read(4)
    return ", gzip" if magic.startswith(files.GZIP) else ", zstd" if magic == files.ZSTD else ""


def _gathered(rows: Iterable[tuple[int, Any, int]]) -> Iterator[Batch]:
    """Batches of (place, record, size)."""
    places: list[int] = []
    records: list[Record] = []
    held = 0
    for place, record, size in rows:
        places.append(place)
        records.append(record)
        held += size
        if held >= SIZE or len(records) >= ROWS:
            yield Batch(places, records)
            places, records, held = [], [], 0
    if records:
        yield Batch(places, records)


def _json(name: str, stack: ExitStack, _: str | None) -> Rows:
    """An array of objects, or an object per line."""
    stream = stack.enter_context(files.opened(name))
    head, skipped = _first_byte(stream)
    array = head == b"["
    batches = _gathered(_array(name, stream, skipped) if array else _lines(name, stream, head, skipped))
    first = next(batches, Batch([], []))
    columns = list(dict.fromkeys(column for record in first.rows for column in record))
    return Rows("JSON array" if array else "JSON Lines", "line", columns, itertools.chain([first], batches))


def _first_byte(stream: IO[bytes]) -> tuple[bytes, int]:
    """The first bytes that are neither blank nor a byte-order mark, and the line ends before them."""
    lines, byte = 0, stream.read(1)
    if byte == b"\xef" and (byte := byte + stream.read(2)) == b"\xef\xbb\xbf":
        byte = stream.read(1)
    while byte and byte.isspace():
        lines += byte == b"\n"
        byte = stream.read(1)
    return byte, lines


def _lines(name: str, stream: IO[bytes], head: bytes, skipped: int) -> Iterator[tuple[int, Record, int]]:
    lines = iter(lambda: stream.readline(LARGEST), b"")
    for number, line in enumerate(lines, skipped + 1):
        whole, head = (head + line).strip(), b""
        if len(line) == LARGEST:
            raise CorpusError(f"{name}, line {number} is longer than {LARGEST:,} bytes: a file has one object per line")
        if whole:
            text = whole.decode()
            try:
                record = DECODER.decode(text)
            except (ValueError, RecursionError) as error:
                raise CorpusError(
                    f"{name}, line {number} is not a JSON object ({_reason(error)}): a file has one object per line, "
                    "or is one array of them"
                ) from error
            yield number, _record(name, number, record, text), len(text)
    if head:
        raise CorpusError(f"{name}, line {skipped + 1} is not a JSON object: the file ends there")


def _array(name: str, stream: IO[bytes], skipped: int) -> Iterator[tuple[int, Record, int]]:
    """The objects of an array, of which no more than the next is in memory."""
    text = _Text(stream, skipped + 1)
    after = text.next_sign()
    while after != "]":
        try:
            record, start, source = text.value()
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{name}, line {text.line} is not JSON ({_reason(error)}), within an array") from error
        yield start, _record(name, start, record, source), len(source)
        after = text.next_sign()
        if after == ",":
            text.at += 1
            text.next_sign()
        elif after != "]":
            raise CorpusError(f"{name}, line {text.line}: the array does not go on with a comma, and is not closed")
    text.at += 1
    if text.next_sign():
        raise CorpusError(f"{name}, line {text.line}: something follows the array")


class _Text:
    """Text that is decoded as it is needed, and where the reader is in it."""

    def __init__(self, stream: IO[bytes], line: int) -> None:
        self.stream, self.line = stream, line
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.held, self.at = "", 0

    def more(self) -> bool:
        data = self.stream.read(max(2**20, len(self.held) - self.at))
        self.held, self.at = self.held[self.at :] + self.decoder.decode(data, final=not data), 0
        return bool(data)

    def next_sign(self) -> str:
        """The next character that is not blank; nothing at the end."""
        while True:
            while self.at < len(self.held):
                sign = self.held[self.at]
                if sign not in " \t\r\n":
                    return sign
                self.line += sign == "\n"
                self.at += 1
            if not self.more():
                return ""

    def value(self) -> tuple[Any, int, str]:
        """The JSON value here, its line, and its source."""
        while True:
            try:
                value, end = DECODER.raw_decode(self.held, self.at)
            except ValueError:
                if len(self.held) - self.at > LARGEST or not self.more():
                    raise
                continue
            start, source = self.line, self.held[self.at : end]
            self.line, self.at = start + source.count("\n"), end
            return value, start, source


def _once(pairs: list[tuple[str, Any]]) -> Record:
    """An object, in which a name that stands twice would lose a value in silence."""
    record = dict(pairs)
    if len(record) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice!r} stands twice in an object")
    return record


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _record(name: str, line: int, record: Any, source: str) -> Record:
    if not isinstance(record, dict):
        raise CorpusError(f"{name}, line {line} holds {kind_of(record)}, and must hold an object with named columns")
    if SURROGATE.search(source):
        for column, value in record.items():
            try:
                json.dumps([column, value], ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                half = error.object[error.start]
                raise CorpusError(
                    f"{name}, line {line}: {column!r} holds half of a surrogate pair, \\u{ord(half):04x}, which is no "
                    "character: write the whole pair, or remove it"
                ) from error
    return record


def kind_of(value: Any) -> str:
    """A value's kind, for people."""
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "nothing"}
    return names.get(type(value), f"a value of type {type(value).__name__}")


def _csv(name: str, stack: ExitStack, separator: str | None) -> Rows:
    preferred = "\t" if files.ending(name) == ".tsv" else ","
    used, columns, rows = delimited.read(name, _text(name, stack, ""), separator, preferred)
    return Rows(f"CSV separated by {delimited.NAMES.get(used, used)}", "line", columns, _gathered(rows))


def _text(name: str, stack: ExitStack, newline: str | None) -> io.TextIOWrapper:
    stream = stack.enter_context(files.opened(name))
    return stack.enter_context(io.TextIOWrapper(stream, "utf-8-sig", newline=newline))


def _plain(name: str, stack: ExitStack, _: str | None) -> Rows:
    """Lines of text, each a row with `text` alone; blank ones are none."""
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
    """Of an address: Daft reads what is needed of it, and no more."""
    import daft

    try:
        frame = daft.read_parquet(name)
    except Exception as error:
        raise _named(name, error) from error
    rows = _tables("Parquet", name, frame.column_names, frame.to_arrow_iter(1))
    return rows._replace(batches=_guarded(name, rows.batches))


def _arrow(name: str, stack: ExitStack, _: str | None) -> Rows:
    """A stream, as `datasets` saves it, or a file with a footer."""
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
        raise CorpusError(f"{name} has the column {twice[0]!r} twice: rename one of them")
    return Rows(format, "row", columns, _slices(batches))


def _slices(batches: Iterable[Any]) -> Iterator[Batch]:
    import pyarrow as pa

    done = 0
    for batch in batches:
        batch.validate(full=True)  # a damaged file may hold text that is none
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
