"""Reads the files of a run folder for the pages, and renders templates, which escape every value."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment
from markupsafe import Markup

from topeng import pages
from topeng.adapt.settings import METHODS
from topeng.errors import RunError
from topeng.evaluate.compare import FORMAT
from topeng.report.wording import DASH, Wording

Record = dict[str, Any]
HOME = re.compile(r"(?:/home/|/Users/|[A-Za-z]:\\Users\\)[^/\\\s'\"]+|/root(?![\w.-])")


@dataclass(frozen=True)
class Finished:
    """A finished run.

    Attributes:
        folder: folder of the run.
        scores: `scores.json`.
        manifest: `manifest.json`.
        recipe: `recipe.yaml`, with every option resolved.
        methods: methods that were scored, in the order of the table of methods.
        summaries: `summary.json` of the first adapter of each method.
    """

    folder: Path
    scores: Record
    manifest: Record
    recipe: Record
    methods: list[str]
    summaries: dict[str, Record]

    def names(self, model: str) -> list[str]:
        """The adapters of a method, one per seed, or only `base` for the base."""
        return self.scores["models"][model]["names"]


def read_run(folder: Path) -> Finished:
    """Reads the files that both pages are made from.

    Raises:
        RunError: a file is missing or cannot be read, or the scores have the format of another version.
    """
    scores = read_json(folder / "scores.json")
    if scores.get("format") != FORMAT:
        raise RunError(
            f"{folder / 'scores.json'} has format {scores.get('format')}, but the report reads {FORMAT}. "
            "Remove it and run `topeng compare` again."
        )
    found = [name for name in scores["models"] if name != "base"]
    methods = sorted(found, key=lambda name: [*METHODS, *found].index(name))
    first = {method: scores["models"][method]["names"][0] for method in methods}
    summaries = {method: read_json(folder / "adapters" / name / "summary.json") for method, name in first.items()}
    recipe = yaml.safe_load(read_text(folder / "recipe.yaml"))
    return Finished(folder, scores, read_json(folder / "manifest.json"), recipe, methods, summaries)


def existing(path: Path) -> Path:
    """The path.

    Raises:
        RunError: there is nothing.
    """
    if not path.exists():
        raise RunError(f"{path} is missing. The report needs a finished run: `topeng run` finishes it.")
    return path


def read_text(path: Path) -> str:
    """As UTF-8.

    Raises:
        RunError: the file is missing.
    """
    return existing(path).read_text(encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        RunError: the file is missing, or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is not JSON ({error}). Remove it and run its stage again.") from error


def templates(words: Wording | None = None, escape: bool = True) -> Environment:
    """Those of this package, with the forms of numbers as filters and the words as `t`."""
    return _templates((words or Wording()).language, escape)


@cache
def _templates(language: str, escape: bool) -> Environment:
    """Kept, as is what they compile: a run has a card for each method, and a map beside its report."""
    words, environment = Wording(language), pages.templates(Path(__file__).parent, escape)
    environment.filters |= {form: getattr(words, form) for form in words.FORMS}
    environment.globals |= {"t": words, "dash": DASH}
    return environment


def embedded(value: Any) -> Markup:
    """JSON for a script element. No text in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def own_source(*names: str | Path) -> tuple[Markup, str]:
    """`pages.own_source` for files of this package, by their names."""
    return pages.own_source(*(Path(__file__).parent / name for name in names))


def without_homes(text: str) -> str:
    """Text with `~` instead of home folders, because pages are shared."""
    return HOME.sub("~", text)


def cut_rows(summary: Mapping[str, Any]) -> Record:
    """Numbers of prompts and answers that were cut to fit in a training, or nothing if none were."""
    known = summary.get("cut")
    return {part: rows for part, rows in known.items() if rows} if isinstance(known, Mapping) else {}


def share(part: Any, whole: Any) -> float | None:
    """A share, or None if a number is unknown."""
    numbers = isinstance(part, int | float) and isinstance(whole, int | float)
    return part / whole if numbers and whole else None


def write_page(path: Path, page: str) -> None:
    """Writes text as UTF-8, without unpaired surrogates, which a model may generate."""
    Path(path).write_bytes(page.encode("utf-8", "replace"))


def first_of(records: Mapping[Any, Record]) -> Record:
    """The first of some records, or an empty one."""
    return next(iter(records.values()), {})
