"""Which columns a row is made of, as people keep them: pairs, Alpaca, ShareGPT, OpenAI messages, or a mapping of one's own.

A convention names columns by their role: `instruction`, `input` and `output` are texts (the two last may be lists of
messages), `system` is a text, `history` a list of earlier questions and answers, `messages` a conversation.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from topeng.corpus.formats import Record, kind_of
from topeng.corpus.schema import COLUMNS, MESSAGES, RIGHT, TEXT_COLUMNS
from topeng.errors import CorpusError

ROLES = ("instruction", "input", "output", "system", "history", "messages")
ABOUT = tuple(name for name in COLUMNS if name not in TEXT_COLUMNS)
"""Columns that say where a row is from."""
CONVENTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    ("input and output", {"input": "input", "output": "output"}),
    ("Alpaca", {"instruction": "instruction", "output": "output"}),
    ("ShareGPT conversations", {"messages": "conversations"}),
    ("OpenAI messages", {"messages": "messages"}),
    ("prompt and completion", {"input": "prompt", "output": "completion"}),
)
BESIDE = {"Alpaca": ("input", "history", "system")}
"""Roles that a convention takes from the columns of their names, where they are there; `system` is one of each."""
PLAIN = "text"
"""The column of plain text, which may be a prompt where nothing else is."""
OURS = {"input": "input", "output": "output", "messages": MESSAGES}
"""Of the tables that Topeng itself leaves: messages stand beside the texts that they are."""
SPOKEN = {*ROLES, "prompt", "completion", "conversations"}
"""Columns that somebody says something in: one that is not read is an error unless `columns` says which are."""
SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "developer": "system"}
EMPTY = "empty input or output"


@dataclass(frozen=True)
class Reading:
    """How a recipe wants its files read.

    Attributes:
        columns: by role, or by a name of `ABOUT`; without them a file's own columns tell.
        separator: of CSV files; without it their headers tell.
        right_answers: `column`, `all`, or the boolean column that says which rows have one right answer.
        section: of the recipe, for messages.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    right_answers: str = "column"
    section: str = "corpus"


class Turn(NamedTuple):
    """What a row says; `problem` is why it cannot be used."""

    problem: str | None
    input: str = ""
    output: str = ""
    messages: list[dict[str, str]] | None = None


@dataclass(frozen=True)
class Convention:
    """The convention of a file.

    Attributes:
        name: for people.
        roles: the column of each role; one that may be there (`BESIDE`) is added where a later row first has it.
        about: the column of each of `ABOUT` that is there.
        right: the column that says whether there is one right answer.
        unread: columns that are ignored.
    """

    name: str
    roles: dict[str, str]
    about: dict[str, str]
    right: str | None
    unread: list[str]

    @property
    def plain(self) -> bool:
        """Whether a row is two texts and nothing else."""
        return set(self.roles) == set(TEXT_COLUMNS)

    def used(self) -> set[str]:
        return {*self.roles.values(), *self.about.values(), *([self.right] if self.right else [])}


def find(name: str, columns: Sequence[str], reading: Reading, answers: bool = True) -> Convention:
    """The convention of a file, from its columns and what the recipe says of them.

    Args:
        answers: whether rows need one; the prompts of a file do not.

    Raises:
        CorpusError: none fits, several do, or one would ignore what somebody says.
    """
    if reading.columns:
        label, roles, about = _own(name, columns, reading, answers)
    else:
        label, roles = _known(name, columns, reading, answers)
        about = {column: column for column in ABOUT if column in columns}
        if label == CONVENTIONS[0][0] and answers and about and len(about) < len(ABOUT):
            lacking = [column for column in ABOUT if column not in about]
            raise CorpusError(
                f"{name} has no column {' and no column '.join(lacking)}: beside {' and '.join(TEXT_COLUMNS)} stand all "
                f"five of {', '.join(ABOUT)}, or none, unless {reading.section}.columns names those to be read"
            )
        label = "Cendol's seven columns" if about and label == CONVENTIONS[0][0] else label
    right = _right_column(name, columns, reading)
    found = Convention(label, roles, about, right, [])
    unread = [column for column in columns if column not in found.used()]
    _check_ignored(name, unread, found, reading, answers)
    return Convention(label, roles, about, right, unread)


def new_columns(
    name: str, place: str, record: Record, known: Convention, reading: Reading, answers: bool = True
) -> list[str]:
    """Columns that a record has and those before it had not, and that are not read; what may be there is.

    Raises:
        CorpusError: somebody says something in one of them.
    """
    may_be = {} if reading.columns else {role: role for role in (*BESIDE.get(known.name, ()), "system") if role in record}
    known.roles.update(may_be | known.roles)
    seen = known.used() | set(known.unread)
    new = [column for column in record if column not in seen]
    _check_ignored(f"{name}, {place}", new, known, reading, answers)
    return new


def _check_ignored(name: str, unread: Sequence[str], found: Convention, reading: Reading, answers: bool) -> None:
    for column in unread if not reading.columns else ():
        if column in SPOKEN and (answers or column not in ("output", "completion")):
            raise CorpusError(
                f"{name} has a column {column!r}, which would be ignored beside {', '.join(found.roles.values())}: "
                f"{_remedy(reading, found.roles, 'say which to read')}, or remove it"
            )


def _remedy(reading: Reading, roles: Mapping[str, str], what: str) -> str:
    """How to name columns; prompts have no option for it."""
    if not reading.section:
        return "keep the columns of one convention (input, or instruction and input, or messages)"
    example = ", ".join(f"{role}: {column}" for role, column in roles.items())
    return f"{what}, as by --{reading.section}.columns '{{{example}}}'"


def _own(
    name: str, columns: Sequence[str], reading: Reading, answers: bool
) -> tuple[str, dict[str, str], dict[str, str]]:
    option = f"{reading.section}.columns"
    for role, column in reading.columns.items():
        if role not in (*ROLES, *ABOUT):
            raise CorpusError(f"{option} names {role!r}, which is none of {', '.join((*ROLES, *ABOUT))}")
        if column not in columns:
            raise CorpusError(f"{name} has no column {column!r}, which {option} names: it has {', '.join(columns)}")
    roles = {role: column for role, column in reading.columns.items() if role in ROLES}
    if "messages" not in roles and not ({"input", "instruction"} & set(roles) and ("output" in roles or not answers)):
        raise CorpusError(f"{option} must name `messages`, or `output` with `input` or `instruction`")
    named = {about: about for about in ABOUT if about in columns}
    about = named | {about: column for about, column in reading.columns.items() if about in ABOUT}
    return f"columns of {option}", roles, about


def _known(name: str, columns: Sequence[str], reading: Reading, answers: bool) -> tuple[str, dict[str, str]]:
    there = set(columns)
    if {*OURS.values(), RIGHT} <= there:
        return "Topeng's own", dict(OURS)
    fits: list[tuple[str, dict[str, str]]] = []
    for label, required in CONVENTIONS:
        needed = {role: column for role, column in required.items() if answers or role != "output"}
        if set(needed.values()) <= there:
            beside = {role: role for role in (*BESIDE.get(label, ()), "system") if role in there}
            roles = needed | beside
            fits.append((label, {role: roles[role] for role in ROLES if role in roles}))
    if not fits and not answers and PLAIN in there:
        return "lines of text", {"input": PLAIN}
    wide = [fit for fit in fits if not any(set(fit[1].values()) < set(other[1].values()) for other in fits)]
    if len(wide) == 1:
        return wide[0]
    listed = ", ".join(columns) or "none"
    if wide:
        raise CorpusError(
            f"{name} may be {' or '.join(label for label, _ in wide)} by its columns ({listed}): "
            f"{_remedy(reading, wide[0][1], 'say which to read')}"
        )
    lacking = [column for column in TEXT_COLUMNS if column not in there and (answers or column == "input")]
    raise CorpusError(
        f"{name} has no column {' and no column '.join(lacking or TEXT_COLUMNS)}, nor any other convention's: its "
        f"columns are {listed}; {_remedy(reading, {'input': 'question', 'output': 'answer'}, 'name yours')}"
    )


def _right_column(name: str, columns: Sequence[str], reading: Reading) -> str | None:
    if reading.right_answers in ("column", "all"):
        return RIGHT if RIGHT in columns else None
    if reading.right_answers not in columns:
        raise CorpusError(
            f"{name} has no column {reading.right_answers!r}, which {reading.section}.right_answers names: it has "
            f"{', '.join(columns)}"
        )
    return reading.right_answers


def turn(record: Record, roles: Mapping[str, str], answers: bool = True) -> Turn:
    """What a record says, under a convention's roles; without `answers`, what stands before the last one."""
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
            raise ValueError("a system message in the conversation and one beside it")
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
    """A conversation that stands in a cell of text, as JSON."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        found = json.loads(value)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a message holds half of a surrogate pair") from None
    except ValueError:
        raise ValueError("`messages` is text, not a list of messages in JSON") from None
    return found


def _messages(value: Any, speaker: str) -> list[dict[str, str]]:
    """Messages as `role` and `content`, from any of the ways to write them; a text is one of the speaker's.

    Raises:
        ValueError: what they hold is not a conversation of texts.
    """
    if isinstance(value, str):
        return [{"role": speaker, "content": value}]
    if isinstance(value, dict) and all(isinstance(part, list) for part in value.values()):
        value = [dict(zip(value, parts, strict=True)) for parts in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise ValueError(f"`messages` is {kind_of(value)}, not a list of messages")
    found = [_message(message) for message in value]
    return [message for message in found if message["content"] or message["role"] != "system"]


def _message(message: Mapping[str, Any]) -> dict[str, str]:
    speaker = message.get("role") or message.get("from")
    content = message.get("content") if message.get("content") is not None else message.get("value")
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "".join(str(part.get("text", "")) for part in content)
    role = SPEAKERS.get(str(speaker), speaker)
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"a message of the role {speaker!r}" if speaker else "a message without a role")
    if any(message.get(name) for name in ("tool_calls", "function_call")):
        raise ValueError("a message that calls a tool")
    if message.get("weight") == 0:
        raise ValueError("a message of weight 0, which would be trained on all the same")
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
        raise ValueError("`history` is no list of pairs of texts")
    roles: Iterable[str] = ("user", "assistant")
    return [{"role": role, "content": text} for pair in pairs for role, text in zip(roles, pair, strict=True)]
