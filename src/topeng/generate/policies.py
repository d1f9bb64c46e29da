"""Which predictions a step commits. Shapes: R rows, S positions of a block, V vocabulary.

A policy gives a score [R, S] and a count [R]: of the masked positions those with the `count` highest scores are
committed, one at least, ties to the lowest index. p is a position's distribution, c the probability of its predicted
token, k the row's masks in the block over the block's steps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from topeng.diffusion.noise import Use, uniforms
from topeng.generate.settings import Settings


@dataclass(frozen=True)
class Prediction:
    """What one step knows of a block.

    Attributes:
        probabilities: [R, S, V].
        confidence: [R, S], c.
        masked: bool [R, S].
        share: [R], k at this step.
        step: of the row, for noise.
        row_ids: R identities, for noise.
    """

    probabilities: Tensor
    confidence: Tensor
    masked: Tensor
    share: Tensor
    step: int
    row_ids: list[int]


def choose(prediction: Prediction, settings: Settings) -> Tensor:
    """bool [R, S]: what the policy of the settings commits."""
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
    """k at random, by the row's own noise (LLaDA's random remasking, arXiv 2502.09992, algorithm 4)."""
    score = uniforms(Use.COMMITTING, settings.seed, prediction.step, prediction.row_ids, prediction.masked.shape[1])
    return torch.from_numpy(score).to(prediction.masked.device), prediction.share


def margin(prediction: Prediction, settings: Settings) -> tuple[Tensor, Tensor]:
    """The k widest p(first) - p(second) (top probability margin, arXiv 2502.06768)."""
    first, second = prediction.probabilities.topk(2, dim=-1).values.unbind(dim=-1)
    return first - second, prediction.share


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
    before = ascending.cumsum(dim=1).roll(1, dims=1)  # the sum without the last, which is the largest
    before[:, 0] = 0
    return -uncertainty, (before <= settings.entropy_bound).sum(dim=1)


def _entropy(prediction: Prediction) -> Tensor:
    """[R, S] nats."""
    return torch.special.entr(prediction.probabilities).sum(dim=-1)


POLICIES = {policy.__name__: policy for policy in (top_k, random, margin, entropy, threshold, factor, entropy_bound)}
