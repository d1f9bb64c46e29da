"""Objectives: what a pass is made of, its loss and its scores; and what they share of the forward process."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from topeng.diffusion.autoregressive import Autoregressive
from topeng.diffusion.block import Block
from topeng.diffusion.forward import copies, distinct_rows, forward_process, opened, training_noise
from topeng.diffusion.likelihood import monte_carlo_error
from topeng.diffusion.loss import loss_weights, sft_loss
from topeng.diffusion.masked import Masked
from topeng.diffusion.objective import Objective, Scoring, Step
from topeng.text.tokens import Example

__all__ = [
    "MASKED",
    "OBJECTIVES",
    "Objective",
    "Step",
    "copies",
    "distinct_rows",
    "forward_process",
    "loss_weights",
    "monte_carlo_error",
    "objective_of",
    "opened",
    "response_nll",
    "sft_loss",
    "training_noise",
]

MASKED = Masked()
OBJECTIVES: dict[str, Callable[[int], Objective]] = {
    "masked": lambda block_length: MASKED,
    "block": lambda block_length: Block(attention_block=block_length),
    "autoregressive": lambda block_length: Autoregressive(),
}
"""By the names that `train.objectives` has for them, made for a length of blocks."""


def objective_of(config: Any) -> Objective:
    """That of a model, which its attention tells: full, causal, or causal between blocks."""
    block = getattr(config, "attention_block", None)
    return MASKED if block is None else Autoregressive() if block == 1 else Block(attention_block=block)


def response_nll(
    model: Any,
    examples: Sequence[Example],
    draws: int,
    seed: int,
    replicates: int = 1,
    batch_tokens: int = 8192,
    progress: Callable[[int, int], None] = lambda done, passes: None,
) -> np.ndarray:
    """The negative log-likelihood of each example's response, or its bound, by the model's objective.

    In nats: fp64 [R, M], each column unbiased and independent of the others; equal columns are exact.

    Args:
        model: whose `config` has `mask_token_id` and `eos_token_id`.
        draws: Monte Carlo draws a row (of block diffusion, a block), over all replicates.
        batch_tokens: of one forward pass; rows of like length share it, so that little is padding.
        progress: called with the number of scored masks and their total.

    Raises:
        TopengError: `draws` is no multiple of `replicates`.
    """
    how = Scoring(draws, seed, replicates, batch_tokens, progress)
    return objective_of(model.config).response_nll(model, examples, how)
