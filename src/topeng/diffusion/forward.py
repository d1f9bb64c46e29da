"""The forward process, in which response tokens become the mask token (LLaDA, arXiv 2502.09992, eq. 7).

There are three kinds of noise in training, which estimate the same loss with different variance:

independent    a level for each row, and each token independently: `forward_process`, the reference
stratified     a level in each of as many strata as the step has rows, from one random number (Kingma et al.,
               Variational Diffusion Models, arXiv 2107.00630), and exactly as many masked tokens as the level says
complementary  the same, but each row occurs a second time with the other tokens masked (LaViDa, arXiv 2505.16839)

For a row with exactly l of its L response tokens masked, l uniform on 1..L, the loss is the mean cross-entropy over
these l tokens, with p = l / L (eq. 6). This is the expectation under independent noise for eps -> 0. There the count is
Binomial(L, p) with uniform p, and the integral of C(L, l) p^(l-1) (1-p)^(L-l) is 1 / l. For eps > 0, a count l has the
weight P(Binomial(L, eps) < l) / (1 - eps) / l instead, which moves a share eps of the weight from low counts to others.
"""

import numpy as np
import torch
from torch import Tensor

from topeng.diffusion.noise import Use, row_generator, uniforms

EPS = 1e-3
"""Lower limit of the masking probability, whose inverse weights the loss."""


def forward_process(
    response_mask: Tensor, seed: int, step: int, row_ids: Tensor, eps: float = EPS
) -> tuple[Tensor, Tensor]:
    """Draws which response tokens are masked: t ~ U(0, 1), p = (1 - eps) t + eps, each token with probability p.

    Args:
        response_mask: bool [B, T].
        row_ids: [B] numbers of the rows. Noise only depends on (seed, step, row) and on the position in the response.

    Returns:
        `masked` bool [B, T], `p` [B] in fp32.
    """
    noise = _token_noise(response_mask, seed, step, row_ids)
    p = (1 - eps) * noise[:, 0] + eps
    masked = response_mask & (noise[:, 1:] < p[:, None])
    return masked, p


def copies(noise: str) -> int:
    """Number of copies of a row in a step, which are adjacent."""
    return 2 if noise == "complementary" else 1


def distinct_rows(batch_rows: int, noise: str) -> int:
    """Number of distinct rows in a step of `batch_rows`."""
    return max(1, batch_rows // copies(noise))


def training_noise(
    noise: str,
    response_mask: Tensor,
    seed: int,
    step: int,
    row_ids: Tensor,
    places: Tensor,
    step_rows: int,
    turn: Tensor | float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Draws which response tokens are masked in a step, independently of which rows share a forward pass.

    Args:
        response_mask: bool [B, T].
        row_ids: [B].
        places: [B] positions of the rows in the step, whose order is random; copies of a row are adjacent.
        step_rows: number of all rows of the step, including copies.
        turn: [B] shift of the level of a row, modulo 1.

    Returns:
        `masked` bool [B, T], `p` [B] in fp32, as in `sft_loss`.
    """
    if noise == "independent":
        return forward_process(response_mask, seed, step, row_ids)
    times = copies(noise)
    offset = row_generator(Use.STRATA, seed, step, 0).random()
    level = ((places // times + offset) / (step_rows // times) + turn) % 1  # [B] in [0, 1), one in each stratum
    length = response_mask.sum(dim=1)
    count = torch.minimum(1 + (level * length).long(), length)
    draws = _token_noise(response_mask, seed, step, row_ids)[:, 1:].masked_fill(~response_mask, torch.inf)
    first = draws.argsort(dim=1).argsort(dim=1) < count[:, None]
    complement = (places % times == 1) & (count < length)  # the complement of a fully masked row is fully masked too
    masked = response_mask & (first ^ complement[:, None])
    return masked, masked.sum(dim=1) / length


def opened(attention_mask: Tensor, seed: int, step: int, row_ids: Tensor, share: float) -> Tensor:
    """Draws which pairs of positions of a row see each other while attention is opened step by step.

    Args:
        attention_mask: [B, T], 1 on tokens of a row. Padding is on the right.
        row_ids: [B], as in `forward_process`.
        share: expected share of the pairs.

    Returns:
        bool [B, T, T]. Padding sees nothing.
    """
    found = torch.zeros(*attention_mask.shape, attention_mask.shape[1], dtype=torch.bool)
    for place, (row, length) in enumerate(zip(row_ids.tolist(), attention_mask.sum(dim=1).tolist(), strict=True)):
        draws = row_generator(Use.OPENING, seed, step, row).random((length, length), np.float32)
        found[place, :length, :length] = torch.from_numpy(draws < share)
    return found


def _token_noise(response_mask: Tensor, seed: int, step: int, row_ids: Tensor) -> Tensor:
    """Uniform draws [B, 1 + T] in fp32: one for the row, then one for each response token by its position."""
    place = response_mask.cumsum(dim=1) - 1
    draws = uniforms(Use.TRAINING, seed, step, row_ids.tolist(), 1 + int(place.max()) + 1)
    noise = torch.from_numpy(draws).to(response_mask.device, torch.float32)
    return torch.cat([noise[:, :1], noise[:, 1:].gather(1, place.clamp(min=0))], dim=1)
