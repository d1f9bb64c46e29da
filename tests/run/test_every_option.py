"""Every option of a recipe is changed by itself: what its stages' slices leave alone must come out as before.

In a new folder those stages alone are done that a run with the changed option would leave as they are. Where one of
them leaves something else than in the first run, its slice lacks the option.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from causal import causal_folder
from topeng import recipe as recipes
from topeng.corpus.synthetic import write_target
from topeng.run.folder import FINISHED, RunFolder
from topeng.run.pipeline import stages
from topeng.system.files import digest

RECIPE = """
corpus: {subsets: [], sample_fraction: 1.0, test_rows: 8, validation_rows: 4, clusters: 3, train_rows: 40,
         umap_rows: 60}
source: {synthetic_rows: 500, test_rows: 8}
text: {max_length: 96}
base: {tiny: {vocab_size: 500, hidden_size: 32, layers: 1, steps: 2, batch_rows: 4}}
adapter: {methods: [lora, lora+], rank: 2, alpha: 4}
train: {steps: 2, batch_rows: 4, learning_rate: 0.01, eval_steps: 2, report_to: []}
generate: {max_new_tokens: 16, steps: 4, block_length: 16}
evaluate: {draws: 2, generate_rows: 3}
"""
FIRST = "the first run's"
OTHER: dict[str, Any] = {
    "seed": 43, "threads": 1,
    "corpus.files": ["other.csv"], "corpus.columns": {"input": "input", "output": "output"}, "corpus.separator": ",",
    "corpus.right_answers": "all", "corpus.synthetic_rows": 1500, "corpus.digest": FIRST,
    "corpus.expected_rows": FIRST, "corpus.engine": "ray", "corpus.ray_address": "auto", "corpus.memory_gb": 1,
    "corpus.profile": "paper", "corpus.subsets": ["wikipedia_id", "wikihow", "dolly"],
    "corpus.sample_fraction": 0.9, "corpus.sample_rows": 100,
    "corpus.test_rows": 7, "corpus.validation_rows": 3, "corpus.containment": 0.6, "corpus.near_duplicate": 0.9,
    "corpus.languages": ["id"], "corpus.mask_pii": False,
    "corpus.benchmarks": ["other.csv"], "corpus.embedder": "nobody/nothing",
    "corpus.embedder_revision": "abc", "corpus.embedding_tokens": 8, "corpus.embedding_dtype": "bfloat16",
    "corpus.lower_case": False, "corpus.clusters": 2, "corpus.train_rows": 30, "corpus.selection": "k-center",
    "corpus.licences": {"dolly": "cc0-1.0"}, "corpus.umap_rows": 50,
    "source.files": ["other.csv"], "source.columns": {"input": "input", "output": "output"}, "source.separator": ",",
    "source.right_answers": "all", "source.synthetic_rows": 600, "source.held_out": "held_out.json",
    "source.test_rows": 6, "source.plain_files": ["plain.jsonl"], "source.plain_rows": 20,
    "text.max_length": 80, "text.min_share": 0.3, "text.turns": "last", "text.eos": "one",
    "base.model": "base", "base.revision": "main", "base.dtype": "bfloat16", "base.device": "cpu",
    "base.convert": "causal", "base.shift": False,
    "base.tiny.start": "base", "base.tiny.vocab_size": 520, "base.tiny.hidden_size": 64, "base.tiny.layers": 2,
    "base.tiny.steps": 3, "base.tiny.batch_rows": 3, "base.tiny.learning_rate": 0.003, "base.tiny.optimizer": "adamw",
    "base.tiny.rows": "target", "base.tiny.lora_rank": 2, "base.tiny.anneal_steps": 2,
    "base.tiny.distillation_weight": 0.5,
    "adapter.methods": ["lora"], "adapter.rank": 3, "adapter.alpha": 5, "adapter.dropout": 0.1,
    "adapter.target_modules": ["q_proj"], "adapter.loraplus_lr_ratio": 8.0,
    "train.epochs": 2, "train.steps": 3, "train.seeds": [1], "train.objectives": ["block"],
    "train.learning_rate": {"lora": 0.02, "lora+": 0.01},
    "train.batch_rows": 2, "train.batch_tokens": 512, "train.noise": "independent", "train.precision": "bfloat16",
    "train.compile": True, "train.weight_decay": 0.1,
    "train.gradient_checkpointing": True, "train.eval_steps": 1, "train.save_steps": 1,
    "train.report_to": ["tensorboard"],
    "sweep.learning_rates": [0.1], "sweep.learning_rates_b": [0.1], "sweep.steps": 3,
    "generate.max_new_tokens": 32, "generate.steps": 8, "generate.block_length": 8, "generate.temperature": 0.5,
    "generate.top_p": 0.9, "generate.repetition_penalty": 1.5, "generate.suppressed_tokens": [300],
    "generate.min_new_tokens": 4, "generate.cfg_scale": 1.0, "generate.policy": "random", "generate.threshold": 0.5,
    "generate.factor": 2.0, "generate.entropy_bound": 0.5, "generate.cache": "prefix", "generate.refresh_interval": 2,
    "generate.window": 8, "generate.stop_at_end": True, "generate.seed": 1,
    "evaluate.draws": 4, "evaluate.replicates": 1, "evaluate.generate_rows": 2, "evaluate.batch_tokens": 512,
    "evaluate.bertscore_model": "nobody/nothing",
    "report.title": "Lain", "report.answers": 1, "report.language": "id", "report.licence": "apache-2.0",
}  # fmt: skip
"""Another value of every option."""
TOGETHER: dict[str, dict[str, Any]] = {
    "base.shift": {"base.convert": "causal"},
    "base.tiny.start": {"base.tiny.vocab_size": 500},
    "base.tiny.lora_rank": {"base.tiny.start": "base"},
    "base.tiny.anneal_steps": {"base.tiny.start": "base"},
    "base.tiny.distillation_weight": {"base.tiny.start": "base"},
    "source.plain_files": {"source.plain_rows": 10},
}
COST = {
    *("threads", "corpus.engine", "corpus.ray_address", "base.device", "train.batch_tokens", "evaluate.batch_tokens"),
    *("train.gradient_checkpointing", "train.save_steps", "train.report_to"),
}
"""Options of which nothing is redone."""
ROUNDED = {"train.batch_tokens", "evaluate.batch_tokens", "train.gradient_checkpointing"}
"""Of these, those that may change the last digits."""
NOT_HERE = {"corpus.engine", "corpus.ray_address"}
"""What is done elsewhere, and has tests of its own: that Ray's rows are the same."""
FILLED = {"text.eos": "block"}
"""Where end tokens fill a forward pass, train.batch_tokens is a result: not in this recipe."""


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """The first run, in a folder with the files that options name."""
    home = tmp_path_factory.mktemp("every-option")
    for seed, name in enumerate(("rows.csv", "other.csv")):
        write_target(home / "rows.parquet", 500, seed)
        csv.write_csv(pq.read_table(home / "rows.parquet"), home / name)
    (home / "held_out.json").write_text(json.dumps({"rows": list(range(20))}))
    texts = [json.dumps({"text": f"Pasar nomor {number} buka setiap pagi."}) for number in range(30)]
    (home / "plain.jsonl").write_text("\n".join(texts))
    causal_folder(home / "causal")
    run(home, {}, home / "first")
    return home


def recipe_of(home: Path, changed: Mapping[str, Any]) -> recipes.Recipe:
    values = {**FILLED, "corpus.files": ["rows.csv"], **changed}
    paths = {"corpus.files", "corpus.benchmarks", "source.files", "source.plain_files"}
    for name in paths & set(values):
        values[name] = [str(home / file) for file in values[name]]
    for name in {"source.held_out"} & set(values):
        values[name] = str(home / values[name])
    for name in {"base.model", "base.tiny.start"} & set(values):
        values[name] = str(home / "first" / "base")
    for name in {"base.convert"} & set(values):
        values[name] = str(home / "causal")
    if values.get("corpus.digest") == FIRST:
        source = home / "first" / "corpus" / "ingested" / "source.json"
        values["corpus.digest"] = json.loads(source.read_text())["digest"]
    if values.get("corpus.expected_rows") == FIRST:
        source = home / "first" / "corpus" / "ingested" / "source.json"
        values["corpus.expected_rows"] = json.loads(source.read_text())["subsets"]
    whole = yaml.safe_load(RECIPE)
    for name, value in values.items():
        recipes.set_option(whole, name, yaml.safe_dump(value))
    return recipes.parse(whole)


def run(home: Path, changed: Mapping[str, Any], folder: Path, only: set[str] | None = None) -> None:
    recipe = recipe_of(home, changed)
    planned = [one for one in stages(recipe, folder, Console(quiet=True)) if only is None or one.name in only]
    with RunFolder(folder).locked() as locked:
        locked.run(planned, recipes.dump(recipe), recipe.seed, Console(quiet=True))


def left_alone(home: Path, changed: Mapping[str, Any]) -> list[str]:
    """The stages that a run in the first folder would leave as they are."""
    planned = stages(recipe_of(home, changed), home / "first", Console(quiet=True))
    return [name for name, expected in RunFolder(home / "first").outlook(planned).items() if expected == FINISHED]


def losses(folder: Path) -> dict[str, float]:
    models = json.loads((folder / "scores.json").read_text())["models"]
    return {name: figures["target"]["nats_per_token"]["mean"] for name, figures in models.items()}


def test_every_option_has_another_value():
    assert set(OTHER) == {name for name, _, _ in recipes.describe()}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OTHER))
def test_what_an_option_is_said_to_leave_alone_comes_out_as_before(first, tmp_path, name):
    changed = {name: OTHER[name], **TOGETHER.get(name, {})}
    kept = left_alone(first, changed)
    manifest = RunFolder(first / "first").manifest["stages"]
    redone = sorted(set(manifest) - set(kept))
    assert (redone == []) == (name in COST), f"{name} redoes {redone}"
    if name in NOT_HERE:
        return
    run(first, changed, tmp_path / "again", only=set(kept) - {"report"})
    outputs = {output for stage in kept if stage != "report" for output in manifest[stage]["outputs"]}
    different = [
        output for output in sorted(outputs) if digest(first / "first" / output) != digest(tmp_path / "again" / output)
    ]
    if name not in ROUNDED:
        assert different == [], f"{name} changes {different}, which would not be redone"
        return
    before, after = (
        json.loads((folder / "scores.json").read_text()) for folder in (first / "first", tmp_path / "again")
    )
    for model, figures in before["models"].items():
        loss = after["models"][model]["target"]["nats_per_token"]["mean"]
        assert loss == pytest.approx(figures["target"]["nats_per_token"]["mean"], rel=1e-3)
