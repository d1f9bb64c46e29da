"""The page: a chat that shows how answers are denoised. It loads nothing from other sites."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

from jinja2 import Template

from topeng.generate.policies import POLICIES
from topeng.pages import LOOK, PLAYER, own_source, page_words, templates
from topeng.serve.asking import Models

HERE = Path(__file__).parent
OWN = ("page_tokens.js", "page_stream.js", "page.js")


def page(models: Models, presets: list[str], language: Literal["en", "id"], needs_key: bool) -> tuple[str, str]:
    """The page, and the content security policy that only allows its own script and style.

    Args:
        needs_key: whether the page asks for an API key.
    """
    style, style_digest = own_source(LOOK, HERE / "page.css")
    script, script_digest = own_source(PLAYER, *(HERE / name for name in OWN))
    policy = (
        f"default-src 'none'; script-src '{script_digest}'; style-src '{style_digest}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    text = _template(language).render(
        language=language,
        words=_words(language),
        voices=list(models.voices),
        presets=presets,
        policies=sorted(POLICIES),
        settings=models.settings,
        turns=models.turns,
        context=models.voices["base"].model.config.max_position_embeddings,
        needs_key=needs_key,
        style=style,
        script=script,
    )
    return text, policy


@cache
def _template(language: str) -> Template:
    environment = templates(HERE)
    environment.globals |= {"t": lambda key, **values: _words(language)[key].format(**values)}
    return environment.get_template("page.html.jinja")


@cache
def _words(language: str) -> dict[str, Any]:
    return page_words(HERE / "page.yaml", language)
