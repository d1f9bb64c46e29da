"""Conversations as tokens, in the chat format whose special tokens the tokenizer has.

Tokens are put together piece by piece instead of by tokenizing a rendered string. Therefore text that happens to spell
a special token stays text, and an answer has the same tokens in training as after a prompt in decoding.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from topeng.errors import ModelError, TextError
from topeng.text.formats import ChatFormat, format_of, missing

Message = Mapping[str, str]
"""A message of a conversation: its `role` (system, user, assistant) and its `content`."""

HALF = re.compile("[\ud800-\udfff]")
"""An unpaired surrogate, which JSON and arguments in another encoding may contain."""


@dataclass(frozen=True)
class SpecialTokens:
    """A chat format, and the ids of its special tokens, or None if it has no such token. Padding is `eos`."""

    form: ChatFormat
    eos: int
    mask: int
    eot: int
    start_header: int | None = None
    bos: int | None = None
    end_header: int | None = None

    @property
    def beginning(self) -> list[int]:
        """Tokens at the beginning of a text."""
        return [] if self.bos is None else [self.bos]

    @property
    def highest(self) -> int:
        return max(token for token in astuple(self)[1:] if token is not None)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """The special tokens of a tokenizer.

    Raises:
        ModelError: the tokenizer lacks one of them (a base model's may lack the headers and the end of turn).
    """
    form = format_of(tokenizer)
    if lacking := missing(form, tokenizer):
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} lacks {', '.join(lacking)}, which the chat "
            f"format ({form.name}) needs. Use the instruct model's tokenizer, or add them to the vocabulary."
        )
    ids = {field: tokenizer.convert_tokens_to_ids(name) for field, name in form.special.items()}
    return SpecialTokens(form, **ids)


def check_tokens(name: str, config: Any, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """The special tokens of a model and its tokenizer, which must agree about them.

    Args:
        name: name of the model, for the message.

    Raises:
        ModelError: they do not agree, or the model has no row for one of them.
    """
    special = special_tokens(tokenizer)
    if config.mask_token_id != special.mask or config.eos_token_id not in (special.eos, special.eot):
        raise ModelError(
            f"{name}: config.json has mask_token_id = {config.mask_token_id} and eos_token_id = "
            f"{config.eos_token_id}, but its tokenizer has {special.mask} and {special.eos}. They belong to "
            "different models."
        )
    if special.highest >= config.vocab_size:
        raise ModelError(
            f"{name}: config.json has vocab_size = {config.vocab_size}, but its tokenizer has token {special.highest}. "
            "They belong to different models."
        )
    return special


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Plain text as tokens. Nothing is added, and special tokens in the text are not interpreted.

    Raises:
        TextError: it contains an unpaired surrogate, which is not a character.
    """
    if half := HALF.search(text):
        around = text[max(0, half.start() - 20) : half.start() + 20].strip()
        raise TextError(
            f"the text {around!a} contains an unpaired surrogate, U+{ord(half[0]):04X}, which is not a character. "
            "Write the whole character, or remove it."
        )
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], max_tokens: int | None = None
) -> list[int]:
    """Messages (`role`, `content`) and the assistant's header, as tokens.

    Args:
        max_tokens: if the prompt would be longer, its oldest turns are dropped, as in `recent_messages`. Then the ends
            of contents are cut, but the question keeps half of the room if a system message needs the rest. Headers are
            kept.

    Raises:
        TextError: a text contains an unpaired surrogate.
    """
    special = special_tokens(tokenizer)
    if max_tokens is None:
        return _join(tokenizer, special, messages, _contents(tokenizer, special, messages))
    messages = recent_messages(tokenizer, messages, max_tokens)
    contents = _contents(tokenizer, special, messages)
    room = max(0, max_tokens - len(_join(tokenizer, special, messages, [[] for _ in messages])))
    if sum(map(len, contents)) <= room or not contents:
        return _join(tokenizer, special, messages, contents)
    *before, question = contents
    question = question[: max(room - sum(map(len, before)), room // 2)]
    left = room - len(question)
    for place, content in enumerate(before):
        before[place] = content[:left]
        left -= len(before[place])
    return _join(tokenizer, special, messages, [*before, question])


def recent_messages(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], max_tokens: int) -> list[Message]:
    """The messages without their oldest turns, so that their prompt has at most `max_tokens`.

    A turn begins with a message of the user. System messages at the start and the last message are kept, even if they
    alone are too long.
    """
    start = 0
    while start < len(messages) - 1 and messages[start]["role"] == "system":
        start += 1
    system, rest = list(messages[:start]), list(messages[start:])
    begins = [0, *(place for place, message in enumerate(rest) if place and message["role"] == "user")]
    for begin in begins:
        kept = system + rest[begin:]
        if len(encode_prompt(tokenizer, kept)) <= max_tokens:
            return kept
    return system + rest[-1:]


def recent_turns(messages: Sequence[Message], turns: int | None) -> list[Message]:
    """The messages with only the last `turns` turns before the question, or all of them if it is None.

    System messages at the start are kept. Messages after the last one of the user belong to the turn of the question.
    """
    begins = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if turns is None or len(begins) <= turns + 1:
        return list(messages)
    system = next(place for place, message in enumerate(messages) if message["role"] != "system")
    return [*messages[:system], *messages[begins[-turns - 1] :]]


def check_messages(messages: Sequence[Any]) -> None:
    """Checks that a value is a conversation that can be answered.

    Raises:
        TextError: a message lacks its role or its content, or there is no message.
    """
    if not messages:
        raise TextError("a conversation has no message. Give at least a question.")
    for message in messages:
        if not isinstance(message, Mapping) or not all(isinstance(message.get(n), str) for n in ("role", "content")):
            raise TextError(
                f"{ascii(message)[:80]} is not a message. A message has a `role` and a `content`, both text."
            )


def _contents(
    tokenizer: PreTrainedTokenizerBase, special: SpecialTokens, messages: Sequence[Message]
) -> list[list[int]]:
    """The content of each message as tokens, with the line break that follows its header."""
    before = special.form.before_content
    return [encode_text(tokenizer, before + message["content"].strip()) for message in messages]


def encode_header(tokenizer: PreTrainedTokenizerBase, special: SpecialTokens, role: str) -> list[int]:
    """The header of a message with this role as tokens, up to the line break before its content."""
    role = special.form.roles.get(role, role)
    if special.form.tags:
        return [
            token
            for piece in (special.form.start_header, role, special.form.end_header)
            for token in _token_or_text(tokenizer, piece)
        ]
    closed = [] if special.end_header is None else [special.end_header]
    assert special.start_header is not None
    return [special.start_header, *encode_text(tokenizer, role), *closed]


def _token_or_text(tokenizer: PreTrainedTokenizerBase, piece: str | None) -> list[int]:
    """A piece of a header as its token, if the tokenizer has one, or else as text."""
    if piece in tokenizer.get_added_vocab():
        return [tokenizer.convert_tokens_to_ids(piece)]
    return encode_text(tokenizer, piece or "")


def encode_turn_end(tokenizer: PreTrainedTokenizerBase, special: SpecialTokens) -> list[int]:
    """Tokens at the end of a complete message."""
    after = special.form.after_turn
    return [special.eot, *(encode_text(tokenizer, after) if after else [])]


def _join(
    tokenizer: PreTrainedTokenizerBase,
    special: SpecialTokens,
    messages: Sequence[Message],
    contents: Sequence[Sequence[int]],
) -> list[int]:
    ids, end = special.beginning, encode_turn_end(tokenizer, special)
    for message, content in zip(messages, contents, strict=True):
        ids += [*encode_header(tokenizer, special, message["role"]), *content, *end]
    opened = encode_text(tokenizer, special.form.before_content)
    return [*ids, *encode_header(tokenizer, special, "assistant"), *opened]


def encode_answer(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """An answer and the end of its turn as tokens, or nothing for an empty answer."""
    ids = encode_text(tokenizer, answer.strip())
    return [*ids, special_tokens(tokenizer).eot] if ids else []


def decode_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a decoded canvas, up to its first end token."""
    special = special_tokens(tokenizer)
    ends = [index for index, token in enumerate(ids) if token in (special.eot, special.eos)]
    return tokenizer.decode(list(ids[: ends[0]] if ends else ids), skip_special_tokens=True).strip()
