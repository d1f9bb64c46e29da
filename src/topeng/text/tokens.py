"""From rows to tokens with a response: what the diffusion loss is taken on."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from topeng.text.chat import encode_answer, encode_prompt, special_tokens

NO_ANSWER = "empty answer"
NO_ROOM = "no room for an answer within max_length"

Eos = Literal["fill", "block", "one"]


@dataclass(frozen=True)
class Example:
    """A row as tokens: `input_ids[:prompt_length]` is the prompt, the rest is the response."""

    row_id: int
    input_ids: list[int]
    prompt_length: int

    @property
    def response_length(self) -> int:
        return len(self.input_ids) - self.prompt_length


def tokenize_row(
    tokenizer: PreTrainedTokenizerBase,
    row: dict,
    max_length: int,
    eos: Eos | None = None,
    block_length: int = 32,
) -> Example | str:
    """A row (`row_id`, `input`, `output`) as tokens, or the reason why it leaves.

    Beyond `max_length` the prompt's content is cut first, then the answer's end; headers stay.

    Args:
        eos: end tokens after the end of turn: `one`, up to a multiple of `block_length` of response (`block`),
            or none here (`fill`: the batch does it; None: scored rows).
    """
    answer = encode_answer(tokenizer, row["output"])
    if not answer:
        return NO_ANSWER
    messages = [{"role": "user", "content": row["input"]}]
    prompt = encode_prompt(tokenizer, messages, max_tokens=max(0, max_length - len(answer)))
    if len(prompt) >= max_length:
        return NO_ROOM
    if eos == "one":
        answer.append(special_tokens(tokenizer).eos)
    elif eos == "block":
        answer += [special_tokens(tokenizer).eos] * (-len(answer) % block_length)
    return Example(row["row_id"], (prompt + answer)[:max_length], len(prompt))


def tokenize_rows(
    tokenizer: PreTrainedTokenizerBase,
    rows: Iterable[dict],
    max_length: int,
    eos: Eos | None = None,
    block_length: int = 32,
) -> tuple[list[Example], Counter[str]]:
    """The examples of some rows, and how many rows left for which reason."""
    examples, dropped = [], Counter[str]()
    for row in rows:
        example = tokenize_row(tokenizer, row, max_length, eos, block_length)
        if isinstance(example, Example):
            examples.append(example)
        else:
            dropped[example] += 1
    return examples, dropped


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, first_row_id: int = 0
) -> list[Example]:
    """Plain texts as tokens, in which everything behind the first token is learnt; their end is cut at `max_length`."""
    bos = special_tokens(tokenizer).bos
    return [
        Example(first_row_id + place, [bos, *encode_answer(tokenizer, text)][:max_length], 1)
        for place, text in enumerate(texts)
        if text.strip()
    ]
