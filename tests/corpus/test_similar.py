"""Set comparison, against all pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from topeng.corpus import similar

collections = st.lists(st.sets(st.integers(0, 15), max_size=10), min_size=1, max_size=12)
thresholds = st.sampled_from([0.3, 0.5, 0.8, 1.0])


def as_sets(collection):
    hashes = [np.array(sorted(values), np.uint64) for values in collection]
    return similar.Sets(np.concatenate(hashes), np.concatenate([[0], np.cumsum([len(part) for part in hashes])]))


def components(edges, count):
    left, right = zip(*edges, strict=True) if edges else ((), ())
    return connected_components(coo_matrix((np.ones(len(left)), (left, right)), shape=(count, count)))[1].tolist()


@given(collections, thresholds)
def test_contained_texts_are_joined_as_all_pairs_join_them(collection, threshold):
    count = len(collection)
    pairs = similar.contained(as_sets(collection), np.arange(count), threshold)
    expected = [
        (i, j)
        for i in range(count)
        for j in range(count)
        if i != j
        and 0 < len(collection[i]) <= len(collection[j])
        and len(collection[i] & collection[j]) >= threshold * len(collection[i])
    ]
    found = list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert set(found) <= set(expected)
    assert components(found, count) == components(expected, count)
    for one, other, share in zip(pairs.left, pairs.right, pairs.share, strict=True):
        assert share == len(collection[one] & collection[other]) / len(collection[one])


@given(collections, thresholds, st.randoms())
def test_the_first_of_those_alike_stays(collection, threshold, random):
    count = len(collection)
    order = list(range(count))
    random.shuffle(order)
    matched = similar.first_of_alike(as_sets(collection), np.array(order), threshold)

    def alike(one, other):
        for field in (0, 1):
            a, b = ({value for value in values if value % 2 == field} for values in (one, other))
            if a | b and len(a & b) < threshold * len(a | b):
                return False
        return bool(one) and bool(other)

    kept = []
    for item in order:
        reasons = [other for other in kept if alike(collection[item], collection[other])]
        assert (matched[item] in reasons) if reasons else (matched[item] == -1)
        if not reasons:
            kept.append(item)


@given(collections, collections)
def test_shares_found_in_others(collection, others):
    pairs = similar.found_in(as_sets(collection), as_sets(others))
    found = {(i, j): share for i, j, share in zip(pairs.left, pairs.right, pairs.share, strict=True)}
    expected = {
        (i, j): len(one & other) / len(one)
        for i, one in enumerate(collection)
        for j, other in enumerate(others)
        if one & other
    }
    assert found == expected


def test_a_sketch_keeps_shares_within_its_error(monkeypatch):
    random = np.random.default_rng(0)
    shared, own = (random.integers(0, 2**64, size, np.uint64) for size in (6000, 2000))
    collection = [set(np.concatenate([shared, own]).tolist()), set(shared.tolist()) | {1, 2, 3}]
    exact = similar.contained(as_sets(collection), np.arange(2), 0.5)
    sketched = similar.contained(as_sets(collection), np.arange(2), 0.5, most_shingles=2000)
    assert abs(exact.share[0] - sketched.share[0]) < 0.05
    assert exact.left == sketched.left == [1]


def test_a_shingle_that_many_texts_hold_joins_none_of_them(monkeypatch):
    """docs/corpus.md says what the search may miss."""
    collection = [{1, 2, 10 * text} for text in range(1, 5)]
    assert len(similar.contained(as_sets(collection), np.arange(4), 0.5).left) == 3
    monkeypatch.setattr(similar, "MOST_SHARED", 3)
    assert len(similar.contained(as_sets(collection), np.arange(4), 0.5).left) == 0
    order = np.arange(4)
    fields = [{2 * value for value in values} for values in collection]
    assert (similar.first_of_alike(as_sets(fields), order, 0.5) == [-1, 0, 0, 0]).all()
