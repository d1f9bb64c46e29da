"""The plane of rows as a picture in the report."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import write_plane
from made_up_run import fake_run

from topeng.report.page import write_report
from topeng.report.plane import cluster_map
from topeng.report.wording import Wording


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_plane(tmp_path / "corpus", 300, np.random.default_rng(0))
    return tmp_path / "corpus"


def test_clusters_are_named_on_the_picture(corpus):
    found = cluster_map(corpus, Wording())
    assert {label.name for label in found.labels if label.cluster < 2} == {
        "hujan, laut, rindu",
        "langkah, gunakan, pastikan",
    }
    assert all(0 < label.x < 100 and 0 < label.y < 100 for label in found.labels)


def test_the_picture_says_that_it_shows_a_sample(corpus):
    path = corpus / "umap.parquet"
    pq.write_table(pq.read_table(path).slice(0, 200), path)
    found = cluster_map(corpus, Wording("id"))
    assert (found.rows, found.total) == (200, 300) and "200 dari 300 baris" in found.text


def test_clusters_without_words_keep_their_numbers(corpus):
    clusters = json.loads((corpus / "clusters.json").read_text())
    (corpus / "clusters.json").write_text(json.dumps([cluster | {"words": []} for cluster in clusters]))
    assert {(label.cluster, label.name) for label in cluster_map(corpus, Wording()).labels} == {
        (number, "") for number in range(8)
    }


BOXES = """[...document.querySelectorAll('.map text')].map(one => {
    const box = one.getBoundingClientRect(), words = one.querySelector('tspan');
    return [box.left, box.top, box.right, box.bottom, words && getComputedStyle(words).display];
})"""


@pytest.mark.slow
def test_names_on_the_picture_cover_no_other(tmp_path, page):
    run = fake_run(tmp_path / "run")
    path = run / "corpus" / "umap.parquet"
    plane = pq.read_table(path)
    points = np.random.default_rng(1).normal(size=(2, plane.num_rows)) + plane["cluster"].to_numpy() / 2
    for name, values in zip("xy", points, strict=True):
        plane = plane.set_column(plane.schema.get_field_index(name), name, pa.array(values.astype(np.float32)))
    pq.write_table(plane, path)
    write_report(run, tmp_path / "report.html", "Names", answers=1)
    for width in (1280, 660, 390):
        page.open((tmp_path / "report.html").as_uri(), width)
        boxes = page.run(BOXES)
        assert len(boxes) >= 6 and {box[4] for box in boxes} <= {"none" if width == 390 else "inline", None}
        for place, (left, top, right, bottom, _) in enumerate(boxes):
            for other in boxes[:place]:
                assert right <= other[0] or left >= other[2] or bottom <= other[1] + 4 or top >= other[3] - 4
