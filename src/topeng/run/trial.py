"""Times a few steps of a training, to estimate all of it (`topeng train RECIPE --plan`)."""

import gc
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from transformers import TrainerCallback

from topeng.adapt.train import base_path, check_training, train_adapter
from topeng.recipe import Recipe, slices
from topeng.run.pipeline import TRAINING_ROWS
from topeng.run.plan import print_rows, training_steps
from topeng.system.memory import in_gib, memory_in_use, peak_at_work, reset_peak_memory

TRIAL_STEPS = 6


def trial_of(recipe: Recipe, run: Path) -> dict[str, Any]:
    """Trains each method for a few steps without saving, and returns what a step, an evaluation and all steps take.

    If the base or the rows do not exist yet, it returns what is missing.
    """
    missing = _missing(recipe, run)
    if missing:
        return {"missing": missing}
    check_training(recipe.adapter.methods, recipe.base.device, recipe.train.report_to)
    methods_of, alone, steps = {}, memory_in_use(), training_steps(recipe, run)
    evaluations = 2 + (steps - 1) // recipe.train.eval_steps  # at the start, and at the end
    for method in recipe.adapter.methods:
        step, evaluation, memory = _trial(recipe, method, run)
        methods_of[method] = {
            "seconds_per_step": step,
            "seconds_per_evaluation": evaluation,
            "steps": steps,
            "seconds": steps * step + evaluations * evaluation,
            "peak_memory_bytes": memory,
        }
    before = None if peak_at_work()[1] else alone
    return {"timed_steps": TRIAL_STEPS, "methods": methods_of, "memory_before_bytes": before}


def print_trial(trial: Mapping[str, Any], console: Console) -> None:
    if "missing" in trial:
        console.print(f"No trial: {trial['missing']}", highlight=False, soft_wrap=True)
        return
    rows = []
    for method, found in trial["methods"].items():
        took = (
            f"{found['seconds_per_step']:.2f} s per step, {found['seconds_per_evaluation']:.1f} s per evaluation, "
            f"{found['seconds'] / 60:,.1f} minutes for all {found['steps']:,} steps"
        )
        rows.append((method, f"{took}; peak memory {in_gib(found['peak_memory_bytes'], 2)}"))
    if trial["memory_before_bytes"] is not None:
        held = in_gib(trial["memory_before_bytes"], 2)
        rows.append(("memory", f"includes {held} in use before the first base is loaded"))
    print_rows(console, f"Timed over {trial['timed_steps']} steps, without the first", rows)


def _missing(recipe: Recipe, run: Path) -> str | None:
    """What is missing for a trial, with the remedy."""
    if not Path(base_path(recipe.base, run)).is_dir():
        if recipe.base.model is None:
            return f"there is no base in {run} yet. `topeng base RECIPE` makes one."
        return f"the base {recipe.base.model} is not a local folder. Name a local copy (--base.model FOLDER)."
    if not (run / TRAINING_ROWS[0]).is_file():
        return f"there are no rows in {run} yet. `topeng corpus RECIPE` makes them."
    return None


class _Measured(Exception):
    """Ends a trial before anything is saved."""


class _Clock(TrainerCallback):
    """Times steps and the last evaluation, in seconds. Steps differ in length, so their mean is used."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        if self.ends:
            self.evaluation = time.perf_counter() - self.ends[-1]
            raise _Measured


def _trial(recipe: Recipe, method: str, run: Path) -> tuple[float, float, int]:
    """Seconds of a step and of an evaluation, and the most bytes that were held: by the GPU, or else by the process."""
    asked = slices.adapting(recipe, method)
    train = replace(asked.train, steps=TRIAL_STEPS, eval_steps=TRIAL_STEPS, report_to=[])
    clock = _Clock()
    reset_peak_memory()
    with TemporaryDirectory() as folder, suppress(_Measured):
        train_adapter(replace(asked, train=train), method, run, Path(folder), Console(quiet=True), [clock])
    gc.collect()  # a trainer and its model hold each other
    memory, _ = peak_at_work()
    return (clock.ends[-1] - clock.ends[0]) / (len(clock.ends) - 1), clock.evaluation, memory
