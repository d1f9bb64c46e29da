"""Texts as hashes of their words, computed by compiled loops over Arrow buffers, many thousands of rows at a time.

Everything that compares texts (template text, groups, duplicates, overlap) uses this module. Hashes have 64 bits: the
probability that two of ten million texts are taken for one is 3e-6.
Shapes: R rows, K tokens, W words, P pieces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

WORD, MARK, BREAK = 1, 2, 3
"""Kinds of tokens: a word of letters and digits, one punctuation mark, or a line break."""

START, END = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
PRIME, MIX = np.uint64(0x100000001B3), np.uint64(0xFF51AFD7ED558CCD)
SHIFT = np.uint64(32)
NOTHING = START
"""The hash of an empty list of words."""
SPACE, LINE = 32, 10
ASCII_MARK = np.array([not (chr(byte).isalnum() or byte == ord("_")) for byte in range(128)], np.uint8)


@dataclass(frozen=True)
class Text:
    """Normalised texts, one after another: UTF-8 bytes, and where each of the R texts starts, [R + 1]."""

    data: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True)
class Tokens:
    """Tokens of R texts: the hash, kind and number of characters of each, [K], and where each text starts, [R + 1]."""

    hashes: np.ndarray
    kinds: np.ndarray
    characters: np.ndarray
    offsets: np.ndarray


@dataclass(frozen=True)
class Pieces:
    """Runs of words, which are hashes, [W]. Pieces start at `starts`, [P + 1], those of rows at `rows`, [R + 1]."""

    words: np.ndarray
    starts: np.ndarray
    characters: np.ndarray
    rows: np.ndarray

    def hashes(self) -> np.ndarray:
        """The hash of each piece, uint64 [P]."""
        return fold(self.words, self.starts)

    def row_hashes(self) -> np.ndarray:
        """The hash of each row's words, uint64 [R]. Rows without words share one."""
        return fold(self.words, self.starts[self.rows])

    def row_of_piece(self) -> np.ndarray:
        """The row of each piece, [P]."""
        return np.repeat(np.arange(len(self.rows) - 1), np.diff(self.rows))

    def whole(self) -> "Pieces":
        """The same words with one piece per row."""
        characters = np.add.reduceat(np.append(self.characters, 0), self.rows[:-1]) * (np.diff(self.rows) > 0)
        return Pieces(self.words, self.starts[self.rows], characters, np.arange(len(self.rows)))

    def only(self, kept: np.ndarray) -> "Pieces":
        """The pieces where `kept` [P] is true. Rows may end up without pieces."""
        sizes = np.diff(self.starts)
        counts = np.bincount(self.row_of_piece()[kept], minlength=len(self.rows) - 1)
        return Pieces(
            self.words[np.repeat(kept, sizes)], offsets_of(sizes[kept]), self.characters[kept], offsets_of(counts)
        )


def normalise(column: pa.Array | pa.ChunkedArray) -> Text:
    """Applies NFKC and lower-casing, and reduces white space to one space, or to one line break if it has any."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # there are no chunks
        array = pa.array([], pa.string())
    array = array.cast(pa.large_string())
    plain = pc.string_is_ascii(array)
    if not pc.all(plain).as_py():
        array = pc.if_else(plain, array, pc.utf8_normalize(array, "NFKC"))
    array = pc.utf8_lower(array)
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return Text(*_squeeze(content, starts))


def tokenize(text: Text) -> Tokens:
    """Words, punctuation marks and line breaks, in order."""
    return Tokens(*_tokenize(text.data, text.offsets))


def ngrams(tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of any three consecutive tokens, uint64 [K + 2 R], and offsets [R + 1].

    Each text has marks at both ends, so that a single template word at an end is part of an n-gram that says so.
    """
    return _ngrams(tokens.hashes, tokens.offsets), tokens.offsets + 2 * np.arange(len(tokens.offsets))


def outside(tokens: Tokens, codes: np.ndarray, known: np.ndarray, known_offsets: np.ndarray) -> Pieces:
    """The runs of words that no known n-gram covers.

    Args:
        codes: template of each row, [R].
        known, known_offsets: sorted hashes of the n-grams, one template after another, and where each starts.
    """
    return Pieces(
        *_outside(tokens.hashes, tokens.kinds, tokens.characters, tokens.offsets, codes, known, known_offsets)
    )


def pieces(tokens: Tokens) -> Pieces:
    """All words of each text, as one piece."""
    nothing = np.zeros(0, np.uint64), np.zeros(2, np.int64)
    return outside(tokens, np.zeros(len(tokens.offsets) - 1, np.int64), *nothing).whole()


def shingles(pieces: Pieces, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct hashes of any `width` consecutive words within a piece of each row, sorted, and offsets [R + 1].

    A shorter piece is one shingle.
    """
    hashes, offsets = _shingles(pieces.words, pieces.starts, pieces.rows, width)
    return distinct(hashes, offsets)


def offsets_of(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """Where each of several runs starts and the last one ends, [N + 1], from their lengths [N]."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def compiled(function: Any) -> Any:
    return njit(cache=True, nogil=True)(function)


@compiled
def _squeeze(data, offsets):
    out = np.empty(offsets[-1] - offsets[0], np.uint8)
    starts = np.zeros(len(offsets), np.int64)
    place = 0
    for row in range(len(offsets) - 1):
        first, gap = place, 0
        for index in range(offsets[row], offsets[row + 1]):
            byte = data[index]
            if byte == LINE or byte == 13:
                gap = LINE
            elif byte == SPACE or byte == 9 or byte == 11 or byte == 12:
                gap = gap or SPACE
            else:
                if gap and place > first:
                    out[place] = gap
                    place += 1
                gap = 0
                out[place] = byte
                place += 1
        starts[row + 1] = place
    return out[:place].copy(), starts


@compiled
def _width_of_mark(data, index, stop):
    """Length in bytes of the punctuation mark or sign at a place, or 0 for a letter or a digit."""
    byte = data[index]
    if byte < 128:
        return ASCII_MARK[byte]
    if byte == 0xC2 and index + 1 < stop and data[index + 1] != 0xAA and data[index + 1] != 0xBA:
        return 2  # U+0080 to U+00BF: Latin-1's signs
    if byte == 0xE2 and index + 2 < stop and data[index + 1] <= 0xAF:
        return 3  # U+2000 to U+2BFF: quotes, dashes, arrows, signs
    if byte == 0xE3 and index + 2 < stop and data[index + 1] == 0x80:
        return 3  # U+3000 to U+303F
    return 4 if byte >= 0xF0 and index + 3 < stop else 0  # emoji


@compiled
def _in_word(data, index, stop):
    byte = data[index]
    return ASCII_MARK[byte] == 0 if byte < 128 else _width_of_mark(data, index, stop) == 0


@compiled
def _tokenize(data, offsets):
    hashes = np.empty(len(data), np.uint64)
    kinds = np.empty(len(data), np.uint8)
    characters = np.empty(len(data), np.uint16)
    starts = np.zeros(len(offsets), np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        index, stop = offsets[row], offsets[row + 1]
        while index < stop:
            if data[index] == SPACE:
                index += 1
                continue
            width = _width_of_mark(data, index, stop)
            code, length, end = PRIME, 0, index + width
            while index < end or (width == 0 and index < stop and _in_word(data, index, stop)):
                byte = data[index]
                code = (code ^ np.uint64(byte)) * PRIME
                length += byte & 0xC0 != 0x80  # not a continuation byte of a character
                index += 1
            kinds[count] = WORD if width == 0 else BREAK if data[end - 1] == LINE else MARK
            hashes[count], characters[count] = _mixed(code), min(length, 65_535)
            count += 1
        starts[row + 1] = count
    return hashes[:count].copy(), kinds[:count].copy(), characters[:count].copy(), starts


@compiled
def _mixed(code):
    code = (code ^ (code >> SHIFT)) * MIX
    return code ^ (code >> SHIFT)


@compiled
def _joined(code, other):
    return _mixed((code * PRIME) ^ other)


@compiled
def _ngrams(hashes, offsets):
    out = np.empty(len(hashes) + 2 * (len(offsets) - 1), np.uint64)
    place = 0
    for row in range(len(offsets) - 1):
        first, second = START, START
        for index in range(offsets[row], offsets[row + 1] + 2):
            third = hashes[index] if index < offsets[row + 1] else END
            out[place] = _joined(_joined(first, second), third)
            first, second = second, third
            place += 1
    return out


@compiled
def _holds(known, start, stop, value):
    while start < stop:
        middle = (start + stop) >> 1
        if known[middle] < value:
            start = middle + 1
        elif known[middle] > value:
            stop = middle
        else:
            return True
    return False


@compiled
def _outside(hashes, kinds, characters, offsets, codes, known, known_offsets):
    words = np.empty(len(hashes), np.uint64)
    starts = np.zeros(len(hashes) + 1, np.int64)
    lengths = np.zeros(len(hashes), np.int64)
    rows = np.zeros(len(offsets), np.int64)
    size, pieces = 0, 0
    for row in range(len(offsets) - 1):
        low, high = known_offsets[codes[row]], known_offsets[codes[row] + 1]
        first, stop = offsets[row], offsets[row + 1]
        one, two, last_known, length = START, START, -1, 0
        for index in range(first, stop + 2):
            three = hashes[index] if index < stop else END
            if low < high and _holds(known, low, high, _joined(_joined(one, two), three)):
                last_known = index
            one, two = two, three
            judged = index - 2  # the last n-gram that covers it ends here
            if judged >= first and last_known >= judged:
                pieces, length = _close(starts, lengths, pieces, size, length)
            elif judged >= first and kinds[judged] == WORD:
                length += characters[judged] + (size > starts[pieces])
                words[size] = hashes[judged]
                size += 1
        pieces, length = _close(starts, lengths, pieces, size, length)
        rows[row + 1] = pieces
    return words[:size].copy(), starts[: pieces + 1].copy(), lengths[:pieces].copy(), rows


@compiled
def _close(starts, lengths, pieces, size, length):
    """Ends the current piece, if it has words."""
    if size > starts[pieces]:
        lengths[pieces] = length
        pieces += 1
        starts[pieces] = size
        length = 0
    return pieces, length


@compiled
def fold(words, starts):
    out = np.empty(len(starts) - 1, np.uint64)
    for item in range(len(starts) - 1):
        code = START
        for index in range(starts[item], starts[item + 1]):
            code = _joined(code, words[index])
        out[item] = code
    return out


@compiled
def _shingles(words, starts, rows, width):
    out = np.empty(len(words), np.uint64)
    offsets = np.zeros(len(rows), np.int64)
    size = 0
    for row in range(len(rows) - 1):
        for piece in range(rows[row], rows[row + 1]):
            first, stop = starts[piece], starts[piece + 1]
            for index in range(first, max(min(first + 1, stop), stop - width + 1)):
                code = START
                for place in range(index, min(index + width, stop)):
                    code = _joined(code, words[place])
                out[size] = code
                size += 1
        offsets[row + 1] = size
    return out[:size].copy(), offsets


@compiled
def distinct(hashes, offsets):
    """Sorts the hashes of each row and removes repetitions."""
    out = np.empty(len(hashes), np.uint64)
    starts = np.zeros(len(offsets), np.int64)
    size = 0
    for row in range(len(offsets) - 1):
        first = size
        for value in np.sort(hashes[offsets[row] : offsets[row + 1]]):
            if size == first or out[size - 1] != value:
                out[size] = value
                size += 1
        starts[row + 1] = size
    return out[:size].copy(), starts
