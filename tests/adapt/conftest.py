"""A training in a fraction of a second: a random base, a few rows, and a run folder that holds them."""

import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from transformers import TrainerCallback

from tiny_families import write_tokenizer
from topeng.adapt.train import train_adapter
from topeng.models import find_device
from topeng.recipe import Recipe, parse, slices


class Signals(TrainerCallback):
    """Sends signals to this process while a step is taken."""

    def __init__(self, step, *signals):
        self.step, self.signals = step, signals

    def on_step_begin(self, args, state, control, **_):
        if state.global_step + 1 == self.step:
            for number in self.signals:
                signal.raise_signal(number)


class Killed(Exception):
    """Stands for `kill -9`: nothing is saved after it."""


class Kill(TrainerCallback):
    def __init__(self, after):
        self.after = after

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.after:
            raise Killed


@dataclass
class Training:
    recipe: Recipe
    run: Path

    def changed(self, section: str, **options: Any) -> "Training":
        """The same with other options of a section."""
        return Training(replace(self.recipe, **{section: replace(getattr(self.recipe, section), **options)}), self.run)

    def train(self, work: Path, *callbacks: Any) -> Path:
        """Trains the recipe's first method in a work folder; returns what it leaves."""
        method = self.recipe.adapter.methods[0]
        work.mkdir(exist_ok=True)
        train_adapter(slices.adapting(self.recipe, method), method, self.run, work, Console(quiet=True), callbacks)
        return work / "adapters" / method


@pytest.fixture
def training(checkpoint, tmp_path) -> Training:
    """Twelve steps of `lora`; losses are logged every second step."""
    (tmp_path / "run" / "corpus").mkdir(parents=True)
    for name, count in (("train", 40), ("validation", 6)):
        rows = [
            {"row_id": row, "input": f"Apa {'itu ' * (row % 5)}?", "output": f"Kucing {row % 7} di kursi kayu."}
            for row in range(count)
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "run" / "corpus" / f"{name}.parquet")
    values = {
        "base": {"model": str(checkpoint), "device": str(find_device())},
        "adapter": {"methods": ["lora"], "rank": 2, "alpha": 4},
        "train": {"steps": 12, "batch_rows": 4, "learning_rate": 0.01, "eval_steps": 10, "report_to": []},
        "text": {"max_length": 64},
    }
    return Training(parse(values), tmp_path / "run")


@pytest.fixture
def signals():
    return Signals


@pytest.fixture(scope="session")
def with_tokenizer(tmp_path_factory):
    """A golden checkpoint with a tokenizer that has its vocabulary's size, and its mask and end tokens."""

    def make(folder):
        made = tmp_path_factory.mktemp("golden") / folder.name
        shutil.copytree(folder, made)
        write_tokenizer(made)
        return made

    return make
