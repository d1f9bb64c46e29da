"""A Monte Carlo bound on the negative log-likelihood of answers (LLaDA, arXiv 2502.09992, eq. 6).

For a response of L tokens, a draw masks exactly l of them and weights their cross-entropy by L / l, with l
uniform on 1..L. Over the draws of a row l is spread evenly (stratified), which leaves the mean unbiased.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from topeng.diffusion.noise import Use, row_generator
from topeng.text.batches import collate
from topeng.text.tokens import Example


def draw_masks(response_length: int, draws: int, seed: int, row_id: int) -> np.ndarray:
    """bool [draws, L]: the same for every model that is scored with this seed. One draw is exact where L is 1."""
    if response_length == 1:
        return np.ones((1, 1), dtype=bool)
    noise = row_generator(Use.LIKELIHOOD, seed, 0, row_id)
    counts = 1 + np.floor(response_length * (np.arange(draws) + noise.random(draws)) / draws).astype(int)
    ranks = noise.random((draws, response_length)).argsort(axis=1).argsort(axis=1)
    return ranks < counts[:, None]


def response_nll(
    model: Any,
    examples: Sequence[Example],
    mask_token_id: int,
    eos_token_id: int,
    draws: int,
    seed: int,
    batch_tokens: int = 8192,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """The bound for each example's response, in nats: [R] fp64.

    Args:
        draws: Monte Carlo draws a row.
        batch_tokens: of one forward pass; rows of like length share it, so that little is padding.
        progress: told how many draws were scored.
    """
    masks = [draw_masks(example.response_length, draws, seed, example.row_id) for example in examples]
    jobs = [(row, draw) for row, drawn in enumerate(masks) for draw in range(len(drawn))]
    jobs.sort(key=lambda job: -len(examples[job[0]].input_ids))
    estimate = np.zeros(len(examples))
    while jobs:
        count = max(1, batch_tokens // len(examples[jobs[0][0]].input_ids))
        now, jobs = jobs[:count], jobs[count:]
        batch = collate([examples[row] for row, _ in now], eos_token_id)
        masked = torch.zeros_like(batch["response_mask"])
        masked[batch["response_mask"]] = torch.from_numpy(np.concatenate([masks[row][draw] for row, draw in now]))
        token_nll = masked_nll(model, batch["input_ids"], batch["attention_mask"], masked, mask_token_id)
        totals = np.zeros(len(now))
        np.add.at(totals, masked.nonzero()[:, 0].numpy(), token_nll)
        for (row, draw), total in zip(now, totals, strict=True):
            weight = examples[row].response_length / masks[row][draw].sum()
            estimate[row] += weight * total / len(masks[row])
        progress(len(now))
    return estimate


@torch.no_grad()
def masked_nll(
    model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, masked: torch.Tensor, mask_token_id: int
) -> np.ndarray:
    """Cross-entropy of the masked tokens, row by row, in nats: [N] fp64."""
    device = next(model.parameters()).device
    output = model(
        input_ids=input_ids.masked_fill(masked, mask_token_id).to(device),
        attention_mask=attention_mask.to(device),
        head_positions=masked.to(device),
        targets=input_ids[masked].to(device),
    )
    return output.token_nll.double().cpu().numpy()
