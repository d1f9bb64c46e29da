import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from topeng.text.batches import PASS_TOKENS, cut_by_tokens, passes_of, step_rows, steps_in_epoch


@given(st.integers(1, 50), st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_has_every_row_once_and_another_order_each_time(rows, batch_rows, epoch):
    steps = steps_in_epoch(rows, batch_rows)
    drawn = [step_rows(rows, batch_rows, 7, epoch * steps + step) for step in range(steps)]
    assert sorted(row for taken in drawn for row in taken) == list(range(rows))
    assert all(len(taken) == batch_rows for taken in drawn[:-1])


def test_steps_depend_on_the_seed_and_the_epoch():
    first = step_rows(40, 40, 1, 0)
    assert first == step_rows(40, 40, 1, 0)
    assert first != step_rows(40, 40, 1, 1) and first != step_rows(40, 40, 2, 0)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 200), st.integers(1, 9))
def test_a_cut_keeps_every_row_within_the_tokens_and_gives_ranks_as_many_passes(lengths, batch_tokens, ranks):
    passes = cut_by_tokens(lengths, batch_tokens, ranks)
    assert sorted(place for taken in passes for place in taken) == list(range(len(lengths)))
    assert len(passes) % ranks == 0
    for taken in filter(None, passes):
        assert len(taken) == 1 or max(lengths[place] for place in taken) * len(taken) <= batch_tokens
    if len(lengths) % ranks == 0:
        assert all(passes)


ROWS = st.lists(st.tuples(st.integers(1, 90), st.integers(0, 9)), max_size=40)


@given(ROWS, st.integers(1, 200), st.integers(0, 30))
def test_scored_rows_come_longest_first_within_the_tokens_and_the_logits(rows, batch_tokens, most_heads):
    lengths, heads = [length for length, _ in rows], [kept for _, kept in rows]
    passes = list(passes_of(lengths, batch_tokens, heads, most_heads))
    places = [place for taken in passes for place in taken]
    assert places == sorted(range(len(rows)), key=lambda place: -lengths[place])
    for taken in passes:
        assert len(taken) == 1 or len(taken) * lengths[taken[0]] <= batch_tokens
        assert len(taken) == 1 or sum(heads[place] for place in taken) <= most_heads
    for taken, following in itertools.pairwise(passes):  # none ends before it must
        more = [*taken, following[0]]
        assert len(more) * lengths[more[0]] > batch_tokens or sum(heads[place] for place in more) > most_heads


def test_rows_of_like_length_share_a_pass():
    lengths = np.random.default_rng(0).integers(20, 500, 64).tolist()
    padded = sum(len(taken) * max(lengths[place] for place in taken) for taken in cut_by_tokens(lengths, 4096))
    assert padded < 1.2 * sum(lengths)
    assert len(lengths) * max(lengths) > 1.8 * sum(lengths)


@given(st.lists(st.integers(1, 900), min_size=1, max_size=7), st.integers(900, 3000))
def test_the_cut_is_the_cheapest_of_all(lengths, batch_tokens):
    def cost(passes):
        return sum(len(taken) * max(taken) + PASS_TOKENS for taken in passes)

    ordered = sorted(lengths, reverse=True)
    cheapest = min(
        cost(passes)
        for marks in itertools.product([False, True], repeat=len(lengths) - 1)
        if (passes := split_at(ordered, marks))
        and all(len(taken) == 1 or len(taken) * max(taken) <= batch_tokens for taken in passes)
    )
    found = [[lengths[place] for place in taken] for taken in cut_by_tokens(lengths, batch_tokens)]
    assert cost(found) == cheapest


def test_the_dearer_a_pass_the_fewer_there_are():
    lengths = np.random.default_rng(0).integers(20, 500, 64).tolist()
    counts = [len(cut_by_tokens(lengths, 10**6, pass_tokens=cost)) for cost in (0, PASS_TOKENS, 10**5)]
    assert counts[0] > counts[1] > counts[2] == 1


def split_at(values, marks):
    bounds = [0, *(index for index, mark in enumerate(marks, 1) if mark), len(values)]
    return [values[start:end] for start, end in itertools.pairwise(bounds)]
