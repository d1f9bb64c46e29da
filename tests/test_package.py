"""What is published: one version everywhere, and an sdist and a wheel that work where nothing else is."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import topeng

ROOT = Path(__file__).resolve().parents[1]
FEW = [  # of all that the demo does
    *("--corpus.synthetic_rows=20000", "--corpus.sample_rows=2000", "--corpus.train_rows=1000"),
    *("--corpus.umap_rows=200", "--corpus.test_rows=60", "--source.test_rows=60"),
    *("--adapter.methods=[lora]", "--train.steps=3", "--evaluate.generate_rows=8"),
]
MOST_WHEEL_BYTES = 12 * 2**20


def run(arguments: list[str | Path], folder: Path, **variables: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    env |= variables
    done = subprocess.run(arguments, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == topeng.__version__
    assert citation["license"] == "Apache-2.0"
    assert f"\n## {topeng.__version__} (" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_issue_templates_are_forms_that_github_takes():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text("utf-8"))
        assert form["name"] and form["description"], path
        asked = [part for part in form["body"] if part["type"] != "markdown"]
        assert asked and all(part["id"] and part["attributes"]["label"] for part in asked), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the sdist, as `python -m build` does, so that both are tried."""
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--outdir", out, ROOT], out)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "README.md", "pyproject.toml", "src/topeng/py.typed"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs", "site", ".git/"))]
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_has_what_a_run_needs_and_is_small(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    here = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "topeng").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here <= names
    assert not [name for name in names if not name.startswith(("topeng/", "topeng-"))]
    assert wheel.stat().st_size < MOST_WHEEL_BYTES


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_wheel_generates_and_runs_the_demo_in_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    shutil.copy(wheel, tmp_path)
    cells = json.loads((ROOT / "notebooks" / "topeng.ipynb").read_text("utf-8"))["cells"]
    install = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")  # as in Colab
    run([binaries / "python", "-c", install], tmp_path, PIP_CONSTRAINT=str(ROOT / "constraints.txt"))
    assert run([binaries / "topeng", "--version"], tmp_path) == f"topeng {topeng.__version__}\n"
    where = run([binaries / "python", "-c", "import topeng; print(topeng.__file__)"], tmp_path)
    assert where.startswith(str(tmp_path))
    question = "Budi Wibowo is 10 and Joko Santoso is 16 years old. Who is younger?"
    assert run([binaries / "topeng", "generate", "kecil", question], tmp_path).strip().endswith(".")
    found = json.loads(run([binaries / "topeng", "demo", "--json", *FEW], tmp_path))
    assert found["scores"]["gain"].keys() == {"lora"} and Path(tmp_path / found["report"]).stat().st_size > 50_000
    run([binaries / "pip", "check"], tmp_path)
