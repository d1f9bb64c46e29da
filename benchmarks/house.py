"""What the house itself costs: imports, tests, the wheel.

    python benchmarks/house.py               # minutes, which the fast tests take
    python benchmarks/house.py --no-tests    # imports and the wheel

Imports are timed in processes of their own, in turn; medians, and as ratios to a bare interpreter.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from machine import machine

HERE = Path(__file__).parent
CODE = {
    "a bare interpreter": "pass",
    "import topeng": "import topeng",
    "topeng --help": "import topeng.cli; topeng.cli._parser().format_help()",
    "a recipe": "from topeng import recipe; recipe.parse({})",
    "import torch": "import torch",
    "topeng.generate.answer": "import topeng.generate.answer",
    "topeng.adapt.train": "import topeng.adapt.train",
    "topeng.corpus.stages": "import topeng.corpus.stages",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-tests", action="store_true", help="do not time the fast tests")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    figures: dict[str, Any] = machine() | {"imports": imports(options.rounds), "wheel": wheel()}
    if not options.no_tests:
        figures["fast_tests_seconds"] = round(seconds(["make", "test"]), 1)
    (HERE / "house.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def imports(rounds: int) -> dict[str, dict[str, float]]:
    taken: dict[str, list[float]] = {name: [] for name in CODE}
    for _ in range(rounds):
        for name, code in CODE.items():
            taken[name].append(seconds([sys.executable, "-c", code]))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    bare = medians["a bare interpreter"]
    return {name: {"seconds": round(value, 3), "ratio": round(value / bare, 1)} for name, value in medians.items()}


def wheel() -> dict[str, Any]:
    """Its size, and the largest of its files."""
    import zipfile

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", folder, str(HERE.parent)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (file,) = Path(folder).glob("*.whl")
        files = sorted(zipfile.ZipFile(file).infolist(), key=lambda one: -one.compress_size)
        largest = {one.filename: one.compress_size for one in files[:3]}
        return {"bytes": file.stat().st_size, "files": len(files), "largest": largest}


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=HERE.parent)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
