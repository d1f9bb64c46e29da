"""What a plan ends in."""

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from topeng import recipe as recipes
from topeng.recipe import Recipe
from topeng.run import plan, verdict

RECIPES = Path(str(resources.files("topeng"))) / "recipes"
GIB = 2**30


@pytest.fixture(scope="module")
def large() -> Recipe:
    """With one method: 8 billion parameters are counted by each."""
    return recipes.load(RECIPES / "llada-8b-indonesia.yaml", {"adapter.methods": "[lora]"})


def printed(recipe: Recipe, run: Path) -> str:
    console = Console(width=200, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    verdict.print_verdict(verdict.verdict_of(recipe, run), console)
    return " ".join(console.export_text().split())


def test_eight_billion_parameters_want_a_card_and_a_download(large, tmp_path, monkeypatch):
    monkeypatch.setattr(verdict, "memory_here", lambda: 4 * GIB)
    shown = printed(large, tmp_path / "none yet")
    assert "does not fit" in shown and "of 4.3 GB memory" in shown
    assert "one with 24 GB" in shown
    assert "GSAI-ML/LLaDA-8B-Instruct 16.0 GB" in shown and "cendol_collection_v2 2.0 GB" in shown
    assert "indobert-base-p1 of unknown size" in shown
    assert "would fit recipes/" in shown


def test_room_alone_is_not_enough_where_it_takes_weeks(large, tmp_path, monkeypatch):
    monkeypatch.setattr(verdict, "memory_here", lambda: 512 * GIB)
    monkeypatch.setattr(verdict.torch.cuda, "is_available", lambda: False)
    assert "takes too long" in printed(large, tmp_path)


def test_the_demo_fits_a_laptop_and_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(verdict, "memory_here", lambda: 8 * GIB)
    shown = printed(recipes.load(RECIPES / "tiny.yaml"), tmp_path)
    assert "this machine fits" in shown and "download nothing" in shown and "would fit" not in shown


def test_hours_grow_with_what_is_done(large):
    hours = verdict.needs_of(large).on_gpu
    twice = verdict.needs_of(replace(large, train=replace(large.train, epochs=2))).on_gpu
    assert twice["train"] == pytest.approx(2 * hours["train"]) and twice["evaluate"] == hours["evaluate"]
    draws = replace(large.evaluate, draws=2 * large.evaluate.draws, generate_rows=0)
    scored = replace(large, evaluate=replace(large.evaluate, generate_rows=0))
    more = verdict.needs_of(replace(large, evaluate=draws)).on_gpu["evaluate"]
    assert more == pytest.approx(2 * verdict.needs_of(scored).on_gpu["evaluate"])


def test_block_diffusion_trains_on_rows_of_twice_the_tokens():
    def needed(*objectives):
        train = {"objectives": list(objectives), "batch_tokens": 1}
        recipe = recipes.parse({"adapter": {"methods": ["lora"]}, "train": train})
        memory = plan.training_memory(recipe, plan.base_config(recipe), "lora", 0, 0)
        return verdict.needs_of(recipe).here, memory["activations"]

    (masked, small), (block, large), (both, most) = needed("masked"), needed("block"), needed("masked", "block")
    assert block["train"] == pytest.approx(2 * masked["train"]) and both["train"] == pytest.approx(3 * masked["train"])
    assert block["base"] == pytest.approx(2 * masked["base"]) and both["base"] == masked["base"]
    assert large == most == 2 * small


def test_parameters_are_counted_anew_for_another_method_rank_and_base():
    def counts(rank, hidden):
        adapter = {"methods": ["lora", "full"], "rank": rank}
        recipe = recipes.parse({"adapter": adapter, "base": {"tiny": {"hidden_size": hidden, "layers": 1}}})
        return plan.trainable_parameters(recipe, plan.base_config(recipe))

    small = counts(2, 64)
    assert counts(4, 64) == {"lora": 2 * small["lora"], "full": small["full"]} and small["lora"] < small["full"]
    assert counts(2, 128)["lora"] > small["lora"] and counts(2, 128)["full"] > small["full"]


def test_a_trained_base_has_no_pretraining(large):
    assert "base" not in verdict.needs_of(large).here
    assert "base" in verdict.needs_of(Recipe()).here


def test_an_objective_is_scored_in_its_own_passes():
    """A masked row of 64 tokens in 16 draws, a causal one in a pass, the blocks of one each with those before it."""

    def hours(objective: str) -> float:
        recipe = recipes.parse(
            {
                "text": {"max_length": 64},
                "evaluate": {"draws": 16, "generate_rows": 0},
                "train": {"objectives": [objective]},
                "adapter": {"methods": ["lora"]},
            }
        )
        return verdict.needs_of(recipe).here["evaluate"]

    masked = hours("masked")
    assert hours("autoregressive") == pytest.approx(masked / 16)
    assert hours("block") == pytest.approx(masked * (32 + 64) / 64)


@pytest.mark.parametrize(("turns", "factor"), [("all", 2), ("last", 1)])
def test_each_answer_of_a_conversation_takes_its_part_of_a_step(tmp_path, turns, factor):
    spoken = json.dumps([{"role": role, "content": "Ya?"} for role in ("user", "assistant") * 2])
    row = {"row_id": 0, "input": "Ya?", "output": "Ya?", "messages": spoken, "one_right_answer": False}
    (tmp_path / "corpus").mkdir()
    pq.write_table(pa.Table.from_pylist([row] * 640), tmp_path / "corpus" / "train.parquet")
    plain = Recipe()
    recipe = replace(
        plain,
        train=replace(plain.train, steps=None, epochs=1),
        text=replace(plain.text, turns=turns),
        corpus=replace(plain.corpus, train_rows=640),
    )
    steps = plan.training_steps(recipe, tmp_path)
    assert steps == factor * plan.training_steps(recipe)
    hours = verdict.verdict_of(recipe, tmp_path, steps)["hours"]
    assert hours["train"] == pytest.approx(factor * verdict.needs_of(recipe).here["train"])


def test_what_is_short_and_small_is_not_rounded_up_or_away():
    assert verdict._hours({"corpus": 0.001, "train": 0.002}) == "under a minute in all"
    assert verdict._hours({"corpus": 0.001, "train": 0.5}) == "30 min in all (corpus under 1 min, train 30 min)"
    assert (verdict._gb(4_500_000), verdict._gb(16e9)) == ("4 MB", "16.0 GB")
