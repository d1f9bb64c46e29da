"""Rows as people keep them, and what is done with each."""

import json

import pytest

from topeng.corpus import readers
from topeng.corpus.conventions import Reading
from topeng.corpus.ingest import ingest, take_all
from topeng.corpus.turns import Turn, turn
from topeng.errors import CorpusError
from topeng.text.rows import read_prompts, read_rows

ASKED = [{"role": "user", "content": "Apa?"}, {"role": "assistant", "content": "Ini."}]
SYSTEM = {"role": "system", "content": "Singkat."}
AGAIN = [{"role": "user", "content": "Lalu?"}, {"role": "assistant", "content": "Itu."}]
LONG = [SYSTEM, *ASKED, *AGAIN]


def shared_gpt(messages):
    return [
        {"from": {"user": "human", "assistant": "gpt"}.get(m["role"], m["role"]), "value": m["content"]}
        for m in messages
    ]


def read(tmp_path, rows, name="a.jsonl", **reading):
    (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = readers.open_source(str(tmp_path / name), Reading(**reading))
    return source.convention, [row for table in source.tables for row in table.to_pylist()]


KNOWN = [
    ("input and output", {"input": "Apa?", "output": "Ini."}, None),
    ("Alpaca", {"instruction": "Apa?", "input": "", "output": "Ini."}, None),
    ("Alpaca", {"instruction": "Apa?", "output": "Ini."}, None),
    (
        "Alpaca",
        {"instruction": "Lalu?", "input": None, "output": "Itu.", "system": "Singkat.", "history": [["Apa?", "Ini."]]},
        LONG,
    ),
    ("OpenAI messages", {"messages": ASKED}, None),
    ("OpenAI messages", {"messages": LONG}, LONG),
    ("OpenAI messages", {"messages": json.dumps(LONG)}, LONG),
    (
        "OpenAI messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Apa?"}]}, ASKED[1]]},
        None,
    ),
    ("OpenAI messages", {"messages": [{"role": "developer", "content": "Singkat."}, *LONG[1:]]}, LONG),
    ("ShareGPT conversations", {"conversations": shared_gpt(LONG)}, LONG),
    ("ShareGPT conversations", {"conversations": shared_gpt(LONG[1:]), "system": "Singkat."}, LONG),
    ("ShareGPT conversations", {"conversations": {"from": ["human", "gpt"], "value": ["Apa?", "Ini."]}}, None),
    ("prompt and completion", {"prompt": "Apa?", "completion": "Ini."}, None),
    ("prompt and completion", {"prompt": LONG[:-1], "completion": LONG[-1:]}, LONG),
    ("input and output", {"input": "Apa?", "output": "Ini.", "system": "Singkat."}, [SYSTEM, *ASKED]),
]


@pytest.mark.parametrize(("name", "row", "messages"), KNOWN)
def test_a_convention_is_found_and_its_rows_are_turns(tmp_path, name, row, messages):
    found, (read_row,) = read(tmp_path, [row])
    assert found.name == name and not found.unread and read_row["problem"] is None
    assert (json.loads(read_row["messages"]) if read_row["messages"] else None) == messages
    whole = messages or ASKED
    assert read_row["output"] == whole[-1]["content"]
    assert read_row["input"] == "\n\n".join(message["content"] for message in whole[:-1])


@pytest.mark.parametrize(("name", "row", "messages"), KNOWN)
def test_the_prompt_of_a_row_is_what_stands_before_its_answer(tmp_path, name, row, messages):
    (tmp_path / "a.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (prompt,) = read_prompts(tmp_path / "a.jsonl")
    assert prompt == (messages[:-1] if messages else "Apa?")


def test_alpaca_s_material_follows_its_instruction():
    roles = {"instruction": "instruction", "input": "input", "output": "output"}
    assert turn({"instruction": "Ringkas.", "input": "Teks.", "output": "Ya."}, roles).input == "Ringkas.\n\nTeks."


PROBLEMS = [
    ({"messages": []}, "a conversation without messages"),
    ({"messages": None}, "empty input or output"),
    ({"messages": "Apa?"}, "`messages` is text, not a list of messages in JSON"),
    ({"messages": {"a": 1}}, "a conversation that is an object, not a list of messages"),
    ({"messages": ["Apa?"]}, "a message that is text, not an object with a role and a content"),
    ({"messages": [["human", "Apa?"]]}, "a message that is a list, not an object with a role and a content"),
    ({"messages": [*ASKED, None]}, "a message that is nothing, not an object with a role and a content"),
    ({"messages": ASKED[:1]}, "a conversation that does not end with an answer"),
    ({"messages": ASKED[1:]}, "a conversation that begins with an answer"),
    ({"messages": [*ASKED, SYSTEM, *AGAIN]}, "a system message that is not the first"),
    ({"messages": [{"role": "user", "content": " "}, ASKED[1]]}, "a message without text"),
    ({"messages": [{"role": "user"}, ASKED[1]]}, "a message without text"),
    ({"messages": [{"role": "user", "content": 3}, ASKED[1]]}, "a message of a number, not of text"),
    ({"messages": [ASKED[0], {"role": "tool", "content": "3"}, ASKED[1]]}, "a message of the role 'tool'"),
    (
        {"messages": [ASKED[0], {**ASKED[1], "weight": 0}]},
        "a message of weight 0, which cannot be left out of training",
    ),
    ({"messages": [ASKED[0], {**ASKED[1], "tool_calls": [{"id": 1}]}]}, "a message that calls a tool"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, ASKED[1]]},
        "a message of a list, not of text",
    ),
]


@pytest.mark.parametrize(("row", "problem"), PROBLEMS)
def test_a_conversation_that_cannot_be_used_is_dropped_with_its_reason(tmp_path, row, problem):
    (tmp_path / "a.jsonl").write_text("\n" + json.dumps({"messages": LONG}) + "\n" + json.dumps(row), encoding="utf-8")
    source = ingest([str(tmp_path / "a.jsonl")], tmp_path / "out")
    assert source["dropped"] == {problem: 1} and source["first_dropped"] == {problem: "a.jsonl, line 3"}
    assert take_all(tmp_path / "out").num_rows == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "a", "answer": "b"},
            r"Its columns are question, answer. Say which columns to read, for example --corpus.columns '\{input: ",
        ),
        (
            {"instruction": "a", "prompt": "c", "completion": "b"},
            "column 'instruction', which would be ignored next to prompt",
        ),
        ({"input": "a", "output": "b", "conversations": []}, "could be input and output or ShareGPT conversations"),
        (
            {"messages": LONG, "prompt": "a"},
            "column 'prompt', which would be ignored next to messages. Say which columns to read",
        ),
    ],
)
def test_what_would_be_ignored_is_an_error(tmp_path, row, message):
    with pytest.raises(CorpusError, match=message):
        read(tmp_path, [row])


def test_columns_of_one_s_own(tmp_path):
    row = {"tanya": "Apa?", "jawab": "Ini.", "input": "x", "jenis": 3, "catatan": "y"}
    found, (read_row,) = read(tmp_path, [row], columns={"input": "tanya", "output": "jawab", "subset_name": "jenis"})
    assert (read_row["input"], read_row["output"], read_row["subset_name"]) == ("Apa?", "Ini.", "3")
    assert found.unread == ["input", "catatan"]
    for columns, message in [
        (
            {"input": "tanya", "output": "jawaban"},
            "no column 'jawaban', which corpus.columns names. Its columns are tanya",
        ),
        (
            {"input": "tanya", "answer": "jawab"},
            "corpus.columns names 'answer', which is not one of instruction, input",
        ),
        ({"input": "tanya"}, "corpus.columns must name `messages`, or `output` with"),
    ]:
        with pytest.raises(CorpusError, match=message):
            read(tmp_path, [row], columns=columns)


@pytest.mark.parametrize(
    ("right_answers", "row", "right"),
    [
        ("column", {}, False),
        ("column", {"one_right_answer": True}, True),
        ("column", {"one_right_answer": None}, False),
        ("all", {}, True),
        ("pilihan", {"pilihan": "TRUE"}, True),
        ("pilihan", {"pilihan": "0", "one_right_answer": True}, False),
        ("pilihan", {"pilihan": "mungkin"}, "`pilihan` is not true or false"),
        ("pilihan", {"pilihan": 1}, "`pilihan` is not true or false"),
        ("pilihan", {}, CorpusError),
    ],
)
def test_which_rows_have_one_right_answer(tmp_path, right_answers, row, right):
    row = {"input": "Apa?", "output": "Ini.", **row}
    if right is CorpusError:
        with pytest.raises(CorpusError, match=r"no column 'pilihan', which corpus\.right_answers names"):
            read(tmp_path, [row], right_answers=right_answers)
        return
    _, (read_row,) = read(tmp_path, [row], right_answers=right_answers)
    assert read_row["problem"] == right if isinstance(right, str) else read_row["one_right_answer"] is right


def test_what_topeng_leaves_is_read_again(tmp_path):
    rows = [
        {"messages": LONG, "one_right_answer": True, "id": 1},
        {"messages": ASKED, "one_right_answer": False, "id": 2},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = ingest([str(tmp_path / "a.jsonl")], tmp_path / "one")
    (as_read,) = source["files"]
    assert as_read["convention"] == "OpenAI messages" and as_read["not_read"] == ["id"]
    again = ingest([str(tmp_path / "one" / "rows" / "part-00000.parquet")], tmp_path / "two")
    assert again["digest"] == source["digest"]
    assert take_all(tmp_path / "two").equals(take_all(tmp_path / "one"))
    first, second = read_rows(tmp_path / "two" / "rows" / "part-00000.parquet")
    assert first["messages"] == LONG and first["one_right_answer"] and second["messages"] is None


@pytest.mark.parametrize(
    ("user", "assistant"),
    [
        ("user", "assistant"),
        ("User", "Assistant"),
        ("human", "gpt"),
        ("Human", "GPT"),
        ("prompter", "AI"),
        ("user ", "chatgpt"),
    ],
)
def test_who_speaks_is_known_by_many_names(tmp_path, user, assistant):
    said = [{"from": "System", "value": "S"}, {"from": user, "value": "Apa?"}, {"from": assistant, "value": "Ini."}]
    _, (row,) = read(tmp_path, [{"conversations": said}])
    assert [message["role"] for message in json.loads(row["messages"])] == ["system", "user", "assistant"]


def test_an_empty_turn_is_told_apart_from_a_missing_one():
    roles = {"input": "input", "output": "output"}
    assert turn({"input": "Apa?"}, roles) == Turn("no `output`")
    assert turn({"input": "Apa?", "output": None}, roles) == Turn(None, "Apa?", "")


def test_two_columns_of_unknown_names_are_answered_with_the_option_that_reads_them(tmp_path):
    with pytest.raises(CorpusError, match=r"--corpus.columns '\{input: pertanyaan, output: jawaban\}'"):
        read(tmp_path, [{"pertanyaan": "Apa?", "jawaban": "Ini."}], section="corpus")
