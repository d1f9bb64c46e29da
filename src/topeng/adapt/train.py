"""The training stages: a tiny base from scratch, or one adapter on a base; both by the same loss and trainer."""

import gc
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import TextColumn
from transformers import TrainerCallback, TrainingArguments

from topeng import ranks
from topeng.adapt import methods
from topeng.adapt.callbacks import LossWindow, StopInOrder, progress_text
from topeng.adapt.loggers import check_loggers, logging_to
from topeng.adapt.muon import MuonAndAdamW
from topeng.adapt.settings import METHODS
from topeng.adapt.tiny import copy_from_the_start, new_model, new_tokenizer, tiny_config
from topeng.adapt.trainer import Batching, DiffusionTrainer, Progress, compile_layers, last_checkpoint
from topeng.adapt.usage import SHARES
from topeng.diffusion.noise import Use, uniforms
from topeng.errors import CorpusError, RunError
from topeng.kecil import locate
from topeng.models import find_device, is_checkpoint, load_model, load_tokenizer
from topeng.progress import progress_bar
from topeng.recipe import Recipe
from topeng.run import write_atomically
from topeng.text.rows import read_rows, read_texts
from topeng.text.tokens import Example, count_cuts, tokenize_rows, tokenize_texts

RATES = ("learning_rate", "learning_rate_A", "learning_rate_B")
MOST_HELD_OUT = 200
"""Rows that the held-out loss of a base's pretraining is taken on, at most."""
LESS_MEMORY = {
    False: "lower train.batch_tokens or set train.gradient_checkpointing, and it goes on from its checkpoint",
    True: "set train.gradient_checkpointing, and it goes on from its checkpoint; a lower train.batch_tokens begins "
    "anew where text.eos = fill",
}
"""What to do, and what becomes of the checkpoints, by whether end tokens fill a forward pass."""
LOG_KEYS = ("step", "loss", "eval_loss", *RATES, "grad_norm", *SHARES)


def check_training(recipe: Recipe) -> None:
    """Fails before anything is loaded where a method or a logger of the recipe cannot be had.

    Raises:
        AdapterError, RunError: which, and what to do.
    """
    for method in recipe.adapter.methods:
        methods.check_method(method, _device(recipe))
    index = torch.device(recipe.base.device or "cpu").index
    if ranks.RANKS > 1 and index is not None:
        raise RunError(f"base.device = {recipe.base.device} would put all ranks on one GPU: leave it null")
    if index:
        raise RunError(
            f"base.device = {recipe.base.device}, but a training takes the first GPU that it sees: set "
            f"CUDA_VISIBLE_DEVICES={index} and leave it null"
        )
    check_loggers(recipe.train.report_to)


def pretrain_base(recipe: Recipe, run: Path, work: Path, console: Console) -> None:
    """Writes `base/` in `work`: a tiny model and its tokenizer, trained on the source-language rows and plain texts.

    Raises:
        CorpusError: no row has a usable answer.
    """
    tiny, out = recipe.base.tiny, work / "base"
    rows, plain = read_rows(run / "source" / "train.parquet"), read_texts(run / "source" / "plain.parquet")
    model, tokenizer = _unpretrained(recipe, rows, plain)
    examples, dropped = _examples(recipe, tokenizer, rows)
    free = 1 + max(row["row_id"] for row in rows)
    texts = tokenize_texts(tokenizer, plain, recipe.text.max_length, first_row_id=free)
    examples += _with_beginnings(texts, recipe.seed)
    held_out = _held_out(recipe, tokenizer, run / "source" / "test.parquet", "the source's test rows")
    args = _arguments(recipe, work / "checkpoints", tiny.steps, tiny.learning_rate)
    args.eval_steps, args.logging_steps = max(1, tiny.steps // 10), max(1, tiny.steps // 60)
    optimizer = MuonAndAdamW(model, tiny.learning_rate)
    logs = run / "logs" / "base"
    scored = held_out[:MOST_HELD_OUT]
    trainer = _train(model, args, examples, scored, recipe, optimizer, tiny.batch_rows, console, logs)
    model = _gathered(trainer, lambda: new_model(trainer.model.config, recipe.seed))
    if ranks.RANK > 0:
        return
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    _write_log(out / "log.jsonl", trainer, dropped, count_cuts(examples))


def _unpretrained(recipe: Recipe, rows: Sequence[dict], plain: Sequence[str]) -> tuple[Any, Any]:
    """The model and the tokenizer that pretraining begins with."""
    tiny = recipe.base.tiny
    if tiny.start:
        return load_model(tiny.start, torch.float32, "cpu"), load_tokenizer(tiny.start)
    texts = [text for row in rows for text in ("\n\n" + row["input"], row["output"])]  # as messages have them
    model = new_model(tiny_config(tiny, recipe.context), recipe.seed)
    copy_from_the_start(model, recipe.seed)
    return model, new_tokenizer([*texts, *plain], tiny.vocab_size)


def _with_beginnings(texts: Sequence[Example], seed: int) -> list[Example]:
    """Every second text with a beginning of random length that is given: to go on is to find what it stated."""
    draws = uniforms(Use.BEGINNING, seed, 0, [text.row_id for text in texts], 1)[:, 0].tolist() if texts else []
    return [
        replace(text, prompt_length=max(1, int(draw * len(text.input_ids)))) if place % 2 else text
        for place, (text, draw) in enumerate(zip(texts, draws, strict=True))
    ]


def train_adapter(
    recipe: Recipe,
    method: str,
    run: Path,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback] = (),
    name: str | None = None,
) -> None:
    """Writes `adapters/NAME/` in `work`: the adapter for the plain base, its log and its summary.

    A kill loses what came after the last whole checkpoint; called again, it goes on from there.

    Args:
        callbacks: called at the steps, beside the run's own.
        name: of its folder; the method's, if none is given.

    Raises:
        AdapterError: the targets do not fit the model.
        CorpusError: no row has a usable answer.
        DivergenceError: the loss is no longer finite.
        Stopped: a signal asked for it; a checkpoint is saved.
    """
    base, name = base_path(recipe, run), name or method
    tokenizer = load_tokenizer(base, recipe.base.revision)
    initial, out = work / "initial", work / "adapters" / name
    examples, dropped = _examples(recipe, tokenizer, read_rows(run / "corpus" / "train.parquet"))
    cut = count_cuts(examples)
    held_out = _held_out(recipe, tokenizer, run / "corpus" / "validation.parquet", "the validation rows")

    def load_base() -> Any:
        return methods.load_base(base, method, recipe.base.dtype, recipe.base.device, recipe.base.revision)

    model = load_base()
    before = methods.probe_logits(model, examples[0].input_ids)
    with ranks.rank_0_first():  # the others take its start
        if not initial.exists() and not METHODS[method].full:
            _write_initial(recipe, method, model, initial)
            del model
            gc.collect()  # not two bases at once
            model = load_base()
    adapted = methods.restore_adapter(model, method, recipe.adapter, recipe.seed, initial)
    moved = float((methods.probe_logits(adapted, examples[0].input_ids) - before).abs().max())
    del before  # a row's logits at LLaDA's vocabulary, 0.25 GB at 512 tokens, would stay on the GPU
    trainable, total = methods.trainable_share(adapted)
    _tell_rows(console, dropped, cut)
    _tell(console, name, trainable, total, moved)
    options, rate = recipe.train, recipe.train.rate(method)
    args = _arguments(recipe, work / "checkpoints", options.steps or -1, rate)
    optimizer = methods.create_optimizer(adapted, method, recipe.adapter, rate, options.weight_decay)
    logs = run / "logs" / name
    trainer = _train(adapted, args, examples, held_out, recipe, optimizer, options.batch_rows, console, logs, callbacks)
    adapted = _gathered(
        trainer, lambda: methods.restore_adapter(load_base(), method, recipe.adapter, recipe.seed, initial)
    )
    if ranks.RANK > 0:
        return
    methods.save_adapter(adapted, method, out, initial, recipe.base.model)
    if is_checkpoint(out):
        tokenizer.save_pretrained(out)
    _write_log(out / "log.jsonl", trainer, dropped, cut)
    summary = {
        "method": method,
        "seed": recipe.seed,
        "rank": recipe.adapter.rank,
        "learning_rate": rate,
        **methods.group_rates(optimizer, rate),
        "trainable_parameters": trainable,
        "total_parameters": total,
        "share": trainable / total,
        "steps": trainer.state.global_step,
        "rows": len({example.row_id for example in examples}),
        "examples": len(examples),
        "dropped": dict(dropped),
        "cut": cut,
        "step_0_difference": moved,
    }
    write_atomically(out / "summary.json", json.dumps(summary, indent=1))


def base_path(recipe: Recipe, run: Path) -> str:
    """The model that is adapted: the recipe's, or the tiny one of this run."""
    return str(locate(recipe.base.model)) if recipe.base.model else str(run / "base")


def _write_initial(recipe: Recipe, method: str, model: Any, initial: Path) -> None:
    """Saves the adapter before its first step; the base is used up.

    A first start and a resumed one both take what was saved: in bf16 PiSSA's residual would else be taken from A and B
    before they were rounded.
    """
    adapted = methods.add_adapter(model, method, recipe.adapter, recipe.seed)
    partial = initial.with_name("initial.partial")
    adapted.save_pretrained(str(partial))
    partial.replace(initial)


def _examples(recipe: Recipe, tokenizer: Any, rows: Sequence[dict]) -> tuple[list[Example], Counter[str]]:
    text = recipe.text
    examples, dropped = tokenize_rows(
        tokenizer, rows, text.max_length, text.eos, recipe.generate.block_length, text.min_share, text.turns
    )
    if not examples:
        raise CorpusError(f"none of {len(rows)} rows can be trained on: {dict(dropped)}")
    return examples, dropped


def _held_out(recipe: Recipe, tokenizer: Any, path: Path, what: str) -> list[Example]:
    """The rows whose loss is taken at each evaluation, of each its last answer."""
    held_out, dropped = tokenize_rows(
        tokenizer, read_rows(path), recipe.text.max_length, min_share=recipe.text.min_share
    )
    if not held_out:
        raise CorpusError(f"none of {what} can be scored: {dict(dropped)}")
    return held_out


def _arguments(recipe: Recipe, output_dir: Path, steps: int, rate: float) -> TrainingArguments:
    options = recipe.train
    args = TrainingArguments(
        output_dir=str(output_dir),
        seed=recipe.seed,
        max_steps=steps,
        num_train_epochs=options.epochs,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        warmup_steps=options.warmup_fraction,
        max_grad_norm=options.max_grad_norm,
        activation_checkpointing=options.gradient_checkpointing,
        bf16=options.precision == "bfloat16",
        ddp_find_unused_parameters=False,
        eval_strategy="steps",
        eval_steps=options.eval_steps,
        logging_steps=max(1, options.eval_steps // 5),
        save_steps=options.save_steps,
        save_total_limit=2,
        use_cpu=_device(recipe) == "cpu",
        dataloader_pin_memory=_device(recipe) != "cpu",
        remove_unused_columns=False,
        label_names=[],
        report_to="none",
        disable_tqdm=True,
    )
    args._n_gpu = min(1, args.n_gpu)  # not DataParallel, which would cut the loss's inputs apart
    return args


def _device(recipe: Recipe) -> str:
    return find_device(recipe.base.device).type


def _train(
    model: Any,
    args: TrainingArguments,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    batch_rows: int,
    console: Console,
    logs: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> DiffusionTrainer:
    checkpoint, name = last_checkpoint(Path(args.output_dir)), logs.name
    args.eval_on_start = checkpoint is None
    with progress_bar(console, TextColumn("{task.fields[figures]}")) as bar:
        task = bar.add_task(name, total=None, figures="")
        shown: dict[str, float] = {}

        def tell(step: int, steps: int, logged: dict[str, float]) -> None:
            shown.update(logged)
            bar.update(task, completed=step, total=steps, figures=progress_text(shown))

        options = recipe.train
        if options.compile:
            compile_layers(model, Path(args.output_dir).with_name(f"compiled-{ranks.RANK}"))
        batching = Batching(batch_rows, options.batch_tokens, options.noise, fill=recipe.text.eos == "fill")
        trainer = DiffusionTrainer(model, args, examples, held_out, batching, optimizer, Progress(tell))
        _fit(trainer, checkpoint, options.report_to, logs, callbacks)
    last = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    console.print(f"  {name}: held-out loss {last[0]:.3f} -> {last[-1]:.3f} nats a token", highlight=False)
    return trainer


def _fit(
    trainer: DiffusionTrainer,
    checkpoint: Path | None,
    loggers: Sequence[str],
    logs: Path,
    callbacks: Sequence[TrainerCallback],
) -> None:
    """Trains to the end or to a signal, with all that is called at its steps."""
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    with logging_to(loggers, logs, trainer.args, step) as reporters, StopInOrder().listening() as stop:
        for callback in (LossWindow(trainer), *reporters, *callbacks, stop):
            trainer.add_callback(callback)
        try:
            trainer.fit(checkpoint)
        except torch.OutOfMemoryError as error:
            raise RunError(
                f"the GPU's memory is full ({str(error).splitlines()[0]}): {LESS_MEMORY[trainer.fills]}; "
                "`topeng train RECIPE --plan` tells what a recipe needs"
            ) from error


def _gathered(trainer: DiffusionTrainer, rebuild: Callable[[], Any]) -> Any:
    """The trained model, on rank 0; where its weights are sharded over ranks, a new one with what was trained."""
    if not trainer.is_fsdp_enabled:
        return trainer.model
    trained = {name: weight.full_tensor() for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    if ranks.RANK > 0:
        return None
    model = rebuild()
    model.load_state_dict(trained, strict=False)
    return model


def _write_log(path: Path, trainer: DiffusionTrainer, dropped: Counter[str], cut: dict[str, int]) -> None:
    """A line of what was dropped and cut, if anything was, then one for each step that was logged."""
    entries = [{key: entry[key] for key in LOG_KEYS if key in entry} for entry in trainer.state.log_history]
    lines = [json.dumps(entry) for entry in entries if "loss" in entry or "eval_loss" in entry]
    if dropped or any(cut.values()):
        lines.insert(0, json.dumps({"dropped": dict(dropped), "cut": cut}))
    write_atomically(path, "\n".join(lines) + "\n")


def _tell_rows(console: Console, dropped: Counter[str], cut: dict[str, int]) -> None:
    """What of the rows is not trained on."""
    for reason, count in dropped.items():
        console.print(f"  {count:,} answers dropped: {reason}", highlight=False)
    if any(cut.values()):
        console.print(
            f"  {cut['prompts']:,} prompts and {cut['answers']:,} answers are longer than text.max_length allows, "
            "and were cut",
            highlight=False,
        )


def _tell(console: Console, name: str, trainable: int, total: int, moved: float) -> None:
    console.print(f"  {name}: {trainable:,} trainable parameters, {trainable / total:.2%} of the base", highlight=False)
    if methods.is_large(trainable, total):
        console.print(
            f"  warning: that is over {methods.LARGE_SHARE:.0%}; a lower adapter.rank trains fewer",
            style="yellow",
            highlight=False,
        )
    if moved:
        console.print(f"  {name}: at step 0 logits are off the base's by {moved:.1e} at most", highlight=False)
