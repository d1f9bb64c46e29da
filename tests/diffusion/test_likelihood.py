import itertools

import numpy as np
import pytest
import torch

from topeng.diffusion.likelihood import draw_masks, masked_nll, response_nll
from topeng.text.batches import collate
from topeng.text.tokens import Example

MASK, EOS = 2, 1


def exact_bound(model, example):
    """Sum over all masks of the response: each count l uniform on 1..L, each mask of it alike."""
    length, prompt = example.response_length, example.prompt_length
    total = 0.0
    for count in range(1, length + 1):
        masks = list(itertools.combinations(range(length), count))
        batch = collate([example] * len(masks), EOS)
        masked = torch.zeros_like(batch["response_mask"])
        for row, places in enumerate(masks):
            masked[row, [prompt + place for place in places]] = True
        nll = masked_nll(model, batch["input_ids"], batch["attention_mask"], masked, MASK)
        total += nll.sum() / len(masks) / count
    return total


def test_the_estimate_is_the_exact_bound_s_within_its_error(model):
    example = Example(5, [0, 9, 10, 11, 12, 13, 14, 15, 16], 3)
    exact = exact_bound(model, example)
    estimates = [response_nll(model, [example], MASK, EOS, draws=8, seed=seed)[0] for seed in range(60)]
    error = np.std(estimates, ddof=1) / np.sqrt(len(estimates))
    assert error < 0.02 * exact
    assert abs(np.mean(estimates) - exact) < 3 * error


def test_one_token_is_exact_in_one_pass(model):
    example = Example(5, [0, 9, 10, 11], 3)
    assert draw_masks(1, 128, seed=0, row_id=5).shape == (1, 1)
    estimate = response_nll(model, [example], MASK, EOS, draws=128, seed=0)[0]
    assert estimate == pytest.approx(exact_bound(model, example), rel=1e-5)


def test_a_row_s_estimate_does_not_depend_on_its_batch(model):
    examples = [Example(row, [0, *range(9, 12 + row)], 2) for row in range(6)]
    together = response_nll(model, examples, MASK, EOS, draws=4, seed=1)
    alone = [response_nll(model, [example], MASK, EOS, draws=4, seed=1)[0] for example in examples]
    small = response_nll(model, examples, MASK, EOS, draws=4, seed=1, batch_tokens=1)
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    np.testing.assert_allclose(together, small, rtol=1e-4)


def test_mask_counts_are_spread_evenly():
    counts = draw_masks(40, 8, seed=0, row_id=1).sum(axis=1)
    assert [int((count - 1) // 5) for count in counts] == list(range(8))
    every = np.concatenate([draw_masks(5, 4, seed, 0).sum(axis=1) for seed in range(2000)])
    np.testing.assert_allclose(np.bincount(every, minlength=6)[1:] / len(every), 0.2, atol=0.02)
