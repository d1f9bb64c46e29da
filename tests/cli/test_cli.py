"""The command as a user types it: what it prints, and what it says to wrong input."""

import json
import os
import subprocess
import sys

import pytest

from topeng.cli import main, parse
from topeng.cli.arguments import parser
from topeng.cli.commands import parse_overrides
from topeng.errors import RecipeError


def test_overrides():
    given = ["--adapter.rank", "32", "--seed=7", "--train.learning_rate", "-1"]
    assert parse_overrides(given) == {"adapter.rank": "32", "seed": "7", "train.learning_rate": "-1"}


def test_damaged_settings_of_a_checkpoint_are_told(tmp_path, capsys):
    (tmp_path / "generation_config.json").write_text('{"max_new_tokens": 64')
    assert main(["generate", str(tmp_path), "Apa?"]) == 1
    assert "generation_config.json is not JSON" in capsys.readouterr().err


def test_prompts_and_folders_may_be_anywhere_among_options():
    known, rest = parse(["generate", "one", "a", "--adapter", "x", "b", "--steps", "4", "c", "--top_p=1", "--", "--d"])
    assert known.prompt == ["a", "b", "c", "--d"] and (known.model, known.adapter) == ("one", "x")
    assert rest == ["--steps", "4", "--top_p=1"]
    known, rest = parse(["compare", "a", "--out", "f", "b", "--seed"])
    assert (known.recipe, known.folders, rest) == ("a", ["b"], ["--seed"])
    assert parse(["run", "a", "b"])[1] == ["b"]  # which takes one


@pytest.mark.parametrize(
    ("arguments", "message"), [(["rank"], "unexpected argument 'rank'"), (["--seed"], "--seed needs a value")]
)
def test_bad_overrides(arguments, message):
    with pytest.raises(RecipeError, match=message):
        parse_overrides(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nowhere.yaml"], "cannot read the recipe nowhere.yaml"),
        (["demo", "--adapter.rnak", "3"], "unknown option 'adapter.rnak': did you mean 'adapter.rank'?"),
        (["demo", "--adapter.rank", "x"], "adapter.rank = 'x' must be a whole number"),
        (["demo", "--base.model", "./nowhere", "--run-dir", "{tmp}/run"], "there is no checkpoint folder ./nowhere"),
        (["demo", "--corpus.files", "[nowhere.csv]", "--run-dir", "{tmp}/run"], "nothing matches nowhere.csv"),
        (["demo", "--run-dir", "/proc/run"], "cannot create the run folder /proc/run"),
        (["generate", "./nowhere", "Apa?"], "there is no checkpoint folder ./nowhere"),
        (["generate", "./nowhere", "--adapter", "./none", "Apa?"], "there is no checkpoint folder ./nowhere"),
        (["generate", "./nowhere", "--steps", "5", "Apa?"], "generate.steps = 5 must be a multiple of 4"),
        (["generate", "./nowhere", "Apa?", "--steps", "5"], "generate.steps = 5 must be a multiple of 4"),
        (["generate", "./nowhere", "Apa?", "--steps", "256"], "at most max_new_tokens = 128"),
        (["generate", "./nowhere", "Apa?", "--block_length", "48"], "must be a multiple of block_length = 48"),
        (["generate", "./nowhere", "Apa?", "--min_new_tokens", "129"], "min_new_tokens = 129 must be at most"),
        (["generate", "./nowhere", "Apa?", "--policy", "treshold"], "did you mean 'threshold'?"),
        (
            ["generate", "./nowhere", "Apa?", "--tempreature", "1"],
            "unknown option '--tempreature': did you mean '--temperature'?",
        ),
        (["chat", "./nowhere", "--adaptor", "x"], "unknown option '--adaptor': did you mean '--adapter'?"),
        (["generate", "./nowhere", "Apa?", "--xyzzy", "1"], "`topeng generate --help` lists its options."),
        (["generate", "./nowhere", "Apa?", "--preset", "best"], "must be one of reference, quality, fast"),
        (["generate", "./nowhere"], "no prompt was given"),
        (["generate", "./nowhere", "--file", "nowhere.txt"], "cannot read prompts from nowhere.txt"),
        (["chat", "./nowhere"], "there is no checkpoint folder ./nowhere"),
        (["export", "./nowhere", "{tmp}/out"], "there is no checkpoint folder ./nowhere"),
        (
            ["export", "./nowhere", "{tmp}/out", "--format", "ggfu"],
            "--format = 'ggfu' is unknown: did you mean 'gguf'?",
        ),
        (
            ["export", "./nowhere", "{tmp}/out", "--precision", "q8_0"],
            "--precision = 'q8_0' is unknown for --format merged: choose from bf16, f32",
        ),
        (["push", "./nowhere", "someone/model"], "there is no folder nowhere"),
        (["push", "{tmp}", "model"], "'model' is not the name of a repository. Write USER/MODEL"),
        (["train", "nowhere.yaml", "--sweep"], "cannot read the recipe nowhere.yaml"),
        (
            ["demo", "--adapter.methods", "[qlora]", "--base.device", "cpu", "--run-dir", "{tmp}/run"],
            "needs a CUDA device",
        ),
        (["demo", "--adapter.methods", "[dorra]"], "did you mean 'dora'?"),
        (["demo", "--train.report_to", "[wandbb]"], "did you mean 'wandb'?"),
        (["options", "xyz"], "'xyz' is not a section of a recipe: choose from seed, threads, corpus"),
        (["options", "trian"], "did you mean 'train'?"),
        (["options", "train", "more"], "unexpected argument 'more'"),
    ],
)
def test_wrong_input_is_one_line_and_status_1(arguments, message, tmp_path, capsys):
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("topeng: ") and error.count("\n") == 1


def test_a_full_memory_is_one_line(monkeypatch, capsys):
    import torch

    monkeypatch.setattr("topeng.cli.commands.options", lambda known, rest, output: torch.empty(2**60))
    assert main(["options"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("topeng: out of memory (") and error.count("\n") == 1


def test_a_bug_is_no_such_line(monkeypatch):
    def bug(known, rest, output):
        raise RuntimeError("a bug")

    monkeypatch.setattr("topeng.cli.commands.options", bug)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["options"])


def test_a_reader_that_has_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)  # as `| head -1` does sooner or later
    command = [sys.executable, "-m", "topeng", "options"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_threads_that_wait_do_not_spin():
    """OpenMP reads its policy when torch is loaded: by then the command must have set it."""
    code = (
        "import os, sys; from topeng import cli; from topeng.cli import commands; assert 'torch' not in sys.modules; "
        "commands.prepare_libraries(); print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("PASSIVE\n", 0), done.stderr


def test_an_unknown_command_is_refused():
    result = subprocess.run([sys.executable, "-m", "topeng", "rum"], capture_output=True, text=True, check=False)
    assert result.returncode == 2 and "unknown command 'rum': did you mean 'run'?" in result.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("--verson", "no command was given. `topeng --help` lists them."),
        ("zzz", "unknown command 'zzz'. `topeng --help` lists the commands."),
        ("run", "no recipe was given. It is a YAML file, such as"),
        ("chat", "no model was given. It is a checkpoint folder, a model id on the Hub, or kecil"),
    ],
)
def test_what_is_missing_is_said_in_words(command, message, capsys):
    with pytest.raises(SystemExit) as exit:
        main([command])
    assert exit.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("run demo", "demo is a folder, but a recipe is a YAML file. The recipe of this run is demo/recipe.yaml."),
        ("compare nowhere", "there is neither a run folder nor a recipe nowhere"),
        ("compare demo nowhere", "there is neither a run folder nor a recipe nowhere"),
        ("status nowhere", "there is no run folder nowhere"),
        ("generate kecil Apa? --adapter demo", "The adapters of this run are in demo/adapters."),
    ],
)
def test_a_folder_of_another_kind_is_told_apart(command, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "adapters").mkdir(parents=True)
    (tmp_path / "demo" / "evaluate" / "base").mkdir(parents=True)
    scored = {"name": "base", "method": "base", "seed": None, "training": {}, "conditions": {}}
    (tmp_path / "demo" / "evaluate" / "base" / "scored.json").write_text(json.dumps(scored))
    (tmp_path / "demo" / "recipe.yaml").write_text("seed: 1\n")
    assert main(command.split()) == 1
    assert message in capsys.readouterr().err


def test_the_plan_of_the_paper_profile(capsys, tmp_path):
    from importlib import resources

    path = str(resources.files("topeng") / "recipes" / "llada-8b-indonesia.yaml")
    assert main(["run", path, "--dry-run", "--run-dir", str(tmp_path / "run")]) == 0
    plan = capsys.readouterr().out
    for figure in (
        "6,542,630",
        "196,279",
        "10,000 from 10 clusters",
        "394, of which 100",
        "8,015,581,184",
        "41,943,040 (0.52% of the base)",
    ):
        assert figure in plan
    assert "GiB" in plan
    assert not (tmp_path / "run").exists()


def test_a_plan_without_a_base_says_so_and_estimates(capsys, tmp_path):
    from importlib import resources

    path = str(resources.files("topeng") / "recipes" / "llada-8b-indonesia.yaml")
    methods = ["--adapter.methods", "[lora, qlora, full]"]
    assert main(["train", path, "--plan", "--run-dir", str(tmp_path / "run"), *methods]) == 0
    plan = " ".join(capsys.readouterr().out.split())
    assert (
        "No trial: the base GSAI-ML/LLaDA-8B-Instruct is not a local folder. Name a local copy (--base.model FOLDER)"
        in plan
    )
    assert "frozen weights 14.93 GiB 5.28 GiB 0.00 GiB" in plan
    assert "of 16 rows, for each method; more if rows are conversations" in plan
    assert not (tmp_path / "run").exists()


def test_a_sweep_or_a_plan(capsys):
    with pytest.raises(SystemExit):
        main(["train", "recipe.yaml", "--sweep", "--plan"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_alone_it_helps(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["topeng"])
    assert main() == 0
    assert "COMMAND" in capsys.readouterr().out


def test_every_command_and_argument_has_help_that_reads_by_itself():
    parsers = next(action for action in parser()._actions if action.choices)
    helps = [action.help for action in parsers._choices_actions]
    helps += [action.help for command in parsers.choices.values() for action in command._actions]
    assert len(helps) > 80
    assert [text for text in helps if not (text and text[0].isupper() and text.endswith("."))] == []


def test_options_of_a_section_are_listed(capsys):
    assert main(["options", "base.tiny"]) == 0
    named = [line for line in capsys.readouterr().out.splitlines() if line.startswith("--")]
    assert len(named) > 3 and all(name.startswith("--base.tiny.") for name in named)
    assert main(["options", "seed"]) == 0
    assert capsys.readouterr().out.startswith("--seed 42\n")


def test_options_are_listed(capsys):
    assert main(["options"]) == 0
    listed = capsys.readouterr().out
    assert "--adapter.rank 16" in listed and "--generate.block_length 32" in listed
