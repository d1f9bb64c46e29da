"""Several adapters on one base."""

import shutil

import peft
import pytest
import torch

from topeng import load
from topeng.adapt import methods
from topeng.adapt.settings import AdapterOptions
from topeng.adapt.voices import load_voices, named_folders
from topeng.errors import AdapterError
from topeng.generate import Settings
from topeng.generate.answer import prompt_canvas
from topeng.generate.decode import Decoder
from topeng.generate.row import Row

SETTINGS = Settings(max_new_tokens=8, block_length=8)
IDS = torch.tensor([[0, 9, 10, 2, 2, 2]])


@pytest.fixture(scope="module")
def dora(tmp_path_factory, checkpoint):
    folder = tmp_path_factory.mktemp("dora") / "dora"
    config = peft.LoraConfig(r=2, lora_alpha=64, target_modules=["q_proj"], use_dora=True, init_lora_weights=False)
    torch.manual_seed(7)
    peft.get_peft_model(load(checkpoint, device="cpu")[0], config).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def nara(tmp_path_factory, checkpoint):
    folder = tmp_path_factory.mktemp("nara") / "nara"
    options = AdapterOptions(rank=2, alpha=64)
    adapted = methods.add_adapter(load(checkpoint, device="cpu")[0], "nara", options, seed=0)
    torch.manual_seed(8)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name or "weight_3" in name:
            torch.nn.init.normal_(weight, std=0.3)
    methods.save_adapter(adapted, "nara", folder, folder)
    return folder


@pytest.fixture(scope="module")
def folders(adapters, dora, nara, checkpoint):
    one, two = adapters / "one", adapters / "two"
    return {"v1.0": one, "nara": nara, "two": two, "dora": dora, "nara-2": nara, "whole": checkpoint}


def row_of(voice, seed=0):
    return Row(prompt_canvas(voice.model, [[0, 9, 10]], SETTINGS), 0, voice, SETTINGS, seed)


def decoded(*rows):
    decoder = Decoder()
    for row in rows:
        decoder.join(row)
    while decoder.rows:
        decoder.step()
    return [(row.tokens.tolist(), row.confidence.tolist()) for row in rows]


@torch.no_grad()
def logits_of(voice):
    """Of one pass, with the names or the turns that the decoder takes."""
    row = row_of(voice)
    ((_, logits),) = Decoder()._logits([row])
    return logits


def test_each_voice_has_the_logits_that_it_has_alone_and_keeps_them(checkpoint, folders):
    voices = load_voices(load(checkpoint, device="cpu")[0], folders)
    assert list(voices) == ["base", *folders]
    assert [voice.mixes for voice in voices.values()] == [True, True, False, True, False, False, True]
    expected = {}
    for name in voices:
        model = load(checkpoint, adapter=folders.get(name), device="cpu")[0]
        canvas = prompt_canvas(model, [[0, 9, 10]], SETTINGS)
        with torch.no_grad():
            expected[name] = model(input_ids=canvas.tokens, noise_level=torch.ones(1)).logits[0, 3:]
    assert len({float(logits.sum()) for logits in expected.values()}) == 5  # `whole` is the base again, one comes twice
    for name in [*voices, *voices]:  # none leaves a trace in another
        torch.testing.assert_close(logits_of(voices[name]), expected[name], atol=1e-5, rtol=0)


def test_a_batch_of_several_voices_gives_each_row_what_it_has_alone(checkpoint, folders):
    voices = load_voices(load(checkpoint, device="cpu")[0], folders)
    passes = []
    model = voices["base"].model
    model.register_forward_pre_hook(lambda _, __, given: passes.append(len(given["input_ids"])), with_kwargs=True)
    expected = {name: decoded(row_of(voice))[0] for name, voice in voices.items()}
    passes.clear()
    mixed = decoded(*(row_of(voice) for voice in voices.values()))
    # base, v1.0 and two share; DoRA and NaRA take turns; `whole` is another model
    assert sorted(passes) == [1] * 24 + [3] * 8
    for (tokens, confidence), (own_tokens, own_confidence) in zip(mixed, expected.values(), strict=True):
        assert tokens == own_tokens and confidence == pytest.approx(own_confidence, abs=1e-5)
    assert len({tuple(tokens) for tokens, _ in expected.values()}) == 5


def test_one_that_does_not_fit_leaves_the_base(checkpoint, adapters):
    base = load(checkpoint, device="cpu")[0]
    before = base(input_ids=IDS).logits
    with pytest.raises(AdapterError, match="other does not fit this base"):
        load_voices(base, {"one": adapters / "one", "other": adapters / "other"})
    assert torch.equal(base(input_ids=IDS).logits, before)


def test_folders_are_named(adapters, tmp_path):
    shutil.copytree(adapters / "one", tmp_path / "run" / "adapters" / "lora")
    shutil.copytree(adapters / "two", tmp_path / "run" / "adapters" / "pissa")
    assert list(named_folders([str(tmp_path / "run"), f"mine={adapters / 'one'}"])) == ["lora", "pissa", "mine"]
    assert list(named_folders([str(adapters / "one")])) == ["one"]
    for wrong, message in (
        (["x=nowhere"], "no adapter folder nowhere"),
        ([f"base={adapters / 'one'}"], "two models would be named 'base'"),
        ([str(adapters / "one"), f"one={adapters / 'two'}"], "two models would be named 'one'"),
    ):
        with pytest.raises(AdapterError, match=message):
            named_folders(wrong)
