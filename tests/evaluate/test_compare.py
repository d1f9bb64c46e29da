import json

import numpy as np
import pytest

from topeng.errors import RunError
from topeng.evaluate.compare import compare_models, comparison_table
from topeng.evaluate.text_metrics import chrf, rouge_l


def write(folder, name, shift, rows=50, answers=("Kucing itu tidur.",)):
    random = np.random.default_rng(0)  # the same rows are hard for every model
    out = folder / name
    out.mkdir()
    lines = [
        {"language": language, "row_id": row, "nats": 10 * float(random.gamma(4) + shift), "tokens": 10}
        for language in ("target", "source")
        for row in range(rows)
    ]
    (out / "likelihood.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    texts = [{"row_id": i, "input": "?", "reference": "Kucing itu tidur.", "answer": a} for i, a in enumerate(answers)]
    (out / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in texts))


def test_differences_are_paired_over_rows(tmp_path):
    write(tmp_path, "base", 0.0)
    write(tmp_path, "lora", -0.5)
    scores = compare_models(tmp_path, ["base", "lora"])
    difference = scores["differences"]["lora"]["target"]
    assert difference["nats_per_token"] == pytest.approx(-0.5)
    assert difference["standard_error"] < 1e-6 < scores["models"]["lora"]["target"]["standard_error"]
    assert scores["models"]["base"]["answers"] == {"chrf": 100.0, "rouge_l": 1.0, "rows": 1}


def test_the_table_is_sorted_by_held_out_loss(tmp_path):
    for name, shift in (("base", 0.0), ("lora", -0.1), ("pissa", -0.3)):
        write(tmp_path, name, shift, answers=())
    table = comparison_table(compare_models(tmp_path, ["base", "lora", "pissa"]))
    assert list(table.columns[0].cells) == ["pissa", "lora", "base"]


def test_other_rows_are_refused(tmp_path):
    write(tmp_path, "base", 0.0)
    write(tmp_path, "lora", 0.0, rows=49)
    with pytest.raises(RunError, match="lora and the base were scored on different rows"):
        compare_models(tmp_path, ["base", "lora"])


def test_text_metrics():
    assert chrf(["sama"], ["sama"]) == pytest.approx(100)
    assert chrf([""], ["lain"]) == 0
    assert rouge_l(["kucing itu tidur"], ["Kucing tidur."]) == pytest.approx(0.8)
    assert rouge_l(["सत्य"], ["सत्य"]) == pytest.approx(1)  # words of any script
