"""A search for learning rates: short trainings on the same rows with the same noise, judged on the validation rows.

It is a plain grid. Each trial has its own schedule, so that it ends with a learning rate of 0, like a training. Short
trials slightly favour large rates, so choose the lower of two that are close.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from topeng.adapt.settings import METHODS, Adapting, SweepOptions
from topeng.adapt.train import train_adapter
from topeng.errors import DivergenceError
from topeng.system import ranks
from topeng.system.files import write_atomically


def trials(asked: Sequence[Adapting], sweep: SweepOptions) -> dict[str, Adapting]:
    """The training of each trial by name: one method, one learning rate (two for lora+), and `sweep.steps` steps.

    Args:
        asked: one training per method.
    """
    found = {}
    for one in asked:
        for rate in sorted(set(sweep.learning_rates)):
            if not METHODS[one.method].rate_of_b:
                found[f"{one.method}-{rate:g}"] = _trial(one, sweep.steps, rate)
                continue
            for rate_of_b in sorted(set(sweep.learning_rates_b)):
                if rate_of_b >= rate:
                    found[f"{one.method}-{rate:g}-{rate_of_b:g}"] = _trial(one, sweep.steps, rate, rate_of_b / rate)
    return found


def _trial(asked: Adapting, steps: int, rate: float, ratio: float | None = None) -> Adapting:
    adapter = replace(asked.adapter, loraplus_lr_ratio=ratio) if asked.adapter and ratio else asked.adapter
    train = replace(asked.train, steps=steps, eval_steps=steps, report_to=[])
    return replace(asked, adapter=adapter, train=train, learning_rate=rate)


def run_trial(asked: Adapting, run: Path, work: Path, out: Path, console: Console) -> None:
    """Runs a trial and writes its result, also if it diverges.

    Args:
        work: folder of this trial, in which it continues after a kill.
    """
    method, rate, loss = asked.method, asked.learning_rate, math.nan
    ratio = asked.adapter.loraplus_lr_ratio if asked.adapter and METHODS[method].rate_of_b else None
    console.print(f"  {_rates(method, rate, ratio or 1)}", highlight=False)
    try:
        train_adapter(asked, method, run, work, console)
        loss = _last_loss(work / "adapters" / method / "log.jsonl") if ranks.RANK == 0 else loss
    except DivergenceError as error:
        console.print(f"  diverged: {error}", highlight=False)
    if ranks.RANK > 0:
        return
    result = {
        "method": method,
        "learning_rate": rate,
        "loraplus_lr_ratio": ratio,
        "steps": asked.train.steps,
        "status": "finished" if math.isfinite(loss) else "diverged",
        "held_out_loss": loss if math.isfinite(loss) else None,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, json.dumps(result, indent=1))


def _last_loss(log: Path) -> float:
    entries = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return [entry["eval_loss"] for entry in entries if "eval_loss" in entry][-1]


def _rates(method: str, rate: float, ratio: float) -> str:
    return f"A {rate:g}, B {rate * ratio:g}" if METHODS[method].rate_of_b else f"{rate:g}"


def best_trials(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The trial with the lowest held-out loss of each method, unless all of them diverged."""
    by_method = defaultdict(list)
    for result in results:
        if result["status"] == "finished":
            by_method[result["method"]].append(result)
    return {method: min(tried, key=lambda trial: trial["held_out_loss"]) for method, tried in by_method.items()}


def recipe_lines(results: list[dict[str, Any]]) -> str:
    """The best values as YAML, ready for a recipe."""
    best = best_trials(results)
    values: dict[str, Any] = {
        "train": {"learning_rate": {method: trial["learning_rate"] for method, trial in best.items()}}
    }
    ratios = [trial["loraplus_lr_ratio"] for trial in best.values() if trial["loraplus_lr_ratio"]]
    if ratios:
        values["adapter"] = {"loraplus_lr_ratio": round(ratios[0], 4)}
    return yaml.safe_dump(values, sort_keys=False)


def print_sweep(path: Path, console: Console) -> None:
    """Prints the trials of a finished search, and the best values as recipe lines."""
    results = json.loads(path.read_text(encoding="utf-8"))
    best = best_trials(results)
    table = Table(box=None, padding=(0, 2), title="Held-out loss in nats per token", title_justify="left")
    for name, justify in (("method", "left"), ("learning rate", "left"), ("held-out", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for result in results:
        method, loss = result["method"], result["held_out_loss"]
        rates = _rates(method, result["learning_rate"], result["loraplus_lr_ratio"] or 1)
        mark = _mark(result, results) if result == best.get(method) else ""
        table.add_row(method, rates, "diverged" if loss is None else f"{loss:.4f}", mark)
    console.print(table)
    for method in {result["method"] for result in results} - set(best):
        console.print(f"Every trial of {method} diverged. Lower sweep.learning_rates.", style="yellow", highlight=False)
    console.print(recipe_lines(results), highlight=False)


def _mark(best: dict[str, Any], results: list[dict[str, Any]]) -> str:
    """Whether the best rate of A or B is at the edge of those that were tried."""
    tried = [result for result in results if result["method"] == best["method"]]
    for name, rate in (("learning_rates", _rate_of_a), ("learning_rates_b", _rate_of_b)):
        rates = {rate(result) for result in tried}
        if len(rates) > 1 and rate(best) in (min(rates), max(rates)):
            return f"best, but at the edge of the rates tried: widen sweep.{name}"
    return "best"


def _rate_of_a(result: dict[str, Any]) -> float:
    return result["learning_rate"]


def _rate_of_b(result: dict[str, Any]) -> float:
    return float(f"{result['learning_rate'] * (result['loraplus_lr_ratio'] or 0):.6g}")
