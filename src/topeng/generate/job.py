"""`topeng generate`: answers many prompts, and writes JSON Lines completely or not at all. Answers survive a kill."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console

from topeng.generate.answer import Answer, Prompt, answers, question_text, to_messages
from topeng.generate.settings import Settings
from topeng.system.lines import Line, LineFile
from topeng.system.progress import progress_bar
from topeng.text.chat import Message, encode_prompt


def answer_prompts(
    loaded: tuple[Any, Any],
    prompts: Sequence[str | Sequence[Message]],
    settings: Settings,
    source: dict[str, str | None],
    out: Path | None,
    console: Console,
) -> list[Line]:
    """The record of each prompt's answer, in order.

    Args:
        loaded: a model and its tokenizer.
        source: the `model` and `adapter` that were loaded, `template` and `system`.
        out: file for the records as JSON Lines. Answers of an interrupted call with the same arguments are reused.

    Raises:
        GenerationError: a prompt and its answer exceed the context, or the template has no gap.
        TextError: a prompt is neither text nor a conversation.
    """
    model, tokenizer = loaded
    digest = hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()
    head = {
        **source,
        "settings": asdict(settings),
        "prompts": digest,
        "record": [field.name for field in fields(Answer)],
    }
    file = LineFile(out, head) if out else None
    records = {line["index"]: line for line in file.lines} if file else {}
    with progress_bar(console) as bar:
        task = bar.add_task("answers", total=len(prompts), completed=len(records))
        asked = [
            Prompt(question_text(prompt), encode_prompt(tokenizer, to_messages(prompt, source["system"])))
            for prompt in prompts
        ]
        for answer in answers(model, tokenizer, asked, settings, template=source["template"], skip=list(records)):
            records[answer.index] = to_record(answer, prompts[answer.index])
            if file:
                file.add([records[answer.index]])
            bar.advance(task)
    ordered = [records[index] for index in range(len(prompts))]
    if file:
        file.finish(ordered)
    return ordered


def to_record(answer: Answer, prompt: str | Sequence[Message]) -> Line:
    record = asdict(answer) | {"tokens_per_forward_pass": round(answer.tokens_per_forward_pass, 3)}
    return record if isinstance(prompt, str) else record | {"messages": list(prompt)}
