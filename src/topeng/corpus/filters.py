"""Filters of sampled rows: near duplicates, other languages, and rows that contain a benchmark's text."""

from collections import Counter
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
SHORTEST = 3
"""Least number of words of a short benchmark text that is searched for as a whole, with others of its item."""
TOGETHER = 6
"""Least number of words that such texts of an item must have together (docs/corpus.md has the results)."""
OVERLAP = 0.5
"""Least share of a text's 8-grams for which a row that contains them is dropped."""
HELD = "contains a benchmark's text"
"""The reason that is given for it."""


@dataclass(frozen=True)
class Match:
    """A row that contains a benchmark item: its place, the file and place of the item, and the share it contains."""

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
    """For each row, the row with a lower key that it nearly repeats, or -1, [R].

    The source texts of the inputs must be alike, and so must the whole outputs. The same text with another task is not
    a duplicate.

    Args:
        keys: rank keys, [R].
        threshold: Jaccard similarity of 5-word shingles.
        most_shingles: if there are more, only a sketch of them is compared.
    """
    tag = np.uint64(1)

    def tagged(part: pa.Table) -> similar.Sets:
        given = template_text.source(part, "input").whole()
        answer = words.pieces(words.tokenize(words.normalise(part["output"])))
        (one, starts), (two, more) = words.shingles(given, SHINGLE), words.shingles(answer, SHINGLE)
        return _by_row([similar.Sets(one & ~tag, starts), similar.Sets(two | tag, more)])

    sets = similar.sets_of(table, tagged)
    return similar.first_of_alike(sets, np.argsort(keys, kind="stable"), threshold, most_shingles)


def contaminated(table: pa.Table, template_text: TemplateText, benchmarks: Sequence["Benchmark"]) -> list[Match]:
    """The rows that contain an item of a benchmark. Template text is ignored.

    Such a row contains at least the share `OVERLAP` of the 8-grams of one of the item's texts, or so many of its
    shorter texts as a whole that they have six words together, such as a premise and an answer. Texts with one or two
    words do not count.
    """
    shares: dict[tuple[int, int, int], float] = {}  # by row, file and item
    words_held: Counter[tuple[int, int, int]] = Counter()
    for width in range(NGRAM, SHORTEST - 1, -1):
        rows = source_ngrams(table, template_text, width)
        for file, benchmark in enumerate(benchmarks):
            sets = benchmark.ngrams(width)
            pairs = similar.found_in(sets, rows)
            items = benchmark.item_of[pairs.left].tolist()
            held = (pairs.share * sets.sizes[pairs.left]).round().astype(int)
            for row, item, share, count in zip(
                pairs.right.tolist(), items, pairs.share.tolist(), held.tolist(), strict=True
            ):
                if width == NGRAM and share >= OVERLAP:
                    shares[row, file, item] = max(share, shares.get((row, file, item), 0))
                elif width < NGRAM:
                    words_held[row, file, item] += width * count
    for place, count in words_held.items():
        if count >= TOGETHER and place not in shares:
            shares[place] = count / benchmarks[place[1]].words[place[2]]
    return [
        Match(row, benchmarks[file].name, item, share, "\n".join(benchmarks[file].items[item]))
        for (row, file, item), share in sorted(
            shares.items(), key=lambda match: (match[0][1], match[0][2], match[0][0])
        )
    ]


def holding(matches: Sequence[Match], rows: int) -> np.ndarray:
    """Whether each row contains an item of a benchmark, [R]."""
    return np.isin(np.arange(rows), [match.row for match in matches])


@dataclass(frozen=True)
class Benchmark:
    """The items of a benchmark's files.

    Attributes:
        name: name of the files in `corpus.benchmarks`.
        items: the texts of each item.
        pieces: words of all texts, one text after another, without template text.
        item_of: the item that each text belongs to, [T].
    """

    name: str
    items: list[list[str]]
    pieces: words.Pieces
    item_of: np.ndarray

    @classmethod
    def read(cls, name: str) -> "Benchmark":
        """
        Raises:
            CorpusError: the files cannot be read, or contain no text.
        """
        items = benchmark_items(name)
        whole = as_inputs(name, ["\n".join(texts) for texts in items])
        texts = as_inputs(name, [text for item in items for text in item])
        pieces = TemplateText.discover(whole).source(texts, "input")
        return cls(name, items, pieces, np.repeat(np.arange(len(items)), [len(texts) for texts in items]))

    @property
    def words(self) -> np.ndarray:
        """Number of words of each item, [I]."""
        of_text = np.diff(self.pieces.starts[self.pieces.rows])
        return np.bincount(self.item_of, weights=of_text, minlength=len(self.items))

    def ngrams(self, width: int) -> similar.Sets:
        """The 8-grams of each text or, for a smaller width, its whole pieces of exactly that many words."""
        sizes = np.diff(self.pieces.starts)
        kept = sizes >= NGRAM if width == NGRAM else sizes == width
        return similar.Sets(*words.shingles(self.pieces.only(kept), width))


def as_inputs(name: str, texts: list[str]) -> pa.Table:
    """Texts as the inputs of rows that share one template."""
    columns = [pa.array(values, pa.string()) for values in ([name] * len(texts), texts, [""] * len(texts))]
    return pa.table(columns, names=["template_name", *FIELDS])


def source_ngrams(table: pa.Table, template_text: TemplateText, width: int = NGRAM) -> similar.Sets:
    """The distinct n-grams of the source text of both fields of each row. Texts with fewer words have none."""

    def ngrams(part: pa.Table) -> similar.Sets:
        fields = (template_text.source(part, field) for field in FIELDS)
        return _by_row([_ngrams(pieces, width) for pieces in fields])

    return similar.sets_of(table, ngrams)


def _ngrams(pieces: words.Pieces, width: int) -> similar.Sets:
    return similar.Sets(*words.shingles(pieces.only(np.diff(pieces.starts) >= width), width))


def _by_row(fields: Sequence[similar.Sets]) -> similar.Sets:
    """Joins the sets of both fields of each row."""
    both = similar.interleave(fields)
    return similar.Sets(*words.distinct(both.hashes, both.offsets[:: len(fields)]))


def benchmark_items(name: str) -> list[list[str]]:
    """The items of a benchmark: all texts of each row of its files, at any depth, or the lines of a text file.

    Raises:
        CorpusError: it cannot be read, or contains no text.
    """
    items = []
    for file in resolve([name], "corpus.benchmarks"):
        for batch in open_rows(file).batches:
            items += [list(_texts(row)) for row in batch.records()]
    if not any(text.strip() for item in items for text in item):
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
