"""What leaves a draw: rows that nearly repeat one another, are in another language, or hold a benchmark's text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from topeng.corpus import similar, words
from topeng.corpus.groups import SHINGLE
from topeng.corpus.source_text import FIELDS, TemplateText

NGRAM = 8
"""Words in a row by which overlap is told (PaLM, arXiv 2204.02311, appendix C: 8-grams)."""


@dataclass(frozen=True)
class Match:
    """A row that holds a benchmark's item: the row's place, the item's file and place, the share that it holds."""

    row: int
    file: str
    item: int
    share: float
    text: str


def near_duplicates(
    table: pa.Table,
    template_text: TemplateText,
    keys: np.ndarray,
    threshold: float,
    most_shingles: int = similar.MOST_SHINGLES,
) -> np.ndarray:
    """Of each row, the row of a lower key that it nearly repeats, or -1, [R].

    The source text of the inputs and the whole of the outputs must each be alike: the same text under another task is
    another row.

    Args:
        keys: rank keys, [R].
        threshold: Jaccard similarity of 5-word shingles.
        most_shingles: above so many, a sketch of them is compared.
    """
    tag = np.uint64(1)

    def tagged(part: pa.Table) -> similar.Sets:
        given = template_text.source(part, "input").whole()
        answer = words.pieces(words.tokenize(words.normalise(part["output"])))
        (one, starts), (two, more) = words.shingles(given, SHINGLE), words.shingles(answer, SHINGLE)
        return _by_row([similar.Sets(one & ~tag, starts), similar.Sets(two | tag, more)])

    sets = similar.sets_of(table, tagged)
    return similar.first_of_alike(sets, np.argsort(keys, kind="stable"), threshold, most_shingles)


def contaminated(table: pa.Table, template_text: TemplateText, files: Sequence[str], overlap: float) -> list[Match]:
    """The rows that hold a share of at least `overlap` of a benchmark item's 8-grams, template text apart.

    An item's texts are all of its text columns. Items of fewer than eight words are not looked for.
    """
    rows = source_ngrams(table, template_text)
    found = []
    for name in files:
        items = _items(name)
        benchmark = pa.table({"template_name": [name] * len(items), "input": items, "output": [""] * len(items)})
        sets = _ngrams(TemplateText.discover(benchmark).source(benchmark, "input"))
        pairs = similar.found_in(sets, rows)
        found += [
            Match(int(row), name, int(item), float(share), items[item])
            for item, row, share in zip(pairs.left, pairs.right, pairs.share, strict=True)
            if share >= overlap
        ]
    return found


def source_ngrams(table: pa.Table, template_text: TemplateText) -> similar.Sets:
    """The distinct 8-grams of each row's source text, of both fields; texts of fewer words have none."""

    def ngrams(part: pa.Table) -> similar.Sets:
        fields = (template_text.source(part, field) for field in FIELDS)
        return _by_row([_ngrams(pieces) for pieces in fields])

    return similar.sets_of(table, ngrams)


def _ngrams(pieces: words.Pieces) -> similar.Sets:
    return similar.Sets(*words.shingles(pieces.only(np.diff(pieces.starts) >= NGRAM), NGRAM))


def _by_row(fields: Sequence[similar.Sets]) -> similar.Sets:
    """The sets of both fields of each row as one."""
    both = similar.interleave(fields)
    return similar.Sets(*words.distinct(both.hashes, both.offsets[:: len(fields)]))


def _items(name: str) -> list[str]:
    """A benchmark's items: of each row, its texts and lists of texts; of a text file, its lines."""
    from topeng.corpus.ingest import read_table

    if Path(name).suffix == ".txt":
        return Path(name).read_text(encoding="utf-8").splitlines()
    table = read_table(name)
    columns = []
    for column in table.columns:
        if types.is_list(column.type) or types.is_large_list(column.type):
            column = pc.binary_join(column.cast(pa.list_(pa.string())), "\n")
        if types.is_string(column.type) or types.is_large_string(column.type):
            columns.append(pc.fill_null(column.cast(pa.string()), ""))
    return pc.binary_join_element_wise(*columns, "\n").to_pylist() if columns else []
