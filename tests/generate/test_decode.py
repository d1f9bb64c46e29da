import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from topeng.errors import GenerationError
from topeng.generate import Settings, generate_ids
from topeng.generate.canvas import blank_canvas, infilling_canvas, pad_left
from topeng.generate.decode import denoise
from topeng.generate.policies import POLICIES
from topeng.generate.sampling import keep_nucleus
from topeng.models import find_device, load_model

MASK, EOS = 2, 1
PROMPTS = [[0, 9, 10], [0, 11, 12, 13, 14, 15], [0, 20]]
CACHES = [{"cache": "none"}, {"cache": "prefix", "refresh_interval": 1}, {"cache": "dual", "refresh_interval": 1}]


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("k", range(5))
def test_every_golden_generation_is_identical(golden, k, cache):
    reference = json.loads((golden / "golden.json").read_text())["generate_settings"][k]
    answers = load_file(golden / "golden.safetensors")
    settings = Settings(max_new_tokens=reference.pop("gen_length"), **reference, **cache)
    ids = generate_ids(load_model(golden), answers["prompt_ids"], answers["prompt_attention_mask"], settings)
    assert torch.equal(ids.cpu(), answers[f"generated_{k}"])


def padded(prompts):
    """`input_ids` and `attention_mask` where the model is, as a canvas has them."""
    return [tensor.to(find_device()) for tensor in pad_left(prompts, EOS)]


def decoded(model, prompts, settings, row_ids=None):
    """The canvas of a generation, and the forward passes that were seen."""
    canvas = blank_canvas(*padded(prompts), settings.max_new_tokens, MASK)
    return canvas, len(list(denoise(model, canvas, settings, row_ids)))


@st.composite
def any_settings(draw):
    block_length, blocks = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    return Settings(
        max_new_tokens=blocks * block_length,
        block_length=block_length,
        steps=blocks * draw(st.integers(1, block_length)),
        policy=draw(st.sampled_from(sorted(POLICIES))),
        threshold=draw(st.sampled_from([0.1, 0.5, 1.0])),
        factor=draw(st.sampled_from([0.5, 3.0])),
        entropy_bound=draw(st.sampled_from([0.0, 2.0])),
        cache=draw(st.sampled_from(["none", "prefix", "dual"])),
        refresh_interval=draw(st.sampled_from([None, 2])),
        window=draw(st.sampled_from([None, 0, 4])),
        cfg_scale=draw(st.sampled_from([0.0, 1.0])),
        stop_at_end=draw(st.booleans()),
    )


prompts = st.lists(st.lists(st.integers(3, 399), max_size=12), min_size=1, max_size=32)


@hypothesis_settings(max_examples=hypothesis_settings.default.max_examples // 4)
@given(settings=any_settings(), prompts=prompts)
def test_every_step_commits_in_every_open_row_and_nothing_changes_after(shared_model, settings, prompts):
    canvas = blank_canvas(*padded(prompts), settings.max_new_tokens, MASK)
    tokens, masked, passes = canvas.tokens.clone(), canvas.masked.clone(), canvas.passes.clone()
    for now in denoise(shared_model, canvas, settings):
        assert torch.equal(now.tokens[~masked], tokens[~masked])
        took_part = now.passes > passes
        assert took_part.any() and ((masked & ~now.masked).any(dim=1) == took_part).all()
        tokens, masked, passes = now.tokens.clone(), now.masked.clone(), now.passes.clone()
    assert not masked.any() and not (tokens == MASK).any()
    assert canvas.forward_passes <= settings.max_new_tokens


@hypothesis_settings(max_examples=hypothesis_settings.default.max_examples // 4)
@given(settings=any_settings(), prompts=prompts.filter(all), temperature=st.sampled_from([0.0, 0.7]))
def test_a_row_alone_has_the_tokens_that_it_has_in_a_ragged_batch(shared_model, settings, prompts, temperature):
    """Not so without a prompt: masks alone have equal logits at all places, and rounding orders them."""
    settings = replace(settings, temperature=temperature)
    together, _ = decoded(shared_model, prompts, settings)
    for row in {0, len(prompts) - 1}:
        alone, _ = decoded(shared_model, [prompts[row]], settings, row_ids=[row])
        new = settings.max_new_tokens
        assert torch.equal(alone.tokens[0, -new:], together.tokens[row, -new:])
        assert torch.equal(alone.committed_at[0, -new:], together.committed_at[row, -new:])
        assert alone.passes[0] == together.passes[row]


@hypothesis_settings(max_examples=hypothesis_settings.default.max_examples // 4)
@given(settings=any_settings(), prompts=prompts, place=st.integers(0, 8))
def test_fixed_words_stay(shared_model, settings, prompts, place):
    place = min(place, settings.max_new_tokens - 1)
    fixed = {place: [77]}
    canvas = blank_canvas(*padded(prompts), settings.max_new_tokens, MASK, fixed)
    at = canvas.prompt_length + place
    for now in denoise(shared_model, canvas, settings):
        assert (now.tokens[:, at] == 77).all() and (now.committed_at[:, at] == 0).all()
    assert not canvas.masked.any()


@pytest.mark.parametrize(("steps", "block_length"), [(1, 24), (5, 24), (24, 24), (6, 8), (3, 8), (24, 1)])
def test_the_steps_that_are_asked_for_are_taken(shared_model, steps, block_length):
    canvas, seen = decoded(shared_model, PROMPTS, Settings(max_new_tokens=24, steps=steps, block_length=block_length))
    assert seen == steps == canvas.forward_passes
    assert (canvas.passes == steps).all()
    assert canvas.committed_at[:, -24:].min() == 1 and canvas.committed_at.max() == steps
    assert (canvas.confidence[:, -24:] > 0).all()


@pytest.mark.parametrize("cfg_scale", [0.0, 1.5])
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_cache_that_is_always_refreshed_changes_nothing(shared_model, policy, cfg_scale):
    settings = Settings(max_new_tokens=8, block_length=4, policy=policy, cfg_scale=cfg_scale, threshold=0.2)
    plain, _ = decoded(shared_model, PROMPTS, settings)
    for cache in CACHES[1:]:
        cached, _ = decoded(shared_model, PROMPTS, replace(settings, **cache))
        assert torch.equal(cached.tokens, plain.tokens)
        torch.testing.assert_close(cached.confidence, plain.confidence, atol=1e-5, rtol=0)


def test_temperature_is_seeded_by_the_identity_of_a_row(model):
    settings = Settings(max_new_tokens=8, temperature=1.0, seed=3, block_length=8)
    ids, mask = pad_left([[0, 9, 10]] * 2, EOS)
    first = generate_ids(model, ids, mask, settings)
    assert torch.equal(first, generate_ids(model, ids, mask, settings))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first.flip(0), generate_ids(model, ids, mask, settings, row_ids=[1, 0]))
    assert not torch.equal(first, generate_ids(model, ids, mask, replace(settings, seed=4)))


def always(model, token):
    """Every prediction becomes `token`, wherever it is allowed, and else the last of the vocabulary."""

    def predict(module, arguments, logits):
        likely = torch.zeros_like(logits)
        likely[..., token] = 9.0
        return likely + torch.arange(400, device=logits.device) / 400

    model.lm_head.register_forward_hook(predict)
    return model


def test_a_row_that_has_its_end_is_done(model):
    settings = Settings(max_new_tokens=32, block_length=8, stop_at_end=True)
    canvas, seen = decoded(always(model, EOS), PROMPTS, settings)
    assert seen == 1  # the first position holds the end: nothing is left to say
    assert (canvas.tokens[:, -32:] == EOS).all()
    assert canvas.committed_at[:, -32:].sum() == 3


def test_a_row_that_is_done_leaves_the_batch(model):
    rows = []
    model.register_forward_pre_hook(lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True)
    settings = Settings(max_new_tokens=16, block_length=8, stop_at_end=True)
    canvas = blank_canvas(*padded(PROMPTS), 16, MASK, {0: [EOS]})
    canvas.masked[1:, canvas.prompt_length] = True  # the end is fixed in the first row alone
    canvas.tokens[1:, canvas.prompt_length] = MASK
    list(denoise(model, canvas, settings))
    assert rows[0] == 3 and set(rows[1:]) == {2}


def test_no_end_before_the_minimum(model):
    settings = Settings(max_new_tokens=16, block_length=4, min_new_tokens=6, stop_at_end=True)
    ids = generate_ids(always(model, EOS), *pad_left(PROMPTS, EOS), settings)
    assert (ids[:, -16:] == EOS).long().argmax(dim=1).tolist() == [6] * 3


def test_what_follows_the_end_is_eos(model):
    canvas = blank_canvas(*padded([[0, 9]]), 8, MASK, {3: [EOS, 50, 51]})
    settings = Settings(max_new_tokens=8, block_length=8, stop_at_end=True)
    list(denoise(model, canvas, settings))
    assert canvas.tokens[0, 6:8].tolist() == [50, 51]  # on the canvas what is committed stays
    ids = generate_ids(always(model, 50), *pad_left([[0, 9]], EOS), replace(settings, stop_at_end=True))
    assert (ids[0, 2:] == 50).all()


def test_suppressed_tokens_are_never_committed(model):
    settings = Settings(max_new_tokens=8, block_length=8, suppressed_tokens=[50, 399])
    ids = generate_ids(always(model, 50), *pad_left(PROMPTS, EOS), settings)
    assert (ids[:, -8:] == 398).all()


def test_the_nucleus_is_the_fewest_tokens_that_reach_top_p():
    logits = torch.tensor([0.25, 0.5, 0.05, 0.2]).log()[None, None]
    for top_p, kept in {0.1: [1], 0.5: [1], 0.6: [0, 1], 0.9: [0, 1, 3], 0.96: [0, 1, 2, 3]}.items():
        assert keep_nucleus(logits, top_p)[0, 0].isfinite().nonzero().flatten().tolist() == kept


def test_a_mask_is_never_committed(model):
    ids = generate_ids(always(model, MASK), *pad_left(PROMPTS, EOS), Settings(max_new_tokens=8, block_length=8))
    assert not (ids == MASK).any()


def test_end_tokens_are_no_repetition(model):
    settings = Settings(max_new_tokens=8, block_length=8, repetition_penalty=20.0)
    assert (generate_ids(always(model, EOS), *pad_left(PROMPTS, EOS), settings)[:, -8:] == EOS).all()


def test_a_penalty_on_repetition_makes_answers_repeat_less(model):
    settings = Settings(max_new_tokens=8, block_length=8)
    assert (generate_ids(always(model, 50), *pad_left(PROMPTS, EOS), settings)[:, -8:] == 50).all()
    ids = generate_ids(model, *pad_left(PROMPTS, EOS), replace(settings, repetition_penalty=20.0))
    assert all(len(set(row)) > 4 for row in ids[:, -8:].tolist())


def test_a_window_hides_the_far_masks_and_nothing_else(model):
    settings = Settings(max_new_tokens=32, block_length=8, window=4)
    short = replace(settings, max_new_tokens=8, window=None)
    ids, mask = padded(PROMPTS)
    width = ids.shape[1] + 12
    seen = []
    model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["attention_mask"].shape[1]), with_kwargs=True
    )
    generate_ids(model, ids, mask, settings)
    assert seen[0] == width
    assert torch.equal(
        generate_ids(model, ids, mask, replace(settings, window=0))[:, : ids.shape[1] + 8],
        generate_ids(model, ids, mask, short),
    )
    seen.clear()
    list(denoise(model, blank_canvas(ids, mask, 32, MASK, {30: [77]}), settings))
    assert seen[0] == ids.shape[1] + 31


def test_gaps_are_filled_where_that_is_asked_for(model):
    tokens, mask = padded([[0, 9, 10, MASK, MASK, 30, MASK], [0, 9, MASK, 40, 41, 42]])
    canvas = infilling_canvas(tokens, mask, 2, MASK)
    list(denoise(model, canvas, Settings(block_length=4)))
    kept = (tokens != MASK).cpu()
    assert torch.equal(canvas.tokens[kept], tokens.cpu()[kept])
    assert not (canvas.tokens == MASK).any() and canvas.passes.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: blank_canvas(torch.tensor([[0, MASK]]), torch.ones(1, 2), 8, MASK),
            "the prompt contains the mask token",
        ),
        (lambda: infilling_canvas(torch.tensor([[0, MASK]]), torch.ones(1, 2), 2, MASK), "there is a gap before"),
        (
            lambda: blank_canvas(torch.tensor([[0]]), torch.ones(1, 1), 8, MASK, {7: [5, 6]}),
            "2 fixed tokens at position 7",
        ),
    ],
)
def test_wrong_canvases_are_refused(make, message):
    with pytest.raises(GenerationError, match=message):
        make()


@pytest.mark.parametrize("token", [-1, 400])
def test_only_tokens_can_be_suppressed(model, token):
    with pytest.raises(GenerationError, match=f"suppressed_tokens has {token}, which is not a token id"):
        generate_ids(model, torch.tensor([[0]]), None, Settings(suppressed_tokens=[token]))


def test_a_prompt_beyond_the_context_is_refused(model):
    with pytest.raises(GenerationError, match="exceed the model's context of 256"):
        generate_ids(model, torch.zeros(1, 200, dtype=torch.long), None, Settings(max_new_tokens=64))
