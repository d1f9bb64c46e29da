"""The decoders of two checkouts, in turn, on the same prompts: is this one as fast as it was before a change?

    git worktree add --detach /tmp/before 95278b9^          # before rows were scheduled one by one
    python benchmarks/checkouts.py before=/tmp/before now=. --model src/topeng/kecil/checkpoint

Each checkout runs in a process of its own, with one thread on the same core, and waits while another works. For each
setting and batch size: processor seconds, the least of all rounds, because other work on a machine only adds to it, the
ratio of each to the first, and how many answers are the same. Writes JSON with `--out`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine

SUBJECTS = ("rain", "a red house by the sea", "Budi and his three mangoes", "a teacher who reads many books")
PROMPTS = [f"{asked} {subject}." for asked in ("Tell me about", "Write a line on") for subject in SUBJECTS] * 2
VARIANTS: dict[str, dict[str, Any]] = {
    "reference": {"stop_at_end": True},
    "one token per pass": {"steps": 64},
    "threshold": {"policy": "threshold", "threshold": 0.9, "stop_at_end": True},
    "guidance": {"cfg_scale": 1.0, "stop_at_end": True},
    "prefix cache": {"cache": "prefix", "stop_at_end": True},
    "dual cache": {"cache": "dual", "stop_at_end": True},
}
BATCHES = {"one row": 1, "16 rows": 8192}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--model", help="a checkpoint folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(asked.model)
        return
    workers = {
        name: start(Path(folder), asked.model) for name, _, folder in (one.partition("=") for one in asked.checkouts)
    }
    found = [compare(workers, variant, batch, asked.rounds) for variant in VARIANTS for batch in BATCHES]
    for worker in workers.values():
        worker.communicate()
    if asked.out:
        document = machine() | {"model": asked.model, "rounds": asked.rounds, "found": found}
        asked.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def start(folder: Path, model: str) -> subprocess.Popen[str]:
    """A worker that imports topeng from a checkout."""
    environment = os.environ | {"PYTHONPATH": str((folder / "src").resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", "--model", str(Path(model).resolve())]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def compare(workers: dict[str, subprocess.Popen[str]], variant: str, batch: str, rounds: int) -> dict[str, Any]:
    """Rounds of all workers in turn; the first round warms up and is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    texts: dict[str, list[str]] = {}
    for _ in range(rounds + 1):
        for name, worker in workers.items():
            assert worker.stdin and worker.stdout
            print(json.dumps([variant, batch]), file=worker.stdin, flush=True)
            spent, texts[name] = json.loads(worker.stdout.readline())
            seconds[name].append(spent)
    first, *others = workers
    least = {name: min(spent[1:]) for name, spent in seconds.items()}
    ratios = {name: least[name] / least[first] for name in others}
    equal = {name: sum(a == b for a, b in zip(texts[name], texts[first], strict=True)) for name in others}
    shown = ", ".join(f"{name} {value:.3f} s" for name, value in least.items())
    told = ", ".join(f"{name} takes {ratios[name]:.2f} x, {equal[name]} of {len(PROMPTS)} equal" for name in others)
    print(f"{variant:20} {batch:8} {shown}; {told}", flush=True)
    return {"variant": variant, "batch": batch, "seconds": least, "ratio": ratios, "equal": equal}


def work(path: str) -> None:
    """Answers what stdin asks for; prints processor seconds and texts."""
    import torch

    from topeng.generate import Settings
    from topeng.generate.answer import answers
    from topeng.models import load_model, load_tokenizer

    torch.set_num_threads(1)
    model, tokenizer = load_model(path, torch.float32, "cpu"), load_tokenizer(path)
    for line in sys.stdin:
        variant, batch = json.loads(line)
        settings = Settings(max_new_tokens=64, block_length=32, **VARIANTS[variant])
        started = time.process_time()
        found = {one.index: one.answer for one in answers(model, tokenizer, PROMPTS, settings, BATCHES[batch])}
        print(json.dumps([time.process_time() - started, [found[index] for index in sorted(found)]]), flush=True)


if __name__ == "__main__":
    main()
