"""Which method is better, by how much, and what each forgot: from scored models to the figures of `scores.json`.

The unit is the method: its trainings differ in their seed alone.
Shapes: S seeds, R rows, M replicates.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from topeng.diffusion.likelihood import monte_carlo_error
from topeng.evaluate.bootstrap import CONFIDENCE, Figure, Key, simultaneous
from topeng.evaluate.comparable import (
    BASE,
    LANGUAGES,
    Scored,
    by_method,
    check_conditions,
    find_scored,
    unique,
    versions_that_differ,
)
from topeng.evaluate.right_answers import MEASURES as RIGHT
from topeng.evaluate.right_answers import difference, right_by_row, right_pairs
from topeng.evaluate.text_metrics import score_answers, signatures

FORMAT = 3
MEASURES = ("nats_per_token", "bits_per_byte")

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
    scored = unique([one for folder in folders for one in find_scored(folder)])
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


def _per_byte(scored: Scored, language: str) -> np.ndarray:
    """[R], whose mean is all rows' bits over all rows' bytes, and whose spread is that ratio's (the delta method)."""
    size = np.array([line["bytes"] for line in scored.likelihood[language]])
    bits = scored.nats(language).mean(axis=1) / np.log(2)
    ratio = bits.sum() / max(1, size.sum())
    return ratio + (bits - ratio * size) / max(1e-9, size.mean())


def values_of(methods: Methods, measure: str) -> dict[Key, np.ndarray]:
    """[S, R] of each method in each language."""
    of_row = Scored.per_token if measure == "nats_per_token" else _per_byte
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
