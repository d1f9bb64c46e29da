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
    assert printed.count("bound by") == 12 and "512 bytes a token kept" in printed  # 2 layers x 2 x 32 x 4 bytes


def test_presets_are_measured_and_taken_up_again(benchmark, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark, "HERE", tmp_path)
    monkeypatch.setattr(benchmark, "KEPT", tmp_path / "kept.jsonl")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input": f"Apa {i}?", "output": "Itu."}) + "\n" for i in range(4)))
    command = f"generation.py --presets tiny --model {checkpoint} --rows {rows} --prompts 4 --group 2 --new-tokens 32"
    for groups in (2, 0):
        monkeypatch.setattr("sys.argv", command.split())
        benchmark.main()
        assert capsys.readouterr().out.count("of 4 prompts") == groups
    (figures,) = json.loads((tmp_path / "generation.json").read_text()).values()
    assert set(figures["variants"]) == {"reference", "quality", "fast"}
    assert figures["variants"]["reference"]["speedup"] == 1
