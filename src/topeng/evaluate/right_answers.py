"""Right answers: which answers are as their reference, how many are, and how many more or fewer than another model's.

Only rows that have one right answer are judged. Shapes: R rows; a row's value is the mean over its answers (seeds).
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
"""The figures of `scores.json`, and the values of a line of `answers.jsonl` that they are means of."""
DROPPED = ("P", "Sm", "Sc", "Sk", "Cf")
"""Unicode's categories of ASCII punctuation, and characters without a shape."""


def normalised(text: str) -> str:
    """As in SQuAD (arXiv 1606.05250): without case, punctuation and superfluous white space, in any script.

    English articles stay, as they mean something else, or nothing, in other languages. A text of nothing but
    punctuation keeps it: an empty answer is not as the reference "?".
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = "".join(letter for letter in folded if not unicodedata.category(letter).startswith(DROPPED))
    return " ".join(kept.split()) or " ".join(folded.split())


def exact_match(answer: str, reference: str) -> bool:
    """Whether they are the same once normalised."""
    return normalised(answer) == normalised(reference)


def token_f1(answer: str, reference: str) -> float:
    """2 PR / (P + R) of the words that both have, as often as both have them, once normalised."""
    said, wanted = normalised(answer).split(), normalised(reference).split()
    shared = (Counter(said) & Counter(wanted)).total()
    return 2 * shared / (len(said) + len(wanted)) if said or wanted else 1.0


def judged(answer: str, reference: str, one_right_answer: bool) -> dict[str, Any]:
    """`right` and `f1` of a line of `answers.jsonl`, null where the row has no single right answer."""
    if not one_right_answer:
        return {"right": None, "f1": None}
    return {"right": exact_match(answer, reference), "f1": token_f1(answer, reference)}


def right_by_row(lines: Sequence[Line], measure: str) -> dict[Any, float]:
    """Of each row that is judged, the mean over its answers."""
    values: dict[Any, list[float]] = {}
    for line in lines:
        if line.get(MEASURES[measure]) is not None:
            values.setdefault(line["row_id"], []).append(line[MEASURES[measure]])
    return {row: float(np.mean(of_row)) for row, of_row in values.items()}


def share_right(lines: Sequence[Line]) -> dict[str, Any]:
    """`judged`, the rows with one right answer; `exact_match` and `f1` (0 to 1, means over these rows) with `_low` and
    `_high`, a 95 % interval; None where no row is judged."""
    found: dict[str, Any] = {}
    for measure in MEASURES:
        values = list(right_by_row(lines, measure).values())
        mean = float(np.mean(values)) if values else None
        low, high = (None, None) if mean is None else wilson(mean, len(values))
        found |= {"judged": len(values), measure: mean, f"{measure}_low": low, f"{measure}_high": high}
    return found


def wilson(mean: float, rows: int, comparisons: int = 1) -> tuple[float, float]:
    """The interval of a share of rows (Wilson, JASA 22, 1927), which is no point where none or all are right.

    Values between 0 and 1, such as F1 or the mean over several seeds, vary less than a share of the same mean: their
    interval is never too narrow.
    """
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / comparisons)
    middle = (mean + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * (mean * (1 - mean) / rows + z * z / (4 * rows * rows)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def difference(
    plus: Mapping[Any, float], minus: Mapping[Any, float], comparisons: int = 1
) -> dict[str, float | None] | None:
    """`mean`, `low` and `high` of one model's shares less another's, paired by row; None where they share no row.

    Newcombe's interval of paired shares (Statistics in Medicine 17, 1998, method 10, without its continuity
    correction), made of Wilson's: a bootstrap would be a point where every row changes alike.

    Args:
        comparisons: that hold together (Bonferroni).
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
    """Every two methods in both languages: how many more answers of one are right; intervals hold together."""
    languages = [language for name, language in right if name == names[0] and right[name, language]] if names else []
    asked = [(a, b, language) for language in languages for a, b in combinations(names, 2)]
    return [
        {"a": a, "b": b, "language": language, "measure": "exact_match"}
        | {"difference": difference(right[a, language], right[b, language], len(asked))}
        for a, b, language in asked
    ]
