"""The geometry of the figures, in percent of their frame; the template draws it as SVG.

Percentages let a figure take any width while its text keeps its size, and text that comes from a corpus or a
model reaches the page through the template's escaping only. The one raster image is the map's: 20,000 points
as vectors would weigh more than the rest of the page together.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib import color_sequences
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from topeng.report.wording import decimal, finite, label

# Ten colours told apart with every common colour-vision deficiency: Petroff, arXiv 2107.02270.
CLUSTER_COLOURS = [to_hex(colour) for colour in color_sequences["petroff10"]]
OTHER_COLOUR = "#8f9299"  # of what is beyond ten
# Outlines around (0, 0), a shape a method: colour is never the only mark.
MARKERS = [
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-5l4.8,8.4h-9.6z",
    "M0-5l5,5l-5,5l-5-5z",
]
MAP_INCHES, MAP_DPI = (6.6, 4.0), 190

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A method's losses: SVG paths in a frame of 100 by 100, and markers on the held-out one."""

    method: str
    held_out: str
    markers: list[Point]
    training: str


@dataclass(frozen=True)
class LossPlot:
    """Loss against step, of all methods."""

    curves: list[Curve]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    text: str


@dataclass(frozen=True)
class Label:
    """A cluster's number where its points are."""

    cluster: int
    x: float
    y: float


@dataclass(frozen=True)
class Map:
    """The UMAP plot: a PNG as a data URI, and the clusters' places on it."""

    image: str
    labels: list[Label]
    rows: int
    text: str


@dataclass(frozen=True)
class Scale:
    """From values to percent of the frame."""

    low: float
    high: float
    upwards: bool = False

    def __call__(self, value: float) -> float:
        share = 100 * (value - self.low) / (self.high - self.low)
        return round(100 - share if self.upwards else share, 2)

    def ticks(self, integer: bool = False) -> list[Tick]:
        values = MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=integer).tick_values(self.low, self.high)
        digits = max(0, -math.floor(math.log10(round(values[1] - values[0], 9))))
        inside = [float(value) for value in values if self.low <= value <= self.high]
        return [Tick(self(value), decimal(value, digits)) for value in inside]


def loss_plot(logs: Mapping[str, Sequence[Mapping[str, Any]]]) -> LossPlot | None:
    """The curves of `log.jsonl` by method; None where no loss is finite."""
    held_out = {method: _points(log, "eval_loss") for method, log in logs.items()}
    training = {method: _points(log, "loss") for method, log in logs.items()}
    steps = [step for points in [*held_out.values(), *training.values()] for step, _ in points]
    if not steps:
        return None
    x, y = Scale(0, max(*steps, 1)), _loss_scale(held_out, training)
    curves = [_curve(method, held_out[method], training[method], x, y) for method in logs]
    return LossPlot(curves, x.ticks(integer=True), y.ticks(), _loss_text(held_out))


def cluster_map(path: Path) -> Map | None:
    """The rows of `umap.parquet`, coloured by cluster; None where there are none."""
    columns = pq.read_table(path, columns=["x", "y", "cluster", "selected"]).to_pydict()
    points = np.array([columns["x"], columns["y"]], dtype=float).T
    cluster, selected = np.array(columns["cluster"], dtype=int), np.array(columns["selected"], dtype=bool)
    known = np.isfinite(points).all(axis=1)
    points, cluster, selected = points[known], cluster[known], selected[known]
    if not len(points):
        return None
    x, y = _map_scales(points)
    places = {int(c): np.median(points[cluster == c], axis=0) for c in np.unique(cluster)}
    labels = [Label(c, x(place[0]), y(place[1])) for c, place in places.items()]
    text = f"UMAP plot of {len(points):,} rows in {len(labels)} clusters; {selected.sum():,} of them are selected."
    return Map(_scatter(points, cluster, selected, x, y), labels, len(points), text)


def cluster_colour(cluster: int) -> str:
    """The same on both maps, in their legends and in the table."""
    return CLUSTER_COLOURS[cluster] if cluster < len(CLUSTER_COLOURS) else OTHER_COLOUR


def drawing_order(selected: np.ndarray) -> np.ndarray:
    """Rows that were not selected first, so that they lie below; shuffled, or one cluster would cover the next."""
    order = np.random.default_rng(0).permutation(len(selected))
    return np.concatenate([order[~selected[order]], order[selected[order]]])


def _points(log: Sequence[Mapping[str, Any]], key: str) -> list[Point]:
    pairs = [(finite(line.get("step")), finite(line.get(key))) for line in log]
    return [(step, loss) for step, loss in pairs if step is not None and loss is not None]


def _loss_scale(held_out: Mapping[str, list[Point]], training: Mapping[str, list[Point]]) -> Scale:
    """All of the held-out losses; of the training losses, whose weights 1 / p make spikes, the middle 90 %."""
    values = [loss for points in held_out.values() for _, loss in points]
    noisy = [loss for points in training.values() for _, loss in points]
    values += list(np.quantile(noisy, [0.05, 0.95])) if noisy else []
    low, high = float(min(values)), float(max(values))
    margin = 0.06 * (high - low) or 0.5
    return Scale(low - margin, high + margin, upwards=True)


def _curve(method: str, held_out: list[Point], training: list[Point], x: Scale, y: Scale) -> Curve:
    marked = held_out[:: math.ceil(len(held_out) / 20) or 1]
    return Curve(method, _path(held_out, x, y), [(x(s), y(v)) for s, v in marked], _path(training, x, y))


def _path(points: list[Point], x: Scale, y: Scale) -> str:
    return "M" + "L".join(f"{x(step):g},{y(loss):g}" for step, loss in points) if points else ""


def _loss_text(held_out: Mapping[str, list[Point]]) -> str:
    ends = [
        f"{label(method)} from {points[0][1]:.2f} to {points[-1][1]:.2f} at step {points[-1][0]:,.0f}"
        for method, points in held_out.items()
        if points
    ]
    return f"Held-out loss: {'; '.join(ends)}." if ends else "Training loss by step."


def _map_scales(points: np.ndarray) -> tuple[Scale, Scale]:
    """One length on both axes, as distances in a UMAP plot are alike in all directions."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    unit = max(float((np.ptp(points, axis=0) / MAP_INCHES).max()), 1e-6) * 0.53
    half = unit * np.array(MAP_INCHES)
    low, high = middle - half, middle + half
    return Scale(low[0], high[0]), Scale(low[1], high[1], upwards=True)


def _scatter(points: np.ndarray, cluster: np.ndarray, selected: np.ndarray, x: Scale, y: Scale) -> str:
    """A transparent PNG without axes; rows that were not selected are faint and below."""
    figure = Figure(figsize=MAP_INCHES, dpi=MAP_DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(x.low, x.high), ylim=(y.low, y.high))
    axes.axis("off")
    order = drawing_order(selected)
    size = float(np.clip(12_000 / len(points), 1.5, 12))
    colours = to_rgba_array([cluster_colour(c) for c in cluster[order]], np.where(selected[order], 0.95, 0.35))
    axes.scatter(points[order, 0], points[order, 1], s=size, c=colours, linewidths=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True, pil_kwargs={"optimize": True})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
