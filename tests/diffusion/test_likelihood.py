import itertools
import math

import numpy as np
import pytest
import torch

from topeng.diffusion import response_nll
from topeng.diffusion.likelihood import draw_masks, masked_nll, monte_carlo_error
from topeng.errors import TopengError
from topeng.text.batches import collate
from topeng.text.tokens import Example

MASK, EOS = 2, 1


def all_masks(model, example):
    """Each of the 2^L - 1 masks of the response, bool [L], and the nats of its tokens."""
    masks = [mask for mask in itertools.product([False, True], repeat=example.response_length) if any(mask)]
    batch = collate([example] * len(masks), EOS)
    masked = torch.zeros_like(batch["response_mask"])
    masked[batch["response_mask"]] = torch.tensor(masks).flatten()
    nll = masked_nll(model, batch["input_ids"], batch["attention_mask"], masked, MASK)
    totals = np.zeros(len(masks))
    np.add.at(totals, masked.nonzero()[:, 0].numpy(), nll)
    return list(zip(masks, totals, strict=True))


def exact_bound(model, example):
    """Sum over all masks of the response: each count l uniform on 1..L, each mask of it alike."""
    by_count = [[] for _ in range(example.response_length)]
    for mask, nll in all_masks(model, example):
        by_count[sum(mask) - 1].append(nll / sum(mask))
    return sum(np.mean(values) for values in by_count)


def bound(model, examples, draws, seed=0, **options):
    return response_nll(model, examples, draws, seed, **options)


def rows(lengths, first_id=0):
    """Rows with answers of these lengths, whose tokens depend on the length alone."""
    return [Example(first_id + row, [0, 9, *range(20, 20 + length)], 2) for row, length in enumerate(lengths)]


@pytest.mark.parametrize("length", [1, 2, 4, 6])
def test_all_masks_are_taken_where_draws_suffice(shared_model, length):
    example = rows([length])[0]
    masks, _ = draw_masks(length, 2**length - 1, seed=0, row_id=0)
    assert len({tuple(mask) for mask in masks.tolist()}) == len(masks) == 2**length - 1
    estimate = bound(shared_model, [example], 3 * 2**length, seed=7, replicates=3)
    assert estimate == pytest.approx(np.full((1, 3), exact_bound(shared_model, example)), rel=1e-5)


def test_the_mean_of_estimates_is_the_exact_bound(shared_model):
    example = rows([7])[0]
    exact = exact_bound(shared_model, example)
    copies = [Example(row, example.input_ids, 2) for row in range(40)]  # an identity has noise of its own
    estimates = bound(shared_model, copies, draws=30, replicates=10).ravel()
    error = estimates.std(ddof=1) / np.sqrt(len(estimates))
    assert error < 0.02 * exact
    assert abs(estimates.mean() - exact) < 3 * error


def test_the_interval_covers_the_exact_mean(shared_model):
    lengths, repetitions = [3, 5, 6, 7, 9, 10], 200
    exact = np.array([exact_bound(shared_model, row) / row.response_length for row in rows(lengths)])
    repeated = [row for k in range(repetitions) for row in rows(lengths, first_id=len(lengths) * k)]
    nats = bound(shared_model, repeated, draws=8, replicates=4) / np.array(lengths * repetitions)[:, None]
    errors = [monte_carlo_error(part) for part in np.split(nats, repetitions)]
    covered = np.mean([error["low"] <= exact.mean() <= error["high"] for error in errors])
    assert 0.91 <= covered <= 0.98
    spread = np.std([error["mean"] for error in errors], ddof=1)
    assert np.mean([error["standard_error"] for error in errors]) == pytest.approx(spread, rel=0.2)


def test_replicates_are_independent(shared_model):
    copies = [Example(row, rows([8])[0].input_ids, 2) for row in range(300)]
    first, second = bound(shared_model, copies, draws=4, replicates=2).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
    assert first.mean() == pytest.approx(second.mean(), rel=0.03)


def test_one_token_takes_one_pass(shared_model):
    seen = []
    bound(shared_model, rows([1, 1]), 128, progress=lambda done, passes: seen.append((done, passes)))
    assert seen[-1] == (2, 2)


def test_a_row_s_estimate_does_not_depend_on_its_batch(shared_model):
    examples = [Example(row, [0, *range(9, 12 + row)], 2) for row in range(6)]
    together = bound(shared_model, examples, 4, seed=1, replicates=2)
    alone = [bound(shared_model, [example], 4, seed=1, replicates=2)[0] for example in examples]
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    np.testing.assert_allclose(together, bound(shared_model, examples, 4, 1, replicates=2, batch_tokens=1), rtol=1e-4)


def test_strata_of_each_replicate_are_narrower_where_few_tokens_are_masked():
    masks, weights = draw_masks(60, 8, seed=0, row_id=1, replicates=2)
    edges = 60 * (np.arange(5) / 4) ** 1.5
    counts = masks.sum(axis=1)
    assert [int(np.searchsorted(edges, count - 0.5)) for count in counts] == [1, 2, 3, 4] * 2
    np.testing.assert_allclose(weights * counts, np.tile(np.diff(edges), 2))


def test_masks_of_a_replicate_weigh_each_token_alike():
    """So tokens that cost what they cost under any mask have no Monte Carlo error; each mask apart varies by 2.5."""
    loads = []
    for row in range(100):
        masks, weights = draw_masks(40, 32, seed=0, row_id=row, replicates=2)
        loads.append((weights[:16] @ masks[:16], weights[16:] @ masks[16:]))
    assert np.std(loads) < 0.05
    np.testing.assert_allclose(np.mean(loads, axis=2), 1)


def test_each_mask_is_drawn_as_often_as_the_bound_weighs_it():
    """5 tokens, 30 masks and that of all: balance must prefer none."""
    repetitions, weight = 4000, {}
    for seed in range(repetitions):
        for mask, value in zip(*draw_masks(5, 4, seed, 0), strict=True):
            weight.setdefault(tuple(mask.tolist()), np.zeros(repetitions))[seed] += value
    assert len(weight) == 31
    for mask, values in weight.items():
        probability = 1 / (sum(mask) * math.comb(5, sum(mask)))
        error = values.std(ddof=1) / np.sqrt(repetitions)
        assert abs(values.mean() - probability) < 4 * error, mask


def test_masks_depend_on_seed_and_row_alone():
    torch.manual_seed(0), np.random.seed(0)
    first = draw_masks(20, 8, seed=3, row_id=5)[0]
    torch.manual_seed(1), np.random.seed(1)
    assert np.array_equal(first, draw_masks(20, 8, seed=3, row_id=5)[0])
    for other in (draw_masks(20, 8, seed=4, row_id=5), draw_masks(20, 8, seed=3, row_id=6)):
        assert not np.array_equal(first, other[0])


@pytest.mark.parametrize(("draws", "replicates"), [(6, 4), (2, 4), (0, 2), (4, 0)])
def test_draws_that_replicates_cannot_share_are_refused(shared_model, draws, replicates):
    with pytest.raises(TopengError, match=f"draws = {draws} must be a multiple of replicates = {replicates}.*Use "):
        bound(shared_model, rows([5]), draws, replicates=replicates)


def test_no_rows_have_no_estimates(shared_model):
    assert bound(shared_model, [], 8, replicates=4).shape == (0, 4)


def test_monte_carlo_error_of_known_figures():
    """Two rows of variance 2 and 0: half the first's standard error, its degrees of freedom."""
    error = monte_carlo_error(np.array([[1.0, 3.0], [5.0, 5.0]]))
    assert error["mean"] == 3.5 and error["standard_error"] == 0.5 and error["degrees_of_freedom"] == 1
    assert error["high"] == pytest.approx(3.5 + 12.706 * 0.5, abs=1e-3)
    alike = monte_carlo_error(np.array([[0.0, 2.0, 4.0]] * 3))
    assert alike["degrees_of_freedom"] == pytest.approx(6)
    exact = monte_carlo_error(np.full((3, 2), 1.5))
    assert exact["low"] == exact["high"] == 1.5 and exact["degrees_of_freedom"] == np.inf


def test_one_replicate_has_no_error():
    with pytest.raises(TopengError, match="at least 2 replicates, not 1"):
        monte_carlo_error(np.ones((3, 1)))
