"""What the objectives have in common, and what each is by itself: block diffusion, and autoregression."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from topeng.diffusion import MASKED, OBJECTIVES, Step, objective_of, response_nll
from topeng.diffusion.block import Block
from topeng.diffusion.objective import Scoring
from topeng.models.attention import attend, block_causal
from topeng.text.batches import collate
from topeng.text.tokens import Example

MASK, EOS = 2, 1


def rows(lengths, prompt=3, first_id=0):
    random = np.random.default_rng(0)
    return [
        Example(first_id + row, random.integers(3, 400, prompt + row % 3 + length).tolist(), prompt + row % 3)
        for row, length in enumerate(lengths)
    ]


def step(count, noise="stratified", number=3):
    return Step(noise, 5, number, torch.arange(count), count)


def loss_of(model, objective, batch, now):
    attend(model, objective.attention_block, objective.predicts_next)
    inputs = objective.training_pass(batch, now, model.config)
    assert len(inputs["targets"]) == len(inputs["weights"]) == int(inputs["head_positions"].sum())
    return model(**inputs).loss.item(), inputs


def test_a_model_s_attention_tells_its_objective(model):
    for name, expected in (("masked", None), ("block", 8), ("autoregressive", 1)):
        objective = OBJECTIVES[name](8)
        attend(model, objective.attention_block, objective.predicts_next)
        assert objective.attention_block == expected and objective_of(model.config) == objective
    assert model.config.predicts_next and model.predicts_next  # what `masked` and `block` leave as it was


@pytest.mark.parametrize("noise", ["independent", "stratified", "complementary"])
@pytest.mark.parametrize("shifted", [False, True])
def test_a_block_as_long_as_the_row_is_the_masked_objective(model, noise, shifted):
    attend(model, None, shifted)
    examples = rows([9, 4, 13, 1])
    batch = collate(examples, EOS)
    masked, inputs = loss_of(model, MASKED, batch, step(4, noise))
    block, doubled = loss_of(model, Block(attention_block=32), batch, step(4, noise))
    assert block == pytest.approx(masked, rel=1e-5)
    width = batch["input_ids"].shape[1]
    assert torch.equal(doubled["input_ids"][:, :width], inputs["input_ids"])
    how = Scoring(6, 0, 2)
    attend(model, None)
    wanted = MASKED.response_nll(model, examples, how)
    attend(model, 32)
    np.testing.assert_allclose(response_nll(model, examples, *how), wanted, rtol=1e-5)


def test_an_answer_that_is_one_block_is_masked_diffusion_of_a_model_that_looks_back_from_it(model):
    examples = [Example(7, list(range(20, 32)), 8)]
    batch = collate(examples, EOS)
    _, inputs = loss_of(model, MASKED, batch, step(1))
    attend(model, 4)
    masked = float(model(**inputs).loss)  # blocks of four: two of prompt, and the answer
    assert loss_of(model, Block(attention_block=4), batch, step(1))[0] == pytest.approx(masked, rel=1e-5)


@pytest.mark.parametrize("shifted", [False, True])
@torch.no_grad()
def test_one_pass_trains_each_block_after_the_clean_ones_before_it(model, shifted):
    """Against a pass for each block of each row, over that block as it is noised and what is clean before it."""
    attend(model, 4, shifted)
    batch, objective = collate(rows([11, 6, 2]), EOS), Block(attention_block=4)
    found, inputs = loss_of(model, objective, batch, step(3))
    masked, p = objective._noise(batch, step(3))
    assert torch.equal(masked & ~batch["response_mask"], torch.zeros_like(masked))
    expected = 0.0
    for row in range(3):
        for start in range(0, int(batch["attention_mask"][row].sum()), 4):
            ids = batch["input_ids"][row : row + 1, : start + 4].clone()
            where = masked[row, start : start + 4].nonzero().squeeze(1) + start
            clean = ids.clone()
            ids[0, where] = MASK
            places = torch.arange(ids.shape[1])[None]
            visible = batch["attention_mask"][row : row + 1, : ids.shape[1]].bool()
            attention = block_causal(visible, places, places, 4)
            logits = model(input_ids=ids, attention_mask=attention).logits[0]
            nll = functional.cross_entropy(logits[where], clean[0, where], reduction="none")
            expected += float((nll / p[row, where]).sum()) / int(batch["response_length"][row]) / 3
    assert found == pytest.approx(expected, rel=1e-5)
    shares = masked.reshape(3, -1)  # a block's noise is its own: of three rows no two are masked alike
    assert len({tuple(row) for row in shares.tolist()}) == 3 and inputs["input_ids"].shape[1] == 2 * masked.shape[1]


def test_levels_of_a_row_s_blocks_are_spread_evenly():
    """Every block's share of masks is uniform, as that of a row is in the masked objective."""
    batch = collate([Example(0, [0] * 4 + [9] * 64, 4)], EOS)
    objective, shares = Block(attention_block=4), []
    for number in range(200):
        masked, p = objective._noise(batch, step(1, number=number))
        counts = masked[0, 4:].reshape(16, 4).sum(dim=1)
        assert counts.min() >= 1 and torch.equal(p[0, 4::4] * 4, counts.float())
        shares.append(counts)
    all_shares = torch.stack(shares).float()
    assert torch.bincount(all_shares.long().flatten(), minlength=5)[1:].float().div(3200).sub(0.25).abs().max() < 0.02
    within = all_shares.mean(dim=1).std()
    assert within < 0.5 * all_shares.std() / 16**0.5  # less than independent draws vary


def test_the_estimated_bound_of_blocks_is_their_exact_sum(model):
    """For an answer of nine tokens in blocks of four: 2^4 - 1 masks of each full block are all of them."""
    attend(model, 4)
    example = Example(0, [0, 9, 8, *range(20, 29)], 3)
    exact = response_nll(model, [example], 2**4, 0)[0, 0]
    copies = [replace(example, row_id=row) for row in range(60)]
    estimates = response_nll(model, copies, 8, 0, replicates=2).ravel()
    error = estimates.std(ddof=1) / len(estimates) ** 0.5
    assert 0 < error < 0.03 * exact and abs(estimates.mean() - exact) < 4 * error
    blocks = [Example(0, example.input_ids[:end], start) for start, end in ((3, 4), (4, 8), (8, 12))]
    assert exact == pytest.approx(sum(response_nll(model, blocks, 2**4, 0)[:, 0]), rel=1e-6)


@torch.no_grad()
def test_autoregression_is_exact_and_each_row_s_own(model):
    attend(model, 1, True)
    examples = rows([5, 1, 8])
    nats = response_nll(model, examples, draws=4, seed=0, replicates=2, batch_tokens=16)
    for row, example in enumerate(examples):
        ids = torch.tensor([example.input_ids])
        logits = torch.cat(
            [model(input_ids=ids[:, : place + 1], moved=False).logits[:, -1:] for place in range(ids.shape[1])], dim=1
        )
        nll = functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")[example.prompt_length - 1 :]
        assert nats[row] == pytest.approx(np.full(2, float(nll.sum())), rel=1e-5)
    loss, inputs = loss_of(model, OBJECTIVES["autoregressive"](1), collate(examples, EOS), step(3))
    lengths = np.array([example.response_length for example in examples])
    assert loss == pytest.approx(float((nats[:, 0] / lengths).mean()), rel=1e-5)
    assert not (inputs["input_ids"] == MASK).any()


@torch.no_grad()
def test_who_sees_whom(model):
    """A token that changes moves the logits of those alone that look at it."""
    ids = torch.arange(20, 32)[None]
    for block, changed in ((1, range(5, 12)), (4, range(4, 12)), (None, range(12))):
        attend(model, block, False)
        before, other = model(input_ids=ids).logits, ids.clone()
        other[0, 5] = 99
        moved = (model(input_ids=other).logits - before).abs().amax(dim=-1)[0] > 1e-6
        assert moved.nonzero().squeeze(1).tolist() == list(changed), block
        padded = torch.cat([torch.full((1, 3), EOS), ids], dim=1)
        mask = torch.cat([torch.zeros(1, 3, dtype=torch.long), torch.ones_like(ids)], dim=1)
        positions = mask.cumsum(dim=1).sub(1).clamp(min=0)
        found = model(input_ids=padded, attention_mask=mask, position_ids=positions).logits[:, 3:]
        torch.testing.assert_close(found, before, atol=1e-5, rtol=0)
