"""`topeng train` itself on LLaDA-8B's shape: LoRA, QLoRA and PiSSA of rank 16 on all linear layers, 512 tokens."""

import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import shapes
import yaml
from bench import Bench, logged, seconds_of_command
from ledger import Record
from rows import ROOT, finished_corpus

from topeng.adapt.tiny import new_tokenizer
from topeng.models import load_tokenizer
from topeng.text.rows import read_rows
from topeng.text.tokens import tokenize_rows

LENGTH, BATCH_ROWS, PASS_ROWS = 512, 16, 8
REAL_ROWS = 10_000
"""Rows of the experiment that the whole is for: its training time is reckoned from the speed measured here."""


def train(bench: Bench) -> None:
    """LoRA, activations kept and recomputed."""
    bench.attempt("lora", lambda: measured(bench, "lora", 30))
    recomputed = {"gradient_checkpointing": True}
    bench.attempt("lora, activations recomputed", lambda: measured(bench, "lora", 12, **recomputed), seconds=40)


def four_bit(bench: Bench) -> None:
    """QLoRA as on a GPU of 24 GB: four rows of 512 tokens in a pass, activations recomputed."""
    if bench.device == "cpu":
        bench.record("qlora", {"skipped": "4-bit weights need a GPU"})
        return
    options = {"gradient_checkpointing": True, "batch_tokens": 4 * LENGTH}
    bench.attempt("qlora", lambda: measured(bench, "qlora", 10, **options))


def pissa(bench: Bench) -> None:
    """PiSSA, whose start decomposes all weights."""
    bench.attempt("pissa", lambda: measured(bench, "pissa", 6, gradient_checkpointing=True))


def measured(bench: Bench, method: str, steps: int, **options: Any) -> Record:
    """One training from the command line: what its logger wrote of its speed and memory, and the seconds it took.

    All are of one run folder: the first reads the base's 16 GB for their digest, the others find it there.
    """
    os.chdir(ROOT)
    corpus, corpus_options = finished_corpus(bench.scratch / "rows")
    run, recipe = bench.scratch / "run", bench.scratch / "recipe.yaml"
    if not run.exists():
        shutil.copytree(corpus, run)
    for left in ("adapters", "logs"):  # by an earlier training of the method, which would count as this one's
        shutil.rmtree(run / left / method, ignore_errors=True)
    base, seconds_of_weights = weights(bench, run)
    values = recipe_values(bench, method, steps, base, options) | {"corpus": corpus_options}
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    product = bench.product_speed()
    bench.free_memory()
    seconds = seconds_of_command("train", recipe, "--run-dir", run)
    answers = answer_share(run, base, values["text"]["max_length"])
    return figures(bench, run / "logs" / method, product, answers) | {
        "seconds_of_the_command": seconds,
        "seconds_of_making_the_weights": seconds_of_weights,
    }


def recipe_values(bench: Bench, method: str, steps: int, base: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a training; with `--small` a few short rows."""
    length, steps = (64, 3) if bench.small else (LENGTH, steps)
    every = max(1, steps // 3)
    train = {
        "steps": steps,
        "batch_rows": 4 if bench.small else BATCH_ROWS,
        "batch_tokens": PASS_ROWS * length,
        "precision": "bfloat16",
        "learning_rate": 1e-4,
        "eval_steps": every * 2,
        "report_to": ["tensorboard"],
    }
    return {
        "text": {"max_length": length},
        "base": {"model": str(base), "dtype": "bfloat16", "device": bench.device},
        "adapter": {"methods": [method], "rank": 4 if bench.small else 16},
        "train": train | options,
    }


def weights(bench: Bench, run: Path) -> tuple[Path, float]:
    """A checkpoint at random weights and its own tokenizer, written once for all parts; and the seconds it took."""
    folder, began = bench.scratch / "base", time.perf_counter()
    if not (folder / "tokenizer_config.json").exists():
        model = shapes.random_model(bench)
        model.save_pretrained(str(folder))
        del model
        bench.free_memory()
        texts = [row["output"] for row in read_rows(run / "corpus" / "train.parquet")]
        new_tokenizer(texts, shapes.SMALL.vocab_size).save_pretrained(str(folder))
    return folder, time.perf_counter() - began


def figures(bench: Bench, logs: Path, product: float, answers: float) -> Record:
    """Speed as the training logged it, the first line apart, in which kernels are chosen and loaded.

    Args:
        product: operations per second of a matrix product.
        answers: share of the tokens that are of answers.
    """
    speeds = logged(logs, "tokens_per_second")
    speed = statistics.median(speeds[1:] or speeds)
    operations = shapes.useful_operations(shapes.config(bench.small), 1, answers / 2)
    return {
        "tokens_per_second": speed,
        "share_of_a_matrix_product": operations * speed / product,
        "product_teraflop_per_second": product / 1e12,
        "peak_memory_gib": bench.peak_gib() or max(logged(logs, "peak_memory_bytes")) / 2**30,
        "minutes_for_10000_rows_of_512": REAL_ROWS * LENGTH / speed / 60,
        "losses": [round(value, 3) for value in logged(logs, "loss")],
    }


def answer_share(run: Path, base: Path, length: int) -> float:
    """Of the tokens that are trained on, those of answers; half of them are masked in the mean."""
    examples, _ = tokenize_rows(load_tokenizer(base), read_rows(run / "corpus" / "train.parquet"), length)
    return sum(row.response_length for row in examples) / sum(len(row.input_ids) for row in examples)
