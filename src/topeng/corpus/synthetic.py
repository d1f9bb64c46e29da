"""A made-up corpus in the schema of the Cendol collection, so that the demo needs no download.

It has what makes the real collection hard to sample and split: one text under many templates, a few rows repeated many
times, and half of the rows in other languages. A small model can learn it, because answers reuse what the prompt says.
The words and templates are data in `world`.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from string import Formatter, digits
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from topeng.corpus.schema import COLUMNS, RIGHT
from topeng.corpus.world import Grammar, Lexicon, Pair, Subset, Template, english, indonesian, plain, regional
from topeng.errors import CorpusError

SCHEMA = pa.schema([*((name, pa.string()) for name in COLUMNS), (RIGHT, pa.bool_())])
PLAIN_SCHEMA = pa.schema([("text", pa.string())])
TARGET = [*indonesian.SUBSETS, *regional.SUBSETS]
"""Roughly Cendol's proportions. Half of the rows are distractors, and all six subsets occur even in small corpora."""
CHUNK_ROWS = 20_000  # rows of a row group, which are kept in memory
DERIVED = {"sum": ("small", "small2"), "more": ("small", "number")}
"""Slots whose value is the sum of two other slots."""

TOLD = 3  # most questions or statements that follow a plain text

Draw = Callable[[Sequence[Any]], Any]
Row = tuple[str | bool, ...]


def write_target(path: Path, rows: int, seed: int) -> None:
    """Writes an Indonesian corpus as Parquet: Cendol's six Indonesian subsets and as many distractors.

    Args:
        path: the file, which is overwritten.
        rows: exact number of rows.
        seed: the same number of rows and the same seed give the same corpus.

    Raises:
        CorpusError: rows < 1.
    """
    _write(path, TARGET, rows, seed)


def write_source(path: Path, rows: int, seed: int) -> None:
    """Writes English rows of the same world and schema, with the arguments of `write_target`."""
    _write(path, english.SUBSETS, rows, seed)


def write_plain(path: Path, rows: int, seed: int) -> None:
    """Writes Indonesian texts of the same world, without a prompt or a question: Parquet with the column `text`.

    A text is an article, a guide, a poem or a story, usually under a heading. Up to three facts that follow from it are
    repeated after it, or a person asks about them, before or after it, and gets an answer.

    Args:
        path: the file, which is overwritten.
        rows: exact number of texts.
        seed: the same number of texts and the same seed give the same texts.

    Raises:
        CorpusError: rows < 1.
    """
    _check(rows)
    rng = np.random.default_rng(seed)
    draw = _drawer(rng)
    with pq.ParquetWriter(path, PLAIN_SCHEMA) as writer:
        streams = [[_plain(told, _slots(told.grammar, told.lexicon), draw)] * told.weight for told in plain.TOLD]
        texts = (next(stream) for stream in cycle(list(chain.from_iterable(streams))))
        for start in range(0, rows, CHUNK_ROWS):
            chunk = list(islice(texts, min(CHUNK_ROWS, rows - start)))
            writer.write_table(pa.table([chunk], schema=PLAIN_SCHEMA).take(rng.permutation(len(chunk))))


def _plain(told: plain.Told, slots: Lexicon, draw: Draw) -> Iterator[str]:
    """Yields texts of a grammar without end."""
    while True:
        parts = _facts(slots, draw)
        parts |= _parts(told.grammar, parts, draw)
        yield _with_questions(told, parts, draw)


def _with_questions(told: plain.Told, parts: dict[str, Any], draw: Draw) -> str:
    """A text with questions and answers about it, or with repeated facts. One in ten gets neither."""
    kinds = [told.grammar.questions, told.asked or told.grammar.questions]
    asked = [_pair(draw(draw(kinds)), parts) for _ in range(TOLD)]
    manner = draw(plain.MANNERS)
    if not parts["text"]:
        return draw(plain.ANSWERED).format_map(asked[0])
    if manner == "asked first":
        return draw(plain.ASKED_FIRST).format_map(parts | asked[0])
    text = draw(told.headings).format_map(parts) + parts["text"]
    if manner == "silent":
        return text
    frame = draw(plain.ANSWERED if manner == "answered" else plain.RETOLD)
    said = dict.fromkeys(frame.format_map(pair) for pair in asked[: draw(range(1, TOLD + 1))])
    joiner = "\n\n" if "\n" in frame else draw((told.grammar.joiner, "\n\n"))
    return joiner.join((text, *said))


def _pair(asked: Pair, parts: dict[str, Any]) -> dict[str, str]:
    question, answer = asked
    return {"question": _capital(question.format_map(parts)), "answer": _capital(answer.format_map(parts))}


def _check(rows: int) -> None:
    if rows < 1:
        raise CorpusError(f"cannot make a synthetic corpus of {rows} rows. Ask for 1 or more.")


def _write(path: Path, subsets: list[Subset], rows: int, seed: int) -> None:
    _check(rows)
    rng = np.random.default_rng(seed)
    streams = [_rows(subset, _drawer(child)) for subset, child in zip(subsets, rng.spawn(len(subsets)), strict=True)]
    shares = [subset.share for subset in subsets]
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for start in range(0, rows, CHUNK_ROWS):
            size = min(CHUNK_ROWS, rows - start)
            counts = rng.multinomial(size, shares)
            chunk = chain.from_iterable(islice(stream, n) for stream, n in zip(streams, counts, strict=True))
            table = pa.table([list(column) for column in zip(*chunk, strict=True)], schema=SCHEMA)
            writer.write_table(table.take(rng.permutation(size)))


def _drawer(rng: np.random.Generator) -> Draw:
    """A function that draws an item of a sequence. Numbers are drawn in blocks, because calls to numpy are slow."""
    numbers = chain.from_iterable(iter(lambda: rng.integers(1 << 32, size=1 << 14).tolist(), None))
    return lambda words: words[next(numbers) % len(words)]


def _rows(subset: Subset, draw: Draw) -> Iterator[Row]:
    """Yields rows of a subset without end, one text after another, each with its templates."""
    heads = [_head(subset, index, template) for index, template in enumerate(subset.templates)]
    rights = [template.right for template in subset.templates]
    pairs = _pool(subset) if subset.records else _pairs(subset, draw)
    return ((*heads[index], prompt, answer, rights[index]) for index, prompt, answer in pairs)


def _head(subset: Subset, index: int, template: Template) -> tuple[str, ...]:
    name = f"{subset.name}_{subset.first + index}"
    words = (name, template.prompt, template.answer)
    prompt_id = hashlib.md5("\n".join(words).encode(), usedforsecurity=False).hexdigest()
    return subset.dataset, subset.name, prompt_id, name, "train"


def _pool(subset: Subset) -> Iterator[tuple[int, str, str]]:
    pool = [
        (index, prompt.format_map(record), answer.format_map(record))
        for index, (prompt, answer, _) in enumerate(subset.templates)
        for record in subset.records
    ]
    return cycle(pool[: subset.pool_rows])


def _pairs(subset: Subset, draw: Draw) -> Iterator[tuple[int, str, str]]:
    """Yields (template, input, output) without end: a text with each template, or copies of it with one template."""
    templates = list(enumerate(subset.templates))
    slots = [_slots(grammar, subset.lexicon) for grammar in subset.grammars]
    for grammar, words in cycle(list(zip(subset.grammars, slots, strict=True))):
        text = _text(grammar, words, draw)
        chosen = [draw(templates)] * subset.copies if subset.copies > 1 else templates
        for index, (prompt, answer, _) in chosen:
            yield index, prompt.format_map(text), answer.format_map(text)


def _slots(grammar: Grammar, lexicon: Lexicon) -> Lexicon:
    """The slots that a grammar names, each with the words that it is drawn from."""
    frames = [grammar.theme, *grammar.titles, *chain(*grammar.lines), *chain(*grammar.questions)]
    names = [name.partition("[")[0] for frame in frames for _, name, _, _ in Formatter().parse(frame) if name]
    drawn = chain.from_iterable(DERIVED.get(name, (name,)) for name in names)
    return {name: lexicon[name.rstrip(digits)] for name in dict.fromkeys(drawn)}


def _text(grammar: Grammar, slots: Lexicon, draw: Draw) -> dict[str, str]:
    """A text and its parts, under the names that templates use, with a question and its answer."""
    facts = _facts(slots, draw)
    parts = _parts(grammar, facts, draw)
    return parts | _pair(draw(grammar.questions), facts)


def _parts(grammar: Grammar, facts: dict[str, Any], draw: Draw) -> dict[str, str]:
    lines = [_capital(draw(variants).format_map(facts)) for variants in grammar.lines]
    topic = draw(grammar.titles).format_map(facts)
    join = grammar.joiner.join
    return {
        "theme": grammar.theme.format_map(facts),
        "topic": topic,
        "title": _capital(topic),
        "text": join(lines),
        "first": lines[0],
        "second": lines[min(1, len(lines) - 1)],
        "rest": join(lines[1:]),
        "half": join(lines[:2]),
        "other_half": join(lines[2:]),
        "start": join(lines[:-1]),
        "last": lines[-1],
    }


def _facts(slots: Lexicon, draw: Draw) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name, words in slots.items():
        facts[name] = draw(words)
        while name[-1] in digits and _repeats(name, facts):
            facts[name] = draw(words)
    return facts | {name: facts.get(a, 0) + facts.get(b, 0) for name, (a, b) in DERIVED.items()}


def _repeats(name: str, facts: dict[str, Any]) -> bool:
    """Whether `fruit2` is what `fruit` is; of people, whether the first names are the same."""
    kin = name.rstrip(digits)
    others = [word for other, word in facts.items() if other != name and other.rstrip(digits) == kin]
    if kin == "person":
        return facts[name]["call"] in [other["call"] for other in others]
    return facts[name] in others


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
