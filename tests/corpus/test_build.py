import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from topeng.corpus import cluster
from topeng.corpus.build import _draw, _take, build_corpus, build_source
from topeng.corpus.source_text import group_rows
from topeng.errors import CorpusError
from topeng.recipe import CorpusOptions, SourceOptions

QUIET = Console(quiet=True)
OPTIONS = CorpusOptions(
    synthetic_rows=8000,
    sample_fraction=0.4,
    test_rows=60,
    validation_rows=30,
    clusters=5,
    train_rows=400,
    umap_rows=200,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(OPTIONS, 42, folder, QUIET)
    return folder


def read(corpus, name):
    return pq.read_table(corpus / "corpus" / f"{name}.parquet")


def test_counts_are_exact(corpus):
    assert read(corpus, "train").num_rows == 400
    assert read(corpus, "test").num_rows == 60
    assert read(corpus, "validation").num_rows == 30
    assert set(read(corpus, "test")["subset_name"].to_pylist()) == set(OPTIONS.subsets)


def test_no_group_and_no_row_stands_on_two_sides(corpus):
    looked_at = _take(corpus / "rows.parquet", np.union1d(*_draw(OPTIONS, 42, corpus / "rows.parquet")))
    columns = (looked_at[name].to_pylist() for name in ("template_name", "input", "output"))
    group = dict(zip(looked_at["row_id"].to_pylist(), group_rows(*columns).tolist(), strict=True))
    tables = [read(corpus, name) for name in ("train", "test", "validation")]
    groups = [{group[row_id] for row_id in table["row_id"].to_pylist()} for table in tables]
    texts = [set(zip(t["input"].to_pylist(), t["output"].to_pylist(), strict=True)) for t in tables]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not groups[one] & groups[other]
        assert not texts[one] & texts[other]
    assert len(groups[1]) == 60  # one row a group


def test_every_row_that_leaves_is_counted(corpus):
    funnel = json.loads((corpus / "corpus" / "funnel.json").read_text())
    assert funnel["source_rows"] == 8000 and funnel["kept_rows"] == 400 and funnel["kept_share"] == 0.05
    rows = funnel["source_rows"]
    for step in funnel["steps"]:
        rows -= sum(step["dropped"].values())
        assert step["rows"] == rows


def test_clusters_and_the_plane_are_described(corpus):
    clusters = json.loads((corpus / "corpus" / "clusters.json").read_text())
    assert sum(entry["selected"] for entry in clusters) == 400
    assert all(len(entry["words"]) == 8 for entry in clusters)
    plane = read(corpus, "umap")
    assert plane.num_rows == 200
    assert np.isfinite(plane["x"].to_numpy()).all()


def test_the_same_seed_gives_the_same_rows_and_another_gives_others(corpus, tmp_path):
    for seed, same in ((42, True), (43, False)):
        (tmp_path / str(seed)).mkdir()
        build_corpus(replace(OPTIONS, umap_rows=50), seed, tmp_path / str(seed), QUIET)
        again = pq.read_table(tmp_path / str(seed) / "corpus" / "train.parquet")
        assert again.equals(read(corpus, "train")) == same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_rows": 5000}, "corpus.train_rows = 5,000, and .* rows were drawn and may be used"),
        ({"sample_rows": 900_000}, "900,000 rows were asked for"),
        ({"test_rows": 7000}, "share no source text"),
        ({"expected_rows": {"dolly": 3}}, "corpus.expected_rows says 3 rows of dolly"),
    ],
)
def test_a_count_that_cannot_be_met_is_an_error(tmp_path, change, message):
    with pytest.raises(CorpusError, match=message):
        build_corpus(replace(OPTIONS, **change), 42, tmp_path, QUIET)
    assert not (tmp_path / "corpus" / "train.parquet").exists()


def test_a_short_cluster_is_topped_up():
    labels = np.repeat([0, 1, 2], [100, 60, 5])
    equal, shares = cluster.quotas(labels, 3, 90)
    assert equal == {"0": 30, "1": 30, "2": 30}
    assert shares["2"] == 5 and sum(shares.values()) == 90
    assert shares["0"] > shares["1"] >= 30


def test_clusters_are_numbered_by_size():
    random = np.random.default_rng(0)
    vectors = np.vstack([random.normal(10 * place, 0.1, (count, 4)) for place, count in enumerate((20, 50, 30))])
    assert np.bincount(cluster.cluster(vectors, 3, seed=0)).tolist() == [50, 30, 20]


def test_source_rows_are_held_out_by_group(tmp_path):
    build_source(SourceOptions(synthetic_rows=2000, test_rows=50), 42, tmp_path, QUIET)
    train, test = (pq.read_table(tmp_path / "source" / f"{name}.parquet") for name in ("train", "test"))
    assert test.num_rows == 50 and 1000 < train.num_rows < 2000
    assert not set(train["output"].to_pylist()) & {text for text in test["output"].to_pylist() if len(text) > 40}


def test_held_out_ordinals_are_the_rows_that_are_tested(tmp_path):
    build_source(SourceOptions(synthetic_rows=1000, test_rows=50), 42, tmp_path, QUIET)
    rows = pq.read_table(tmp_path / "rows.parquet").drop_columns("row_id")
    pq.write_table(rows, tmp_path / "english.parquet")
    held_out = tmp_path / "held_out.json"
    held_out.write_text(json.dumps({"rows": list(range(100, 140))}))
    options = SourceOptions(files=[str(tmp_path / "english.parquet")], held_out=str(held_out), test_rows=20)
    (tmp_path / "again").mkdir()
    build_source(options, 42, tmp_path / "again", QUIET)
    test = pq.read_table(tmp_path / "again" / "source" / "test.parquet")["row_id"].to_pylist()
    assert len(test) == 20 and set(test) <= set(range(100, 140))
