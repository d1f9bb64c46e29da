"""The results in a run folder after a command, as plain values for other programs."""

import json
from pathlib import Path
from typing import Any

from topeng import recipe as recipes
from topeng.run.folder import RunFolder


def scored_models(run: Path) -> tuple[list[Path], list[str]]:
    """The scored models of a run folder that its recipe names, and the names of the others.

    A method that is no longer in the recipe keeps its scores, which may have been taken under other conditions. A
    folder without a recipe, such as an adapter's, is returned as it is.

    Raises:
        RecipeError: the recipe of the run cannot be read.
    """
    recipe = run / "recipe.yaml"
    scored = sorted(path.name for path in (run / "evaluate").glob("*/"))
    if not scored or not recipe.is_file():
        return [run], []
    named = ["base", *recipes.training_names(recipe)]
    others = [name for name in scored if name not in named]
    return [run / "evaluate" / name for name in named if name in scored] or [run], others


def results_of(path: Path, last: str) -> dict[str, Any]:
    """The finished stages with their outputs. After a comparison also the scores, after a sweep its trials.

    Args:
        last: the last stages of the command, as in `stages_for`.
    """
    found: dict[str, Any] = {"run_dir": str(path)}
    if last == "sweep":
        from topeng.adapt.sweep import best_trials

        trials = json.loads((path / "sweep.json").read_text(encoding="utf-8"))
        return found | {"trials": trials, "best": best_trials(trials)}
    found["stages"] = {
        name: {key: entry[key] for key in ("ended", "seconds", "peak_memory_bytes")}
        | {"outputs": [str(path / output) for output in entry["outputs"]]}
        for name, entry in RunFolder(path).manifest["stages"].items()
    }
    if last == "evaluate/":
        from topeng.evaluate.compare import compare_models

        found["scores"] = compare_models(scored_models(path)[0])
    if last in ("compare", "report"):
        found["scores"] = json.loads((path / "scores.json").read_text(encoding="utf-8"))
        found["report"] = str(path / "report.html") if (path / "report.html").exists() else None
    return found
