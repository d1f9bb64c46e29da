"""Filters of sampled rows: near duplicates, other languages, and rows that contain a benchmark's text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from topeng.corpus import similar, words
from topeng.corpus.files import resolve
from topeng.corpus.formats import open_rows
from topeng.corpus.groups import SHINGLE
from topeng.corpus.source_text import FIELDS, TemplateText
from topeng.errors import CorpusError

NGRAM = 8
"""Length in words of the n-grams that measure overlap (PaLM, arXiv 2204.02311, appendix C: 8-grams)."""


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

    An item is all the text of its row. Items of fewer than eight words are not looked for.
    """
    rows = source_ngrams(table, template_text)
    found = []
    for name in files:
        items = benchmark_items(name)
        texts = [pa.array(values, pa.string()) for values in ([name] * len(items), items, [""] * len(items))]
        benchmark = pa.table(texts, names=["template_name", *FIELDS])
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


def benchmark_items(name: str) -> list[str]:
    """A benchmark's items: of each row of its files, all texts in it, at any depth; of a text file, its lines.

    Raises:
        CorpusError: it cannot be read, or holds no text.
    """
    items = []
    for file in resolve([name], "corpus.benchmarks"):
        for batch in open_rows(file).batches:
            items += ["\n".join(_texts(row)) for row in batch.records()]
    if not any(item.strip() for item in items):
        raise CorpusError(f"corpus.benchmarks: {name} contains no text")
    return items


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
