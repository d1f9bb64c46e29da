"""Computes the figures of `scores.json` from scored models: which method is better, by how much, and what each forgot.

Methods are compared, whose trainings only differ in their seed.
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
        folders: runs, adapters of runs, or folders that `evaluate` wrote.
        bertscore_model: encoder for the BERTScore of answers, or None to omit it.
        device: device of the encoder, by default a GPU if there is one.

    Returns:
        `models`: for `base` and each method, the `names` of its trainings, the likelihood of each language with its
        interval over seeds and rows, and the measures of its answers. `gain`: base minus method on the target language.
        `forgetting`: method minus base on the source language. Their intervals are simultaneous over the methods. For
        right answers the signs are reversed, because more are better, so that gains and losses are above zero.
        `right_pairs`: how many more answers of one method are right than of another. `pairs`: for any two methods,
        whether one is better on either language, with intervals and p that are simultaneous over all pairs. A pair with
        a single seed on one side is never `real`, and has no p. `versions`: versions of libraries that differ.

    Raises:
        RunError: a folder was not scored, or two models were scored under different conditions.
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
    """Values [R] whose mean is all bits divided by all bytes, with the spread of that ratio (the delta method)."""
    size = np.array([line["bytes"] for line in scored.likelihood[language]])
    bits = scored.nats(language).mean(axis=1) / np.log(2)
    ratio = bits.sum() / max(1, size.sum())
    return ratio + (bits - ratio * size) / max(1e-9, size.mean())


def values_of(methods: Methods, measure: str) -> dict[Key, np.ndarray]:
    """Values [S, R] of each method in each language."""
    of_row = Scored.per_token if measure == "nats_per_token" else _per_byte
    return {
        (name, language): np.stack([of_row(one, language) for one in trainings])
        for name, trainings in methods.items()
        for language in LANGUAGES
    }


def _likelihood(
    name: str, trainings: Sequence[Scored], language: str, values: Mapping[str, Mapping[Key, np.ndarray]]
) -> dict[str, Any]:
    """`rows`, `tokens`, `bytes`, each measure with its interval, and the Monte Carlo part of the error."""
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
    """The value of each row with one right answer, over all seeds of a method."""
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
    """The change from the base for each method and measure. Low losses and many right answers are better."""
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
