"""Files of JSON Lines: read whole, or gathered line by line by work that may be killed."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from topeng.errors import RunError
from topeng.system.files import write_atomically

Line = dict[str, Any]


class LineFile:
    """Lines are gathered in `PATH.unfinished`, of which the first says what they are of, and renamed in the end.

    Attributes:
        lines: that an earlier call with the same head has left.
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
        """Writes the file: these lines, in this order."""
        write_atomically(self.path, to_text(lines))
        self.unfinished.unlink()


def read_lines(path: Path) -> list[Line]:
    """A record a line.

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
    """As UTF-8 can hold it: a model may emit half of a surrogate pair."""
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return text.encode("utf-8", "replace").decode()


def _whole_lines(path: Path) -> list[Line]:
    """Those before the first that a kill or a crash has cut, in the midst of a character too."""
    lines: list[Line] = []
    text = path.read_bytes() if path.exists() else b""
    for line in text.split(b"\n")[:-1]:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
