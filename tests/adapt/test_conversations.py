"""What becomes of rows in a training: conversations, and what is too long."""

import json
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from rich.console import Console

import topeng
from topeng.adapt import train as training_module
from topeng.evaluate import scores
from topeng.generate import answer
from topeng.generate.settings import Settings
from topeng.recipe import slices
from topeng.system.lines import read_lines
from topeng.text.chat import encode_prompt

LONG = "kucing itu " * 100
TALK = [
    {"role": "system", "content": "Jawab."},
    {"role": "user", "content": "Siapa?"},
    {"role": "assistant", "content": "Kucing."},
    {"role": "user", "content": "Di mana?"},
    {"role": "assistant", "content": "Di kursi."},
]


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


@pytest.fixture
def rows(training, monkeypatch):
    """The training's rows with a conversation, a long answer, a long question and an empty answer among them."""

    def read(path):
        found = pq.read_table(path).to_pylist()
        found[0] |= {"messages": TALK, "input": "Jawab.\n\nSiapa?\n\nKucing.\n\nDi mana?", "output": "Di kursi."}
        found[1] |= {"output": LONG}
        found[2] |= {"input": LONG}
        found[3] |= {"output": " "}
        return found

    monkeypatch.setattr(training_module, "read_rows", read)
    return read


@pytest.mark.parametrize(("turns", "examples"), [("all", 40), ("last", 39)])
def test_what_is_not_trained_on_is_counted(training, rows, tmp_path, turns, examples):
    folder = training.changed("text", turns=turns, max_length=80).train(tmp_path / "work")
    found = summary(folder)
    assert (found["rows"], found["examples"]) == (39, examples)
    assert found["dropped"] == {"empty answer": 1} and found["cut"] == {"prompts": 1, "answers": 1}
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[0]) == {
        "dropped": found["dropped"],
        "cut": found["cut"],
    }


def test_a_training_of_whole_rows_has_nothing_to_count(training, tmp_path):
    folder = training.train(tmp_path / "work")
    assert summary(folder)["cut"] == {"prompts": 0, "answers": 0} and not summary(folder)["dropped"]
    assert "step" in json.loads((folder / "log.jsonl").read_text().splitlines()[0])


def test_a_row_is_asked_as_it_is_scored(training, rows, checkpoint, tmp_path, monkeypatch):
    """Where question and answer are too long, and of a conversation its last turn."""
    recipe = training.changed("text", max_length=80).changed("evaluate", draws=2, generate_rows=6).recipe
    recipe = replace(recipe, generate=Settings(max_new_tokens=8, block_length=8))
    (training.run / "source").mkdir()
    shutil.copy(training.run / "corpus" / "validation.parquet", training.run / "source" / "test.parquet")
    shutil.copy(training.run / "corpus" / "validation.parquet", training.run / "corpus" / "test.parquet")
    scored, asked = {}, set()
    score, canvas = scores.response_nll, answer.prompt_canvas

    def scoring(model, examples, *rest):
        scored.update({example.row_id: tuple(example.input_ids[: example.prompt_length]) for example in examples})
        return score(model, examples, *rest)

    def asking(model, prompts, *rest):
        asked.update(map(tuple, prompts))
        return canvas(model, prompts, *rest)

    monkeypatch.setattr(scores, "read_rows", rows)
    monkeypatch.setattr(scores, "response_nll", scoring)
    monkeypatch.setattr(answer, "prompt_canvas", asking)
    model = scores.Model(*topeng.load(checkpoint, device="cpu"))
    scores.score_model(slices.scoring(recipe), "base", model, training.run, training.run, Console(quiet=True))
    scores.evaluate_model(slices.answering(recipe, None), "base", model, training.run, tmp_path, Console(quiet=True))
    folder = tmp_path / "evaluate" / "base"
    assert set(scored.values()) < asked and len(asked) == 6  # the row without an answer is asked alone
    assert scored[0] == tuple(encode_prompt(model.tokenizer, TALK[:-1]))
    said = json.loads((folder / "scored.json").read_text())
    assert said["cut"] == {"prompts": 2, "answers": 2} and said["dropped"] == {"empty answer": 2}
    lines = {line["row_id"]: line for line in read_lines(folder / "likelihood.jsonl")}
    assert lines[1]["bytes"] < len(LONG) / 4  # as many as its tokens that are scored
    assert lines[4]["bytes"] == len(b"Kucing 4 di kursi kayu.")
