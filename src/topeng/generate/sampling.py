"""From logits to tokens. Shapes: N masked positions, S positions of a block, V vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from topeng.diffusion.noise import Use, row_generator


def guide(conditional: Tensor, unconditional: Tensor, cfg_scale: float) -> Tensor:
    """u + (s + 1)(c - u), of conditional logits c and unconditional u."""
    return unconditional + (cfg_scale + 1) * (conditional - unconditional)


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits of the `seen` bool [N, V] over the penalty, or times it where negative (CTRL, arXiv 1909.05858)."""
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalised, logits)


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """-inf outside the smallest set of tokens whose probabilities sum to `top_p` or more (arXiv 1904.09751)."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    outside = probabilities.cumsum(dim=-1) - probabilities >= top_p  # the sum without itself: the first always stays
    return logits.masked_fill(torch.zeros_like(outside).scatter_(-1, order, outside), -torch.inf)


def draw(
    logits: Tensor, temperature: float, top_p: float, noise: Sequence[tuple[int, int, int]], active: Sequence[Tensor]
) -> Tensor:
    """[N] tokens, by the Gumbel-max trick: the largest of logits - T log(-log u).

    In float64: at low precision the noise lifts likelihood and harms quality (arXiv 2409.02908). The noise is a
    function of (seed, step, row), so that a row's tokens depend on no other row; it differs between devices.

    Args:
        logits: [N, V], row by row.
        noise: the seed, the step and the identity of each row.
        active: bool [S] of each row, the positions of its block that the logits are of.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    if top_p < 1:
        logits = keep_nucleus(logits / temperature, top_p) * temperature
    drawn, device = [], logits.device
    for (seed, step, row), places in zip(noise, active, strict=True):
        own = int(row_generator(Use.DECODING, seed, step, row).integers(2**63))
        generator = torch.Generator(device).manual_seed(own)
        shape = len(places), logits.shape[1]
        drawn.append(torch.rand(shape, dtype=torch.float64, device=device, generator=generator)[places.to(device)])
    return (logits.double() - temperature * torch.log(-torch.log(torch.cat(drawn)))).argmax(dim=-1)
