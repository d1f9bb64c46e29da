"""Clusters, what is taken of each, and what is said of them."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from small_corpus import OPTIONS, QUIET
from threadpoolctl import threadpool_limits

from topeng.corpus.audit import verify
from topeng.corpus.cluster import STARTING_ROWS, cluster, quotas
from topeng.corpus.describe import TEXT_SHOWN, plane
from topeng.corpus.diverse import coverage, k_center, take
from topeng.corpus.select import select_corpus
from topeng.corpus.settings import Seeded
from topeng.errors import CorpusError


def blobs(counts, width=4, spread=0.1, seed=0):
    random = np.random.default_rng(seed)
    return np.vstack([random.normal(10 * place, spread, (count, width)) for place, count in enumerate(counts)]).astype(
        np.float32
    )


def test_a_short_cluster_is_topped_up():
    labels = np.repeat([0, 1, 2], [100, 60, 5])
    equal, shares = quotas(labels, 3, 90)
    assert equal == {"0": 30, "1": 30, "2": 30}
    assert shares["2"] == 5 and sum(shares.values()) == 90
    assert shares["0"] > shares["1"] >= 30


def test_clusters_are_numbered_by_size():
    labels, centres = cluster(blobs((20, 50, 30)), 3, seed=0)
    assert np.bincount(labels).tolist() == [50, 30, 20]
    np.testing.assert_allclose(centres.mean(axis=1), [10, 20, 0], atol=0.1)


def test_permuted_rows_make_the_same_partition():
    vectors = np.random.default_rng(1).normal(size=(STARTING_ROWS + 5_000, 8)).astype(np.float32)
    order = np.random.default_rng(2).permutation(len(vectors))
    labels, centres = cluster(vectors, 10, seed=42)
    permuted, other_centres = cluster(vectors[order], 10, seed=42)
    np.testing.assert_array_equal(permuted, labels[order])
    np.testing.assert_array_equal(centres, other_centres)


def test_any_number_of_threads_makes_the_same_partition():
    vectors = np.random.default_rng(0).normal(size=(8000, 32)).astype(np.float32)
    partitions = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            partitions.append(cluster(vectors, 10, 42))
    for one, other in zip(*partitions, strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_clusters_than_rows_that_differ_are_an_error():
    with pytest.raises(
        CorpusError, match=r"corpus\.clusters = 3 needs as many distinct rows, but only 2 of 40 rows are distinct"
    ):
        cluster(np.repeat(np.eye(2, dtype=np.float32), 20, axis=0), 3, seed=0)


def test_k_center_takes_the_farthest_row_each_time():
    vectors = np.array([[0, 0], [1, 0], [10, 0], [10, 1], [0, 8]], np.float32)
    assert k_center(vectors, 4).tolist() == [1, 3, 4, 0]
    copies = np.repeat(vectors[:2], 3, axis=0)
    assert sorted(k_center(copies, 6)) == list(range(6))


def test_k_center_covers_better_than_chance():
    vectors = np.random.default_rng(3).normal(size=(3_000, 3)).astype(np.float32)
    chance = coverage(vectors, np.random.default_rng(4).permutation(3_000)[:100])
    assert coverage(vectors, k_center(vectors, 100))["radius"] < 0.75 * chance["radius"]
    assert coverage(vectors, np.arange(3_000)) == {"radius": 0.0, "mean": 0.0}


@pytest.mark.parametrize("selection", ["random", "k-center"])
def test_top_ups_are_the_last_rows_of_a_cluster_that_are_taken(selection):
    vectors, labels = blobs((30, 10)), np.repeat([0, 1], [30, 10])
    keys = np.random.default_rng(0).permutation(40)
    asked, shares = {"0": 15, "1": 15}, {"0": 20, "1": 10}
    taken, added = take(vectors, labels, keys, asked, shares, selection)
    assert np.bincount(labels[taken]).tolist() == [20, 10]
    assert len(added) == 5 and set(added) <= set(taken) and (labels[added] == 0).all()
    fewer, none = take(vectors, labels, keys, asked, {"0": 15, "1": 10}, selection)
    assert set(fewer) | set(added) == set(taken) and len(none) == 0


def test_clusters_are_described(clean):
    described = json.loads((clean / "corpus" / "clusters.json").read_text())
    pool = {row["row_id"]: row for row in pq.read_table(clean / "corpus" / "drawn" / "pool.parquet").to_pylist()}
    assert sum(entry["rows"] for entry in described) == len(pool)
    assert sum(entry["selected"] for entry in described) == OPTIONS.train_rows
    for entry in described:
        assert sum(entry["subsets"].values()) == entry["rows"] >= sum(entry["templates"].values())
        assert 1 <= len(entry["words"]) <= 8 and 0 < entry["covering"]["mean"] <= entry["covering"]["radius"]
        assert len({(row["input"], row["output"]) for row in entry["central"]}) == len(entry["central"]) >= 1
        for row in entry["central"]:
            assert pool[row["row_id"]]["input"].startswith(row["input"][:TEXT_SHOWN].removesuffix("…"))


def test_the_plane_holds_the_rows_that_it_shows(clean):
    found = pq.read_table(clean / "corpus" / "umap.parquet")
    train = set(pq.read_table(clean / "corpus" / "train.parquet")["row_id"].to_pylist())
    assert found.num_rows == OPTIONS.umap_rows
    assert max(len(text) for text in found["output"].to_pylist()) <= TEXT_SHOWN + 1
    for row in found.to_pylist():
        assert row["selected"] == (row["row_id"] in train)
        assert np.isfinite([row["x"], row["y"]]).all()


def test_a_leak_is_never_written(clean, tmp_path, monkeypatch):
    def leaking(asked, run, work, train, funnel):
        return {"validation": train.slice(0, 1), "test": train.slice(1, 1)}

    monkeypatch.setattr("topeng.corpus.select._held_out", leaking)
    with pytest.raises(AssertionError, match="a group is in two splits"):
        select_corpus(Seeded(OPTIONS, 42), clean, tmp_path, QUIET)


def test_top_ups_are_told_and_decided(clean, tmp_path):
    options = replace(OPTIONS, train_rows=1_200, clusters=8)
    with (tmp_path / "out").open("w") as file:
        select_corpus(Seeded(options, 42), clean, tmp_path, Console(file=file))
    assert "rows missing from small clusters:" in (tmp_path / "out").read_text()
    described = json.loads((tmp_path / "corpus" / "clusters.json").read_text())
    short = sum(entry["short"] for entry in described)
    assert short == sum(entry["topped_up"] for entry in described) > 0
    reasons = pq.read_table(tmp_path / "corpus" / "decisions.parquet")["reason"].to_pylist()
    assert reasons.count("train, for a cluster that is short") == short
    assert reasons.count("train") == 1_200 - short
    assert not [check for check in verify(tmp_path) if check.problems]


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_a_few_rows_have_a_plane_too(rows):
    vectors = np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)
    pool = pa.table({name: ["a"] * rows for name in ("subset_name", "template_name", "input", "output")})
    pool = pool.append_column("row_id", pa.array(range(rows)))
    everything = np.arange(rows)
    found = plane(pool, vectors, np.zeros(rows, int), everything, everything, 0)
    assert found.num_rows == rows and np.isfinite(found["x"].to_numpy()).all()


def test_the_selection_changes_the_rows_and_nothing_else(clean, tmp_path):
    random, test = ((clean / "corpus" / f"{name}.parquet").read_bytes() for name in ("train", "test"))
    select_corpus(Seeded(replace(OPTIONS, selection="k-center"), 42), clean, tmp_path, QUIET)
    assert (tmp_path / "corpus" / "test.parquet").read_bytes() == test
    assert (tmp_path / "corpus" / "train.parquet").read_bytes() != random
