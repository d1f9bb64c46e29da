"""Whether two run folders hold the same rows, base, adapters and scores, byte by byte.

python tests/same_run.py RUN RUN
"""

import json
import sys
from pathlib import Path

from topeng.system.files import digest

TIMED = ("report.html", "sweep")
"""Outputs that hold seconds."""


def digests(run: Path) -> dict[str, str]:
    """Of each output that holds no time."""
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    outputs = [name for stage in stages.values() for name in stage["outputs"]]
    return {name: digest(run / name) for name in outputs if not name.startswith(TIMED)}


def different_outputs(one: Path, two: Path) -> list[str]:
    """Those that are not the same in both, or in one alone."""
    first, second = digests(one), digests(two)
    return [name for name in sorted(first | second) if first.get(name) != second.get(name)]


def main(one: str, two: str) -> int:
    """Prints what differs; 0 where nothing does."""
    different = different_outputs(Path(one), Path(two))
    for name in different:
        print(f"{name} differs")
    print(f"{len(different)} outputs differ" if different else "the same outputs")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
