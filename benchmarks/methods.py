"""What is claimed of adaptation methods, on a finished run of a recipe compare-….yaml; and a null test of `compare`.

    python benchmarks/methods.py RUN                 # curves, speed, spread of seeds, gain and forgetting
    python benchmarks/methods.py RUN --name smollm2  # the same of another run, kept under its name
    python benchmarks/methods.py RUN --null METHOD   # ten seeds of one method: how often halves of them "differ"

Prints the figures, keeps them in `benchmarks/methods.json` by name, and draws docs/evaluation-NAME.svg.
Intervals of curves are over seeds alone (Welch's t): the validation rows are the same for all.
"""

import argparse
import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from scipy import stats

from topeng.adapt.settings import METHODS
from topeng.evaluate.comparable import by_method, check_conditions, find_scored
from topeng.evaluate.compare import pairs_of, values_of

HERE = Path(__file__).parent
SPLITS, HALF = 100, 5
CLAIMS = (("lora+", "lora"), ("pissa", "lora"), ("pissa", "lora+"), ("dora", "lora"), ("nara", "lora"))
"""Whose first is said to be faster, and whose seeds to differ less, than its second."""
Curves = dict[str, np.ndarray]
"""Held-out losses of each method: [S, evaluations]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--name", default="methods", help="under which the figures are kept")
    parser.add_argument("--null", metavar="METHOD", help="ten seeds of which the run has scored")
    options = parser.parse_args()
    if options.null:
        part, figures = "null", null_test(options.run, options.null)
    else:
        part, figures = options.name, claims(options.run, options.name)
    file = HERE / "methods.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(known | {part: machine() | figures}, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def null_test(run: Path, method: str) -> dict[str, Any]:
    """How many of 100 of the 126 ways to halve ten seeds are called different, in either language."""
    scored = find_scored(run)
    check_conditions(scored)
    seeds = by_method(scored)[method]
    halves = [half for half in combinations(range(2 * HALF), HALF) if 0 in half]  # a half or the other: once
    drawn = np.random.default_rng(0).choice(len(halves), SPLITS, replace=False)
    different = []
    for split in sorted(drawn):
        one = [seeds[place] for place in halves[split]]
        other = [seed for seed in seeds[: 2 * HALF] if seed not in one]
        pairs = pairs_of(values_of({"one": one, "other": other}, "nats_per_token"), ["one", "other"])
        different.append([pair["real"] for pair in pairs])
    found = np.array(different)
    return {"method": method, "splits": SPLITS, "different": int(found.any(axis=1).sum())}


def claims(run: Path, name: str) -> dict[str, Any]:
    """Of each method its curve's end and speed; of each claim a difference with its interval."""
    scores = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    steps, curves = held_out(run, scores)
    goal = float(curves["lora"][:, -1].mean())
    draw(steps, curves, scores, name)
    tested = [pair for pair in CLAIMS if set(pair) <= set(curves)]
    return {
        "seconds": seconds(run),
        "goal": goal,
        "methods": {method: of_method(steps, curve, goal) for method, curve in curves.items()},
        "claims": [claim(curves, one, other, len(tested)) for one, other in tested],
    }


def held_out(run: Path, scores: Mapping[str, Any]) -> tuple[np.ndarray, Curves]:
    """The steps at which losses were taken, and the losses."""
    curves, steps = {}, np.array([])
    for name in scores["seeds"]:
        logs = [
            [
                json.loads(line)
                for line in (run / "adapters" / one / "log.jsonl").read_text(encoding="utf-8").splitlines()
            ]
            for one in scores["models"][name]["names"]
        ]
        taken = [[line for line in log if "eval_loss" in line] for log in logs]
        curves[name] = np.array([[line["eval_loss"] for line in log] for log in taken])
        steps = np.array([line["step"] for line in taken[0]])
    return steps, curves


def of_method(steps: np.ndarray, curve: np.ndarray, goal: float) -> dict[str, Any]:
    reached = [step for step in (first_step(steps, losses, goal) for losses in curve) if step is not None]
    return {
        "last": float(curve[:, -1].mean()),
        "spread_of_seeds": float(curve[:, -1].std(ddof=1)),
        "mean_over_steps": float(curve[:, 1:].mean()),
        "reached_goal": f"{len(reached)} of {len(curve)}",
        "steps_to_goal": float(np.mean(reached)) if reached else None,
    }


def first_step(steps: np.ndarray, losses: np.ndarray, goal: float) -> float | None:
    """Where the losses, joined by lines, first come down to the goal."""
    below = np.flatnonzero(losses <= goal)
    if not len(below) or below[0] == 0:
        return None
    place = below[0]
    part = (losses[place - 1] - goal) / (losses[place - 1] - losses[place])
    return float(steps[place - 1] + part * (steps[place] - steps[place - 1]))


def claim(curves: Curves, one: str, other: str, count: int) -> dict[str, Any]:
    """Faster: the mean held-out loss over the steps; steadier: the ratio of the seeds' variances at the end.

    Args:
        count: of claims, for which p is adjusted (Bonferroni).
    """
    means = [curves[name][:, 1:].mean(axis=1) for name in (one, other)]
    ends = [curves[name][:, -1] for name in (one, other)]
    faster = stats.ttest_ind(*means, equal_var=False)
    interval = faster.confidence_interval(1 - 0.05 / count)
    degrees = [len(values) - 1 for values in ends]
    ratio = float(ends[0].var(ddof=1) / ends[1].var(ddof=1))
    low, high = (ratio / float(stats.f.ppf(level, *degrees)) for level in (1 - 0.025 / count, 0.025 / count))
    return {
        "one": one,
        "other": other,
        "mean_over_steps": float(means[0].mean() - means[1].mean()),
        "mean_over_steps_interval": [float(interval.low), float(interval.high)],
        "p": min(1.0, float(faster.pvalue) * count),
        "variance_of_seeds": ratio,
        "variance_of_seeds_interval": [low, high],
    }


def seconds(run: Path) -> dict[str, float]:
    """What the run's stages took, by their kind."""
    stages, found = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["stages"], dict[str, float]()
    for name, stage in stages.items():
        kind = name.partition("/")[0]
        found[kind] = round(found.get(kind, 0) + stage["seconds"], 1)
    return found


def draw(steps: np.ndarray, curves: Curves, scores: Mapping[str, Any], name: str) -> None:
    """Held-out loss by step with the range of the seeds; gain against forgetting with its intervals."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams.update({"svg.hashsalt": "topeng", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, (method, curve) in enumerate(curves.items()):
        look = {"color": f"C{place}", "marker": "os^Dv*"[place % 6], "label": METHODS[method].label}
        left.plot(steps[1:], curve[:, 1:].mean(axis=0), markersize=4, **look)
        left.fill_between(steps[1:], curve[:, 1:].min(axis=0), curve[:, 1:].max(axis=0), color=look["color"], alpha=0.2)
        x, y = (scores[change][method]["nats_per_token"] for change in ("forgetting", "gain"))
        right.errorbar(x["mean"], y["mean"], xerr=half(x), yerr=half(y), capsize=3, linestyle="none", **look)
    left.set(xlabel="optimiser step", ylabel="held-out loss, nats per token", title="Validation rows")
    right.set(xlabel="forgotten, nats per token", ylabel="gained, nats per token", title="Test rows")
    left.legend(frameon=False)
    figure.savefig(HERE.parent / "docs" / f"evaluation-{name}.svg", metadata={"Date": None})


def half(figure: Mapping[str, float]) -> float:
    return (figure["high"] - figure["low"]) / 2


if __name__ == "__main__":
    main()
