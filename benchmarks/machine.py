"""What numbers were taken on."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

PACKAGES = ("torch", "transformers", "daft", "pyarrow", "numpy", "numba", "polars", "duckdb", "pandas", "ray")


def in_a_process(script: str, part: str, *arguments: str) -> dict[str, Any]:
    """What a part of a benchmark prints last, as JSON, from a process of its own: its peak memory is its own too."""
    child = subprocess.run([sys.executable, script, "--part", part, *arguments], stdout=subprocess.PIPE, text=True)
    if child.returncode:
        raise SystemExit(f"{part} failed")
    return json.loads(child.stdout.strip().splitlines()[-1])


def machine(also: Sequence[str] = ()) -> dict[str, object]:
    """Date, hardware and versions, for the JSON that a benchmark writes.

    Args:
        also: packages beside those that all benchmarks name.
    """
    installed = {distribution.name for distribution in metadata.distributions()}
    versions = {name: metadata.version(name) for name in (*PACKAGES, *also) if name in installed}
    cores = len(os.sched_getaffinity(0))
    return {"date": time.strftime("%Y-%m-%d"), "machine": f"{platform.machine()}, {cores} cores", "versions": versions}
