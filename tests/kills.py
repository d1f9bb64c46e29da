"""`kill -9` at random moments of whole runs; each run, started again until it ends, must end as an undisturbed one.

    python tests/kills.py FOLDER [--kills 100] [--seed 0]

Runs of a micro recipe, from corpus to report, are started one after another as `topeng run`. From the line of its first
stage on, a process has an exponential time to live, in the mean a quarter of the undisturbed run's work: kills come as
a Poisson process, at all moments of the work alike, and several to a run. Every kill and every finished run leaves a
line in FOLDER/kills.jsonl: this script, stopped and started again, goes on from there.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Timer

from same_run import different_outputs

RECIPE = """
corpus: {synthetic_rows: 1000, subsets: [], languages: [], sample_rows: 120, test_rows: 8, validation_rows: 4,
         clusters: 3, train_rows: 40, umap_rows: 50}
source: {synthetic_rows: 500, test_rows: 8}
text: {max_length: 64}
base: {device: cpu, tiny: {vocab_size: 400, hidden_size: 32, layers: 1, steps: 12,
                           batch_rows: 4}}
adapter: {methods: [lora, pissa], rank: 2, alpha: 4}
train: {steps: 12, batch_rows: 4, learning_rate: 0.01, eval_steps: 6, save_steps: 2}
generate: {max_new_tokens: 8, steps: 4, block_length: 8}
evaluate: {draws: 2, generate_rows: 4}
"""

KILLS_A_RUN = 4
"""In the time that an undisturbed run works; stages that are done again make them more."""


def live(recipe: Path, run: Path, seconds: float | None) -> str | None:
    """Starts `topeng run`, and kills it after so many seconds of work; the stage that it was in, or None at its end."""
    command = [sys.executable, "-m", "topeng", "run", str(recipe), "--run-dir", str(run)]
    with (run.parent / "errors.txt").open("w") as errors:
        environment = os.environ | {"COLUMNS": "1000", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
    timer = Timer(seconds or 0, process.kill)
    stage = ""
    try:
        for line in process.stdout or ():
            if line.startswith("["):
                stage = line.split()[1].rstrip(":")
            if seconds is not None and timer.ident is None:
                timer.start()
        process.wait()
    finally:
        timer.cancel()
        process.kill()
    if process.returncode == -signal.SIGKILL:
        return stage
    if process.returncode:
        raise SystemExit(f"{run} failed:\n{(run.parent / 'errors.txt').read_text()}")
    return None


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each finished run and a summary; 0 where all ended as the undisturbed one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    known = parser.parse_args(arguments)
    known.folder.mkdir(parents=True, exist_ok=True)
    recipe, calm, log = (known.folder / name for name in ("micro.yaml", "calm", "kills.jsonl"))
    recipe.write_text(RECIPE)
    assert live(recipe, calm, None) is None
    work = sum(stage["seconds"] for stage in json.loads((calm / "manifest.json").read_text())["stages"].values())
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = [line for line in lines if "differ" in line]
    killed = [line["killed_in"] for line in lines if "killed_in" in line]
    while len(killed) < known.kills or len(killed) > sum(line["kills"] for line in done):
        run = known.folder / f"run-{len(done)}"
        start = len(killed) + len(done)
        delay = random.Random(f"{known.seed} {start}").expovariate(KILLS_A_RUN / work)
        stage = live(recipe, run, delay if len(killed) < known.kills else None)
        if stage is not None:
            killed.append(stage)
            line = {"killed_in": stage, "seconds": round(delay, 2)}
        else:
            kills = len(killed) - sum(line["kills"] for line in done)
            line = {"run": run.name, "kills": kills, "differ": different_outputs(calm, run)}
            done.append(line)
            print(f"{run.name}: {kills} kills, {len(line['differ'])} outputs differ ({len(killed)} kills)", flush=True)
        with log.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
    wrong = [line for line in done if line["differ"]]
    print(f"{len(killed)} kills in {len(done)} runs, of which {len(wrong)} ended otherwise than the undisturbed one")
    for stage, count in Counter(killed).most_common():
        print(f"{count:4} in {stage}")
    for line in wrong:
        print(f"{line['run']}: {', '.join(line['differ'])}")
    return 1 if wrong else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no child outlives this script
    sys.exit(main())
