"""A published causal model on its way to Indonesian, at micro size: its own rows, and its recipe as a whole."""

import importlib.util
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from causal import causal_folder, causal_gguf
from topeng.cli import main
from topeng.recipe import load

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
RECIPE = ROOT / "src" / "topeng" / "recipes" / "smollm2-indonesia.yaml"
MICRO = {
    **{"corpus.sample_rows": 400, "corpus.test_rows": 8, "corpus.validation_rows": 4, "corpus.train_rows": 40},
    **{
        "corpus.benchmarks": "[]",
        "corpus.clusters": 2,
        "corpus.umap_rows": 50,
        "source.test_rows": 8,
        "source.plain_rows": 50,
    },
    **{"text.max_length": 96, "base.device": "cpu", "base.tiny.steps": 2, "base.tiny.batch_rows": 4},
    **{"adapter.rank": 2, "adapter.alpha": 4, "train.seeds": "[1]", "train.steps": 2, "train.batch_rows": 4},
    **{"train.eval_steps": 2, "generate.max_new_tokens": 32, "evaluate.draws": 2, "evaluate.generate_rows": 2},
}


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    pytest.importorskip("gguf", reason="the extra `export`")
    return causal_gguf(tmp_path_factory.mktemp("causal") / "causal.gguf")


def test_a_causal_model_writes_rows_the_same_ones_each_time(gguf_file, tmp_path, monkeypatch):
    found = []
    for name in ("first", "second"):
        out = tmp_path / f"{name}.jsonl"
        arguments = [str(gguf_file), str(out), "--rows", "3", "--batch", "48"]
        monkeypatch.setattr(sys, "argv", ["self_written.py", *arguments])
        tool("self_written").main()
        found.append([json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()])
    assert found[0] == found[1] and len(found[0]) >= 3
    assert all(set(row) == {"input", "output"} and row["output"] for row in found[0])


def test_an_answer_that_was_cut_ends_with_its_last_sentence():
    whole = tool("self_written").whole
    assert whole("It is blue. Why? Because of the") == "It is blue. Why?"
    assert whole("because of the") == ""


def test_rows_say_whether_they_have_one_right_answer_and_hold_no_plain_text(tmp_path):
    if not SHARED.is_dir():
        pytest.skip("needs the folder shared/ beside the project")
    tool("smollm2_rows").main(SHARED / "data", tmp_path)
    rows = pq.read_table(tmp_path / "indonesian.parquet")
    right = set(rows.filter(rows["one_right_answer"])["template_name"].to_pylist())
    assert {"facqa_jawab_1", "smsa_sentimen_1"} < right and "smsa_tulis_1" not in right
    plain = set(pq.read_table(tmp_path / "plain.parquet")["text"].to_pylist())
    texts = "\n".join(rows["input"].to_pylist() + rows["output"].to_pylist())
    assert len(plain) > 15000 and not [text for text in sorted(plain)[::300] if len(text) > 25 and text in texts]


@pytest.mark.slow
def test_the_recipe_runs_from_the_causal_model_to_the_report(tmp_path, monkeypatch):
    if not SHARED.is_dir():
        pytest.skip("needs the folder shared/ beside the project")
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "runs" / "smollm2-rows"
    tool("smollm2_rows").main(SHARED / "data", rows)
    (rows / "self.jsonl").write_text(json.dumps({"input": "Who are you?", "output": "A model."}) + "\n")
    causal = causal_folder(tmp_path / "causal")
    changes = [text for name, value in MICRO.items() for text in (f"--{name}", str(value))]
    command = ["run", str(RECIPE), "--run-dir", "run", "--base.convert", str(causal), *changes]
    assert main(command) == 0
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert [name.removesuffix("-seed-1") for name in scores["models"]] == ["base", *load(RECIPE).adapter.methods]
    assert (tmp_path / "run" / "report.html").exists()
