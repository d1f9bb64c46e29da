"""The output of every command: its result as text or as one JSON document, and progress.

`--json`, `--quiet` and `--verbose` mean the same for every command that has them.
"""

import argparse
import json
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

JSON = "Write the result to stdout as one JSON document, and progress to stderr. A failure is such a document too."
QUIET = "Print no progress: only the result, warnings and errors."
VERBOSE = "Also print what the libraries log, and the traceback of an error."


@dataclass(frozen=True)
class Output:
    """Where a command writes, and how much it prints."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False

    @classmethod
    def of(cls, known: argparse.Namespace) -> "Output":
        return cls(*(getattr(known, name, False) for name in ("json", "quiet", "verbose")))

    @property
    def shown(self) -> tuple[bool, bool]:
        """Whether progress is written to stderr, because stdout has a JSON document, and whether it is suppressed."""
        return self.json, self.quiet

    def progress(self) -> "Console":
        from rich.console import Console

        return Console(stderr=self.json, quiet=self.quiet)

    def result(self, value: Callable[[], Mapping[str, Any]], text: Callable[["Console"], None]) -> None:
        """Writes a result.

        Args:
            value: makes plain values for JSON.
            text: prints the result for people.
        """
        if self.json:
            print(to_json(value()))
            return
        from rich.console import Console

        text(Console())

    def written(self, *paths: Any) -> None:
        """Prints which files or folders were written."""
        self.result(lambda: {"written": [str(path) for path in paths]}, lambda _: print_paths(paths))

    def failure(self, error: BaseException, message: str) -> None:
        """Prints the JSON document of a failure if JSON is wanted, and the traceback if `verbose`."""
        if self.verbose:
            traceback.print_exception(error)
        if self.json:
            print(failure_json(type(error).__name__, message))


def failure_json(kind: str, message: str) -> str:
    return to_json({"error": {"type": kind, "message": message}})


def to_json(value: Any) -> str:
    """Values as JSON in ASCII, which works in every locale. Numbers that are not finite become null."""
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def print_paths(paths: Sequence[Any]) -> None:
    for path in paths:
        print(f"written: {path}")
