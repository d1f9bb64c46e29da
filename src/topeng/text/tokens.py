"""From rows to tokens with a response: what the diffusion loss is taken on.

`fit_row` alone decides what of a row is seen: training, scoring and generation ask the same question.
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
        turn: of the row's answers, counted from its last: 0 is the one that is scored.
        cut_prompt: the prompt lacks turns or the end of a message, for it was too long.
        cut_answer: the answer lacks its end.
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
        """What its noise depends on: the row, and which of its answers this is."""
        return self.row_id + (self.turn << 40)


def conversation(row: dict[str, Any]) -> list[Message]:
    """The messages of a row: its `messages` where it has them, else its `input` and `output`."""
    if row.get("messages"):
        return list(row["messages"])
    return [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]


def history(row: dict[str, Any]) -> list[Message]:
    """The messages before a row's last answer: what is asked when it is scored or answered."""
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
    """A prompt and an answer as tokens, within `max_length` together.

    Where they are longer, the prompt is cut first: its oldest turns, then the ends of its contents. Of what the headers
    leave of `max_length` it keeps `min_share`; then the answer's end is cut. So an answer has at least as much room, as
    `min_share` is half at most. Where the headers leave nothing, the prompt is longer than `max_length`.

    Args:
        messages: before the answer.
        answer: its tokens.
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
    """As `fit_row`, and whether the prompt was cut."""
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
    """An answer of a row, with what was said before it, as tokens; or the reason why it is dropped.

    Args:
        row: with `row_id`, `input`, `output`, and `messages` where it is a conversation.
        eos: end tokens after the end of turn: `one`, up to a multiple of `block_length` of response (`block`),
            or none here (`fill`: the batch does it; None: scored rows).
        min_share: as of `fit_row`.
        turn: of its answers, counted from the last.
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
    """The examples of some rows, and how many answers were dropped for which reason.

    Args:
        turns: each answer of a conversation, with what was said before it, is an example (`all`), or the last alone.
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
    """How many of a row's answers are trained on, if none is dropped."""
    return max(1, len(_answer_places(conversation(row)))) if turns == "all" else 1


def count_cuts(examples: Iterable[Example]) -> dict[str, int]:
    """How many prompts and how many answers lack something, being too long."""
    examples = list(examples)
    return {
        "prompts": sum(example.cut_prompt for example in examples),
        "answers": sum(example.cut_answer for example in examples),
    }


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, first_row_id: int = 0
) -> list[Example]:
    """Plain texts as tokens, in which everything behind the first token is learnt; their end is cut at `max_length`."""
    beginning = special_tokens(tokenizer).beginning
    return [
        Example(first_row_id + place, [*beginning, *encode_answer(tokenizer, text)][:max_length], 1)
        for place, text in enumerate(texts)
        if text.strip()
    ]
