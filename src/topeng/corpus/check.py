"""`topeng corpus check`: shows before a run how files would be read, and which rows would be dropped."""

import random
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
"""Number of random rows whose lengths and languages are examined, and of characters that are read of each."""
COMPARED = 2_000_000
"""Largest number of rows that are compared with each other, because their hashes are kept in memory."""

Count = Callable[[str], int]
"""Counts the tokens or words of a text."""


@dataclass
class Seen:
    """What a file contains."""

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
) -> list[dict[str, Any]]:
    """What each file contains, as plain values. `usable` is false for a file without usable rows. If a file cannot be
    read at all, `error` says why.

    Args:
        languages: languages that answers should be in. If empty, they are not examined.
        unit: what `count` counts.
        longest: number of tokens at which a row is cut, if tokens are counted.
    """
    checked: list[dict[str, Any]] = []
    for name in names:
        try:
            found = files.resolve([name], None)
        except CorpusError as error:
            checked.append(_unusable(name, error))
            continue
        for file in found:
            try:
                seen = look(file, reading)
            except CorpusError as error:
                checked.append(_unusable(file, error))
                continue
            measured = {"lengths": _lengths(seen, count, unit, longest), "languages": _spoken(seen, languages)}
            checked.append(_values(file, seen) | measured)
    return checked


def print_files(checked: Sequence[Mapping[str, Any]], console: Console) -> None:
    for one in checked:
        if "error" in one:
            console.print(Text(one["file"], style="bold"))
            console.print(Text(f"  cannot be used: {one['error'].removeprefix(one['file'] + ', ')}", style="red"))
        else:
            _show(one, console)


def look(name: str, reading: Reading) -> Seen:
    """Reads a whole file.

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
    """Adds a row to the sample, so that all rows have the same chance (reservoir sampling, Vitter's algorithm R)."""
    kept = seen.rows - seen.dropped.total()
    place = kept - 1 if kept <= SAMPLE else dice.randrange(kept)
    if place < SAMPLE:
        row = given[:LOOKED_AT], answer[:LOOKED_AT], max(1.0, len(given) / LOOKED_AT), max(1.0, len(answer) / LOOKED_AT)
        seen.sample[place : place + 1] = [row]


def _lengths(seen: Seen, count: Count, unit: str, longest: int | None) -> dict[str, Any] | None:
    if not seen.sample:
        return None
    given = [count(text) * share for text, _, share, _ in seen.sample]
    answers = [count(text) * share for _, text, _, share in seen.sample]
    long = None
    if longest is not None:
        long = statistics.fmean(one + other > longest for one, other in zip(given, answers, strict=True))
    return {"unit": unit, "questions": _spread(given), "answers": _spread(answers), "max_length": longest, "cut": long}


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "percentile_95": ordered[int(0.95 * (len(ordered) - 1))],
        "longest": ordered[-1],
    }


def _spoken(seen: Seen, languages: Sequence[str]) -> dict[str, Any] | None:
    """The shares of the four most frequent languages, and of rows that would be dropped."""
    if not languages or not seen.sample:
        return None
    from topeng.corpus.language import SPOKEN, identify_rows

    found, likely = identify_rows([row[0] for row in seen.sample], [row[1] for row in seen.sample], languages)
    most = Counter(str(code) for code in found).most_common(4)
    return {
        "found": {code: rows / len(seen.sample) for code, rows in most},
        "wanted": list(languages),
        "dropped": 1 - statistics.fmean((likely >= SPOKEN).tolist()),
    }


def _values(name: str, seen: Seen) -> dict[str, Any]:
    return {
        "file": name,
        "usable": seen.dropped.total() < seen.rows,
        "format": seen.format,
        "bytes": None if files.is_address(name) else Path(name).stat().st_size,
        "rows": seen.rows,
        "read_as": seen.convention.name,
        "columns": dict(seen.convention.roles),
        "not_read": list(seen.convention.unread),
        "subsets": dict(seen.subsets.most_common()),
        "conversations": seen.turns,
        "judged": seen.right,
        "repeated": seen.repeated,
        "dropped": {why: {"rows": rows, "first": seen.first[why]} for why, rows in seen.dropped.items()},
        "counted_in": seen.unit,
    }


def _unusable(name: str, error: CorpusError) -> dict[str, Any]:
    return {"file": name, "usable": False, "error": str(error)}


def _show(one: Mapping[str, Any], console: Console) -> None:
    columns = ", ".join(one["columns"].values())
    subsets = [f"{name} {_rows(rows)}" for name, rows in [*one["subsets"].items()][:5]]
    lines = [
        ("format", f"{one['format']}; {_size(one['bytes'])}{_rows(one['rows'])}"),
        ("read as", one["read_as"] + (f" ({columns})" if columns not in one["read_as"] else "")),
        ("not read", ", ".join(one["not_read"])),
        ("subsets", ", ".join(subsets)),
        ("turns", f"{_rows(one['conversations'])} with a system message or several turns" * (one["conversations"] > 0)),
        ("judged", f"{_rows(one['judged'])} with one right answer" * (one["judged"] > 0)),
        *_measured_lines(one),
        ("repeated", f"{_rows(one['repeated'])} with the content of an earlier row" * (one["repeated"] > 0)),
    ]
    unit = one["counted_in"]
    leave = [f"{why['rows']:,} {reason}, first in {unit} {why['first']}" for reason, why in one["dropped"].items()]
    lines.append(("dropped", "\n".join(leave) or "none"))
    if not one["usable"]:
        lines.append(("unusable", "every row would be dropped" if one["rows"] else "the file has no rows"))
    if one["rows"] > SAMPLE:
        lines.append(("based on", f"{SAMPLE:,} random rows for lengths and languages, all rows for the rest"))
    table = Table.grid(padding=(0, 2, 0, 0))
    for label, text in lines:
        if text:
            table.add_row(Text(label, style="bold"), Text(text))
    console.print(Text(one["file"], style="bold"))
    console.print(Padding(table, (0, 0, 0, 2)))


def _measured_lines(one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if lengths := one["lengths"]:
        for name in ("questions", "answers"):
            median, high, longest = lengths[name].values()
            yield name, f"median length {median:,.0f}, 5 % over {high:,.0f}, longest {longest:,.0f}"
        yield "counted", f"in {lengths['unit']}"
        if lengths["cut"] is not None:
            yield "cut", f"{lengths['cut']:.0%} of the rows, which exceed text.max_length = {lengths['max_length']}"
    if spoken := one["languages"]:
        shares = ", ".join(f"{code} {share:.0%}" for code, share in spoken["found"].items())
        wanted = ", ".join(spoken["wanted"])
        dropped = f"{spoken['dropped']:.0%} would be dropped: not in corpus.languages ({wanted})"
        yield "languages", f"{shares}; {dropped}"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _size(size: float | None) -> str:
    if size is None:
        return ""
    for unit in ("bytes", "kB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}, "
        size /= 1_000
    return f"{size:.1f} GB, "
