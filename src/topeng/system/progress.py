"""Progress and the time left: a moving line in a terminal, and a plain line every few seconds elsewhere."""

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

SECONDS = 5.0
"""Seconds between two plain lines."""
SPEED_SECONDS = 600.0
"""Seconds over which the speed is measured, because steps of large models may take minutes."""


def progress_bar(console: Console, *more: ProgressColumn, seconds: float = SECONDS) -> Progress:
    """A progress line, or plain lines if the console is not a terminal.

    Args:
        more: columns at the end. Plain lines show the field `figures` of the task, if it has one.
        seconds: seconds between two plain lines.
    """
    if not console.is_terminal:
        return _PlainLines(console, seconds)
    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), *more)
    return Progress(*columns, console=console, transient=True, speed_estimate_period=SPEED_SECONDS)


def clock(seconds: float) -> str:
    """3671 -> 1:01:11."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _PlainLines(Progress):
    """Prints plain lines, because rich's display writes nothing to a pipe."""

    def __init__(self, console: Console, seconds: float) -> None:
        super().__init__(console=console, disable=True, speed_estimate_period=SPEED_SECONDS)
        self._seconds, self._told = seconds, time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._tell(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        if time.monotonic() - self._told >= self._seconds:
            self._told = time.monotonic()
            self.console.print(_line(self._tasks[task_id]), markup=False, highlight=False, soft_wrap=True)


def _line(task: Task) -> str:
    """A line such as `  lora: 120 of 250, 0:42 left  loss 3.1`."""
    done = f"{task.completed:,.0f}" + (f" of {task.total:,.0f}" if task.total is not None else "")
    left = f", {clock(task.time_remaining)} left" if task.time_remaining else ""
    return f"  {task.description}: {done}{left}  {task.fields.get('figures', '')}".rstrip()
