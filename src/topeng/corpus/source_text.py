"""Source text: what remains of a row after template text is removed, as hashes of its pieces.

A corpus such as Cendol uses one text with many templates, as the input of one and the output of another. Template text
is found in the data: it is any three consecutive words or marks that occur in over half of a template's rows. The
pieces in between are source text. A piece of 40 characters or more reveals where a row comes from; a shorter one, such
as a label or a name, does not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from xxhash import xxh3_128_digest

from topeng.corpus import words
from topeng.corpus.schema import ROW_ID

TEMPLATE_SHARE = 0.5
"""An n-gram that occurs in more than this share of a template's rows is template text."""
TEMPLATE_ROWS = 300
"""Number of rows of a template that are examined, drawn at random."""
FEWEST_ROWS = 5
"""With fewer distinct rows than this, template text cannot be told from source text."""
END = 2**15
"""Characters at each end of a long text in which template text is searched for."""
SHORTEST = 40
"""Least number of characters of a piece that reveals where a row comes from."""
FIELDS = ("input", "output")

SCHEMA = pa.schema(
    [
        (ROW_ID, pa.int64()),
        ("content_hash", pa.binary(16)),
        ("input_hash", pa.uint64()),
        ("input_pieces", pa.list_(pa.uint64())),
        ("output_pieces", pa.list_(pa.uint64())),
    ]
)


@dataclass(frozen=True)
class TemplateText:
    """The n-grams of each template, in inputs and in outputs.

    Attributes:
        names: sorted names of the templates.
        known: for each field, the sorted hashes of the n-grams, one template after another, and where each starts.
    """

    names: list[str]
    known: dict[str, tuple[np.ndarray, np.ndarray]]

    @classmethod
    def discover(cls, table: pa.Table) -> "TemplateText":
        """Finds template text in rows of each template, with the columns `template_name`, `input` and `output`."""
        names = sorted(set(table["template_name"].to_pylist()))
        codes = _codes(names, table["template_name"])
        return cls(names, {field: _common_ngrams(table[field], codes, len(names)) for field in FIELDS})

    def source(self, table: pa.Table, field: str, text: words.Text | None = None) -> words.Pieces:
        """The source text of a field, or all of its text if the template is unknown.

        Args:
            text: the field, if it is already normalised.
        """
        known, offsets = self.known[field]
        codes = _codes(self.names, table["template_name"])
        tokens = words.tokenize(text or words.normalise(table[field]))
        return words.outside(tokens, codes, known, np.append(offsets, offsets[-1]))

    def save(self, path: Path) -> None:
        columns = {field: _lists(*self.known[field]) for field in FIELDS}
        pq.write_table(pa.table({"template_name": self.names} | columns), path)

    @classmethod
    def load(cls, path: Path) -> "TemplateText":
        table = pq.read_table(path)
        return cls(table["template_name"].to_pylist(), {field: list_arrays(table[field]) for field in FIELDS})


NO_TEMPLATES = TemplateText([], {field: (np.zeros(0, np.uint64), np.zeros(1, np.int64)) for field in FIELDS})
"""For rows without templates, whose whole text is source text."""


def hash_rows(table: pa.Table, template_text: TemplateText) -> pa.Table:
    """The hashes of each row's content and source text, in the columns of `SCHEMA`."""
    texts = [words.normalise(table[field]) for field in FIELDS]
    given, answer = (template_text.source(table, *field) for field in zip(FIELDS, texts, strict=True))
    columns = [
        table[ROW_ID],
        content_hashes(*texts),
        pa.array(given.row_hashes()),
        _long_pieces(given),
        _long_pieces(answer),
    ]
    return pa.table(columns, schema=SCHEMA)


def ends(table: pa.Table) -> pa.Table:
    """Cuts texts to the ends that `TemplateText.discover` examines, so that long ones fit in memory."""
    columns = {"template_name": table["template_name"]}
    for field in FIELDS:
        long = pc.greater(pc.utf8_length(table[field]), 2 * END)
        head = pc.utf8_slice_codeunits(table[field], 0, END)
        tail = pc.utf8_slice_codeunits(table[field], -END, None)
        columns[field] = pc.if_else(long, pc.binary_join_element_wise(head, tail, " "), table[field])
    return pa.table(columns)


def list_arrays(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The values of a column of lists, one list after another, and where each list starts, [R + 1]."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        return np.zeros(0, np.uint64), np.zeros(1, np.int64)
    offsets = array.offsets.to_numpy().astype(np.int64)
    return array.values.to_numpy()[offsets[0] : offsets[-1]], offsets - offsets[0]


def _common_ngrams(texts: pa.ChunkedArray, codes: np.ndarray, templates: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = words.tokenize(words.normalise(texts))
    distinct = np.flatnonzero(_first_of_each(tokens, codes))
    hashes, offsets = words.distinct(*words.ngrams(tokens))
    by_template = distinct[np.argsort(codes[distinct], kind="stable")]
    stops = np.cumsum(np.bincount(codes[distinct], minlength=templates))
    found: list[np.ndarray] = []
    for rows in np.split(by_template, stops[:-1]):
        parts = [hashes[offsets[row] : offsets[row + 1]] for row in rows]
        values, counts = np.unique(np.concatenate(parts), return_counts=True) if parts else (hashes[:0], hashes[:0])
        enough = len(rows) >= FEWEST_ROWS
        found.append(values[(counts > TEMPLATE_SHARE * len(rows)) & enough])
    return np.concatenate(found), words.offsets_of([len(values) for values in found])


def _first_of_each(tokens: words.Tokens, codes: np.ndarray) -> np.ndarray:
    """Whether a row is the first with its text and template, [R]."""
    texts = words.fold(tokens.hashes, tokens.offsets)
    order = np.lexsort((texts, codes))  # of equal ones the first stays first
    first = np.ones(len(order), bool)
    first[order[1:]] = (np.diff(codes[order]) != 0) | (np.diff(texts[order]) != 0)
    return first


def _codes(names: Sequence[str], column: pa.ChunkedArray) -> np.ndarray:
    """The place of each row's template in `names`. Unknown templates have the place after the last."""
    found = pc.index_in(column, pa.array(names, pa.string()))
    return pc.fill_null(found, len(names)).to_numpy().astype(np.int64)


def content_hashes(given: words.Text, answer: words.Text) -> pa.Array:
    """xxh3-128 of the normalised input and output. It identifies content, but does not protect against forgery."""
    one, two = given.data.tobytes(), answer.data.tobytes()
    bounds: Iterable[tuple[int, int, int, int]] = zip(
        *(part.tolist() for text in (given, answer) for part in (text.offsets[:-1], text.offsets[1:])), strict=True
    )
    digests = b"".join(xxh3_128_digest(one[a:b] + b"\x1f" + two[c:d]) for a, b, c, d in bounds)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(given.offsets) - 1, [None, pa.py_buffer(digests)])


def _long_pieces(pieces: words.Pieces) -> pa.Array:
    kept = pieces.only(pieces.characters >= SHORTEST)
    return _lists(kept.hashes(), kept.rows)


def _lists(values: np.ndarray, offsets: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values.astype(np.uint64)))
