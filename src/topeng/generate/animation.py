"""Writes one self-contained HTML page that shows how answers were denoised.

Committed tokens never change, so the final tokens, with the forward pass and the confidence of each, are enough to
replay the denoising. The template escapes every value. Without scripts the page shows the answers. It looks like the
report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from topeng.generate.settings import Settings
from topeng.pages import LOOK, PLAYER, own_source, page_words, templates
from topeng.system.files import write_atomically

HERE = Path(__file__).parent
UNSURE = 0.5
"""Confidence below which a token is underlined."""


def write_animation(
    path: Path,
    records: Sequence[dict[str, Any]],
    source: Mapping[str, str | None],
    settings: Settings,
    language: Literal["en", "id"] = "en",
) -> None:
    """Writes the page.

    Args:
        records: those that `topeng generate --out` writes.
        source: `model` and `preset`, and if used `adapter`, `template` and `system`.
        settings: the settings with which the answers were decoded.
        language: language of the page.
    """
    words = page_words(HERE / "animation.yaml", language)
    (style, style_digest), (script, script_digest) = (
        own_source(LOOK, HERE / "animation.css"),
        own_source(PLAYER, HERE / "animation.js"),
    )
    environment = templates(HERE)
    environment.globals |= {"t": lambda key, **values: words[key].format(**values)}
    environment.filters["decimal"] = lambda value, digits: _decimal(value, digits, language)
    page = environment.get_template("animation.html.jinja").render(
        language=language,
        source={name: _short(value) if name in ("model", "adapter") else value for name, value in source.items()},
        settings=asdict(settings),
        unsure=UNSURE,
        films=[record | {"tokens": _tokens(record)} for record in records],
        style=style,
        style_digest=style_digest,
        script=script,
        script_digest=script_digest,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode("utf-8", "replace").decode())


def _decimal(value: float, digits: int, language: str) -> str:
    """Formats a number: 1,234.5 in English and 1.234,5 in Indonesian."""
    text = f"{value:,.{digits}f}"
    return text.translate(str.maketrans(",.", ".,")) if language == "id" else text


def _short(name: str | None) -> str | None:
    """The last two parts of a folder, such as `adapters/lora`, because pages are shared. A Hub id is unchanged."""
    return name and "/".join([part for part in Path(name).parts if part not in ("/", "..")][-2:])


def _tokens(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Separates white space before a token, so that masks are spaced like words."""
    columns = zip(record["pieces"], record["committed_at"], record["confidence"], strict=True)
    tokens = []
    for piece, step, confidence in columns:
        text = piece.lstrip()
        space = piece[: len(piece) - len(text)]
        tokens.append({"space": space, "text": text, "committed_at": step, "confidence": confidence})
    return tokens
