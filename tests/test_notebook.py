"""The notebook: it runs as it is, on the CPU, and its adapter learns what it is shown."""

import json
import os
import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "topeng.ipynb"


def test_outputs_are_cleared():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 8
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]


def test_it_has_a_badge_for_the_project_s_address_if_there_is_one():
    project = tomllib.loads((NOTEBOOK.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    address = project.get("urls", {}).get("Source", "").removeprefix("https://github.com/")
    text = NOTEBOOK.read_text("utf-8")
    badges = re.findall(r"colab\.research\.google\.com/github/(\S+?)/blob/", text)
    assert badges == ([address] if address else []) and "OWNER" not in text


@pytest.mark.slow
def test_it_runs_and_the_adapter_answers_what_the_base_could_not(tmp_path, monkeypatch):
    if not (find_spec("nbclient") and find_spec("ipykernel")) and "CI" not in os.environ:
        pytest.skip("nbclient and ipykernel are not installed: `make test` installs them")
    import nbclient
    import nbformat

    source = NOTEBOOK.parents[1] / "src"
    monkeypatch.setenv("PYTHONPATH", f"{source}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = ["".join(output.get("text", "") for output in cell.get("outputs", [])) for cell in notebook.cells]
    text = "\n".join(printed)
    (right,) = re.findall(r"(\d+) of 10 answers are right", text)
    assert int(right) >= 8
    assert "before  Namanya Momo." not in text and "after   Namanya Momo." in text
    assert printed[-2].strip().endswith("Namanya Momo.")  # of the adapter that was saved and loaded
    films = [re.findall(r"^ ?(\d+)  (.*)$", cell, re.MULTILINE) for cell in printed if "░" in cell]
    assert films and all("░" in film[0][1] and "░" not in film[-1][1] for film in films)
