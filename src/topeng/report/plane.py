"""The UMAP plot of a corpus as a picture, because 20,000 points as vector graphics would be larger than the page."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib import color_sequences
from matplotlib.colors import to_hex, to_rgba_array
from matplotlib.figure import Figure

from topeng.report.files import existing, read_json
from topeng.report.plots import Scale
from topeng.report.wording import Wording

# Ten colours that can be told apart with all common colour-vision deficiencies (Petroff, arXiv 2107.02270).
CLUSTER_COLOURS = [to_hex(colour) for colour in color_sequences["petroff10"]]
OTHER_COLOUR = "#8f9299"  # for clusters beyond ten
MAP_INCHES, MAP_DPI = (6.6, 4.0), 190
NAME_WORDS = 3
NAME_WIDTH, NAME_HEIGHT = 1.35, 5.5
"""Width of a character and height of a line of a name, in percent of the plane at its narrowest."""


@dataclass(frozen=True)
class Label:
    """The number of a cluster at its points, with as many words of its name as fit. Places are in percent."""

    cluster: int
    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Map:
    """The UMAP plot: a PNG as a data URI, and the clusters' places on it."""

    image: str
    labels: list[Label]
    rows: int
    total: int
    text: str


def cluster_map(corpus: Path, words: Wording) -> Map | None:
    """Plots the rows of `umap.parquet`, coloured by cluster, or returns None if there are none.

    Args:
        corpus: folder with this file and `clusters.json`.
    """
    columns = pq.read_table(existing(corpus / "umap.parquet"), columns=["x", "y", "cluster", "selected"]).to_pydict()
    points = np.array([columns["x"], columns["y"]], dtype=float).T
    cluster, selected = np.array(columns["cluster"], dtype=int), np.array(columns["selected"], dtype=bool)
    placed = np.isfinite(points).all(axis=1)
    points, cluster, selected = points[placed], cluster[placed], selected[placed]
    if not len(points):
        return None
    x, y = _map_scales(points)
    places = {int(c): middle_point(points[cluster == c]) for c in np.unique(cluster)}
    known = {one["cluster"]: one for one in read_json(corpus / "clusters.json")}
    labels = _labels({c: (x(place[0]), y(place[1])) for c, place in places.items()}, known)
    total = sum(one["rows"] for one in known.values())
    figures = {"rows": len(points), "total": total, "clusters": len(places), "selected": int(selected.sum())}
    text = words("map_text", **{name: words.count(number) for name, number in figures.items()})
    return Map(_scatter(points, cluster, selected, x, y), labels, len(points), total, text)


def cluster_name(cluster: Mapping[str, Any]) -> str:
    """The name of a cluster from its most distinctive words, or nothing if there are none."""
    return ", ".join(cluster["words"][:NAME_WORDS])


def _labels(places: Mapping[int, tuple[float, float]], clusters: Mapping[int, Mapping[str, Any]]) -> list[Label]:
    """Places labels at or near their clusters, largest first, with the longest names that do not cover others.

    A cluster without room gets no label, but is in the legend.
    """
    labels: list[Label] = []
    for cluster in sorted(places, key=lambda number: -clusters[number]["rows"]):
        words = clusters[cluster]["words"][:NAME_WORDS]
        names = [", ".join(words[:count]) for count in range(len(words), -1, -1)]
        tried = (_label(cluster, name, *places[cluster], lines) for name in names for lines in (0, -1, 1, -2, 2, -3, 3))
        free = [label for label in tried if not any(_overlap(label, other) for other in labels)]
        labels += free[:1]
    return labels


def _label(cluster: int, name: str, x: float, y: float, lines: int) -> Label:
    """A label moved by some lines and into the frame."""
    label = Label(cluster, name, x, y)
    half = _width(label) / 2
    x, y = np.clip(x, half, 100 - half), np.clip(y + lines * NAME_HEIGHT, NAME_HEIGHT / 2, 100 - NAME_HEIGHT / 2)
    return Label(cluster, name, round(float(x), 2), round(float(y), 2))


def _width(label: Label) -> float:
    return NAME_WIDTH * (len(f"{label.cluster} {label.name}") + 1)


def _overlap(one: Label, other: Label) -> bool:
    beside = abs(one.x - other.x) >= (_width(one) + _width(other)) / 2
    return not beside and abs(one.y - other.y) < NAME_HEIGHT


def cluster_colour(cluster: int) -> str:
    """The colour of a cluster on both maps, in their legends and in the table."""
    return CLUSTER_COLOURS[cluster] if cluster < len(CLUSTER_COLOURS) else OTHER_COLOUR


def middle_point(points: np.ndarray) -> np.ndarray:
    """The point of a cluster [R, 2] nearest to the median, which may itself lie between the parts of the cluster."""
    return points[np.square(points - np.median(points, axis=0)).sum(axis=1).argmin()]


def drawing_order(selected: np.ndarray) -> np.ndarray:
    """The order of drawing: rows that were not selected first, below. Shuffled, so that no cluster covers another."""
    order = np.random.default_rng(0).permutation(len(selected))
    return np.concatenate([order[~selected[order]], order[selected[order]]])


def _map_scales(points: np.ndarray) -> tuple[Scale, Scale]:
    """Uses the same scale on both axes, because distances in a UMAP plot have no direction."""
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    unit = max(float((np.ptp(points, axis=0) / MAP_INCHES).max()), 1e-6) * 0.53
    half = unit * np.array(MAP_INCHES)
    low, high = middle - half, middle + half
    return Scale(low[0], high[0]), Scale(low[1], high[1], upwards=True)


def _scatter(points: np.ndarray, cluster: np.ndarray, selected: np.ndarray, x: Scale, y: Scale) -> str:
    """A transparent PNG without axes. Rows that were not selected are faint and below the others."""
    figure = Figure(figsize=MAP_INCHES, dpi=MAP_DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(x.low, x.high), ylim=(y.low, y.high))
    axes.axis("off")
    order = drawing_order(selected)
    size = float(np.clip(12_000 / len(points), 1.5, 12 if len(points) > 100 else 60))
    colours = to_rgba_array([cluster_colour(c) for c in cluster[order]], np.where(selected[order], 0.95, 0.35))
    axes.scatter(points[order, 0], points[order, 1], s=size, c=colours, linewidths=0)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True, pil_kwargs={"optimize": True})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
