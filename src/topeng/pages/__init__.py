"""What all HTML pages share: one look, and policies that name their own scripts and styles. Open to all packages."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

LOOK = Path(__file__).parent / "look.css"
"""Colours, types and the player of answers, in the light and in the dark. Each page has a style of its own after it."""
PLAYER = Path(__file__).parent / "player.js"
"""Shows the steps of a denoising; a page's own script comes after it."""


LANGUAGES = ("en", "id")
"""In the order in which a page's texts are written down."""


def page_words(file: Path, language: str) -> dict[str, Any]:
    """A page's texts by their keys, in one language."""
    texts = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {key: pair[LANGUAGES.index(language)] for key, pair in texts.items()}


def templates(folder: Path, escape: bool = True) -> Environment:
    """Those of a folder; a name that is not given is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def own_source(*files: Path) -> tuple[Markup, str]:
    """Our scripts or styles, one after another, and the digest by which a page's policy lets them run."""
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return Markup(text), f"sha256-{digest}"
