"""Model cards, read back as the Hub reads them."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from made_up import write_json
from made_up_run import METHODS, RECIPE, fake_run, fake_scores

from topeng.adapt import settings
from topeng.report.model_card import write_cards
from topeng.report.page import write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("run"), points=60)


def written(run, method="lora", licence="apache-2.0"):
    write_cards(run, run / "cards", "Topeng | <b>", licence)
    return (run / "cards" / f"{method}.md").read_text(encoding="utf-8")


def test_there_is_a_card_for_each_method(run):
    written(run)
    assert {path.stem for path in (run / "cards").iterdir()} == set(METHODS)


def test_the_hub_reads_its_metadata_and_results(run):
    data = ModelCard(written(run)).data
    assert (data.license, data.base_model, data.library_name) == ("apache-2.0", "GSAI-ML/LLaDA-8B-Instruct", "peft")
    assert data.language == ["id", "ms"] and data.datasets == ["indonlp/cendol_collection_v2"]
    results = {(result.dataset_name, result.metric_type): result.metric_value for result in data.eval_results}
    scores = fake_scores()
    expected = round(scores["models"]["lora"]["target"]["nats_per_token"]["mean"], 4)
    assert results["Held-out rows, target language", "nats_per_token"] == expected
    forgetting = round(scores["forgetting"]["lora"]["nats_per_token"]["mean"], 4)
    assert results["Held-out rows, source language", "forgetting"] == forgetting
    assert not any(value is None for value in results.values())


def test_a_method_that_is_trained_by_two_objectives_has_a_card_for_each(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    run = tmp_path / "run"
    scores = json.loads((run / "scores.json").read_text())
    for section in ("models", "gain", "forgetting", "seeds"):
        scores[section]["full objective=block"] = scores[section].pop("pissa")
    scores["models"]["full objective=block"]["names"] = ["full-block-seed-1", "full-block-seed-2"]
    write_json(run / "scores.json", scores)
    shutil.copytree(run / "adapters" / "pissa", run / "adapters" / "full-block-seed-1")
    card = written(run, "full-block")  # where `topeng export` looks for it
    assert ModelCard(card).data.library_name == "transformers" and "All weights" in card
    assert ModelCard(card).data.tags[-1] == "full"


def test_what_topeng_alone_loads_is_told(run, monkeypatch):
    assert "With peft alone" in written(run)
    monkeypatch.setitem(settings.METHODS, "lora", replace(settings.METHODS["lora"], noise_aware=True))
    card = written(run)
    assert ModelCard(card).data.library_name == "topeng"
    assert "With peft alone" not in card and "peft alone does not load it" in card


def test_the_body_has_the_numbers_of_the_report(run):
    write_report(run, run / "report.html", "Topeng", 2)
    card, page = written(run), (run / "report.html").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:nats|gain|forgetting|chrF|right).*", card, re.MULTILINE)
    numbers = [number for row in rows for number in re.findall(r"[+−]?\d+\.\d+", row)]
    assert len(numbers) > 20
    assert [number for number in numbers if number not in page] == []


def test_seeds_are_one_card(run):
    card = written(run)
    assert "Trained 2 times, with other seeds: lora-seed-1, lora-seed-2." in card
    assert 'adapter="PATH/TO/lora-seed-1"' in card and "| seeds | 1, 2 |" in card
    assert "| seeds | 42 |" in written(run, "pissa")


def test_it_names_no_folder_of_this_machine(run):
    text = RECIPE.replace("GSAI-ML/LLaDA-8B-Instruct", "/home/someone/models/llada")
    (run / "recipe.yaml").write_text(text, encoding="utf-8")
    try:
        card = written(run)
    finally:
        (run / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    assert "someone" not in card and str(run) not in card
    assert "The base is\n`llada`." in card
    assert ModelCard(card).data.base_model is None  # a folder is no model id


@pytest.mark.parametrize("base", ["runs/demo", "demo", "./runs/demo", "kecil"])
def test_a_relative_folder_is_no_model_id(run, tmp_path, monkeypatch, base):
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    (run / "recipe.yaml").write_text(RECIPE.replace("GSAI-ML/LLaDA-8B-Instruct", base), encoding="utf-8")
    try:
        assert ModelCard(written(run)).data.base_model is None
    finally:
        (run / "recipe.yaml").write_text(RECIPE, encoding="utf-8")


def test_texts_of_the_recipe_stay_in_their_cells(run):
    card = written(run)
    assert "CC BY-SA 4.0 \\| &lt;b>" in card and "# Topeng \\| &lt;b>: LoRA" in card
    tables = [block.split("\n") for block in re.findall(r"(?:^\|.*\n?)+", card, re.MULTILINE)]
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines if line}) == 1, lines[0]


def test_an_unstated_licence_and_a_tiny_base_are_said(run):
    text = RECIPE.replace("model: GSAI-ML/LLaDA-8B-Instruct", "model: null")
    (run / "recipe.yaml").write_text(text, encoding="utf-8")
    try:
        card = written(run, licence=None)
    finally:
        (run / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    data = ModelCard(card).data
    assert (data.license, data.license_name) == ("other", "not-stated")
    assert "No licence was stated" in card and "a tiny model that the same run trained" in card


def test_a_base_that_the_run_converted_is_said_and_is_no_model_to_load(run):
    text = RECIPE.replace("model: GSAI-ML/LLaDA-8B-Instruct", "model: null, convert: someone/smol")
    (run / "recipe.yaml").write_text(text, encoding="utf-8")
    try:
        card = written(run)
    finally:
        (run / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    assert "what the same run made of the causal model `smol`" in card and ModelCard(card).data.base_model is None


def test_what_was_not_measured_is_left_out_or_a_dash(run):
    scores = fake_scores()
    scores["models"]["lora"]["answers"] = {"target": None, "source": None}
    scores["models"]["lora"]["target"]["bits_per_byte"]["mean"] = None
    write_json(run / "scores.json", scores)
    try:
        card = written(run)
    finally:
        write_json(run / "scores.json", fake_scores())
    metrics = {result.metric_type for result in ModelCard(card).data.eval_results}
    assert "chrf" not in metrics and "| None" not in card and "None |" not in card
