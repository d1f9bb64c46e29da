import torch
from safetensors.torch import load_file

from topeng.diffusion import forward_process, loss_weights, sft_loss
from topeng.diffusion.forward import EPS
from topeng.models import find_device, load_model


@torch.no_grad()
def test_the_oracle_is_the_reference_s_loss(golden):
    answers, model = load_file(golden / "golden.safetensors", device=str(find_device())), load_model(golden)
    masked, clean = answers["masked"].bool(), answers["clean_ids"]
    logits = model(input_ids=clean.masked_fill(masked, model.config.mask_token_id)).logits
    loss = sft_loss(logits, clean, masked, answers["t"], clean.shape[1] - answers["prompt_length"])
    torch.testing.assert_close(loss, answers["sft_loss"][0], rtol=1e-5, atol=0)


def test_the_chunked_loss_of_training_is_the_oracle_s(model):
    clean = torch.randint(6, 400, (4, 20), generator=torch.Generator().manual_seed(0)).to(model.device)
    response_mask = (torch.arange(20)[None, :] >= torch.tensor([3, 8, 12, 19])[:, None]).to(model.device)
    length = response_mask.sum(dim=1)
    masked, p = forward_process(response_mask, seed=0, step=5, row_ids=torch.arange(4))
    noisy = clean.masked_fill(masked, model.config.mask_token_id)
    oracle = sft_loss(model(input_ids=noisy).logits, clean, masked, p, length)
    weights = loss_weights(masked, p, length, rows=4)
    chunked = model(input_ids=noisy, head_positions=masked, targets=clean[masked], weights=weights).loss
    torch.testing.assert_close(chunked, oracle)


def test_noise_depends_on_seed_step_and_row_alone():
    response_mask = torch.ones(3, 50, dtype=torch.bool)
    rows = torch.tensor([11, 22, 33])
    masked, p = forward_process(response_mask, 1, 7, rows)
    torch.rand(10)  # the global generator is not asked
    alone, p_alone = forward_process(response_mask[:1, :], 1, 7, rows[1:2])
    assert torch.equal(masked[1], alone[0]) and p[1] == p_alone[0]
    longer, _ = forward_process(torch.ones(1, 80, dtype=torch.bool), 1, 7, rows[1:2])
    assert torch.equal(longer[0, :50], masked[1])
    for seed, step in ((2, 7), (1, 8)):
        assert not torch.equal(forward_process(response_mask, seed, step, rows)[0], masked)


def test_noise_goes_with_the_response_wherever_it_stands():
    left, right = torch.zeros(2, 1, 30, dtype=torch.bool)
    left[0, 5:15] = True
    right[0, 18:28] = True
    rows = torch.tensor([4])
    one, _ = forward_process(left, 0, 0, rows)
    other, _ = forward_process(right, 0, 0, rows)
    assert torch.equal(one[0, 5:15], other[0, 18:28])
    assert not (one & ~left).any()


def test_the_masking_rate_is_p_and_p_is_uniform():
    response_mask = torch.ones(4000, 60, dtype=torch.bool)
    masked, p = forward_process(response_mask, 3, 0, torch.arange(4000))
    assert p.min() >= EPS and p.max() <= 1
    assert abs(p.mean() - 0.5) < 0.02
    deviation = masked.float().mean(dim=1) - p
    assert abs(deviation.mean()) < 0.005
    assert abs((deviation / (p * (1 - p) / 60).sqrt()).std() - 1) < 0.05
