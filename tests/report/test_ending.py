"""What a run ends with in a terminal."""

import json
import re
import shlex
from pathlib import Path

import pytest
from made_up_run import fake_run
from rich.console import Console

from topeng.cli.arguments import parser
from topeng.report.ending import before_and_after, best_method, next_steps, print_ending
from topeng.report.files import read_run


@pytest.fixture
def folder(tmp_path) -> Path:
    return fake_run(tmp_path / "a run", points=50)


def without_judged(folder: Path) -> None:
    scores = json.loads((folder / "scores.json").read_text())
    for model in scores["models"].values():
        for language in ("target", "source"):
            (model["answers"][language] or {}).update(judged=0, exact_match=None)
    (folder / "scores.json").write_text(json.dumps(scores))


def test_three_lines_of_before_and_after(folder):
    found = read_run(folder)
    answers = found.scores["models"]["base"]["answers"]["target"]
    right, rows = round(answers["exact_match"] * answers["judged"]), answers["judged"]
    first, second, third = before_and_after(found)
    assert re.match(rf"Right answers in Indonesian: {right} of {rows} before, \d+ (of \d+ )?with LoRA, ", first)
    loss = found.scores["models"]["base"]["target"]["nats_per_token"]["mean"]
    assert second.startswith(f"Held-out loss in Indonesian: {loss:.3f} nats per token before, ")
    assert third.startswith("Forgetting in ") and third.count(" with ") == 3


def test_without_judged_rows_losses_tell(folder):
    without_judged(folder)
    loss, forgotten = before_and_after(read_run(folder))
    assert loss.startswith("Held-out loss in Indonesian") and "nats per token before" in forgotten


def test_the_best_method_has_the_most_right_answers_or_else_the_lowest_loss(folder):
    found = read_run(folder)
    models = {name: found.scores["models"][name] for name in found.methods}
    assert best_method(found) == max(models, key=lambda name: models[name]["answers"]["target"]["exact_match"])
    without_judged(folder)
    assert best_method(read_run(folder)) == min(
        models, key=lambda name: models[name]["target"]["nats_per_token"]["mean"]
    )


def test_what_to_do_next_can_be_copied(folder):
    (_, talk), *_, (_, own) = next_steps(read_run(folder))
    chat = parser().parse_args(shlex.split(talk)[1:])
    assert chat.model == "GSAI-ML/LLaDA-8B-Instruct" and Path(chat.adapter).is_dir()
    known, rest = parser().parse_known_args(shlex.split(own)[1:])
    assert Path(known.recipe).is_file() and rest[:2] == ["--corpus.files", "[mine.csv]"]


def test_lines_then_the_table_then_what_to_do(folder):
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    print_ending(folder, console)
    shown = console.export_text()
    assert shown.index("Right answers in Indonesian") < shown.index("Held-out loss in nats per token")
    assert shown.index("Held-out loss in nats per token") < shown.index("What to do next")
