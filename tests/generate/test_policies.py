"""Policies on distributions whose answer is worked out by hand."""

import pytest
import torch

from topeng.generate.policies import Prediction, choose
from topeng.generate.settings import Settings

# Three positions of one row over four tokens. Entropies: 0.33, 0.91, 1.39 nats; margins: 0.85, 0.02, 0.
PROBABILITIES = torch.tensor([[[0.25, 0.25, 0.25, 0.25], [0.91, 0.06, 0.02, 0.01], [0.50, 0.48, 0.01, 0.01]]])


def committed(policy, masked=(True, True, True), share=1, probabilities=PROBABILITIES, **settings):
    where = torch.tensor([masked])
    confidence = probabilities.amax(dim=-1) * where
    prediction = Prediction(probabilities[where], confidence, where, torch.tensor([share]), noise=[(0, 0, 0)])
    return choose(prediction, Settings(policy=policy, **settings))[0].nonzero().flatten().tolist()


@pytest.mark.parametrize("policy", ["top_k", "margin", "entropy"])
def test_the_surest_first(policy):
    assert committed(policy) == [1]
    assert committed(policy, share=2) == [1, 2]
    assert committed(policy, masked=(True, False, True)) == [2]


@pytest.mark.parametrize("policy", ["top_k", "margin", "entropy", "threshold", "factor", "entropy_bound"])
def test_ties_go_to_the_lowest_index(policy):
    even = torch.full((1, 3, 4), 0.25)
    assert committed(policy, probabilities=even) == [0]
    assert committed(policy, probabilities=even, masked=(False, True, True)) == [1]


def test_margin_and_confidence_differ():
    close = torch.tensor([[[0.49, 0.48, 0.02, 0.01], [0.45, 0.2, 0.2, 0.15]]])
    assert committed("top_k", (True, True), probabilities=close) == [0]
    assert committed("margin", (True, True), probabilities=close) == [1]


def test_threshold_takes_all_that_reach_it_and_one_at_least():
    assert committed("threshold", threshold=0.9) == [1]
    assert committed("threshold", threshold=0.5) == [1, 2]
    assert committed("threshold", threshold=0.95) == [1]
    assert committed("threshold", masked=(True, False, False), threshold=0.95) == [0]


def test_factor():
    # (n + 1)(1 - c_n) of the n-th surest: 0.18, 1.5, 3
    assert committed("factor", factor=1.4) == [1]
    assert committed("factor", factor=1.6) == [1, 2]
    assert committed("factor", factor=3.1) == [0, 1, 2]
    assert committed("factor", factor=0.1) == [1]


def test_entropy_bound():
    # entropy of all but the last of the n surest: 0, 0.38, 1.18
    assert committed("entropy_bound", entropy_bound=0.3) == [1]
    assert committed("entropy_bound", entropy_bound=0.5) == [1, 2]
    assert committed("entropy_bound", entropy_bound=1.3) == [0, 1, 2]


def test_random_is_the_rows_own():
    def drawn(step, rows):
        masked = torch.ones(len(rows), 16, dtype=torch.bool)
        even = torch.full((len(rows), 16, 4), 0.25)
        noise = [(0, step, row) for row in rows]
        prediction = Prediction(even[masked], even[..., 0], masked, torch.full((len(rows),), 4), noise)
        return choose(prediction, Settings(policy="random"))

    both = drawn(0, [3, 4])
    assert (both.sum(dim=1) == 4).all() and not torch.equal(both[0], both[1])
    assert torch.equal(both[1:], drawn(0, [4])) and not torch.equal(both[1:], drawn(1, [4]))
