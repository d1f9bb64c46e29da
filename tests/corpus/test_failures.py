"""A corpus that is killed, or finds no room: nothing finished is lost, and the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from topeng.corpus.synthetic import write_target

pytestmark = pytest.mark.slow

RECIPE = """
corpus: {files: [FOLDER/*.parquet], sample_fraction: 0.3, test_rows: 30, validation_rows: 10, clusters: 3,
         train_rows: 200, umap_rows: 60}
source: {synthetic_rows: 500, test_rows: 12}
"""
STAGES = ["corpus/ingest", "corpus/draw", "corpus/select"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    for shard in range(3):
        write_target(folder / f"{shard}.parquet", 4000, shard)
    (folder / "corpus.yaml").write_text(RECIPE.replace("FOLDER", str(folder)))
    return folder / "corpus.yaml"


@pytest.fixture(scope="module")
def calm(recipe, tmp_path_factory):
    return outputs_of(start(recipe, tmp_path_factory.mktemp("calm")))


def start(recipe, run, command=(), wait=True):
    arguments = [*command, sys.executable, "-m", "topeng", "corpus", str(recipe), "--run-dir", str(run)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if not wait:
        return process
    out, error = process.communicate()
    return {"code": process.returncode, "out": out, "error": error, "run": run}


def outputs_of(result):
    assert result["code"] == 0, result["error"]
    stages = json.loads((result["run"] / "manifest.json").read_text())["stages"]
    return {name: stages[name]["outputs"] for name in STAGES}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_a_kill_in_any_stage_changes_nothing(recipe, calm, tmp_path, stage, delay):
    process = start(recipe, tmp_path / "run", wait=False)
    work = tmp_path / "run" / ".work" / stage.replace("/", "-")
    while process.poll() is None and not work.exists():
        time.sleep(0.005)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = json.loads((tmp_path / "run" / "manifest.json").read_text())["stages"] if STAGES.index(stage) else {}
    assert set(STAGES[: STAGES.index(stage)]) <= set(done)
    again = start(recipe, tmp_path / "run")
    assert again["out"].count("already done") >= STAGES.index(stage)
    assert outputs_of(again) == calm


@pytest.mark.parametrize(("stage", "kilobytes"), [("corpus/ingest", 200), ("corpus/draw", 100)])
def test_no_room_is_one_line_and_the_same_command_goes_on(recipe, calm, tmp_path, stage, kilobytes):
    """`ulimit -f` stands for a full disk: a write fails in the middle of a file."""
    run = tmp_path / "run"
    if stage != "corpus/ingest":
        process = start(recipe, run, wait=False)
        while process.poll() is None and not (run / ".work" / "corpus-draw").exists():
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    limited = start(recipe, run, ("bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash"))
    assert limited["code"] == 1
    assert limited["error"].startswith(f"topeng: {stage} stopped: ")
    assert limited["error"].strip().endswith("Finished work was kept: run the same command again.")
    assert limited["error"].count("\n") == 1
    assert outputs_of(start(recipe, run)) == calm
