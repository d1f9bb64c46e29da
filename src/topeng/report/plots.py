"""The geometry of the figures, in percent of their frame. The templates draw it as SVG.

With percentages a figure can have any width while its text keeps its size, and text of a corpus or a model only reaches
the page through the templates, which escape it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from topeng.report.wording import Wording, bounds, finite, mean

# Outlines around (0, 0), one shape per method, so that colour is never the only distinction.
MARKERS = [
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-5l4.8,8.4h-9.6z",
    "M0-5l5,5l-5,5l-5-5z",
    "M0,5l4.8-8.4h-9.6z",
    "M-1.6-4.8h3.2v3.2h3.2v3.2h-3.2v3.2h-3.2v-3.2h-3.2v-3.2h3.2z",
    "M0-5l4.8,3.5l-1.8,5.6h-6l-1.8-5.6z",
    "M0-2.2l2.4-2.4l2.2,2.2l-2.4,2.4l2.4,2.4l-2.2,2.2l-2.4-2.4l-2.4,2.4l-2.2-2.2l2.4-2.4l-2.4-2.4l2.2-2.2z",
    "M0-5.2l1.5,3.1l3.5,0.5l-2.5,2.4l0.6,3.5l-3.1-1.7l-3.1,1.7l0.6-3.5l-2.5-2.4l3.5-0.5z",
]
RING = "M-4.4,0a4.4,4.4 0 1,0 8.8,0a4.4,4.4 0 1,0 -8.8,0zm2,0a2.4,2.4 0 1,1 4.8,0a2.4,2.4 0 1,1 -4.8,0z"
"""The base's marker."""
Point = tuple[float, float]
Line = dict[float, float]
"""Losses by step."""


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """The losses of a method as SVG paths in a frame of 100 by 100, with held-out markers and a band of seeds."""

    method: str
    held_out: str
    band: str
    markers: list[Point]
    training: str


@dataclass(frozen=True)
class LossPlot:
    """Loss by step for all methods."""

    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    text: str


@dataclass(frozen=True)
class Estimate:
    """The forgetting (x) and gain (y) of a method, with their intervals if they are known."""

    method: str
    x: float
    y: float
    across: Point | None
    along: Point | None


@dataclass(frozen=True)
class Tradeoff:
    """Gain against forgetting. `zero` is the base, which neither gains nor forgets."""

    estimates: list[Estimate]
    zero: Point
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    text: str


@dataclass(frozen=True)
class Scale:
    """Maps values to percent of the frame."""

    low: float
    high: float
    upwards: bool = False

    def __call__(self, value: float) -> float:
        part = 100 * (value - self.low) / (self.high - self.low)
        return round(100 - part if self.upwards else part, 2)

    def ticks(self, words: Wording, integer: bool = False) -> list[Tick]:
        values = _locator(integer).tick_values(self.low, self.high)
        digits = max(0, -math.floor(math.log10(round(values[1] - values[0], 9))))
        inside = [float(value) for value in values if self.low <= value <= self.high]
        return [Tick(self(value), words.decimal(round(value, digits) + 0.0, digits)) for value in inside]


def loss_plot(logs: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], words: Wording) -> LossPlot | None:
    """The curves of `log.jsonl` of each method and seed, or None if no loss is finite."""
    held_out = {method: [_points(log, "eval_loss") for log in seeds] for method, seeds in logs.items()}
    training = {method: [_smooth(_points(log, "loss")) for log in seeds] for method, seeds in logs.items()}
    drawn = [line for figures in (held_out, training) for lines in figures.values() for line in lines]
    steps = [step for line in drawn for step in line]
    if not steps:
        return None
    x, y = _between_ticks(0, max(*steps, 1), integer=True), _loss_scale(drawn)
    curves = [_curve(method, held_out[method], training[method], x, y) for method in logs]
    return LossPlot(curves, x.ticks(words, integer=True), y.ticks(words), _loss_text(held_out, words))


def tradeoff_plot(scores: Mapping[str, Any], methods: Sequence[str], words: Wording) -> Tradeoff | None:
    """Gain against forgetting from `scores.json`, or None if no method has both."""
    figures = {method: (scores["forgetting"].get(method, {}), scores["gain"].get(method, {})) for method in methods}
    known = {
        method: (forgetting["nats_per_token"], gain["nats_per_token"])
        for method, (forgetting, gain) in figures.items()
        if mean(forgetting.get("nats_per_token")) is not None and mean(gain.get("nats_per_token")) is not None
    }
    if not known:
        return None
    x = _wide_scale([forgetting for forgetting, _ in known.values()])
    y = _wide_scale([gain for _, gain in known.values()], upwards=True)
    estimates = [
        Estimate(method, x(forgetting["mean"]), y(gain["mean"]), _ends(x, forgetting), _ends(y, gain))
        for method, (forgetting, gain) in known.items()
    ]
    return Tradeoff(estimates, (x(0), y(0)), x.ticks(words), y.ticks(words), _tradeoff_text(known, words))


def _wide_scale(figures: Sequence[Mapping[str, Any]], upwards: bool = False) -> Scale:
    """Limits that include zero and all figures with their intervals, with some space at the edges."""
    values = [
        0.0,
        *(figure["mean"] for figure in figures),
        *(end for figure in figures for end in bounds(figure) or ()),
    ]
    margin = 0.1 * (max(values) - min(values)) or 0.5
    return Scale(min(values) - margin, max(values) + margin, upwards)


def _ends(scale: Scale, figure: Mapping[str, Any]) -> Point | None:
    known = bounds(figure)
    return None if known is None else (scale(known[0]), scale(known[1]))


def _tradeoff_text(known: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], words: Wording) -> str:
    points = [
        words(
            "tradeoff_point",
            model=words.label(method),
            gain=words.signed(gain["mean"]),
            gain_interval=words.interval(gain),
            forgetting=words.signed(forgetting["mean"]),
            forgetting_interval=words.interval(forgetting),
        )
        for method, (forgetting, gain) in known.items()
    ]
    return words("tradeoff_text", points="; ".join(points))


def _points(log: Sequence[Mapping[str, Any]], key: str) -> Line:
    pairs = [(finite(line.get("step")), finite(line.get(key))) for line in log]
    return {step: loss for step, loss in pairs if step is not None and loss is not None}


def _loss_scale(lines: Sequence[Line]) -> Scale:
    """Limits at ticks, with all losses between them."""
    values = [loss for line in lines for loss in line.values()]
    return _between_ticks(min(values), max(values), upwards=True)


def _between_ticks(low: float, high: float, upwards: bool = False, integer: bool = False) -> Scale:
    ticks = np.asarray(_locator(integer).tick_values(low, high if high > low else low + 1))
    return Scale(float(ticks[ticks <= low].max()), float(ticks[ticks >= high].min()), upwards)


def _locator(integer: bool) -> MaxNLocator:
    return MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=integer)


def _smooth(line: Line) -> Line:
    """The median of neighbouring steps, because single losses have spikes from their weights 1 / p."""
    steps, half = sorted(line), max(1, len(line) // 20)
    losses = [line[step] for step in steps]
    return {step: float(np.median(losses[max(0, place - half) : place + half + 1])) for place, step in enumerate(steps)}


def _curve(method: str, held_out: list[Line], training: list[Line], x: Scale, y: Scale) -> Curve:
    middle = [(step, sum(losses) / len(losses)) for step, losses in _by_step(held_out)]
    marked = [(x(step), y(loss)) for step, loss in middle[:: math.ceil(len(middle) / 20) or 1]]
    noisy = [(step, sum(losses) / len(losses)) for step, losses in _by_step(training)]
    return Curve(method, _path(middle, x, y), _band(held_out, x, y), marked, _path(noisy, x, y))


def _by_step(lines: list[Line]) -> list[tuple[float, list[float]]]:
    """The losses of all seeds at the steps that all of them have."""
    if not lines:
        return []
    shared = sorted(set(lines[0]).intersection(*lines[1:]))
    return [(step, [line[step] for line in lines]) for step in shared]


def _band(lines: list[Line], x: Scale, y: Scale) -> str:
    """The outline of the band from the lowest to the highest seed, along the top and back along the bottom."""
    found = _by_step(lines)
    if len(lines) < 2 or not found:
        return ""
    tops = [(step, max(losses)) for step, losses in found]
    bottoms = [(step, min(losses)) for step, losses in reversed(found)]
    return _path(tops + bottoms, x, y) + "z"


def _path(points: list[Point], x: Scale, y: Scale) -> str:
    return "M" + "L".join(f"{x(step):g},{y(loss):g}" for step, loss in points) if points else ""


def _loss_text(held_out: Mapping[str, list[Line]], words: Wording) -> str:
    curves = []
    for method, lines in held_out.items():
        found = [(step, sum(losses) / len(losses)) for step, losses in _by_step(lines)]
        if found:
            (_, first), (step, last) = found[0], found[-1]
            ends = {"first": words.decimal(first, 2), "last": words.decimal(last, 2), "step": words.count(step)}
            curves.append(words("loss_curve", model=words.label(method), **ends))
    return words("loss_text", curves="; ".join(curves)) if curves else words("loss_text_training")
