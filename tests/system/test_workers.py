"""Stages side by side: the same results on one core and on two, and nothing lives on after a kill."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from topeng.cli import main
from topeng.errors import CorpusError, RunError
from topeng.system.stop import SIGNALS, handling, stop
from topeng.system.workers import workers

MICRO = """
threads: 1
corpus: {synthetic_rows: 1000, subsets: [], languages: [], sample_rows: 120, test_rows: 8, validation_rows: 4,
         clusters: 2, train_rows: 40, umap_rows: 50}
source: {synthetic_rows: 500, test_rows: 8}
text: {max_length: 96}
base: {model: CHECKPOINT, device: cpu}
adapter: {methods: [lora, pissa], rank: 2, alpha: 4}
train: {steps: 8, batch_rows: 8, learning_rate: 0.01, eval_steps: 4, save_steps: 2, report_to: []}
generate: {max_new_tokens: 16, steps: 4, block_length: 16}
evaluate: {draws: 2, generate_rows: 2}
"""


def nothing() -> None:
    """What a worker does before it works."""


def write_name(text: str, name: str, folder: Path) -> None:
    (folder / name).write_text(f"{text} {os.environ['OMP_NUM_THREADS']}")


def fail(name: str, folder: Path) -> None:
    raise CorpusError(f"{name} holds no rows")


def die(name: str, folder: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_each_is_done_with_its_threads(tmp_path):
    with workers(functools.partial(write_name, "done"), 2, 3, nothing) as started:
        done = list(started.do({"one": tmp_path, "two": tmp_path}))
    assert sorted(name for name, *_ in done) == ["one", "two"]
    assert all(seconds > 0 and peak > 2**20 for _, seconds, peak in done)
    assert (tmp_path / "two").read_text() == "done 3"


def test_an_error_of_a_stage_is_the_run_s(tmp_path):
    with pytest.raises(CorpusError, match="one holds no rows"), workers(fail, 1, 1, nothing) as started:
        list(started.do({"one": tmp_path}))


def test_a_killed_worker_is_told_in_one_line(tmp_path):
    with pytest.raises(RunError, match="was killed"), workers(die, 1, 1, nothing) as started:
        list(started.do({"one": tmp_path}))


@contextmanager
def cores(*numbers: int) -> Iterator[None]:
    """What is started in it has these cores alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def outputs(folder: Path) -> dict[str, dict[str, str]]:
    stages = json.loads((folder / "manifest.json").read_text("utf-8"))["stages"]
    return {name: stage["outputs"] for name, stage in stages.items() if name.startswith(("train", "likelihood"))}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the cores of a process can be chosen on Linux alone")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_at_a_time_leave_what_one_after_another_leaves(checkpoint, tmp_path, monkeypatch):
    import torch  # not at the top: workers that do nothing import this file

    threads = torch.get_num_threads()
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(MICRO.replace("CHECKPOINT", str(checkpoint)))
    assert main(["corpus", str(recipe), "--run-dir", str(tmp_path / "one")]) == 0
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    with cores(0, 1):
        assert main(["evaluate", str(recipe), "--run-dir", str(tmp_path / "two")]) == 0
    monkeypatch.setattr("topeng.cli.runs._workers", lambda *_: nullcontext())  # all in this process, in one thread
    torch.set_num_threads(1)
    try:
        assert main(["evaluate", str(recipe), "--run-dir", str(tmp_path / "one")]) == 0
    finally:
        torch.set_num_threads(threads)
    assert outputs(tmp_path / "two") == outputs(tmp_path / "one")
    assert len(outputs(tmp_path / "two")) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import test_workers as t; from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    with t.workers(t.sleep, 1, 1, t.nothing) as started: list(started.do({'one': Path(sys.argv[2])}))"
    )
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(Path(__file__).parent), str(tmp_path)])
    while not (tmp_path / "sleeping").exists():
        time.sleep(0.02)
    worker = int((tmp_path / "sleeping").read_text())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{worker}").exists()


def sleep(name: str, folder: Path) -> None:
    (folder / "partial").write_text(str(os.getpid()))
    (folder / "partial").rename(folder / "sleeping")
    time.sleep(600)


def step_by_step(name: str, folder: Path) -> None:
    """A stage that ends after its step when it is asked to stop, with a checkpoint, as a training; at once if twice."""
    if name == "short":
        return
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        if asked:
            stop(number)
        asked.append(number)

    with handling(note, *SIGNALS, signal.SIGINT):
        (folder / f"{name} began").touch()
        while not asked:
            time.sleep(0.02)
        time.sleep(0.4)  # the step at hand
        (folder / f"{name} checkpoint").touch()
        stop(asked[0])


STOPPED = """
import signal, sys; sys.path.insert(0, sys.argv[1]); import test_workers as t; from pathlib import Path
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with t.handling(t.stop, *t.SIGNALS), t.workers(t.step_by_step, 2, 1, t.nothing) as started:
        for name, *_ in started.do(dict.fromkeys(sys.argv[3:], Path(sys.argv[2]))): Path(sys.argv[2], name).touch()
"""


ONE_IDLE, ONE_WAITING = ("short", "long"), ("long", "other", "third")


@pytest.mark.parametrize(
    ("names", "number"),
    [
        (ONE_IDLE, signal.SIGTERM),
        (ONE_WAITING, signal.SIGINT),
        pytest.param(ONE_IDLE, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(ONE_WAITING, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_stopped_stops_each_stage_once(names, number, tmp_path):
    (tmp_path / "parent.py").write_text(STOPPED)
    command = [sys.executable, str(tmp_path / "parent.py"), str(Path(__file__).parent), str(tmp_path), *names]
    parent = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        while not all((tmp_path / (name if name == "short" else f"{name} began")).exists() for name in names[:2]):
            time.sleep(0.02)
            assert parent.poll() is None
        os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)  # a terminal's: to all
        assert parent.wait(60) != 0
    finally:
        if parent.poll() is None:
            os.killpg(parent.pid, signal.SIGKILL)
    assert all((tmp_path / f"{name} checkpoint").exists() for name in names[:2] if name != "short")
    assert not (tmp_path / "third began").exists()


def step_or_die(name: str, folder: Path) -> None:
    if name != "dies":
        return step_by_step(name, folder)
    while not (folder / "long began").exists():
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_lets_the_others_stop_in_order(tmp_path):
    with pytest.raises(RunError, match="on dies was killed"), workers(step_or_die, 2, 1, nothing) as started:
        list(started.do({"dies": tmp_path, "long": tmp_path}))
    assert (tmp_path / "long checkpoint").exists()
