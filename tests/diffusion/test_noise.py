"""Each noise estimates the reference's loss without bias: held against all masks of a short response."""

import functools
import itertools

import numpy as np
import pytest
import torch

from topeng.diffusion import copies, training_noise
from topeng.diffusion.forward import EPS
from topeng.diffusion.likelihood import masked_nll

LENGTH, ROWS, STEPS = 6, 4, 4000
NOISES = ["independent", "stratified", "complementary"]


@pytest.fixture(scope="module")
def mask_nll(shared_model):
    """[2^L] summed cross-entropy of the masked tokens, of each mask by its bits."""
    masks = torch.tensor(list(itertools.product([False, True], repeat=LENGTH))).flip(1)
    clean = torch.tensor([[9, 10, *range(20, 20 + LENGTH)]]).repeat(len(masks), 1)
    masked = torch.cat([torch.zeros(len(masks), 2, dtype=torch.bool), masks], dim=1)
    nll = masked_nll(shared_model, clean, torch.ones_like(clean), masked, shared_model.config.mask_token_id)
    total = np.zeros(len(masks))
    np.add.at(total, masked.nonzero()[:, 0].numpy(), nll)
    return total


def counts():
    return np.array([bin(mask).count("1") for mask in range(2**LENGTH)])


def reference_loss(mask_nll):
    """The integral over p ~ U(eps, 1) of each mask's probability times its loss, by Gauss-Legendre (exact here)."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    p, weights = (1 + EPS) / 2 + nodes * (1 - EPS) / 2, weights / 2
    count = counts()[:, None]
    return float((p**count * (1 - p) ** (LENGTH - count) / p / LENGTH * mask_nll[:, None]).sum(axis=0) @ weights)


@functools.cache
def draw(noise, step):
    """The masks [B] by their bits and p [B] of one step of `ROWS` rows, copies included."""
    response = torch.ones(ROWS, LENGTH, dtype=torch.bool)
    places = torch.arange(ROWS)
    masked, p = training_noise(noise, response, 3, step, places // copies(noise), places, ROWS)
    return (masked.long() << torch.arange(LENGTH)).sum(dim=1).numpy(), p.double().numpy(), masked


def estimates(mask_nll, noise, weight=lambda p: 1 / p):
    """[STEPS] the loss of each step."""
    drawn = [draw(noise, step)[:2] for step in range(STEPS)]
    return np.array([(mask_nll[masks] * weight(p) / LENGTH).mean() for masks, p in drawn])


@pytest.mark.parametrize("noise", NOISES)
def test_the_mean_over_draws_is_the_reference_s_loss(mask_nll, noise):
    exact, drawn = reference_loss(mask_nll), estimates(mask_nll, noise)
    error = drawn.std(ddof=1) / np.sqrt(STEPS)
    assert error < 0.02 * exact
    assert abs(drawn.mean() - exact) < 3 * error + EPS * exact


def test_a_biased_weight_would_be_noticed(mask_nll):
    """The level itself instead of the share that was masked: p = (l - 1/2) / L."""
    exact = reference_loss(mask_nll)
    drawn = estimates(mask_nll, "stratified", weight=lambda p: 1 / (p - 0.5 / LENGTH))
    assert abs(drawn.mean() - exact) > 6 * (drawn.std(ddof=1) / np.sqrt(STEPS) + EPS * exact)


def test_exact_counts_differ_from_the_reference_by_eps_at_most(mask_nll):
    """The mean cross-entropy over l masked tokens, l uniform on 1..L, summed over all masks."""
    by_count = [mask_nll[counts() == count].mean() / count for count in range(1, LENGTH + 1)]
    spread = max(by_count) - min(by_count)
    assert abs(np.mean(by_count) - reference_loss(mask_nll)) <= EPS / (1 - EPS) * spread
    assert spread > 0.01


@pytest.mark.parametrize("noise", NOISES[1:])
def test_variance_falls(mask_nll, noise):
    assert estimates(mask_nll, noise).var() < 0.5 * estimates(mask_nll, "independent").var()


def test_levels_are_one_in_each_stratum():
    response = torch.ones(8, 800, dtype=torch.bool)
    for step in range(20):
        _, p = training_noise("stratified", response, 1, step, torch.arange(8), torch.arange(8), 8)
        assert ((p - 1e-9) * 8).long().tolist() == list(range(8))
        steps = p[1:] - p[:-1]
        torch.testing.assert_close(steps, torch.full((7,), 1 / 8, dtype=steps.dtype))


@pytest.mark.parametrize("noise", NOISES[1:])
def test_each_count_of_masked_tokens_is_as_likely(noise):
    drawn = np.concatenate([counts()[draw(noise, step)[0][:: copies(noise)]] for step in range(STEPS)])
    shares = np.bincount(drawn, minlength=LENGTH + 1)[1:] / len(drawn)
    assert np.abs(shares - 1 / LENGTH).max() < 4 * np.sqrt((1 / LENGTH) * (1 - 1 / LENGTH) / len(drawn))


def test_copies_share_a_row_s_tokens_between_them():
    for step in range(50):
        masked = draw("complementary", step)[2]
        for first, second in masked.view(-1, 2, LENGTH).unbind():
            assert first.all() == torch.equal(first, second)
            assert first.all() or torch.equal(first, ~second)


@pytest.mark.parametrize("noise", NOISES)
def test_noise_does_not_depend_on_the_forward_pass(noise):
    """Rows of other lengths, drawn together and one by one."""
    response = torch.arange(40)[None, :] < torch.tensor([40, 7, 1, 23])[:, None]
    rows, places = torch.tensor([5, 6, 5, 8]), torch.tensor([2, 0, 3, 1])
    together = training_noise(noise, response, 1, 9, rows, places, 4)
    for index in range(4):
        alone = training_noise(noise, response[[index]], 1, 9, rows[[index]], places[[index]], 4)
        assert torch.equal(alone[0][0], together[0][index]) and alone[1][0] == together[1][index]
