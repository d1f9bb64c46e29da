"""Exact, and the same whatever the partitioning; pyarrow is the oracle."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
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


def write(path, rows, row_group_size):
    pq.write_table(
        pa.table({"row_id": rows, "template_name": [f"t{row % 3}" for row in rows]}),
        path,
        row_group_size=row_group_size,
    )


def test_the_draw_does_not_depend_on_row_groups_or_order(tmp_path):
    rows = list(range(1000))
    drawn = []
    for name, order, group in (("a", rows, 1000), ("b", rows, 7), ("c", rows[::-1], 100)):
        write(tmp_path / name, order, group)
        row_ids, strata, keys = sample.read_strata(tmp_path / name, "template_name", seed=3)
        drawn.append(sample.draw(row_ids, strata, keys, {"t0": 10, "t1": 20, "t2": 0}).tolist())
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(drawn[0]) == 30
    assert sum(row % 3 == 0 for row in drawn[0]) == 10
    write(tmp_path / "d", rows, 1000)
    other = sample.draw(*sample.read_strata(tmp_path / "d", "template_name", seed=4), {"t0": 10, "t1": 20})
    assert other.tolist() != drawn[0]


def test_keys_in_memory_are_those_of_the_file_and_spread_evenly(tmp_path):
    write(tmp_path / "a", list(range(2000)), 500)
    row_ids, _, keys = sample.read_strata(tmp_path / "a", "template_name", seed=3)
    assert np.array_equal(sample.rank_keys(row_ids, 3), keys)
    assert len(np.unique(keys)) == 2000
    assert abs((keys < 2**63).mean() - 0.5) < 0.05
