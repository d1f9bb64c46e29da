import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from topeng.errors import RunError
from topeng.run import folder as run
from topeng.run.folder import RunFolder, Stage

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
    with RunFolder(path).locked() as folder:
        folder.run(planned, "seed: 1\n", 1, QUIET)


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


def test_the_outlook_is_what_a_run_then_does(tmp_path):
    options = "runs again, because its options or inputs changed"

    def outlook(**changes):
        return list(RunFolder(tmp_path).outlook(stages([], **changes)).values())

    assert outlook() == ["to do"] * 3
    do(tmp_path, stages([]))
    assert outlook() == ["finished"] * 3
    assert outlook(second="y") == ["finished", options, "finished"]
    assert outlook(first="2") == [options, "finished", "runs again, unless first gives the same result"]
    do(tmp_path, stages(calls := [], first="2"))
    assert calls == ["first", "third"]
    (tmp_path / "second").unlink()
    assert outlook(first="2")[1] == "runs again, because its outputs were changed or removed"
    assert outlook(first="2", second="y")[1] == options
    do(tmp_path, stages([], first="3")[:1])
    assert outlook(first="3")[2] == "runs again, because the outputs it reads changed"
    assert outlook(first="2")[::2] == [options, "runs again, unless first gives the same result"]
    do(tmp_path, stages(calls := [], first="2"))
    assert calls == ["first", "second"]  # the first came out as before


def test_the_outlook_tells_what_was_stopped(tmp_path):
    def stopped(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do(tmp_path, [Stage("only", ["only"], {}, stopped)])
    only = Stage("only", ["only"], {}, stopped)
    assert RunFolder(tmp_path).outlook([only]) == {"only": "to do, continues from its checkpoint"}
    other = Stage("only", ["only"], {"option": 1}, stopped)
    assert RunFolder(tmp_path).outlook([other]) == {"only": "to do"}


def test_the_manifest_is_read_under_the_lock(tmp_path):
    """Another run may end between the opening of the folder and the lock."""
    early = RunFolder(tmp_path)
    do(tmp_path, stages(calls := []))
    with early.locked() as folder:
        folder.run(stages(calls), "seed: 1\n", 1, QUIET)
    assert len(calls) == 3


def test_a_changed_input_redoes_its_stage(tmp_path):
    calls, source = [], tmp_path / "source.txt"
    source.write_text("a")
    do(tmp_path / "run", stages(calls, source=[str(source)]))
    source.write_text("b, longer")
    do(tmp_path / "run", stages(calls, source=[str(source)]))
    assert calls[3:] == ["first"]  # its output is the same, so that nothing after it is redone


def two_outputs(text):
    """A stage that leaves a folder and a file."""

    def work(folder):
        (folder / "folder").mkdir()
        for name in (f"folder/{text}", "file"):
            (folder / name).write_text(text)

    return [Stage("both", ["folder", "file"], {"text": text}, work)]


def test_a_folder_is_replaced_whole(tmp_path):
    for text in ("one", "two"):
        do(tmp_path, two_outputs(text))
        assert [path.name for path in (tmp_path / "folder").iterdir()] == [text]


def test_between_old_outputs_and_new_ones_neither_counts(tmp_path, monkeypatch):
    do(tmp_path, two_outputs("one"))
    move = run.move

    def killed(source, target):
        if target.name == "file":
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(run, "move", killed)
    with pytest.raises(KeyboardInterrupt):
        do(tmp_path, two_outputs("two"))
    assert json.loads((tmp_path / "manifest.json").read_text())["stages"] == {}
    monkeypatch.undo()
    do(tmp_path, two_outputs("one"))
    assert (tmp_path / "folder" / "one").exists() and (tmp_path / "file").read_text() == "one"


def test_a_lost_output_redoes_its_stage(tmp_path):
    calls = []
    do(tmp_path, stages(calls))
    (tmp_path / "second").unlink()
    do(tmp_path, stages(calls))
    assert calls[3:] == ["second"]


def test_a_replaced_output_redoes_its_stage_and_a_touched_one_does_not(tmp_path):
    calls = []
    do(tmp_path, stages(calls))
    (tmp_path / "second").write_text("y")  # of the same size
    os.utime(tmp_path / "first", (1, 1))
    do(tmp_path, stages(calls))
    assert calls[3:] == ["second"]
    assert (tmp_path / "second").read_text() == "x"


def test_a_manifest_of_an_earlier_version_is_taken(tmp_path):
    """It has sizes in place of states."""
    do(tmp_path, stages(calls := []))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for entry in manifest["stages"].values():
        entry["sizes"] = {name: {".": 1} for name in entry.pop("state")}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    do(tmp_path, stages(calls))
    assert len(calls) == 3


def test_a_work_folder_that_was_half_removed_is_not_taken_up(tmp_path, monkeypatch):
    """A kill while it is removed: what is left must not be taken for a stage's own beginnings."""
    seen = []

    def work(folder):
        seen.append(sorted(path.name for path in folder.iterdir()))
        (folder / "kept").write_text("half")
        (folder / "only").write_text("whole")

    only = [Stage("only", ["only"], {}, work)]
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)
        do(tmp_path, only)
    (tmp_path / "only").unlink()
    do(tmp_path, only)
    assert seen == [[".fingerprint"], [".fingerprint"]]
    assert not list((tmp_path / ".work").iterdir())


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
from topeng.run.folder import RunFolder, Stage

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
    with RunFolder(tmp_path).locked(), pytest.raises(RunError, match="another process is using"):
        do(tmp_path, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("\xff", "is not JSON"),
        ("[]", "is not the manifest of a run"),
        ('{"stages": [], "inputs": {}}', "is not the manifest of a run"),
        (
            '{"stages": {"first": {"status": "done", "fingerprint": "0", "outputs": []}}, "inputs": {}}',
            "is not the manifest",
        ),
        ('{"stages": {}, "inputs": {"a": {}}}', "is not the manifest of a run"),
    ],
)
def test_a_broken_manifest_is_named(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(RunError, match=message):
        RunFolder(tmp_path)


def test_a_folder_of_another_version_is_refused_in_one_line(tmp_path):
    """What its fingerprints digest is not known here: all would be done again."""
    RunFolder(tmp_path).run(stages([])[:1], "", 1, QUIET)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    del manifest["format"]  # as 0.1.0 wrote it
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        RunError, match=r"another version of Topeng, .*`topeng compare` can still read its scores"
    ) as refused:
        RunFolder(tmp_path)
    assert "\n" not in str(refused.value)


def test_a_stage_whose_version_was_raised_is_done_again(tmp_path):
    one = stages([])[0]
    RunFolder(tmp_path).run([one], "", 1, QUIET)
    folder = RunFolder(tmp_path)
    assert folder.finished(one) and not folder.finished(replace(one, version=2))


@pytest.mark.parametrize("save", ["torch", "safetensors"])
def test_a_full_disk_is_named_whoever_writes(tmp_path, save):
    """Neither raises an OSError."""
    import resource

    import torch
    from safetensors.torch import save_file

    def work(folder):
        weights = {"weight": torch.zeros(10_000)}
        save_file(weights, folder / "out") if save == "safetensors" else torch.save(weights, folder / "out")

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(RunError, match=r"only stopped: .*Finished work was kept"):
            do(tmp_path, [Stage("only", ["out"], {}, work)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
