"""How answers came to be, as one HTML page that loads nothing.

What is committed stays: the final tokens, with the forward pass and the confidence of each, are the whole film. The
template escapes every value; without scripts it shows the answers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from topeng.run import write_atomically


def write_animation(path: Path, records: Sequence[dict[str, Any]], tokenizer: Any, title: str) -> None:
    """Writes the page.

    Args:
        records: of `topeng generate --out`.
        tokenizer: of their model.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    films = [record | {"tokens": _tokens(record, tokenizer)} for record in records]
    page = environment.get_template("animation.html.jinja").render(title=title, films=films)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode("utf-8", "replace").decode())


def _tokens(record: dict[str, Any], tokenizer: Any) -> list[dict[str, Any]]:
    columns = zip(record["token_ids"], record["committed_at"], record["confidence"], strict=True)
    return [
        {"text": tokenizer.decode([token]), "committed_at": step, "confidence": confidence}
        for token, step, confidence in columns
    ]
