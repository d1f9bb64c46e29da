"""Models side by side on the Indonesian benchmarks, with chance: the causal original, what was made of it, adapters.

    python benchmarks/indonesian.py OUT --benchmarks ../shared/data/benchmarks --limit 100 --draws 16 \
        original=hf:SmolLM2-135M-Instruct.Q4_1.gguf converted=runs/base adapted=runs/base+runs/x/adapters/lora

Each model is scored by `topeng lm-eval` in a process of its own, and only where OUT lacks its results. Prints a table
for Markdown and writes OUT/table.json. The last columns are differences from the second model, or from --reference:
all models answer the same rows, so that the standard error of a difference is of pairs.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from sacrebleu.metrics import CHRF

RESAMPLES = 1000
Statistics = np.ndarray  # of each row, [R, S]: what sums over rows to a score


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "models", nargs="+", metavar="NAME=[hf:]MODEL[+ADAPTER]", help="A folder, an id or a GGUF file."
    )
    parser.add_argument("--benchmarks", help="Folder of local files (default: TOPENG_BENCHMARKS, or the Hub).")
    parser.add_argument("--tasks", help="Names of tasks, with commas (default: those of the preset id).")
    parser.add_argument("--limit", type=int, help="Rows of each task (default: all).")
    parser.add_argument("--draws", type=int, default=16, help="Masks per text for the likelihood bound.")
    parser.add_argument("--decoding", default="", help="Settings for translations, such as steps=32,block_length=32.")
    parser.add_argument("--chat", action="store_true", help="Ask in the chat format.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--reference", help="Name of the model that others are compared with.")
    return parser.parse_args()


def command(asked: argparse.Namespace, model: str) -> list[str]:
    """The arguments of `topeng lm-eval` for a model."""
    common = ["--device", asked.device, "--log_samples"]
    common += ["--tasks", asked.tasks] if asked.tasks else []
    common += ["--limit", str(asked.limit)] if asked.limit else []
    common += ["--apply_chat_template"] if asked.chat else []
    if model.startswith("hf:"):
        path = Path(model.removeprefix("hf:"))
        gguf = path.suffix == ".gguf"
        named = f"pretrained={path.parent},gguf_file={path.name}" if gguf else f"pretrained={path}"
        return ["--model", "hf", "--batch_size", "8", "--model_args", f"{named},dtype={asked.dtype}", *common]
    base, _, adapter = model.partition("+")
    named = f"pretrained={base}" + (f",adapter={adapter}" if adapter else "")
    settings = f",{asked.decoding}" if asked.decoding else ""
    return ["--model_args", f"{named},dtype={asked.dtype},draws={asked.draws}{settings}", *common]


def score(asked: argparse.Namespace, name: str, model: str) -> Path:
    """A folder with the results of a model, which is scored unless it was by the same command."""
    folder, words = asked.out / name, command(asked, model)
    done = folder / "command.json"
    if done.exists() and json.loads(done.read_text()) == words:
        return folder
    preset = [] if asked.tasks else ["--preset", "id"]
    environment = os.environ | ({"TOPENG_BENCHMARKS": asked.benchmarks} if asked.benchmarks else {})
    started = time.monotonic()
    whole = [sys.executable, "-m", "topeng", "lm-eval", *preset, *words, "--output_path", str(folder)]
    if subprocess.run(whole, env=environment).returncode:
        raise SystemExit(f"{name} failed: {' '.join(whole)}")
    (folder / "seconds.json").write_text(json.dumps(time.monotonic() - started))
    done.write_text(json.dumps(words))
    return folder


def read(folder: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """A model's latest results, and by task what it answered, row by row."""
    results = max(folder.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    stamp = results.stem.removeprefix("results_")
    samples = {
        path.stem.removeprefix("samples_").removesuffix(f"_{stamp}"): [
            json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in results.parent.glob(f"samples_*_{stamp}.jsonl")
    }
    return json.loads(results.read_text(encoding="utf-8")), samples


def statistics(samples: Sequence[dict[str, Any]], metric: str) -> tuple[Statistics, Callable[[np.ndarray], float]]:
    """Of each row what sums to the score of a task, and the function of that sum."""
    if metric != "chrf++":
        return np.array([[sample[metric], 1.0] for sample in samples]), lambda sums: float(sums[0] / sums[1])
    chrf = CHRF(word_order=2)
    references, answers = zip(*(sample[metric] for sample in samples), strict=True)
    return np.array(chrf._extract_corpus_statistics(answers, [references])), chrf._compute_f_score


def difference(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]], metric: str) -> tuple[float, float]:
    """How much better `one` is than `other` on the same rows, and the bootstrap's standard error of that."""
    assert [sample["doc_hash"] for sample in one] == [sample["doc_hash"] for sample in other]
    (first, score), (second, _) = statistics(one, metric), statistics(other, metric)
    drawn = np.random.default_rng(0).multinomial(len(first), np.full(len(first), 1 / len(first)), size=RESAMPLES)
    spread = [score(ours) - score(theirs) for ours, theirs in zip(drawn @ first, drawn @ second, strict=True)]
    return score(first.sum(axis=0)) - score(second.sum(axis=0)), float(np.std(spread, ddof=1))


def compare(folders: dict[str, Path], reference: str) -> list[dict[str, Any]]:
    """A line for each task: its metric, chance, and every model's score; accuracies in per cent."""
    found = {name: read(folder) for name, folder in folders.items()}
    lines = []
    for task, config in found[reference][0]["configs"].items():
        metric = config["metadata"]["headline"]
        unit = 1 if metric == "chrf++" else 100
        first = found[reference][0]["results"][task]
        line = {"task": task, "metric": metric, "rows": first["sample_len"], "chance": unit * first["chance,none"]}
        line["one label"] = unit * first["one_label,none"] if "one_label,none" in first else None
        for name, (results, samples) in found.items():
            scores = results["results"][task]
            line[name] = [unit * scores[f"{metric},none"], unit * float(scores[f"{metric}_stderr,none"])]
            if name != reference:
                gain = difference(samples[task], found[reference][1][task], metric)
                line[f"{name} - {reference}"] = [unit * value for value in gain]
        lines.append(line)
    return lines


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    names = list(lines[0])
    pairs = [name for name in names if isinstance(lines[0][name], list)]
    names = [name for name in names if name not in pairs] + sorted(pairs, key=lambda name: " - " in name)
    rows = [[shown(line[name], name in pairs and " - " in name) for name in names] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [names, ["---"] * len(names), *rows])


def shown(value: Any, signed: bool) -> str:
    if isinstance(value, list):
        return f"{value[0]:{'+' if signed else ''}.1f} ± {value[1]:.1f}"
    return "" if value is None else f"{value:.1f}" if isinstance(value, float) else str(value)


def main() -> None:
    asked = arguments()
    models = dict(model.split("=", 1) for model in asked.models)
    reference = asked.reference or list(models)[min(1, len(models) - 1)]
    if reference not in models:
        raise SystemExit(f"--reference {reference} is none of {', '.join(models)}")
    folders = {name: score(asked, name, model) for name, model in models.items()}
    lines = compare(folders, reference)
    seconds = {name: json.loads((folder / "seconds.json").read_text()) for name, folder in folders.items()}
    told = {**machine(["lm_eval", "sacrebleu"]), "asked": vars(asked) | {"out": str(asked.out)}, "seconds": seconds}
    (asked.out / "table.json").write_text(json.dumps({**told, "tasks": lines}, indent=1))
    print(markdown(lines))
    print("\nSeconds, with loading:", ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))


if __name__ == "__main__":
    main()
