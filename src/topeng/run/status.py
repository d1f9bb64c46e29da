"""`topeng status`: which stages of a run are done, when and at what cost, and which a recipe would run again."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from topeng.errors import RunError
from topeng.run.folder import FINISHED, RunFolder, Stage
from topeng.run.manifest import MANIFEST
from topeng.system.memory import in_gib
from topeng.system.progress import clock


def open_run(path: Path) -> RunFolder:
    """Opens an existing run folder.

    Raises:
        RunError: it does not exist, or is not a run folder.
    """
    if not path.is_dir():
        raise RunError(f"there is no run folder {path}")
    if not (path / MANIFEST).is_file():
        raise RunError(
            f"{path} is not a run folder: it has no {MANIFEST}. `topeng run RECIPE --run-dir DIR` makes one."
        )
    return RunFolder(path)


def status_of(folder: RunFolder, planned: list[Stage]) -> dict[str, Any]:
    """What the next run would do with each stage (`next`), when it was done (UTC), how long it took, and its memory.

    The last three are None for a stage that was never finished.
    """
    stages = {}
    for name, expected in folder.outlook(planned).items():
        entry = folder.manifest["stages"].get(name, {})
        stages[name] = {"next": expected} | {key: entry.get(key) for key in ("ended", "seconds", "peak_memory_bytes")}
    left = [name for name, stage in stages.items() if stage["next"] != FINISHED]
    return {"run_dir": str(folder.path), "stages": stages, "left": left}


def print_status(found: Mapping[str, Any], console: Console) -> None:
    """Prints a line for each stage, and what the next run would do."""
    table = Table("stage", "done", "took", "memory", "", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name, stage in found["stages"].items():
        table.add_row(name, *_done(stage), Text("" if stage["next"] == FINISHED else stage["next"]))
    console.print(table)
    left, count = found["left"], len(found["stages"])
    counted = f"{count - len(left)} of {count} stages are done"
    console.print(f"{counted}. The next run starts with {left[0]}." if left else f"{counted}. Nothing is left to do.")


def _done(stage: Mapping[str, Any]) -> tuple[str, str, str]:
    """When a stage ended (local time), how long it took, and its peak memory."""
    if stage["ended"] is None:
        return "", "", ""
    ended = datetime.fromisoformat(stage["ended"]).astimezone()
    return f"{ended:%Y-%m-%d %H:%M}", clock(stage["seconds"]), in_gib(stage["peak_memory_bytes"])
