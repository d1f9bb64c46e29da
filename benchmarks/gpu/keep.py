"""Keeps what was measured on a GPU machine: benchmarks/gpu.json, and benchmarks/gpu.txt for people.

    python benchmarks/gpu/keep.py DIR [DIR …]    # folders with the gpu.json of runs on one card, the earliest first

Where a first run had no time for all parts, a second did the others: of each part the run that came furthest is kept.
"""

import argparse
import sys
from pathlib import Path

from ledger import Ledger, Record

FURTHEST = ("done", "incomplete", "out of time", "running", "failed", "not built")
"""How a part may have ended, the best first."""
ALIKE = ("card", "versions")
"""Facts in which runs must agree to stand in one file."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1], help="folder (benchmarks)")
    options = parser.parse_args()
    try:
        record = together([Ledger(folder).read() for folder in options.folders])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    Ledger(options.out).write(record)
    print((options.out / "gpu.txt").read_text(encoding="utf-8"))
    return 0


def together(records: list[Record]) -> Record:
    """One record of several runs.

    Raises:
        ValueError: one is a trial without a GPU, or they are of different cards or versions.
    """
    for record in records:
        if record.get("device") != "cuda" or record.get("small"):
            raise ValueError("this run is a trial at a small shape or without a GPU: its figures are none of a GPU's")
        for name in ALIKE:
            if record[name] != records[0][name]:
                raise ValueError(f"{name} differ: {record[name]} and {records[0][name]}: keep one of the runs")
    parts: dict[str, Record] = {}
    for record in records:
        for name, part in record["parts"].items():
            if name not in parts or FURTHEST.index(part["status"]) <= FURTHEST.index(parts[name]["status"]):
                parts[name] = part
    return records[0] | {"parts": parts}


if __name__ == "__main__":
    sys.exit(main())
