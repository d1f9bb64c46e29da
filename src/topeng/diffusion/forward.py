"""The forward process: response tokens become the mask token (LLaDA, arXiv 2502.09992, eq. 7)."""

import torch
from torch import Tensor

from topeng.diffusion.noise import Use, uniforms

EPS = 1e-3
"""The masking probability's lower end: its inverse weights the loss."""


def forward_process(
    response_mask: Tensor, seed: int, step: int, row_ids: Tensor, eps: float = EPS
) -> tuple[Tensor, Tensor]:
    """Draws which response tokens are masked: t ~ U(0, 1), p = (1 - eps) t + eps, each token with probability p.

    Args:
        response_mask: bool [B, T].
        row_ids: [B]; noise is a function of (seed, step, row), and of a token's place in the response.

    Returns:
        `masked` bool [B, T], `p` [B] in fp32.
    """
    place = response_mask.cumsum(dim=1) - 1  # of a token in its response
    draws = uniforms(Use.TRAINING, seed, step, row_ids.tolist(), 1 + int(place.max()) + 1)
    noise = torch.from_numpy(draws).to(response_mask.device, torch.float32)
    p = (1 - eps) * noise[:, 0] + eps
    masked = response_mask & (noise[:, 1:].gather(1, place.clamp(min=0)) < p[:, None])
    return masked, p
