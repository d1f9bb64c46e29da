"""The pretraining of a base: a tiny one from scratch, or a checkpoint or converted causal model further."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from topeng.adapt.distillation import Distillation, teacher_of
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
from topeng.adapt.methods import add_adapter
from topeng.adapt.muon import pretraining_optimizer
from topeng.adapt.settings import CONVERTED, LoraOptions, Pretraining
from topeng.adapt.tiny import copy_from_the_start, new_model, new_tokenizer, tiny_config
from topeng.adapt.trainer import Forward, own_output
from topeng.diffusion.noise import Use, uniforms
from topeng.models import find_device, load_model, load_tokenizer
from topeng.system import ranks
from topeng.text.rows import read_rows, read_texts
from topeng.text.tokens import Example, count_cuts, tokenize_texts

SENTENCE_ENDS = ".?!:Ċ"
"""Endings of the beginning of a plain text: marks, and a line break as written by a byte-level BPE."""
MOST_HELD_OUT = 200
"""Largest number of rows for the held-out loss of the pretraining."""


def pretrain_base(asked: Pretraining, run: Path, work: Path, console: Console) -> None:
    """Writes `base/` in `work`: a model and its tokenizer, trained on rows of the requested languages and plain texts.

    Raises:
        CorpusError: no row has a usable answer.
    """
    tiny, out = asked.tiny, work / "base"
    rows, plain = _rows(asked, run), read_texts(run / "source" / "plain.parquet")
    model, tokenizer = _unpretrained(asked, run, rows, plain)
    found, dropped = trainable_rows(asked.text, asked.block_length, tokenizer, rows)
    free = 1 + max(row["row_id"] for row in rows)
    texts = tokenize_texts(tokenizer, plain, asked.text.max_length, first_row_id=free)
    found += _with_beginnings(texts, tokenizer, asked.seed)
    examples = Examples(found, _held_out(asked, tokenizer, run), dropped, count_cuts(found))
    args = arguments(asked.train, work / "checkpoints", asked.seed, tiny.learning_rate, asked.device)
    args.max_steps, args.eval_steps, args.logging_steps = tiny.steps, max(1, tiny.steps // 10), max(1, tiny.steps // 60)
    forward, trained = _forward(asked, model), _trainable(asked, model)
    optimizer = pretraining_optimizer("adamw" if tiny.lora_rank else tiny.optimizer, trained, tiny.learning_rate)
    trainer = trainer_of(asked, trained, args, examples, tiny.batch_rows, optimizer, tiny.anneal_steps, forward)
    fit(trainer, Shown(console, run / "logs" / "base", asked.train.report_to))

    def rebuild() -> Any:
        if tiny.lora_rank:
            return _trainable(asked, _unpretrained(asked, run, rows, plain)[0])
        return type(trainer.model)(trainer.model.config)

    trained = gathered(trainer, rebuild)
    if ranks.RANK > 0:
        return
    model = trained.merge_and_unload() if tiny.lora_rank else trained
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_log(out / "log.jsonl", trainer, examples)


def _rows(asked: Pretraining, run: Path) -> list[dict]:
    """The training rows. Those of the target language are the training rows of the adapters, never held-out ones."""
    paths = {"source": ["source"], "target": ["corpus"], "both": ["source", "corpus"]}[asked.tiny.rows]
    found: list[dict] = []
    for folder in paths:
        free = 1 + max((row["row_id"] for row in found), default=-1)
        found += [{**row, "row_id": free + row["row_id"]} for row in read_rows(run / folder / "train.parquet")]
    return found


def _held_out(asked: Pretraining, tokenizer: Any, run: Path) -> list[Example]:
    """Held-out rows of the trained languages, at most equally many of each. No test rows of the target language."""
    places = {"source": "source/test.parquet", "target": "corpus/validation.parquet"}
    wanted = places if asked.tiny.rows == "both" else {asked.tiny.rows: places[asked.tiny.rows]}
    each = [scorable_rows(asked.text, tokenizer, run / path, f"the rows of {path}") for path in wanted.values()]
    return [example for some in each for example in some[: MOST_HELD_OUT // len(each)]]


def _trainable(asked: Pretraining, model: Any) -> Any:
    """Makes all weights of a model trainable, or adds a new LoRA, whose start depends on the seed."""
    rank = asked.tiny.lora_rank
    return add_adapter(model, "lora", LoraOptions(rank, 2 * rank), asked.seed) if rank else model


def _forward(asked: Pretraining, model: Any) -> Forward:
    """The forward pass of the model, or one with its teacher. Must be made before an adapter is added to the model."""
    weight = asked.tiny.distillation_weight
    return Distillation(teacher_of(model).to(find_device(asked.device)), weight) if weight else own_output


def _unpretrained(asked: Pretraining, run: Path, rows: Sequence[dict], plain: Sequence[str]) -> tuple[Any, Any]:
    """The model and tokenizer with which pretraining begins."""
    tiny, start = asked.tiny, run / CONVERTED if asked.converted else asked.tiny.start
    if start:
        return load_model(start, torch.float32, "cpu", asked.revision), load_tokenizer(start, asked.revision)
    texts = [text for row in rows for text in ("\n\n" + row["input"], row["output"])]  # as messages have them
    model = new_model(tiny_config(tiny, asked.context), asked.seed)
    copy_from_the_start(model, asked.seed)
    return model, new_tokenizer([*texts, *plain], tiny.vocab_size)


def _with_beginnings(texts: Sequence[Example], tokenizer: Any, seed: int) -> list[Example]:
    """Makes the beginning of three in four texts given, up to the end of a line, a sentence or a speaker's name.

    To continue, the model must find facts or a question in the beginning.
    """
    ends = {index for token, index in tokenizer.get_vocab().items() if token[-1] in SENTENCE_ENDS}
    draws = uniforms(Use.BEGINNING, seed, 0, [text.row_id for text in texts], 1)[:, 0].tolist() if texts else []
    return [
        replace(text, prompt_length=_beginning(text.input_ids, ends, draw)) if place % 4 else text
        for place, (text, draw) in enumerate(zip(texts, draws, strict=True))
    ]


def _beginning(input_ids: Sequence[int], ends: Collection[int], draw: float) -> int:
    """The length of the beginning of a text: one that ends in `ends`, or any if there is none."""
    places = [place for place, index in enumerate(input_ids[:-1], 1) if index in ends] or range(1, len(input_ids))
    return places[int(draw * len(places))] if places else 1
