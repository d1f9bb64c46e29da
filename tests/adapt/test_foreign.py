"""Adapters that others trained: under the official code's names, or from a start that changes the base."""

import copy
import io
import json

import peft
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

import topeng
from topeng.adapt import methods
from topeng.adapt.export import export
from topeng.adapt.foreign import remove_adapter
from topeng.adapt.loading import load_adapter
from topeng.adapt.settings import AdapterOptions
from topeng.cli.conversation import Chat
from topeng.diffusion import response_nll
from topeng.errors import AdapterError
from topeng.generate import Settings
from topeng.models import load_model
from topeng.text.tokens import Example

IDS = torch.randint(6, 400, (2, 20), generator=torch.Generator().manual_seed(0))
OFFICIAL = ["q_proj", "k_proj", "v_proj", "attn_out", "ff_proj", "up_proj", "ff_out"]


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


def close(found, expected):
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


def official_network(folder):
    """The modules of the official code by their names, with a checkpoint's weights."""
    network = nn.Module()
    for name, weight in load_file(folder / "model.safetensors").items():
        *path, last, _ = name.split(".")
        parent = network
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        if weight.ndim == 1:
            made = nn.RMSNorm(len(weight))
        else:
            made = nn.Embedding(*weight.shape) if last == "wte" else nn.Linear(*reversed(weight.shape), bias=False)
        made.weight = nn.Parameter(weight)
        parent.add_module(last, made)
    return network


class OfficialConfig(PreTrainedConfig):
    model_type = "official"


class OfficialCode(PreTrainedModel):
    """Those modules as peft finds them in a training by the official code, or by dLLM's copy of it: with a head."""

    config_class = OfficialConfig

    def __init__(self, folder):
        super().__init__(OfficialConfig())
        self.model = official_network(folder).model

    def get_output_embeddings(self):
        return self.model.transformer.ff_out


def change(adapted):
    """A training's work: all that trains is moved at random."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture
def elsewhere(checkpoint, tokenizer, tmp_path):
    """Trains by plain peft on the official network; leaves the adapter, and the checkpoint that it comes to."""

    def train(**options):
        adapted = peft.get_peft_model(OfficialCode(checkpoint), peft.LoraConfig(r=4, lora_alpha=8, **options))
        change(adapted)
        adapted.save_pretrained(str(tmp_path / "adapter"))
        merged = {f"{name}": weight for name, weight in adapted.merge_and_unload().state_dict().items()}
        load_model(checkpoint).save_pretrained(tmp_path / "whole")
        save_file(merged, tmp_path / "whole" / "model.safetensors", metadata={"format": "pt"})
        return tmp_path / "adapter", load_model(tmp_path / "whole")

    return train


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": OFFICIAL},
        {"target_modules": r".*blocks\.\d+\.(attn_out|ff_out)"},
        {"target_modules": ["attn_out", "ff_proj"], "layers_to_transform": [1], "layers_pattern": "blocks"},
        {"target_modules": OFFICIAL[:6], "rank_pattern": {"attn_out": 2}, "alpha_pattern": {r"blocks\.0\.ff_proj": 24}},
        {"target_modules": OFFICIAL[:6], "modules_to_save": ["transformer.ff_out", "wte"], "use_rslora": True},
        {"target_modules": ["ff_out", "wte"], "use_dora": False},
        {"target_modules": OFFICIAL, "init_lora_weights": "pissa"},
        {"target_modules": "all-linear", "lora_dropout": 0.05, "bias": "none"},  # dLLM's way
        {"target_modules": "all-linear", "modules_to_save": ["wte", "transformer.ff_out"]},
    ],
)
def test_an_adapter_of_the_official_code_is_what_was_trained(checkpoint, elsewhere, tmp_path, options):
    """`ff_out` names the MLP's down projection and the head."""
    folder, whole = elsewhere(**options)
    base = load_model(checkpoint)
    plain = logits(base)
    adapted, _ = topeng.load(checkpoint, folder, device="cpu")
    assert (logits(whole) - plain).abs().max() > 0.1
    close(logits(adapted), logits(whole))
    assert torch.equal(logits(remove_adapter(adapted)), plain)
    export(folder, tmp_path / "merged", base=checkpoint, precision="f32")
    close(logits(load_model(tmp_path / "merged")), logits(whole))


def test_a_head_with_an_adapter_is_scored_as_the_merged_one(checkpoint, elsewhere):
    folder, whole = elsewhere(target_modules=OFFICIAL)
    adapted, _ = topeng.load(checkpoint, folder, device="cpu")
    examples = [Example(row, list(range(7 + row, 30)), 4) for row in range(3)]
    _mask, _eos = whole.config.mask_token_id, whole.config.eos_token_id
    found, expected = (response_nll(model, examples, 4, 0) for model in (adapted, whole))
    assert found == pytest.approx(expected, rel=1e-4)


def trained_elsewhere(base, folder, **options):
    """By plain peft on our network; returns the trained model's logits."""
    adapted = peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(r=4, lora_alpha=8, **options))
    adapted.save_pretrained(str(folder / "initial"))
    change(adapted)
    adapted.save_pretrained(str(folder / "raw"))
    return logits(adapted.eval())


def test_an_adapter_of_dream_is_what_was_trained(shared, with_tokenizer, tmp_path):
    folder = with_tokenizer(shared / "golden" / "dream-tiny")
    base = load_model(folder)
    trained = trained_elsewhere(base, tmp_path, target_modules="all-linear")
    assert (trained - logits(base)).abs().max() > 0.1
    close(logits(load_adapter(base, tmp_path / "raw")), trained)
    export(tmp_path / "raw", tmp_path / "gguf", "gguf", base=folder)


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize(
    "more", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}]
)
def test_a_raw_adapter_of_a_start_that_can_be_rebuilt_is_right(model, tmp_path, start, more):
    before = logits(model)
    targets = ["q_proj", "v_proj", "down_proj"]
    trained = trained_elsewhere(model, tmp_path, init_lora_weights=start, target_modules=targets, **more)
    adapted = load_adapter(model, tmp_path / "raw")
    assert (trained - before).abs().max() > 0.1
    close(logits(adapted), trained)
    assert torch.equal(logits(remove_adapter(adapted)), before)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, r"'pissa_niter_4'.*cannot be rebuilt.*save it as a plain LoRA"),
        ({"init_lora_weights": "corda"}, r"'corda'.*cannot be rebuilt"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "has layer_replication, which changes the base itself"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}, "puts its own tokens before a prompt"),
    ],
)
def test_an_adapter_of_another_base_is_refused(model, tmp_path, config, message):
    trained_elsewhere(model, tmp_path, target_modules=["q_proj"])
    file = tmp_path / "raw" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    before = logits(model)
    with pytest.raises(AdapterError, match=message):
        load_adapter(model, tmp_path / "raw")
    assert torch.equal(logits(model), before) and not methods.adapter_layers(model)


@pytest.mark.parametrize(
    "options",
    [
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"modules_to_save": ["lm_head", "embed_tokens"]},
        {"trainable_token_indices": [7, 8]},
        {"use_dora": True},
    ],
)
def test_the_base_in_a_chat_is_the_base_again(checkpoint, tmp_path, options):
    base = load_model(checkpoint, device="cpu")
    trained = trained_elsewhere(base, tmp_path, target_modules=["q_proj", "up_proj"], **options)
    chat = Chat(str(checkpoint), None, Settings(max_new_tokens=8, block_length=8), Console(file=io.StringIO()))
    for _ in range(2):
        chat.turn(f"/adapter {tmp_path / 'raw'}")
        close(logits(chat.model), trained)
        chat.turn("/adapter base")
        assert torch.equal(logits(chat.model), logits(base))


def test_what_is_published_names_no_local_path(model, tmp_path):
    (tmp_path / "base").mkdir()
    for name, written in {str(tmp_path / "base"): None, "./base": None, "its/base": "its/base", "a/b/c": None}.items():
        adapted = methods.add_adapter(copy.deepcopy(model), "lora", AdapterOptions(rank=2), seed=0)
        methods.save_adapter(adapted, "lora", tmp_path / "out", tmp_path / "initial", name)
        text = (tmp_path / "out" / "adapter_config.json").read_text()
        assert json.loads(text)["base_model_name_or_path"] == written and str(tmp_path) not in text
