"""The words of the report in English or Indonesian, and numbers in the format of each language.

The texts are in `wording.yaml`. Every format accepts all values of JSON, including NaN and null, and shows a dash for
what is not a finite number.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from topeng.adapt.settings import METHODS

LANGUAGES = ("en", "id")
DASH, MINUS, SPACE = "\N{EM DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
TEXTS: dict[str, list[str]] = yaml.safe_load((Path(__file__).parent / "wording.yaml").read_text(encoding="utf-8"))
LANGUAGE_NAMES: dict[str, list[str]] = yaml.safe_load(
    (Path(__file__).parent / "languages.yaml").read_text(encoding="utf-8")
)
UNITS = {"en": ("s", "min", "h"), "id": ("dtk", "mnt", "j")}
COMMAS = str.maketrans(",.", ".,")


def finite(value: Any) -> float | None:
    """The value as a float, or None if it is not a finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


class Wording:
    """Texts and numbers in one language."""

    FORMS = (
        "count",
        "decimal",
        "signed",
        "percent",
        "points",
        "whole",
        "duration",
        "memory",
        "interval",
        "probability",
        "label",
    )

    def __init__(self, language: str = "en") -> None:
        """
        Args:
            language: `en` or `id`.
        """
        self.language = language
        place = LANGUAGES.index(language)
        self.texts = {key: texts[place] for key, texts in TEXTS.items()}

    def __call__(self, key: str, **values: Any) -> str:
        """A text with its gaps filled in."""
        return self.texts[key].format(**values)

    def label(self, model: str) -> str:
        """The name of a method as its paper writes it, with its distinguishing options, or a word for the base."""
        if model == "base":
            return self("base")
        method, _, way = model.partition(" ")
        return " ".join(filter(None, (METHODS[method].label if method in METHODS else method, way)))

    def listed(self, items: Sequence[str]) -> str:
        """a, b and c; in Indonesian a, b, dan c."""
        *most, last = items
        comma = "," if self.language == "id" and len(most) > 1 else ""
        return f"{', '.join(most)}{comma} {self('and')} {last}" if most else last

    def count(self, value: Any) -> str:
        """1000 -> 1,000; in Indonesian 1.000."""
        number = finite(value)
        return DASH if number is None else self._points(f"{number:,.0f}")

    def decimal(self, value: Any, digits: int = 3) -> str:
        """A number with a proper minus sign and the decimals of its column."""
        number = finite(value)
        return DASH if number is None else self._points(f"{number:,.{digits}f}".replace("-", MINUS))

    def signed(self, value: Any, digits: int = 3) -> str:
        """A decimal, with a plus sign if it is positive."""
        number = finite(value)
        return ("+" if number is not None and number > 0 else "") + self.decimal(value, digits)

    def interval(self, figure: Mapping[str, Any] | None, digits: int = 3) -> str:
        """The bounds of a figure of `scores.json`, such as 3.610 … 3.812, or nothing if they are not known."""
        low, high = finite((figure or {}).get("low")), finite((figure or {}).get("high"))
        return "" if low is None or high is None else f"{self.decimal(low, digits)} … {self.decimal(high, digits)}"

    def probability(self, value: Any) -> str:
        """0.0004 -> < 0.001."""
        number = finite(value)
        return f"< {self.decimal(0.001)}" if number is not None and number < 0.001 else self.decimal(value)

    def percent(self, share: Any, digits: int = 2) -> str:
        """A share with two significant digits and without exponents: 0.00078 -> 0.078 %, 0.25 -> 25 %."""
        number = finite(share)
        if number is None:
            return DASH
        magnitude = math.floor(math.log10(abs(number) * 100)) if number else 1
        space = SPACE if self.language == "en" else ""
        return f"{self.decimal(number * 100, max(0, digits - 1 - magnitude))}{space}%"

    def whole(self, share: Any) -> str:
        """A share in whole percent: 0.714 -> 71 %."""
        number = finite(share)
        return DASH if number is None else f"{self.decimal(100 * number, 0)}{SPACE if self.language == 'en' else ''}%"

    def points(self, share: Any) -> str:
        """A change of a share in whole percentage points: 0.524 -> +52, -0.03 -> −3."""
        number = finite(share)
        return DASH if number is None else self.signed(round(100 * number) + 0.0, 0)

    def duration(self, seconds: Any) -> str:
        """12.34 -> 12.3 s; 200 -> 3 min 20 s; 7500 -> 2 h 5 min."""
        number = finite(seconds)
        if number is None:
            return DASH
        second, minute, hour = UNITS[self.language]
        if number < 60:
            return f"{self.decimal(number, 1)} {second}"
        minutes = round(number) // 60
        if minutes < 60:
            return f"{minutes} {minute} {round(number) % 60} {second}"
        return f"{self.count(minutes // 60)} {hour} {minutes % 60} {minute}"

    def memory(self, size: Any) -> str:
        """Bytes in decimal units: 410000000 -> 410 MB."""
        number = finite(size)
        if number is None:
            return DASH
        return f"{self.decimal(number / 1e9, 1)} GB" if number >= 1e9 else f"{self.count(number / 1e6)} MB"

    def _points(self, number: str) -> str:
        return number.translate(COMMAS) if self.language == "id" else number


def summary(words: Wording, kept: Mapping[str, Any], models: list[dict[str, Any]]) -> str:
    """The run in one paragraph of plain language.

    Args:
        kept: source_rows, kept_rows and kept_share from the funnel.
        models: rows of the comparison, sorted by held-out loss.
    """
    source, rows = words.count(kept["source_rows"]), words.count(kept["kept_rows"])
    sentences = [words("kept_sentence", source=source, kept=rows, share=words.percent(kept["kept_share"]))]
    best = best_adapter(models)
    if best:
        sentences += [_gain(words, best, len(models) > 2), _cost(words, best)]
        if words.interval(best["gain"]) or words.interval(best["forgetting"]):
            sentences.append(words("intervals_sentence"))
    return " ".join(sentence for sentence in sentences if sentence)


def pair_sentences(words: Wording, pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences that say which methods are better than others, and for which no difference was or can be shown."""
    seeded = [pair for pair in pairs if pair["seeded"]]
    languages = dict.fromkeys(pair["language"] for pair in seeded)
    sentences = []
    for language in languages:
        found = [pair for pair in seeded if pair["language"] == language]
        sentences += _real(words, language, [pair for pair in found if pair["real"]])
        unclear = _alike([(pair["a"], pair["b"]) for pair in found if not pair["real"]])
        if unclear:
            groups = "; ".join(_any_two(words, group) for group in unclear)
            sentences.append(words("pairs_unclear", language=words(f"on_{language}"), groups=groups))
    once = dict.fromkeys(words.label(pair[side]) for pair in pairs if not pair["seeded"] for side in ("a", "b"))
    return sentences + ([words("pairs_once", models=words.listed(list(once)))] if once else [])


def _real(words: Wording, language: str, pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence, beginning with the method that is better than most."""
    others: dict[str, list[str]] = {}
    for pair in pairs:
        better, other = better_of(pair)
        by = words("pair_by", model=words.label(other), change=words.decimal(abs(pair["difference"]["mean"])))
        others.setdefault(better, []).append(by)
    clauses = [
        words("pair_better", better=words.label(better), others=words.listed(others[better]))
        for better in sorted(others, key=lambda name: -len(others[name]))
    ]
    return [words("pairs_real", language=words(f"on_{language}"), clauses="; ".join(clauses))] if clauses else []


def _alike(pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The largest groups in which any two form a pair, which say the same as the pairs in fewer words.

    Uses insert and absorb (Piepho 2004), the algorithm for letter displays in tables.
    """
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    groups = {frozenset(names)} if names else set()
    for pair in map(frozenset, combinations(names, 2)):
        if pair not in map(frozenset, pairs):
            split = {group - {name} if pair <= group else group for group in groups for name in pair}
            groups = {group for group in split if not any(group < other for other in split)}
    return sorted(
        ([name for name in names if name in group] for group in groups), key=lambda group: (-len(group), group)
    )


def _any_two(words: Wording, names: Sequence[str]) -> str:
    models = words.listed([words.label(name) for name in names])
    return words("any_two", models=models) if len(names) > 2 else models


def best_adapter(models: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first row that is an adapter with a held-out loss."""
    adapters = [model for model in models if model["name"] != "base"]
    return next((model for model in adapters if mean(model["target"].get("nats_per_token")) is not None), None)


def mean(figure: Mapping[str, Any] | None) -> float | None:
    """The mean of a figure of `scores.json`."""
    return finite((figure or {}).get("mean"))


def bounds(figure: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """The bounds of a figure of `scores.json`, if both are known."""
    low, high = finite((figure or {}).get("low")), finite((figure or {}).get("high"))
    return None if low is None or high is None else (low, high)


def better_of(pair: Mapping[str, Any]) -> tuple[str, str]:
    """The method of a pair with the lower loss, and the other."""
    return (pair["a"], pair["b"]) if pair["difference"]["mean"] < 0 else (pair["b"], pair["a"])


def _gain(words: Wording, model: Mapping[str, Any], many: bool) -> str:
    loss = words.decimal(mean(model["target"]["nats_per_token"]), 2)
    key = "best_sentence" if many else "only_sentence"
    perplexity = words.count(math.exp(min(700, mean(model["target"]["nats_per_token"]) or 0)))
    found, change = words(key, model=model["label"], loss=loss, perplexity=perplexity), mean(model["gain"])
    if change is None:
        return f"{found}."
    key = "unclear_gain" if not clear(model["gain"]) else "under" if change > 0 else "over"
    return f"{found}, {words(key, **_change(words, model['gain'], 2, sign=key == 'unclear_gain'))}"


def _cost(words: Wording, model: Mapping[str, Any]) -> str:
    change = mean(model["forgetting"])
    if change is None:
        return ""
    key = "unclear_cost" if not clear(model["forgetting"]) else "costs" if change > 0 else "gains"
    return words(key, **_change(words, model["forgetting"], 2, sign=key == "unclear_cost"))


def _change(words: Wording, figure: Mapping[str, Any], digits: int, sign: bool) -> dict[str, str]:
    """A change and its interval, with signs, or made positive if a verb gives the direction."""
    if sign:
        return {"change": words.signed(figure["mean"], digits), "interval": words.interval(figure, digits) or DASH}
    known = bounds(figure)
    if figure["mean"] < 0 and known:
        figure = {"mean": -figure["mean"], "low": -known[1], "high": -known[0]}
    return {"change": words.decimal(abs(figure["mean"]), digits), "interval": words.interval(figure, digits) or DASH}


def clear(figure: Mapping[str, Any]) -> bool:
    """Whether the interval excludes zero."""
    known = bounds(figure)
    return known is not None and not known[0] <= 0 <= known[1]
