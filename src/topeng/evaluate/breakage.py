"""What breaks in answers of diffusion models: they are empty, a word of many, never end, repeat themselves, or change
language."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

Line = dict[str, Any]
SHORT = 0.25
"""Share of its reference's letters and digits under which an answer is too short."""


def breakage(lines: Sequence[Line], languages: Sequence[str]) -> dict[str, float | None]:
    """Shares are 0 to 1; None where no answer can be judged.

    Args:
        lines: of `answers.jsonl`.
        languages: that are asked for (ISO 639-1); none: the language of most references.

    Returns:
        `empty`, `too_short`, `at_limit`: shares of answers without text, with too little of it (`too_short`), and
        without an end token. `distinct_2`: mean share of an
        answer's pairs of neighbouring tokens that differ (arXiv 1510.03055). `longest_repeat`: mean over answers that
        have a token, in tokens. `other_language`: see there. `mean_tokens`, `tokens_per_forward_pass`: without ends.
    """
    tokens = [line["token_ids"] for line in lines]  # not words: a model that repeats a letter makes one long word
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
    """Whether an answer that is not empty has under a quarter of its reference's letters and digits."""
    said, wanted = (sum(map(str.isalnum, line[text])) for text in ("answer", "reference"))
    return bool(line["answer"].strip()) and said < SHORT * wanted


def distinct(tokens: Sequence[int], n: int) -> float:
    """Distinct n-grams over all n-grams, of which there must be one."""
    ngrams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
    return len(set(ngrams)) / len(ngrams)


def longest_repeat(tokens: Sequence[int]) -> int:
    """Length of the longest sequence that occurs twice, where the two may overlap: 0 if none does.

    n log² n: stretches of 1, 2, 4, … tokens get numbers, equal ones the same; the answer is put together from those
    powers, greedily, since part of a repeat is a repeat.
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
    """Share of answers in another language than asked, by py3langid, of those that are long enough to be judged.

    An answer of 40 letters is judged. It is in another language where the probability of all the `languages` together
    is under a half, and its likeliest language is not its reference's either.

    Args:
        languages: as in `breakage`.

    Raises:
        CorpusError: one of them is none of py3langid's.
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
    """Numbers of the stretches that are `left` at a place and `right` so many places behind it; equal ones the same."""
    behind = right[gap:]
    return np.unique(left[: len(behind)] * (int(right.max(initial=0)) + 1) + behind, return_inverse=True)[1]


def _repeats(numbers: np.ndarray) -> bool:
    return len(numbers) > 0 and int(numbers.max()) + 1 < len(numbers)


def _mean(values: Any) -> float | None:
    return float(np.mean(values)) if len(values) else None
