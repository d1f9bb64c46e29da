"""Scored models: those in a folder, whether they can be compared, and which of them belong to the same method.

Models that were scored under different conditions are refused. Shapes: R rows, M replicates.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from topeng.errors import RunError
from topeng.evaluate.settings import flat
from topeng.system.lines import Line, read_lines

LANGUAGES = ("target", "source")
BASE = "base"
SAME_BASE = 0.01
"""Largest difference of the same base in nats per token, because rounding differs between devices."""


@dataclass(frozen=True)
class Scored:
    """The scores of one model in `folder`.

    `training` is everything that its training depends on except the seed. `exact` says that the scores are likelihoods
    instead of bounds.
    """

    folder: Path
    name: str
    method: str
    seed: int | None
    training: dict[str, Any]
    conditions: dict[str, Any]
    dropped: dict[str, int] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    exact: bool = False

    @cached_property
    def likelihood(self) -> dict[str, list[Line]]:
        """The scored rows of each language, ordered by id."""
        lines = sorted(read_lines(self.folder / "likelihood.jsonl"), key=lambda line: line["row_id"])
        return {language: [line for line in lines if line["language"] == language] for language in LANGUAGES}

    def nats(self, language: str) -> np.ndarray:
        """Nats of each row as estimated by each replicate: [R, M]."""
        return np.array([line["nats"] for line in self.likelihood[language]])

    @cached_property
    def answers(self) -> dict[str, list[Line]]:
        """The answers of each language."""
        lines = read_lines(self.folder / "answers.jsonl")
        return {language: [line for line in lines if line["language"] == language] for language in LANGUAGES}

    def per_token(self, language: str) -> np.ndarray:
        """Nats per token of each row: [R]."""
        tokens = np.array([line["tokens"] for line in self.likelihood[language]])
        return self.nats(language).mean(axis=1) / tokens


def find_scored(folder: Path) -> list[Scored]:
    """The scored models of a run or, for an adapter in it, this adapter and its base.

    Raises:
        RunError: there are none.
    """
    if (folder / "scored.json").exists():
        found = [folder]
    elif folder.parent.name == "adapters":
        found = [folder.parent.parent / "evaluate" / name for name in (BASE, folder.name)]
    elif not folder.exists():
        raise RunError(f"there is neither a run folder nor a recipe {folder}")
    else:
        found = sorted((folder / "evaluate").glob("*/"))
    if not found or not all((one / "scored.json").exists() for one in found):
        raise RunError(
            f"{folder} has no scores. Name a run folder, or an adapter in one (RUN/adapters/NAME), that `topeng "
            "evaluate` has scored."
        )
    return [_read_scored(one) for one in found]


def _read_scored(folder: Path) -> Scored:
    try:
        return Scored(folder, **json.loads((folder / "scored.json").read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise RunError(f"{folder / 'scored.json'} cannot be read ({error}). Run `topeng evaluate` again.") from error


def unique(scored: Sequence[Scored]) -> list[Scored]:
    """Each folder once, bases first, because several adapters of a run have the same base."""
    unique = list({one.folder.resolve(): one for one in scored}.values())
    return sorted(unique, key=lambda one: one.method != BASE)


def check_conditions(scored: Sequence[Scored]) -> None:
    """
    Raises:
        RunError: two models were scored on different rows, under different masks or settings, or with different bases,
            or there is no base.
    """
    first = scored[0]
    if first.method != BASE:
        raise RunError(f"the base of {first.folder} was not scored, but gain and forgetting are measured against it")
    for other in scored[1:]:
        names = sorted({**first.conditions, **other.conditions})
        differ = [name for name in names if first.conditions.get(name) != other.conditions.get(name)]
        if differ:
            told = "; ".join(f"{name} = {_short(first, name)} and {_short(other, name)}" for name in differ)
            raise RunError(
                f"{first.folder} and {other.folder} were scored under different conditions and cannot be compared: "
                f"{told}. Evaluate both with the same recipe."
            )
        for language in LANGUAGES:
            _check_rows(first, other, language)


def _short(scored: Scored, name: str) -> str:
    text = str(scored.conditions.get(name, "(not said)"))
    return text[:12] + "…" if len(text) == 64 else text  # a digest


def _check_rows(first: Scored, other: Scored, language: str) -> None:
    known, found = ([(line["row_id"], line["tokens"]) for line in one.likelihood[language]] for one in (first, other))
    if known != found:
        raise RunError(
            f"{first.folder} and {other.folder} were scored on different {language} rows. Evaluate both with the same "
            "recipe."
        )
    if other.method != BASE:
        return
    apart = float(np.abs(first.per_token(language) - other.per_token(language)).mean())
    if apart > SAME_BASE:
        raise RunError(
            f"{first.folder} and {other.folder} differ by {apart:.3f} nats per token on the {language} rows, so they "
            "are different bases. Gains over different bases cannot be compared."
        )


def by_method(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Groups trainings that only differ in their seed by the name of the method, `base` first. If a method was trained
    in several ways, the name includes the options that differ, such as `lora adapter.rank=8`.

    Raises:
        RunError: a seed occurs twice.
    """
    groups: dict[str, list[Scored]] = {}
    for one in [scored[0], *(one for one in scored if one.method != BASE)]:
        groups.setdefault(json.dumps([one.method, flat(one.training)], sort_keys=True), []).append(one)
    named = {}
    for trainings in groups.values():
        method = trainings[0].method
        ways = [flat(others[0].training) for others in groups.values() if others[0].method == method]
        mine = flat(trainings[0].training)
        apart = sorted(
            key for key in {key for way in ways for key in way} if any(w.get(key) != mine.get(key) for w in ways)
        )
        seeds = [one.seed for one in trainings]
        if len(set(seeds)) < len(seeds):
            raise RunError(
                f"{method} was given twice with the same seed of {seeds}. Name only one of "
                f"{[str(o.folder) for o in trainings]}."
            )
        told = [f"{key}={_told([way.get(key) for way in ways], mine[key])}" for key in apart if key in mine]
        named[" ".join([method, *told])] = trainings
    return named


def _told(values: Sequence[Any], mine: Any) -> str:
    """A word as a whole, or the shortest distinguishing beginning of another value, with at least 12 characters."""
    others = {str(value) for value in values} - {str(mine)}
    length = len(str(mine)) if str(mine).isalpha() else 12
    while length < len(str(mine)) and any(other[:length] == str(mine)[:length] for other in others):
        length += 1
    return str(mine)[:length]


def versions_that_differ(scored: Sequence[Scored]) -> dict[str, list[str]]:
    """The versions of each library with which the models were scored, if there are several."""
    names = sorted({name for one in scored for name in one.versions})
    found = {name: sorted({one.versions.get(name, "unknown") for one in scored}) for name in names}
    return {name: versions for name, versions in found.items() if len(versions) > 1}
