"""Rows in JSON: one object per line, or one array of objects. Only one object is in memory at a time."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import IO, Any

from topeng.errors import CorpusError

LARGEST = 2**25
"""Largest number of bytes of a row. A file with a longer line is probably not divided into rows."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

Record = dict[str, Any]
Row = tuple[int, Record, int]
"""The line on which a row begins, the row, and its size in characters."""


def first_byte(stream: IO[bytes]) -> tuple[bytes, int]:
    """The first bytes that are neither white space nor a byte-order mark, and the number of line ends before them."""
    lines, byte = 0, stream.read(1)
    if byte == b"\xef" and (byte := byte + stream.read(2)) == b"\xef\xbb\xbf":
        byte = stream.read(1)
    while byte and byte.isspace():
        lines += byte == b"\n"
        byte = stream.read(1)
    return byte, lines


def lines(name: str, stream: IO[bytes], head: bytes, skipped: int) -> Iterator[Row]:
    for number, line in enumerate(iter(partial(stream.readline, LARGEST), b""), skipped + 1):
        whole, head = (head + line).strip(), b""
        if len(line) == LARGEST:
            raise CorpusError(
                f"{name}, line {number} is longer than {LARGEST:,} bytes. A file must have one object per line."
            )
        if whole:
            text = whole.decode()
            try:
                record, end = DECODER.raw_decode(text)
                if end < len(text):
                    raise json.JSONDecodeError("Extra data", text, end)
            except (ValueError, RecursionError) as error:
                raise CorpusError(
                    f"{name}, line {number} is not a JSON object ({_reason(error)}). A file must have one object per "
                    "line, or be one array of objects."
                ) from error
            yield number, _record(name, number, record, text), len(text)
    if head:
        raise CorpusError(f"{name}, line {skipped + 1} is not a JSON object: the file ends there")


def array(name: str, stream: IO[bytes], skipped: int) -> Iterator[Row]:
    """Yields the objects of an array, with only one in memory at a time."""
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
            raise CorpusError(f"{name}, line {text.line}: the array neither continues with a comma nor is closed")
    text.at += 1
    if text.next_sign():
        raise CorpusError(f"{name}, line {text.line}: there is more text after the array")


class _Text:
    """Text that is decoded as needed, and the position of the reader."""

    def __init__(self, stream: IO[bytes], line: int) -> None:
        self.stream, self.line = stream, line
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.held, self.at = "", 0

    def more(self) -> bool:
        data = self.stream.read(max(2**20, len(self.held) - self.at))
        self.held, self.at = self.held[self.at :] + self.decoder.decode(data, final=not data), 0
        return bool(data)

    def next_sign(self) -> str:
        """The next character that is not white space, or an empty string at the end."""
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
        """The JSON value at this position, its line, and its source text."""
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
    """Makes an object. A repeated name is an error, because one of its values would be lost silently."""
    record = dict(pairs)
    if len(record) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the name {twice!r} occurs twice in an object")
    return record


DECODER = json.JSONDecoder(object_pairs_hook=_once)


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


def _record(name: str, line: int, record: Any, source: str) -> Record:
    if not isinstance(record, dict):
        raise CorpusError(f"{name}, line {line} is {kind_of(record)}, but must be an object with named columns")
    if "\\u" in source and SURROGATE.search(source):
        for column, value in record.items():
            try:
                json.dumps([column, value], ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                half = error.object[error.start]
                raise CorpusError(
                    f"{name}, line {line}: {column!r} contains an unpaired surrogate, \\u{ord(half):04x}, which is not "
                    "a character. Write the whole pair, or remove it."
                ) from error
    return record


def kind_of(value: Any) -> str:
    """The kind of a value, in words."""
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "nothing"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
