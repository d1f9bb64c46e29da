"""What is measured of one model, by work that may be killed."""

from dataclasses import replace

import pytest
from rich.console import Console

from topeng.evaluate import scores
from topeng.recipe import Recipe, slices
from topeng.system.progress import progress_bar

ROWS = {
    language: [
        {"row_id": row, "input": "Kucing itu?", "output": "Tidur di kursi. " * (row + 1), "messages": None}
        for row in range(3)
    ]
    for language in ("target", "source")
}


@pytest.fixture
def counted(monkeypatch):
    """Row ids, in the order in which their likelihoods are estimated; the fourth estimate may be the end."""
    found, estimate = [], scores.response_nll

    def counting(model, examples, *options):
        if found.count("kill") == 0 and len(found) == 3:
            found.append("kill")
            raise KeyboardInterrupt
        found.extend(example.row_id for example in examples)
        return estimate(model, examples, *options)

    monkeypatch.setattr(scores, "response_nll", counting)
    monkeypatch.setattr(scores, "CHUNK_ROWS", 1)
    return found


def test_likelihoods_that_were_estimated_before_a_kill_are_kept(shared_model, tokenizer, tmp_path, counted):
    recipe = Recipe()
    asked = slices.scoring(replace(recipe, evaluate=replace(recipe.evaluate, draws=2, replicates=1)))
    model = scores.Model(shared_model, tokenizer)

    def score(folder):
        with progress_bar(Console(quiet=True)) as bar:
            return scores.score_rows(asked, ROWS, model, tmp_path / folder / "likelihood.jsonl", bar)

    with pytest.raises(KeyboardInterrupt):
        score("killed")
    assert score("killed") == ({}, {"prompts": 0, "answers": 0})
    assert counted == [2, 1, 0, "kill", 2, 1, 0]  # of each language, the longest row first, and none twice
    score("calm")
    assert (tmp_path / "killed" / "likelihood.jsonl").read_bytes() == (
        tmp_path / "calm" / "likelihood.jsonl"
    ).read_bytes()
