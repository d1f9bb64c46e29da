"""`topeng generate`: many prompts, answers in a file of JSON Lines that appears whole; what is done survives a kill."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from topeng import load
from topeng.generate.answer import Answer, Question, answers
from topeng.generate.settings import Settings
from topeng.lines import Line, LineFile
from topeng.progress import progress_bar


def answer_prompts(
    prompts: Sequence[Question],
    settings: Settings,
    source: dict[str, str | None],
    out: Path | None,
    console: Console,
) -> tuple[list[Line], Any]:
    """The record of each prompt's answer, in order, and the tokenizer.

    Args:
        source: `model`, `adapter`, `template` and `system`.
        out: JSON Lines of the records; answers that an earlier call of the same kind has left there are taken over.

    Raises:
        ModelError, AdapterError: the model or the adapter cannot be loaded.
        GenerationError: a prompt and its answer exceed the context, or the template has no gap.
        TextError: a prompt is no text and no conversation.
    """
    model, tokenizer = load(source["model"] or "", source["adapter"])
    digest = hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()
    head = {**source, "settings": asdict(settings), "prompts": digest}
    file = LineFile(out, head) if out else None
    records = {line["index"]: line for line in file.lines} if file else {}
    with progress_bar(console) as bar:
        task = bar.add_task("answers", total=len(prompts), completed=len(records))
        given: dict[str, Any] = {name: source[name] for name in ("template", "system")}
        for answer in answers(model, tokenizer, prompts, settings, skip=list(records), **given):
            records[answer.index] = to_record(answer, prompts[answer.index])
            if file:
                file.add([records[answer.index]])
            bar.advance(task)
    ordered = [records[index] for index in range(len(prompts))]
    if file:
        file.finish(ordered)
    return ordered, tokenizer


def to_record(answer: Answer, prompt: Question) -> Line:
    record = asdict(answer) | {"tokens_per_forward_pass": round(answer.tokens_per_forward_pass, 3)}
    return record if isinstance(prompt, str) else record | {"messages": list(prompt)}
