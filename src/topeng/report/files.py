"""What the pages read of a run folder, and how they are written: templates escape every value."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from topeng.errors import RunError
from topeng.report import wording

FORMS = (wording.count, wording.decimal, wording.signed, wording.percent, wording.duration, wording.memory)


def existing(path: Path) -> Path:
    """The path.

    Raises:
        RunError: there is nothing.
    """
    if not path.exists():
        raise RunError(f"{path} is missing: the report needs a finished run; `topeng run` finishes it")
    return path


def read_text(path: Path) -> str:
    """As UTF-8.

    Raises:
        RunError: the file is missing.
    """
    return existing(path).read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """Whatever value it holds.

    Raises:
        RunError: the file is missing, or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not JSON ({error}): remove it and run its stage again") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """A record a line.

    Raises:
        RunError: the file is missing, or is not JSON Lines.
    """
    try:
        return [json.loads(line) for line in read_text(path).split("\n") if line.strip()]
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not JSON Lines ({error}): remove it and run its stage again") from error


def templates() -> Environment:
    """Those of this package, with the forms of numbers as filters."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {form.__name__: form for form in FORMS}
    return environment


def write_page(path: Path, page: str) -> None:
    """As UTF-8, which cannot hold the half of a surrogate pair that a model may emit."""
    Path(path).write_bytes(page.encode("utf-8", "replace"))
