"""Delimited text files with a header, quoted as in RFC 4180."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from typing import Any

from topeng.errors import CorpusError

SEPARATORS = (",", ";", "\t")
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
LARGEST = 2**25
"""Largest number of characters of a cell. A longer one is probably a quote that was never closed."""
HEADER_LINES = 100


def read(
    name: str, text: io.TextIOWrapper, separator: str | None, preferred: str = ","
) -> tuple[str, list[str], Iterator[tuple[int, list[str], int]]]:
    """The separator, the columns, and the rows: the line on which each begins, its cells, and its size in characters.

    Args:
        text: with its original line ends.
        separator: by default the one that splits the header into the most columns.
        preferred: decides between several that do.

    Raises:
        CorpusError: a header breaks the rules (at once), or a row does (when it is reached).
    """
    csv.field_size_limit(LARGEST)
    header, lines = _head(name, text)
    if header.lower().startswith("sep=") and separator is None:  # Excel's way to declare the separator
        separator = header[4:5]
        header, more = _head(name, text)
        lines += more
    if not header:
        raise CorpusError(f"{name} is empty. A table needs a header, such as `input,output`.")
    order = sorted(SEPARATORS, key=lambda sign: sign != preferred)
    used = separator or max(order, key=lambda sign: len(_cells(header, sign)))
    columns = [column.strip() for column in _cells(header, used)]
    _check_header(name, columns, lines)
    return used, columns, _rows(name, text, columns, used, lines, header.endswith("\r"))


def _head(name: str, text: io.TextIOWrapper) -> tuple[str, int]:
    """The first record as it is written, without blank lines before it, and the number of lines that were read."""
    header, lines = "", 0
    while (not header.strip() or header.count('"') % 2) and (line := text.readline(LARGEST)):
        header, lines = (header + line if header.strip() else line), lines + 1
        if lines >= HEADER_LINES and header.strip():
            break
    if header.count('"') % 2:
        raise CorpusError(f"{name}, line 1: a quote in the header is never closed")
    return header if header.strip() else "", lines


def _cells(header: str, separator: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(header, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return []


def _check_header(name: str, columns: list[str], line: int) -> None:
    if not columns:
        raise CorpusError(f"{name}, line {line}: the header is not a row of cells. {_QUOTES}")
    if not all(columns):
        place = [bool(column) for column in columns].index(False) + 1
        raise CorpusError(
            f"{name}, line {line}: column {place} of {len(columns)} has no name. Name it or remove it (pandas omits "
            "its index with index=False)."
        )
    (column, count), *_ = Counter(columns).most_common(1)
    if count > 1:
        raise CorpusError(f"{name}, line {line}: the name {column!r} occurs {count} times in the header. Rename one.")


def _rows(
    name: str, text: io.TextIOWrapper, columns: list[str], separator: str, before: int, carriage: bool
) -> Iterator[tuple[int, list[str], int]]:
    """The rows after the header.

    Args:
        before: number of lines that were read before.
        carriage: whether lines end with a single carriage return. Otherwise one outside quotes is an error, because
            programs that write it there mean one cell.
    """
    last, size = "", 0

    def lines() -> Iterator[str]:
        nonlocal last, size
        for last in text:
            size += len(last)
            yield last

    reader: Any = csv.reader(lines(), delimiter=separator, strict=True)
    line = before + 1
    try:
        for cells in reader:
            if last.endswith("\r") != carriage and last.endswith(("\r", "\n")):
                raise CorpusError(
                    f"{name}, line {line}: a line break outside quotes differs from the file's other ones. Put the "
                    "cell in quotes, or use the same line breaks everywhere."
                )
            if cells:
                if len(cells) != len(columns):
                    raise CorpusError(_other_count(name, line, len(cells), columns, separator))
                yield line, cells, size
                size = 0
            line = before + reader.line_num + 1
    except csv.Error as error:
        raise CorpusError(_broken(name, line, error)) from error


def _other_count(name: str, line: int, cells: int, columns: list[str], separator: str) -> str:
    return (
        f"{name}, line {line} has {cells} cells, but the header has {len(columns)} columns, separated by "
        f"{NAMES.get(separator, separator)}. Put cells that contain the separator in quotes, or name another separator "
        "(corpus.separator)."
    )


_QUOTES = 'Write a quote within a quoted cell twice, "".'


def _broken(name: str, line: int, error: csv.Error) -> str:
    if "end of data" in str(error):
        return (
            f"{name}, line {line}: a quote that opens there is never closed. Close it, or write it twice if it is text."
        )
    if "limit" in str(error):
        return (
            f"{name}, line {line}: a cell that begins there exceeds {LARGEST:,} characters. Is its quote never closed?"
        )
    return f"{name}, line {line}: text follows a closing quote, or a quote before it was never closed. {_QUOTES}"
