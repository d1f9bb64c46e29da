"""The main path on another device than the CPU: nothing on the way meets a tensor that was left behind."""

import numpy as np
import peft
import pytest
import torch
from transformers import TrainingArguments

import topeng
from far_device import DEVICE, far_device, move
from topeng.adapt import methods
from topeng.adapt.foreign import to_plain
from topeng.adapt.settings import AdapterOptions
from topeng.adapt.trainer import Batching, DiffusionTrainer
from topeng.adapt.voices import load_voices
from topeng.diffusion import response_nll
from topeng.generate import Settings, generate_ids
from topeng.generate.canvas import blank_canvas, pad_left
from topeng.generate.decode import Decoder
from topeng.generate.policies import POLICIES
from topeng.generate.row import Row
from topeng.text.tokens import Example

MASK, EOS = 2, 1
PROMPTS = [[0, 9, 10], [0, 11, 12, 13, 14, 15], [0, 20]]
EXAMPLES = [Example(row, [0, 9, *range(20, 26 + row)], 2) for row in range(4)]


@pytest.fixture
def far(model):
    return move(model.cpu())


@pytest.mark.parametrize(
    "settings",
    [
        *({"policy": policy, "max_new_tokens": 4, "block_length": 2} for policy in sorted(POLICIES)),
        *({"cache": cache, "refresh_interval": 3, "cfg_scale": 1.0} for cache in ("prefix", "dual")),
        {"cache": "prefix", "window": 4, "stop_at_end": True, "suppressed_tokens": [50]},
        {"repetition_penalty": 2.0, "min_new_tokens": 4, "stop_at_end": True},
    ],
    ids=str,
)
def test_answers_are_those_of_the_cpu(model, settings):
    settings = Settings(**{"max_new_tokens": 8, "block_length": 4} | settings)
    near = generate_ids(model.cpu(), *pad_left(PROMPTS, EOS), settings)
    far = move(model)
    with far_device():
        ids = generate_ids(far, *pad_left(PROMPTS, EOS), settings)
        assert ids.device == DEVICE and torch.equal(ids.cpu(), near)


def test_likelihoods_are_those_of_the_cpu(model):
    near = response_nll(model.cpu(), EXAMPLES, draws=4, seed=0)
    far = move(model)
    with far_device():
        np.testing.assert_allclose(response_nll(far, EXAMPLES, draws=4, seed=0), near, rtol=1e-5)


@pytest.mark.parametrize("noise", ["independent", "stratified", "complementary"])
def test_a_training_step_has_the_gradient_of_the_cpu(model, tmp_path, noise):
    """On the device a step moves what the noise and the cut into passes have made on the CPU."""

    def step(adapted, device):
        args = TrainingArguments(
            str(tmp_path), use_cpu=True, report_to="none", remove_unused_columns=False, label_names=[]
        )
        vars(args)["_setup_devices"] = device
        optimizer = methods.create_optimizer(adapted, "lora", AdapterOptions(rank=2), 1e-3, 0.0)
        batching = Batching(4, 16, noise, fill=True)
        trainer = DiffusionTrainer(adapted, args, EXAMPLES, EXAMPLES, batching, optimizer)
        loss = float(trainer.training_step(adapted, EXAMPLES))
        usage = trainer.usage.totals()[:4]
        gradients = [weight.grad.cpu() for weight in adapted.parameters() if weight.requires_grad]
        return loss, usage, gradients

    adapted = methods.add_adapter(model.cpu(), "lora", AdapterOptions(rank=2), seed=0)
    near = step(adapted, torch.device("cpu"))
    adapted.zero_grad()
    move(adapted)
    with far_device():
        torch.testing.assert_close(step(adapted, DEVICE), near)


def test_an_adapter_that_holds_its_base_s_embedding_is_read(far):
    """peft saves it beside an adapter of an embedding."""
    base = "base_model.model.model.embed_tokens.weight"
    weights = {
        base: far.model.embed_tokens.weight.detach().cpu(),
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight": torch.ones(2, 32),
        "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight": torch.ones(64, 2),
    }
    config = peft.LoraConfig(r=2, target_modules=["up_proj"])
    with far_device():
        assert weights.keys() - to_plain(far, config, weights)[1].keys() == {base}


def test_adapters_that_share_a_pass_answer_as_on_the_cpu(checkpoint, adapters):
    settings = Settings(max_new_tokens=8, block_length=8, cache="prefix")

    def answers(voices):
        canvases = [blank_canvas(*pad_left([PROMPTS[1]], EOS), 8, MASK) for _ in voices]
        rows = [Row(canvas, 0, voice, settings) for canvas, voice in zip(canvases, voices, strict=True)]
        decoder = Decoder()
        for row in rows:
            decoder.join(row)
        while decoder.rows:
            decoder.step()
        return [row.tokens.tolist() for row in rows]

    base, _ = topeng.load(checkpoint, device="cpu")
    voices = load_voices(base, {name: adapters / name for name in ("one", "two")}).values()
    near = answers(voices)
    move(next(iter(voices)).model)
    with far_device():
        assert answers(voices) == near
    assert len({tuple(answer) for answer in near}) == 3


def test_what_is_left_behind_is_noticed(far):
    ids = torch.tensor([[0, 9, 10]])
    with far_device():
        with pytest.raises(RuntimeError, match="at least two, lazy and cpu"):
            far(input_ids=ids)
        with pytest.raises(RuntimeError, match=r"not supported|can't convert"):
            far(input_ids=ids.to(DEVICE)).logits.numpy()
