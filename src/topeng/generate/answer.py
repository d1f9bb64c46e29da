"""Questions in, answers out: the chat format and the decoding loop put together."""

import re
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from topeng.errors import GenerationError
from topeng.generate.canvas import Canvas, blank_canvas, infilling_canvas, pad_left
from topeng.generate.decode import Decoder
from topeng.generate.row import Row, Voice, end_tokens
from topeng.generate.settings import Settings
from topeng.text.chat import (
    Message,
    check_messages,
    decode_answer,
    encode_prompt,
    encode_text,
    special_tokens,
)

GAP = re.compile(r"\{(\d+)\}")


class Prompt(NamedTuple):
    """A question that is tokens already, as where it was cut; and how it reads."""

    text: str
    tokens: list[int]


Question = str | Sequence[Message] | Prompt


@dataclass(frozen=True)
class Answer:
    """An answer, and how it came to be.

    Attributes:
        index: place of its prompt among those that were asked.
        token_ids: up to its first end token.
        pieces: each of these as text.
        committed_at: the forward pass, from 1, that committed each token; 0 where a template gave it.
        confidence: the probability of each token then.
        forward_passes: that it took part in.
        seconds: its own: each step's time, shared evenly by the answers that took part.
        ended: it has an end token; where it has none, it is as long as the canvas.
    """

    index: int
    prompt: str
    answer: str
    token_ids: list[int]
    pieces: list[str]
    committed_at: list[int]
    confidence: list[float]
    forward_passes: int
    seconds: float
    ended: bool

    @property
    def denoising(self) -> dict[str, Any]:
        """How it came to be, as report, animation and files have it: what a player of the steps needs."""
        names = ("token_ids", "pieces", "committed_at", "confidence", "forward_passes", "ended")
        return {name: getattr(self, name) for name in names}

    @property
    def tokens_per_forward_pass(self) -> float:
        return len(self.token_ids) / max(1, self.forward_passes)


def answers(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    settings: Settings,
    batch_tokens: int = 8192,
    template: str | None = None,
    skip: Sequence[int] = (),
) -> Iterator[Answer]:
    """The answer to each question, as it is done. The longest begin first; the next joins when one is done.

    An answer depends on its question's place, not on its neighbours: the place seeds its noise.

    Args:
        questions: texts, or conversations, whose last answer is not shown to the model where it is there already.
        batch_tokens: of one forward pass, padding included.
        template: of every answer, with gaps such as `{5}` for five tokens; without it an answer is all gap.
        skip: places of questions that are not asked.

    Raises:
        GenerationError: a prompt and its answer exceed the model's context, or the template has no gap.
        TextError: a question is no text and no conversation.
    """
    given = None if template is None else encode_template(tokenizer, template, model.config.mask_token_id)
    if given is not None:
        settings = without_end(settings, model)
    prompts = [
        one.tokens if isinstance(one, Prompt) else encode_prompt(tokenizer, to_messages(one)) for one in questions
    ]
    order = sorted(set(range(len(prompts))) - set(skip), key=lambda index: -len(prompts[index]))
    waiting = deque(order)
    decoder, open_rows, seconds = Decoder(), dict[int, Row](), defaultdict[int, float](float)
    while waiting or open_rows:
        while waiting and (not open_rows or _has_room(open_rows, batch_tokens)):
            index = waiting.popleft()
            canvas = prompt_canvas(model, [prompts[index]], settings, given)
            open_rows[index] = Row(canvas, 0, Voice(model), settings, noise_id=index)
            decoder.join(open_rows[index])
        before, running = time.perf_counter(), [index for index, row in open_rows.items() if not row.done]
        decoder.step()
        for index in running:
            seconds[index] += (time.perf_counter() - before) / len(running)
        for index in [index for index, row in open_rows.items() if row.done]:
            row = open_rows.pop(index)
            yield _answer(model, tokenizer, row, index, question_text(questions[index]), seconds.pop(index, 0.0))


def _has_room(rows: dict[int, Row], batch_tokens: int) -> bool:
    """Whether one more row, which is no longer than these, keeps a pass within its limit."""
    return (len(rows) + 1) * max(len(row.tokens) for row in rows.values()) <= batch_tokens


def without_end(settings: Settings, model: Any) -> Settings:
    """Settings for gaps: what follows them is given, so that no end is written and none is waited for."""
    ends = [*settings.suppressed_tokens, *end_tokens(model).tolist()]
    return replace(settings, suppressed_tokens=ends, stop_at_end=False)


def empty_cause(settings: Settings) -> str:
    """Why an answer is likely to be empty, and what helps."""
    if settings.min_new_tokens:
        return "the model wrote only white space or special tokens. More training or another prompt may help."
    return (
        "the model wrote the end token first, as it has not learnt to answer this. Try --min_new_tokens 8, or train it "
        "for longer."
    )


def to_messages(question: str | Sequence[Message], system: str | None = None) -> list[Message]:
    """A question as the conversation that asks it.

    Args:
        system: a system message to begin with, where the conversation has none.

    Raises:
        TextError: it is neither text nor messages.
    """
    messages: list[Message] = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
    check_messages(messages)
    if messages[-1]["role"] == "assistant":
        check_messages(messages := messages[:-1])
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages


def question_text(question: Question) -> str:
    """A question as a text to show; of a conversation, its messages after one another."""
    if isinstance(question, Prompt):
        return question.text
    return question if isinstance(question, str) else "\n\n".join(message["content"] for message in question)


def encode_template(tokenizer: Any, template: str, mask_token_id: int) -> list[int]:
    """An answer with gaps as tokens: `{5}` becomes five masks; the end of turn follows.

    Raises:
        GenerationError: it has no gap.
    """
    return [*encode_gaps(tokenizer, template, mask_token_id), special_tokens(tokenizer).eot]


def encode_gaps(tokenizer: Any, template: str, mask_token_id: int) -> list[int]:
    """A text with gaps as tokens.

    Raises:
        GenerationError: it has no gap.
    """
    pieces = GAP.split(template)
    if len(pieces) == 1:
        raise GenerationError(f"the template {template!r} has no gap. Write {{5}} for a gap of five tokens.")
    text = [encode_text(tokenizer, piece) for piece in pieces[::2]]
    gaps = [[mask_token_id] * int(length) for length in pieces[1::2]]
    return [token for pair in zip(text, [*gaps, []], strict=True) for piece in pair for token in piece]


def prompt_canvas(
    model: Any, prompts: Sequence[Sequence[int]], settings: Settings, given: list[int] | None = None
) -> Canvas:
    """A canvas with an answer to each prompt.

    Args:
        prompts: token ids, of any length.
        given: an answer with gaps; all gap without it.
    """
    mask_token_id = model.config.mask_token_id
    input_ids, attention_mask = pad_left(prompts, model.config.eos_token_id)
    if given is None:
        return blank_canvas(input_ids, attention_mask, settings.max_new_tokens, mask_token_id)
    answer = torch.tensor([given] * len(prompts))
    return infilling_canvas(
        torch.cat([input_ids, answer], dim=1),
        torch.cat([attention_mask, torch.ones_like(answer)], dim=1),
        input_ids.shape[1],
        mask_token_id,
    )


def _answer(model: Any, tokenizer: Any, row: Row, index: int, question: str, seconds: float) -> Answer:
    ids, ends = row.tokens[row.prompt_length :].tolist(), set(end_tokens(model).tolist())
    length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return Answer(
        index=index,
        prompt=question,
        answer=decode_answer(tokenizer, ids),
        token_ids=ids[:length],
        pieces=[tokenizer.decode([token]) for token in ids[:length]],
        committed_at=row.committed_at[row.prompt_length :][:length].tolist(),
        confidence=[round(value, 4) for value in row.confidence[row.prompt_length :][:length].tolist()],
        forward_passes=int(row.passes),
        seconds=round(seconds, 4),
        ended=length < len(ids),
    )
