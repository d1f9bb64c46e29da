"""Every family under every policy and cache, in batches of any size: properties that hold for all answers, in fp32."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tiny_families import EOS, FAMILIES, MASK, tiny_checkpoint
from topeng.generate import Settings
from topeng.generate.canvas import blank_canvas, pad_left
from topeng.generate.decode import denoise
from topeng.generate.policies import POLICIES
from topeng.models import load_model

PROMPT_TOKENS = st.integers(6, 300)  # below the special tokens of every golden checkpoint


@pytest.fixture(scope="session")
def family(tmp_path_factory):
    @cache
    def load(name):
        model = load_model(tiny_checkpoint(name, tmp_path_factory.mktemp("families")), "float32", "cpu")
        if model.config.mask_token_id is None:  # a mixture's tokenizer would say
            model.config.mask_token_id, model.config.eos_token_id = MASK, EOS
        model.generation_config.eos_token_id = model.config.eos_token_id
        return model

    return load


@st.composite
def any_settings(draw):
    block_length, blocks = draw(st.sampled_from([2, 4, 6])), draw(st.integers(1, 2))
    return Settings(
        max_new_tokens=blocks * block_length,
        block_length=block_length,
        steps=blocks * draw(st.integers(1, block_length)),
        policy=draw(st.sampled_from(sorted(POLICIES))),
        threshold=draw(st.sampled_from([0.02, 0.5])),
        factor=draw(st.sampled_from([0.5, 3.0])),
        entropy_bound=draw(st.sampled_from([0.5, 6.0])),
        cache=draw(st.sampled_from(["none", "prefix", "dual"])),
        refresh_interval=draw(st.sampled_from([None, 1, 2])),
        temperature=draw(st.sampled_from([0.0, 0.7])),
        cfg_scale=draw(st.sampled_from([0.0, 0.0, 1.0])),
        stop_at_end=draw(st.booleans()),
        seed=draw(st.integers(0, 3)),
    )


asked = st.lists(st.lists(PROMPT_TOKENS, min_size=1, max_size=11), min_size=1, max_size=5)


def answers(model, prompts, settings, row_ids=None):
    """The new tokens [rows, max_new_tokens]; what is committed must stay, and nothing is left masked."""
    config = model.config
    canvas = blank_canvas(*pad_left(prompts, config.eos_token_id), settings.max_new_tokens, config.mask_token_id)
    tokens, masked = canvas.tokens.clone(), canvas.masked.clone()
    for now in denoise(model, canvas, settings, row_ids):
        assert torch.equal(now.tokens[~masked], tokens[~masked]) and not (now.masked & ~masked).any()
        tokens, masked = now.tokens.clone(), now.masked.clone()
    new = canvas.tokens[:, -settings.max_new_tokens :]
    assert not canvas.masked.any() and not (new == config.mask_token_id).any()
    return new


def check_properties(model, settings, prompts):
    together = answers(model, prompts, settings)
    for row in {0, len(prompts) - 1} if len(prompts) > 1 else ():
        assert torch.equal(answers(model, [prompts[row]], settings, [row])[0], together[row])
    if settings.cache != "none" and settings.refresh_interval == 1:
        assert torch.equal(answers(model, prompts, replace(settings, cache="none")), together)


@pytest.mark.parametrize("name", FAMILIES)
@hypothesis_settings(max_examples=4)
@given(settings=any_settings(), prompts=asked)
def test_an_answer_is_a_row_s_own_and_what_is_committed_stays(family, name, settings, prompts):
    check_properties(family(name), settings, prompts)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@hypothesis_settings(max_examples=60)
@given(settings=any_settings(), prompts=asked)
def test_they_are_of_many_more_answers(family, name, settings, prompts):
    check_properties(family(name), settings, prompts)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", ["prefix", "dual"])
def test_a_cache_that_is_refreshed_at_each_step_changes_nothing(family, name, kind):
    """Whatever is drawn above: once for each family and cache, in a ragged batch."""
    prompts = [[9, 20, 31], [40, 41, 42, 43, 44, 45, 46, 47]]
    settings = Settings(max_new_tokens=8, block_length=4, cache=kind, refresh_interval=1)
    plain = answers(family(name), prompts, replace(settings, cache="none"))
    assert torch.equal(answers(family(name), prompts, settings), plain)
