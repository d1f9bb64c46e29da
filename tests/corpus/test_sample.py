"""Exact, and the same whatever the partitioning; pyarrow is the oracle."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from topeng.corpus import sample
from topeng.errors import CorpusError

sizes = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 500), min_size=1)


@given(sizes, st.floats(0, 1))
def test_an_allocation_is_exact_proportional_and_within_sizes(sizes, fraction):
    total = round(fraction * sum(sizes.values()))
    shares = sample.allocate(sizes, total)
    assert sum(shares.values()) == total
    for name, size in sizes.items():
        assert 0 <= shares[name] <= size
        assert abs(shares[name] - total * size / max(1, sum(sizes.values()))) < 1


@given(sizes, st.integers(0, 100))
def test_a_short_stratum_is_topped_up_by_the_others(sizes, quota):
    quotas = dict.fromkeys(sizes, quota)
    if sum(quotas.values()) > sum(sizes.values()):
        with pytest.raises(CorpusError):
            sample.fill(quotas, sizes)
        return
    taken = sample.fill(quotas, sizes)
    assert sum(taken.values()) == sum(quotas.values())
    assert all(min(quota, sizes[name]) <= taken[name] <= sizes[name] for name in sizes)


def test_three_percent_of_cendol_s_six_subsets():
    rows = {"a": 144_460, "b": 97_848, "c": 6_069_267, "d": 93_500, "e": 62_500, "f": 75_055}
    shares = sample.allocate(rows, round(0.03 * sum(rows.values())))
    assert sum(rows.values()) == 6_542_630 and sum(shares.values()) == 196_279


def write(folder, rows, row_group_size, files=1):
    folder.mkdir()
    size = -(-len(rows) // files)
    for number in range(files):
        part = rows[number * size : (number + 1) * size]
        table = pa.table(
            {"row_id": part, "template_name": [f"t{row % 3}" for row in part], "subset_name": ["a"] * len(part)}
        )
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=row_group_size)


def read(folder, seed=3):
    row_ids, (strata,), keys = sample.read_strata(folder, ["template_name"], seed)
    return row_ids, strata, keys


COUNTS = {"t0": 10, "t1": 20, "t2": 0}


def test_the_draw_does_not_depend_on_files_and_row_groups(tmp_path):
    rows = list(range(1000))
    drawn = []
    for name, group, files in (("a", 1000, 1), ("b", 7, 3), ("c", 100, 2)):
        write(tmp_path / name, rows, group, files)
        drawn.append(sample.draw(*read(tmp_path / name), COUNTS).tolist())
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(drawn[0]) == 30
    assert sum(row % 3 == 0 for row in drawn[0]) == 10
    assert sample.draw(*read(tmp_path / "a", seed=4), COUNTS).tolist() != drawn[0]


def test_one_thread_and_those_of_all_cores_draw_the_same(tmp_path):
    write(tmp_path / "a", list(range(5000)), 100, 4)
    program = (
        "import os, sys, pathlib; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1]);"
        "from topeng.corpus import sample;"
        "ids, (strata,), keys = sample.read_strata(pathlib.Path(sys.argv[1]), ['template_name'], 3);"
        "print(sample.draw(ids, strata, keys, {'t0': 10, 't1': 20}).tolist())"
    )
    command = [sys.executable, "-c", program, tmp_path / "a"]
    alone = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert alone == sample.draw(*read(tmp_path / "a"), COUNTS).tolist() and len(alone) == 30


def test_pyarrow_and_xxhash_draw_the_same(tmp_path):
    """The oracle: no Daft, no compiled code, no arrays of strata."""
    write(tmp_path / "a", list(range(3000)), 100, 4)
    by_template = {}
    for row in pq.read_table(tmp_path / "a").to_pylist():
        key = xxhash.xxh3_64_intdigest(row["row_id"].to_bytes(8, "little"), seed=3)
        by_template.setdefault(row["template_name"], []).append((key, row["row_id"]))
    expected = sorted(row for name, rows in by_template.items() for _, row in sorted(rows)[: COUNTS[name]])
    assert sample.draw(*read(tmp_path / "a"), COUNTS).tolist() == expected


def test_keys_in_memory_are_those_of_the_file_and_spread_evenly(tmp_path):
    write(tmp_path / "a", list(range(2000)), 500)
    row_ids, _, keys = read(tmp_path / "a")
    assert np.array_equal(sample.rank_keys(row_ids, 3), keys)
    assert len(np.unique(keys)) == 2000
    assert abs((keys < 2**63).mean() - 0.5) < 0.05


names = st.lists(st.sampled_from("abc"), min_size=1, max_size=60)


@given(names, st.dictionaries(st.sampled_from("abc"), st.integers(0, 60)), st.randoms(use_true_random=False))
def test_a_draw_has_exact_counts_and_does_not_depend_on_the_order(names, counts, random):
    row_ids, keys = np.arange(len(names)), np.array([random.randrange(8) for _ in names], np.uint64)  # with ties
    drawn = sample.draw(row_ids, sample.Strata.of(pa.array(names)), keys, counts)
    for name in "abc":
        rows = [row for row in range(len(names)) if names[row] == name]
        lowest = sorted(rows, key=lambda row: (keys[row], row))[: counts.get(name, 0)]
        assert [row for row in drawn.tolist() if names[row] == name] == sorted(lowest)
    order = np.array(random.sample(range(len(names)), len(names)))
    shuffled = sample.Strata.of(pa.array([names[row] for row in order]))
    assert sample.draw(row_ids[order], shuffled, keys[order], counts).tolist() == drawn.tolist()


def test_of_equal_keys_the_lower_ids_are_drawn():
    keys, row_ids = np.array([5, 5, 1, 5, 9], np.uint64), np.array([30, 10, 40, 20, 0])
    assert sample.draw(row_ids, sample.Strata(["a"], np.zeros(5, np.int32)), keys, {"a": 3}).tolist() == [10, 20, 40]


@settings(max_examples=15)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_no_partition_changes_a_draw(tmp_path_factory, sizes, row_group, seed):
    folder = tmp_path_factory.mktemp("rows")
    for name, parts in (("parts", sizes), ("one", [sum(sizes)])):
        (folder / name).mkdir()
        start = 0
        for number, size in enumerate(parts):
            rows = list(range(start, start + size))
            templates = pa.array([f"t{row % 3}" for row in rows], pa.string())
            part = pa.table({"row_id": pa.array(rows, pa.int64()), "template_name": templates})
            pq.write_table(part, folder / name / f"{number}.parquet", row_group_size=row_group)
            start += size
    drawn = [sample.draw(*read(folder / name, seed), COUNTS).tolist() for name in ("parts", "one")]
    assert drawn[0] == drawn[1]


def test_strata_do_not_depend_on_the_order_in_which_names_are_met():
    one, other = (sample.Strata.of(pa.array(names)) for names in (["b", "a", "b"], ["a", "b", "b"]))
    assert one.names == other.names == ["a", "b"]
    assert one.codes.tolist() == [1, 0, 1] and other.codes.tolist() == [0, 1, 1]
    assert one.sizes() == {"a": 1, "b": 2} and one.take(one.codes == 1).sizes() == {"a": 0, "b": 2}
