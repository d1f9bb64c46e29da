"""The noise of training: its variance at equal compute, and steps to the same held-out loss.

    python benchmarks/variance.py SHARED              # variance of the loss and of the gradient, by noise
    python benchmarks/variance.py SHARED --steps 40   # trainings of so many steps, three seeds each

Real Indonesian rows on the English model kecil-en, LoRA r = 16; a step has 16 rows, or 8 rows twice. Each batch of
random rows is drawn twice: what differs between the two is the noise's part of the variance, what differs between
batches is all of it, the sampling of rows included. `benchmarks/variance.json` keeps the figures by part.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from machine import machine
from transformers import TrainingArguments

from topeng.adapt import methods
from topeng.adapt.settings import AdapterOptions
from topeng.adapt.trainer import Batching, DiffusionTrainer
from topeng.diffusion import copies
from topeng.models import load_model, load_tokenizer
from topeng.text.tokens import Example, tokenize_rows

HERE = Path(__file__).parent
NOISES = ("independent", "stratified", "complementary")
STEP_ROWS, MAX_LENGTH = 16, 128
OPTIONS = AdapterOptions(rank=16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = HERE.parents[1] / "shared"
    parser.add_argument("shared", type=Path, nargs="?", default=shared, help="a folder with data/ and models/")
    parser.add_argument("--minutes", type=float, default=4, help="to draw batches for")
    parser.add_argument("--steps", type=int, help="of each training")
    parser.add_argument("--noise", choices=NOISES, default="stratified", help="against independent, with --steps")
    options = parser.parse_args()
    train, held_out = examples(options.shared)
    if options.steps:
        part, figures = "steps", steps_to_loss(options.shared, train, held_out, options.noise, options.steps)
    else:
        part, figures = "variance", variances(options.shared, train, options.minutes)
    file = HERE / "variance.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(known | {part: machine() | figures}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def examples(shared: Path) -> tuple[list[Example], list[Example]]:
    """Rows to train on and 48 held-out rows, without end tokens after the answer's own."""
    rows = pq.read_table(shared / "data" / "indonesian.parquet", columns=["input", "output"]).to_pylist()
    drawn = np.random.default_rng(0).choice(len(rows), 2048, replace=False)
    tokenizer = load_tokenizer(shared / "models" / "kecil-en")
    found, _ = tokenize_rows(tokenizer, [rows[index] | {"row_id": int(index)} for index in drawn], MAX_LENGTH)
    return found[48:], found[:48]


def make_trainer(
    shared: Path, train: list[Example], held_out: list[Example], noise: Any, seed: int, **arguments: Any
) -> DiffusionTrainer:
    adapted = methods.add_adapter(load_model(shared / "models" / "kecil-en", "float32"), "lora", OPTIONS, seed)
    args = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        seed=seed,
        use_cpu=True,
        report_to="none",
        label_names=[],
        save_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        learning_rate=1e-3,
        lr_scheduler_type="constant_with_warmup",
        **arguments,
    )
    optimizer = methods.create_optimizer(adapted, "lora", OPTIONS, 1e-3, 0.0)
    batching = Batching(STEP_ROWS, 2048, noise, fill=False)
    return DiffusionTrainer(adapted, args, train, held_out, batching, optimizer)


def variances(shared: Path, train: list[Example], minutes: float) -> dict[str, Any]:
    """Variance of a step's loss and of its gradient (the sum over its entries), all and the noise's part."""
    trainers = {noise: make_trainer(shared, train, [], noise, 0) for noise in NOISES}
    losses: dict[str, list[float]] = {noise: [] for noise in NOISES}
    gradients: dict[str, list[np.ndarray]] = {noise: [] for noise in NOISES}
    random, started, batches = np.random.default_rng(1), time.monotonic(), 0
    while time.monotonic() - started < 60 * minutes:
        for noise, trainer in trainers.items():
            rows = random.choice(len(train), STEP_ROWS // copies(noise), replace=False)
            for draw in range(2):
                trainer.state.global_step = 2 * batches + draw
                drawn: Any = [train[row] for row in random.permutation(rows)]
                losses[noise].append(float(trainer.training_step(trainer.model, drawn)))
                weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
                gradients[noise].append(torch.cat([weight.grad.flatten() for weight in weights]).numpy())
                trainer.model.zero_grad()
        batches += 1
    found = {
        noise: _parts("loss", np.array(losses[noise])[:, None]) | _parts("gradient", np.array(gradients[noise]))
        for noise in NOISES
    }
    plain = found["independent"]
    ratios = {noise: {key: value / plain[key] for key, value in parts.items()} for noise, parts in found.items()}
    return {"rows_a_step": STEP_ROWS, "batches": batches, "variance": found, "against_independent": ratios}


def _parts(name: str, values: np.ndarray) -> dict[str, float]:
    """Of values [2 x batches, D], drawn in pairs: variance from the noise, and in all."""
    pairs = values.reshape(-1, 2, values.shape[1])
    noise = ((pairs[:, 0] - pairs[:, 1]) ** 2).sum(axis=1).mean() / 2
    rows = pairs.mean(axis=1).var(axis=0, ddof=1).sum() - noise / 2
    return {f"{name}, noise": float(noise), f"{name}, all": float(noise + max(rows, 0))}


def steps_to_loss(
    shared: Path, train: list[Example], held_out: list[Example], noise: str, steps: int
) -> dict[str, Any]:
    """Held-out loss every 5 steps, and the step at which it is what independent noise ends with (mean of seeds)."""
    curves: dict[str, list[list[float]]] = {}
    for name in ("independent", noise):
        for seed in range(3):
            trainer = make_trainer(
                shared,
                train,
                held_out,
                name,
                seed,
                max_steps=steps,
                eval_strategy="steps",
                eval_steps=5,
                eval_on_start=True,
            )
            trainer.train()
            curve = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
            curves.setdefault(name, []).append(curve)
            print(name, seed, [round(loss, 3) for loss in curve], flush=True)
    goal = statistics.mean(curve[-1] for curve in curves["independent"])
    reached = {name: [_first_at(curve, goal) for curve in found] for name, found in curves.items()}
    ends = {name: [curve[-1] for curve in found] for name, found in curves.items()}
    return {"steps": steps, "goal": goal, "steps_to_goal": reached, "held_out_loss": ends, "curves": curves}


def _first_at(curve: list[float], goal: float) -> float | None:
    """The step at which a curve (every 5 steps) first has the goal, between two evaluations in proportion."""
    for index, loss in enumerate(curve):
        if loss <= goal:
            before = curve[index - 1] if index else loss
            part = (before - goal) / (before - loss) if before > loss else 0.0
            return 5 * (index + part)
    return None


if __name__ == "__main__":
    main()
