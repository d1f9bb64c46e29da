"""Differences between methods, with intervals that allow for seeds, for rows, and for the number of comparisons.

A method is a set of trainings, one per seed, which are all scored on the same rows under the same masks. Another
experiment would have other seeds and other rows, so both are resampled (the pigeonhole bootstrap: Owen, Annals of
Applied Statistics 1, 2007). Rows are resampled together for all methods, which keeps them paired, and seeds separately
for each method. Few seeds require two corrections. First, one fewer is drawn than there are, because the spread would
otherwise be too narrow by (S - 1) / S (Rao and Wu, JASA 83, 1988). Second, means of five resampled values have light
tails, so only the standard error is taken from the bootstrap, and the interval uses Student's t with the degrees of
freedom of Welch and Satterthwaite. Intervals and p are corrected by Bonferroni's method. The correlations of the
bootstrap (max-T) would narrow them, but they are estimated from the same few seeds.

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
"""A method in one language, minus another, or minus nothing if it is None."""


def simultaneous(values: Mapping[Key, np.ndarray], contrasts: Sequence[Contrast]) -> list[Figure]:
    """`mean`, `standard_error`, `low`, `high` (95 % simultaneously) and adjusted `p` of each contrast.

    Values that cannot be known from a single row are None. With one seed, figures only allow for the choice of rows.

    Args:
        values: [S, R] for each method and language. A method has the same seeds in both languages, and a language the
            same rows for all methods.
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
    ordered = sorted(values.items(), key=lambda item: item[0])  # draws do not depend on the order of the methods
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
    """Resampling weights [CHUNK, count]. One fewer is drawn than there are, unless there is only one."""
    if count == 1:
        return np.ones((CHUNK, 1))
    return generator.multinomial(count - 1, np.full(count, 1 / count), size=CHUNK) / (count - 1)


def _contrast(of: Mapping[Key, np.ndarray], pair: Contrast) -> np.ndarray:
    plus, minus = pair
    return of[plus] if minus is None else of[plus] - of[minus]


def _degrees_of_freedom(values: Mapping[Key, np.ndarray], pair: Contrast) -> float:
    """Degrees of freedom of the sum of the variances from the seeds of both sides and from the rows."""
    sides = [values[key] for key in pair if key is not None]
    parts = [cells.mean(axis=1) for cells in sides if len(cells) > 1]
    parts.append(_contrast({key: cells.mean(axis=0) for key, cells in values.items()}, pair))
    terms = [(part.var(ddof=1) / len(part), len(part) - 1) for part in parts if len(part) > 1]
    weight = sum(variance**2 / degrees for variance, degrees in terms)
    return sum(variance for variance, _ in terms) ** 2 / weight if weight else 1e6
