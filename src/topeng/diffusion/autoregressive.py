"""Autoregression: each token is predicted from the ones before it, and scores are exact.

Shapes: B rows, T positions, N tokens of responses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from topeng.diffusion.objective import Objective, Scoring, Step
from topeng.text.batches import collate, passes_of
from topeng.text.tokens import Example


@dataclass(frozen=True)
class Autoregressive(Objective):
    """Cross-entropy of all response tokens, divided by the response length. Nothing is masked or estimated."""

    attention_block: int | None = 1
    predicts_next: bool | None = True
    exact: bool = True

    def training_pass(self, batch: dict[str, Tensor], step: Step, config: Any) -> dict[str, Any]:
        response = batch["response_mask"]
        weights = 1 / (batch["response_length"] * step.rows)  # [B]
        return {
            "input_ids": batch["input_ids"],
            "attention_mask": batch["attention_mask"],
            "head_positions": response,
            "targets": batch["input_ids"][response],
            "weights": weights[:, None].expand(response.shape)[response],
        }

    def tokens_to_score(self, length: int, draws: int) -> int:
        """One pass, as nothing is estimated."""
        return length

    @torch.no_grad()
    def response_nll(self, model: Any, examples: Sequence[Example], how: Scoring) -> np.ndarray:
        examples = [begun(example, model.config.eos_token_id) for example in examples]
        device, found = next(model.parameters()).device, np.zeros((len(examples), how.replicates))
        done = 0
        for rows in passes_of([len(example.input_ids) for example in examples], how.batch_tokens):
            batch = collate([examples[row] for row in rows], model.config.eos_token_id)
            response = batch["response_mask"]
            token_nll = model(
                input_ids=batch["input_ids"].to(device),
                attention_mask=batch["attention_mask"].to(device),
                head_positions=response.to(device),
                targets=batch["input_ids"][response].to(device),
            ).token_nll
            parts = token_nll.double().cpu().split(response.sum(dim=1).tolist())
            found[rows] = np.array([float(part.sum()) for part in parts])[:, None]
            done += len(rows)
            how.progress(done, len(examples))
        return found


def begun(example: Example, eos_token_id: int) -> Example:
    """Puts an end token before a text without a prompt, from which its first token is predicted."""
    if example.prompt_length:
        return example
    return replace(example, input_ids=[eos_token_id, *example.input_ids], prompt_length=1)
