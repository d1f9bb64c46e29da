"""`topeng chat`, piped and as a terminal would show it."""

import io
import json
import re
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from topeng.cli import main
from topeng.cli.conversation import MASK, Chat
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


def test_a_model_of_single_questions_sees_no_earlier_turns(checkpoint, chat):
    """As its checkpoint's generation_config.json says, or `--turns`."""
    single = Chat(str(checkpoint), None, SETTINGS, Console(file=io.StringIO()), turns=0)
    first = single.answer("Apa?")
    single.answer("Siapa?")
    assert single.answer("Apa?") == first == chat.answer("Apa?")
    chat.answer("Siapa?")
    assert chat.answer("Apa?") != first
    told = Chat(str(checkpoint), None, SETTINGS, Console(file=io.StringIO()), system="Jawab singkat.", turns=1)
    for question in ("Apa?", "Siapa?", "Di mana?"):
        told.answer(question)
    assert [message["content"] for message in told.messages if message["role"] != "assistant"] == [
        "Jawab singkat.",
        "Siapa?",
        "Di mana?",
    ]


@pytest.mark.slow
def test_settings_of_the_checkpoint_stand_between_preset_and_flags(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "own")
    own = {"max_new_tokens": 16, "block_length": 8, "turns": 0, "use_cache": True}
    (tmp_path / "own" / "generation_config.json").write_text(json.dumps(own))
    command = [sys.executable, "-m", "topeng", "chat", str(tmp_path / "own")]
    for flags, how in (
        ([], "up to 16 tokens in blocks of 8, one token per step, policy top_k, greedy, no earlier turns visible"),
        (["--max_new_tokens", "8", "--turns", "2"], "up to 8 tokens in blocks of 8, .*, 2 earlier turns visible"),
    ):
        said = subprocess.run([*command, *flags], input="/exit\n", capture_output=True, text=True, check=True).stdout
        assert re.search(how, said)
    refused = subprocess.run([*command, "--turns", "-1"], capture_output=True, text=True)
    assert refused.returncode and refused.stderr == "topeng: --turns = -1 must be 0 or more\n"


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
    monkeypatch.setattr("topeng.cli.conversation.decode_answer", lambda *_: "\n")
    chat = Chat(str(checkpoint), None, SETTINGS, Console(file=io.StringIO(), width=200, highlight=False))
    assert (
        chat.answer("Apa?") == "\n"
        and "(an empty answer: the model wrote the end token" in chat.console.file.getvalue()
    )


def test_it_can_be_piped(checkpoint, capsys, monkeypatch):
    said = io.StringIO(f"Apa?\n/adapter nowhere\n/adapter ../../{'a' * 300}\n/exit\nnever read\n")
    monkeypatch.setattr(sys, "stdin", said)
    assert main(["chat", str(checkpoint), "--max_new_tokens", "8", "--block_length", "8"]) == 0
    out, error = capsys.readouterr()
    assert said.read() == "never read\n"
    assert "File name too long" in out
    assert out.startswith(f"model {checkpoint}, adapter none; up to 8 tokens in blocks of 8, one token per step, ")
    assert "there is no adapter folder 'nowhere'" in out and error == ""


def test_a_whole_model_stands_in_the_base_s_place_and_leaves_it(chat, checkpoint, adapters):
    base = chat.base
    chat.take_adapter(str(checkpoint))
    assert chat.model is not base
    chat.answer("Apa?")
    chat.take_adapter(str(adapters / "one"))
    assert chat.base is base and chat.model is not base
    chat.take_adapter("base")
    assert chat.model is base
