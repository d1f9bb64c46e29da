"""The map of the corpus, on rows that are made up here."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up import write_json, write_plane

from topeng.errors import RunError
from topeng.report.files import embedded
from topeng.report.map import SPAN, write_map

SHIFT = 8
TITLE = "Map: map of the corpus"
HOSTILE = (
    "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">' & <!-- \u2028\u2029"
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_plane(tmp_path / "corpus", 300, np.random.default_rng(0))
    return tmp_path / "corpus"


def change(corpus: Path, rows: int = 300, **columns: list) -> None:
    """Rewrites the plane with its first rows, and with other values in columns."""
    plane = pq.read_table(corpus / "umap.parquet").slice(0, rows)
    for name, values in columns.items():
        place = plane.schema.get_field_index(name)
        plane = plane.set_column(place, name, pa.array(values, plane.schema.types[place]))
    pq.write_table(plane, corpus / "umap.parquet")


def drawn(corpus: Path, title: str = "Map", language: str = "en") -> str:
    write_map(corpus, corpus / "map.html", title, language)
    return (corpus / "map.html").read_text(encoding="utf-8")


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def test_rows_come_back(corpus):
    data, plane = data_of(drawn(corpus)), pq.read_table(corpus / "umap.parquet").to_pylist()
    rows = {row["row_id"]: row for row in plane}
    assert sorted(data["ids"]) == sorted(rows)
    for place, row_id in enumerate(data["ids"]):
        row = rows[row_id]
        for kind, column in {"subset": "subset_name", "template": "template_name"}.items():
            category = data["categories"][kind]
            assert category["names"][category["codes"][place]] == row[column]
        assert data["clusters"][data["categories"]["cluster"]["codes"][place]]["cluster"] == row["cluster"]
        assert (data["input"][place], data["output"][place]) == (row["input"], row["output"])
        assert data["selected"][place] == row["selected"]
    assert data["selected"] == sorted(data["selected"])  # those that were selected lie above
    assert data["clusters"] == json.loads((corpus / "clusters.json").read_text())
    assert data["categories"]["cluster"]["names"][0] == "0 hujan, laut, rindu"


def test_places_keep_their_distances(corpus):
    data, plane = data_of(drawn(corpus)), pq.read_table(corpus / "umap.parquet").to_pylist()
    place = {row["row_id"]: (row["x"], -row["y"]) for row in plane}
    was, now = np.array([place[row_id] for row_id in data["ids"]]), np.column_stack([data["x"], data["y"]])
    assert now.min() == 0 and now.max() == SPAN == max(data["size"])
    unit = np.ptp(was, axis=0).max() / SPAN
    np.testing.assert_allclose((was - was.min(axis=0)) / unit, now, atol=0.51)


def test_a_label_stands_on_a_row_of_its_cluster(corpus):
    data = data_of(drawn(corpus))
    places = list(zip(data["x"], data["y"], data["categories"]["cluster"]["codes"], strict=True))
    assert all((*middle, cluster) in places for cluster, middle in enumerate(data["middles"]) if middle)


def test_dots_that_are_a_sample_say_of_how_many_rows(corpus):
    change(corpus, 200)
    total = sum(cluster["rows"] for cluster in json.loads((corpus / "clusters.json").read_text()))
    assert total == 300
    page = drawn(corpus)
    assert "The dots are a random sample: 200 of the 300 rows that were clustered." in page
    assert f"{sum(data_of(page)['selected'])} of the dots were selected" in page
    assert "Titik-titik ini sampel acak: 200 dari 300 baris" in drawn(corpus, language="id")


def test_dots_that_are_all_rows_are_called_no_sample(corpus):
    change(corpus, selected=[True] * 300)
    page = drawn(corpus)
    assert "All rows that were clustered are shown: 300. All of them were selected for training." in page
    assert "sample" not in page and 'id="cluster-dots"' not in page


def test_categories_are_in_order_of_size(corpus):
    for category in (data_of(drawn(corpus))["categories"][kind] for kind in ("subset", "template")):
        sizes = np.bincount(category["codes"])
        assert sizes.tolist() == sorted(sizes, reverse=True)


def test_texts_of_the_corpus_stay_data(corpus):
    clusters = json.loads((corpus / "clusters.json").read_text())
    clusters[0] |= {"words": [HOSTILE], "subsets": {HOSTILE: 1}, "templates": {HOSTILE: 1}}
    clusters[0]["central"][0] |= {"input": HOSTILE, "output": HOSTILE}
    write_json(corpus / "clusters.json", clusters)
    columns = ("subset_name", "template_name", "input", "output")
    change(corpus, **{name: [HOSTILE] * 300 for name in columns})
    page = drawn(corpus, title=HOSTILE)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page and "<!--" not in page
    assert not re.search("[<>&\u2028\u2029]", re.search(r'id="data">(.*?)</script>', page)[1])
    data = data_of(page)
    assert set(data["input"]) == {HOSTILE} and data["clusters"] == clusters


def test_only_its_own_script_may_run(corpus):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', drawn(corpus))[1]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_it_loads_nothing(corpus):
    page = drawn(corpus).split('<script type="application/json"')[0]
    assert not re.search(r"@import|url\(|https?:|src=", page)


def test_the_same_files_give_the_same_bytes(corpus):
    assert drawn(corpus) == drawn(corpus)


def test_rows_without_a_place_are_left_out(corpus):
    change(corpus, x=[float("nan")] * 10 + [float("inf")] + [1.0] * 289, y=list(np.linspace(0, 1, 300)))
    assert len(data_of(drawn(corpus))["ids"]) == 289
    change(corpus, x=[float("nan")] * 300)
    assert "No row has a place on the plane." in drawn(corpus)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows(corpus, rows):
    change(corpus, rows, x=[2.5] * rows, y=[1.5] * rows)
    page = drawn(corpus)
    assert "No row has a place on the plane." in page if not rows else data_of(page)["x"] == [0] * rows


def test_a_missing_file_is_named(corpus):
    (corpus / "clusters.json").unlink()
    with pytest.raises(RunError, match=r"clusters\.json is missing"):
        drawn(corpus)


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        embedded([float("nan")])


def big(tmp_path: Path) -> str:
    write_plane(tmp_path / "big", 20_000, np.random.default_rng(1))
    change(tmp_path / "big", 20_000, input=[f"{HOSTILE} banjir" if row % 400 == 0 else "x" for row in range(20_000)])
    drawn(tmp_path / "big")
    return (tmp_path / "big" / "map.html").as_uri()


def text(page, name: str) -> str:
    return page.run(f"document.getElementById('{name}').textContent")


def place_of(page, row: int) -> tuple[float, float]:
    """Where a row stands in the window, by its number in the page."""
    box = "plot.getBoundingClientRect()"
    left, top, width, height = page.run(f"[{box}.left, {box}.top, width, height]")
    x, y = page.run(f"[across(data.x[{row}]), down(data.y[{row}])]")
    return left + x * width / 100, top + y * height / 100


@pytest.mark.slow
def test_pointing_searching_and_hiding_among_20_000_rows(tmp_path, page):
    page.open(big(tmp_path))
    ids = page.run("data.ids")
    lonely = page.run("data.x.indexOf(Math.max(...data.x))")
    page.mouse("mouseMoved", *place_of(page, lonely))
    assert text(page, "row-heading") == f"Row {ids[lonely]}"
    page.click(*place_of(page, lonely))
    page.mouse("mouseMoved", *place_of(page, 0))
    assert text(page, "row-heading") == f"Row {ids[lonely]}"  # it is pinned
    assert text(page, "cluster-words").startswith(
        page.run(f"data.clusters[data.categories.cluster.codes[{lonely}]].words[0]")
    )

    page.run("byId('search').focus()")
    page.write("BANJIR")
    assert text(page, "hits") == "50 hits"
    page.key("Enter")
    page.key("Enter")
    assert text(page, "hits") == "2 of 50 hits" and text(page, "row-heading") == "Row 1200"
    assert text(page, "row-input") == f"{HOSTILE} banjir"
    page.key("Enter", SHIFT)
    assert text(page, "hits") == "1 of 50 hits"

    shown = "level.filter(one => one > 0).length"
    largest = page.run("data.categories.cluster.codes.filter(code => code === 0).length")
    page.run("byId('legend').querySelector('button').click()")
    assert page.run(shown) == 20_000 - largest
    page.run("byId('legend').querySelectorAll('button')[3].dispatchEvent(new MouseEvent('dblclick'))")
    assert page.run("[...new Set(data.categories.cluster.codes.filter((_, row) => level[row]))]") == [3]
    page.run("byId('legend').querySelectorAll('button')[3].dispatchEvent(new MouseEvent('dblclick'))")
    assert page.run(shown) == 20_000
    page.run("byId('legend').querySelector('button').click(), byId('selected').click()")
    assert page.run(shown) == page.run(
        "data.selected.filter((one, row) => one && data.categories.cluster.codes[row]).length"
    )
    assert page.run("document.title") == TITLE and page.complaints() == []


@pytest.mark.slow
def test_dots_have_the_colour_of_their_category(corpus, page):
    drawn(corpus)
    page.open((corpus / "map.html").as_uri())
    top = 299  # drawn last
    place = f"across(data.x[{top}]) / 100 * width, down(data.y[{top}]) / 100 * height"
    pixel = f"[...context.getImageData({place}, 1, 1).data]"
    for kind in ("cluster", "subset", "template"):
        page.run(f"byId('colour').value = '{kind}', byId('colour').dispatchEvent(new Event('change'))")
        page.settle()
        colour = page.run(f"colours[colourOf(data.categories.{kind}.codes[{top}])]")
        assert page.run(pixel)[:3] == pytest.approx(colour, abs=16)
    page.run("byId('search').value = 'no text has this', byId('search').dispatchEvent(new Event('input'))")
    page.settle()
    assert page.run(pixel)[:3] == pytest.approx(page.run("colours[other]"), abs=16)


@pytest.mark.slow
def test_a_browser_runs_no_other_script(corpus, page):
    drawn(corpus)
    page.open((corpus / "map.html").as_uri())
    page.run("document.body.append(make('script', 'document.title = 1'))")
    page.run("plot.setAttribute('onclick', 'document.title = 2'), plot.click()")
    assert page.run("document.title") == TITLE
    assert sum("Content Security Policy" in complaint for complaint in page.complaints()) == 2


@pytest.mark.slow
def test_in_indonesian(corpus, page):
    drawn(corpus, language="id")
    page.open((corpus / "map.html").as_uri())
    assert page.run("document.title") == "Map: peta korpus"
    page.click(*place_of(page, 5))
    assert text(page, "row-heading") == f"Baris {page.run('data.ids[5]')}"
    page.run("byId('search').value = 'a', byId('search').dispatchEvent(new Event('input'))")
    assert re.fullmatch(r"[\d.]+ dari [\d.]+ temuan", text(page, "hits"))
    assert re.fullmatch(r"[\d.]+, di antaranya terpilih: [\d.]+(; .*)?", text(page, "cluster-rows"))
    assert page.lapses() == page.complaints() == []


@pytest.mark.slow
def test_legend_header_and_panel_count_alike(corpus, page):
    change(corpus, 200)
    drawn(corpus)
    page.open((corpus / "map.html").as_uri())
    counts = "[...document.querySelectorAll('#legend .quiet')].map(one => Number(one.textContent))"
    assert sum(page.run(counts)) == 200 and "200 of the 300 rows" in text(page, "about")
    clusters = json.loads((corpus / "clusters.json").read_text())
    for place, dots in enumerate(page.run(counts)):
        page.run(f"showCluster({place})")
        assert text(page, "cluster-dots").startswith(f"{dots}, of these selected: ")
        assert text(page, "cluster-rows").startswith(f"{clusters[place]['rows']}, of these selected: 125")
    page.run("byId('selected').click()")
    assert sum(page.run(counts)) == int(re.search(r"(\d+) of the dots were selected", text(page, "about"))[1])


NAMES = """[...document.querySelectorAll('#labels span')].map(one => {
    const box = one.getBoundingClientRect();
    return [one.textContent, box.left, box.top, box.right, box.bottom];
})"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_names_on_the_plane_cover_no_other(corpus, page, width):
    near = pq.read_table(corpus / "umap.parquet")["cluster"].to_numpy()  # the clusters stand close together
    points = np.random.default_rng(3).normal(size=(2, 300))
    change(corpus, x=list(5 * points[0] + near), y=list(5 * points[1] + near))
    drawn(corpus)
    page.open((corpus / "map.html").as_uri(), width)
    for zoomed in (1, 3):
        page.run(f"showAll(), zoom({zoomed})")
        page.settle()
        names = page.run(NAMES)
        assert len(names) >= (6 if zoomed == 1 else 1) and any("," in name for name, *_ in names)
        for place, (_, left, top, right, bottom) in enumerate(names):
            for _, other_left, other_top, other_right, other_bottom in names[:place]:
                beside = right <= other_left + 0.1 or left >= other_right - 0.1
                assert beside or bottom <= other_top + 0.1 or top >= other_bottom - 0.1


@pytest.mark.slow
def test_a_tapped_row_comes_into_view_on_a_phone(corpus, page):
    drawn(corpus)
    page.open((corpus / "map.html").as_uri(), 390, 844)
    page.touch("touchStart", place_of(page, 7))
    page.touch("touchEnd")
    assert page.run("pinned") == 7
    top, bottom = page.run("(box => [box.top, box.bottom])(byId('row').getBoundingClientRect())")
    assert 0 <= top < bottom <= 844
    controls = "[...document.querySelectorAll('button, select, input:not([type=checkbox])')]"
    sizes = page.run(f"{controls}.map(one => [one.offsetWidth, one.offsetHeight]).filter(([width]) => width)")
    assert min(map(min, sizes)) >= 36  # 24 is WCAG 2.2's least, 2.5.8


@pytest.mark.slow
def test_an_address_holds_a_view(corpus, page):
    drawn(corpus)
    url = (corpus / "map.html").as_uri()
    page.open(f"{url}#colour=subset&search=hujan&row=30&selected=1&hidden=2&view=30000,20000,3.00")
    state = "[colour, search, data.ids[pinned], selectedOnly, [...hidden], view.x, view.y, view.zoom]"
    expected = ["subset", "hujan", 30, True, [2], 30000, 20000, 3]
    assert page.run(state) == expected
    page.run("new Promise(done => setTimeout(done, 400))")
    page.open(page.run("location.href"))
    assert page.run(state) == expected
    page.open(f"{url}#colour=__proto__&row=no&hidden=x&view=1,2")
    assert page.run("[colour, pinned, view.zoom]") == ["cluster", -1, 1] and page.complaints() == []


@pytest.mark.slow
def test_keys_wheel_and_touch_move_the_plane(corpus, page):
    drawn(corpus)
    page.open((corpus / "map.html").as_uri(), 390, 844)
    page.run("plot.focus()")
    page.key("+")
    assert page.run("view.zoom") > 1
    before = page.run("view.x")
    page.key("ArrowRight")
    assert page.run("view.x") > before
    assert text(page, "row-heading").startswith("Row ")  # the one nearest to the middle
    page.key("Enter")
    assert page.run("pinned") >= 0
    page.key("0")
    page.key("Escape")
    assert page.run("[view.zoom, pinned]") == [1, -1]
    left, top = place_of(page, 5)
    page.mouse("mouseWheel", left, top, deltaX=0, deltaY=-300)
    assert page.run("view.zoom") > 1
    assert place_of(page, 5) == pytest.approx((left, top), abs=2)  # it zooms around the pointer
    page.key("0")
    page.touch("touchStart", (150, 500), (250, 500))
    page.touch("touchMove", (100, 500), (300, 500))
    page.touch("touchEnd")
    assert page.run("view.zoom") == pytest.approx(2)
    page.key("0")
    page.touch("touchStart", place_of(page, 7))
    page.touch("touchEnd")
    assert page.run("pinned") == 7
    assert page.run("document.documentElement.scrollWidth") == 390 and page.complaints() == []


@pytest.mark.slow
def test_six_rows_are_large_dots_with_names_beside_them(corpus, page):
    change(corpus, 6, x=[0, 5, 9, 2, 7, 4], y=[1, 0, 6, 8, 4, 3], cluster=[0] * 6)
    drawn(corpus)
    page.open((corpus / "map.html").as_uri())
    page.settle()
    ((name, left, top, right, bottom),) = page.run(NAMES)
    assert name == "0 hujan, laut, rindu"
    dots = [place_of(page, row) for row in range(6)]
    assert not any(left < x < right and top < y < bottom for x, y in dots)
    # A dot covers over a hundred pixels, all of them within the canvas.
    inked = "context.getImageData(0, 0, canvas.width, canvas.height).data.filter((v, at) => at % 4 === 3 && v).length"
    assert page.run(inked) > 6 * 100
    box = page.run("(box => [box.left, box.top, box.right, box.bottom])(plot.getBoundingClientRect())")
    assert all(box[0] + 8 < x < box[2] - 8 and box[1] + 8 < y < box[3] - 8 for x, y in dots)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_browser_shows_few_rows(corpus, page, rows):
    change(corpus, rows, x=[2.5] * rows, y=[1.5] * rows)
    drawn(corpus)
    page.open((corpus / "map.html").as_uri())
    if rows:
        page.click(*place_of(page, 0))
        assert text(page, "row-heading").startswith("Row ")
    assert page.lapses() == page.complaints() == []


@pytest.mark.slow
def test_a_map_that_is_hidden_is_drawn_when_it_shows_again(corpus, page):
    drawn(corpus)
    page.open((corpus / "map.html").as_uri(), 390, prefers_color_scheme="dark")
    for display in ("none", ""):
        page.run(f"document.documentElement.style.display = '{display}'")
        page.settle()
    assert page.run("canvas.width") > 1 and page.lapses() == page.complaints() == []
