"""`topeng generate`: many prompts, answers in a file of JSON Lines that appears whole; what is done survives a kill."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from topeng import load
from topeng.generate.answer import Answer, answers
from topeng.generate.settings import Settings
from topeng.run import progress_bar, write_atomically

Record = dict[str, Any]


def answer_prompts(
    prompts: Sequence[str],
    settings: Settings,
    source: dict[str, str | None],
    out: Path | None,
    console: Console,
) -> tuple[list[Record], Any]:
    """The record of each prompt's answer, in order, and the tokenizer.

    Args:
        source: `model`, `adapter` and `template`.
        out: JSON Lines of the records; answers that an earlier call of the same kind has left there are taken over.

    Raises:
        ModelError, AdapterError: the model or the adapter cannot be loaded.
        GenerationError: a prompt and its answer exceed the context, or the template has no gap.
    """
    model, tokenizer = load(source["model"] or "", source["adapter"])
    file = AnswerFile(out, source, settings, prompts) if out else None
    records = dict(file.records) if file else {}
    with progress_bar(console) as bar:
        task = bar.add_task("answers", total=len(prompts), completed=len(records))
        for answer in answers(model, tokenizer, prompts, settings, template=source["template"], skip=list(records)):
            records[answer.index] = to_record(answer)
            if file:
                file.add(records[answer.index])
            bar.advance(task)
    ordered = [records[index] for index in range(len(prompts))]
    if file:
        file.finish(ordered)
    return ordered, tokenizer


def to_record(answer: Answer) -> Record:
    return asdict(answer) | {"tokens_per_forward_pass": round(answer.tokens_per_forward_pass, 3)}


class AnswerFile:
    """Records are gathered in `PATH.unfinished`, of which the first line says what they answer and how."""

    def __init__(self, path: Path, source: Record, settings: Settings, prompts: Sequence[str]) -> None:
        digest = hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()
        head = {**source, "settings": asdict(settings), "prompts": digest}
        self.path, self.unfinished = path, path.with_name(path.name + ".unfinished")
        lines = _read_whole_lines(self.unfinished)
        self.records = {line["index"]: line for line in lines[1:]} if lines[:1] == [head] else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.unfinished, _json_lines([head, *self.records.values()]))

    def add(self, record: Record) -> None:
        with self.unfinished.open("a", encoding="utf-8") as stream:
            stream.write(_json_lines([record]))

    def finish(self, records: Sequence[Record]) -> None:
        write_atomically(self.path, _json_lines(records))
        self.unfinished.unlink()


def _json_lines(records: Sequence[Record]) -> str:
    """A model may emit half of a surrogate pair, which UTF-8 cannot hold."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return text.encode("utf-8", "replace").decode()


def _read_whole_lines(path: Path) -> list[Record]:
    """A kill may have cut the last line."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]
