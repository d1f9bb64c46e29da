"""Synthetic Cendol at full size: 12,810,390 rows, with its subsets, their counts and their upsampling.

Texts are those of `topeng.corpus.world`, filled a block at a time with Arrow: poems stand under twenty
templates, safety and identity rows 500 times, dolly rows five times, and no two articles are the same but for the
stubs: 1 % are copies and 2 % nearly so. The counts of the six Indonesian subsets are Cendol's. The shares of the
others are guesses, after the articles in each Wikipedia; where no lexicon is there, a language borrows one.

    python benchmarks/cendol.py [FOLDER] [--scale 1]
"""

import argparse
import hashlib
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from string import Formatter, digits
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topeng.corpus.sample import allocate
from topeng.corpus.schema import COLUMNS
from topeng.corpus.synthetic import DERIVED, TARGET
from topeng.corpus.world import Grammar, Lexicon, Subset, open_, regional

ROWS = 12_810_390
INDONESIAN_ROWS = {
    "indo_puisi": 144_460,
    "wikihow": 97_848,
    "wikipedia_id": 6_069_267,
    "safety_prompt": 93_500,
    "identity_prompt": 62_500,
    "dolly": 75_055,
}
THOUSANDS_OF_ARTICLES = {
    "ms": 380, "min": 227, "jv": 73, "su": 62, "ban": 20, "bug": 16, "gor": 15, "map-bms": 14, "ace": 13, "bjn": 11,
    "nia": 2, "tet": 2,
}  # fmt: skip
NUSAPARAGRAPH = [f"{task}_{code}" for task, code in product(("emot", "rhet", "topic"), regional.REGIONAL_STORIES)]
TITLE_TEMPLATES = open_(
    ("Tulislah artikel ensiklopedia tentang {topic}.", "{text}"),
    ("Jelaskan secara singkat mengenai {topic}.", "{text}"),
    ("Apa yang kamu ketahui tentang {topic}?", "{text}"),
    ("Buatlah artikel Wikipedia berjudul: {title}", "{title}\n\n{text}"),
    ("Judul: {title}\nIsi artikel:", "{text}"),
    ("Apa judul yang tepat untuk artikel ini?\n\n{text}", "{title}"),
)
SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS])
CHUNK_ROWS = 50_000  # shuffled together; what is held in memory
BLOCK_ROWS = 2_000  # articles of one grammar, under one template
POOL_BLOCK_ROWS = 200  # texts of a small subset, of one grammar
COPIES, NEAR_COPIES, CHANGED_SLOTS = 0.01, 0.02, 0.1
LONG_ARTICLES = 0.7  # go on with a second text


def write_cendol(
    folder: Path, scale: float = 1.0, row_group_rows: int = 1000, shards: int = 24, seed: int = 0
) -> dict[str, int]:
    """Writes Parquet shards in Cendol's seven columns, in about 0.6 GB of memory.

    Args:
        folder: made if it is missing; holds `train-00000-of-00024.parquet` and so on.
        scale: of all counts; 1.0 gives exactly 12,810,390 rows.
        row_group_rows: as in the source, 1,000.
        shards: files, of the same size to one row.
        seed: the same arguments give the same rows.

    Returns:
        Rows of each subset.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subsets = [subset for subset, _ in _subsets()]
    sizes = allocate({subset.name: rows for subset, rows in _subsets()}, round(ROWS * scale))
    rng = np.random.default_rng(seed)
    streams = [
        _Stream(subset, sizes[subset.name], child)
        for subset, child in zip(subsets, rng.spawn(len(subsets)), strict=True)
    ]
    left = np.array([sizes[subset.name] for subset in subsets])
    for shard, rows in enumerate(np.diff(np.arange(shards + 1) * left.sum() // shards)):
        name = f"train-{shard:05}-of-{shards:05}.parquet"
        heads = list(SCHEMA.names[:5])
        with pq.ParquetWriter(folder / name, SCHEMA, compression="snappy", use_dictionary=heads) as writer:
            for start in range(0, rows, CHUNK_ROWS):
                size = min(CHUNK_ROWS, rows - start)
                counts = rng.multivariate_hypergeometric(left, size, method="marginals")
                left -= counts
                tables = [stream.read(n) for stream, n in zip(streams, counts.tolist(), strict=True) if n]
                chunk = pa.concat_tables(tables).combine_chunks().take(rng.permutation(size))
                writer.write_table(chunk, row_group_size=row_group_rows)
    return sizes


def _subsets() -> Iterator[tuple[Subset, int]]:
    """Each subset and its rows at full size."""
    by_name = {subset.name: subset for subset in TARGET}
    for name, rows in INDONESIAN_ROWS.items():
        yield by_name[name], rows
    others = {f"wikipedia_{code}": 10_000 * count for code, count in THOUSANDS_OF_ARTICLES.items()}
    others |= {f"nusaparagraph_{name}": 30_000 for name in NUSAPARAGRAPH}
    distractors = [subset for subset in TARGET if subset.name not in INDONESIAN_ROWS]
    for number, (name, rows) in enumerate(allocate(others, ROWS - sum(INDONESIAN_ROWS.values())).items()):
        kin = [subset for subset in distractors if name.startswith(subset.dataset.partition("_")[0])]
        yield replace(by_name.get(name, kin[number % len(kin)]), name=name), rows


class _Stream:
    """The rows of a subset, read as many at a time as are asked for."""

    def __init__(self, subset: Subset, rows: int, rng: np.random.Generator) -> None:
        articles = subset.name.startswith("wikipedia")
        self._tables = _articles(subset, rng) if articles else iter([_pool(subset, rows, rng)])
        self._rest = SCHEMA.empty_table()

    def read(self, rows: int) -> pa.Table:
        tables = [self._rest]
        while sum(table.num_rows for table in tables) < rows:
            tables.append(next(self._tables))
        table = pa.concat_tables(tables)
        self._rest = table.slice(rows)
        return table.slice(0, rows)


def _articles(subset: Subset, rng: np.random.Generator) -> Iterator[pa.Table]:
    """Endless blocks of new articles, each block under one template."""
    facts = _Facts(subset.lexicon, rng)
    templates = TITLE_TEMPLATES if subset.name == "wikipedia_id" else subset.templates
    subset = replace(subset, templates=templates)
    while True:
        texts = _texts(_one(subset.grammars, rng), facts.renew(BLOCK_ROWS, stubs=True), rng)
        if rng.random() < LONG_ARTICLES:
            more = _texts(_one(subset.grammars, rng), facts.renew(BLOCK_ROWS), rng)
            texts["text"] = _join([texts["text"], more["text"]], " ")
        yield _rows(subset, int(rng.integers(len(templates))), texts)


def _pool(subset: Subset, rows: int, rng: np.random.Generator) -> pa.Table:
    """A small subset whole, shuffled: each text under each template, or copies of it under one."""
    distinct = subset.pool_rows or -(-rows // subset.copies)
    under = 1 if subset.copies > 1 else len(subset.templates)
    facts, count = _Facts(subset.lexicon, rng), -(-distinct // under)
    blocks = (
        [{slot: pa.array(record[slot] for record in subset.records) for slot in subset.records[0]}]
        if subset.records
        else [
            _texts(_one(subset.grammars, rng), facts.renew(min(POOL_BLOCK_ROWS, count - start)), rng)
            for start in range(0, count, POOL_BLOCK_ROWS)
        ]
    )
    indices = [rng.choice(len(subset.templates), under, replace=False).tolist() for _ in blocks]
    tables = [_rows(subset, i, texts) for texts, chosen in zip(blocks, indices, strict=True) for i in sorted(chosen)]
    return pa.concat_tables(tables).combine_chunks().take(rng.permutation(np.resize(np.arange(distinct), rows)))


def _rows(subset: Subset, index: int, texts: dict[str, pa.Array]) -> pa.Table:
    """Texts under one template, in Cendol's columns."""
    name, template = f"{subset.name}_{index}", subset.templates[index]
    prompt_id = hashlib.md5("\n".join((name, *template[:2])).encode(), usedforsecurity=False).hexdigest()
    columns = [_fill(frame, texts) for frame in template[:2]]
    heads = [pa.repeat(head, len(columns[0])) for head in (subset.dataset, subset.name, prompt_id, name, "train")]
    return pa.table([*heads, *columns], schema=SCHEMA)


class _Facts(dict[str, pa.Array]):
    """What slots such as `{fruit}`, `{fruit2}` and `{animal[food]}` are filled with; each drawn when first asked for.

    Of stubs, some repeat another row of the block, wholly or in nine of ten slots.
    """

    def __init__(self, lexicon: Lexicon, rng: np.random.Generator) -> None:
        self._lexicon, self._rng = lexicon, rng
        self._words: dict[str, pa.Array] = {}

    def renew(self, rows: int, stubs: bool = False) -> "_Facts":
        self.clear()
        self.rows, self._picks = rows, dict[str, np.ndarray]()
        kind = self._rng.random(rows) if stubs else np.ones(rows)
        self._near = (kind >= COPIES) & (kind < COPIES + NEAR_COPIES)
        self._original = np.where(kind < COPIES + NEAR_COPIES, self._rng.integers(rows, size=rows), np.arange(rows))
        return self

    def __missing__(self, slot: str) -> pa.Array:
        self[slot] = self._sum(*DERIVED[slot]) if slot in DERIVED else self._drawn(slot)
        return self[slot]

    def _drawn(self, slot: str) -> pa.Array:
        name, _, column = slot.rstrip("]").partition("[")
        key = f"{name.rstrip(digits)}[{column}"
        if key not in self._words:
            entries = self._lexicon[name.rstrip(digits)]
            self._words[key] = pa.array([str(entry[column] if column else entry) for entry in entries])
        return self._words[key].take(pa.array(self._pick(name)))

    def _sum(self, *slots: str) -> pa.Array:
        numbers = [np.array(self._lexicon[slot.rstrip(digits)])[self._pick(slot)] for slot in slots]
        return pa.array(sum(numbers)).cast(pa.string())

    def _pick(self, name: str) -> np.ndarray:
        """Which word of its list; `fruit2` and `fruit3` lie in either half of what `fruit` leaves."""
        if name not in self._picks:
            kin = name.rstrip(digits)
            size, half = len(self._lexicon[kin]), (len(self._lexicon[kin]) - 1) // 2
            if name == kin:
                self._picks[name] = self._repeat(self._rng.integers(size, size=self.rows))
            else:
                shift = half * (int(name[-1]) - 2) + 1 + self._repeat(self._rng.integers(half, size=self.rows))
                self._picks[name] = (self._pick(kin) + shift) % size
        return self._picks[name]

    def _repeat(self, picks: np.ndarray) -> np.ndarray:
        changed = self._near & (self._rng.random(self.rows) < CHANGED_SLOTS)
        return np.where(changed, picks, picks[self._original])


def _texts(grammar: Grammar, facts: _Facts, rng: np.random.Generator) -> dict[str, pa.Array]:
    """Texts and their parts, by the names that templates use; the variants of lines are drawn for all of them."""
    lines = [_sentence(_one(variants, rng), facts) for variants in grammar.lines]
    question, answer = _one(grammar.questions, rng)
    topic = _one(grammar.titles, rng)
    parts = {"text": lines, "rest": lines[1:], "half": lines[:2], "other_half": lines[2:], "start": lines[:-1]}
    return {name: _join(part, grammar.joiner) for name, part in parts.items()} | {
        "theme": _fill(grammar.theme, facts) if "{" in grammar.theme else pa.repeat(grammar.theme, facts.rows),
        "topic": _fill(topic, facts),
        "title": _sentence(topic, facts),
        "first": lines[0],
        "last": lines[-1],
        "question": _sentence(question, facts),
        "answer": _sentence(answer, facts),
    }


def _fill(frame: str, facts: dict[str, pa.Array]) -> pa.Array:
    """`str.format_map`, a column at a time."""
    pieces = [(pa.scalar(literal), facts[slot] if slot else "") for literal, slot, _, _ in Formatter().parse(frame)]
    return _join([piece for pair in pieces for piece in pair])


def _sentence(frame: str, facts: _Facts) -> pa.Array:
    text = _fill(frame, facts)
    initial = pc.utf8_upper(pc.utf8_slice_codeunits(text, 0, 1))
    return _join([initial, pc.utf8_slice_codeunits(text, 1)])


def _join(columns: list[pa.Array], separator: str = "") -> pa.Array:
    return pc.binary_join_element_wise(*columns, separator)


def _one(choices: Sequence[Any], rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("/tmp/topeng-cendol/cendol"))
    parser.add_argument("--scale", type=float, default=0.02)
    options = parser.parse_args()
    started = time.perf_counter()
    rows = sum(write_cendol(options.folder, options.scale).values())
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{rows:,} rows in {seconds:.0f} s: {rows / seconds:,.0f} rows/s, {peak:.2f} GB")


if __name__ == "__main__":
    main()
