"""Which predictions a step commits. Shapes: R rows, S positions of a block, N masked ones of them, V vocabulary.

A policy gives scores [R, S] and counts [R]. The `count` masked positions with the highest scores are committed, at
least one, with ties in favour of the lowest index. Rows may be at different blocks and steps. p is the distribution at
a position, c the probability of its predicted token, and k the number of masks of a row in its block, divided by the
steps of the block.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from topeng.diffusion.noise import Use, uniforms
from topeng.generate.settings import Settings


@dataclass(frozen=True)
class Prediction:
    """What one step knows about the blocks.

    Attributes:
        probabilities: [N, V], row by row.
        confidence: [R, S], c, or 0 where nothing is masked.
        masked: bool [R, S].
        share: [R], k in this step.
        noise: seed, step and identity of each row.
    """

    probabilities: Tensor
    confidence: Tensor
    masked: Tensor
    share: Tensor
    noise: list[tuple[int, int, int]]

    def spread(self, values: Tensor) -> Tensor:
        """Puts values [N] of masked positions at their places [R, S]."""
        return torch.zeros(self.masked.shape, dtype=values.dtype, device=values.device).masked_scatter(
            self.masked, values
        )


def choose(prediction: Prediction, settings: Settings) -> Tensor:
    """bool [R, S]: the positions that the policy of the settings commits."""
    score, count = POLICIES[settings.policy](prediction, settings)
    score = score.masked_fill(~prediction.masked, -torch.inf)
    order = score.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return (rank < count.clamp(min=1)[:, None]) & prediction.masked


def top_k(prediction: Prediction, settings: Settings) -> tuple[Tensor, Tensor]:
    """The k highest c (LLaDA's low-confidence remasking, arXiv 2502.09992, algorithm 5)."""
    return prediction.confidence, prediction.share


def random(prediction: Prediction, settings: Settings) -> tuple[Tensor, Tensor]:
    """k at random, from the noise of the row (LLaDA's random remasking, arXiv 2502.09992, algorithm 4)."""
    count = prediction.masked.shape[1]
    score = [uniforms(Use.COMMITTING, seed, step, [row], count) for seed, step, row in prediction.noise]
    return torch.from_numpy(np.concatenate(score)).to(prediction.masked.device), prediction.share


def margin(prediction: Prediction, settings: Settings) -> tuple[Tensor, Tensor]:
    """The k widest p(first) - p(second) (top probability margin, arXiv 2502.06768)."""
    first, second = prediction.probabilities.topk(2, dim=-1).values.unbind(dim=-1)
    return prediction.spread(first - second), prediction.share


def entropy(prediction: Prediction, settings: Settings) -> tuple[Tensor, Tensor]:
    """The k lowest H(p) (Dream, arXiv 2508.15487)."""
    return -_entropy(prediction), prediction.share


def threshold(prediction: Prediction, settings: Settings) -> tuple[Tensor, Tensor]:
    """All with c >= threshold (Fast-dLLM, arXiv 2505.22618)."""
    sure = (prediction.confidence >= settings.threshold) & prediction.masked
    return prediction.confidence, sure.sum(dim=1)


def factor(prediction: Prediction, settings: Settings) -> tuple[Tensor, Tensor]:
    """The n highest c, n the largest with (n + 1)(1 - c_n) < factor (Fast-dLLM, arXiv 2505.22618)."""
    confidence = prediction.confidence.masked_fill(~prediction.masked, -torch.inf)
    c_n = confidence.sort(dim=1, descending=True).values
    n = torch.arange(1, c_n.shape[1] + 1, device=c_n.device)
    return prediction.confidence, (n * ((n + 1) * (1 - c_n) < settings.factor)).amax(dim=1)


def entropy_bound(prediction: Prediction, settings: Settings) -> tuple[Tensor, Tensor]:
    """The largest set U of lowest H(p) with sum of H - max of H <= bound over U (EB-Sampler, arXiv 2505.24857)."""
    uncertainty = _entropy(prediction)
    ascending = uncertainty.masked_fill(~prediction.masked, torch.inf).sort(dim=1).values
    before = ascending.cumsum(dim=1).roll(1, dims=1)  # the sum without the last entropy, which is the largest
    before[:, 0] = 0
    return -uncertainty, (before <= settings.entropy_bound).sum(dim=1)


def _entropy(prediction: Prediction) -> Tensor:
    """[R, S] nats."""
    return prediction.spread(torch.special.entr(prediction.probabilities).sum(dim=-1))


POLICIES = {policy.__name__: policy for policy in (top_k, random, margin, entropy, threshold, factor, entropy_bound)}
