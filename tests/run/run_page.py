"""docs/run-folder.md against the folder of a run: each file and field is there, and no other."""

import json
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from topeng.run.folder import Stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "run-folder.md"
SWEEP = ("sweep.json", "sweep/*.json")
"""Files of a search for learning rates, which a run does not have."""
ABSENT = (*SWEEP, "converted/*")
UNTOLD = ("adapter_config.json", "base/")
"""JSON in the words of other software."""
LEVEL = "\0"
"""Between the names that lead to a field: they contain points."""
CODE = re.compile(r"`([^`]+)`")


def problems(run: Path, planned: Sequence[Stage], text: str) -> list[str]:
    """Where page and folder differ.

    Args:
        planned: the stages that made the folder.
        text: of the page.
    """
    names = sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file())
    names = [name for name in names if not name.startswith((".work/", ".lock"))]
    return [*_about_files(names, files_of(text), planned), *_about_fields(names, fields_of(text), run)]


def _about_files(names: list[str], files: dict[str, tuple[str, list[str]]], planned: Sequence[Stage]) -> Iterator[str]:
    for row in files:
        if row not in ABSENT and not any(fits(name, row) for name in names):
            yield f"{row} has no file"
    for name in names:
        rows = [row for row in files if fits(name, row)]
        if len(rows) != 1:
            yield f"{name} is on {len(rows)} lines"
        for written, read in (files[row] for row in rows):
            writer, readers = who(name, planned)
            if (written, set(read)) != (writer, readers):
                yield f"{name} is written by {writer} and read by {readers}, not by {written} and {read}"


def _about_fields(names: list[str], fields: dict[tuple[str, ...], list[str]], run: Path) -> Iterator[str]:
    for patterns, told in fields.items():
        files = [name for name in names if any(fits(name, one) for one in patterns)]
        paths = sorted(set().union(*(field_names(run / name) for name in files)))
        if patterns[0] in SWEEP:
            continue
        for path in paths:
            if not any(under(path, one) for one in told):
                yield f"{patterns[0]}: {path.replace(LEVEL, '.')} is not told"
        for one in told:
            if not any(under(path, one) for path in paths):
                yield f"{patterns[0]}: there is no {one}"
    known = [pattern for patterns in fields for pattern in patterns]
    for name in names:
        told = name.endswith((".json", ".jsonl", ".parquet")) and not any(part in name for part in UNTOLD)
        if told and not any(fits(name, one) for one in known):
            yield f"{name}: its fields are not told"


def files_of(text: str) -> dict[str, tuple[str, list[str]]]:
    """By pattern of a path: the stage that writes it, and those that read it."""
    lines = re.findall(r"^\| (.*) \|$", text.split("## Fields")[0], re.MULTILINE)[1:]
    cells = [line.split(" | ") for line in lines]
    return {
        CODE.findall(file)[0]: (
            CODE.findall(writer)[0],
            [name for name in CODE.findall(readers) if not name.startswith("topeng ")],
        )
        for file, _, writer, readers in cells
    }


def fields_of(text: str) -> dict[tuple[str, ...], list[str]]:
    """By patterns of paths, the fields that are told."""
    found = {}
    for section in text.split("\n### ")[1:]:
        head, _, rest = section.partition("\n")
        rows = re.findall(r"^\| (`.*?) \| ", rest, re.MULTILINE)
        found[tuple(CODE.findall(head))] = [name for row in rows for name in CODE.findall(row)]
    return found


def fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("METHOD", "*").replace("MODEL", "*")) and (
        name.count("/") == pattern.count("/") or pattern.startswith(("logs/", "base/", "converted/"))
    )


def who(name: str, planned: Sequence[Stage]) -> tuple[str, set[str]]:
    """The stage that writes a file, and those that read it or the folder that it is in."""

    def within(output: str) -> bool:
        return name == output or name.startswith(f"{output}/")

    writers = [kind(stage.name) for stage in planned if any(map(within, stage.outputs))] or ["the run"]
    (writer,) = writers
    return writer, {kind(stage.name) for stage in planned if any(map(within, stage.reads))}


def kind(stage: str) -> str:
    start, slash, _ = stage.partition("/")
    named = {"train": "METHOD", "likelihood": "MODEL", "evaluate": "MODEL", "sweep": "METHOD"}
    return f"{start}/{named[start]}" if slash and start in named else stage


def under(path: str, told: str) -> bool:
    """Whether a field is one that is told, or part of it."""
    parts, wanted = path.split(LEVEL), told.split(".")
    return len(parts) >= len(wanted) and all(map(fnmatchcase, parts, wanted))


def field_names(file: Path) -> set[str]:
    """Columns, or keys with those that lead to them."""
    if file.suffix == ".parquet":
        return set(pq.read_schema(file).names)
    text = file.read_text("utf-8")
    values = [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else [json.loads(text)]
    return {path for value in values for path in _paths(value)}


def _paths(value: Any, before: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _paths(inner, (*before, name))
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for one in value:
            yield from _paths(one, before)
    else:
        yield LEVEL.join(before)
