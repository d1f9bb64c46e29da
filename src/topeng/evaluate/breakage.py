"""Typical failures of diffusion models: empty, too short, endless or repetitive answers, and other languages."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

Line = dict[str, Any]
SHORT = 0.25
"""An answer with a lower share of the letters and digits of its reference is too short."""


def breakage(lines: Sequence[Line], languages: Sequence[str]) -> dict[str, float | None]:
    """Measures of failures. Shares are between 0 and 1, or None if no answer can be judged.

    Args:
        lines: lines of `answers.jsonl`.
        languages: expected languages (ISO 639-1). If empty, the language of most references.

    Returns:
        `empty`, `too_short`, `at_limit`: shares of answers without text, with too little text, and without an end
        token.
        `distinct_2`: mean share of distinct pairs of neighbouring tokens in an answer (arXiv 1510.03055).
        `longest_repeat`: mean over answers with tokens, in tokens. `other_language`: see `other_language`.
        `mean_tokens`, `tokens_per_forward_pass`: without end tokens.
    """
    tokens = [line["token_ids"] for line in lines]  # tokens, because a model that repeats a letter writes one long word
    lengths = [len(answer) for answer in tokens]
    return {
        "empty": _mean([not line["answer"].strip() for line in lines]),
        "too_short": _mean([too_short(line) for line in lines]),
        "at_limit": _mean([not line["ended"] for line in lines]),
        "distinct_2": _mean([distinct(answer, 2) for answer in tokens if len(answer) > 1]),
        "longest_repeat": _mean([longest_repeat(answer) for answer in tokens if answer]),
        "other_language": other_language(lines, languages),
        "mean_tokens": _mean(lengths),
        "tokens_per_forward_pass": sum(lengths) / max(1, sum(line["forward_passes"] for line in lines)),
    }


def too_short(line: Line) -> bool:
    """Whether an answer is not empty, but has less than a quarter of the letters and digits of its reference."""
    said, wanted = (sum(map(str.isalnum, line[text])) for text in ("answer", "reference"))
    return bool(line["answer"].strip()) and said < SHORT * wanted


def distinct(tokens: Sequence[int], n: int) -> float:
    """The share of distinct n-grams. There must be at least one n-gram."""
    ngrams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
    return len(set(ngrams)) / len(ngrams)


def longest_repeat(tokens: Sequence[int]) -> int:
    """Length of the longest sequence that occurs twice, possibly overlapping, or 0 if there is none.

    Takes n log² n: equal stretches of 1, 2, 4, … tokens get equal numbers. The length is composed greedily of these
    powers, because a part of a repeated sequence is also repeated.
    """
    powers = [np.unique(list(tokens), return_inverse=True)[1]]
    while _repeats(powers[-1]):
        powers.append(_join(powers[-1], powers[-1], 2 ** (len(powers) - 1)))
    length, known = 0, np.zeros(len(tokens), np.int64)
    for exponent in reversed(range(len(powers) - 1)):
        longer = _join(known, powers[exponent], length)
        if _repeats(longer):
            length, known = length + 2**exponent, longer
    return length


def other_language(lines: Sequence[Line], languages: Sequence[str]) -> float | None:
    """The share of answers in an unexpected language according to py3langid, out of those that are long enough.

    Answers of 40 letters or more are judged. An answer is in another language if all `languages` together have a
    probability of less than a half, and its most likely language is not that of its reference.

    Args:
        languages: as in `breakage`.

    Raises:
        CorpusError: py3langid does not know one of them.
    """
    from topeng.corpus.language import ANSWER_LETTERS, SPOKEN, UNDETERMINED, identify

    references, _ = identify([line["reference"] for line in lines], [])
    known = Counter(language for language in references.tolist() if language != UNDETERMINED)
    accepted = list(languages) or [language for language, _ in known.most_common(1)]
    judged = [place for place, line in enumerate(lines) if ANSWER_LETTERS.match(line["answer"])]
    if not accepted:
        return None
    answered, probability = identify([lines[place]["answer"] for place in judged], accepted)
    return _mean((probability < SPOKEN) & (answered != references[judged]))


def _join(left: np.ndarray, right: np.ndarray, gap: int) -> np.ndarray:
    """Numbers of stretches with `left` at a place and `right` a fixed distance later. Equal ones get equal numbers."""
    behind = right[gap:]
    return np.unique(left[: len(behind)] * (int(right.max(initial=0)) + 1) + behind, return_inverse=True)[1]


def _repeats(numbers: np.ndarray) -> bool:
    return len(numbers) > 0 and int(numbers.max()) + 1 < len(numbers)


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None
