"""Masked diffusion (LLaDA, arXiv 2502.09992): masked tokens of a response are predicted from all other tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from topeng.diffusion import likelihood
from topeng.diffusion.forward import training_noise
from topeng.diffusion.loss import loss_weights
from topeng.diffusion.objective import Objective, Scoring, Step
from topeng.text.tokens import Example


@dataclass(frozen=True)
class Masked(Objective):
    """Masked diffusion. The loss is `sft_loss` of one pass over the noisy row, and the score is a Monte Carlo bound."""

    def training_pass(self, batch: dict[str, Tensor], step: Step, config: Any) -> dict[str, Any]:
        ids, response = batch["input_ids"], batch["response_mask"]
        masked, p = training_noise(step.noise, response, step.seed, step.step, batch["row_ids"], step.places, step.rows)
        return {
            "input_ids": ids.masked_fill(masked, config.mask_token_id),
            "attention_mask": batch["attention_mask"],
            "head_positions": masked,
            "targets": ids[masked],
            "weights": loss_weights(masked, p, batch["response_length"], step.rows),
            "noise_level": masked.sum(dim=1) / batch["response_length"],
        }

    def response_nll(self, model: Any, examples: Sequence[Example], how: Scoring) -> np.ndarray:
        return likelihood.response_nll(model, examples, how)
