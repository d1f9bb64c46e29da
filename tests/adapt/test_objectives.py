"""Trainings by another objective than masked diffusion: they learn, go on after a kill, and say how they look."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import topeng
from adapt.conftest import Kill, Killed
from topeng.adapt.export import export
from topeng.adapt.foreign import remove_adapter
from topeng.adapt.loading import load_adapter, load_adapters
from topeng.adapt.voices import load_voices
from topeng.errors import AdapterError, ExportError, ModelError, RecipeError
from topeng.evaluate.comparable import Scored, by_method
from topeng.generate.answer import answers
from topeng.generate.settings import Settings
from topeng.models import load_model
from topeng.models.attention import attention_of
from topeng.recipe import parse, slices

BLOCK = 8
OTHERS = {
    "block": {"attention_block": BLOCK, "predicts_next": False},
    "autoregressive": {"attention_block": 1, "predicts_next": True},
}


def by(training, objective, **options):
    changed = training.changed("train", objectives=[objective], save_steps=3, **options)
    return changed.changed("generate", block_length=BLOCK, max_new_tokens=32)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return {}


def adapter_of(training, objective, tmp_path, trained):
    """One training of each objective serves all tests."""
    if objective not in trained:
        folder = by(training, objective, steps=30).train(tmp_path / objective)
        trained[objective] = tmp_path.parent / f"kept-{objective}"
        shutil.copytree(folder, trained[objective])
    return trained[objective]


@pytest.mark.parametrize("objective", OTHERS)
def test_it_learns_and_its_adapter_says_how_it_looks(training, objective, checkpoint, tmp_path, trained):
    folder = adapter_of(training, objective, tmp_path, trained)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    held_out = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert held_out[-1] < held_out[0] - 1
    record = json.loads((folder / "base.json").read_text())
    assert {name: record[name] for name in OTHERS[objective]} == OTHERS[objective]
    model, tokenizer = topeng.load(checkpoint, folder, device="cpu")
    assert attention_of(model.config) == OTHERS[objective]
    (answer,) = answers(model, tokenizer, ["Apa?"], Settings(max_new_tokens=24, block_length=8, stop_at_end=True))
    assert answer.forward_passes >= len(answer.token_ids) > 0
    assert objective == "block" or answer.answer.startswith("Kucing")
    base = remove_adapter(model)
    assert attention_of(base.config) == {"attention_block": None, "predicts_next": False} and not base.predicts_next


@pytest.mark.parametrize("objective", OTHERS)
def test_a_killed_training_goes_on_to_the_same_adapter(training, objective, tmp_path):
    short = by(training, objective, steps=8)
    whole = short.train(tmp_path / "whole")
    with pytest.raises(Killed):
        short.train(tmp_path / "killed", Kill(after=7))
    again = short.train(tmp_path / "killed")
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, again))
    assert all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def test_it_does_not_depend_on_how_a_step_is_cut_into_passes(training, tmp_path):
    """A pass of block diffusion has twice the tokens of its rows, and is cut by these."""
    short = by(training.changed("text", eos="one"), "block", steps=6)
    wide, narrow = (
        load_file(short.changed("train", batch_tokens=size).train(tmp_path / str(size)) / "adapter_model.safetensors")
        for size in (4096, 64)
    )
    assert all(torch.allclose(wide[name], narrow[name], atol=1e-4) for name in wide)


def test_adapters_that_look_otherwise_are_not_put_together(training, checkpoint, tmp_path, trained):
    folders = {name: adapter_of(training, name, tmp_path, trained) for name in OTHERS}
    with pytest.raises(AdapterError, match="trained with other objectives"):
        load_adapters(load_model(checkpoint), folders)
    with pytest.raises(AdapterError, match="another objective than the base, which therefore cannot answer beside it"):
        load_voices(load_model(checkpoint), {"twin": folders["autoregressive"]})


def test_an_export_looks_as_its_adapter(training, checkpoint, tmp_path, trained):
    folder = adapter_of(training, "autoregressive", tmp_path, trained)
    export(folder, tmp_path / "merged", "merged", base=checkpoint, precision="f32")
    written = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert (written["attention_block"], written["predicts_next"]) == (1, True)
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        wanted = load_adapter(load_model(checkpoint, device="cpu"), folder)(input_ids=ids).logits
        found = load_model(tmp_path / "merged", device="cpu")(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    export(folder, tmp_path / "adapter", "adapter", base=checkpoint)
    assert json.loads((tmp_path / "adapter" / "base.json").read_text())["attention_block"] == 1
    with pytest.raises(ExportError, match="looks back only"):
        export(folder, tmp_path / "gguf", "gguf", base=checkpoint)


def test_a_base_that_looks_back_only_is_not_trained_to_look_ahead(training, checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "base")
    options = json.loads((tmp_path / "base" / "config.json").read_text())
    (tmp_path / "base" / "config.json").write_text(json.dumps(options | {"attention_block": 4}))
    other = by(training, "masked").changed("base", model=str(tmp_path / "base"))
    with pytest.raises(ModelError, match=r"train.objectives to \[block\] and generate.block_length to 4"):
        other.train(tmp_path / "work")
    by(other, "block", steps=1).changed("generate", block_length=4).train(tmp_path / "blocks")


@pytest.mark.parametrize("objective", OTHERS)
def test_an_update_that_depends_on_the_masks_is_for_masked_diffusion_alone(objective):
    values = {"adapter": {"methods": ["lora", "nara"]}, "train": {"objectives": ["masked", objective]}}
    with pytest.raises(RecipeError, match=f"train.objectives has '{objective}', but nara depends on the share"):
        parse(values)
    parse(values | {"train": {"objectives": ["masked"]}})


def test_a_recipe_trains_each_method_by_each_objective():
    recipe = parse(
        {
            "adapter": {"methods": ["lora", "full"]},
            "train": {"objectives": ["masked", "autoregressive"], "seeds": [1, 2]},
        }
    )
    assert [one.name for one in recipe.trainings] == [
        *("lora-seed-1", "lora-seed-2", "lora-autoregressive-seed-1", "lora-autoregressive-seed-2"),
        *("full-seed-1", "full-seed-2", "full-autoregressive-seed-1", "full-autoregressive-seed-2"),
    ]
    twin = slices.answering(recipe, recipe.trainings[2])
    assert twin.trained_by["objective"] == "autoregressive"
    assert "objective" not in slices.answering(recipe, recipe.trainings[0]).trained_by
    assert slices.pretraining(recipe).objective == "masked"
    folders = {one.name: slices.answering(recipe, one).trained_by for one in recipe.trainings[:4]}
    scored = [Scored(Path(name), name, "lora", place % 2, how, {}) for place, (name, how) in enumerate(folders.items())]
    methods = by_method([Scored(Path("base"), "base", "base", None, {}, {}), *scored])
    assert [*methods] == ["base", "lora", "lora objective=autoregressive"]
    for values, message in (
        ({"objectives": []}, "must be one or more different objectives"),
        ({"objectives": ["masked", "masked"]}, "must be one or more different objectives"),
        ({"objectives": ["autoregressive"], "noise": "complementary"}, "`autoregressive` masks nothing"),
        ({"objectives": ["causal"]}, "must be one of 'masked', 'block', 'autoregressive'"),
    ):
        with pytest.raises(RecipeError, match=message):
            parse({"train": values})
