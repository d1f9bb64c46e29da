"""`topeng base` on SmolLM2-135M's shape and on kecil's: how many tokens of pretraining a GPU reads in a second."""

import os
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from bench import Bench, logged, seconds_of_command
from ledger import Record
from rows import ROOT, finished_corpus

from topeng.adapt.base_settings import TinyOptions
from topeng.adapt.tiny import new_model, new_tokenizer, tiny_config
from topeng.models.a2d import A2DLlamaConfig, A2DLlamaLMHeadModel
from topeng.text.rows import read_rows

LENGTH, VOCABULARY = 128, 1000
STEPS = 40
SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "predicts_next": True,
}
KECIL = TinyOptions(vocab_size=3584, hidden_size=192, layers=4)


def pretrain(bench: Bench) -> None:
    """All weights, in bf16 autocast; weights are random, tokens made up."""
    for name, make, rows in (("smollm2-135m", smollm2, 256), ("kecil", kecil, 32), ("kecil", kecil, 512)):
        label = f"{name}, {rows} rows a step"
        bench.attempt(label, lambda n=name, m=make, r=rows: measured(bench, n, m, r), seconds=10)


def smollm2(bench: Bench) -> Any:
    tiny = tiny_config(TinyOptions(vocab_size=VOCABULARY), LENGTH)
    shape = SMOLLM2 | ({"num_hidden_layers": 2, "hidden_size": 72, "vocab_size": 1200} if bench.small else {})
    ids = {"mask_token_id": tiny.mask_token_id, "eos_token_id": tiny.eos_token_id, "pad_token_id": tiny.pad_token_id}
    with torch.device(bench.device):
        return A2DLlamaLMHeadModel(A2DLlamaConfig(**shape | ids))


def kecil(bench: Bench) -> Any:
    return new_model(tiny_config(KECIL, 2 * LENGTH), 0)


def measured(bench: Bench, name: str, make: Callable[[Bench], Any], rows: int) -> Record:
    """The command, and what its logger wrote of its speed."""
    os.chdir(ROOT)
    corpus, _ = finished_corpus(bench.scratch / "rows")
    run, start = bench.scratch / f"pretrain-{name}-{rows}", bench.scratch / f"start-{name}"
    shutil.copytree(corpus, run)
    if not start.exists():
        make(bench).save_pretrained(str(start))
        texts = [row["output"] for row in read_rows(run / "source" / "train.parquet")]
        new_tokenizer(texts, VOCABULARY).save_pretrained(str(start))
        bench.free_memory()
    recipe = bench.scratch / "pretrain.yaml"
    recipe.write_text(
        yaml.safe_dump(recipe_values(bench, start, rows, "adamw" if make is smollm2 else "muon")), encoding="utf-8"
    )
    seconds = seconds_of_command("base", recipe, "--run-dir", run)
    return {"seconds_of_the_command": seconds} | speed(run / "logs" / "base", bench)


def recipe_values(bench: Bench, start: Path, rows: int, optimizer: str) -> dict[str, Any]:
    tiny = {"start": str(start), "optimizer": optimizer, "steps": 6 if bench.small else STEPS, "batch_rows": rows}
    return {
        "text": {"max_length": LENGTH, "eos": "one"},
        "base": {"tiny": tiny},
        "train": {"batch_tokens": 256 * LENGTH, "precision": "bfloat16", "report_to": ["tensorboard"]},
    }


def speed(logs: Path, bench: Bench) -> Record:
    losses, memory = logged(logs, "loss"), bench.peak_gib()
    return {
        "tokens_per_second": statistics.median(logged(logs, "tokens_per_second")[1:]),
        "losses": [round(value, 3) for value in losses[:: max(1, len(losses) // 6)]],
    } | ({} if memory is None else {"peak_memory_gib": memory})
