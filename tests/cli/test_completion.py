"""Completion in a shell, asked of the shell itself."""

import shutil
import subprocess

import pytest

from topeng.cli import main


def offered(script: str, *words: str) -> list[str]:
    """What bash offers for the last of some words."""
    line = " ".join(f"'{word}'" for word in words)
    ask = f'COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _topeng; printf "%s\\n" "${{COMPREPLY[@]}}"'
    found = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    return found.stdout.split()


@pytest.fixture
def bash(capsys) -> str:
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


def test_commands_are_completed(bash):
    assert offered(bash, "topeng", "ge") == ["generate"]
    assert {"demo", "run", "chat", "completion"} <= set(offered(bash, "topeng", ""))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("run", "--adapter.r"), ["--adapter.rank"]),
        (("generate", "kecil", "--thres"), ["--threshold"]),
        (("chat", "ke"), ["kecil"]),
        (("corpus", "ver"), ["verify"]),
        (("options", "adap"), ["adapter"]),
        (("completion", "z"), ["zsh"]),
        (("push", "folder", "--adapter.r"), []),  # takes no recipe
        (("run", "recipes/ti"), []),  # so that the shell offers files
    ],
)
def test_what_follows_a_command_is_completed(bash, words, expected):
    assert offered(bash, "topeng", *words) == expected


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_its_script(capsys):
    assert main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    done = subprocess.run(
        ["zsh", "-f", "-c", f"{script}\nprint -r -- $_comps[topeng]"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "_topeng" in done.stdout
