"""The forward process: response tokens become the mask token (LLaDA, arXiv 2502.09992, eq. 7).

Training's noise is one of three, which estimate the same loss with more or less variance:

independent    a level for each row, and each token by itself: `forward_process`, the reference
stratified     a level in each of as many strata as the step has rows, drawn by one number (Kingma et al., Variational
               Diffusion Models, arXiv 2107.00630), and exactly as many tokens masked as the level says
complementary  the same, and each row occurs a second time, with the other tokens masked (LaViDa, arXiv 2505.16839)

A row with exactly l of its L response tokens masked, l uniform on 1..L, counts the mean cross-entropy over these l
tokens: p = l / L (eq. 6). That is the independent noise's expectation for eps -> 0: there the count is Binomial(L, p),
p uniform, and the integral of C(L, l) p^(l-1) (1-p)^(L-l) is 1 / l. For eps > 0 count l has the weight
P(Binomial(L, eps) < l) / (1 - eps) / l instead: a share eps of all weight goes from the low counts to the others.
"""

import numpy as np
import torch
from torch import Tensor

from topeng.diffusion.noise import Use, row_generator, uniforms

EPS = 1e-3
"""The masking probability's lower end: its inverse weights the loss."""


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
    """How often a row occurs in a step; its copies are adjacent."""
    return 2 if noise == "complementary" else 1


def distinct_rows(batch_rows: int, noise: str) -> int:
    """How many rows a step of `batch_rows` has, copies not counted."""
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
        turn: [B] shift of a row's level; a level above 1 begins again at 0.

    Returns:
        `masked` bool [B, T], `p` [B] in fp32, as `sft_loss` takes them.
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
    complement = (places % times == 1) & (count < length)  # of everything: everything again
    masked = response_mask & (first ^ complement[:, None])
    return masked, masked.sum(dim=1) / length


def opened(attention_mask: Tensor, seed: int, step: int, row_ids: Tensor, share: float) -> Tensor:
    """Draws which pairs of a row's positions see each other, where attention is opened little by little.

    Args:
        attention_mask: [B, T], 1 on a row's tokens; padding is on the right.
        row_ids: [B], as of `forward_process`.
        share: of the pairs, in expectation.

    Returns:
        bool [B, T, T]; padding sees nothing.
    """
    found = torch.zeros(*attention_mask.shape, attention_mask.shape[1], dtype=torch.bool)
    for place, (row, length) in enumerate(zip(row_ids.tolist(), attention_mask.sum(dim=1).tolist(), strict=True)):
        draws = row_generator(Use.OPENING, seed, step, row).random((length, length), np.float32)
        found[place, :length, :length] = torch.from_numpy(draws < share)
    return found


def _token_noise(response_mask: Tensor, seed: int, step: int, row_ids: Tensor) -> Tensor:
    """[B, 1 + T] uniform draws in fp32: one of the row, then one of each response token, by its place there."""
    place = response_mask.cumsum(dim=1) - 1
    draws = uniforms(Use.TRAINING, seed, step, row_ids.tolist(), 1 + int(place.max()) + 1)
    noise = torch.from_numpy(draws).to(response_mask.device, torch.float32)
    return torch.cat([noise[:, :1], noise[:, 1:].gather(1, place.clamp(min=0))], dim=1)
