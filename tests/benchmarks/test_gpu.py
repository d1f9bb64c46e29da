"""The measurement on a GPU: its bookkeeping, what it carries, and the whole of it at a small shape on a CPU."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GPU = ROOT / "benchmarks" / "gpu"


def load(name, monkeypatch):
    monkeypatch.syspath_prepend(str(GPU))
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", GPU / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    found = load("ledger", monkeypatch).Ledger(tmp_path)
    found.start(card="none", small=True)
    return found


def test_every_figure_is_there_whole_as_soon_as_it_is_taken(ledger):
    ledger.begin("train")
    ledger.figure("train", "lora", {"tokens_per_second": 12345.6, "peak_memory_gib": 17.2})
    record = json.loads(ledger.path.read_text())
    assert record["parts"]["train"] == {
        "status": "running",
        "figures": {"lora": {"tokens_per_second": 12345.6, "peak_memory_gib": 17.2}},
    }
    assert "lora: tokens per second 12,346, peak memory gib 17.2" in (ledger.folder / "gpu.txt").read_text()


def test_a_part_with_an_error_among_its_figures_is_not_done(ledger):
    for name, figures in {"good": {"seconds": 1}, "bad": {"error": "OutOfMemoryError: full"}}.items():
        ledger.begin(name)
        ledger.figure(name, "one", {"seconds": 2})
        ledger.figure(name, "two", figures)
        ledger.end(name, "done", 3.04)
    parts = ledger.read()["parts"]
    assert [parts[name]["status"] for name in ("good", "bad")] == ["done", "incomplete"]
    assert parts["bad"]["figures"]["one"] == {"seconds": 2} and parts["bad"]["seconds"] == 3.0


def test_a_write_that_is_cut_off_leaves_what_was_there(ledger, monkeypatch):
    ledger.begin("train")
    before = ledger.path.read_text()

    def cut_off(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", cut_off)
    with pytest.raises(OSError, match="No space"):
        ledger.figure("train", "lora", {"tokens_per_second": 1.0})
    assert ledger.path.read_text() == before


def run_on(card, **parts):
    known = {"card": card, "device": "cuda", "small": False, "versions": {"torch": "2.11.0"}}
    return known | {"parts": {name: {"status": status, "figures": {}} for name, status in parts.items()}}


def test_of_two_runs_each_part_that_came_furthest_is_kept(tmp_path, monkeypatch, capsys):
    keep = load("keep", monkeypatch)
    runs = [
        run_on("H100", train="done", serve="out of time", pissa="out of time"),
        run_on("H100", serve="done", pissa="failed"),
    ]
    for number, record in enumerate(runs):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "gpu.json").write_text(json.dumps(record))
    monkeypatch.setattr(sys, "argv", ["keep.py", str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(tmp_path)])
    assert keep.main() == 0
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "train": "done",
        "serve": "done",
        "pissa": "out of time",
    }
    assert "serve: done" in (tmp_path / "gpu.txt").read_text() and "serve: done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (run_on("H200"), "card differ: H200 and H100"),
        (run_on("H100") | {"versions": {"torch": "2.13.0"}}, "versions differ"),
        (run_on("H100") | {"small": True}, "trial at a small shape or without a GPU"),
        (run_on("H100") | {"device": "cpu"}, "trial at a small shape or without a GPU"),
    ],
)
def test_runs_that_do_not_compare_are_not_kept_together(monkeypatch, other, message):
    with pytest.raises(ValueError, match=message):
        load("keep", monkeypatch).together([run_on("H100"), other])


@pytest.fixture
def prepare(monkeypatch):
    return load("prepare", monkeypatch)


def test_what_is_carried_is_what_the_machine_lacks(prepare):
    known = prepare.machine_packages("# a note\ntransformers==5.17.0\nnumpy==2.5.2  # new\nhugging_face\n\n")
    assert known == {"transformers": "5.17.0", "numpy": "2.5.2", "hugging-face": prepare.ANY}
    needed = [prepare.Requirement(line) for line in ("transformers>=5.23,<6", "numpy>=2", "Hugging.Face>3", "peft>=1")]
    assert [one.name for one in prepare.lacking(needed, known)] == ["transformers", "peft"]


def test_the_command_fits_the_tool_and_is_the_documented_one(prepare):
    assert len(prepare.COMMAND) <= 2000 and "\n" not in prepare.COMMAND
    assert prepare.COMMAND in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_server_s_requirements_are_carried_too(prepare):
    assert {"torch", "fastapi", "uvicorn"} < {one.name for one in prepare.requirements()}


def wheel(folder, name, requires, *files):
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            f"{name}-1.0.dist-info/METADATA", "Name: x\n" + "".join(f"Requires-Dist: {r}\n" for r in requires)
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "".join(f"{file},sha256=x,1\n" for file in files))
        for file in files:
            archive.writestr(file, b"\0" * 100)
    return path


def test_what_a_wheel_requires_and_nobody_has_is_named(prepare, tmp_path):
    wheels = [
        wheel(tmp_path, "one", ["two>=1", "numpy>=3", "tomli; python_version < '3.11'", "extra-one; extra == 'all'"]),
        wheel(tmp_path, "two", ["absent"]),
    ]
    assert prepare.unmet(wheels, {"numpy": "2.5.2"}) == [
        "one-1.0-py3-none-any.whl needs numpy>=3, which the machine has not got: add it to MORE",
        "two-1.0-py3-none-any.whl needs absent, which the machine has not got: add it to MORE",
    ]


def test_one_library_of_bitsandbytes_is_carried(prepare, tmp_path):
    names = [f"bitsandbytes/libbitsandbytes_{kind}.so" for kind in ("cpu", "cuda118", "cuda130", "rocm70", "xpu2025")]
    path = wheel(tmp_path, "bitsandbytes", [], "bitsandbytes/__init__.py", *names)
    prepare.keep_one_library(path)
    with zipfile.ZipFile(path) as archive:
        kept = [name for name in archive.namelist() if name.startswith("bitsandbytes/")]
        assert kept == ["bitsandbytes/__init__.py", names[0], names[2]]
        assert archive.read("bitsandbytes-1.0.dist-info/RECORD").decode().count("\n") == 3


def test_a_part_that_hangs_is_ended_and_one_without_time_is_not_begun(ledger, tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT / 'src'}")
    run = load("run", monkeypatch)
    monkeypatch.setattr(run, "LEAST", 1)
    monkeypatch.setattr(run, "PATIENCE", {"cpu": 1})
    began = time.time()
    for part in run.PARTS[:2]:
        run.start_part(part, ledger, "cpu", True, tmp_path, began + 3)
    assert time.time() - began < 10
    parts = ledger.read()["parts"]
    assert [parts[name]["status"] for name in ("tests", "train")] == ["out of time"] * 2
    assert parts["tests"]["seconds"] > 1 and "stopped after its" in parts["tests"]["error"]
    assert parts["train"]["error"] == "no time was left to begin it"
    assert not [one for one in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in one.read_bytes()]


def test_a_part_whose_process_cannot_begin_has_failed(ledger, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "topeng.py").write_text("raise SystemExit(1)")
    run = load("run", monkeypatch)
    run.start_part(run.PARTS[0], ledger, "cpu", True, tmp_path, time.time() + 60)
    assert ledger.read()["parts"]["tests"]["status"] == "failed"
    assert "its process ended with 1" in (ledger.folder / "gpu.txt").read_text()


def start(out, *parts, first=""):
    """Args:
    first: a folder that is looked into for modules before all others.
    """
    command = [sys.executable, str(GPU / "run.py"), "--out", str(out), "--device", "cpu", "--small", "--parts", *parts]
    environment = os.environ | {"PYTHONPATH": f"{first}:{ROOT / 'src'}".lstrip(":"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_part_runs_at_a_small_shape(tmp_path):
    parts = ["tests", "train", "steps", "decode", "head", "four_bit", "serve", "embed", "pissa", "pretrain"]
    assert start(tmp_path, *parts).wait() == 0
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: part["status"] for name, part in record["parts"].items()} == dict.fromkeys(parts, "done")
    training = record["parts"]["train"]["figures"]["lora"]
    assert training["tokens_per_second"] > 0 and len(training["losses"]) >= 2
    serving = record["parts"]["serve"]["figures"]
    assert {f"reference, {ask}, {who}" for ask in ("whole", "followed") for who in ("1 client", "16 clients")} < {
        *serving
    }
    assert serving["reference, followed, 16 clients"]["seconds_to_a_first_block"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_kill_amid_a_part_loses_nothing_of_the_parts_before(tmp_path):
    run = start(tmp_path, "decode", "head")  # in the order of their worth
    ledger = tmp_path / "gpu.json"
    while run.poll() is None:
        time.sleep(0.05)
        record = json.loads(ledger.read_text()) if ledger.exists() else {"parts": {}}
        if record["parts"].get("head", {}).get("figures"):
            break
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    time.sleep(2)  # the part's process sees that it is alone
    record = json.loads(ledger.read_text())
    assert record["parts"]["decode"]["status"] == "done" and "preset fast" in record["parts"]["decode"]["figures"]
    assert record["parts"]["head"]["status"] == "running" and record["parts"]["head"]["figures"]
    assert "head: running" in (tmp_path / "gpu.txt").read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_part_that_fails_leaves_its_error_and_the_next_begins(tmp_path):
    (tmp_path / "pytest.py").write_text("raise ImportError('no pytest here')")
    assert start(tmp_path, "tests", "head", first=tmp_path).wait() == 0
    parts = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    assert parts["tests"]["status"] == "failed" and "no pytest here" in parts["tests"]["error"]
    assert parts["head"]["status"] == "done"
