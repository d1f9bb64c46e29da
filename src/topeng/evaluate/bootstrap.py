"""Differences between methods, with intervals that allow for seeds, for rows, and for how many are asked for.

A method is a set of trainings, one a seed, all scored on the same rows under the same masks. Another experiment would
have other seeds and other rows, so both are resampled (the pigeonhole bootstrap: Owen, Annals of Applied Statistics 1,
2007): rows once for all methods, which keeps them paired; seeds for each method by itself. Few seeds ask for two
corrections. One fewer is drawn than there are, or the spread would be too narrow by (S - 1) / S (Rao and Wu, JASA 83,
1988). And means of five resampled values have light tails, so that of the bootstrap the standard error alone is taken,
for Student's t with Welch's and Satterthwaite's degrees of freedom. Intervals and p are Bonferroni's: the bootstrap's
correlations would narrow them (max-T), but are estimated from as few seeds.

Shapes: B draws, S seeds, R rows, C contrasts.
"""

from collections.abc import Mapping, Sequence

import numpy as np

DRAWS, CHUNK = 4_000, 500
CONFIDENCE = 0.95

Key = tuple[str, str]
"""A method and a language."""
Figure = dict[str, float | None]
Contrast = tuple[Key, Key | None]
"""What is less what, in one language; None: nothing is taken away."""


def simultaneous(values: Mapping[Key, np.ndarray], contrasts: Sequence[Contrast]) -> list[Figure]:
    """Each contrast's `mean`, `standard_error`, `low` and `high` (95 %, all together), and `p`, adjusted likewise.

    What cannot be known of a single row is None. Of a method with one seed, nothing is known of its seeds: its figures
    speak of rows alone.

    Args:
        values: [S, R] of each method in each language; a method has as many seeds in both, a language as many rows.
    """
    from scipy import stats

    means = np.array([_contrast({key: cells.mean() for key, cells in values.items()}, pair) for pair in contrasts])
    errors = _resampled(values, contrasts).std(axis=1)
    degrees = np.array([_degrees_of_freedom(values, pair) for pair in contrasts])
    half = stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / len(contrasts), degrees) * errors
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = np.nan_to_num(np.abs(means) / errors, nan=0.0, posinf=np.inf)
    p = np.minimum(1, 2 * len(contrasts) * stats.t.sf(observed, degrees))
    known = [values[plus].shape[1] > 1 for plus, _ in contrasts]
    return [_figure(*numbers) for numbers in zip(means, errors, half, p, known, strict=True)]


def _figure(mean: float, error: float, half: float, p: float, known: bool) -> Figure:
    if not known:
        return {"mean": float(mean), "standard_error": None, "low": None, "high": None, "p": None}
    bounds = {"low": float(mean - half), "high": float(mean + half)}
    return {"mean": float(mean), "standard_error": float(error), **bounds, "p": float(p)}


def _resampled(values: Mapping[Key, np.ndarray], contrasts: Sequence[Contrast]) -> np.ndarray:
    """The contrasts [C, B] of draws of seeds and rows."""
    generator = np.random.default_rng(0)
    ordered = sorted(values.items(), key=lambda item: item[0])  # the same draws whatever the order of the methods
    seeds = {method: len(cells) for (method, _), cells in ordered}
    rows = {language: cells.shape[1] for (_, language), cells in ordered}
    drawn = []
    for _ in range(DRAWS // CHUNK):
        of_seeds = {method: _weights(generator, count) for method, count in seeds.items()}
        of_rows = {language: _weights(generator, count) for language, count in rows.items()}
        means = {
            (method, language): np.einsum("bs,sr,br->b", of_seeds[method], cells, of_rows[language], optimize=True)
            for (method, language), cells in values.items()
        }
        drawn.append([_contrast(means, pair) for pair in contrasts])
    return np.concatenate(drawn, axis=1)


def _weights(generator: np.random.Generator, count: int) -> np.ndarray:
    """[CHUNK, count], each row a draw of one fewer than there are; of one there is nothing to draw."""
    if count == 1:
        return np.ones((CHUNK, 1))
    return generator.multinomial(count - 1, np.full(count, 1 / count), size=CHUNK) / (count - 1)


def _contrast(of: Mapping[Key, np.ndarray], pair: Contrast) -> np.ndarray:
    plus, minus = pair
    return of[plus] if minus is None else of[plus] - of[minus]


def _degrees_of_freedom(values: Mapping[Key, np.ndarray], pair: Contrast) -> float:
    """Of the sum of what seeds of either side and what rows add to a contrast's variance."""
    sides = [values[key] for key in pair if key is not None]
    parts = [cells.mean(axis=1) for cells in sides if len(cells) > 1]
    parts.append(_contrast({key: cells.mean(axis=0) for key, cells in values.items()}, pair))
    terms = [(part.var(ddof=1) / len(part), len(part) - 1) for part in parts if len(part) > 1]
    weight = sum(variance**2 / degrees for variance, degrees in terms)
    return sum(variance for variance, _ in terms) ** 2 / weight if weight else 1e6
