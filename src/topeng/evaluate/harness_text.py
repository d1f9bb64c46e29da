"""Turns texts of lm-evaluation-harness into tokens.

The harness passes strings: a context, which may be a chat in the format of `text.chat`, and a continuation. A chat is
put together piece by piece, as in `encode_prompt`, and the beginning of the assistant's turn is tokenized separately.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

from topeng.text.chat import encode_header, encode_prompt, encode_text, encode_turn_end, special_tokens
from topeng.text.formats import LLADA

BEGINNING = f"{LLADA.bos}{LLADA.start_header}"
"""The format of chats as text, which is always LLaDA's, whatever their tokens will be."""
HEADER = re.escape(LLADA.start_header) + r"(\w+)" + re.escape(str(LLADA.end_header)) + "\n\n"
EOT = re.escape(LLADA.eot)
TURN = re.compile(rf"{HEADER}(.*?)(?:({EOT})(?={HEADER}|\Z)|\Z)", re.DOTALL)
"""Role, content, and the end of turn of a closed message. Text without a complete header after it stays text."""


def render_chat(messages: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """A chat as text. Without the generation prompt, a last message of the assistant is left open to be continued."""
    turns = [_turn(message) + LLADA.eot for message in messages]
    if add_generation_prompt:
        turns.append(_turn({"role": "assistant", "content": ""}))
    elif messages[-1]["role"] == "assistant":
        turns[-1] = _turn(messages[-1])
    return f"{LLADA.bos}{''.join(turns)}"


def _turn(message: dict[str, str]) -> str:
    return f"{LLADA.start_header}{message['role']}{LLADA.end_header}\n\n{message['content'].strip()}"


def split_chat(tokenizer: Any, context: str) -> tuple[list[int], str]:
    """The tokens of a chat up to the assistant's open turn, and the text of that turn, which is all of a plain text."""
    if not context.startswith(BEGINNING):
        return [], context
    special = special_tokens(tokenizer)
    before, ids, opened = special.form.before_content, special.beginning, ""
    for match in TURN.finditer(context):
        role, content, eot = match[1], match[2], match[3]
        ids += encode_header(tokenizer, special, role)
        if eot:
            ids += [*encode_text(tokenizer, before + content), *encode_turn_end(tokenizer, special)]
        else:
            ids += encode_text(tokenizer, before)
            opened = content
    return ids, opened


def encode_context(tokenizer: Any, context: str) -> list[int]:
    """A context, plain text or chat, as tokens. Nothing is added."""
    ids, opened = split_chat(tokenizer, context)
    return ids + encode_text(tokenizer, opened)


def cut_context(tokenizer: Any, context: str, ids: Sequence[int], room: int) -> list[int]:
    """The part of a context that fits. A chat is cut as in training, which keeps its system message and question. Plain
    text keeps its end, as in the harness.

    Args:
        ids: tokens of the context, with the content of the assistant's open turn.
    """
    if len(ids) > room and (chat := split_chat(tokenizer, context)[0]):
        *closed, last = TURN.finditer(context)
        messages = [{"role": turn[1], "content": turn[2]} for turn in closed]
        if messages and last[1] == "assistant" and last[3] is None:
            opened = ids[len(chat) :]
            ids = [*encode_prompt(tokenizer, messages, max_tokens=max(0, room - len(opened))), *opened]
    return list(ids[max(0, len(ids) - room) :])


def encode_pair(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """A context and its continuation as tokens.

    They are tokenized together and then divided, as the harness does for causal models. Spaces at the end of the
    context belong to the continuation. If a token would span both, the continuation is tokenized separately.
    """
    ids, opened = split_chat(tokenizer, context)
    text = opened.rstrip()
    continuation = opened[len(text) :] + continuation
    before, whole = encode_text(tokenizer, text), encode_text(tokenizer, text + continuation)
    if whole[: len(before)] == before:
        return ids + before, whole[len(before) :]
    return ids + before, encode_text(tokenizer, continuation)


def cut_windows(ids: Sequence[int], length: int) -> list[tuple[list[int], list[int]]]:
    """Divides a text into pairs of context and scored text, so that each token is scored once.

    All windows are scored completely, except for the last one, which begins with earlier text, as in the harness.
    """
    starts = range(0, len(ids), length)
    return [(list(ids[max(0, len(ids) - length) : start]), list(ids[start : start + length])) for start in starts]


def content_id(*parts: object) -> int:
    """63 bits that identify a request, so that its noise does not depend on its place or on other requests."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
