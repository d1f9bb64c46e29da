"""What is heavy is imported by what needs it alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import topeng

SOURCE = Path(topeng.__file__).parent

CORPUS_ONLY = [
    "daft",
    "umap",
    "numba",
    "sklearn",
    "scipy",
    "pyarrow",
    "sentence_transformers",
    "sacrebleu",
    "rouge_score",
    "datasets",
    "lm_eval",
]


def run_without(blocked: list[str], code: str) -> subprocess.CompletedProcess:
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}, None)); {code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_help_imports_no_torch():
    result = run_without(["torch", "transformers", "daft", "numpy"], "from topeng.cli import main; main(['--help'])")
    assert result.returncode == 0, result.stderr
    assert "evaluate" in result.stdout


def test_a_recipe_is_read_without_torch():
    result = run_without(["torch", "transformers", "numpy"], "from topeng import recipe; recipe.parse({})")
    assert result.returncode == 0, result.stderr


def test_training_and_answering_need_none_of_the_corpus_tools():
    # torch itself looks for scipy and pyarrow in places; what is blocked is what only the corpus needs
    modules = (
        "adapt.methods",
        "adapt.train",
        "generate.decode",
        "generate.answer",
        "evaluate.scores",
        "evaluate.compare",
    )
    result = run_without(CORPUS_ONLY, "; ".join(f"import topeng.{module}" for module in ("diffusion", *modules)))
    assert result.returncode == 0, result.stderr


ORDER = ["corpus", "text", "models", "diffusion", "generate", "adapt", "evaluate", "report", "serve"]
OPEN = {
    "errors", "kecil", "lines", "memory", "options", "pages", "progress", "ranks", "recipe", "run", "stop", "workers",
}  # fmt: skip


def imports_of(file: Path) -> set[str]:
    """Modules of Topeng that a file imports, by the first name below the package."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("topeng."):
            names.add(node.module.split(".")[1])
    return names


@pytest.mark.parametrize("place", range(len(ORDER)))
def test_a_package_imports_only_what_stands_left_of_it(place):
    allowed = {*ORDER[: place + 1], *OPEN}
    for file in (SOURCE / ORDER[place]).rglob("*.py"):
        assert imports_of(file) <= allowed, file


@pytest.mark.parametrize("name", sorted(OPEN))
def test_what_is_open_to_all_imports_none_of_them(name):
    module = SOURCE / f"{name}.py"
    file = module if module.exists() else SOURCE / name / "__init__.py"
    assert imports_of(file) <= {*OPEN, "adapt", "corpus", "generate"}  # their settings
