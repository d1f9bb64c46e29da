"""Numbers as a reader wants them, and the sentences that a run's scores come down to.

Every function takes what JSON may hold, NaN and null included: what is no finite number is a dash.
"""

import math
from collections.abc import Mapping
from typing import Any

from topeng.adapt.settings import METHODS

DASH, MINUS, SPACE = "\N{EM DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
LABELS = {"base": "base", **{name: method.label for name, method in METHODS.items()}}


def finite(value: Any) -> float | None:
    """The value as a float, or None where it is no finite number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def label(model: str) -> str:
    """A method's name as its paper writes it."""
    return LABELS.get(model, model)


def count(value: Any) -> str:
    """1000 -> 1,000."""
    number = finite(value)
    return DASH if number is None else f"{number:,.0f}"


def decimal(value: Any, digits: int = 3) -> str:
    """With a true minus sign, in as many decimals as its column."""
    number = finite(value)
    return DASH if number is None else f"{number:,.{digits}f}".replace("-", MINUS)


def signed(value: Any, digits: int = 3) -> str:
    """As decimal, with a plus sign where it is positive."""
    number = finite(value)
    return ("+" if number is not None and number > 0 else "") + decimal(value, digits)


def percent(share: Any) -> str:
    """To two significant digits, never in exponents: 0.00078 -> 0.078 %, 0.25 -> 25 %."""
    number = finite(share)
    if number is None:
        return DASH
    magnitude = math.floor(math.log10(abs(number) * 100)) if number else 0
    return f"{decimal(number * 100, max(0, 1 - magnitude))}{SPACE}%"


def duration(seconds: Any) -> str:
    """12.34 -> 12.3 s; 200 -> 3 min 20 s; 7500 -> 2 h 5 min."""
    number = finite(seconds)
    if number is None:
        return DASH
    if number < 60:
        return f"{number:.1f} s"
    minutes = round(number) // 60
    return f"{minutes} min {round(number) % 60} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def memory(size: Any) -> str:
    """Bytes in decimal units: 410000000 -> 410 MB."""
    number = finite(size)
    if number is None:
        return DASH
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def with_error(value: Any, error: Any) -> str:
    """The size of a value and two of its standard errors, in the decimals that the error supports."""
    number, spread = finite(value), 2 * (finite(error) or 0.0)
    if number is None:
        return DASH
    digits = min(4, max(2, -math.floor(math.log10(spread)))) if spread > 0 else 2
    return decimal(abs(number), digits) + (f"{SPACE}±{SPACE}{decimal(spread, digits)}" if spread else "")


def summary(kept: Mapping[str, Any], models: list[dict[str, Any]]) -> str:
    """The run in one paragraph of plain language.

    Args:
        kept: source_rows, kept_rows and kept_share of the funnel.
        models: rows of the comparison, sorted by held-out loss.
    """
    sentences = [f"Of {count(kept['source_rows'])} rows {count(kept['kept_rows'])} were kept"]
    sentences[0] += f" ({percent(kept['kept_share'])})."
    best = best_adapter(models)
    if best:
        sentences += [_gain(best), _cost(best), "The ± are two standard errors."]
    return " ".join(sentence for sentence in sentences if sentence)


def best_adapter(models: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first row that is an adapter with a held-out loss."""
    adapters = [model for model in models if model["name"] != "base"]
    return next((model for model in adapters if finite(model["target"].get("nats_per_token")) is not None), None)


def _gain(model: dict[str, Any]) -> str:
    loss = decimal(model["target"]["nats_per_token"], 2)
    found = f"Of the adapters, {model['label']} has the lowest held-out loss: {loss} nats per token"
    change, error = _difference(model["gain"])
    if change is None:
        return f"{found}."
    if not _clear(change, error):
        return f"{found}, not clearly different from the base (by {with_error(change, error)})."
    return f"{found}, {with_error(change, error)} {'under' if change < 0 else 'over'} the base."


def _cost(model: dict[str, Any]) -> str:
    change, error = _difference(model["forgetting"])
    if change is None:
        return ""
    if not _clear(change, error):
        return f"On the source language no clear change was measured ({with_error(change, error)} nats per token)."
    verb = "costs" if change > 0 else "gains"
    return f"It {verb} {with_error(change, error)} nats per token on the source language."


def _difference(measure: Mapping[str, Any]) -> tuple[float | None, float | None]:
    return finite(measure.get("nats_per_token")), finite(measure.get("standard_error"))


def _clear(change: float, error: float | None) -> bool:
    return abs(change) > 2 * (error or 0.0)
