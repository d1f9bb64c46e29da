"""The benchmark at a small shape, so that it runs where a GPU is."""

import importlib.util
import json
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "generation.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("generation", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_forward_pass_with_each_cache(benchmark, model, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "SMALL", model.config.to_dict())
    monkeypatch.setattr(benchmark, "reach", lambda: (1e12, 1e10))
    benchmark.forward_passes(rounds=1)
    printed = capsys.readouterr().out
    assert printed.count("bound by") == 12 and "1,024 bytes a token kept" in printed  # 2 layers x 2 x 64 x 4 bytes


@pytest.fixture
def measure(benchmark, checkpoint, tmp_path, monkeypatch):
    """Runs the benchmark on six rows, as from the command line."""
    monkeypatch.setattr(benchmark, "HERE", tmp_path)
    monkeypatch.setattr(benchmark, "KEPT", tmp_path / "kept.jsonl")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input": f"Apa {i}?", "output": "Itu."}) + "\n" for i in range(6)))

    def run(arguments):
        command = f"generation.py --model {checkpoint} --rows {rows} --new-tokens 32 {arguments}"
        monkeypatch.setattr("sys.argv", command.split())
        benchmark.main()

    return run


def test_presets_are_measured_and_taken_up_again(measure, tmp_path, capsys):
    for groups in (2, 0):
        measure("--presets tiny --prompts 4 --group 2")
        assert capsys.readouterr().out.count("of 4 prompts") == groups
    (figures,) = json.loads((tmp_path / "generation.json").read_text()).values()
    assert set(figures["variants"]) == {"reference", "quality", "fast"}
    assert figures["variants"]["reference"]["speedup"] == 1


def test_thresholds_are_chosen_on_prompts_of_their_own(benchmark, measure, tmp_path, monkeypatch):
    ends = {name: (preset, policy, values[-1:]) for name, (preset, policy, values) in benchmark.CURVES.items()}
    monkeypatch.setattr(benchmark, "CURVES", ends)  # those of the fewest passes
    measure("--presets tiny --prompts 4 --group 4")
    measure(f"--curve tiny --skip 4 --prompts 4 --group 2 --draw {tmp_path / 'curve.svg'}")
    lines = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    table, curve = ([answer["prompt"] for answer in line["variants"][0]["answers"]] for line in lines)
    assert sorted(table + curve) == [f"Apa {i}?" for i in range(6)]
    assert all(name in (tmp_path / "curve.svg").read_text() for name in benchmark.CURVES)


@pytest.mark.slow
def test_a_preset_ends_where_the_filled_canvas_has_its_first_end(measure, tmp_path):
    measure("--filled tiny --prompts 4 --group 4")
    (figures,) = json.loads((tmp_path / "generation.json").read_text()).values()
    filled, reference = figures["variants"]["filled"], figures["variants"]["reference"]
    assert filled["forward_passes"] == 32 >= reference["forward_passes"]
    assert reference["agreement"] == 1
