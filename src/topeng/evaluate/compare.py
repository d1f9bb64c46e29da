"""Which method is better, by how much, and what each forgot: from scored models to the figures of `scores.json`.

The unit is the method: its trainings differ in their seed alone. Whatever was scored under other conditions is refused.
Shapes: S seeds, R rows, M replicates.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from topeng.diffusion.likelihood import monte_carlo_error
from topeng.errors import RunError
from topeng.evaluate.bootstrap import CONFIDENCE, Figure, Key, simultaneous
from topeng.evaluate.right_answers import MEASURES as RIGHT
from topeng.evaluate.right_answers import difference, right_by_row, right_pairs
from topeng.evaluate.settings import flat
from topeng.evaluate.text_metrics import score_answers, signatures
from topeng.system.lines import Line, read_lines

FORMAT = 3
LANGUAGES = ("target", "source")
BASE = "base"
MEASURES = ("nats_per_token", "bits_per_byte")
SAME_BASE = 0.01
"""Difference in nats per token up to which two bases count as the same: rounding differs between devices."""


@dataclass(frozen=True)
class Scored:
    """The scores of one model in `folder`; `training` is everything that its training depends on except the seed.

    `exact`: they are its likelihoods, and not bounds.
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
        """The scored rows of each language, in the order of their ids."""
        lines = sorted(read_lines(self.folder / "likelihood.jsonl"), key=lambda line: line["row_id"])
        return {language: [line for line in lines if line["language"] == language] for language in LANGUAGES}

    def nats(self, language: str) -> np.ndarray:
        """Nats a row as each replicate estimates them: [R, M]."""
        return np.array([line["nats"] for line in self.likelihood[language]])

    @cached_property
    def answers(self) -> dict[str, list[Line]]:
        """Those of each language."""
        lines = read_lines(self.folder / "answers.jsonl")
        return {language: [line for line in lines if line["language"] == language] for language in LANGUAGES}


Methods = Mapping[str, Sequence[Scored]]


def compare_models(
    folders: Sequence[Path], bertscore_model: str | None = None, device: str | None = None
) -> dict[str, Any]:
    """The figures of `scores.json`.

    Args:
        folders: runs, adapters of runs, or folders that `evaluate` left.
        bertscore_model: encoder for the BERTScore of answers; None: it is not taken.
        device: that the encoder runs on; a GPU if there is one, without it.

    Returns:
        `models`: of `base` and each method, the `names` of its trainings, the likelihood of each language with its
        interval over seeds and rows, and what is measured of its answers. `gain`: base less method on the target
        language; `forgetting`: method less base on the source language; their intervals hold together over the methods.
        Of right answers, which are better the more they are, they are the other way round: what is gained and what is
        lost is above zero. `right_pairs`: how many more are right of one method than of another. `pairs`: of any two
        methods, whether one is better on either language; intervals and p hold together over all of
        them. A pair with a single seed on a side is never `real`, and has no p. `versions`: of libraries of which the
        models were scored with several.

    Raises:
        RunError: a folder was not scored, or two models were scored under other conditions.
        ModelError: `bertscore_model` cannot be loaded.
    """
    scored = _unique([one for folder in folders for one in find_scored(folder)])
    check_conditions(scored)
    methods = by_method(scored)
    values = {measure: values_of(methods, measure) for measure in MEASURES}
    right = {measure: _right(methods, measure) for measure in RIGHT}
    adapted = [name for name in methods if name != BASE]
    conditions = scored[0].conditions
    return {
        "format": FORMAT,
        "conditions": conditions,
        "seeds": {name: [one.seed for one in methods[name]] for name in adapted},
        "models": {
            name: {"names": [one.name for one in trainings]}
            | {language: _likelihood(name, trainings, language, values) for language in LANGUAGES}
            | {"answers": {language: _answers(trainings, language, bertscore_model, device) for language in LANGUAGES}}
            for name, trainings in methods.items()
        },
        "gain": _changes(values, right, [((BASE, "target"), (name, "target")) for name in adapted]),
        "forgetting": _changes(values, right, [((name, "source"), (BASE, "source")) for name in adapted]),
        "pairs": pairs_of(values["nats_per_token"], adapted),
        "right_pairs": right_pairs(right["exact_match"], adapted),
        "exact": [name for name, trainings in methods.items() if all(one.exact for one in trainings)],
        "versions": versions_that_differ(scored),
        "signatures": signatures(),
    }


def versions_that_differ(scored: Sequence[Scored]) -> dict[str, list[str]]:
    """By the name of a library, its versions, where the models were scored with more than one."""
    names = sorted({name for one in scored for name in one.versions})
    found = {name: sorted({one.versions.get(name, "unknown") for one in scored}) for name in names}
    return {name: versions for name, versions in found.items() if len(versions) > 1}


def find_scored(folder: Path) -> list[Scored]:
    """The scored models of a run; of an adapter in it, that one and its base.

    Raises:
        RunError: there is none.
    """
    if (folder / "scored.json").exists():
        found = [folder]
    elif folder.parent.name == "adapters":
        found = [folder.parent.parent / "evaluate" / name for name in (BASE, folder.name)]
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


def _unique(scored: Sequence[Scored]) -> list[Scored]:
    """Each folder once, bases first, as several adapters of a run name the same base."""
    unique = list({one.folder.resolve(): one for one in scored}.values())
    return sorted(unique, key=lambda one: one.method != BASE)


def check_conditions(scored: Sequence[Scored]) -> None:
    """
    Raises:
        RunError: two models were scored on other rows, under other masks or settings, or from other bases; or there is
            no base.
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
    apart = float(np.abs(_per_token(first, language) - _per_token(other, language)).mean())
    if apart > SAME_BASE:
        raise RunError(
            f"{first.folder} and {other.folder} differ by {apart:.3f} nats per token on the {language} rows, so they "
            "are different bases. Gains over different bases cannot be compared."
        )


def by_method(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Trainings that differ in their seed alone, by the method's name, `base` first; where a method was trained in
    several ways, also by the options that tell them apart: `lora adapter.rank=8`.

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
    """A word whole; of another value as much as no other of the values begins with, 12 characters at least."""
    others = {str(value) for value in values} - {str(mine)}
    length = len(str(mine)) if str(mine).isalpha() else 12
    while length < len(str(mine)) and any(other[:length] == str(mine)[:length] for other in others):
        length += 1
    return str(mine)[:length]


def _per_token(scored: Scored, language: str) -> np.ndarray:
    """Nats per token of each row: [R]."""
    tokens = np.array([line["tokens"] for line in scored.likelihood[language]])
    return scored.nats(language).mean(axis=1) / tokens


def _per_byte(scored: Scored, language: str) -> np.ndarray:
    """[R], whose mean is all rows' bits over all rows' bytes, and whose spread is that ratio's (the delta method)."""
    size = np.array([line["bytes"] for line in scored.likelihood[language]])
    bits = scored.nats(language).mean(axis=1) / np.log(2)
    ratio = bits.sum() / max(1, size.sum())
    return ratio + (bits - ratio * size) / max(1e-9, size.mean())


def values_of(methods: Methods, measure: str) -> dict[Key, np.ndarray]:
    """[S, R] of each method in each language."""
    of_row = _per_token if measure == "nats_per_token" else _per_byte
    return {
        (name, language): np.stack([of_row(one, language) for one in trainings])
        for name, trainings in methods.items()
        for language in LANGUAGES
    }


def _likelihood(
    name: str, trainings: Sequence[Scored], language: str, values: Mapping[str, Mapping[Key, np.ndarray]]
) -> dict[str, Any]:
    """`rows`, `tokens`, `bytes`; each measure with its interval; and how much of the error is Monte Carlo's."""
    lines, key = trainings[0].likelihood[language], (name, language)
    tokens = np.array([line["tokens"] for line in lines])
    estimates = np.mean([one.nats(language) for one in trainings], axis=0) / tokens[:, None]
    figures = {
        measure: _without_p(simultaneous({key: cells[key]}, [(key, None)])[0]) for measure, cells in values.items()
    }
    sizes = {"rows": len(lines), "tokens": int(tokens.sum()), "bytes": sum(line["bytes"] for line in lines)}
    error = monte_carlo_error(estimates)["standard_error"] if estimates.shape[1] > 1 else None
    return sizes | figures | {"monte_carlo_error": error}


def _answers(
    trainings: Sequence[Scored], language: str, bertscore_model: str | None, device: str | None
) -> dict[str, Any] | None:
    lines = [line for one in trainings for line in one.answers[language]]
    asked = trainings[0].conditions["languages"] if language == "target" else []
    return score_answers(lines, asked, bertscore_model, device) if lines else None


def _right(methods: Methods, measure: str) -> dict[Key, dict[Any, float]]:
    """The value of each row that has one right answer, over all seeds of a method."""
    return {
        (name, language): right_by_row([line for one in trainings for line in one.answers[language]], measure)
        for name, trainings in methods.items()
        for language in LANGUAGES
    }


def _changes(
    values: Mapping[str, Mapping[Key, np.ndarray]],
    right: Mapping[str, Mapping[Key, Mapping[Any, float]]],
    contrasts: Sequence[tuple[Key, Key]],
) -> dict[str, dict[str, Figure | None]]:
    """Of each method and measure, a change against the base: losses are better low, right answers high."""
    found = {measure: simultaneous(cells, contrasts) if contrasts else [] for measure, cells in values.items()}
    changes: dict[str, dict[str, Figure | None]] = {}
    for place, (plus, minus) in enumerate(contrasts):
        method = minus[0] if plus[0] == BASE else plus[0]
        changes[method] = {measure: _without_p(figures[place]) for measure, figures in found.items()}
        changes[method] |= {
            measure: difference(rows[minus], rows[plus], len(contrasts)) for measure, rows in right.items()
        }
    return changes


def pairs_of(values: Mapping[Key, np.ndarray], names: Sequence[str]) -> list[dict[str, Any]]:
    """For every pair of methods and both languages, whether one is better."""
    asked = [(a, b, language) for language in LANGUAGES for a, b in combinations(names, 2)]
    figures = simultaneous(values, [((a, language), (b, language)) for a, b, language in asked]) if asked else []
    pairs = []
    for (a, b, language), figure in zip(asked, figures, strict=True):
        seeded = min(len(values[a, language]), len(values[b, language])) > 1
        p = figure["p"] if seeded else None
        pair = {"a": a, "b": b, "language": language, "measure": MEASURES[0], "difference": _without_p(figure)}
        pairs.append(pair | {"p": p, "seeded": seeded, "real": p is not None and p < 1 - CONFIDENCE})
    return pairs


def _without_p(figure: Figure) -> Figure:
    return {name: value for name, value in figure.items() if name != "p"}
