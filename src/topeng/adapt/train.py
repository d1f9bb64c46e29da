"""The training stages: a base that is pretrained, or one adapter on a base; both by the same loss and trainer."""

import gc
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TextColumn
from transformers import TrainerCallback, TrainingArguments

from topeng.adapt import methods
from topeng.adapt.callbacks import LossWindow, StopInOrder, progress_text
from topeng.adapt.loggers import check_loggers, logging_to
from topeng.adapt.muon import pretraining_optimizer
from topeng.adapt.settings import CONVERTED, METHODS, Adapting, ModelOptions, Pretraining, StepOptions
from topeng.adapt.tiny import copy_from_the_start, new_model, new_tokenizer, tiny_config
from topeng.adapt.trainer import Batching, DiffusionTrainer, Progress, compile_layers, last_checkpoint
from topeng.adapt.usage import SHARES
from topeng.diffusion import OBJECTIVES, Objective
from topeng.diffusion.noise import Use, uniforms
from topeng.errors import AdapterError, CorpusError, ModelError, RunError
from topeng.kecil import locate
from topeng.models import find_device, is_checkpoint, load_model, load_tokenizer
from topeng.models.attention import attend, attention_of
from topeng.system import ranks
from topeng.system.files import write_atomically
from topeng.system.progress import progress_bar
from topeng.text.rows import read_rows, read_texts
from topeng.text.settings import TextOptions
from topeng.text.tokens import Example, count_cuts, tokenize_rows, tokenize_texts

RATES = ("learning_rate", "learning_rate_A", "learning_rate_B")
WARMUP, MAX_GRAD_NORM = 0.05, 1.0
"""The share of the steps in which the rate rises, and the norm that gradients are clipped to."""
SENTENCE_ENDS = ".?!:Ċ"
"""What a beginning of a plain text ends with: marks, and a line break as a byte-level BPE writes it."""
MOST_HELD_OUT = 200
"""Rows that the held-out loss of a base's pretraining is taken on, at most."""
LESS_MEMORY = {
    False: "Lower train.batch_tokens or set train.gradient_checkpointing; the training continues from its checkpoint.",
    True: "Set train.gradient_checkpointing; the training continues from its checkpoint. A lower train.batch_tokens "
    "starts it again, as text.eos = fill.",
}
"""What to do, and what becomes of the checkpoints, by whether end tokens fill a forward pass."""
LOG_KEYS = ("step", "loss", "eval_loss", *RATES, "grad_norm", *SHARES)


class Examples(NamedTuple):
    """Tokenized rows: to train on, to take the held-out loss on, and what of the former was dropped and cut."""

    train: list[Example]
    held_out: list[Example]
    dropped: Counter[str]
    cut: dict[str, int]


class Shown(NamedTuple):
    """Where a training tells how far it is."""

    console: Console
    logs: Path
    report_to: Sequence[str]


def check_training(
    methods_asked: Sequence[str],
    asked_device: str | None,
    loggers: Sequence[str],
    objectives: Sequence[str] = ("masked",),
) -> None:
    """Fails before anything is loaded where a method, a device or a logger cannot be had.

    Raises:
        AdapterError, RunError: which, and what to do.
    """
    for method in methods_asked:
        methods.check_method(method, find_device(asked_device).type)
        for objective in objectives:
            _check_noise(method, OBJECTIVES[objective](2))
    index = torch.device(asked_device or "cpu").index
    if ranks.RANKS > 1 and index is not None:
        raise RunError(f"base.device = {asked_device} would put all ranks on one GPU. Leave it null.")
    if index:
        raise RunError(
            f"base.device = {asked_device}, but training uses the first visible GPU. Set "
            f"CUDA_VISIBLE_DEVICES={index} and leave base.device null."
        )
    check_loggers(loggers)


def pretrain_base(asked: Pretraining, run: Path, work: Path, console: Console) -> None:
    """Writes `base/` in `work`: a model and its tokenizer, trained on the source-language rows and plain texts.

    Raises:
        CorpusError: no row has a usable answer.
    """
    tiny, out = asked.tiny, work / "base"
    rows, plain = read_rows(run / "source" / "train.parquet"), read_texts(run / "source" / "plain.parquet")
    model, tokenizer = _unpretrained(asked, run, rows, plain)
    found, dropped = _trainable(asked.text, asked.block_length, tokenizer, rows)
    free = 1 + max(row["row_id"] for row in rows)
    texts = tokenize_texts(tokenizer, plain, asked.text.max_length, first_row_id=free)
    found += _with_beginnings(texts, tokenizer, asked.seed)
    held_out = _scorable(asked.text, tokenizer, run / "source" / "test.parquet", "the source's test rows")
    examples = Examples(found, held_out[:MOST_HELD_OUT], dropped, count_cuts(found))
    args = _arguments(asked.train, work / "checkpoints", asked.seed, tiny.learning_rate, asked.device)
    args.max_steps, args.eval_steps, args.logging_steps = tiny.steps, max(1, tiny.steps // 10), max(1, tiny.steps // 60)
    optimizer = pretraining_optimizer(tiny.optimizer, model, tiny.learning_rate)
    batching = _batching(asked, tiny.batch_rows)
    _attend(model, batching.objective)
    shown = Shown(console, run / "logs" / "base", asked.train.report_to)
    _compile(asked.train, model, work)
    trainer = _train(DiffusionTrainer(model, args, examples.train, examples.held_out, batching, optimizer), shown)
    model = _gathered(trainer, lambda: type(trainer.model)(trainer.model.config))  # which says how it looks
    if ranks.RANK > 0:
        return
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    _write_log(out / "log.jsonl", trainer, examples)


def _unpretrained(asked: Pretraining, run: Path, rows: Sequence[dict], plain: Sequence[str]) -> tuple[Any, Any]:
    """The model and the tokenizer that pretraining begins with."""
    tiny, start = asked.tiny, run / CONVERTED if asked.converted else asked.tiny.start
    if start:
        return load_model(start, torch.float32, "cpu"), load_tokenizer(start)
    texts = [text for row in rows for text in ("\n\n" + row["input"], row["output"])]  # as messages have them
    model = new_model(tiny_config(tiny, asked.context), asked.seed)
    copy_from_the_start(model, asked.seed)
    return model, new_tokenizer([*texts, *plain], tiny.vocab_size)


def _with_beginnings(texts: Sequence[Example], tokenizer: Any, seed: int) -> list[Example]:
    """Three of four texts with a beginning that is given, up to the end of a line, a sentence or a speaker's name.

    To go on is to find what the beginning stated, or what somebody asked in it.
    """
    ends = {index for token, index in tokenizer.get_vocab().items() if token[-1] in SENTENCE_ENDS}
    draws = uniforms(Use.BEGINNING, seed, 0, [text.row_id for text in texts], 1)[:, 0].tolist() if texts else []
    return [
        replace(text, prompt_length=_beginning(text.input_ids, ends, draw)) if place % 4 else text
        for place, (text, draw) in enumerate(zip(texts, draws, strict=True))
    ]


def _beginning(input_ids: Sequence[int], ends: Collection[int], draw: float) -> int:
    """The length of a text's beginning: one of those that end in `ends`, or any where there is none."""
    places = [place for place, index in enumerate(input_ids[:-1], 1) if index in ends] or range(1, len(input_ids))
    return places[int(draw * len(places))] if places else 1


def train_adapter(
    asked: Adapting,
    name: str,
    run: Path,
    work: Path,
    console: Console,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Writes `adapters/NAME/` in `work`: the adapter for the plain base, its log and its summary.

    A kill loses the steps after the last complete checkpoint; called again, the training continues from it.

    Args:
        callbacks: called at the steps, in addition to the run's own.

    Raises:
        AdapterError: the targets do not fit the model.
        CorpusError: no row has a usable answer.
        DivergenceError: the loss is no longer finite.
        Stopped: a signal asked for it; a checkpoint is saved.
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
    batching = _batching(asked, asked.train.batch_rows)
    _check_noise(asked.method, batching.objective)
    _attend(adapted, batching.objective)
    _compile(asked.train, adapted, work)
    trainer = DiffusionTrainer(adapted, args, examples.train, examples.held_out, batching, optimizer)
    _train(trainer, Shown(console, run / "logs" / name, asked.train.report_to), callbacks)
    looks = attention_of(adapted.config)
    adapted = _gathered(trainer, lambda: _restored(asked, _load_base(asked, base), initial))
    if adapted is not None:  # on rank 0
        attend(adapted, **looks)
    if ranks.RANK > 0:
        return
    methods.save_adapter(adapted, asked.method, out, initial, asked.base.model)
    if is_checkpoint(out):
        tokenizer.save_pretrained(out)
    _write_log(out / "log.jsonl", trainer, examples)
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
    """The model that is adapted: the recipe's, or the one that this run pretrains."""
    return str(locate(base.model)) if base.model else str(run / "base")


def _load_base(asked: Adapting, base: str) -> Any:
    return methods.load_base(base, asked.method, asked.base.dtype, asked.base.device, asked.base.revision)


def _restored(asked: Adapting, model: Any, initial: Path) -> Any:
    return methods.restore_adapter(model, asked.method, asked.adapter, asked.seed, initial)


def _initial_model(asked: Adapting, base: str, initial: Path, probe: list[int]) -> tuple[Any, float]:
    """The model at its first step, and how far its logits on `probe` are off the base's at most.

    A first start and a resumed one both take what was saved: in bf16 PiSSA's residual would else be taken from A and B
    before they were rounded.
    """
    model = _load_base(asked, base)
    before = methods.probe_logits(model, probe)
    with ranks.rank_0_first():  # the others take its start
        if asked.adapter and not initial.exists():
            adapted = methods.add_adapter(model, asked.method, asked.adapter, asked.seed)
            partial = initial.with_name("initial.partial")
            adapted.save_pretrained(str(partial))
            partial.replace(initial)
            del adapted, model
            gc.collect()  # not two bases at once
            model = _load_base(asked, base)
    adapted = _restored(asked, model, initial)
    return adapted, float((methods.probe_logits(adapted, probe) - before).abs().max())


def _adaptation_rows(asked: Adapting, tokenizer: Any, run: Path) -> Examples:
    rows = read_rows(run / "corpus" / "train.parquet")
    found, dropped = _trainable(asked.text, asked.block_length, tokenizer, rows)
    held_out = _scorable(asked.text, tokenizer, run / "corpus" / "validation.parquet", "the validation rows")
    return Examples(found, held_out, dropped, count_cuts(found))


def _trainable(
    text: TextOptions, block_length: int | None, tokenizer: Any, rows: Sequence[dict]
) -> tuple[list[Example], Counter[str]]:
    examples, dropped = tokenize_rows(
        tokenizer, rows, text.max_length, text.eos, block_length or 1, text.min_share, text.turns
    )
    if not examples:
        raise CorpusError(f"none of the {len(rows)} rows can be trained on: {dict(dropped)}")
    return examples, dropped


def _scorable(text: TextOptions, tokenizer: Any, path: Path, what: str) -> list[Example]:
    """The rows whose loss is taken at each evaluation, of each its last answer."""
    held_out, dropped = tokenize_rows(tokenizer, read_rows(path), text.max_length, min_share=text.min_share)
    if not held_out:
        raise CorpusError(f"none of {what} can be scored: {dict(dropped)}")
    return held_out


def _batching(asked: Pretraining | Adapting, batch_rows: int) -> Batching:
    options, objective = asked.train, OBJECTIVES[asked.objective](asked.block_length or 1)
    return Batching(batch_rows, options.batch_tokens, options.noise, asked.text.eos == "fill", objective)


def _check_noise(method: str, objective: Objective) -> None:
    """A model that looks back only keeps finished blocks, whatever is masked after: an update must not depend on it.

    Raises:
        AdapterError: the method's does.
    """
    if METHODS[method].noise_aware and objective.attention_block:
        raise AdapterError(
            f"{method} depends on the share of masks in an answer, but a model that looks back only does not see all "
            "of it. Train it by the objective `masked`, or take another method."
        )


def _attend(model: Any, objective: Objective) -> None:
    """Makes a model look as an objective wants it, where it has not learnt to look in another way than full.

    Raises:
        ModelError: it has.
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


def _adaptation_arguments(asked: Adapting, output_dir: Path) -> TrainingArguments:
    options = asked.train
    args = _arguments(options, output_dir, asked.seed, asked.learning_rate, asked.base.device)
    args.max_steps, args.num_train_epochs = options.steps or -1, options.epochs
    args.eval_steps, args.logging_steps = options.eval_steps, max(1, options.eval_steps // 5)
    return args


def _arguments(
    options: StepOptions, output_dir: Path, seed: int, rate: float, asked_device: str | None
) -> TrainingArguments:
    """Those of any training; the caller sets how long it is."""
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
    args._n_gpu = min(1, args.n_gpu)  # not DataParallel, which would cut the loss's inputs apart
    return args


def _compile(options: StepOptions, model: Any, work: Path) -> None:
    if options.compile:
        compile_layers(model, work / f"compiled-{ranks.RANK}")


def _train(trainer: DiffusionTrainer, shown: Shown, callbacks: Sequence[TrainerCallback] = ()) -> DiffusionTrainer:
    """Trains to the end or to a signal, with all that is called at its steps, and tells how far it is."""
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
    return trainer


def _teller(bar: Bar, name: str) -> Callable[[int, int, dict[str, float]], None]:
    """What moves the bar of a training, and shows its latest figures."""
    task = bar.add_task(name, total=None, figures="")
    figures: dict[str, float] = {}

    def tell(step: int, steps: int, logged: dict[str, float]) -> None:
        figures.update(logged)
        bar.update(task, completed=step, total=steps, figures=progress_text(figures))

    return tell


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


def _write_log(path: Path, trainer: DiffusionTrainer, examples: Examples) -> None:
    """A line of what was dropped and cut, if anything was, then one for each step that was logged."""
    entries = [{key: entry[key] for key in LOG_KEYS if key in entry} for entry in trainer.state.log_history]
    lines = [json.dumps(entry) for entry in entries if "loss" in entry or "eval_loss" in entry]
    if examples.dropped or any(examples.cut.values()):
        lines.insert(0, json.dumps({"dropped": dict(examples.dropped), "cut": examples.cut}))
    write_atomically(path, "\n".join(lines) + "\n")


def _tell_rows(console: Console, examples: Examples) -> None:
    """What of the rows is not trained on."""
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
