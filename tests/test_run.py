import json
import os
import signal
import subprocess
import sys

import pytest
from rich.console import Console

from topeng.errors import RunError
from topeng.run import RunFolder, Stage

QUIET = Console(quiet=True)


def write(name, text, calls):
    def work(folder):
        calls.append(name)
        (folder / name).write_text(text)

    return work


def stages(calls, first="1", second="x", source=()):
    return [
        Stage("first", ["first"], {"option": first}, write("first", first, calls), inputs=source),
        Stage("second", ["second"], {"option": second}, write("second", second, calls)),
        Stage("third", ["third"], {}, write("third", first, calls), reads=["first"]),
    ]


def do(path, planned):
    with RunFolder(path).locked() as run:
        run.run(planned, "seed: 1\n", 1, QUIET)


def test_finished_stages_are_skipped_and_a_changed_option_redoes_what_depends_on_it(tmp_path):
    calls = []
    do(tmp_path, stages(calls))
    assert calls == ["first", "second", "third"]
    do(tmp_path, stages(calls))
    assert len(calls) == 3
    do(tmp_path, stages(calls, second="y"))
    assert calls[3:] == ["second"]
    do(tmp_path, stages(calls, first="2", second="y"))
    assert calls[4:] == ["first", "third"]


def test_a_changed_input_redoes_its_stage(tmp_path):
    calls, source = [], tmp_path / "source.txt"
    source.write_text("a")
    do(tmp_path / "run", stages(calls, source=[str(source)]))
    source.write_text("b, longer")
    do(tmp_path / "run", stages(calls, source=[str(source)]))
    assert calls[3:] == ["first"]  # its output is the same, so that nothing after it is redone


def test_a_lost_output_redoes_its_stage(tmp_path):
    calls = []
    do(tmp_path, stages(calls))
    (tmp_path / "second").unlink()
    do(tmp_path, stages(calls))
    assert calls[3:] == ["second"]


def test_the_manifest_holds_what_the_contract_says(tmp_path):
    do(tmp_path, stages([]))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["seed"] == 1
    assert "torch" in manifest["versions"]
    stage = manifest["stages"]["first"]
    assert stage["status"] == "done"
    assert stage["seconds"] >= 0
    assert stage["peak_memory_bytes"] > 0
    assert len(stage["outputs"]["first"]) == 64


def test_a_failed_stage_keeps_what_was_finished_and_its_work(tmp_path):
    calls = []

    def fail(folder):
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    broken = stages(calls)
    broken[1] = Stage("second", ["second"], {"option": "x"}, fail)
    with pytest.raises(RunError, match=r"second stopped: .*No space left on device"):
        do(tmp_path, broken)
    assert not (tmp_path / "second").exists()
    seen = []
    again = stages(calls)
    again[1] = Stage(
        "second",
        ["second"],
        {"option": "x"},
        lambda folder: (seen.extend(os.listdir(folder)), (folder / "second").write_text("x")),
    )
    do(tmp_path, again)
    assert calls == ["first", "third"]
    assert "half" in seen


KILLED = """
import os, signal, sys
from rich.console import Console
from topeng.run import RunFolder, Stage

def work(folder):
    (folder / "out").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

with RunFolder(sys.argv[1]).locked() as run:
    run.run([Stage("only", ["out"], {}, work)], "", 1, Console(quiet=True))
"""


def test_a_killed_stage_is_never_taken_for_finished(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    do(tmp_path, [Stage("only", ["out"], {}, write("out", "whole", []))])
    assert (tmp_path / "out").read_text() == "whole"


def test_two_processes_do_not_share_a_run_folder(tmp_path):
    with RunFolder(tmp_path).locked(), pytest.raises(RunError, match="another process is at work"):
        do(tmp_path, [])


def test_a_broken_manifest_is_named(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="is not JSON"):
        RunFolder(tmp_path)
