"""What is heavy is imported by what needs it alone."""

import ast
import subprocess
import sys
from importlib.util import find_spec
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
    "pandas",
]


def run_without(blocked: list[str], code: str) -> subprocess.CompletedProcess:
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}, None)); {code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_help_imports_no_torch():
    result = run_without(["torch", "transformers", "daft", "numpy"], "from topeng.cli import main; main(['--help'])")
    assert result.returncode == 0, result.stderr
    assert "evaluate" in result.stdout


def test_recipes_and_cards_are_read_without_torch():
    code = "from topeng import recipe; import topeng.adapt.push; recipe.parse({})"
    result = run_without(["torch", "transformers", "numpy"], code)
    assert result.returncode == 0, result.stderr


WITHOUT_CORPUS = (
    "diffusion",
    "adapt.methods",
    "adapt.pretrain",
    "adapt.train",
    "generate.decode",
    "generate.answer",
    "evaluate.scores",
    "evaluate.compare",
)
ABSENT = [*CORPUS_ONLY, "matplotlib", "tensorboard", "ray"]


def test_training_answering_and_serving_import_none_of_the_corpus_tools():
    """What is imported with them; what they import once they work: the next test."""
    reached, todo = set(), {f"topeng.{name}" for name in (*WITHOUT_CORPUS, "serve.app", "cli")}
    while todo:
        name = todo.pop()
        reached.add(name)
        todo |= imported_with(name) - reached
    assert {"topeng.models.llada", "torch", "fastapi"} <= reached
    assert {name.split(".")[0] for name in reached} & set(ABSENT) == set()


def imported_with(name: str) -> set[str]:
    """What a module of Topeng imports as it is imported itself: by its full name, with the packages that it is in."""
    file = SOURCE.parent.joinpath(*name.split(".")).with_suffix(".py")
    file = file if file.exists() else file.with_suffix("") / "__init__.py"
    if not name.startswith("topeng") or not file.exists():
        return set()
    names, todo = {name.rpartition(".")[0]} - {""}, [ast.parse(file.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            condition = ast.unparse(node.test) if isinstance(node, ast.If) else ""
            todo += [] if condition == "TYPE_CHECKING" else ast.iter_child_nodes(node)
    return names


@pytest.mark.slow
def test_training_answering_and_serving_need_none_of_the_corpus_tools():
    """Torch itself looks for scipy and pyarrow in places; what is blocked is what only the corpus needs."""
    code = "\n".join(f"import topeng.{module}" for module in WITHOUT_CORPUS) + ANSWER
    if find_spec("fastapi"):
        code += SERVE
    result = run_without(ABSENT, code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("<answer>") == (2 if find_spec("fastapi") else 1)
    assert "pip install 'topeng[eval]'" in result.stderr and "Traceback" not in result.stderr


ANSWER = """
from topeng.cli import main
assert main(["generate", "kecil", "Who?", "--max_new_tokens", "32"]) == 0
print("<answer>")
assert main(["lm-eval", "--tasks", "arc_id"]) == 1
"""

SERVE = """
from starlette.testclient import TestClient
from topeng.adapt.voices import load_voices
from topeng.generate import Settings
from topeng.serve import command
from topeng.serve.app import Server, create_app
from topeng.serve.asking import Models
base, tokenizer = topeng.load("kecil", device="cpu")
models = Models(load_voices(base, {}), tokenizer, Settings(max_new_tokens=32, stop_at_end=True))
with TestClient(create_app(Server(models))) as client:
    ask = {"model": next(iter(models.voices)), "messages": [{"role": "user", "content": "Who?"}]}
    assert client.post("/v1/chat/completions", json=ask).json()["choices"][0]["message"]["content"]
print("<answer>")
"""


ORDER = [
    *("errors", "options", "system", "kecil", "pages", "corpus", "text", "models", "diffusion", "generate", "adapt"),
    *("evaluate", "report", "serve", "recipe", "run", "cli"),
]
ROOT = {"__init__", "__main__"}
"""What the package offers at its top, which may look a name up in any package when it is called."""


def imports_of(file: Path) -> set[str]:
    """Modules of Topeng that a file imports, by the first name below the package."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("topeng."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "topeng":
            names |= {alias.name for alias in node.names} - {"__version__", "load"}
    return names


def files_of(name: str) -> list[Path]:
    return list((SOURCE / name).rglob("*.py")) or [SOURCE / f"{name}.py"]


def test_every_module_has_its_place():
    here = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert here == {*ORDER, *ROOT}


@pytest.mark.parametrize("name", ORDER)
def test_a_package_imports_only_what_stands_left_of_it(name):
    """So that there is no circle between packages."""
    allowed = set(ORDER[: ORDER.index(name) + 1])
    for file in files_of(name):
        assert imports_of(file) <= allowed, file


@pytest.mark.parametrize("name", ORDER[: ORDER.index("adapt")])
def test_what_stands_left_of_adapters_loads_none(name):
    """`topeng.load` puts an adapter on a model."""
    for file in files_of(name):
        assert "from topeng import load" not in file.read_text(), file
