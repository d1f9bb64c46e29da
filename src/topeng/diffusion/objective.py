"""What an objective is: which pass to make of rows, how its parts are weighted, how rows are scored.

An objective is a file beside this one and a line of `OBJECTIVES`. How its models are decoded follows from how they
look (`models.attention`), which a model carries with it: `objective_of` tells a model's objective by it.
Shapes: B rows, T positions, N positions that are learnt, R rows, M replicates.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from topeng.text.tokens import Example


class Step(NamedTuple):
    """The place of some rows in a training, of which their noise is a function.

    Attributes:
        noise: which tokens are masked (`train.noise`).
        step: from 0.
        places: [B], of the rows in the step.
        rows: of the step, over all forward passes and ranks.
    """

    noise: str
    seed: int
    step: int
    places: Tensor
    rows: int


class Scoring(NamedTuple):
    """How likelihoods are estimated; `diffusion.response_nll` says more."""

    draws: int
    seed: int
    replicates: int = 1
    batch_tokens: int = 8192
    progress: Callable[[int, int], None] = lambda done, passes: None


@dataclass(frozen=True)
class Objective(ABC):
    """
    Attributes:
        attention_block: how its models look (`models.attention`).
        predicts_next: what a position of its models predicts; None: what it did before.
        exact: a score is the likelihood itself, and not a bound.
        sequences: as many tokens of a forward pass as a row has, times this.
    """

    attention_block: int | None = None
    predicts_next: bool | None = None
    exact: bool = False
    sequences: int = 1

    @abstractmethod
    def training_pass(self, batch: dict[str, Tensor], step: Step, config: Any) -> dict[str, Any]:
        """The arguments of a model's `forward` whose `loss` is the share that rows have in a step's loss, in nats.

        Args:
            batch: of `text.batches.collate`.
            config: of the model.

        Returns:
            `targets` and `weights` [N] among them.
        """

    def tokens_to_score(self, length: int, draws: int) -> int:
        """Tokens of the forward passes that score a row of so many tokens, if all of them are its response."""
        return draws * length

    @abstractmethod
    def response_nll(self, model: Any, examples: Sequence[Example], how: Scoring) -> np.ndarray:
        """Of each example's response, in nats: fp64 [R, M], a column for each replicate."""
