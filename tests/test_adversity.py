"""Whole runs in adversity: a full disk in each stage, secrets in the environment, kills."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import kills
from same_run import different_outputs
from topeng.cli import main
from topeng.system.lines import LineFile

pytestmark = pytest.mark.slow

STAGES = [
    *("corpus/ingest", "corpus/draw", "corpus/embed", "corpus/select", "corpus/map", "source", "base"),
    *("train/lora", "train/pissa", "likelihood/base", "likelihood/lora", "likelihood/pissa"),
    *("evaluate/base", "evaluate/lora", "evaluate/pissa", "compare", "report"),
]
SECRETS = {
    "HF_TOKEN": "hf_rahasiaRahasiaRahasia",
    "WANDB_API_KEY": "0123rahasia4567rahasia89",
    "AWS_SECRET_ACCESS_KEY": "rahasia/aws/rahasia",
    "MY_PASSWORD": "kata-sandi-rahasia",
}

KILLED_AMID_ANSWERS = """
import os, signal, sys
from topeng.cli import main
from topeng.system.lines import LineFile

add, added = LineFile.add, []

def counting(file, lines):
    add(file, lines)
    added.extend(lines if file.path.name == "answers.jsonl" else [])
    if len(added) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

LineFile.add = counting
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "micro.yaml"
    path.write_text(kills.RECIPE)
    return path


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    """A finished run, made where the environment holds secrets."""
    folder = tmp_path_factory.mktemp("run") / "run"
    command = [sys.executable, "-m", "topeng", "run", str(recipe), "--run-dir", str(folder)]
    subprocess.run(command, env=os.environ | SECRETS, check=True, stdout=subprocess.DEVNULL)
    return folder


def stages_of(folder):
    return json.loads((folder / "manifest.json").read_text())["stages"]


def test_the_stages_are_those_that_fail_here(run):
    assert list(stages_of(run)) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(stage, run, recipe, tmp_path, capsys):
    """A limit on the size of files stands for a full disk: the write that passes it fails."""
    folder = shutil.copytree(run, tmp_path / "run")
    files = [file for output in stages_of(run)[stage]["outputs"] for file in files_of(folder / output)]
    half = max(file.stat().st_size for file in files) // 2
    for file in files:
        file.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in {100, min(4096, half), half}:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            status = main(["run", str(recipe), "--run-dir", str(folder)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        error = capsys.readouterr().err
        assert status == 1
        assert error.startswith((f"topeng: {stage} stopped: ", "topeng: the run stopped: ")), error
        assert error.endswith(". Finished work was kept: run the same command again.\n") and error.count("\n") == 1
        others = {name: entry for name, entry in stages_of(folder).items() if name != stage}
        assert others == {name: entry for name, entry in stages_of(run).items() if name != stage}
    assert main(["run", str(recipe), "--run-dir", str(folder)]) == 0
    assert different_outputs(run, folder) == []


def made_again(out: str) -> list[str]:
    """The stages that a run did, of the lines that it printed, however they are wrapped."""
    told = re.split(r"^\[\d+/\d+\] ", out, flags=re.MULTILINE)[1:]
    return [stage.split()[0].rstrip(":") for stage in told if "already done" not in " ".join(stage.split())]


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def test_an_output_that_was_replaced_is_made_again(run, recipe, tmp_path, capsys):
    folder = shutil.copytree(run, tmp_path / "run")
    for name in ("corpus/train.parquet", "adapters/lora/adapter_model.safetensors"):
        file = folder / name
        file.write_bytes(bytes(file.stat().st_size))
    assert main(["run", str(recipe), "--run-dir", str(folder)]) == 0
    assert made_again(capsys.readouterr().out) == ["corpus/select", "train/lora"]
    assert different_outputs(run, folder) == []


def test_a_kill_amid_answers_costs_no_likelihood_and_no_answer(run, recipe, tmp_path, capsys, monkeypatch):
    """Of eight answers, three are written when `kill -9` comes."""
    folder, added, add = shutil.copytree(run, tmp_path / "run"), Counter(), LineFile.add
    (folder / "evaluate" / "lora" / "answers.jsonl").unlink()
    arguments = ["run", str(recipe), "--run-dir", str(folder)]
    killed = subprocess.run([sys.executable, "-c", KILLED_AMID_ANSWERS, *arguments], stdout=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL

    def counting(file, lines):
        added[file.path.name] += len(lines)
        add(file, lines)

    monkeypatch.setattr(LineFile, "add", counting)
    assert main(arguments) == 0
    assert made_again(capsys.readouterr().out) == ["evaluate/lora"] and added == {"answers.jsonl": 5}
    assert different_outputs(run, folder) == []


def test_names_in_a_corpus_do_not_leave_the_run_folder(recipe, tmp_path):
    """Subsets and templates that are paths, and markup."""
    names = ["../../keluar", str(tmp_path / "keluar"), "<script>alert(1)</script>", "..", "a\0b", "-rf"]
    lines = [
        {"dataset_name": name, "subset_name": name, "prompt_id": name, "template_name": name, "dataset_key": name}
        | {"input": f"Berapa harga {row} buah?", "output": f"Harganya {row * 3} rupiah."}
        for row in range(120)
        for name in [names[row % len(names)]]
    ]
    source = tmp_path / "..mine.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = tmp_path / "a" / "b" / "run"
    options = ["--corpus.files", f"[{source}]", "--corpus.sample_rows", "100"]
    assert main(["corpus", str(recipe), "--run-dir", str(run), *options]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["..mine.jsonl", "a"]
    assert [path.name for path in (tmp_path / "a").rglob("*") if run not in path.parents] == ["b", "run"]
    assert "<script>alert(1)" not in (run / "corpus" / "map.html").read_text()


def test_no_file_of_a_run_holds_a_secret(run):
    found = [
        f"{name} in {file.relative_to(run)}"
        for file in files_of(run)
        for name, secret in SECRETS.items()
        if secret.encode() in file.read_bytes() or name.encode() in file.read_bytes()
    ]
    assert not found


def test_kills_change_nothing(tmp_path, capsys):
    assert kills.main([str(tmp_path), "--kills", "3"]) == 0
    assert "3 kills in " in capsys.readouterr().out
    assert kills.main([str(tmp_path), "--kills", "3"]) == 0  # goes on, and has nothing to do
