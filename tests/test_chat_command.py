"""`topeng chat`, piped and as a terminal would show it."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

from topeng.chat import MASK, Chat
from topeng.errors import AdapterError, GenerationError
from topeng.generate import Settings

SETTINGS = Settings(max_new_tokens=8, block_length=8)


@pytest.fixture
def chat(checkpoint):
    return Chat(str(checkpoint), None, SETTINGS, Console(file=io.StringIO()))


def test_turns_build_on_each_other(chat):
    first = chat.answer("Apa?")
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]
    assert chat.messages[1]["content"] == first
    chat.turn("Siapa?")
    assert len(chat.messages) == 4
    chat.turn("/reset")
    assert chat.messages == []
    assert chat.answer("Apa?") == first


def test_the_oldest_turns_leave_a_full_context(chat):
    for _ in range(4):
        chat.answer("kucing " * 20)
    assert 2 <= len(chat.messages) < 8
    with pytest.raises(GenerationError, match="exceed the model's context"):
        chat.answer("kucing " * 400)


def test_a_system_message_begins_every_conversation(checkpoint, chat):
    system = [{"role": "system", "content": "Jawab singkat."}]
    told = Chat(str(checkpoint), None, SETTINGS, Console(file=io.StringIO()), system="Jawab singkat.")
    first = told.answer("Apa?")
    assert told.messages[:1] == system and first != chat.answer("Apa?")
    for _ in range(4):
        told.answer("kucing " * 20)
    assert told.messages[0] == system[0] and len(told.messages) < 9
    told.turn("/reset")
    assert told.messages == system and told.answer("Apa?") == first


def test_adapters_are_taken_by_name(chat, adapters):
    base = chat.answer("Apa?")
    answers = {}
    for name in (str(adapters / "one"), "two", "one", "base"):
        chat.turn(f"/adapter {name}")
        chat.turn("/reset")
        answers[name] = chat.answer("Apa?")
    assert answers["base"] == base
    assert answers["one"] == answers[str(adapters / "one")]
    assert len({base, answers["one"], answers["two"]}) == 3


def test_a_wrong_adapter_leaves_the_base(chat, adapters):
    base = chat.answer("Apa?")
    chat.take_adapter(str(adapters / "one"))
    for name in ("nowhere", "other"):
        with pytest.raises(AdapterError):
            chat.take_adapter(name)
    chat.turn("/reset")
    assert chat.answer("Apa?") == base


def test_the_denoising_is_shown(checkpoint):
    screen = io.StringIO()
    Chat(str(checkpoint), None, SETTINGS, Console(file=screen, force_terminal=True)).answer("Apa?")
    assert MASK in screen.getvalue()


def test_an_empty_answer_is_seen(checkpoint, monkeypatch):
    monkeypatch.setattr("topeng.chat.decode_answer", lambda *_: "\n")
    chat = Chat(str(checkpoint), None, SETTINGS, Console(file=io.StringIO(), width=200, highlight=False))
    assert chat.answer("Apa?") == "\n" and "(an empty answer: the end token came" in chat.console.file.getvalue()


def test_it_can_be_piped(checkpoint):
    command = [
        sys.executable,
        "-m",
        "topeng.cli",
        "chat",
        str(checkpoint),
        "--max_new_tokens",
        "8",
        "--block_length",
        "8",
    ]
    said = f"Apa?\n/adapter nowhere\n/adapter ../../{'a' * 300}\n/exit\nnever read\n"
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=True)
    assert "File name too long" in done.stdout
    assert done.stdout.startswith(f"model {checkpoint}, adapter none; up to 8 tokens in blocks of 8, a token a step, ")
    assert "there is no adapter folder 'nowhere'" in done.stdout and "Traceback" not in done.stderr


def test_a_whole_model_stands_in_the_base_s_place_and_leaves_it(chat, checkpoint, adapters):
    base = chat.base
    chat.take_adapter(str(checkpoint))
    assert chat.model is not base
    chat.answer("Apa?")
    chat.take_adapter(str(adapters / "one"))
    assert chat.base is base and chat.model is not base
    chat.take_adapter("base")
    assert chat.model is base
