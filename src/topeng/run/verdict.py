"""The verdict of a plan: whether a run fits this machine, which GPU it would need, and how much disk and time it takes.

Hours are estimated as operations divided by a rate, for rows of `text.max_length` tokens.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from topeng import recipe as recipes
from topeng.diffusion import OBJECTIVES, Objective, objective_of
from topeng.kecil import locate
from topeng.models import FAMILIES
from topeng.recipe import Recipe
from topeng.run.plan import (
    base_config,
    print_rows,
    sequences,
    trainable_parameters,
    training_memory,
    training_steps,
)
from topeng.system.memory import GIB

CORE_FLOPS = 60e9
"""Rate of a core, derived from 1,043 tokens/s of a 19 M parameter stack in fp32 on two (benchmarks/training.json)."""
GPU_FLOPS = 200e12
"""Rate of a GPU such as an H100 in bf16. It is assumed to be a fifth of the peak."""
INGEST_ROWS = 67_000.0
"""Rows per second and core, measured (benchmarks/corpus.json)."""
TFIDF_ROWS, BERT_ROWS, BERT_GPU_ROWS = 5_000.0, 1.0, 1_800.0
"""Rows embedded per second. The first two are derived from measurements, the last is calculated (docs/scale.md)."""
CENDOL_ROWS = 12_810_390
ROW_BYTES, DOWNLOAD_BYTES = 190, 154
"""Bytes of a row after ingest and in the download (docs/scale.md)."""
PROCESS_BYTES = GIB
"""Approximate memory of Python, torch and its context."""
CARDS = (8, 12, 16, 24, 40, 48, 80, 141)
"""Memory of common GPUs, in GB."""
LONGEST_HOURS = 48.0
"""A run that takes longer does not count as one that fits."""


@dataclass(frozen=True)
class Needs:
    """What a run needs: bytes of memory in training, of downloads and of disk, and hours by stage here and on a GPU."""

    memory: int
    downloads: dict[str, int | None]
    disk: int
    here: dict[str, float]
    on_gpu: dict[str, float]


def verdict_of(recipe: Recipe, run: Path, steps: int | None = None) -> dict[str, Any]:
    """What a run needs, and whether this machine has it. Sizes are in bytes, except for the card's, which is in GB.

    Nothing is loaded.

    Args:
        steps: optimiser steps of a training from its plan, by default from the recipe.
    """
    needs = needs_of(recipe, steps)
    enough = fits(needs)
    return {
        "memory_bytes": needs.memory,
        "memory_available_bytes": memory_here(),
        "fits": enough,
        "hours": needs.here,
        "gpu": {"memory_gb": _card(needs.memory), "hours": needs.on_gpu},
        "download_bytes": needs.downloads,
        "disk_bytes": needs.disk + sum(size or 0 for size in needs.downloads.values()),
        "disk_free_bytes": shutil.disk_usage(_existing(run)).free,
        **({} if enough else {"would_fit": nearest()}),
    }


def print_verdict(verdict: Mapping[str, Any], console: Console) -> None:
    disk, free, gpu = verdict["disk_bytes"], verdict["disk_free_bytes"], verdict["gpu"]
    named = [f"{name} {_gb(size) if size else 'of unknown size'}" for name, size in verdict["download_bytes"].items()]
    rows = [
        ("this machine", f"{_this_machine(verdict)}: {_hours(verdict['hours'])}"),
        ("a GPU", f"{_gpu_needed(gpu['memory_gb'], verdict['memory_bytes'])}: {_hours(gpu['hours'])}"),
        ("download", ", ".join(named) or "nothing"),
        ("disk", f"about {_gb(disk)}; {_gb(free)} free{'' if free > disk else ', which is too little'}"),
    ]
    if "would_fit" in verdict:
        rows.append(("would fit", verdict["would_fit"]))
    print_rows(console, "Verdict (estimated from the rates in benchmarks/; the GPU's rate is assumed)", rows)


def needs_of(recipe: Recipe, steps: int | None = None) -> Needs:
    """
    Args:
        steps: as in `verdict_of`.
    """
    config = base_config(recipe)
    with torch.device("meta"):
        total = FAMILIES[config.model_type](config).num_parameters()
    counts = trainable_parameters(recipe, config)
    memory = max(sum(training_memory(recipe, config, name, total, count).values()) for name, count in counts.items())
    objectives = [_base_objective(recipe, config), *(_objective(recipe, one.objective) for one in recipe.trainings)]
    stack = total - 2 * config.vocab_size * config.hidden_size  # the head only runs on masked tokens
    model = recipe.base.model or recipe.base.convert or recipe.base.tiny.start
    remote = bool(model) and not Path(locate(model or "")).exists()
    downloads: dict[str, int | None] = {str(model): 2 * total} if remote else {}
    for name in (*recipe.corpus.files, *recipe.source.files):
        if "://" in name:
            downloads[name] = CENDOL_ROWS * DOWNLOAD_BYTES if "cendol_collection_v2" in name else None
    if recipe.corpus.embedder != "tfidf" and not Path(recipe.corpus.embedder).exists():
        downloads[recipe.corpus.embedder] = None
    cores = os.cpu_count() or 1
    here = GPU_FLOPS if torch.cuda.is_available() else cores * CORE_FLOPS
    steps = steps or training_steps(recipe)
    return Needs(
        memory + PROCESS_BYTES,
        downloads,
        _corpus_rows(recipe) * ROW_BYTES + sum(4 * count * 8 for count in counts.values()),
        _stages(recipe, objectives, steps, stack, here, torch.cuda.is_available()),
        _stages(recipe, objectives, steps, stack, GPU_FLOPS, True),
    )


def fits(needs: Needs) -> bool:
    return needs.memory < memory_here() and sum(needs.here.values()) <= LONGEST_HOURS


def _this_machine(verdict: Mapping[str, Any]) -> str:
    needed, available = verdict["memory_bytes"], verdict["memory_available_bytes"]
    where = "the GPU" if torch.cuda.is_available() else f"{os.cpu_count()} cores without a GPU"
    memory = f"needs {_gb(needed)} of {_gb(available)} memory"
    if needed >= available:
        return f"does not fit {where}, {memory}"
    return f"{'fits' if verdict['fits'] else 'fits in memory but takes too long on'} {where}, {memory}"


def _gpu_needed(card: int | None, needed: int) -> str:
    if card is None:
        return f"several, sharded: {_gb(needed)} are needed"
    return f"one with {card} GB, as {_gb(needed)} are needed"


def _card(needed: int) -> int | None:
    """The smallest card that has room for these bytes and a tenth more."""
    return next((size for size in CARDS if size * 1e9 >= 1.1 * needed), None)


def nearest() -> str:
    """The closest of the packaged recipes that fits."""
    for name, what in {"small.yaml": "rows of your own, a small base", "tiny.yaml": "the demo"}.items():
        if fits(needs_of(recipes.load(str(resources.files("topeng") / "recipes" / name)))):
            return f"recipes/{name}: {what}"
    return "none of the recipes that come with Topeng"


def memory_here() -> int:
    """Free bytes of the GPU or, without one, of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    try:
        available = Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]
        return 1024 * int(available)
    except (OSError, IndexError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _corpus_rows(recipe: Recipe) -> int:
    """Number of rows to read: all of Cendol, wherever it is. For other files it is not known in advance."""
    corpus = recipe.corpus
    if any("cendol" in name for name in corpus.files):
        return CENDOL_ROWS
    return sum(corpus.expected_rows.values()) or (0 if corpus.files else corpus.synthetic_rows)


def _objective(recipe: Recipe, name: str) -> Objective:
    return OBJECTIVES[name](recipe.generate.block_length)


def _base_objective(recipe: Recipe, config: Any) -> Objective:
    """A base that the run pretrains has the objective of its first training."""
    return objective_of(config) if recipe.base.model else _objective(recipe, recipe.train.objectives[0])


def _stages(
    recipe: Recipe, objectives: Sequence[Objective], steps: int, stack: int, flops: float, gpu: bool
) -> dict[str, float]:
    """Hours. A forward pass takes 2 operations per parameter and token, training 6, or 8 if it recomputes.

    Args:
        objectives: of each model that is evaluated.
        steps: optimiser steps of a training.
        stack: parameters of the network without its embeddings and head.
        flops: operations per second.
        gpu: whether there is a GPU to embed on.
    """
    corpus, tokens = recipe.corpus, recipe.text.max_length
    read = _corpus_rows(recipe)
    kept = sum(corpus.expected_rows.get(subset, 0) for subset in corpus.subsets) or read
    drawn = corpus.drawn(kept) or corpus.train_rows
    embedded = TFIDF_ROWS if corpus.embedder == "tfidf" else BERT_GPU_ROWS if gpu else BERT_ROWS
    per_token = (8 if recipe.train.gradient_checkpointing else 6) * stack
    passes_of_rows = steps * sum(sequences(training.objective) for training in recipe.trainings)
    trained = passes_of_rows * recipe.train.batch_rows * tokens
    evaluated = sum(_evaluated_tokens(recipe, objective) for objective in objectives)
    seconds = {"corpus": read / INGEST_ROWS / (os.cpu_count() or 1) + drawn / embedded}
    if recipe.base.model is None:
        tiny = recipe.base.tiny
        pretrained = tiny.steps * tiny.batch_rows * tokens * sequences(recipe.train.objectives[0])
        seconds["base"] = pretrained * per_token / flops
    seconds["train"] = trained * per_token / flops
    seconds["evaluate"] = evaluated * 2 * stack / flops
    return {name: value / 3600 for name, value in seconds.items()}


def _evaluated_tokens(recipe: Recipe, objective: Objective) -> int:
    """Tokens of the forward passes that score the test rows and answer some of both languages."""
    rows = recipe.corpus.test_rows + recipe.source.test_rows
    longest = recipe.generate.max_new_tokens
    passes = longest if objective.attention_block == 1 else recipe.generate.steps or longest  # a token in each, or more
    scored = rows * objective.tokens_to_score(recipe.text.max_length, recipe.evaluate.draws)
    return scored + 2 * recipe.evaluate.generate_rows * passes * recipe.context


def _hours(stages: dict[str, float]) -> str:
    def told(hours: float) -> str:
        if hours >= 1:
            return f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h"
        return f"{hours * 60:.0f} min" if hours * 60 >= 1 else "under 1 min"

    total = sum(stages.values())
    if total * 60 < 1:
        return "under a minute in all"
    return f"{told(total)} in all ({', '.join(f'{name} {told(value)}' for name, value in stages.items())})"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.0f} MB"


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.resolve().parents) if folder.exists())
