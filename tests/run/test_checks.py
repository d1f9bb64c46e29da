"""What is looked at before a run begins."""

from topeng.recipe import parse
from topeng.run.checks import check
from topeng.run.folder import Stage


def test_addresses_wait_for_their_stage(monkeypatch):
    """A finished stage is not done again: its report can be written where there is no network."""
    asked = []
    monkeypatch.setattr("topeng.corpus.files._remote", lambda name: asked.append(name) or [name])
    recipe = parse({"source": {"files": ["hf://datasets/someone/english@1a2b3c/**"]}})
    check(recipe, [Stage("source", [], {}, lambda folder: None)])
    assert asked == []
