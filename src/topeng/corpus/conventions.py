"""Which columns a row is made of: pairs, Alpaca, ShareGPT, OpenAI messages, or your own mapping.

A convention names columns by their role. `instruction`, `input` and `output` are texts (the last two may also be lists
of messages), `system` is a text, `history` a list of earlier questions and answers, and `messages` a conversation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from topeng.corpus.json_rows import Record
from topeng.corpus.schema import COLUMNS, MESSAGES, RIGHT, TEXT_COLUMNS
from topeng.errors import CorpusError

ROLES = ("instruction", "input", "output", "system", "history", "messages")
ABOUT = tuple(name for name in COLUMNS if name not in TEXT_COLUMNS)
"""Columns that say where a row comes from."""
CONVENTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    ("input and output", {"input": "input", "output": "output"}),
    ("Alpaca", {"instruction": "instruction", "output": "output"}),
    ("ShareGPT conversations", {"messages": "conversations"}),
    ("OpenAI messages", {"messages": "messages"}),
    ("prompt and completion", {"input": "prompt", "output": "completion"}),
)
BESIDE = {"Alpaca": ("input", "history", "system")}
"""Roles that are read from a column of the same name, if there is one. `system` may be part of any convention."""
PLAIN = "text"
"""The column of plain text, which may be the prompt if there is no other column."""
OURS = {"input": "input", "output": "output", "messages": MESSAGES}
"""Columns of the tables that Topeng writes: messages, and the same as text."""
SPOKEN = {*ROLES, "prompt", "completion", "conversations"}
"""Columns with parts of a conversation. If one would be ignored, that is an error, unless `columns` is given."""


@dataclass(frozen=True)
class Reading:
    """How a recipe wants its files read.

    Attributes:
        columns: columns by role, or by a name in `ABOUT`. If empty, the column names of a file decide.
        separator: separator of CSV files. If None, their headers decide.
        right_answers: `column`, `all`, or a boolean column that says which rows have one right answer.
        section: section of the recipe, for messages.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    right_answers: str = "column"
    section: str = "corpus"


@dataclass(frozen=True)
class Convention:
    """The convention of a file.

    Attributes:
        name: name for people.
        roles: column of each role. An optional one (`BESIDE`) is added when a row first has it.
        about: column of each name in `ABOUT` that the file has.
        right: column that says whether there is one right answer.
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
    """The convention of a file, from its columns and what the recipe says about them.

    Args:
        answers: whether rows need an answer; prompts do not.

    Raises:
        CorpusError: no convention fits, several do, or a part of the conversation would be ignored.
    """
    if reading.columns:
        label, roles, about = _own(name, columns, reading, answers)
    else:
        label, roles = _known(name, columns, reading, answers)
        about = {column: column for column in ABOUT if column in columns}
        if label == CONVENTIONS[0][0] and answers and about and len(about) < len(ABOUT):
            lacking = [column for column in ABOUT if column not in about]
            raise CorpusError(
                f"{name} has no column {' and no column '.join(lacking)}. Besides {' and '.join(TEXT_COLUMNS)} it "
                f"needs all of {', '.join(ABOUT)}, or none, unless {reading.section}.columns names the columns to read."
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
    """Columns that earlier records did not have and that are not read. Optional roles among them are added.

    Raises:
        CorpusError: one of them contains a part of the conversation.
    """
    may_be = (
        {} if reading.columns else {role: role for role in (*BESIDE.get(known.name, ()), "system") if role in record}
    )
    known.roles.update(may_be | known.roles)
    seen = known.used() | set(known.unread)
    new = [column for column in record if column not in seen]
    _check_ignored(f"{name}, {place}", new, known, reading, answers)
    return new


def _check_ignored(name: str, unread: Sequence[str], found: Convention, reading: Reading, answers: bool) -> None:
    for column in unread if not reading.columns else ():
        if column in SPOKEN and (answers or column not in ("output", "completion")):
            raise CorpusError(
                f"{name} has a column {column!r}, which would be ignored next to {', '.join(found.roles.values())}. "
                f"{_remedy(reading, found.roles)} Or remove the column."
            )


def _remedy(reading: Reading, roles: Mapping[str, str]) -> str:
    """How to name columns. For prompts there is no option for it."""
    if not reading.section:
        return "Keep the columns of one layout (input, or instruction and input, or messages)."
    example = ", ".join(f"{role}: {column}" for role, column in roles.items())
    return f"Say which columns to read, for example --{reading.section}.columns '{{{example}}}'."


def _own(
    name: str, columns: Sequence[str], reading: Reading, answers: bool
) -> tuple[str, dict[str, str], dict[str, str]]:
    option = f"{reading.section}.columns"
    for role, column in reading.columns.items():
        if role not in (*ROLES, *ABOUT):
            raise CorpusError(f"{option} names {role!r}, which is not one of {', '.join((*ROLES, *ABOUT))}")
        if column not in columns:
            raise CorpusError(
                f"{name} has no column {column!r}, which {option} names. Its columns are {', '.join(columns)}."
            )
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
            f"{name} could be {' or '.join(label for label, _ in wide)} by its columns ({listed}). "
            f"{_remedy(reading, wide[0][1])}"
        )
    lacking = [column for column in TEXT_COLUMNS if column not in there and (answers or column == "input")]
    example = columns if len(columns) == 2 else ("question", "answer")
    raise CorpusError(
        f"{name} has no column {' and no column '.join(lacking or TEXT_COLUMNS)}, nor those of another known layout. "
        f"Its columns are {listed}. {_remedy(reading, dict(zip(TEXT_COLUMNS, example, strict=True)))}"
    )


def _right_column(name: str, columns: Sequence[str], reading: Reading) -> str | None:
    if reading.right_answers in ("column", "all"):
        return RIGHT if RIGHT in columns else None
    if reading.right_answers not in columns:
        raise CorpusError(
            f"{name} has no column {reading.right_answers!r}, which {reading.section}.right_answers names. Its "
            f"columns are {', '.join(columns)}."
        )
    return reading.right_answers
