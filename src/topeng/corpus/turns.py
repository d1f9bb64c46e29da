"""The content of a row, as a question and its answer or as the messages of a conversation."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from topeng.corpus.json_rows import Record, kind_of
from topeng.corpus.schema import TEXT_COLUMNS

SPEAKERS = dict.fromkeys(("user", "human", "prompter"), "user")
SPEAKERS |= dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai"), "assistant")
SPEAKERS |= dict.fromkeys(("system", "developer"), "system")
"""Names of roles in conversations, in lower case."""
EMPTY = "empty input or output"


class Turn(NamedTuple):
    """The content of a row. `problem` says why it cannot be used."""

    problem: str | None
    input: str = ""
    output: str = ""
    messages: list[dict[str, str]] | None = None


def turn(record: Record, roles: Mapping[str, str], answers: bool = True) -> Turn:
    """The content of a record, read with the roles of a convention. Without `answers`, the last answer is left out."""
    values = {role: record.get(column) for role, column in roles.items()}
    for role in ("instruction", "input", "output", "system"):
        value = values.get(role)
        if value is not None and not isinstance(value, str) and not (role in TEXT_COLUMNS and _is_listed(value)):
            return Turn(f"`{roles[role]}` is {kind_of(value)}, not text")
    for column in roles.values():
        if column not in record and column not in ("system", "history", "input"):
            return Turn(f"no `{column}`")
    try:
        return _turn(values, answers)
    except ValueError as error:
        return Turn(str(error))


def _is_listed(value: Any) -> bool:
    """Whether a prompt or a completion is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(message, dict) for message in value)


def _turn(values: Mapping[str, Any], answers: bool) -> Turn:
    system, said = values.get("system"), _parsed(values.get("messages"))
    if said is None:
        given, output = values.get("input"), values.get("output")
        if isinstance(given, list) or isinstance(output, list):
            said = [*_messages(given, "user"), *(_messages(output, "assistant") if answers else [])]
        else:
            asked = "\n\n".join(text for text in (values.get("instruction"), given) if text)
            if not system and not values.get("history"):
                return Turn(None, asked, output or "")
            if not asked or (answers and not output):
                return Turn(EMPTY)
            said = [*_history(values.get("history")), {"role": "user", "content": asked}]
            said += [{"role": "assistant", "content": output}] if answers else []
    messages = _messages(said, "user")
    if system:
        if messages and messages[0]["role"] == "system":
            raise ValueError("a system message both in the conversation and in its own column")
        messages = [{"role": "system", "content": system}, *messages]
    return _conversation(messages, answers)


def _conversation(messages: list[dict[str, str]], answers: bool) -> Turn:
    spoken = [message["role"] for message in messages]
    if spoken and not answers and spoken[-1] == "assistant":
        messages, spoken = messages[:-1], spoken[:-1]
    first = 1 if spoken[:1] == ["system"] else 0
    if not spoken[first:]:
        return Turn("a conversation without messages")
    if "system" in spoken[first:]:
        return Turn("a system message that is not the first")
    if spoken[first] != "user":
        return Turn("a conversation that begins with an answer")
    if spoken[-1] != ("assistant" if answers else "user"):
        return Turn(
            "a conversation that does not end with an answer" if answers else "a conversation without a question"
        )
    if not all(message["content"].strip() for message in messages):
        return Turn("a message without text")
    before = messages[:-1] if answers else messages
    given = "\n\n".join(message["content"] for message in before)
    plain = spoken == (["user", "assistant"] if answers else ["user"])
    return Turn(None, given, messages[-1]["content"] if answers else "", None if plain else messages)


def _parsed(value: Any) -> Any:
    """A conversation from a text cell that contains JSON."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        found = json.loads(value)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a message contains an unpaired surrogate") from None
    except ValueError:
        raise ValueError("`messages` is text, not a list of messages in JSON") from None
    return found


def _messages(value: Any, speaker: str) -> list[dict[str, str]]:
    """Messages as `role` and `content`, from any of the common notations. A plain text is one message of the speaker.

    Raises:
        ValueError: it is not a conversation of texts.
    """
    if isinstance(value, str):
        return [{"role": speaker, "content": value}]
    if isinstance(value, dict) and all(isinstance(part, list) for part in value.values()):
        value = [dict(zip(value, parts, strict=True)) for parts in zip(*value.values(), strict=True)]
    if not isinstance(value, list):
        raise ValueError(f"a conversation that is {kind_of(value)}, not a list of messages")
    if odd := [message for message in value if not isinstance(message, dict)]:
        raise ValueError(f"a message that is {kind_of(odd[0])}, not an object with a role and a content")
    found = [_message(message) for message in value]
    return [message for message in found if message["content"] or message["role"] != "system"]


def _message(message: Mapping[str, Any]) -> dict[str, str]:
    speaker = message.get("role") or message.get("from")
    content = message.get("content") if message.get("content") is not None else message.get("value")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    role = SPEAKERS.get(str(speaker).strip().lower())
    if role is None:
        raise ValueError(f"a message of the role {speaker!r}" if speaker else "a message without a role")
    if any(message.get(name) for name in ("tool_calls", "function_call")):
        raise ValueError("a message that calls a tool")
    if message.get("weight") == 0:
        raise ValueError("a message of weight 0, which cannot be left out of training")
    if not isinstance(content, str):
        raise ValueError(
            "a message without text" if content is None else f"a message of {kind_of(content)}, not of text"
        )
    return {"role": role, "content": content}


def _history(value: Any) -> list[dict[str, str]]:
    if value is None:
        return []
    pairs = value if isinstance(value, list) else [value]
    if not all(isinstance(pair, list) and [type(text) for text in pair] == [str, str] for pair in pairs):
        raise ValueError("`history` is not a list of pairs of texts")
    roles: Iterable[str] = ("user", "assistant")
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]
