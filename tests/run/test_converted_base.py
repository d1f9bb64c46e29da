"""A recipe that begins with a causal model: it is converted, pretrained and adapted in one run."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

import topeng
from causal import causal_folder, causal_gguf
from topeng import recipe as recipes
from topeng.adapt import convert as converting
from topeng.cli import main
from topeng.errors import ModelError, RecipeError
from topeng.generate.answer import answers
from topeng.generate.settings import Settings
from topeng.models import load_model
from topeng.run.checks import check
from topeng.run.pipeline import stages_for
from topeng.run.plan import base_config

RECIPE = """
corpus: {synthetic_rows: 1000, subsets: [], sample_fraction: 1.0, test_rows: 8, validation_rows: 4, clusters: 1,
         train_rows: 20, umap_rows: 50, languages: []}
source: {synthetic_rows: 500, test_rows: 8, plain_rows: 20}
text: {max_length: 96, eos: block}
base: {convert: CAUSAL, tiny: {steps: 3, batch_rows: 4, learning_rate: 0.001}}
adapter: {methods: [lora], rank: 2, alpha: 4}
train: {steps: 2, batch_rows: 4, eval_steps: 2, report_to: []}
generate: {max_new_tokens: 16, block_length: 16}
"""


def write_recipe(folder: Path, causal: Path) -> Path:
    (folder / "recipe.yaml").write_text(RECIPE.replace("CAUSAL", str(causal)))
    return folder / "recipe.yaml"


@pytest.fixture(params=["folder", "gguf"])
def causal(request, tmp_path) -> Path:
    if request.param == "folder":
        return causal_folder(tmp_path / "causal")
    pytest.importorskip("gguf", reason="the extra `export`")
    return causal_gguf(tmp_path / "causal.gguf")


def test_one_recipe_converts_pretrains_and_adapts(tmp_path, capsys):
    recipe, run = write_recipe(tmp_path, causal_folder(tmp_path / "causal")), tmp_path / "run"
    assert main(["train", str(recipe), "--run-dir", str(run)]) == 0
    manifest = json.loads((run / "manifest.json").read_text())["stages"]
    assert {"base/convert", "base", "train/lora"} < set(manifest)
    assert manifest["base"]["reads"]["converted"] == manifest["base/convert"]["outputs"]["converted"]
    converted, base = (load_model(run / name, torch.float32, "cpu") for name in ("converted", "base"))
    moved = [(now - base.state_dict()[name]).abs().max().item() for name, now in converted.state_dict().items()]
    assert 0 < max(moved) < 0.1
    assert base.config.predicts_next and base.config.model_type == "a2d-llama"
    model, tokenizer = topeng.load(run / "base", run / "adapters" / "lora", device="cpu")
    (answer,) = answers(model, tokenizer, ["Apa?"], Settings(max_new_tokens=8, block_length=8))
    assert answer.forward_passes == 8
    capsys.readouterr()
    assert main(["train", str(recipe), "--run-dir", str(run)]) == 0
    told = capsys.readouterr().out
    assert told.count("already done") == len(manifest)


def test_the_converted_weights_are_the_causal_ones(causal, tmp_path):
    """Of GGUF too, whose queries and keys are in another order."""
    converting.convert(causal, tmp_path / "out")
    found = load_model(tmp_path / "out", torch.float32, "cpu").state_dict()
    wanted = load_model(causal_folder_converted(tmp_path), torch.float32, "cpu").state_dict()
    assert set(found) == set(wanted)
    assert {name for name in wanted if not torch.allclose(found[name], wanted[name], atol=1e-6)} == set()


def causal_folder_converted(tmp_path: Path) -> Path:
    converting.convert(causal_folder(tmp_path / "again"), tmp_path / "converted-again")
    return tmp_path / "converted-again"


def test_a_kill_after_the_conversion_does_not_convert_again(tmp_path, monkeypatch):
    recipe = recipes.load(write_recipe(tmp_path, causal_folder(tmp_path / "causal")))
    planned = {stage.name: stage for stage in stages_for(recipe, "base", tmp_path / "run", Console(quiet=True))}
    assert list(planned) == ["source", "base/convert", "base"]
    planned["base/convert"].work(tmp_path / "work")
    monkeypatch.setattr(converting, "_read", None)
    planned["base/convert"].work(tmp_path / "work")
    assert load_model(tmp_path / "work" / "converted").config.mask_token_id == 259


def test_a_recipe_without_a_causal_model_converts_nothing(tmp_path):
    file = write_recipe(tmp_path, causal_folder(tmp_path / "causal"))
    names = [
        [one.name for one in stages_for(recipes.load(file, change), "base", tmp_path / "run", Console(quiet=True))]
        for change in ({}, {"base.convert": "null"})
    ]
    assert names == [["source", "base/convert", "base"], ["source", "base"]]


def test_what_cannot_be_a_base_fails_before_the_first_stage(tmp_path):
    causal = causal_folder(tmp_path / "causal")
    file = write_recipe(tmp_path, causal)
    for change, message in (
        ({"base.model": "kecil"}, r"base.convert = .* makes the base, but model = kecil names another. Leave one out"),
        ({"base.tiny.start": "runs/base"}, "tiny.start = runs/base names another"),
    ):
        with pytest.raises(RecipeError, match=message):
            recipes.load(file, change)
    for change, message in (
        ({"base.convert": str(tmp_path / "nowhere")}, "cannot read the causal model"),
        ({"text.max_length": "2040"}, "add up to 2056, but the context of .*causal is 2048"),
    ):
        changed = recipes.load(file, change)
        with pytest.raises(ModelError, match=message):
            check(changed, stages_for(changed, "base", tmp_path / "run", Console(quiet=True)))


def test_a_plan_knows_the_shape_that_it_will_have(causal, tmp_path):
    """And that of a checkpoint that pretraining continues from, whatever the options of a tiny base say."""
    recipe = recipes.load(write_recipe(tmp_path, causal))
    config = base_config(recipe)
    assert (config.model_type, config.vocab_size, config.hidden_size) == ("a2d-llama", 260, 32)
    converting.convert(causal, tmp_path / "start")
    start = recipes.load(
        write_recipe(tmp_path, causal), {"base.convert": "null", "base.tiny.start": str(tmp_path / "start")}
    )
    assert base_config(start).model_type == "a2d-llama"
    gone = recipes.load(write_recipe(tmp_path, causal), {"base.convert": "someone/model"})
    with pytest.raises(ModelError, match=r"--base.convert FOLDER"):
        base_config(gone)
