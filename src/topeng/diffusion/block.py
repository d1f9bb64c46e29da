"""Block diffusion (BD3-LM, arXiv 2503.09573): blocks from left to right, masked diffusion within each.

A row is divided into blocks of n tokens from its first token. The likelihood of the answer is the product of those of
its blocks, each given the clean ones before it, and the bound of the masked objective is used for each. One pass over
[noisy, clean] trains all blocks. If n is the length of the row, this is the masked objective.
Shapes: B rows, T positions, K blocks of a row, n tokens of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from topeng.diffusion import likelihood
from topeng.diffusion.forward import training_noise
from topeng.diffusion.objective import Objective, Scoring, Step
from topeng.models.attention import noisy_and_clean
from topeng.text.tokens import Example

BLOCK_BITS = 52
"""A block has the noise of a separate row, whose number is above those of rows (`Example.noise_id`)."""
GOLDEN = (5**0.5 - 1) / 2
"""Distance of the noise levels of consecutive blocks, modulo 1, which spreads any number of levels evenly."""


@dataclass(frozen=True)
class Block(Objective):
    """Block diffusion. The score is the sum of the bounds of the blocks, each with the requested number of draws."""

    sequences: int = 2

    def training_pass(self, batch: dict[str, Tensor], step: Step, config: Any) -> dict[str, Any]:
        ids, visible = batch["input_ids"], batch["attention_mask"].bool()
        masked, p = self._noise(batch, step)
        length = ids.shape[1]
        weights = 1 / (p * batch["response_length"][:, None] * step.rows)  # [B, T]
        predicted, targets, weights = (
            self._predicting(values, config.predicts_next) for values in (masked, ids, weights)
        )
        return {
            "input_ids": torch.cat([ids.masked_fill(masked, config.mask_token_id), ids], dim=1),
            "attention_mask": noisy_and_clean(visible, self._block),
            "position_ids": torch.arange(length).repeat(2).expand(len(ids), -1),
            "head_positions": predicted,
            "moved": False,
            "targets": targets[predicted],
            "weights": weights[predicted],
            "noise_level": masked.sum(dim=1) / batch["response_length"],
        }

    def tokens_to_score(self, length: int, draws: int) -> int:
        """The draws of each block, whose passes contain it and everything before it."""
        return draws * sum(min(start + self._block, length) for start in range(0, length, self._block))

    def response_nll(self, model: Any, examples: Sequence[Example], how: Scoring) -> np.ndarray:
        parts = [(row, part) for row, example in enumerate(examples) for part in self._blocks(example)]
        nats = likelihood.response_nll(model, [part for _, part in parts], how)
        found = np.zeros((len(examples), how.replicates))
        np.add.at(found, [row for row, _ in parts], nats)
        return found

    @property
    def _block(self) -> int:
        assert self.attention_block
        return self.attention_block

    def _noise(self, batch: dict[str, Tensor], step: Step) -> tuple[Tensor, Tensor]:
        """`masked` (bool) and `p`, [B, T], drawn for each block separately."""
        response, size = batch["response_mask"], self._block
        rows, length = response.shape
        blocks = functional.pad(response, (0, -length % size)).reshape(rows, -1, size)  # [B, K, n]
        learnt = blocks.any(dim=-1)
        number = (learnt.cumsum(dim=1) - 1)[learnt]  # number of each block with response tokens, from 0 in each row
        row = learnt.nonzero()[:, 0]
        masked, p = torch.zeros_like(blocks), torch.ones(learnt.shape)
        masked[learnt], p[learnt] = training_noise(
            step.noise,
            blocks[learnt],
            step.seed,
            step.step,
            batch["row_ids"][row] + (number << BLOCK_BITS),
            step.places[row],
            step.rows,
            number * GOLDEN,
        )
        return masked.flatten(1)[:, :length], p.repeat_interleave(size, dim=1)[:, :length]

    def _predicting(self, values: Tensor, predicts_next: bool) -> Tensor:
        """Moves values of tokens [B, T] to the positions of [noisy, clean], [B, 2T], that predict them.

        If a position predicts the next token, the last clean token before a block predicts its first, as in decoding.
        """
        none = torch.zeros_like(values)
        if not predicts_next:
            return torch.cat([values, none], dim=1)
        first = torch.arange(values.shape[1]) % self._block == 0
        within, across = (torch.where(where, values, none).roll(-1, dims=1) for where in (~first, first))
        across[:, -1] = 0  # the first token of a row, which nothing predicts
        return torch.cat([within, across], dim=1)

    def _blocks(self, example: Example) -> list[Example]:
        """The blocks of a response, each as an example with everything before it as the prompt."""
        size, end = self._block, len(example.input_ids)
        starts = [example.prompt_length, *range((example.prompt_length // size + 1) * size, end, size)]
        return [
            replace(
                example,
                row_id=example.row_id + (number << BLOCK_BITS),
                input_ids=example.input_ids[: min(end, (start // size + 1) * size)],
                prompt_length=start,
            )
            for number, start in enumerate(starts)
            if start < end
        ]
