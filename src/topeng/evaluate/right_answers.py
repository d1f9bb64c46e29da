"""Right answers: which answers equal their reference, how many, and the difference between two models.

Only rows with one right answer are judged. Shapes: R rows. The value of a row is the mean over its answers (seeds).
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np

from topeng.evaluate.bootstrap import CONFIDENCE
from topeng.system.lines import Line

MEASURES = {"exact_match": "right", "f1": "f1"}
"""Figures of `scores.json`, and the values in a line of `answers.jsonl` of which they are means."""
DROPPED = ("P", "Sm", "Sc", "Sk", "Cf")
"""Unicode categories of ASCII punctuation and of invisible characters."""


def normalised(text: str) -> str:
    """Normalises a text in any script as in SQuAD (arXiv 1606.05250): no case, punctuation or superfluous white space.

    English articles are kept, because they are different words in other languages. A text that is only punctuation
    keeps it, so that an empty answer does not equal the reference "?".
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(letter for letter in folded if not unicodedata.category(letter).startswith(DROPPED))
    return " ".join(kept.split()) or " ".join(folded.split())


def exact_match(answer: str, reference: str) -> bool:
    """Whether two texts are equal after normalisation."""
    return normalised(answer) == normalised(reference)


def token_f1(answer: str, reference: str) -> float:
    """2 PR / (P + R) of the words that two texts share after normalisation, counted as often as in both."""
    said, wanted = normalised(answer).split(), normalised(reference).split()
    shared = (Counter(said) & Counter(wanted)).total()
    return 2 * shared / (len(said) + len(wanted)) if said or wanted else 1.0


def judged(answer: str, reference: str, one_right_answer: bool) -> dict[str, Any]:
    """`right` and `f1` of a line of `answers.jsonl`, or null if the row has no single right answer."""
    if not one_right_answer:
        return {"right": None, "f1": None}
    return {"right": exact_match(answer, reference), "f1": token_f1(answer, reference)}


def right_by_row(lines: Sequence[Line], measure: str) -> dict[Any, float]:
    """The mean over the answers of each judged row."""
    values: dict[Any, list[float]] = {}
    for line in lines:
        if line.get(MEASURES[measure]) is not None:
            values.setdefault(line["row_id"], []).append(line[MEASURES[measure]])
    return {row: float(np.mean(of_row)) for row, of_row in values.items()}


def share_right(lines: Sequence[Line]) -> dict[str, Any]:
    """`judged`, the number of rows with one right answer; `exact_match` and `f1` (0 to 1, means over these rows), with
    a 95 % interval from `_low` to `_high`. They are None if no row is judged."""
    found: dict[str, Any] = {}
    for measure in MEASURES:
        values = list(right_by_row(lines, measure).values())
        mean = float(np.mean(values)) if values else None
        low, high = (None, None) if mean is None else wilson(mean, len(values))
        found |= {"judged": len(values), measure: mean, f"{measure}_low": low, f"{measure}_high": high}
    return found


def wilson(mean: float, rows: int, comparisons: int = 1) -> tuple[float, float]:
    """The interval of a share of rows (Wilson, JASA 22, 1927), which is not a point if none or all are right.

    Values between 0 and 1, such as F1 or the mean over several seeds, vary less than a share with the same mean, so
    that their interval is never too narrow.
    """
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / comparisons)
    middle = (mean + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * (mean * (1 - mean) / rows + z * z / (4 * rows * rows)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(
    plus: Mapping[Any, float], minus: Mapping[Any, float], comparisons: int = 1
) -> dict[str, float | None] | None:
    """`mean`, `low` and `high` of one model's shares minus another's, paired by row, or None if they share no row.

    Uses Newcombe's interval of paired shares (Statistics in Medicine 17, 1998, method 10, without its continuity
    correction), which is based on Wilson's. A bootstrap would give a point if every row changes alike.

    Args:
        comparisons: number of simultaneous comparisons (Bonferroni).
    """
    rows = [row for row in plus if row in minus]
    if not rows:
        return None
    a, b = np.array([plus[row] for row in rows]), np.array([minus[row] for row in rows])
    (a_low, a_high), (b_low, b_high) = (wilson(float(one.mean()), len(rows), comparisons) for one in (a, b))
    varied = a.std() > 0 and b.std() > 0
    together = float(np.corrcoef(a, b)[0, 1]) if varied else 0.0
    mean = float(a.mean() - b.mean())
    below, above = (a.mean() - a_low, b_high - b.mean()), (a_high - a.mean(), b.mean() - b_low)
    low, high = (float(np.sqrt(max(0.0, x * x - 2 * together * x * y + y * y))) for x, y in (below, above))
    return {"rows": len(rows), "mean": mean, "low": max(-1.0, mean - low), "high": min(1.0, mean + high)}


def right_pairs(right: Mapping[tuple[str, str], Mapping[Any, float]], names: Sequence[str]) -> list[dict[str, Any]]:
    """How many more answers of one method are right than of another, for all pairs, with simultaneous intervals."""
    languages = [language for name, language in right if name == names[0] and right[name, language]] if names else []
    asked = [(a, b, language) for language in languages for a, b in combinations(names, 2)]
    return [
        {"a": a, "b": b, "language": language, "measure": "exact_match"}
        | {"difference": difference(right[a, language], right[b, language], len(asked))}
        for a, b, language in asked
    ]
