import json

import pytest
import torch
from safetensors.torch import load_file

from topeng.errors import GenerationError
from topeng.generate import Settings, generate_ids
from topeng.generate.answer import answer_all
from topeng.generate.decode import blank_canvas, denoise, pad_left
from topeng.models import load_model

MASK = 2


@pytest.mark.parametrize("k", range(5))
def test_every_golden_generation_is_identical(golden, k):
    reference = json.loads((golden / "golden.json").read_text())["generate_settings"][k]
    answers = load_file(golden / "golden.safetensors")
    settings = Settings(max_new_tokens=reference.pop("gen_length"), **reference)
    ids = generate_ids(load_model(golden), answers["prompt_ids"], answers["prompt_attention_mask"], settings)
    assert torch.equal(ids, answers[f"generated_{k}"])


PROMPTS = [[0, 9, 10], [0, 11, 12, 13, 14, 15], [0, 20]]


def test_a_row_alone_has_the_tokens_that_it_has_in_a_ragged_batch(model):
    settings = Settings(max_new_tokens=16, steps=8, block_length=8)
    together = generate_ids(model, *pad_left(PROMPTS, 1), settings)
    for row, prompt in enumerate(PROMPTS):
        alone = generate_ids(model, torch.tensor([prompt]), None, settings)
        assert torch.equal(alone[0, -16:], together[row, -16:])


@pytest.mark.parametrize(("steps", "block_length"), [(1, 24), (5, 24), (24, 24), (6, 8), (3, 8), (24, 1)])
def test_each_step_commits_its_share_and_nothing_changes_after(model, steps, block_length):
    settings = Settings(max_new_tokens=24, steps=steps, block_length=block_length)
    canvas = blank_canvas(*pad_left(PROMPTS, 1), 24, MASK)
    before, seen = canvas.tokens.clone(), 0
    for now in denoise(model, canvas, settings):
        committed = before != MASK
        assert torch.equal(now.tokens[committed], before[committed])
        assert (now.tokens != before).any(dim=1).all()
        before, seen = now.tokens.clone(), seen + 1
    assert seen == steps == canvas.forward_passes
    assert not (canvas.tokens == MASK).any()


def test_temperature_is_seeded_by_row(model):
    settings = Settings(max_new_tokens=8, steps=8, block_length=8, temperature=1.0, seed=3)
    ids, mask = pad_left([[0, 9, 10]] * 2, 1)
    first = generate_ids(model, ids, mask, settings)
    assert torch.equal(first, generate_ids(model, ids, mask, settings))
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[:1], generate_ids(model, ids[:1], mask[:1], settings))


def test_it_may_stop_at_the_end(model):
    settings = Settings(max_new_tokens=32, steps=32, block_length=8, stop_at_end=True)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[1] = 0.01  # every prediction ties but the end token's
    canvas = blank_canvas(*pad_left(PROMPTS, 1), 32, MASK)
    model.lm_head.register_forward_hook(
        lambda _, __, logits: torch.nn.functional.one_hot(torch.ones_like(logits[..., 0]).long(), 400).float() * 9
    )
    list(denoise(model, canvas, settings))
    assert canvas.forward_passes == 8
    assert (canvas.tokens[:, -32:] == 1).all()


def test_a_mask_in_the_prompt_is_refused(model):
    with pytest.raises(GenerationError, match="the prompt holds the mask token"):
        generate_ids(model, torch.tensor([[0, MASK]]), None, Settings(max_new_tokens=8, steps=8, block_length=8))


def test_a_prompt_beyond_the_context_is_refused(model):
    with pytest.raises(GenerationError, match="exceed the model's context of 256"):
        generate_ids(model, torch.zeros(1, 200, dtype=torch.long), None, Settings(max_new_tokens=64, steps=64))


def test_answers_come_back_in_order(model, tokenizer):
    settings = Settings(max_new_tokens=8, steps=4, block_length=8)
    questions = ["Apa?", "Di mana kucing itu tidur, di kursi kayu atau di lantai?", "Ya?"]
    together = answer_all(model, tokenizer, questions, settings, max_length=64)
    alone = [answer_all(model, tokenizer, [question], settings, max_length=64)[0] for question in questions]
    assert together == alone
