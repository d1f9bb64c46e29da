"""Training objectives: how a pass, its loss and its scores are computed, and the forward process that they share."""

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
"""Objectives by their names in `train.objectives`, made for a block length."""


def objective_of(config: Any) -> Objective:
    """The objective of a model, judged by its attention: full, causal, or causal between blocks."""
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
    """The negative log-likelihood of each example's response, or a bound, according to the model's objective.

    The result is in nats, fp64 [R, M]. Columns are unbiased and independent of each other. Equal columns are exact.

    Args:
        model: has a `config` with `mask_token_id` and `eos_token_id`.
        draws: Monte Carlo draws per row (or per block, for block diffusion), over all replicates.
        batch_tokens: size of a forward pass. Rows of similar length share it, so that there is little padding.
        progress: called with the number of scored masks and their total.

    Raises:
        TopengError: `draws` is not a multiple of `replicates`.
    """
    how = Scoring(draws, seed, replicates, batch_tokens, progress)
    return objective_of(model.config).response_nll(model, examples, how)
