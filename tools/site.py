"""What the docs site has beside docs/, as a hook of MkDocs: `make docs`.

README, changelog, notebook, commands and options become pages. A link from docs/ to a file of the repository, which
GitHub shows, leads to a page with that file. Formulas become MathML, so that no script is fetched to show them.
"""

import html
import json
import os
import re
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]

PAGES = {  # file of the repository -> page
    "README.md": "index.md",
    "README.id.md": "index.id.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "notebooks/topeng.ipynb": "notebook.md",
}
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)")
COMMANDS = """# Commands

This is what `topeng COMMAND --help` prints. Options of a recipe have [a page of their own](options.md).

Three flags mean the same in every command that has them, before the command or after it. `--json` writes the result to
stdout as one JSON document, and progress to stderr; if the command fails, the document is
`{"error": {"type": …, "message": …}}`, and the exit status tells it too. `--quiet` prints no progress: only the result,
warnings and errors. `--verbose` adds what the libraries log, and the traceback of an error. Commands whose result is
not data (`chat`, `serve`, `completion`) have no `--json`, and all arguments of `lm-eval` are the harness's own.
"""
BADGE = re.compile(r"\[!\[[^\]]*\]\(https?://[^)]*\)\]\([^)]*\)\n?")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
LETTER = re.compile(r"\\mathrm\{(\w)\}")
TAG = re.compile(r"\\tag\{(\w+)\}")
TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
NAME = re.compile(r"<th[^>]*>(.*?)</th>", re.DOTALL)
CELL = re.compile(r"<td[^>]*>(.*?)</td>", re.DOTALL)
LONG_CELL = 60
"""Characters, with their markup, above which a cell is prose, and its table is stacked on a phone."""
MOST_STACKED = 4
"""Columns: of more, one above the other, nobody would see a table."""


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are not in docs/."""
    sys.path.insert(0, str(ROOT / "src"))  # where Topeng is not installed; MkDocs undoes what a hook's import changes
    texts = {page: _text(ROOT / file) for file, page in PAGES.items()}
    origins = {page: file for file, page in PAGES.items()}
    for file in files.documentation_pages():
        texts[file.src_uri] = Path(file.abs_src_path).read_text("utf-8")
        origins[file.src_uri] = f"docs/{file.src_uri}"
    for page, text in texts.items():
        if page in PAGES.values():
            files.append(File.generated(config, page, content=_relinked(text, origins[page], page)))
        for target in _targets(text, origins[page]):
            uri = _page_of(target)
            if uri.startswith("source/") and (ROOT / target).is_file() and uri not in files.src_uris:
                files.append(File.generated(config, uri, content=_source_page(target)))
    files.append(File.generated(config, "commands.md", content=_commands()))
    files.append(File.generated(config, "options.md", content=_options()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    if page.file.src_uri in ("index.md", "index.id.md"):
        page.meta["hide"] = ["navigation"]  # which would hold this page alone
    return markdown if page.file.generated_by else _relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:
    return TABLE.sub(_table, FORMULA.sub(_formula, content))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Says of a page in Indonesian that it is, for screen readers and search engines."""
    return output.replace('<html lang="en"', '<html lang="id"', 1) if page.file.src_uri.endswith(".id.md") else output


def _text(path: Path) -> str:
    """A file as Markdown, without badges: their images would be fetched from elsewhere."""
    return BADGE.sub("", _notebook(path) if path.suffix == ".ipynb" else path.read_text("utf-8"))


def _notebook(path: Path) -> str:
    """The cells of a notebook as Markdown."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return "\n\n".join(text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in sources)


def _targets(text: str, origin: str) -> Iterator[str]:
    """Files of the repository that a page links to, as their paths in it."""
    for _, target in LINK.findall(FENCED.sub("", text)):
        yield os.path.normpath(os.path.join(os.path.dirname(origin), target))


def _page_of(target: str) -> str:
    """The place on the site of a file of the repository."""
    if target in PAGES:
        return PAGES[target]
    if target.startswith("docs/") and not target.endswith(".py"):
        return target.removeprefix("docs/")
    real = os.path.relpath((ROOT / target).resolve(), ROOT)  # recipes/ is a link into src/
    return f"source/{real}.md"


def _relinked(text: str, origin: str, page: str) -> str:
    """The text with its links, which hold in the repository, as they hold on the site."""

    def link(found: re.Match) -> str:
        (target,) = _targets(found[0] + ")", origin)
        return found[1] + os.path.relpath(_page_of(target), os.path.dirname(page) or ".")

    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in FENCED.split(text))


def _source_page(target: str) -> str:
    """A page that shows a file of the repository."""
    path = (ROOT / target).resolve()
    name, code = path.relative_to(ROOT), path.read_text("utf-8")
    return f"---\nsearch:\n  exclude: true\n---\n# {name}\n\n~~~~{LANGUAGES.get(path.suffix, 'text')}\n{code}\n~~~~\n"


def _formula(found: re.Match) -> str:
    latex = html.unescape(found[2])
    block, tag = found[1] == "div", TAG.search(latex)
    plain = LETTER.sub(r"\\text{\1}", TAG.sub("", latex))  # of one upright letter the converter makes an italic one
    shown = convert(plain, display="block" if block else "inline")
    return f'<div class="equation">{shown}<span>({tag[1]})</span></div>' if tag else shown


def _table(found: re.Match) -> str:
    """The table as GitHub shows it; one of prose so that a phone can show its cells one under the other."""
    table = found[0].replace("\\|", "|")  # the parser keeps the backslash within code
    names, cells = NAME.findall(table), CELL.findall(table)
    if len(names) > MOST_STACKED or max(map(len, cells), default=0) <= LONG_CELL:
        return table
    labels = cycle(html.escape(html.unescape(re.sub("<[^>]*>", "", name))) for name in names)
    labelled = re.sub("<td", lambda _: f'<td data-label="{next(labels)}"', table)
    return f'<div class="stacked">{labelled}</div>'


def _commands() -> str:
    """The page of all commands: what `--help` prints."""
    os.environ["COLUMNS"] = "100"
    from topeng.cli.arguments import commands_of, parser

    text = COMMANDS
    for name, command in commands_of(parser()).items():
        text += f"\n## topeng {name}\n\n```text\n{command.format_help().strip()}\n```\n"
    return text


def _options() -> str:
    """The page of all options: what `topeng options` prints."""
    from topeng import recipe

    text = (
        "# Options of a recipe\n\nEvery option can be set in a recipe or on the command line: `--adapter.rank 32`. "
        "`topeng options` prints this list, and `topeng options train` one section of it.\n"
    )
    section = None
    for name, default, words in recipe.describe():
        if (head := name.rpartition(".")[0]) != section:
            section = head
            text += f"\n## {head or 'At the top'}\n\n| option | default | |\n|---|---|---|\n"
        cells = [f"`{name}`", f"`{default}`", html.escape(words)]
        text += "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    return text
