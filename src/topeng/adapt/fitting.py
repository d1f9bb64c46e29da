"""The common part of all trainings: their rows, arguments, loop with progress, and log."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TextColumn
from transformers import TrainerCallback, TrainingArguments

from topeng.adapt.callbacks import LossWindow, StopInOrder, progress_text
from topeng.adapt.loggers import logging_to
from topeng.adapt.settings import Adapting, Pretraining, StepOptions
from topeng.adapt.trainer import (
    Batching,
    DiffusionTrainer,
    Forward,
    Progress,
    compile_layers,
    last_checkpoint,
    own_output,
)
from topeng.adapt.usage import SHARES
from topeng.diffusion import OBJECTIVES, Objective
from topeng.errors import CorpusError, ModelError, RunError
from topeng.models import find_device
from topeng.models.attention import attend, attention_of
from topeng.system import ranks
from topeng.system.files import write_atomically
from topeng.system.progress import progress_bar
from topeng.text.rows import read_rows
from topeng.text.settings import TextOptions
from topeng.text.tokens import Example, tokenize_rows

RATES = ("learning_rate", "learning_rate_A", "learning_rate_B")
WARMUP, MAX_GRAD_NORM = 0.05, 1.0
"""The share of the steps in which the learning rate rises, and the norm to which gradients are clipped."""
LESS_MEMORY = {
    False: "Lower train.batch_tokens or set train.gradient_checkpointing; the training continues from its checkpoint.",
    True: "Set train.gradient_checkpointing; the training continues from its checkpoint. A lower train.batch_tokens "
    "starts it again, as text.eos = fill.",
}
"""Remedies, with their effect on checkpoints, depending on whether end tokens fill a forward pass."""
LOG_KEYS = ("step", "loss", "eval_loss", *RATES, "grad_norm", *SHARES)


class Examples(NamedTuple):
    """Tokenized rows for training and for the held-out loss, and numbers of dropped and cut training rows."""

    train: list[Example]
    held_out: list[Example]
    dropped: Counter[str]
    cut: dict[str, int]


class Shown(NamedTuple):
    """Where a training reports its progress."""

    console: Console
    logs: Path
    report_to: Sequence[str]


def trainable_rows(
    text: TextOptions, block_length: int | None, tokenizer: Any, rows: Sequence[dict]
) -> tuple[list[Example], Counter[str]]:
    examples, dropped = tokenize_rows(
        tokenizer, rows, text.max_length, text.eos, block_length or 1, text.min_share, text.turns
    )
    if not examples:
        raise CorpusError(f"none of the {len(rows)} rows can be trained on: {dict(dropped)}")
    return examples, dropped


def scorable_rows(text: TextOptions, tokenizer: Any, path: Path, what: str) -> list[Example]:
    """The rows of the held-out loss, each with its last answer."""
    held_out, dropped = tokenize_rows(tokenizer, read_rows(path), text.max_length, min_share=text.min_share)
    if not held_out:
        raise CorpusError(f"none of {what} can be scored: {dict(dropped)}")
    return held_out


def trainer_of(
    asked: Pretraining | Adapting,
    model: Any,
    args: TrainingArguments,
    examples: Examples,
    batch_rows: int,
    optimizer: torch.optim.Optimizer,
    anneal_steps: int | None = None,
    forward: Forward = own_output,
) -> DiffusionTrainer:
    """The trainer of a model, whose attention is set for its objective and which is compiled if requested.

    Args:
        anneal_steps, forward: as in `Batching`.

    Raises:
        ModelError: the model has learnt another kind of attention.
    """
    options, objective = asked.train, OBJECTIVES[asked.objective](asked.block_length or 1)
    _attend_as(model, objective)
    if options.compile:
        compile_layers(model, Path(args.output_dir).with_name(f"compiled-{ranks.RANK}"))
    fills = asked.text.eos == "fill"
    batching = Batching(batch_rows, options.batch_tokens, options.noise, fills, objective, anneal_steps, forward)
    return DiffusionTrainer(model, args, examples.train, examples.held_out, batching, optimizer)


def _attend_as(model: Any, objective: Objective) -> None:
    """Sets the attention of a model for an objective. Only full attention can be changed to another kind.

    Raises:
        ModelError: the model has learnt another kind of attention.
    """
    own, wanted = attention_of(model.config)["attention_block"], objective.attention_block
    if own is not None and own != wanted:
        name = "autoregressive" if own == 1 else "block"
        length = "" if own == 1 else f" and generate.block_length to {own}"
        raise ModelError(
            f"the base has learnt to look {'back only' if own == 1 else f'back from blocks of {own} tokens'}. Set "
            f"train.objectives to [{name}]{length}, or name another base."
        )
    attend(model, wanted, objective.predicts_next)


def arguments(
    options: StepOptions, output_dir: Path, seed: int, rate: float, asked_device: str | None
) -> TrainingArguments:
    """The arguments of any training. The caller sets its length."""
    on_cpu = find_device(asked_device).type == "cpu"
    args = TrainingArguments(
        output_dir=str(output_dir),
        seed=seed,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=WARMUP,
        max_grad_norm=MAX_GRAD_NORM,
        activation_checkpointing=options.gradient_checkpointing,
        bf16=options.precision == "bfloat16",
        ddp_find_unused_parameters=False,
        eval_strategy="steps",
        eval_steps=1,
        save_steps=options.save_steps,
        save_total_limit=2,
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        remove_unused_columns=False,
        label_names=[],
        report_to="none",
        disable_tqdm=True,
    )
    args._n_gpu = min(1, args.n_gpu)  # avoids DataParallel, which would split the inputs of the loss
    return args


def fit(trainer: DiffusionTrainer, shown: Shown, callbacks: Sequence[TrainerCallback] = ()) -> None:
    """Trains to the end or to a signal, with all callbacks, and reports progress."""
    checkpoint, name = last_checkpoint(Path(trainer.args.output_dir)), shown.logs.name
    trainer.args.eval_on_start = checkpoint is None
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    with (
        progress_bar(shown.console, TextColumn("{task.fields[figures]}")) as bar,
        logging_to(shown.report_to, shown.logs, trainer.args, step) as reporters,
        StopInOrder().listening() as stop,
    ):
        progress = Progress(_teller(bar, name))
        trainer.add_callback(progress)
        for callback in (LossWindow(trainer), *reporters, *callbacks, stop):
            trainer.add_callback(callback)
        try:
            trainer.fit(checkpoint)
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"out of GPU memory ({str(error).splitlines()[0]}). {LESS_MEMORY[trainer.fills]} "
                "`topeng train RECIPE --plan` shows how much a recipe needs."
            ) from error
    last = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    shown.console.print(f"  {name}: held-out loss {last[0]:.3f} -> {last[-1]:.3f} nats per token", highlight=False)


def _teller(bar: Bar, name: str) -> Callable[[int, int, dict[str, float]], None]:
    """The callback that moves the progress bar of a training, and shows its latest figures."""
    task = bar.add_task(name, total=None, figures="")
    figures: dict[str, float] = {}

    def tell(step: int, steps: int, logged: dict[str, float]) -> None:
        figures.update(logged)
        bar.update(task, completed=step, total=steps, figures=progress_text(figures))

    return tell


def gathered(trainer: DiffusionTrainer, rebuild: Callable[[], Any]) -> Any:
    """The trained model on rank 0. If its weights are sharded over ranks, a new model with the trained weights and the
    same attention."""
    if not trainer.is_fsdp_enabled:
        return trainer.model
    trained = {name: weight.full_tensor() for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    if ranks.RANK > 0:
        return None
    model = rebuild()
    attend(model, **attention_of(trainer.model.config))
    model.load_state_dict(trained, strict=False)
    return model


def write_log(path: Path, trainer: DiffusionTrainer, examples: Examples) -> None:
    """Lines of the log: one about dropped and cut rows, if there are any, and one for each logged step."""
    entries = [{key: entry[key] for key in LOG_KEYS if key in entry} for entry in trainer.state.log_history]
    lines = [json.dumps(entry) for entry in entries if "loss" in entry or "eval_loss" in entry]
    if examples.dropped or any(examples.cut.values()):
        lines.insert(0, json.dumps({"dropped": dict(examples.dropped), "cut": examples.cut}))
    write_atomically(path, "\n".join(lines) + "\n")
