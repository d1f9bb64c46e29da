"""Turns rows into tokens with a response, on which the diffusion loss is computed.

Only `fit_row` decides which part of a row is seen, so that training, scoring and generation use the same question.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from topeng.text.chat import Message, encode_answer, encode_prompt, special_tokens
from topeng.text.settings import AskOptions, Eos, Turns

NO_ANSWER = "empty answer"
NO_QUESTION = "no question before the answer"
NO_ROOM = "no room for an answer within max_length"
MIN_SHARE = AskOptions.min_share


@dataclass(frozen=True)
class Example:
    """An answer of a row as tokens: `input_ids[:prompt_length]` is the prompt, the rest is the response.

    Attributes:
        turn: number of the answer within its row, counted from the last one. 0 is the one that is scored.
        cut_prompt: whether the prompt was too long, and lacks turns or the end of a message.
        cut_answer: whether the answer lacks its end.
    """

    row_id: int
    input_ids: list[int]
    prompt_length: int
    turn: int = 0
    cut_prompt: bool = False
    cut_answer: bool = False

    @property
    def response_length(self) -> int:
        return len(self.input_ids) - self.prompt_length

    @property
    def noise_id(self) -> int:
        """Seeds its noise: the row, and which of its answers this is."""
        return self.row_id + (self.turn << 40)


def conversation(row: dict[str, Any]) -> list[Message]:
    """The messages of a row: its `messages` if it has them, or else its `input` and `output`."""
    if row.get("messages"):
        return list(row["messages"])
    return [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]


def history(row: dict[str, Any]) -> list[Message]:
    """The messages before the last answer of a row, which are the prompt when it is scored or answered."""
    messages = conversation(row)
    return messages[: _answer_places(messages)[-1]] if _answer_places(messages) else messages


def _answer_places(messages: Sequence[Message]) -> list[int]:
    return [place for place, message in enumerate(messages) if message["role"] == "assistant"]


def fit_row(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    answer: Sequence[int],
    max_length: int,
    min_share: float = MIN_SHARE,
) -> tuple[list[int], list[int]]:
    """A prompt and an answer as tokens, with at most `max_length` tokens together.

    If they are longer, the prompt is cut first: its oldest turns, and then the ends of its contents. It keeps the share
    `min_share` of the length that remains after the headers. Then the end of the answer is cut. As `min_share` is at
    most a half, the answer has at least as much room. If the headers alone are too long, so is the prompt.

    Args:
        messages: messages before the answer.
        answer: tokens of the answer.
    """
    prompt, kept, _ = _fit(tokenizer, messages, answer, max_length, min_share)
    return prompt, kept


def _fit(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    answer: Sequence[int],
    max_length: int,
    min_share: float,
) -> tuple[list[int], list[int], bool]:
    """The result of `fit_row`, and whether the prompt was cut."""
    prompt = whole = encode_prompt(tokenizer, messages)
    if len(prompt) + len(answer) > max_length:
        headers = len(encode_prompt(tokenizer, messages, max_tokens=0))
        least = headers + int(min_share * max(0, max_length - headers))
        prompt = encode_prompt(tokenizer, messages, max_tokens=max(least, max_length - len(answer)))
    return prompt, list(answer[: max(0, max_length - len(prompt))]), len(prompt) < len(whole)


def tokenize_row(
    tokenizer: PreTrainedTokenizerBase,
    row: dict[str, Any],
    max_length: int,
    eos: Eos | None = None,
    block_length: int = 32,
    min_share: float = MIN_SHARE,
    turn: int = 0,
) -> Example | str:
    """An answer of a row as tokens, with the messages before it, or the reason why it is dropped.

    Args:
        row: has `row_id`, `input`, `output`, and `messages` if it is a conversation.
        eos: end tokens after the end of turn: `one`, up to a multiple of `block_length` of the response (`block`), or
            none (`fill`, where the batch adds them, and None for scored rows).
        min_share: as in `fit_row`.
        turn: number of the answer, counted from the last one.
    """
    messages = conversation(row)
    places = _answer_places(messages)
    if turn >= len(places):
        return NO_ANSWER
    before, last = messages[: places[-1 - turn]], messages[places[-1 - turn]]
    whole = encode_answer(tokenizer, last["content"])
    if not whole:
        return NO_ANSWER
    if not before:
        return NO_QUESTION
    prompt, answer, cut_prompt = _fit(tokenizer, before, whole, max_length, min_share)
    if not answer:
        return NO_ROOM
    cut_answer = len(answer) < len(whole)
    if eos == "one":
        answer.append(special_tokens(tokenizer).eos)
    elif eos == "block":
        answer += [special_tokens(tokenizer).eos] * (-len(answer) % block_length)
    return Example(row["row_id"], (prompt + answer)[:max_length], len(prompt), turn, cut_prompt, cut_answer)


def tokenize_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[dict[str, Any]],
    max_length: int,
    eos: Eos | None = None,
    block_length: int = 32,
    min_share: float = MIN_SHARE,
    turns: Turns = "last",
) -> tuple[list[Example], Counter[str]]:
    """The examples of some rows, and the numbers of dropped answers by reason.

    Args:
        turns: whether each answer of a conversation is an example (`all`), or only the last (`last`).
    """
    examples, dropped = [], Counter[str]()
    for row in rows:
        for turn in range(answers_in(row, turns)):
            example = tokenize_row(tokenizer, row, max_length, eos, block_length, min_share, turn)
            if isinstance(example, Example):
                examples.append(example)
            else:
                dropped[example] += 1
    return examples, dropped


def answers_in(row: dict[str, Any], turns: Turns) -> int:
    """Number of answers of a row that are trained on, if none is dropped."""
    return max(1, len(_answer_places(conversation(row)))) if turns == "all" else 1


def count_cuts(examples: Iterable[Example]) -> dict[str, int]:
    """Numbers of prompts and of answers that were cut."""
    examples = list(examples)
    return {
        "prompts": sum(example.cut_prompt for example in examples),
        "answers": sum(example.cut_answer for example in examples),
    }


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, first_row_id: int = 0
) -> list[Example]:
    """Plain texts as tokens, cut at `max_length`. Everything after the first token is trained on."""
    beginning = special_tokens(tokenizer).beginning
    return [
        Example(first_row_id + place, [*beginning, *encode_answer(tokenizer, text)][:max_length], 1)
        for place, text in enumerate(texts)
        if text.strip()
    ]
