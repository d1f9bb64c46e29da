"""`--json`, `--quiet` and `--verbose`: one meaning in every command that has them."""

import json
import math
import os
import subprocess
import sys
from importlib import resources

import pytest

from topeng import recipe as recipes
from topeng.cli import main
from topeng.cli.arguments import JSON_COMMANDS, commands_of, parser
from topeng.cli.output import JSON, QUIET, VERBOSE, to_json

ASK = ["--max_new_tokens", "8", "--block_length", "8"]


def printed(capsys, *arguments, status=0):
    """What a command writes to stdout, which must be one JSON document, and to stderr."""
    assert main([str(argument) for argument in arguments]) == status
    out, error = capsys.readouterr()
    return json.loads(out), error


def test_each_command_has_them_with_the_same_words():
    helps = {
        name: {option: action.help for action in command._actions for option in action.option_strings}
        for name, command in commands_of(parser()).items()
    }
    for name, found in helps.items():
        wanted = {"--json": JSON, "--quiet": QUIET, "--verbose": VERBOSE}
        wanted = (
            {} if name == "lm-eval" else {flag: wanted[flag] for flag in wanted if flag in found or flag != "--json"}
        )
        assert {flag: found.get(flag) for flag in wanted} == wanted, name
        assert ("--json" in found) == (name in JSON_COMMANDS)
    assert set(helps) - JSON_COMMANDS == {"chat", "serve", "lm-eval", "completion"}


@pytest.mark.parametrize("arguments", [["options", "train", "--json"], ["--json", "options", "train"]])
def test_options(capsys, arguments):
    found, _ = printed(capsys, *arguments)
    names = [name for name, _, _ in recipes.describe() if name.startswith("train.")]
    assert [one["name"] for one in found["options"]] == names
    (steps,) = [one for one in found["options"] if one["name"] == "train.batch_rows"]
    assert steps["default"] == recipes.Recipe().train.batch_rows and steps["help"].endswith(".")


def test_a_plan_is_numbers(capsys, tmp_path):
    run = tmp_path / "run"
    found, _ = printed(capsys, "demo", "--dry-run", "--json", "--run-dir", run)
    assert set(found["stages"].values()) == {"to do"} and "compare" in found["stages"]
    lora = found["training"]["methods"]["lora"]
    assert lora["trainable_parameters"] > 1000 and sum(lora["memory_bytes"].values()) < 2**32
    assert found["rows"]["train"] > found["rows"]["test"] > 0 and found["trial"] is None
    assert found["verdict"]["fits"] and found["verdict"]["disk_free_bytes"] > 0 and not run.exists()


def test_a_trial_that_cannot_be_says_what_is_missing(capsys, tmp_path):
    recipe = resources.files("topeng") / "recipes" / "tiny.yaml"
    found, _ = printed(capsys, "train", recipe, "--plan", "--json", "--run-dir", tmp_path / "no")
    assert "`topeng corpus RECIPE` makes them" in found["trial"]["missing"]


def test_answers(capsys, checkpoint, tmp_path):
    out = tmp_path / "answers.jsonl"
    found, error = printed(capsys, "generate", checkpoint, "Apa?", *ASK, "--out", out, "--json", "--quiet")
    assert found["answers"] == [json.loads(line) for line in out.read_text().splitlines()]
    assert found["written"] == [str(out)] and not [line for line in error.splitlines() if "empty" not in line]


def test_what_is_written(capsys, checkpoint, tmp_path):
    found, _ = printed(capsys, "export", checkpoint, tmp_path / "out", "--json")
    assert found == {"written": [str(tmp_path / "out")]} and (tmp_path / "out" / "config.json").exists()


def test_a_failure_is_a_document_too(capsys):
    found, error = printed(capsys, "generate", "./nowhere", "Apa?", "--json", status=1)
    assert found == {"error": {"type": "ModelError", "message": "there is no checkpoint folder ./nowhere"}}
    assert error == "topeng: there is no checkpoint folder ./nowhere\n"


def test_wrong_usage_is_a_document_too(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["export", "--json"])
    out, error = capsys.readouterr()
    assert exit.value.code == 2 and "usage: topeng export" in error
    assert json.loads(out)["error"] == {
        "type": "UsageError",
        "message": "the following arguments are required: SOURCE, OUT",
    }


@pytest.mark.parametrize("arguments", [["chat", "kecil", "--json"], ["--json", "chat", "kecil"]])
def test_what_has_no_data_says_so(capsys, arguments):
    found, error = printed(capsys, *arguments, status=1)
    message = "`topeng chat` has no result to write as JSON. Leave out --json."
    assert found["error"]["message"] == message and error == f"topeng: {message}\n"


def test_details_are_the_traceback_and_the_last_line_stays(capsys):
    assert main(["generate", "./nowhere", "Apa?", "--verbose"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback") and error.splitlines()[-1] == "topeng: there is no checkpoint folder ./nowhere"


@pytest.mark.slow
def test_details_are_what_libraries_log(checkpoint):
    """In a process of its own: what was once silenced stays so."""
    command = [sys.executable, "-m", "topeng", "generate", str(checkpoint), "Apa?", *ASK]
    said = [
        subprocess.run([*command, *more], env=os.environ, capture_output=True, text=True, check=True)
        for more in ([], ["--verbose"])
    ]
    assert said[0].stdout == said[1].stdout
    assert "transformers" not in said[0].stderr and "transformers" in said[1].stderr


def test_every_parser_takes_the_numbers():
    assert json.loads(to_json({"a": [math.nan, math.inf, 0.5, None, True], 1: "é"})) == {
        "a": [None, None, 0.5, None, True],
        "1": "é",
    }
