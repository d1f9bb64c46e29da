"""The end of a run in a terminal: three lines about before and after, the table, and what to do next."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from topeng import kecil
from topeng.report.files import Finished, read_run
from topeng.report.opening import language_names
from topeng.report.table import print_comparison
from topeng.report.wording import Wording, finite, mean


def print_ending(folder: Path, console: Console) -> None:
    """Prints the results of a finished run.

    Raises:
        RunError: a file of the run is missing or cannot be read.
    """
    found = read_run(folder)
    for line in before_and_after(found):
        console.print(line, highlight=False, markup=False, style="bold")
    console.print()
    print_comparison(found.scores, console)
    console.print("\nWhat to do next", highlight=False, style="bold")
    for what, value in next_steps(found):
        console.print(f"  {what}\n    {value}", highlight=False, markup=False, soft_wrap=True)


def before_and_after(found: Finished) -> list[str]:
    """Right answers, held-out loss and forgetting. Without judged rows, forgetting is told by losses."""
    names = language_names(found, Wording())
    loss, forgotten = (_losses(found, language) for language in ("target", "source"))
    lines = [f"Held-out loss in {names['target']}: {loss}"]
    if right := _right(found, "target"):
        lines.insert(0, f"Right answers in {names['target']}: {right}")
    return [*lines, f"Forgetting in {names['source']}: {_right(found, 'source') or forgotten}"]


def best_method(found: Finished) -> str | None:
    """The method with the most right answers, or else with the lowest held-out loss."""

    def rank(method: str) -> tuple[float, float]:
        model = found.scores["models"][method]
        loss = mean(model["target"]["nats_per_token"])
        return -(finite(_answers(model, "target").get("exact_match")) or 0.0), float("inf") if loss is None else loss

    return min(found.methods, key=rank, default=None)


def next_steps(found: Finished) -> list[tuple[str, str]]:
    """What the user can do next, with the command or the place."""
    best, base, command = best_method(found), found.recipe["base"]["model"] or str(found.folder / "base"), _command()
    steps = []
    if best:
        adapter = str(found.folder / "adapters" / found.names(best)[0])
        talk = shlex.join([command, "chat", base, "--adapter", adapter])
        steps.append((f"Chat with the model adapted by {Wording().label(best)}:", talk))
    if (found.folder / "report.html").exists():
        steps.append(("Open the report in a browser:", str(found.folder / "report.html")))
    steps.append(("All files of the run:", str(found.folder)))
    own = Path(__file__).parent.parent / "recipes" / "small.yaml"
    recipe = Path("recipes/small.yaml") if Path("recipes/small.yaml").exists() else own
    options = ["--corpus.files", "[mine.csv]", *([] if base == kecil.NAME else ["--base.model", base])]
    steps.append(("Adapt the model to your own rows:", shlex.join([command, "run", str(recipe), *options])))
    return steps


def _right(found: Finished, language: str) -> str:
    """Such as `9 of 110 before, 71 with LoRA`, or nothing if no row was judged."""
    words, models, parts = Wording(), found.scores["models"], []
    rows = _answers(models["base"], language).get("judged", 0)
    for name in ("base", *found.methods):
        answers = _answers(models[name], language)
        judged, share = answers.get("judged", 0), finite(answers.get("exact_match"))
        if not judged or share is None:
            continue
        of = f" of {judged:,}" if name == "base" or judged != rows else ""
        parts.append(f"{round(share * judged):,}{of} {_when(name, words)}")
    return ", ".join(parts)


def _losses(found: Finished, language: str) -> str:
    """Such as `5.120 nats per token before, 2.900 with LoRA`."""
    words, models = Wording(), found.scores["models"]
    losses = {name: words.decimal(mean(models[name][language]["nats_per_token"])) for name in ("base", *found.methods)}
    units = {"base": " nats per token"}
    return ", ".join(f"{loss}{units.get(name, '')} {_when(name, words)}" for name, loss in losses.items())


def _when(model: str, words: Wording) -> str:
    return "before" if model == "base" else f"with {words.label(model)}"


def _answers(model: dict[str, Any], language: str) -> dict[str, Any]:
    return model["answers"][language] or {}


def _command() -> str:
    """`topeng`, or its path if the shell would not find this one."""
    called, known = Path(sys.argv[0]), shutil.which("topeng")
    if called.name != "topeng" or (known and Path(known).resolve() == called.resolve()):
        return "topeng"
    return str(called)
