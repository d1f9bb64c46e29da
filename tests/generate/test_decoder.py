"""Rows of different settings that are denoised together: each has what it has alone."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from generate.test_decode import EOS, MASK, any_settings
from topeng.generate import Settings
from topeng.generate.canvas import blank_canvas, pad_left
from topeng.generate.decode import Decoder
from topeng.generate.row import Row, Voice

SETTINGS = Settings(max_new_tokens=16, block_length=8)


def new_row(model, prompt, settings, noise_id=0, **values):
    canvas = blank_canvas(*pad_left([prompt], EOS), settings.max_new_tokens, MASK)
    return Row(canvas, 0, Voice(model), settings, noise_id, **values)


def finish(decoder, limit=1000):
    for _ in range(limit):
        if not decoder.rows:
            return
        decoder.step()


def alone(model, prompt, settings, noise_id=0):
    decoder, row = Decoder(), new_row(model, prompt, settings, noise_id)
    decoder.join(row)
    finish(decoder)
    return row


asked = st.tuples(
    st.lists(st.integers(3, 399), min_size=1, max_size=12),
    any_settings(),
    st.sampled_from([0.0, 0.7]),
    st.integers(0, 3),  # the step at which it joins
)


@hypothesis_settings(max_examples=hypothesis_settings.default.max_examples // 3)
@given(asked=st.lists(asked, min_size=2, max_size=8))
def test_rows_of_any_settings_that_join_at_any_step_have_the_tokens_that_they_have_alone(shared_model, asked):
    decoder, rows = Decoder(), []
    for step in range(4):
        for place, (prompt, settings, temperature, joins) in enumerate(asked):
            if joins == step:
                how = replace(settings, temperature=temperature, seed=place)
                rows.append((prompt, how, place, new_row(shared_model, prompt, how, noise_id=place)))
                decoder.join(rows[-1][-1])
        if decoder.rows:
            decoder.step()
    finish(decoder)
    for prompt, how, place, row in rows:
        expected = alone(shared_model, prompt, how, place)
        assert row.done and torch.equal(row.tokens, expected.tokens)
        assert torch.equal(row.committed_at, expected.committed_at) and row.passes == expected.passes


def test_a_row_that_leaves_is_not_computed_again_and_changes_no_other(model):
    widths = []
    model.register_forward_pre_hook(lambda _, __, given: widths.append(len(given["input_ids"])), with_kwargs=True)
    expected = alone(model, [0, 9, 10], SETTINGS)
    widths.clear()
    decoder = Decoder()
    stays, leaves = new_row(model, [0, 9, 10], SETTINGS), new_row(model, [0, 30], SETTINGS)
    decoder.join(stays)
    decoder.join(leaves)
    decoder.step()
    decoder.leave(leaves)
    finish(decoder)
    assert widths == [2] + [1] * 15 and torch.equal(stays.tokens, expected.tokens)
    assert leaves.passes == 1 and int(leaves.masked.sum()) == 15


@pytest.mark.parametrize("cache", ["none", "prefix"])
def test_a_row_that_is_done_or_dropped_frees_its_memory_at_once(model, cache):
    gc.disable()  # what is in a cycle stays
    try:
        decoder, settings = Decoder(), replace(SETTINGS, cache=cache, cfg_scale=1.0)
        ends, leaves, stays = (
            new_row(model, [0, 9], how) for how in (settings, settings, replace(SETTINGS, max_new_tokens=40))
        )
        for row in (ends, leaves, stays):
            decoder.join(row)
        for _ in range(3):
            decoder.step()
        kept = [weakref.ref(view.kept) for row in (ends, leaves) for view in row.views if view.kept is not None]
        assert len(kept) == (4 if cache == "prefix" else 0)
        decoder.leave(leaves)
        while not ends.done:
            decoder.step()
        decoder.step()
        gone = [weakref.ref(ends), weakref.ref(leaves), *kept]
        del row, ends, leaves
        assert not stays.done and [ref() for ref in gone] == [None] * len(gone)
    finally:
        gc.enable()


def test_a_row_does_not_wait_for_the_block_of_another(model):
    fast, slow = replace(SETTINGS, policy="threshold", threshold=1e-9), SETTINGS
    decoder, quick = Decoder(), new_row(model, [0, 9], fast)
    decoder.join(quick)
    decoder.join(new_row(model, [0, 9], slow))
    decoder.step()
    assert quick.block == slice(10, 18)
    decoder.step()
    assert quick.done and len(decoder.rows) == 1


def test_a_row_without_masks_is_done_and_not_taken(model):
    canvas = blank_canvas(*pad_left([[0, 9]], EOS), 8, MASK, {0: list(range(10, 18))})
    decoder, row = Decoder(), Row(canvas, 0, Voice(model), SETTINGS)
    decoder.join(row)
    assert row.done and decoder.rows == []


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_alternatives_of_a_token_are_the_likeliest_when_it_was_committed(model, temperature):
    settings = replace(SETTINGS, temperature=temperature)
    decoder, row = Decoder(), new_row(model, [0, 9, 10], settings, top=3)
    decoder.join(row)
    finish(decoder)
    assert sorted(row.alternatives) == list(range(3, 19))
    for place, likeliest in row.alternatives.items():
        probabilities = [probability for _, probability in likeliest]
        assert len(likeliest) == 3 and probabilities == sorted(probabilities, reverse=True)
        own = dict(likeliest).get(int(row.tokens[place]))
        assert own is None or own == pytest.approx(float(row.confidence[place]))
        assert own is not None or temperature
