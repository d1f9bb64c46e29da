"""From logits to tokens. Shapes: N masked positions, S positions of a block, V vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from topeng.diffusion.noise import Use, row_generator


def guide(conditional: Tensor, unconditional: Tensor, cfg_scale: float) -> Tensor:
    """Classifier-free guidance: u + (s + 1)(c - u) of conditional logits c and unconditional logits u."""
    return unconditional + (cfg_scale + 1) * (conditional - unconditional)


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divides logits of `seen` tokens, bool [N, V], by the penalty; multiplies negative ones (arXiv 1909.05858)."""
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, penalised, logits)


def keep_nucleus(logits: Tensor, top_p: float) -> Tensor:
    """The logits, with -inf outside the smallest set of tokens with a probability of `top_p` (arXiv 1904.09751)."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities  # so that the first is always kept
    outside = before >= top_p
    return logits.masked_fill(torch.zeros_like(outside).scatter_(-1, order, outside), -torch.inf)


def draw(
    logits: Tensor, temperature: float, top_p: float, noise: Sequence[tuple[int, int, int]], active: Sequence[Tensor]
) -> Tensor:
    """Samples tokens [N] by the Gumbel-max trick, as the largest of logits - T log(-log u).

    The noise is in float64, because lower precision raises the likelihood and harms quality (arXiv 2409.02908). It is a
    function of (seed, step, row), so that the tokens of a row do not depend on other rows. It differs between devices.

    Args:
        logits: [N, V], row by row.
        noise: seed, step and identity of each row.
        active: bool [S] for each row, the positions of its block that the logits belong to.
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
