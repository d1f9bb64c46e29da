"""What the docs say: their commands run, their links lead somewhere, their two languages say the same.

A block `sh` is run, in the order of its page, in a folder that looks like a clone. Above one that takes minutes stands
`<!-- run: slow -->`, above one that a test cannot run `<!-- not run: why -->`.
"""

import ast
import os
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(?:^<!-- (?P<marker>[^\n]*) -->\n)?^```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """Commands of a page; `marker` is the comment above them."""

    page: str
    text: str
    marker: str

    @property
    def slow(self) -> bool:
        return self.marker == "run: slow"

    @property
    def left_out(self) -> bool:
        return self.marker.startswith("not run: ")


def blocks(page: Path) -> list[Block]:
    name = str(page.relative_to(ROOT))
    return [Block(name, found["text"], found["marker"] or "") for found in BLOCK.finditer(page.read_text("utf-8"))]


BLOCKS = [block for page in PAGES for block in blocks(page)]


def clone(folder: Path) -> Path:
    """A folder with what a clone has after `make`: the command, the recipes, a Makefile that need not install."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    command = folder / ".venv" / "bin" / "topeng"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m topeng "$@"\n')
    command.chmod(0o755)
    (folder / "recipes").symlink_to(ROOT / "src" / "topeng" / "recipes")
    (folder / "Makefile").write_text("demo:\n\t.venv/bin/topeng demo\n")
    return folder


def run(arguments: list[str], folder: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(arguments, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def run_block(block: Block, folder: Path) -> None:
    run(["bash", "-e", "-c", block.text], folder)


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.marker], ids=lambda block: block.page)
def test_a_quick_command_runs(block, tmp_path):
    run_block(block, clone(tmp_path))


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    folder = clone(tmp_path_factory.mktemp("demo"))
    run(["make", "demo"], folder)
    return folder / "runs" / "demo"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.slow}))
def test_a_page_s_slow_commands_run_in_their_order(page, demo, tmp_path):
    folder = clone(tmp_path)
    (folder / "runs").mkdir()
    (folder / "runs" / "demo").symlink_to(demo)
    (table,) = [block for block in BLOCKS if block.slow and block.text.startswith("cat > mine.csv")]
    run_block(table, folder)  # the quickstart's, which guides take as given
    for block in (block for block in BLOCKS if block.page == page and block.slow):
        run_block(block, folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_readme_s_python_runs(demo, tmp_path):
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    run([sys.executable, "-c", code], demo.parents[1])


def test_every_block_is_run_or_says_why_not():
    unknown = [block.marker for block in BLOCKS if block.marker and not (block.slow or block.left_out)]
    assert not unknown
    assert {block.page for block in BLOCKS if not block.left_out} >= {"README.md", "docs/quickstart.md"}


@pytest.mark.parametrize("page", ["README.md", "README.id.md", "CONTRIBUTING.md", "docs/quickstart.md", "docs/guides"])
def test_commands_stand_in_blocks_that_are_looked_at(page):
    for path in sorted((ROOT / page).rglob("*.md")) or [ROOT / page]:
        fences = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        plain = [text for language, text in fences if language != "sh"]
        assert not [text for text in plain if re.search(r"^(\S*bin/)?(topeng|make|pip) ", text, re.MULTILINE)]


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = [title for _, title in HEADING.findall(FENCED.sub("", page.read_text("utf-8")))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = []
    for _, target in LINK.findall(FENCED.sub("", page.read_text("utf-8"))):
        name, _, anchor = target.partition("#")
        if "://" in target:
            continue
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(target)
    assert not broken


def linked_names(page: Path) -> list[tuple[str, str]]:
    """(name, file) of each link to a source file whose label is no file's name."""
    found = LINK.findall(page.read_text("utf-8"))
    return [(label, target) for label, target in found if target.endswith(".py") and not label.endswith(".py")]


@pytest.mark.parametrize("name", ["theory.md", "theory.id.md"])
def test_a_linked_function_is_in_its_file(name):
    page = ROOT / "docs" / name
    links = linked_names(page)
    assert len(links) > 15
    for label, target in links:
        tree = ast.parse((page.parent / target).read_text("utf-8"))
        assert label in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}, label


def without_comments(text: str) -> str:
    return re.sub(r"\s+#.*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "README.id.md"])
def test_the_readme_is_under_120_lines(name):
    assert len((ROOT / name).read_text("utf-8").splitlines()) < 120


@pytest.mark.parametrize("name", ["README.md", "docs/quickstart.md", "docs/how-llada-learns-indonesian.md"])
def test_both_languages_have_the_same_commands_headings_and_links(name):
    english = ROOT / name
    indonesian = english.with_suffix(".id.md")
    ours = [without_comments(block.text) for block in blocks(english)]
    assert ours == [without_comments(block.text) for block in blocks(indonesian)] and ours
    levels, targets = [], []
    for page in (english, indonesian):
        text = FENCED.sub("", page.read_text("utf-8"))
        levels.append([len(mark) for mark, _ in HEADING.findall(text)])
        targets.append({target.replace(".id.md", ".md") for _, target in LINK.findall(text)})
    assert levels[0] == levels[1]
    assert targets[0] == targets[1]


def test_the_theory_says_the_same_in_both_languages():
    texts = [(ROOT / "docs" / name).read_text("utf-8") for name in ("theory.md", "theory.id.md")]
    for pattern in (r"\\tag\{\d\}", r"\d{4}\.\d{5}", r"!\[[^\]]*\]\(([^)]+)\)", r"^#+ ", r"\]\((\.\./src[^)]+)\)"):
        found = [re.findall(pattern, text, re.MULTILINE) for text in texts]
        assert found[0] == found[1] and found[0], pattern
    formulas = [re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL) for text in texts]
    assert len(formulas[0]) == len(formulas[1])


def test_figures_are_those_that_the_script_draws_and_all_are_shown(tmp_path, monkeypatch):
    script = str(ROOT / "docs" / "theory_plots.py")
    monkeypatch.setattr(sys, "argv", [script, "--out", str(tmp_path)])
    with matplotlib.rc_context():
        runpy.run_path(script, run_name="__main__")
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text() for path in (ROOT / "docs").glob("theory-*.svg")}
    assert drawn.keys() == kept.keys()
    assert all(f"({name})" in (ROOT / "docs" / "theory.md").read_text("utf-8") for name in drawn)
    made_by = {re.findall(r"Matplotlib v[\d.]+", text)[0] for text in [*drawn.values(), *kept.values()]}
    if len(made_by) > 1:
        pytest.skip(f"drawn by {' and '.join(sorted(made_by))}")
    assert drawn == kept
