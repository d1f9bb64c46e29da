"""Whether two run folders hold the same rows, base and adapters, by the digests in their manifests.

python tests/same_run.py RUN RUN
"""

import json
import sys
from pathlib import Path

TIMED = ("evaluate/", "scores.json", "report.html", "sweep")
"""Outputs that hold seconds."""


def digests(run: Path) -> dict[str, str]:
    """Of each output that holds no time."""
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    found = {name: digest for stage in stages.values() for name, digest in stage["outputs"].items()}
    return {name: digest for name, digest in found.items() if not name.startswith(TIMED)}


def main(one: str, two: str) -> int:
    """Prints what differs; 0 where nothing does."""
    first, second = digests(Path(one)), digests(Path(two))
    different = [name for name in sorted(first | second) if first.get(name) != second.get(name)]
    for name in different:
        print(f"{name}: {first.get(name, 'absent')[:12]} {second.get(name, 'absent')[:12]}")
    print(f"{len(different)} of {len(first | second)} outputs differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
