"""What a run will do and need, before it starts: no weights are loaded and no rows are read."""

import math
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from topeng.adapt import methods
from topeng.adapt.tiny import tiny_config
from topeng.diffusion import copies
from topeng.errors import ModelError
from topeng.models import FAMILIES, LLaDAConfig, load_config
from topeng.models.masked_lm import CHUNK_ELEMENTS
from topeng.recipe import Recipe
from topeng.run import RunFolder, Stage
from topeng.text.batches import steps_in_epoch

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2}


def print_plan(recipe: Recipe, planned: list[Stage], run: Path, console: Console) -> None:
    """Prints the stages, the row counts, the trainable parameters and an estimate of memory."""
    done = RunFolder(run).finished if (run / "manifest.json").exists() else lambda stage: False
    names = [f"{stage.name}{' (finished)' if done(stage) else ''}" for stage in planned]
    console.print(f"Stages, in {run}:\n  {', '.join(names)}", highlight=False)
    _print(console, "Rows", corpus_rows(recipe))
    config = base_config(recipe)
    with torch.device("meta"):
        model = FAMILIES[config.model_type](config)
    total = sum(parameter.numel() for parameter in model.parameters())
    _print(
        console, "Model", [("base", recipe.base.model or "a tiny one, pretrained first"), ("parameters", f"{total:,}")]
    )
    adapted = methods.add_adapter(model, "lora", recipe.adapter, recipe.seed)  # every method has this shape
    trainable, _ = methods.trainable_share(adapted)
    rates = ", ".join(f"{method} {recipe.train.rate(method):g}" for method in recipe.adapter.methods)
    rows = [
        ("methods and learning rates", rates),
        ("trainable parameters", f"{trainable:,} ({trainable / total:.2%} of the base), each"),
        ("optimiser steps", f"{training_steps(recipe):,} of {recipe.train.batch_rows} rows, each"),
    ]
    _print(console, "Training", rows)
    parts = training_memory(recipe, config, total, trainable)
    figures = [(name, f"{size / GIB:.2f} GiB") for name, size in parts.items()]
    _print(
        console, "Memory while training (an estimate)", [*figures, ("together", f"{sum(parts.values()) / GIB:.2f} GiB")]
    )


def corpus_rows(recipe: Recipe) -> list[tuple[str, str]]:
    """What the recipe says of row counts: exact where the source's counts are pinned."""
    corpus = recipe.corpus
    kept = sum(corpus.expected_rows.get(subset, 0) for subset in corpus.subsets)
    drawn = corpus.sample_rows or (corpus.drawn(kept) if kept else None)
    source = ", ".join(corpus.files) or f"synthetic, {corpus.synthetic_rows:,} rows"
    return [
        ("source", source),
        ("subsets", ", ".join(corpus.subsets) or "all"),
        ("rows of these subsets", f"{kept:,}" if kept else "known once the source is read"),
        ("drawn, stratified on template_name", f"{drawn:,}" if drawn else f"{corpus.sample_fraction:.0%} of them"),
        ("selected for training", f"{corpus.train_rows:,} from {corpus.clusters} clusters"),
        (
            "test",
            f"{corpus.test_rows:,}, of which {min(recipe.evaluate.generate_rows, corpus.test_rows):,} are answered",
        ),
        ("validation", f"{corpus.validation_rows:,}"),
    ]


def base_config(recipe: Recipe) -> Any:
    """The shape of the base: of a local checkpoint, of the tiny one, or LLaDA-8B's, known here by its model id."""
    base = recipe.base
    if base.model is None:
        return tiny_config(base.tiny, recipe.context)
    if base.model.startswith("GSAI-ML/LLaDA-8B"):
        return LLaDAConfig()
    if Path(base.model).is_dir():
        return load_config(base.model)
    raise ModelError(
        f"the shape of {base.model} is not known without its config.json: name a local copy (--base.model)"
    )


def training_steps(recipe: Recipe) -> int:
    """Optimiser steps of one method."""
    distinct = max(1, recipe.train.batch_rows // copies(recipe.train.noise))
    return recipe.train.steps or math.ceil(recipe.train.epochs * steps_in_epoch(recipe.corpus.train_rows, distinct))


def training_memory(recipe: Recipe, config: Any, total: int, trainable: int) -> dict[str, int]:
    """Bytes by part: an upper estimate, every row at `max_length`.

    Activations of a layer are counted as those that its backward pass reads: some 16 D + 4 M values a token for width
    D and MLP width M, or D where they are recomputed.
    """
    size = BYTES[recipe.base.dtype]
    rows = min(recipe.train.batch_rows, max(1, recipe.train.batch_tokens // recipe.text.max_length))
    tokens = rows * recipe.text.max_length
    width, layers = config.hidden_size, config.num_hidden_layers
    one_layer = tokens * (16 * width + 4 * config.intermediate_size) * size
    activations = (
        tokens * width * layers * size + one_layer if recipe.train.gradient_checkpointing else one_layer * layers
    )
    return {
        "frozen weights": total * size,
        "adapter, its gradient and AdamW's two moments": trainable * 4 * 4,
        "activations": activations,
        "a chunk of logits and its gradient": 3 * 4 * min(CHUNK_ELEMENTS, tokens * config.vocab_size),
    }


def _print(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
