"""Answers to questions: the chat format combined with the decoding loop."""

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
    """A question that is already tokenized (for example, because it was cut), with its text."""

    text: str
    tokens: list[int]


Question = str | Sequence[Message] | Prompt


@dataclass(frozen=True)
class Answer:
    """An answer, with the steps in which it was denoised.

    Attributes:
        index: position of its prompt in the list of questions.
        token_ids: tokens up to its first end token.
        pieces: each of these tokens as text.
        committed_at: the forward pass, from 1, that committed each token; 0 if a template gave it.
        confidence: the probability of each token when it was committed.
        forward_passes: number of forward passes that the answer took part in.
        seconds: time spent on it; the time of a step is shared evenly by the answers that took part.
        ended: whether it has an end token; without one it fills the canvas.
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
        """The fields from which reports, pages and files replay the denoising."""
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
    """Yields the answer to each question when it is finished.

    The longest prompts start first, and the next joins when an answer is finished. An answer depends on the position of
    its question, which seeds its noise, and not on the other questions.

    Args:
        questions: texts or conversations; if a conversation ends with an answer, the model does not see it.
        batch_tokens: largest forward pass, with padding, in tokens.
        template: text that every answer follows, with gaps such as `{5}` for five tokens.
        skip: positions of questions to leave out.

    Raises:
        GenerationError: a prompt and its answer exceed the model's context, or the template has no gap.
        TextError: a question is neither text nor a conversation.
    """
    given = None if template is None else encode_template(tokenizer, template, model.config.mask_token_id)
    if given is not None:
        settings = without_end(settings, model)
    prompts = [
        one.tokens if isinstance(one, Prompt) else encode_prompt(tokenizer, to_messages(one)) for one in questions
    ]
    waiting = deque(sorted(set(range(len(prompts))) - set(skip), key=lambda index: -len(prompts[index])))
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
    """Whether one more row of at most this length keeps a pass within its limit."""
    return (len(rows) + 1) * max(len(row.tokens) for row in rows.values()) <= batch_tokens


def without_end(settings: Settings, model: Any) -> Settings:
    """Settings for filling gaps: the text after them is given, so no end token may be written."""
    ends = [*settings.suppressed_tokens, *end_tokens(model).tolist()]
    return replace(settings, suppressed_tokens=ends, stop_at_end=False)


def empty_cause(settings: Settings) -> str:
    """The likely reason for an empty answer, and a remedy."""
    if settings.min_new_tokens:
        return "the model wrote only white space or special tokens. More training or another prompt may help."
    return (
        "the model wrote the end token first, as it has not learnt to answer this. Try --min_new_tokens 8, or train it "
        "for longer."
    )


def to_messages(question: str | Sequence[Message], system: str | None = None) -> list[Message]:
    """A question as the conversation that asks it.

    Args:
        system: system message for a conversation that has none.

    Raises:
        TextError: the question is neither text nor messages.
    """
    messages: list[Message] = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
    check_messages(messages)
    if messages[-1]["role"] == "assistant":
        check_messages(messages := messages[:-1])
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    return messages


def question_text(question: Question) -> str:
    """A question as a text to show. The messages of a conversation are joined."""
    if isinstance(question, Prompt):
        return question.text
    return question if isinstance(question, str) else "\n\n".join(message["content"] for message in question)


def encode_template(tokenizer: Any, template: str, mask_token_id: int) -> list[int]:
    """An answer with gaps as tokens, followed by the end of turn. `{5}` becomes five masks.

    Raises:
        GenerationError: the template has no gap.
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
        given: an answer with gaps, by default one gap of the whole length.
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
