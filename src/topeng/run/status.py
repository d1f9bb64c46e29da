"""`topeng status`: what of a run is done, when and at what cost, and what the same or another recipe would do again."""

from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from topeng.errors import RunError
from topeng.run.folder import FINISHED, MANIFEST, RunFolder, Stage
from topeng.system.memory import in_gib
from topeng.system.progress import clock


def open_run(path: Path) -> RunFolder:
    """A run folder that is there.

    Raises:
        RunError: it is none.
    """
    if not (path / MANIFEST).is_file():
        raise RunError(
            f"{path} is not a run folder: it has no {MANIFEST}. `topeng run RECIPE --run-dir DIR` makes one."
        )
    return RunFolder(path)


def print_status(folder: RunFolder, planned: list[Stage], console: Console) -> None:
    """Prints a line for each stage, and what the next run would do."""
    outlook = folder.outlook(planned)
    table = Table("stage", "done", "took", "memory", "", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name, expected in outlook.items():
        table.add_row(name, *_done(folder, name), Text("" if expected == FINISHED else expected))
    console.print(table)
    left = [name for name, expected in outlook.items() if expected != FINISHED]
    counted = f"{len(outlook) - len(left)} of {len(outlook)} stages are done"
    console.print(f"{counted}. The next run starts with {left[0]}." if left else f"{counted}. Nothing is left to do.")


def _done(folder: RunFolder, name: str) -> tuple[str, str, str]:
    """When a stage ended (local time), how long it took, and its peak memory."""
    entry = folder.manifest["stages"].get(name)
    if entry is None:
        return "", "", ""
    ended = datetime.fromisoformat(entry["ended"]).astimezone()
    return f"{ended:%Y-%m-%d %H:%M}", clock(entry["seconds"]), in_gib(entry["peak_memory_bytes"])
