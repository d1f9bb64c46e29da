"""Whole runs, with the real Daft, peft, transformers and UMAP, on a corpus of a few hundred rows."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import run_page
from rich.console import Console

from topeng import recipe as recipes
from topeng.cli import main
from topeng.corpus.schema import COLUMNS
from topeng.run.folder import RunFolder
from topeng.run.pipeline import stages, stages_for
from topeng.system.memory import measured

MICRO = """
corpus: {files: [CORPUS], subsets: [], sample_fraction: 1.0, test_rows: 12, validation_rows: 6, clusters: 3,
         train_rows: 60, umap_rows: 60}
source: {synthetic_rows: 500, test_rows: 12}
text: {max_length: 96}
base: {tiny: {vocab_size: 600, hidden_size: 32, layers: 2, steps: 12, batch_rows: 8}}
adapter: {methods: [lora, pissa], rank: 2, alpha: 4}
train: {steps: 12, batch_rows: 8, learning_rate: 0.01, eval_steps: 6, save_steps: 4}
generate: {max_new_tokens: 16, steps: 4, block_length: 16}
evaluate: {draws: 2, generate_rows: 4}
"""


CORPUS = ["corpus/ingest", "corpus/draw", "corpus/embed", "corpus/select"]
OTHER = {  # another value of every option that changes cost alone
    "corpus.engine": "ray",
    "corpus.ray_address": "auto",
    "base.device": "cpu",
    "train.batch_tokens": "512",
    "train.gradient_checkpointing": "true",
    "train.save_steps": "7",
    "train.report_to": "[]",
    "evaluate.batch_tokens": "512",
}


def fingerprints(path, run, **overrides):
    recipe = recipes.load(path, {name.replace("__", "."): value for name, value in overrides.items()})
    folder = RunFolder(run)
    return {stage.name: folder.fingerprint(stage) for stage in stages(recipe, run, Console(quiet=True))}


def test_what_changes_cost_alone_invalidates_nothing(recipe, tmp_path):
    declared = [
        f"{section.name}.{option.name}"
        for section in dataclasses.fields(recipes.Recipe)
        if dataclasses.is_dataclass(section.type)
        for option in dataclasses.fields(section.type)
        if option.metadata["cost"]
    ]
    assert sorted(declared) == sorted(OTHER)
    before = fingerprints(recipe, tmp_path, text__eos="block")
    for name, value in OTHER.items():
        assert fingerprints(recipe, tmp_path, text__eos="block", **{name: value}) == before, name
    assert fingerprints(recipe, tmp_path, text__eos="block", corpus__memory_gb="1") != before


def test_where_end_tokens_fill_a_pass_its_size_is_a_result(recipe, tmp_path):
    before, after = fingerprints(recipe, tmp_path), fingerprints(recipe, tmp_path, train__batch_tokens="512")
    adapted = {f"{stage}/{name}" for stage in ("train", "evaluate") for name in ("lora", "pissa")}
    assert {name for name in before if before[name] != after[name]} == {"base", *adapted}


@pytest.mark.parametrize("name", ["generate__temperature", "evaluate__generate_rows"])
def test_how_answers_are_made_costs_no_likelihoods(recipe, tmp_path, name):
    before, after = fingerprints(recipe, tmp_path), fingerprints(recipe, tmp_path, **{name: "1"})
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"evaluate/base", "evaluate/lora", "evaluate/pissa", "report"}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("corpus", ["corpus/ingest", "corpus/draw", "corpus/embed", "corpus/select", "corpus/map", "source"]),
        ("base", ["source", "base"]),
        ("train/", [*CORPUS, "source", "base", "train/lora", "train/pissa"]),
    ],
)
def test_a_command_does_its_stages_and_what_they_read(recipe, tmp_path, wanted, names):
    planned = stages_for(recipes.load(recipe), wanted, tmp_path, Console(quiet=True))
    assert [stage.name for stage in planned] == names


def test_a_report_needs_every_stage(recipe, tmp_path):
    loaded, console = recipes.load(recipe), Console(quiet=True)
    every = [stage.name for stage in stages(loaded, tmp_path, console)]
    assert [stage.name for stage in stages_for(loaded, "report", tmp_path, console)] == every


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    rows = [
        {
            "dataset_name": "toko",
            "subset_name": "toko",
            "prompt_id": "1",
            "template_name": f"toko_{number % 2}",
            "dataset_key": "train",
            "input": f"Berapa harga {number} buah <script>alert('{number}')</script> di pasar {number % 7}?",
            "output": f"Harga {number} buah adalah {number * 3} rupiah <script>alert({number})</script>.",
        }
        for number in range(120)
    ]
    with (folder / "corpus.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (folder / "micro.yaml").write_text(MICRO.replace("CORPUS", str(folder / "corpus.csv")))
    return folder / "micro.yaml"


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "micro"
    assert main(["run", str(recipe), "--run-dir", str(folder)]) == 0
    return folder


def stages_of(run):
    return json.loads((run / "manifest.json").read_text())["stages"]


def test_the_run_folder_is_as_the_contract_says(run):
    for name in ("recipe.yaml", "manifest.json", "scores.json", "report.html", "corpus", "base"):
        assert (run / name).exists(), name
    for method in ("lora", "pissa"):
        assert (run / "adapters" / method / "adapter_model.safetensors").exists()
    assert all(stage["status"] == "done" for stage in stages_of(run).values())
    assert not list((run / ".work").iterdir())


def test_the_page_about_the_folder_tells_each_file_and_field(run, recipe):
    planned = stages(recipes.load(recipe), run, Console(quiet=True))
    text = run_page.PAGE.read_text("utf-8")
    assert run_page.problems(run, planned, text) == []
    for line, problem in [
        ("| `kept_share` | their share |\n", "corpus/funnel.json: kept_share is not told"),
        ("| `corpus/overlap.json` |", "corpus/overlap.json is on 0 lines"),
    ]:
        without = re.sub(f"{re.escape(line)}.*", "", text)
        assert problem in run_page.problems(run, planned, without)
    swapped = text.replace("| `source` | `base` |", "| `source` | `report` |")
    assert any("source/plain.parquet is written by" in one for one in run_page.problems(run, planned, swapped))


def test_the_report_names_versions_and_digests(run):
    page, manifest = (run / "report.html").read_text(), json.loads((run / "manifest.json").read_text())
    assert f"Made by topeng {manifest['versions']['topeng']} from" in page
    assert all(known["sha256"] in page for known in manifest["inputs"].values())
    assert manifest["inputs"]


def test_the_report_escapes_the_corpus(run):
    page = (run / "report.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@contextmanager
def here(work, count, threads, prepare):
    """Workers, all of which are this process."""

    class Here:
        def do(self, folders):
            for name, folder in folders.items():
                yield name, *measured(partial(work, name, folder))

    yield Here()


def test_what_workers_do_is_what_is_done_without_them(run, recipe, tmp_path, monkeypatch):
    """They have the recipe as text and a stage's name; in processes of their own: system/test_workers.py."""
    folder = shutil.copytree(run, tmp_path / "run")
    gone = ["train/lora", "train/pissa", "likelihood/lora", "evaluate/pissa"]
    for output in [output for name in gone for output in stages_of(run)[name]["outputs"]]:
        (folder / output).rename(tmp_path / output.replace("/", "-"))
    monkeypatch.setattr("topeng.system.workers.workers", here)
    assert main(["evaluate", str(recipe), "--run-dir", str(folder), "--threads", "1"]) == 0
    before, after = stages_of(run), stages_of(folder)
    assert [name for name in gone if after[name] == before[name]] == []
    for name in gone[:3]:
        assert after[name]["outputs"] == before[name]["outputs"], name


def test_a_second_run_does_nothing_and_a_changed_option_what_depends_on_it(run, recipe, capsys):
    def redone(*overrides):
        before = stages_of(run)
        assert main(["run", str(recipe), "--run-dir", str(run), *overrides]) == 0
        after = stages_of(run)
        return [name for name in after if after[name] != before.get(name)]

    assert redone() == []
    assert "already done" in capsys.readouterr().out
    assert redone("--report.answers", "2") == ["report"]
    assert redone("--report.answers", "2", "--corpus.umap_rows", "50") == ["corpus/select", "corpus/map", "report"]
    assert redone("--report.answers", "2") == ["corpus/select", "corpus/map", "report"]
    pissa = ["train/pissa", "likelihood/pissa", "evaluate/pissa", "compare", "report"]
    assert redone("--report.answers", "2", "--train.learning_rate", "{lora: 0.01, pissa: 0.02}") == pissa


def test_a_run_as_one_json_document(run, recipe, capsys):
    def printed(*arguments):
        assert main([*arguments, "--run-dir", str(run)]) == 0
        return capsys.readouterr()

    out, error = printed("run", str(recipe), "--json")
    found = json.loads(out)
    assert found["scores"] == json.loads((run / "scores.json").read_text()) and "already done" in error
    assert found["report"] == str(run / "report.html") and found["stages"].keys() == stages_of(run).keys()
    assert str(run / "adapters/lora") in found["stages"]["train/lora"]["outputs"]
    out, error = printed("evaluate", str(recipe), "--json", "--quiet")
    assert json.loads(out)["scores"]["models"].keys() == found["scores"]["models"].keys() and error == ""
    out, error = printed("run", str(recipe), "--quiet")
    assert "What to do next" in out and "already done" not in out and error == ""
    out, error = printed("run", str(recipe), "--dry-run", "--json")
    assert set(json.loads(out)["stages"].values()) == {"finished"}
    assert main(["status", str(run), "--json", "--seed", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stages"]["corpus/ingest"]["next"] == "finished" and found["left"][0] == "corpus/draw"
    assert found["stages"]["base"]["seconds"] > 0


@pytest.mark.slow
def test_what_workers_print_is_no_part_of_the_document(run, recipe, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    command = [sys.executable, "-m", "topeng", "train", str(recipe), "--run-dir", str(folder), "--train.steps", "4"]
    for more, silent in (["--json"], False), (["--json", "--quiet", "--train.seeds", "[1]"], True):
        done = subprocess.run([*command, "--threads", "1", *more], capture_output=True, text=True, check=True)
        assert "train/pissa" in " ".join(json.loads(done.stdout)["stages"])
        assert (done.stderr == "") == silent and ("held-out loss" in done.stderr) != silent


@pytest.mark.slow
def test_text_is_utf_8_whatever_the_locale(recipe, tmp_path, checkpoint):
    text = (recipe.parent / "corpus.csv").read_text(encoding="utf-8")
    (tmp_path / "corpus.csv").write_text(text.replace("buah", "büah 🍎"), encoding="utf-8")
    changed = recipe.read_text(encoding="utf-8").replace(
        str(recipe.parent / "corpus.csv"), str(tmp_path / "corpus.csv")
    )
    (tmp_path / "micro.yaml").write_text(changed + "report: {title: Kopi é ☕}\n", encoding="utf-8")
    (tmp_path / "asked.txt").write_text("Café?\n", encoding="utf-8")
    run, asked, out = tmp_path / "run", f"--file={tmp_path / 'asked.txt'}", tmp_path / "out.jsonl"
    ascii_only(
        ["corpus", str(tmp_path / "micro.yaml"), "--run-dir", str(run)],
        ["corpus", "verify", str(run)],
        ["generate", str(checkpoint), asked, "--max_new_tokens=16", "--block_length=16", f"--out={out}"],
    )
    assert "Kopi é ☕" in (run / "recipe.yaml").read_text(encoding="utf-8")
    assert "büah" in (run / "corpus" / "map.html").read_text(encoding="utf-8")
    assert json.loads(out.read_text(encoding="utf-8"))["prompt"] == "Café?"


def ascii_only(*commands: list[str]) -> None:
    """Does commands, one after another, where the locale knows ASCII alone."""
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    program = f"import sys; from topeng.cli import main; sys.exit(any(main(command) for command in {commands!a}))"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_adapted_model_can_be_used(run, capsys, tmp_path):
    base, adapter, merged = str(run / "base"), str(run / "adapters" / "lora"), str(tmp_path / "merged")
    settings = ["--max_new_tokens", "16", "--steps", "4", "--block_length", "16"]
    assert main(["generate", base, "Berapa harga 3 buah?", "--adapter", adapter, *settings]) == 0
    answer = capsys.readouterr().out
    assert main(["export", adapter, merged, "--precision", "f32"]) == 0
    assert json.loads((Path(merged) / "config.json").read_text())["architectures"] == ["LLaDAModelLM"]
    capsys.readouterr()
    assert main(["generate", merged, "Berapa harga 3 buah?", *settings]) == 0
    assert capsys.readouterr().out == answer
    assert main(["export", adapter, merged]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_plan_with_its_base_and_rows_is_timed(run, recipe, capsys):
    before = stages_of(run)
    assert main(["train", str(recipe), "--run-dir", str(run), "--plan"]) == 0
    plan = " ".join(capsys.readouterr().out.split())
    took = r" \d+\.\d\d s per step, \d+\.\d s per evaluation, \d+\.\d minutes for all 12 steps"
    for method in ("lora", "pissa"):
        assert re.search(method + took, plan)
    assert stages_of(run) == before and not list((run / ".work").iterdir())


def test_a_sweep_prints_recipe_lines(run, recipe, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    options = ["--sweep.learning_rates", "[0.001, 0.01]", "--sweep.steps", "2"]
    assert main(["train", str(recipe), "--run-dir", str(folder), "--sweep", *options]) == 0
    shown = capsys.readouterr().out
    found = json.loads((folder / "sweep.json").read_text())
    assert len(found) == 4 and all(trial["status"] == "finished" for trial in found)
    lines = recipes.yaml.safe_load(shown[shown.index("train:\n") : shown.index("The run folder")])
    assert set(recipes.parse(lines).train.learning_rate) == {"lora", "pissa"}
    assert stages_of(folder)["train/lora"] == stages_of(run)["train/lora"]
    (fields,) = [told for names, told in run_page.fields_of(run_page.PAGE.read_text()).items() if "sweep.json" in names]
    assert run_page.field_names(folder / "sweep.json") == set(fields)


@pytest.mark.slow
@pytest.mark.parametrize("at", ["train/lora", "train/pissa"])
def test_a_killed_run_ends_as_an_undisturbed_one(run, recipe, tmp_path, at):
    """`kill -9` once a stage has a checkpoint; the same command then ends with the same adapters and scores."""
    command = [sys.executable, "-m", "topeng", "run", str(recipe), "--run-dir", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    work = tmp_path / "run" / ".work" / at.replace("/", "-") / "checkpoints" / "checkpoint-8"
    while process.poll() is None and not work.exists():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert at not in stages_of(tmp_path / "run")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    calm = tmp_path / "calm"
    subprocess.run([*command[:-1], str(calm)], check=True, stdout=subprocess.DEVNULL)
    for name, stage in stages_of(calm).items():
        if name.startswith(("corpus", "source", "base", "train", "likelihood", "evaluate")):
            assert stages_of(tmp_path / "run")[name]["outputs"] == stage["outputs"], name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signalled_training_saves_and_goes_on_to_the_same_end(run, recipe, tmp_path, number):
    """Of three hundred steps, somewhere after the fiftieth, in a process of its own."""
    options = ["--adapter.methods=[lora]", "--train.steps=300", "--train.save_steps=50", "--train.eval_steps=35"]
    command = [sys.executable, "-m", "topeng", "train", str(recipe), *options, "--run-dir"]
    for name in ("stopped", "calm"):
        shutil.copytree(run, tmp_path / name)
    process = subprocess.Popen([*command, str(tmp_path / "stopped")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    checkpoints = tmp_path / "stopped" / ".work" / "train-lora" / "checkpoints"
    while process.poll() is None and not (checkpoints / "checkpoint-50" / "complete").exists():
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate()
    assert process.returncode == 128 + number
    assert f"topeng: stopped by {number.name}. Run the same command again to continue." in error.decode()
    saved = [file.parent.name for file in checkpoints.glob("*/complete")]
    assert len(saved) == 2 and "checkpoint-50" in saved
    for name in ("stopped", "calm"):
        subprocess.run([*command, str(tmp_path / name)], check=True, stdout=subprocess.DEVNULL)
    stopped, calm = (stages_of(tmp_path / name)["train/lora"]["outputs"] for name in ("stopped", "calm"))
    assert stopped == calm


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_demo_adapts_by_more_than_three_standard_errors(tmp_path):
    assert main(["demo", "--run-dir", str(tmp_path)]) == 0
    gain = json.loads((tmp_path / "scores.json").read_text())["gain"]
    assert set(gain) == {"lora", "lora+", "pissa"}
    for figures in gain.values():
        assert figures["nats_per_token"]["mean"] > 3 * figures["nats_per_token"]["standard_error"]
