"""Scored models on disk become methods, differences, and refusals."""

import json

import numpy as np
import pytest
from rich.console import Console

from topeng.cli import main
from topeng.errors import RunError
from topeng.evaluate.compare import compare_models
from topeng.report.table import print_comparison
from topeng.run.results import results_of

CONDITIONS = {"seed": 42, "draws": 4, "target_rows": "ab" * 32, "languages": ["id"]}
ANSWER = {"input": "?", "reference": "Kucing itu tidur.", "token_ids": [1, 2], "ended": True, "forward_passes": 2}


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch):
    """How exact intervals are is test_bootstrap.py's."""
    monkeypatch.setattr("topeng.evaluate.bootstrap.DRAWS", 500)


def write(
    run,
    method,
    shift=0.0,
    seed=None,
    rows=50,
    conditions=None,
    answers=("Kucing itu tidur.",),
    language="target",
    **training,
):
    """What `evaluate` leaves of one model; the same rows are hard for every model, and each seed has its own noise."""
    name = method if seed is None else f"{method}-seed-{seed}"
    out = run / "evaluate" / name
    out.mkdir(parents=True)
    hard, noise = np.random.default_rng(0), np.random.default_rng([len(name), seed or 0, int(100 * abs(shift))])
    lines = [
        {"language": one, "row_id": row, "tokens": 10, "bytes": 20 + row}
        | {"nats": (10 * (hard.gamma(4) + shift) + noise.normal(0, 0.01, 2)).tolist()}
        for one in ("target", "source")
        for row in range(rows)
    ]
    said = [(text, None) if isinstance(text, str) else text for text in answers]  # an answer, and whether it is right
    texts = [
        ANSWER
        | {"language": one, "row_id": row, "answer": text, "right": right, "f1": None if right is None else +right}
        for one in (("target", "source") if language == "both" else (language,))
        for row, (text, right) in enumerate(said)
    ]
    for file, records in (("likelihood", lines), ("answers", texts)):
        (out / f"{file}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    scored = {"name": name, "method": method, "seed": 1 if seed is None and method != "base" else seed}
    scored |= {"training": {"adapter": training} if training else {}, "conditions": CONDITIONS | (conditions or {})}
    (out / "scored.json").write_text(json.dumps(scored))


def write_seeds(run, method, shift, seeds=(1, 2, 3, 4, 5), **training):
    for seed in seeds:
        write(run, method, shift + 0.001 * seed, seed, **training)


def printed(scores, width=100):
    console = Console(width=width, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    print_comparison(scores, console)
    return console.export_text()


def test_the_unit_is_the_method(tmp_path):
    write(tmp_path, "base")
    write_seeds(tmp_path, "lora", -0.5)
    write_seeds(tmp_path, "pissa", -0.7)
    scores = compare_models([tmp_path])
    assert list(scores["models"]) == ["base", "lora", "pissa"] and scores["seeds"]["lora"] == [1, 2, 3, 4, 5]
    gain = scores["gain"]["lora"]["nats_per_token"]
    assert gain["mean"] == pytest.approx(0.5 - 0.003, abs=0.001) and gain["low"] < 0.497 < gain["high"]
    assert scores["forgetting"]["lora"]["nats_per_token"]["mean"] == pytest.approx(-0.497, abs=0.001)
    target, source = scores["pairs"]
    assert (target["a"], target["b"], target["language"], source["language"]) == ("lora", "pissa", "target", "source")
    assert target["real"] and target["p"] < 0.01 and target["difference"]["mean"] == pytest.approx(0.2, abs=0.01)
    sentence = "On the target language, PiSSA is better than LoRA (by 0.200)."
    assert sentence in printed(scores).replace("\n", " ")


def test_figures_are_in_nats_a_token_and_bits_a_byte(tmp_path):
    write(tmp_path, "base")
    target = compare_models([tmp_path])["models"]["base"]["target"]
    lines = [json.loads(line) for line in (tmp_path / "evaluate/base/likelihood.jsonl").read_text().splitlines()]
    nats = np.array([np.mean(line["nats"]) for line in lines if line["language"] == "target"])
    assert target["nats_per_token"]["mean"] == pytest.approx(nats.mean() / 10)
    assert target["bits_per_byte"]["mean"] == pytest.approx(nats.sum() / np.log(2) / sum(range(20, 70)))
    assert (target["rows"], target["tokens"], target["bytes"]) == (50, 500, sum(range(20, 70)))
    assert 0 < target["monte_carlo_error"] < target["nats_per_token"]["standard_error"]


def test_with_one_seed_nothing_is_concluded_of_methods(tmp_path):
    write(tmp_path, "base")
    write(tmp_path, "lora", -0.1)
    write(tmp_path, "pissa", -0.6)
    scores = compare_models([tmp_path])
    assert all((pair["real"], pair["p"], pair["seeded"]) == (False, None, False) for pair in scores["pairs"])
    text = " ".join(printed(scores).split())
    assert "With only one seed of LoRA and PiSSA, the comparison is about these adapters, not" in text
    assert "is better than" not in text


def test_answers_of_all_seeds_are_scored_together(tmp_path):
    write(tmp_path, "base", answers=())
    write(tmp_path, "lora", -0.1, 1, answers=("Kucing itu tidur.",))
    write(tmp_path, "lora", -0.1, 2, answers=("",))
    scores = compare_models([tmp_path])
    assert scores["models"]["base"]["answers"] == {"target": None, "source": None}
    assert scores["models"]["lora"]["answers"]["target"]["empty"] == 0.5


def test_the_table_is_sorted_by_held_out_loss(tmp_path):
    for method, shift in (("base", 0.0), ("lora", -0.1), ("pissa", -0.3)):
        write(tmp_path, method, shift)
    lines = printed(compare_models([tmp_path])).splitlines()
    assert "Right answers were not counted" in lines[0]
    assert [line.split()[0] for line in lines if "±" in line and "half" not in line] == ["PiSSA", "LoRA", "base"]


def test_right_answers_are_counted_against_the_base(tmp_path):
    write(tmp_path, "base", answers=[("Bandung", False)] * 18 + [("Jakarta", True)] * 2)
    write(tmp_path, "lora", -0.1, answers=[("Jakarta", True)] * 20)
    write(tmp_path, "pissa", -0.2, answers=[("Bandung", False)] * 5 + [("Jakarta", True)] * 15)
    scores = compare_models([tmp_path])
    shares = {name: model["answers"]["target"]["exact_match"] for name, model in scores["models"].items()}
    assert shares == {"base": 0.1, "lora": 1.0, "pissa": 0.75}
    gain = scores["gain"]["lora"]["exact_match"]
    assert gain["mean"] == pytest.approx(0.9) and 0.5 < gain["low"] < 0.9 < gain["high"] <= 1
    assert scores["forgetting"]["lora"]["exact_match"] is None  # no row of the source language was answered
    (pair,) = scores["right_pairs"]
    assert (pair["a"], pair["b"], pair["difference"]["mean"]) == ("lora", "pissa", pytest.approx(0.25))
    rows = [line for line in printed(scores, 80).splitlines() if line.startswith("LoRA ")]
    assert "100 (84–100)" in rows[0] and "+90 (" in rows[0]


def test_forgotten_answers_are_above_zero(tmp_path):
    write(tmp_path, "base", answers=[("Jakarta", True)] * 20, language="source")
    write(tmp_path, "lora", -0.1, answers=[("Bandung", False)] * 20, language="source")
    forgotten = compare_models([tmp_path])["forgetting"]["lora"]["exact_match"]
    assert forgotten["mean"] == 1 and 0.5 < forgotten["low"] < 1


def test_numbers_of_the_table_are_whole_at_80_columns(tmp_path):
    write(tmp_path, "base", 10, answers=[("Jakarta", True)] * 20, language="both")
    write(tmp_path, "lora", -10, rank=32, answers=[("Bandung", False)] * 20, language="both")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", "base", 10, answers=[("Jakarta", True)] * 20, language="both")
    write(tmp_path / "other", "lora", -9, rank=8, answers=[("Bandung", False)] * 20, language="both")
    scores = compare_models([tmp_path, tmp_path / "other"])
    narrow, wide = printed(scores, 80), printed(scores, 200)
    assert max(map(len, narrow.splitlines())) <= 80
    cells = [
        cell
        for line in wide.splitlines()
        if "rank=" in line
        for cell in line.split("  ")
        if cell.strip()[-1:].isdigit()
    ]
    assert len(cells) > 8 and [cell for cell in cells if cell.strip().replace("LoRA adapter.", "") not in narrow] == []


def test_runs_and_adapters_are_one_comparison(tmp_path):
    for run, seeds in (("one", (1, 2)), ("two", (3, 4))):
        write(tmp_path / run, "base")
        write_seeds(tmp_path / run, "lora", -0.5, seeds)
    adapter = tmp_path / "two" / "adapters" / "lora-seed-3"
    scores = compare_models([tmp_path / "one", adapter, adapter])
    assert scores["seeds"] == {"lora": [1, 2, 3]} and scores["models"]["base"]["names"] == ["base"]


def test_a_method_that_was_trained_in_two_ways_is_two(tmp_path):
    for run, rank in (("one", 8), ("two", 32)):
        write(tmp_path / run, "base")
        write_seeds(tmp_path / run, "lora", -0.01 * rank, rank=rank, alpha=16)
    scores = compare_models([tmp_path / "one", tmp_path / "two"])
    assert list(scores["gain"]) == ["lora adapter.rank=8", "lora adapter.rank=32"]
    assert "LoRA adapter.rank=32 is better than LoRA adapter.rank=8" in " ".join(printed(scores).split())


def test_a_seed_that_stands_twice_is_refused(tmp_path):
    for run in ("one", "two"):
        write(tmp_path / run, "base")
        write(tmp_path / run, "lora", -0.5, 1)
    with pytest.raises(RunError, match="lora was given twice with the same seed"):
        compare_models([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 49}, "scored on different target rows"),
        ({"conditions": {"draws": 8}}, "draws = 4 and 8"),
        ({"conditions": {"masks": "ef" * 32}}, r"masks = \(not said\) and efefefefefef…"),
        ({"conditions": {"target_rows": "cd" * 32}}, "target_rows = abababababab… and cdcdcdcdcdcd…"),
    ],
)
def test_other_rows_masks_and_settings_are_refused_by_name(tmp_path, change, message):
    write(tmp_path, "base")
    write(tmp_path, "lora", -0.1, **change)
    with pytest.raises(RunError, match=message):
        compare_models([tmp_path])


def test_two_bases_are_refused(tmp_path):
    write(tmp_path / "one", "base")
    write(tmp_path / "two", "base", 0.5)
    with pytest.raises(RunError, match=r"differ by 0\.500 nats per token .* different bases"):
        compare_models([tmp_path / "one", tmp_path / "two"])


def test_the_command(tmp_path, capsys):
    write(tmp_path / "run", "base")
    write_seeds(tmp_path / "run", "lora", -0.5)
    assert main(["compare", str(tmp_path / "run"), "--out", str(tmp_path / "figures.json")]) == 0
    assert "LoRA" in capsys.readouterr().out and json.loads((tmp_path / "figures.json").read_text())["format"] == 3
    assert main(["compare", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "figures.json").read_text())
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "empty")]) == 1
    assert "has no scores. Name a run folder" in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "run"), "--seed", "1"]) == 1
    assert "takes only --out, --evaluate.bertscore_model and --base.device" in capsys.readouterr().err


def test_a_method_that_the_recipe_no_longer_names_is_left_out(tmp_path, capsys):
    """Its scores stay in the run folder, and may have been taken under other conditions."""
    write(tmp_path, "base")
    write(tmp_path, "lora", -0.5)
    write(tmp_path, "pissa", -0.5, conditions={"draws": 8})
    (tmp_path / "recipe.yaml").write_text("adapter: {methods: [lora]}\ntrain: {max_grad_norm: 1.0}\n")
    assert main(["compare", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr()
    assert list(json.loads(printed.out)["models"]) == ["base", "lora"]
    assert f"pissa was left out, because {tmp_path / 'recipe.yaml'} no longer names it" in printed.err
    assert list(results_of(tmp_path, "evaluate/")["scores"]["models"]) == ["base", "lora"]
    assert main(["compare", str(tmp_path), str(tmp_path / "adapters" / "pissa")]) == 1
    assert "draws = 4 and 8" in capsys.readouterr().err


def test_two_methods_never_share_a_name(tmp_path):
    """Values that begin alike, and an option that one side does not know."""
    write(tmp_path / "a", "base")
    digests = ["0123456789abcdef" * 4, "0123456789abcdee" * 4, "0123456789ab"]
    for number, digest in enumerate(digests):
        write_seeds(tmp_path / str(number), "lora", 0.1 * number, (1, 2), rows_digest=digest)
    write(tmp_path / "more", "lora", seed=3, rows_digest=digests[0], unknown=None)
    scores = compare_models([tmp_path / "a", *(tmp_path / name for name in ("0", "1", "2", "more"))])
    names = [f"lora adapter.rows_digest={start}" for start in ("0123456789abcdef", "0123456789abcdee", "0123456789ab")]
    assert list(scores["gain"]) == names
    assert scores["seeds"][names[0]] == [1, 2, 3]


def test_versions_of_libraries_that_differ_are_told(tmp_path):
    write(tmp_path, "base")
    write(tmp_path, "lora", -0.5)
    for name, torch in (("base", "2.11.0"), ("lora", "2.13.0")):
        file = tmp_path / "evaluate" / name / "scored.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"versions": {"torch": torch, "peft": "0.21"}}))
    scores = compare_models([tmp_path])
    assert scores["versions"] == {"torch": ["2.11.0", "2.13.0"]}
    assert "scored with different versions of torch: 2.11.0, 2.13.0." in " ".join(printed(scores).split())
