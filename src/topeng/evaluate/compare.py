"""From rows to figures: means, standard errors, and differences paired over rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from topeng.errors import RunError
from topeng.evaluate.text_metrics import chrf, rouge_l

LANGUAGES = ("target", "source")


def compare_models(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """The figures of `scores.json`.

    Args:
        folder: `evaluate/`, with a folder for each name.
        names: `base` first, then the methods.

    Returns:
        `models`: of each model and language, the mean over rows of nats a token, its standard error and the rows; and
        chrF++ and ROUGE-L of its answers. `differences`: of each method less the base, paired over rows.

    Raises:
        RunError: two models were scored on different rows.
    """
    nats = {name: {language: _nats_per_token(folder / name, language) for language in LANGUAGES} for name in names}
    models: dict[str, Any] = {
        name: {language: _mean(list(rows.values())) for language, rows in nats[name].items()}
        | {"answers": _score_answers(folder / name)}
        for name in names
    }
    differences = {
        name: {language: _mean(_paired(nats[name][language], nats["base"][language], name)) for language in LANGUAGES}
        for name in names
        if name != "base"
    }
    return {"models": models, "differences": differences}


def comparison_table(scores: dict[str, Any]) -> Table:
    """The figures for a terminal, the lowest held-out loss first."""
    title = "Nats a token on held-out rows, the less the better (± standard error)"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("model", "target", "from base", "source", "forgotten", "chrF++", "ROUGE-L"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    models = scores["models"]
    for name in sorted(models, key=lambda name: models[name]["target"]["nats_per_token"]):
        difference, answers = scores["differences"].get(name), models[name]["answers"]
        cells = []
        for language in LANGUAGES:
            cells += [_figure(models[name][language]), _figure(difference[language], "+") if difference else "—"]
        answered = [f"{answers['chrf']:.1f}", f"{answers['rouge_l']:.3f}"] if answers else ["—", "—"]
        table.add_row(name, *cells, *answered)
    return table


def _nats_per_token(folder: Path, language: str) -> dict[int, float]:
    lines = _read_lines(folder / "likelihood.jsonl")
    return {line["row_id"]: line["nats"] / line["tokens"] for line in lines if line["language"] == language}


def _paired(rows: dict[int, float], base: dict[int, float], name: str) -> list[float]:
    if rows.keys() != base.keys():
        raise RunError(f"{name} and the base were scored on different rows: evaluate both with the same recipe")
    return [rows[row_id] - base[row_id] for row_id in rows]


def _mean(values: Sequence[float]) -> dict[str, float]:
    rows = np.asarray(values)
    error = float(rows.std(ddof=1) / np.sqrt(len(rows))) if len(rows) > 1 else float("nan")
    return {"nats_per_token": float(rows.mean()), "standard_error": error, "rows": len(rows)}


def _score_answers(folder: Path) -> dict[str, float] | None:
    lines = _read_lines(folder / "answers.jsonl")
    if not lines:
        return None
    answers, references = [line["answer"] for line in lines], [line["reference"] for line in lines]
    return {"chrf": chrf(answers, references), "rouge_l": rouge_l(answers, references), "rows": len(lines)}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _figure(figure: dict[str, float], sign: str = "") -> str:
    return f"{figure['nats_per_token']:{sign}.3f}±{figure['standard_error']:.3f}"
