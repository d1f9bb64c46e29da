"""What a finished command has made of a run folder, as plain values for other programs."""

import json
from pathlib import Path
from typing import Any

from topeng.run.folder import RunFolder


def results_of(path: Path, last: str) -> dict[str, Any]:
    """The stages that are done, each with its outputs; after a comparison also the scores, and after a search for
    learning rates its trials.

    Args:
        last: what the command ended with, as of `stages_for`.
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

        found["scores"] = compare_models([path])
    if last in ("compare", "report"):
        found["scores"] = json.loads((path / "scores.json").read_text(encoding="utf-8"))
        found["report"] = str(path / "report.html") if (path / "report.html").exists() else None
    return found
