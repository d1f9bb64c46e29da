"""`topeng corpus check`: what files are, how they would be read, and what would leave, before a run."""

import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from xxhash import xxh3_64_intdigest

from topeng.corpus import files, readers
from topeng.corpus.conventions import Convention, Reading
from topeng.corpus.schema import MESSAGES, RIGHT
from topeng.corpus.turns import EMPTY
from topeng.errors import CorpusError

SAMPLE, LOOKED_AT = 1_000, 20_000
"""Rows whose lengths and languages are looked at, drawn at random, and the characters of each that are."""
COMPARED = 2_000_000
"""Rows that are compared with one another, as their hashes are in memory."""

Count = Callable[[str], int]
"""Tokens, or words, of a text."""


@dataclass
class Seen:
    """What a file holds."""

    format: str
    unit: str
    convention: Convention
    rows: int = 0
    turns: int = 0
    right: int = 0
    repeated: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)
    subsets: Counter[str] = field(default_factory=Counter)
    sample: list[tuple[str, str, float, float]] = field(default_factory=list)


def check_files(
    names: Sequence[str], reading: Reading, languages: Sequence[str], count: Count, unit: str, longest: int | None
) -> int:
    """Prints what files hold; returns 1 where one cannot be used.

    Args:
        languages: that answers are wanted in; none: they are not looked at.
        unit: what `count` counts.
        longest: tokens at which a row is cut, where tokens are counted.
    """
    console, failed = Console(highlight=False), False
    for name in names:
        try:
            found = files.resolve([name], "topeng corpus check")
        except CorpusError as error:
            failed = _fail(console, name, error)
            continue
        for file in found:
            try:
                seen = look(file, reading)
            except CorpusError as error:
                failed = _fail(console, file, error)
                continue
            _show(console, file, seen, [*_lengths(seen, count, unit, longest), *_spoken(seen, languages)])
            failed |= seen.dropped.total() == seen.rows
    return int(failed)


def look(name: str, reading: Reading) -> Seen:
    """Reads a file through.

    Raises:
        CorpusError: it cannot be read.
    """
    source = readers.open_source(name, reading)
    seen, known, dice = Seen(source.format, source.unit, source.convention), set[int](), random.Random(0)
    for table in source.tables:
        seen.subsets.update(table["subset_name"].to_pylist())
        names = ("input", "output", MESSAGES, RIGHT, readers.PROBLEM, readers.PLACE)
        columns = (table[column].to_pylist() for column in names)
        for given, answer, messages, right, problem, place in zip(*columns, strict=True):
            seen.rows += 1
            reason = problem or (None if given.strip() and answer.strip() else EMPTY)
            if reason:
                seen.dropped[reason] += 1
                seen.first.setdefault(reason, place)
                continue
            seen.turns += messages is not None
            seen.right += right
            _compare(seen, known, given, answer)
            _draw(seen, dice, given, answer)
    return seen


def _compare(seen: Seen, known: set[int], given: str, answer: str) -> None:
    if len(known) < COMPARED:
        content = xxh3_64_intdigest(f"{given.strip()}\x1f{answer.strip()}".encode())
        seen.repeated += content in known
        known.add(content)


def _draw(seen: Seen, dice: random.Random, given: str, answer: str) -> None:
    """Each row has the same chance to be in the sample (reservoir sampling, Vitter's algorithm R)."""
    kept = seen.rows - seen.dropped.total()
    place = kept - 1 if kept <= SAMPLE else dice.randrange(kept)
    if place < SAMPLE:
        row = given[:LOOKED_AT], answer[:LOOKED_AT], max(1.0, len(given) / LOOKED_AT), max(1.0, len(answer) / LOOKED_AT)
        seen.sample[place : place + 1] = [row]


def _lengths(seen: Seen, count: Count, unit: str, longest: int | None) -> Iterable[tuple[str, str]]:
    if not seen.sample:
        return
    given = [count(text) * share for text, _, share, _ in seen.sample]
    answers = [count(text) * share for _, text, _, share in seen.sample]
    yield "questions", _spread(given)
    yield "answers", _spread(answers)
    yield "counted", f"in {unit}"
    if longest is not None:
        long = statistics.fmean(one + other > longest for one, other in zip(given, answers, strict=True))
        yield "cut", f"{long:.0%} of the rows, which exceed text.max_length = {longest}"


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    middle, high = statistics.median(ordered), ordered[int(0.95 * (len(ordered) - 1))]
    return f"median length {middle:,.0f}, 5 % over {high:,.0f}, longest {ordered[-1]:,.0f}"


def _spoken(seen: Seen, languages: Sequence[str]) -> Iterable[tuple[str, str]]:
    if not languages or not seen.sample:
        return
    from topeng.corpus.language import identify_rows

    found, likely = identify_rows([row[0] for row in seen.sample], [row[1] for row in seen.sample], languages)
    most = Counter(str(code) for code in found).most_common(4)
    shares = ", ".join(f"{code} {rows / len(seen.sample):.0%}" for code, rows in most)
    others = 1 - statistics.fmean((likely >= 0.5).tolist())
    wanted = ", ".join(languages)
    yield (
        "languages",
        f"{shares}; {others:.0%} would be dropped: not in corpus.languages ({wanted})",
    )


def _show(console: Console, name: str, seen: Seen, more: Iterable[tuple[str, str]]) -> None:
    found = seen.convention
    columns = ", ".join(found.roles.values())
    lines = [
        ("format", f"{seen.format}; {_size(name)}{_rows(seen.rows)}"),
        ("read as", found.name + (f" ({columns})" if columns not in found.name else "")),
        ("not read", ", ".join(found.unread)),
        ("subsets", ", ".join(f"{name} {_rows(rows)}" for name, rows in seen.subsets.most_common(5))),
        ("turns", f"{_rows(seen.turns)} with a system message or several turns" if seen.turns else ""),
        ("judged", f"{_rows(seen.right)} with one right answer" if seen.right else ""),
        *more,
        ("repeated", f"{_rows(seen.repeated)} with the content of an earlier row" if seen.repeated else ""),
    ]
    leave = [f"{count:,} {reason}, first in {seen.unit} {seen.first[reason]}" for reason, count in seen.dropped.items()]
    lines.append(("dropped", "\n".join(leave) or "none"))
    if seen.rows > SAMPLE:
        lines.append(("based on", f"{SAMPLE:,} random rows for lengths and languages, all rows for the rest"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for label, text in lines:
        if text:
            table.add_row(Text(label, style="bold"), Text(text))
    console.print(Text(name, style="bold"))
    console.print(Padding(table, (0, 0, 0, 2)))


def _fail(console: Console, name: str, error: CorpusError) -> bool:
    console.print(Text(name, style="bold"))
    console.print(Text(f"  cannot be used: {str(error).removeprefix(f'{name}, ')}", style="red"))
    return True


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _size(name: str) -> str:
    if files.is_address(name):
        return ""
    size = float(Path(name).stat().st_size)
    for unit in ("bytes", "kB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}, "
        size /= 1_000
    return f"{size:.1f} GB, "
