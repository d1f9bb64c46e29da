"""Files of JSON Lines, read as a whole, or collected line by line by work that may be killed."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from topeng.errors import RunError
from topeng.system.files import write_atomically

Line = dict[str, Any]


class LineFile:
    """Collects lines in `PATH.unfinished`, whose first line says what they belong to, and renames it at the end.

    Attributes:
        lines: lines of an interrupted call with the same head.
    """

    def __init__(self, path: Path, head: Line) -> None:
        self.path, self.unfinished = path, path.with_name(path.name + ".unfinished")
        lines = _whole_lines(self.unfinished)
        self.lines = lines[1:] if lines[:1] == [head] else []
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.unfinished, to_text([head, *self.lines]))

    def add(self, lines: Sequence[Line]) -> None:
        with self.unfinished.open("a", encoding="utf-8") as stream:
            stream.write(to_text(lines))

    def finish(self, lines: Sequence[Line]) -> None:
        """Writes the finished file with these lines, in this order."""
        write_atomically(self.path, to_text(lines))
        self.unfinished.unlink()


def read_lines(path: Path) -> list[Line]:
    """Reads a record from each line.

    Raises:
        RunError: the file is missing, or is not JSON Lines.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing, because the run is not finished. `topeng run` finishes it.") from error
    except ValueError as error:
        raise RunError(f"{path} is not JSON Lines ({error}). Remove it and run its stage again.") from error


def to_text(lines: Iterable[Line]) -> str:
    """Text that UTF-8 can encode, because a model may generate an unpaired surrogate."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return text.encode("utf-8", "replace").decode()


def _whole_lines(path: Path) -> list[Line]:
    """The lines before the first one that a kill or a crash has cut, possibly within a character."""
    lines: list[Line] = []
    text = path.read_bytes() if path.exists() else b""
    for line in text.split(b"\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
