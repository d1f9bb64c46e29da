"""The plan of a run before it starts: what it will do and need, estimated from shapes."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from topeng.adapt import methods
from topeng.adapt.convert import converted_config
from topeng.adapt.settings import METHODS
from topeng.adapt.tiny import tiny_config
from topeng.diffusion import OBJECTIVES, distinct_rows
from topeng.errors import ModelError
from topeng.kecil import locate, refuse_typo
from topeng.models import FAMILIES, LLaDAConfig, load_config
from topeng.models.masked_lm import CHUNK_ELEMENTS
from topeng.recipe import Recipe
from topeng.run.folder import FINISHED, RunFolder, Stage
from topeng.run.pipeline import TRAINING_ROWS
from topeng.system.memory import in_gib
from topeng.text.batches import steps_in_epoch
from topeng.text.rows import read_rows
from topeng.text.tokens import answers_in

BYTES = {"float32": 4, "bfloat16": 2}
NF4_BYTES = 4.127 / 8
"""A weight in 4 bits, its doubly quantised constants counted (QLoRA, arXiv 2305.14314, section 3)."""
COUNTED: dict[tuple[str, str, str], int] = {}
"""Trainable parameters by method, options and base: a plan and its verdict ask three times for the same."""


def plan_of(recipe: Recipe, planned: list[Stage], run: Path) -> dict[str, Any]:
    """What a run will do with each stage, its rows and base, and what each method needs. Nothing is loaded."""
    expected, config = outlook(planned, run), base_config(recipe)
    with torch.device("meta"):
        total = FAMILIES[config.model_type](config).num_parameters()
    there = expected.get("corpus/select") == FINISHED
    conversations = not (there or recipe.train.steps or recipe.text.turns == "last") and bool(recipe.corpus.files)
    return {
        "run_dir": str(run),
        "stages": expected,
        "rows": corpus_rows(recipe),
        "model": {"base": recipe.base.model, "convert": recipe.base.convert, "parameters": total},
        "training": {
            "steps": training_steps(recipe, run if there else None),
            "more_for_conversations": conversations,
            "batch_rows": recipe.train.batch_rows,
            "methods": {
                method: {
                    "trainable_parameters": count,
                    "learning_rate": recipe.train.rate(method),
                    "memory_bytes": training_memory(recipe, config, method, total, count),
                }
                for method, count in trainable_parameters(recipe, config).items()
            },
        },
    }


def print_plan(plan: Mapping[str, Any], console: Console) -> None:
    print_rows(console, f"Stages, in {plan['run_dir']}", [*plan["stages"].items()])
    print_rows(console, "Rows", _rows_told(plan["rows"]))
    model, training = plan["model"], plan["training"]
    print_rows(console, "Model", [("base", _base_told(model)), ("parameters", f"{model['parameters']:,}")])
    rows = []
    for method, figures in training["methods"].items():
        count, rate = figures["trainable_parameters"], figures["learning_rate"]
        share = f"{count / model['parameters']:.2%} of the base"
        rows.append((method, f"{count:,} ({share}) trainable, learning rate {rate:g}"))
    steps = f"{training['steps']:,} of {training['batch_rows']} rows, for each method"
    if training["more_for_conversations"]:
        steps += "; more if rows are conversations, as every answer is trained on (text.turns: all)"
    print_rows(console, "Training", [*rows, ("optimiser steps", steps)])
    _print_memory({method: figures["memory_bytes"] for method, figures in training["methods"].items()}, console)


def outlook(planned: list[Stage], run: Path) -> dict[str, str]:
    """What a run will do with each stage. A folder that does not exist is not created."""
    return RunFolder(run).outlook(planned) if run.is_dir() else {stage.name: "to do" for stage in planned}


def _print_memory(needed: Mapping[str, dict[str, int]], console: Console) -> None:
    """Prints one column for all methods that need the same memory."""
    columns: dict[tuple, list[str]] = {}
    for method, parts in needed.items():
        columns.setdefault(tuple(parts.items()), []).append(method)
    _print_title(console, "Estimated memory during training, on top of what the process itself needs")
    table = Table("", *map(", ".join, columns.values()), box=None, padding=(0, 2))
    for sizes in zip(*columns, strict=True):
        table.add_row(sizes[0][0], *(in_gib(size, 2) for _, size in sizes))
    table.add_row("total", *(in_gib(sum(size for _, size in parts), 2) for parts in columns))
    console.print(table)


def trainable_parameters(recipe: Recipe, config: Any) -> dict[str, int]:
    """Trainable parameters of each method, counted on a base without weights."""
    options, shape = replace(recipe.adapter, methods=["lora"]), config.to_json_string(use_diff=False)
    counts = {}
    for method in recipe.adapter.methods:
        known = (method, repr(options), shape)
        if known not in COUNTED:
            with torch.device("meta"):
                base = FAMILIES[config.model_type](config)
            COUNTED[known], _ = methods.count_parameters(base, method, options)
        counts[method] = COUNTED[known]
    return counts


def corpus_rows(recipe: Recipe) -> dict[str, Any]:
    """Row counts according to the recipe; exact if the counts of the source are pinned, else None where unknown."""
    corpus = recipe.corpus
    kept = sum(corpus.expected_rows.get(subset, 0) for subset in corpus.subsets)
    return {
        "files": list(corpus.files),
        "synthetic": 0 if corpus.files else corpus.synthetic_rows,
        "subsets": list(corpus.subsets),
        "of_these_subsets": kept or None,
        "sampled": corpus.sample_rows or (corpus.drawn(kept) if kept else None),
        "sample_fraction": corpus.sample_fraction,
        "train": corpus.train_rows,
        "clusters": corpus.clusters,
        "test": corpus.test_rows,
        "answered": min(recipe.evaluate.generate_rows, corpus.test_rows),
        "validation": corpus.validation_rows,
    }


def _rows_told(rows: Mapping[str, Any]) -> list[tuple[str, str]]:
    kept, drawn = rows["of_these_subsets"], rows["sampled"]
    clusters = f"{rows['clusters']} clusters" if rows["clusters"] > 1 else "one cluster"
    return [
        ("source", ", ".join(rows["files"]) or f"synthetic, {rows['synthetic']:,} rows"),
        ("subsets", ", ".join(rows["subsets"]) or "all"),
        ("rows of these subsets", f"{kept:,}" if kept else "known after reading the source"),
        (
            "sampled, stratified by template_name",
            f"{drawn:,}" if drawn else f"{rows['sample_fraction']:.0%} of them",
        ),
        ("selected for training", f"{rows['train']:,} from {clusters}"),
        ("test", f"{rows['test']:,}, of which {rows['answered']:,} are answered"),
        ("validation", f"{rows['validation']:,}"),
    ]


def _base_told(model: Mapping[str, Any]) -> str:
    if model["base"]:
        return model["base"]
    convert = model["convert"]
    return f"{convert}, converted and pretrained first" if convert else "a tiny model, pretrained first"


def base_config(recipe: Recipe) -> Any:
    """The config of the base: a local checkpoint, the tiny base, or LLaDA-8B, which is recognised by its model id."""
    base = recipe.base
    name = base.model or base.convert or base.tiny.start
    if name is None:
        return tiny_config(base.tiny, recipe.context)
    if name.startswith("GSAI-ML/LLaDA-8B"):
        return LLaDAConfig()
    if not Path(locate(name)).exists():
        refuse_typo(name)
        option = "convert" if base.convert else "model" if base.model else "tiny.start"
        raise ModelError(
            f"the shape of {name} is unknown without its config.json. Name a local copy (--base.{option} FOLDER)."
        )
    return converted_config(name, base.shift) if base.convert else load_config(name)


def training_steps(recipe: Recipe, run: Path | None = None) -> int:
    """Optimiser steps of one method.

    Args:
        run: folder with the selected rows, if they exist. Conversations among them have several answers.
    """
    if recipe.train.steps:
        return recipe.train.steps
    rows = read_rows(run / TRAINING_ROWS[0]) if run else []
    answers = sum(answers_in(row, recipe.text.turns) for row in rows) or recipe.corpus.train_rows
    distinct = distinct_rows(recipe.train.batch_rows, recipe.train.noise)
    return math.ceil(recipe.train.epochs * steps_in_epoch(answers, distinct))


def sequences(objective: str) -> int:
    """Tokens of a forward pass per token of a row. Block diffusion has two: the noisy row and the clean one."""
    return OBJECTIVES[objective](1).sequences


def training_memory(recipe: Recipe, config: Any, method: str, total: int, trainable: int) -> dict[str, int]:
    """Bytes by part, if every row has `max_length` tokens, for the objective that needs most. It was off by 4 to 6 % on
    a CPU with kecil-en (fp32, masked).

    The activations of a layer are those that its backward pass reads, about 16 D + 4 M values per token for width D and
    MLP width M, or D if they are recomputed. DoRA also keeps the outputs of the layer's seven linear maps.
    """
    full, quantized = METHODS[method].full, METHODS[method].quantized
    size = 4 if full else BYTES[recipe.base.dtype]
    longest = recipe.text.max_length * max(map(sequences, recipe.train.objectives))
    rows = min(recipe.train.batch_rows, max(1, recipe.train.batch_tokens // longest))
    tokens = rows * longest
    width, layers = config.hidden_size, config.num_hidden_layers
    outputs = 5 * width + 2 * config.intermediate_size if METHODS[method].lora.get("use_dora") else 0
    one_layer = tokens * (16 * width + 4 * config.intermediate_size + outputs) * size
    activations = (
        tokens * width * layers * size + one_layer if recipe.train.gradient_checkpointing else one_layer * layers
    )
    embeddings = 2 * config.vocab_size * width  # with the head, which is not quantised either
    held = int((total - embeddings) * NF4_BYTES) + embeddings * size if quantized else total * size
    return {
        "frozen weights": 0 if full else held,
        "trained weights, gradients and AdamW's moments": trainable * 4 * 4,
        "activations": activations,
        "one chunk of logits with its gradient": 3 * 4 * min(CHUNK_ELEMENTS, tokens * config.vocab_size),
    }


def _print_title(console: Console, title: str) -> None:
    """On a line of its own, because a table wraps its title at its own width."""
    console.print(title, style="italic", highlight=False, soft_wrap=True)


def print_rows(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    _print_title(console, title)
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
