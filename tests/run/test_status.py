"""`topeng status`, of a folder of small stages."""

import io

import pytest
from rich.console import Console

from topeng.cli import main
from topeng.errors import RunError
from topeng.run.folder import RunFolder, Stage
from topeng.run.status import open_run, print_status, status_of


def stage(name, options=0, reads=()):
    return Stage(name, [f"{name}.txt"], {"option": options}, lambda folder: write(folder / f"{name}.txt"), reads)


def write(path):
    path.write_text("done")


def told(path, planned):
    out = io.StringIO()
    print_status(status_of(open_run(path), planned), Console(file=out, width=200))
    return out.getvalue()


def test_it_says_what_is_done_and_what_the_next_run_begins_with(tmp_path):
    first, second, third = stage("first"), stage("second", reads=["first.txt"]), stage("third")
    RunFolder(tmp_path).run([first, second], "", 1, Console(quiet=True))
    lines = told(tmp_path, [first, second, third]).splitlines()
    assert "GiB" in lines[1] and "GiB" not in lines[3] and lines[3].split() == ["third", "to", "do"]
    assert lines[-1] == "2 of 3 stages are done. The next run starts with third."
    assert told(tmp_path, [first, second]).splitlines()[-1] == "2 of 2 stages are done. Nothing is left to do."
    changed = told(tmp_path, [stage("first", options=1), second])
    assert "runs again, because its options or inputs changed" in changed
    assert "runs again, unless first gives the same result" in changed


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    with pytest.raises(RunError, match="is not a run folder"):
        open_run(tmp_path)
    assert main(["status", str(tmp_path / "nowhere")]) == 1
    assert "there is no run folder" in capsys.readouterr().err
