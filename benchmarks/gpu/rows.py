"""Made-up rows to train on, in a run folder whose corpus stages are done: a GPU machine may lack what those need."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CARRIED = HERE / "carried"
SYLLABLES = [consonant + vowel for consonant in "bdklmnprst" for vowel in "aeiou"]
ROWS, TRAIN, HELD_OUT = 400, 256, 16


def text(random: np.random.Generator, words: int) -> str:
    """Made-up words of one to four syllables, in sentences."""
    drawn = ["".join(random.choice(SYLLABLES, random.integers(1, 5))) for _ in range(words)]
    return " ".join(word.capitalize() + "." if place % 9 == 0 else word for place, word in enumerate(drawn))


def write_rows(path: Path) -> None:
    """Rows whose answers are longer than 512 tokens, so that every row is cut to equal length."""
    random = np.random.default_rng(0)
    names = {"dataset_name": "made_up", "subset_name": "made_up", "prompt_id": "0", "template_name": "one"}
    with path.open("w", encoding="utf-8") as stream:
        for row in range(ROWS):
            values = {"dataset_key": str(row), "input": text(random, 60), "output": text(random, 600)}
            stream.write(json.dumps(names | values) + "\n")


def corpus_options(rows: Path) -> dict[str, Any]:
    """What the corpus stages depend on: here and on the GPU machine the same, or they would be done again."""
    return {
        "files": [str(rows)],
        "profile": "paper",
        "subsets": [],
        "sample_rows": TRAIN + 2 * HELD_OUT,
        "test_rows": HELD_OUT,
        "validation_rows": HELD_OUT,
        "clusters": 1,
        "train_rows": TRAIN,
        "umap_rows": 50,
    }


def finished_corpus(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The run folder, and its recipe's `corpus` section: those that `prepare.py` left, or new ones in `folder`."""
    if (CARRIED / "run").is_dir():
        return CARRIED / "run", corpus_options((CARRIED / "rows.jsonl").relative_to(ROOT))
    return make_corpus(folder), corpus_options(folder / "rows.jsonl")


def make_corpus(folder: Path) -> Path:
    """Writes rows and does the corpus stages on them; needs a whole installation of Topeng."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.jsonl")
    rows = folder / "rows.jsonl"
    rows = rows.relative_to(ROOT) if rows.is_relative_to(ROOT) else rows
    recipe = folder / "corpus.yaml"
    recipe.write_text(yaml.safe_dump({"corpus": corpus_options(rows)}), encoding="utf-8")
    command = [sys.executable, "-m", "topeng", "corpus", str(recipe), "--run-dir", str(folder / "run")]
    subprocess.run(command, check=True, cwd=ROOT)
    return folder / "run"
