"""The docs site: it builds without a warning, its links lead somewhere, and it fetches nothing from elsewhere."""

import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parents[1]
FETCHED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src")}


class Page(HTMLParser):
    """The links, anchors and fetched files of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.text = path.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value)
            if (tag, name) in FETCHED:
                self.fetched.append(value)
            if name in ("href", "src"):
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    if not all(map(find_spec, ("mkdocs", "material", "mkdocstrings", "latex2mathml"))) and "CI" not in os.environ:
        pytest.skip("MkDocs is not installed: `make docs` installs it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def test_every_link_of_the_site_leads_to_a_file_and_a_place_in_it(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            name, _, anchor = unquote(link).partition("#")
            if ":" in name:
                continue
            target = (path.parent / name).resolve() if name else path
            known = pages[target].anchors if target in pages else set()
            if not target.exists() or (anchor and target in pages and anchor not in known and anchor != "__skip"):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_nothing_is_fetched_from_elsewhere(pages):
    elsewhere = [(path.name, link) for path, page in pages.items() for link in page.fetched if "//" in link]
    assert not elsewhere


def test_markdown_and_formulas_are_rendered(pages):
    for path, page in pages.items():
        assert not re.search(r"<p>[^<]*\n[-*] ", page.text), f"{path.name}: a list without an empty line before it"
        assert "arithmatex" not in page.text and "<merror" not in page.text, path.name
        assert not re.search(r"<m[ion][^>]*>\\", page.text), f"{path.name}: a command of LaTeX that is not converted"


def test_a_phone_shows_the_cells_of_prose_one_under_the_other(pages, site):
    text = pages[site / "troubleshooting.html"].text
    assert '<div class="stacked"><table>' in text and '<td data-label="remedy">' in text
    assert "lacks &lt;|start_header_id|&gt;" in text  # the backslash is Markdown's, within a table
    numbers = pages[site / "how-llada-learns-indonesian.html"].text
    assert "<table>" in numbers and "stacked" not in numbers


def test_the_search_works_from_the_disk(site, page):
    found = "[...document.querySelectorAll('.md-search-result__link')].map(link => link.href).join(' ')"
    page.open((site / "index.html").as_uri())
    page.run("document.querySelector('[data-md-component=search-query]').focus()")
    page.write("troubleshootin")
    page.key("g")  # the page reads what was written at a key
    end = time.monotonic() + 30
    while "troubleshooting.html" not in page.run(found) and time.monotonic() < end:
        time.sleep(0.1)
    assert "troubleshooting.html" in page.run(found)
    assert not page.complaints()


def test_both_languages_are_told_apart(site, pages):
    told = {
        path.relative_to(site).as_posix(): re.search(r'<html lang="(\w+)"', page.text)[1]
        for path, page in pages.items()
    }
    assert {name for name, language in told.items() if language == "id"} == {
        path.relative_to(ROOT / "docs").as_posix().replace(".md", ".html") for path in (ROOT / "docs").rglob("*.id.md")
    } | {"index.id.html"}


def test_the_reference_has_what_the_package_has(pages, site):
    from topeng import recipe
    from topeng.cli.arguments import STAGE_COMMANDS

    options, commands, api = (pages[site / f"{name}.html"] for name in ("options", "commands", "api"))
    assert not [name for name, _, _ in recipe.describe() if f"<code>{name}</code>" not in options.text]
    assert {f"topeng-{name}" for name in [*STAGE_COMMANDS, "generate", "serve", "export"]} <= commands.anchors
    assert {"topeng.load", "topeng.diffusion.loss.sft_loss", "topeng.generate.settings.Settings"} <= api.anchors
    assert "a checkpoint folder" in api.text  # of the docstring of topeng.load
