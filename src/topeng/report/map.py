"""A map of the rows on their UMAP plane, as one self-contained HTML file to explore offline.

Texts are stored in the page as JSON, in an element that browsers do not run, and the script inserts them as text. The
content security policy of the page does not allow other scripts.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from topeng.pages import LOOK
from topeng.report.files import embedded, existing, own_source, read_json, templates, write_page
from topeng.report.plane import CLUSTER_COLOURS, NAME_WORDS, OTHER_COLOUR, cluster_name, drawing_order, middle_point
from topeng.report.wording import Wording

SCRIPTS = ("map_plane.js", "map_names.js", "map_page.js", "map_input.js")
SCRIPT_WORDS = (
    *("row", "map_row", "map_hit", "map_hits", "map_hit_of", "map_yes", "map_no", "map_no_text"),
    *("map_dots_size", "map_rows_size", "map_extra", "map_others"),
)
SPAN = 65_535
"""Length of the longer side in whole units: 16 bits, less than a tenth of a pixel when all is shown."""


def write_map(corpus: Path, out: Path, title: str, language: str = "en") -> None:
    """Write the page of a finished corpus.

    Args:
        corpus: folder with `umap.parquet` and `clusters.json`.
        out: the HTML file to write.
        title: title of the run.
        language: language of the page: `en` or `id`.

    Raises:
        RunError: one of the two is missing or cannot be read.
    """
    table = pq.read_table(existing(Path(corpus) / "umap.parquet"))
    points = np.array([table["x"], table["y"]], dtype=float).T
    placed = np.flatnonzero(np.isfinite(points).all(axis=1))
    shown = placed[drawing_order(table["selected"].to_numpy()[placed])]
    words = Wording(language)
    data = _data(table.take(shown), points[shown], read_json(Path(corpus) / "clusters.json"))
    data["words"] = {key: words.texts[key] for key in SCRIPT_WORDS}
    (style, style_digest), (script, script_digest) = own_source(LOOK, "map.css"), own_source(*SCRIPTS)
    page = (
        templates(words)
        .get_template("map.html.jinja")
        .render(
            title=words("map_title", title=title),
            rows=len(shown),
            total=sum(cluster["rows"] for cluster in data["clusters"]),
            selected=sum(data["selected"]),
            data=embedded(data),
            style=style,
            style_digest=style_digest,
            script=script,
            script_digest=script_digest,
        )
    )
    write_page(out, page)


def _data(table: pa.Table, points: np.ndarray, clusters: list[dict[str, Any]]) -> dict[str, Any]:
    """The data of the page in columns. A category has its names, and the number of the name of each row."""
    plane = _plane(points)
    code = {cluster["cluster"]: place for place, cluster in enumerate(clusters)}
    codes = np.array([code[number] for number in table["cluster"].to_pylist()], dtype=int)
    places = [plane[codes == place] for place in range(len(clusters))]
    names = [f"{cluster['cluster']} {cluster_name(cluster)}".strip() for cluster in clusters]
    return {
        "colours": [*CLUSTER_COLOURS, OTHER_COLOUR],
        "size": plane.max(axis=0, initial=0).tolist(),
        "x": plane[:, 0].tolist(),
        "y": plane[:, 1].tolist(),
        "selected": [int(selected) for selected in table["selected"].to_pylist()],
        "categories": {
            "cluster": {"names": names, "codes": codes.tolist()},
            "subset": _category(table["subset_name"].to_pylist()),
            "template": _category(table["template_name"].to_pylist()),
        },
        "clusters": clusters,
        "name_words": NAME_WORDS,
        "middles": [middle_point(one).tolist() if len(one) else None for one in places],
        "ids": table["row_id"].to_pylist(),
        "input": table["input"].to_pylist(),
        "output": table["output"].to_pylist(),
    }


def _plane(points: np.ndarray) -> np.ndarray:
    """Points in whole units from the upper left, [R, 2], with the same scale on both axes."""
    if not len(points):
        return points.astype(int)
    low, high = points.min(axis=0), points.max(axis=0)
    unit = float((high - low).max()) / SPAN or 1.0
    return np.rint(np.column_stack([points[:, 0] - low[0], high[1] - points[:, 1]]) / unit).astype(int)


def _category(values: list[str]) -> dict[str, list[Any]]:
    """The names of a category, most common first, and the number of the name of each row."""
    names = [name for name, _ in sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))]
    code = {name: place for place, name in enumerate(names)}
    return {"names": names, "codes": [code[value] for value in values]}
