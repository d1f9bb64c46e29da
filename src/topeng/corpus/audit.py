"""`topeng corpus verify` and `topeng corpus diff`: check a finished corpus, and compare it with another."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from topeng.corpus.card import MANIFEST
from topeng.corpus.draw import HELD_OUT
from topeng.corpus.funnel import TOP_UP
from topeng.corpus.schema import ROW_ID
from topeng.errors import CorpusError
from topeng.system.files import digest

SIDES = ("train", *HELD_OUT)


@dataclass(frozen=True)
class Check:
    """A condition that must hold, and the problems if it does not."""

    what: str
    problems: list[str]


@dataclass(frozen=True)
class Difference:
    """How two selections differ.

    Attributes:
        options: both values of each option that differs.
        rows: for each split, how many rows are in both, only in the first, and only in the second.
        why: what became of training rows of the first that the second lacks, and the other way round.
    """

    options: dict[str, tuple[Any, Any]]
    rows: dict[str, tuple[int, int, int]]
    why: tuple[dict[str, int], dict[str, int]]


def verify(folder: Path) -> list[Check]:
    """Checks a corpus folder, or the run folder around it, against its manifest.

    Raises:
        CorpusError: there is no finished corpus.
    """
    folder, manifest = _open(folder)
    checks = [Check("files match their digests and row counts", _changed(folder, manifest))]
    if checks[0].problems:
        return checks
    tables = {side: pq.read_table(folder / f"{side}.parquet") for side in SIDES}
    options = manifest["options"]
    counts = [
        f"{side} has {table.num_rows:,} rows, but corpus.{side}_rows is {options[f'{side}_rows']:,}"
        for side, table in tables.items()
        if table.num_rows != options[f"{side}_rows"]
    ]
    shared = {
        column: [
            f"{one} and {other} share {len(both):,}, such as {min(both)!r}"
            for one, other in combinations(SIDES, 2)
            if (both := set(tables[one][column].to_pylist()) & set(tables[other][column].to_pylist()))
        ]
        for column in (ROW_ID, "content_hash", "group")
    }
    return [
        *checks,
        Check("train, validation and test have the requested number of rows", counts),
        Check("no row is in two splits", shared[ROW_ID]),
        Check("no content is in two splits", shared["content_hash"]),
        Check("no source text is in two splits", shared["group"]),
        Check("every kept row has its decision", _undecided(folder, tables)),
    ]


def diff(one: Path, other: Path) -> Difference:
    """Compares two finished corpora of one source.

    Raises:
        CorpusError: one of them is not finished, or their sources differ, so that row ids cannot be compared.
    """
    (first, a), (second, b) = _open(one), _open(other)
    if a["source"]["digest"] != b["source"]["digest"]:
        raise CorpusError(
            f"{one} was drawn from a source with digest {a['source']['digest']}, {other} from {b['source']['digest']}. "
            "Their row ids belong to different rows."
        )
    for folder, manifest in ((first, a), (second, b)):
        if problems := _changed(folder, manifest):
            raise CorpusError(f"{folder} was changed since a run wrote it: {'; '.join(problems)}")
    settings = [{"seed": manifest["seed"]} | manifest["options"] for manifest in (a, b)]
    changed = {name: tuple(side.get(name) for side in settings) for name in settings[0] | settings[1]}
    ids = [{side: _row_ids(folder / f"{side}.parquet") for side in SIDES} for folder in (first, second)]
    rows = {
        side: (len(ids[0][side] & ids[1][side]), len(ids[0][side] - ids[1][side]), len(ids[1][side] - ids[0][side]))
        for side in SIDES
    }
    only_first, only_second = ids[0]["train"] - ids[1]["train"], ids[1]["train"] - ids[0]["train"]
    return Difference(
        options={name: pair for name, pair in changed.items() if pair[0] != pair[1]},
        rows=rows,
        why=(_why(second, only_first), _why(first, only_second)),
    )


def print_checks(checks: Sequence[Check]) -> None:
    for check in checks:
        print(f"{'ok  ' if not check.problems else 'FAIL'}  {check.what}")
        for problem in check.problems:
            print(f"      {problem}")


def print_difference(one: Path, other: Path, found: Difference) -> None:
    print(f"A is {one}, B is {other}")
    for name, (value, changed) in found.options.items():
        print(f"  {name}: {value!r} in A, {changed!r} in B")
    for side, (both, first, second) in found.rows.items():
        print(f"{side}: {both:,} rows in both, {first:,} only in A, {second:,} only in B")
    for name, reasons in zip(("A", "B"), found.why, strict=True):
        there = "B" if name == "A" else "A"
        for reason, count in reasons.items():
            print(f"  only in train of {name}: {count:,} {reason} in {there}")


def _open(folder: Path) -> tuple[Path, dict[str, Any]]:
    for place in (folder, folder / "corpus"):
        if (place / MANIFEST).is_file():
            return place, _manifest(place / MANIFEST)
    raise CorpusError(
        f"{folder} contains no finished corpus ({MANIFEST} is missing). Run `topeng corpus RECIPE` first."
    )


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path} cannot be read ({error}). It was changed since a run wrote it.") from error
    missing = {"seed", "options", "source", "files"} - set(manifest if isinstance(manifest, dict) else [])
    if missing:
        raise CorpusError(f"{path} lacks {', '.join(sorted(missing))}. It was changed since a run wrote it.")
    return manifest


def _changed(folder: Path, manifest: dict[str, Any]) -> list[str]:
    problems = []
    for name, known in manifest["files"].items():
        if not (folder / name).exists():
            problems.append(f"{name} is missing")
        elif (found := digest(folder / name)) != known["sha256"]:
            problems.append(f"{name} has the digest {found[:12]}…, but should have {known['sha256'][:12]}…")
    return problems


def _undecided(folder: Path, tables: dict[str, Any]) -> list[str]:
    decisions = pq.read_table(folder / "decisions.parquet")
    columns = (decisions[name].to_pylist() for name in (ROW_ID, "kept", "reason"))
    kept = {(row, "train" if role == TOP_UP else role) for row, stayed, role in zip(*columns, strict=True) if stayed}
    found = {(row, side) for side, table in tables.items() for row in table[ROW_ID].to_pylist()}
    return [
        f"row {row} is in {role} only in its table or only in decisions.parquet"
        for row, role in sorted(kept ^ found)[:5]
    ]


def _row_ids(path: Path) -> set[int]:
    return set(pq.read_table(path, columns=[ROW_ID])[ROW_ID].to_pylist())


def _why(folder: Path, row_ids: set[int]) -> dict[str, int]:
    """Counts what became of some rows in a corpus."""
    decisions = pq.read_table(folder / "decisions.parquet")
    columns = (decisions[name].to_pylist() for name in (ROW_ID, "kept", "reason"))
    reasons = {row: f"kept as {reason}" if kept else reason for row, kept, reason in zip(*columns, strict=True)}
    return dict(Counter(reasons.get(row, "not drawn") for row in row_ids).most_common())
