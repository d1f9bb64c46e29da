"""A finished run that is made up: three methods, one of them with two seeds, and texts that would run as a script."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from made_up import ANSWERS, ATTACK, write_json, write_plane

from topeng.evaluate.right_answers import judged
from topeng.report.map import write_map

METHODS = ["lora", "lora+", "pissa"]
RIGHT = {"base": 0.09, "lora": 0.64, "lora+": 0.71, "pissa": 0.58}
"""Shares of right answers, target language."""
NAMES = {"base": ["base"], "lora": ["lora-seed-1", "lora-seed-2"], "lora+": ["lora+"], "pissa": ["pissa"]}
RECIPE = """seed: 42
corpus:
  files: [hf://datasets/indonlp/cendol_collection_v2@abc/**/*.parquet, /home/someone/rows.parquet]
  subsets: [indo_puisi, wikihow]
  profile: clean
  languages: [id, ms]
  licences: {indo_puisi: "CC BY-SA 4.0 | <b>"}
base: {model: GSAI-ML/LLaDA-8B-Instruct, revision: null, dtype: bfloat16}
adapter: {methods: [lora, lora+, pissa], rank: 16, alpha: 32, dropout: 0.0, target_modules: all-linear}
text: {max_length: 512, eos: fill}
train: {batch_rows: 16, noise: stratified, precision: bfloat16}
generate: {max_new_tokens: 64, steps: 32, block_length: 32, policy: confidence}
report: {title: Topeng, answers: 6, language: en, licence: null}
"""


def write_json_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


def fake_run(folder: Path, points: int = 3000) -> Path:
    rng = np.random.default_rng(0)
    write_corpus(folder / "corpus", points, rng)
    write_map(folder / "corpus", folder / "corpus" / "map.html", "Topeng")
    write_json(folder / "scores.json", fake_scores())
    for method, end, rate in zip(METHODS, (3.86, 3.74, 3.71), (60, 40, 30), strict=True):
        for name in NAMES[method]:
            write_adapter(folder / "adapters" / name, method, end, rate, rng)
    for model, names in NAMES.items():
        for name in names:
            write_json_lines(folder / "evaluate" / name / "answers.jsonl", fake_answers(model))
    write_json(folder / "manifest.json", fake_manifest())
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


def fake_manifest() -> dict[str, Any]:
    stages = {"corpus": 12.3, "base": 61.9, **{f"train/{m}": 212.4 for m in METHODS}, "evaluate/base": 31.0}
    stages |= {f"evaluate/{m}": 33.1 for m in METHODS} | {"compare": 0.4}
    return {
        "versions": {
            "topeng": "0.1.0",
            "python": "3.12.4",
            "torch": "2.13.0",
            "transformers": "5.23.0",
            "peft": "0.21.1",
        },
        "seed": 42,
        "inputs": {"/home/someone/corpus.csv": {"sha256": "ab12" * 16, "state": []}},
        "stages": {
            name: {
                "status": "done",
                "seconds": seconds,
                "peak_memory_bytes": 4.1e8 * (1 + seconds / 50),
                "outputs": {name.replace("train", "adapters"): "cd34" * 16},
            }
            for name, seconds in stages.items()
        },
    }


def write_corpus(folder: Path, points: int, rng: np.random.Generator) -> None:
    steps = [("ingest", 40_000, {}), ("subsets", 19_800, {"subset not asked for": 20_200})]
    steps += [("sample", 3_000, {"not drawn": 16_800}), ("split", 2_478, {"held out": 394, "group of a test row": 128})]
    steps += [("select", 1_003, {"over the cluster's quota": 1_475}), ("tokens", 1_000, {"no room for an answer": 3})]
    funnel = [{"stage": s, "rows": r, "dropped": d} for s, r, d in steps]
    write_json(
        folder / "funnel.json", {"source_rows": 40_000, "kept_rows": 1_000, "kept_share": 0.025, "steps": funnel}
    )
    write_plane(folder, points, rng)
    row = {"row_id": 7, "template_name": "dolly_0", "input": "<script>alert(1)</script>", "output": "ya"}
    bins = [{"above": above, "rows": rows} for above, rows in ((None, 371), (0.0, 11), (0.5, 2))]
    write_json(
        folder / "overlap.json",
        {
            **{"ngram": 8, "test_rows": 394, "too_short": 10, "mean_share": 0.0042, "rows_by_share": bins},
            "most_alike": [{"share": 0.61, "test": row, "train": row}],
        },
    )


def write_adapter(folder: Path, method: str, end: float, rate: float, rng: np.random.Generator) -> None:
    def loss(step: int) -> float:
        return end + (6.1 - end) * math.exp(-step / rate)

    shift = rng.normal(0, 0.12)
    log = [{"step": s, "eval_loss": loss(s) + shift * min(s, 100) / 100} for s in range(0, 301, 25)]
    log += [
        {"step": s, "loss": loss(s) * math.exp(rng.normal(0, 0.14)), "learning_rate": 1e-3} for s in range(5, 301, 5)
    ]
    write_json_lines(folder / "log.jsonl", sorted(log, key=lambda line: line["step"]))
    summary = {"method": method, "rank": 16, "trainable_parameters": 41_943_040, "share": 0.0052, "steps": 300}
    summary |= {
        "cut": {"prompts": 17, "answers": 0},
        "learning_rate": 2e-4,
        "rows": 1_000,
        "dropped": {"no room for an answer": 3},
    }
    write_json(folder / "summary.json", summary)


def figure(mean: float, error: float, width: float = 1.96) -> dict[str, float]:
    return {"mean": mean, "standard_error": error, "low": mean - width * error, "high": mean + width * error}


def fake_scores() -> dict[str, Any]:
    """As `compare` writes them, format 3."""
    figures = {"base": (6.1, 2.0, 5.1, 0.031), "lora": (3.871, 2.151, 21.4, 0.187)}
    figures |= {"lora+": (3.742, 2.362, 22.8, 0.201), "pissa": (3.709, 2.208, 22.5, 0.198)}
    models = {
        name: {
            "names": NAMES[name],
            "target": fake_likelihood(target, 0.05, 394),
            "source": fake_likelihood(source, 0.04, 200),
            "answers": {language: fake_measures(name, language, chrf, rouge) for language in ("target", "source")},
        }
        for name, (target, source, chrf, rouge) in figures.items()
    }
    gain = {name: 6.1 - figures[name][0] for name in METHODS}
    forgetting = {name: figures[name][1] - 2 for name in METHODS}
    pairs = [
        {"a": a, "b": b, "language": "target", "measure": "nats_per_token", "p": p, "seeded": True, "real": p < 0.05}
        | {"difference": figure(figures[a][0] - figures[b][0], 0.02, 2.4)}
        for a, b, p in (("lora", "lora+", 0.0012), ("lora", "pissa", 0.0004), ("lora+", "pissa", 0.31))
    ]
    return {
        "format": 3,
        "conditions": {"target_rows": "ef56" * 16, "seed": 42, "draws": 16, "replicates": 4, "max_length": 512},
        "seeds": {"lora": [1, 2], "lora+": [], "pissa": []},
        "models": models,
        "gain": {name: fake_change(change, 0.041) | fake_right_change(name) for name, change in gain.items()},
        "forgetting": {name: fake_change(change, 0.03) | fake_right_change() for name, change in forgetting.items()},
        "pairs": pairs,
        "right_pairs": [
            {"a": pair["a"], "b": pair["b"], "language": "target", "measure": "exact_match"}
            | {"difference": {"rows": 100, **figure(RIGHT[pair["a"]] - RIGHT[pair["b"]], 0.03)}}
            for pair in pairs
        ],
        "signatures": {
            "chrf": "nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.5.1",
            "bleu": "nrefs:1|tok:13a",
        },
    }


def fake_likelihood(nats: float, error: float, rows: int) -> dict[str, Any]:
    per_byte = {"nats_per_token": figure(nats, error), "bits_per_byte": figure(nats * 0.4, error * 0.4)}
    return {"rows": rows, "tokens": 90 * rows, "bytes": 300 * rows, **per_byte}


def fake_change(change: float, error: float) -> dict[str, Any]:
    return {"nats_per_token": figure(change, error, 2.4), "bits_per_byte": figure(change * 0.4, error * 0.4, 2.4)}


def fake_right_change(name: str | None = None) -> dict[str, Any]:
    """Of a method on the target language; of any on the source language, where some was forgotten."""
    change = {"rows": 100, **figure(RIGHT[name] - RIGHT["base"] if name else 0.17, 0.04)}
    return {"exact_match": change, "f1": change}


def fake_measures(name: str, language: str, chrf: float, rouge: float) -> dict[str, Any]:
    broken = 0.83 if name == "base" else 0.0
    intervals = {"chrf_low": chrf - 1.2, "chrf_high": chrf + 1.2, "rouge_l_low": rouge - 0.02, "rouge_l_high": rouge}
    right = RIGHT[name] if language == "target" else 0.8 if name == "base" else 0.63
    intervals |= {"exact_match_low": right - 0.08, "exact_match_high": right + 0.08}
    intervals |= {"f1_low": right - 0.05, "f1_high": right + 0.07}
    return {
        **{"judged": 100, "exact_match": right, "f1": right + 0.02, "too_short": broken / 3},
        **{"rows": 100, "chrf": chrf, "rouge_l": rouge, "bleu": chrf / 4, "bertscore": None, **intervals},
        **{"empty": 0.02, "at_limit": broken, "distinct_2": 1 - broken, "longest_repeat": 1.5 + 40 * broken},
        **{"other_language": broken / 2, "mean_tokens": 41.3, "tokens_per_forward_pass": 1.9},
    }


CAPITALS = {"base": "the of", "lora": "Bandung", "lora+": "bandung.", "pissa": "Kota"}
"""Answers to a question that has one right answer."""


def fake_answers(model: str) -> list[dict[str, Any]]:
    base = "the of and the the, in to a a a a the of and the the, in to a a a a <|endoftext|>"
    return [
        fake_answer("target", 17 + 31 * place, asked, reference, base if model == "base" else answer, model == "base")
        for place, (asked, reference, answer) in enumerate(ANSWERS)
    ] + [
        fake_answer("target", 400, "Apa ibu kota Jawa Barat?", "Bandung", CAPITALS[model], False, True),
        fake_answer("source", 17, "What is rain?", "Water that falls.", f"Water & {ATTACK}", False),
    ]


def fake_answer(
    language: str, row_id: int, asked: str, reference: str, answer: str, endless: bool, one: bool = False
) -> dict[str, Any]:
    """In pieces of up to four characters, which fell in a shuffled order, two a step."""
    pieces = re.findall(r"\s*\S{1,4}|\s+", answer)
    places = np.random.default_rng(len(answer)).permutation(len(pieces))
    return {
        **{"language": language, "row_id": row_id, "input": asked, "reference": reference, "answer": answer},
        **judged(answer, reference, one),
        **{
            "token_ids": [sorted(set(pieces)).index(piece) for piece in pieces],
            "committed_at": [int(place) // 2 + 1 for place in places],
        },
        **{"confidence": [0.9] * len(pieces), "pieces": pieces, "ended": not endless, "seconds": 0.5},
        "forward_passes": max(1, math.ceil(len(pieces) / 2)),
    }
