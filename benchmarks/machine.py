"""What numbers were taken on."""

import os
import platform
import time
from importlib import metadata

PACKAGES = ("torch", "transformers", "daft", "pyarrow", "numpy", "numba", "polars", "duckdb", "pandas", "ray")


def machine() -> dict[str, object]:
    """Date, hardware and versions, for the JSON that a benchmark writes."""
    installed = {distribution.name for distribution in metadata.distributions()}
    versions = {name: metadata.version(name) for name in PACKAGES if name in installed}
    cores = len(os.sched_getaffinity(0))
    return {"date": time.strftime("%Y-%m-%d"), "machine": f"{platform.machine()}, {cores} cores", "versions": versions}
