"""The training of an adapter on a base."""

import gc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import TrainerCallback, TrainingArguments

from topeng.adapt import methods
from topeng.adapt.base_settings import ModelOptions
from topeng.adapt.fitting import (
    Examples,
    Shown,
    arguments,
    fit,
    gathered,
    scorable_rows,
    trainable_rows,
    trainer_of,
    write_log,
)
from topeng.adapt.loggers import check_loggers
from topeng.adapt.settings import Adapting
from topeng.adapt.trainer import DiffusionTrainer
from topeng.errors import RunError
from topeng.kecil import locate
from topeng.models import find_device, is_checkpoint, load_tokenizer
from topeng.system import ranks
from topeng.system.files import write_atomically
from topeng.text.rows import read_rows
from topeng.text.tokens import count_cuts


def check_training(methods_asked: Sequence[str], asked_device: str | None, loggers: Sequence[str]) -> None:
    """Checks that methods, device and loggers are available, before anything is loaded.

    Raises:
        AdapterError, RunError: one is not available.
    """
    for method in methods_asked:
        methods.check_method(method, find_device(asked_device).type)
    index = torch.device(asked_device or "cpu").index
    if ranks.RANKS > 1 and index is not None:
        raise RunError(f"base.device = {asked_device} would put all ranks on one GPU. Leave it null.")
    if index:
        raise RunError(
            f"base.device = {asked_device}, but training uses the first visible GPU. Set "
            f"CUDA_VISIBLE_DEVICES={index} and leave base.device null."
        )
    check_loggers(loggers)


def train_adapter(
    asked: Adapting,
    name: str,
    run: Path,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Writes `adapters/NAME/` in `work`: the adapter for the plain base, its log and its summary.

    A kill loses the steps after the last complete checkpoint, from which the training continues when called again.

    Args:
        callbacks: callbacks in addition to those of the run.

    Raises:
        AdapterError: the targets do not fit the model.
        CorpusError: no row has a usable answer.
        DivergenceError: the loss is no longer finite.
        Stopped: a signal asked to stop. A checkpoint is saved.
    """
    base, initial, out = base_path(asked.base, run), work / "initial", work / "adapters" / name
    tokenizer = load_tokenizer(base, asked.base.revision)
    examples = _adaptation_rows(asked, tokenizer, run)
    adapted, moved = _initial_model(asked, base, initial, examples.train[0].input_ids)
    trainable, total = methods.trainable_share(adapted)
    _tell_rows(console, examples)
    _tell(console, name, trainable, total, moved)
    optimizer = methods.create_optimizer(
        adapted, asked.method, asked.adapter, asked.learning_rate, asked.train.weight_decay
    )
    args = _adaptation_arguments(asked, work / "checkpoints")
    trainer = trainer_of(asked, adapted, args, examples, asked.train.batch_rows, optimizer)
    fit(trainer, Shown(console, run / "logs" / name, asked.train.report_to), callbacks)
    adapted = gathered(trainer, lambda: _restored(asked, _load_base(asked, base), initial))
    if ranks.RANK > 0:
        return
    methods.save_adapter(adapted, asked.method, out, initial, asked.base.model)
    if is_checkpoint(out):
        tokenizer.save_pretrained(out)
    write_log(out / "log.jsonl", trainer, examples)
    found = {
        **methods.group_rates(optimizer, asked.learning_rate),
        **{"trainable_parameters": trainable, "total_parameters": total, "share": trainable / total},
        "step_0_difference": moved,
    }
    _write_summary(out / "summary.json", asked, trainer, examples, found)


def _write_summary(
    path: Path, asked: Adapting, trainer: DiffusionTrainer, examples: Examples, found: Mapping[str, float]
) -> None:
    summary = {
        "method": asked.method,
        "seed": asked.seed,
        "rank": asked.adapter.rank if asked.adapter else None,
        "learning_rate": asked.learning_rate,
        "steps": trainer.state.global_step,
        "rows": len({example.row_id for example in examples.train}),
        "examples": len(examples.train),
        "dropped": dict(examples.dropped),
        "cut": examples.cut,
        **found,
    }
    write_atomically(path, json.dumps(summary, indent=1))


def base_path(base: ModelOptions, run: Path) -> str:
    """The model to adapt: that of the recipe, or the one that this run pretrains."""
    return str(locate(base.model)) if base.model else str(run / "base")


def _load_base(asked: Adapting, base: str) -> Any:
    return methods.load_base(base, asked.method, asked.base.dtype, asked.base.device, asked.base.revision)


def _restored(asked: Adapting, model: Any, initial: Path) -> Any:
    return methods.restore_adapter(model, asked.method, asked.adapter, asked.seed, initial)


def _initial_model(asked: Adapting, base: str, initial: Path, probe: list[int]) -> tuple[Any, float]:
    """The model at its first step, and the largest difference of its logits on `probe` from those of the base.

    A new and a resumed training both use the saved initial weights. Otherwise the residual of PiSSA in bf16 would be
    computed from A and B before they were rounded.
    """
    model = _load_base(asked, base)
    before = methods.probe_logits(model, probe)
    with ranks.rank_0_first():  # the other ranks use its start
        if asked.adapter and not initial.exists():
            adapted = methods.add_adapter(model, asked.method, asked.adapter, asked.seed)
            partial = initial.with_name("initial.partial")
            adapted.save_pretrained(str(partial))
            partial.replace(initial)
            del adapted, model
            gc.collect()  # so that two bases are not in memory at once
            model = _load_base(asked, base)
    adapted = _restored(asked, model, initial)
    return adapted, float((methods.probe_logits(adapted, probe) - before).abs().max())


def _adaptation_rows(asked: Adapting, tokenizer: Any, run: Path) -> Examples:
    rows = read_rows(run / "corpus" / "train.parquet")
    found, dropped = trainable_rows(asked.text, asked.block_length, tokenizer, rows)
    held_out = scorable_rows(asked.text, tokenizer, run / "corpus" / "validation.parquet", "the validation rows")
    return Examples(found, held_out, dropped, count_cuts(found))


def _adaptation_arguments(asked: Adapting, output_dir: Path) -> TrainingArguments:
    options = asked.train
    args = arguments(options, output_dir, asked.seed, asked.learning_rate, asked.base.device)
    args.max_steps, args.num_train_epochs = options.steps or -1, options.epochs
    args.eval_steps, args.logging_steps = options.eval_steps, max(1, options.eval_steps // 5)
    return args


def _tell_rows(console: Console, examples: Examples) -> None:
    """The part of the rows that is not trained on."""
    for reason, count in examples.dropped.items():
        console.print(f"  {count:,} answers dropped: {reason}", highlight=False)
    if any(examples.cut.values()):
        console.print(
            f"  {examples.cut['prompts']:,} prompts and {examples.cut['answers']:,} answers were cut, because they are "
            "longer than text.max_length allows",
            highlight=False,
        )


def _tell(console: Console, name: str, trainable: int, total: int, moved: float) -> None:
    console.print(f"  {name}: {trainable:,} trainable parameters, {trainable / total:.2%} of the base", highlight=False)
    if methods.is_large(trainable, total):
        console.print(
            f"  warning: that is more than {methods.LARGE_SHARE:.0%}. A lower adapter.rank trains fewer.",
            style="yellow",
            highlight=False,
        )
    if moved:
        console.print(
            f"  {name}: before training, its logits differ from the base's by at most {moved:.1e}", highlight=False
        )
