"""The interface of an objective: how rows become a forward pass with weights, and how rows are scored.

An objective is a file next to this one and a line of `OBJECTIVES`. How its models are decoded follows from their
attention (`models.attention`), which is part of a model, so that `objective_of` can tell the objective of a model.
Shapes: B rows, T positions, N trained positions, R rows, M replicates.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from topeng.text.tokens import Example


class Step(NamedTuple):
    """The place of some rows in a training, on which their noise depends.

    Attributes:
        noise: kind of noise (`train.noise`).
        step: number of the step, from 0.
        places: [B], places of the rows in the step.
        rows: number of rows of the step, over all forward passes and ranks.
    """

    noise: str
    seed: int
    step: int
    places: Tensor
    rows: int


class Scoring(NamedTuple):
    """How likelihoods are estimated (see `diffusion.response_nll`)."""

    draws: int
    seed: int
    replicates: int = 1
    batch_tokens: int = 8192
    progress: Callable[[int, int], None] = lambda done, passes: None


@dataclass(frozen=True)
class Objective(ABC):
    """
    Attributes:
        attention_block: attention of its models (`models.attention`).
        predicts_next: whether a position predicts the next token, or None to keep what the model does.
        exact: whether a score is the likelihood itself instead of a bound.
        sequences: tokens of a forward pass per token of a row.
    """

    attention_block: int | None = None
    predicts_next: bool | None = None
    exact: bool = False
    sequences: int = 1

    @abstractmethod
    def training_pass(self, batch: dict[str, Tensor], step: Step, config: Any) -> dict[str, Any]:
        """Arguments for a model's `forward`, whose `loss` is the part of these rows in the loss of the step, in nats.

        Args:
            batch: result of `text.batches.collate`.
            config: config of the model.

        Returns:
            Arguments that include `targets` and `weights` [N].
        """

    def tokens_to_score(self, length: int, draws: int) -> int:
        """Tokens of the forward passes that score a row of `length` tokens, if all of them are its response."""
        return draws * length

    @abstractmethod
    def response_nll(self, model: Any, examples: Sequence[Example], how: Scoring) -> np.ndarray:
        """The score of each example's response in nats, fp64 [R, M], with a column for each replicate."""
