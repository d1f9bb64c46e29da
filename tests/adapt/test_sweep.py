import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from topeng import recipe as recipes
from topeng.adapt.sweep import best_trials, print_sweep, recipe_lines, run_trial, trials
from topeng.errors import RecipeError
from topeng.recipe import slices
from topeng.run.folder import RunFolder
from topeng.run.pipeline import sweep_stages


def test_the_grid_has_a_trial_a_rate_and_for_lora_plus_a_pair_of_rates():
    recipe = recipes.parse({"sweep": {"learning_rates": [1e-4, 1e-3], "learning_rates_b": [1e-4, 1e-3, 1e-2]}})
    grid = trials([slices.adapting(recipe, method) for method in recipe.adapter.methods], recipe.sweep)
    assert list(grid)[:2] == ["lora-0.0001", "lora-0.001"]
    pairs = [
        (trial.learning_rate, round(trial.adapter.loraplus_lr_ratio))
        for trial in grid.values()
        if trial.method == "lora+"
    ]
    assert pairs == [(1e-4, 1), (1e-4, 10), (1e-4, 100), (1e-3, 1), (1e-3, 10)]
    for trial in grid.values():
        assert (trial.train.steps, trial.train.report_to, trial.seed) == (recipe.sweep.steps, [], recipe.seed)


@pytest.mark.parametrize("rates", [[], [1e-4, 0.0]])
def test_rates_that_are_none_are_refused(rates):
    with pytest.raises(RecipeError, match=r"sweep\.learning_rates = .* must be one or more rates above 0"):
        recipes.parse({"sweep": {"learning_rates": rates}})


def test_a_trial_that_diverges_is_a_result(training, tmp_path):
    sweep = replace(training.recipe.sweep, learning_rates=[0.01, 1e30], steps=4)
    results = {}
    for name, trial in trials([slices.adapting(training.recipe, "lora")], sweep).items():
        (tmp_path / name).mkdir()
        run_trial(trial, training.run, tmp_path / name, tmp_path / f"{name}.json", Console(quiet=True))
        results[name] = json.loads((tmp_path / f"{name}.json").read_text())
    good, bad = results.values()
    assert good["status"] == "finished" and 0 < good["held_out_loss"] < 10
    assert bad["status"] == "diverged" and bad["held_out_loss"] is None


def interrupted(folder):
    raise KeyboardInterrupt


def test_a_sweep_goes_on_after_its_finished_trials(training):
    """Its trials are stages of the run: here the third is cut short, then the same call is made again."""
    recipe = replace(training.recipe, sweep=replace(training.recipe.sweep, learning_rates=[1e-4, 1e-2, 1e-3], steps=2))
    planned = [stage for stage in sweep_stages(recipe, training.run, Console(quiet=True)) if "sweep" in stage.name]
    assert [stage.name for stage in planned] == ["sweep/lora-0.0001", "sweep/lora-0.001", "sweep/lora-0.01", "sweep"]
    cut = replace(planned[2], work=interrupted)
    with pytest.raises(KeyboardInterrupt):
        RunFolder(training.run).run([*planned[:2], cut], "", 1, Console(quiet=True))
    console = Console(file=io.StringIO(), width=100)
    RunFolder(training.run).run(planned, "", 1, console)
    assert console.file.getvalue().count("already done") == 2
    found = json.loads((training.run / "sweep.json").read_text())
    assert [trial["learning_rate"] for trial in found] == [1e-4, 1e-3, 1e-2]
    assert not (training.run / "adapters").exists()


def result(method, rate, loss, ratio=None):
    status = "diverged" if loss is None else "finished"
    values = {"method": method, "learning_rate": rate, "loraplus_lr_ratio": ratio, "steps": 5}
    return values | {"status": status, "held_out_loss": loss}


RESULTS = [
    result("lora", 1e-5, 3.0),
    result("lora", 1e-4, 2.0),
    result("lora", 1e-3, None),
    result("lora+", 3e-5, 1.5, 100 / 3),
    result("lora+", 1e-4, 1.6, 10),
    result("pissa", 1e-4, None),
]


def test_the_best_values_are_recipe_lines():
    recipe = recipes.yaml.safe_load(recipe_lines(RESULTS))
    parsed = recipes.parse(recipe)
    assert parsed.train.learning_rate == {"lora": 1e-4, "lora+": 3e-5}
    assert parsed.adapter.loraplus_lr_ratio == pytest.approx(100 / 3, rel=1e-4)
    assert set(best_trials(RESULTS)) == {"lora", "lora+"}


def test_the_table_says_what_diverged_and_what_is_at_an_edge(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps(RESULTS))
    console = Console(file=io.StringIO(), width=140)
    print_sweep(tmp_path / "sweep.json", console)
    shown = console.file.getvalue()
    lines = [line.split() for line in shown.splitlines()]
    assert ["lora", "0.0001", "2.0000", "best"] in lines
    assert ["lora", "0.001", "diverged"] in lines
    assert any(line[:5] == ["lora+", "A", "3e-05,", "B", "0.001"] and "edge" in line for line in lines)
    assert "Every trial of pissa diverged" in shown
