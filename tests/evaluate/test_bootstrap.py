"""Intervals and p of differences between methods, on values that are drawn here."""

import numpy as np
import pytest

from topeng.evaluate import bootstrap
from topeng.evaluate.bootstrap import simultaneous

A, B = ("a", "target"), ("b", "target")


def made_up(rng, seeds=5, rows=60, shift=0.0, spread=0.05):
    """Values of a method: rows differ much, in the same way for all methods; seeds differ by `spread`."""
    hard = np.random.default_rng(7).gamma(4, size=rows)
    return hard + shift + rng.normal(0, spread, (seeds, 1)) + rng.normal(0, 0.02, (seeds, rows))


def test_a_difference_is_paired_over_rows():
    rng = np.random.default_rng(0)
    values = {A: made_up(rng, shift=-0.3), B: made_up(rng)}
    difference, alone = simultaneous(values, [(A, B)])[0], simultaneous(values, [(A, None)])[0]
    assert difference["low"] < -0.3 < difference["high"] < 0 and difference["p"] < 0.001
    assert difference["standard_error"] < alone["standard_error"] / 5


@pytest.fixture
def fewer_draws(monkeypatch):
    """A standard error to 2 %, where each of a hundred experiments has its own."""
    monkeypatch.setattr(bootstrap, "DRAWS", 1_000)


@pytest.mark.usefixtures("fewer_draws")
def test_equal_methods_are_told_apart_as_seldom_as_asked():
    """Other seeds each time: at most 5 % are expected, and 5 seeds must not make it more."""
    rng = np.random.default_rng(1)
    real = [simultaneous({A: made_up(rng), B: made_up(rng)}, [(A, B)])[0]["p"] < 0.05 for _ in range(150)]
    assert sum(real) <= 15


@pytest.mark.usefixtures("fewer_draws")
def test_intervals_hold_the_truth_where_few_seeds_stand_against_many():
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(100):
        figure = simultaneous({A: made_up(rng, seeds=2, shift=0.1), B: made_up(rng, seeds=8)}, [(A, B)])[0]
        held += figure["low"] <= 0.1 <= figure["high"]
    assert held >= 88


def test_more_differences_make_wider_intervals():
    rng = np.random.default_rng(3)
    values = {(name, "target"): made_up(rng) for name in "abcdef"}
    first = simultaneous(values, [(A, B)])[0]
    pairs = [((a, "target"), (b, "target")) for a in "abcdef" for b in "abcdef" if a < b]
    among = simultaneous(values, pairs)[0]
    assert among["mean"] == first["mean"]
    assert among["high"] - among["low"] > 1.2 * (first["high"] - first["low"]) and among["p"] >= first["p"]


def test_one_training_speaks_of_rows_alone():
    rng = np.random.default_rng(4)
    values = {A: made_up(rng, seeds=1), B: made_up(rng, seeds=1, spread=0)}
    rows = (values[A] - values[B])[0]
    figure = simultaneous(values, [(A, B)])[0]
    assert figure["standard_error"] == pytest.approx(rows.std(ddof=1) / np.sqrt(len(rows)), rel=0.05)


def test_a_single_row_has_no_interval():
    figure = simultaneous({A: np.ones((3, 1)), B: np.zeros((3, 1))}, [(A, B)])[0]
    assert figure == {"mean": 1, "standard_error": None, "low": None, "high": None, "p": None}


def test_what_is_the_same_is_not_different():
    values = made_up(np.random.default_rng(5), seeds=1)
    figure = simultaneous({A: values, B: values}, [(A, B)])[0]
    assert (figure["mean"], figure["standard_error"], figure["p"]) == (0, 0, 1)


def test_the_same_values_give_the_same_figures():
    rng = np.random.default_rng(6)
    values = {A: made_up(rng), B: made_up(rng)}
    assert simultaneous(values, [(A, B)]) == simultaneous(values, [(A, B)])
