"""Each bad input is answered with one line, which docs/failures.md shows, and nothing that was finished is lost."""

import fnmatch
import json
import shlex
from pathlib import Path

import pytest
from bad_inputs import CASES, page, place

from topeng.cli import main
from topeng.run import digest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{section}: {case.what}") for section, cases in CASES.items() for case in cases]
)
def test_a_bad_input_is_answered_with_its_line(case, tmp_path, monkeypatch, capsys, checkpoint, adapters):
    monkeypatch.chdir(tmp_path)
    place(tmp_path, checkpoint, {"lora": adapters / "one", "wider": adapters / "other", "deeper": adapters / "deeper"})
    kept = case.make()
    status = main(shlex.split(case.command)[1:])
    error = capsys.readouterr().err
    del kept
    assert status == 1
    assert error.startswith("topeng: ") and error.endswith("\n") and error.count("\n") == 1
    pattern = fnmatch.translate("topeng: " + case.message.replace("[", "[[]").replace("?", "[?]").replace("…", "*"))
    import re

    assert re.match(pattern, error[:-1]), error
    for file in tmp_path.glob("runs/*/manifest.json"):
        stages = json.loads(file.read_text())["stages"] if "{" in file.read_text()[:1] and len(file.read_text()) > 60 else {}
        for stage in stages.values():
            for output, known in stage["outputs"].items():
                assert digest(file.parent / output) == known


def test_the_page_shows_these_lines():
    assert (ROOT / "docs" / "failures.md").read_text("utf-8") == page()
