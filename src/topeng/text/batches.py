"""Examples as padded tensors. Shapes: B rows, T positions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from topeng.text.tokens import Example


def collate(examples: Sequence[Example], eos_token_id: int, fill: bool = False) -> dict[str, Tensor]:
    """A batch, padded on the right with the end token.

    Args:
        eos_token_id: LLaDA's end token is its padding too.
        fill: make the padding part of the response, visible and supervised (the reference's EOS policy).

    Returns:
        `input_ids`, `attention_mask`, bool `response_mask` [B, T]; `response_length`, `row_ids` [B].
    """
    longest = max(len(example.input_ids) for example in examples)
    input_ids = torch.full((len(examples), longest), eos_token_id)
    for row, example in enumerate(examples):
        input_ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
    lengths = torch.tensor([longest if fill else len(example.input_ids) for example in examples])[:, None]
    prompts = torch.tensor([example.prompt_length for example in examples])[:, None]
    positions = torch.arange(longest)[None, :]
    return {
        "input_ids": input_ids,
        "attention_mask": (positions < lengths).long(),
        "response_mask": (positions >= prompts) & (positions < lengths),
        "response_length": (lengths - prompts).squeeze(1),
        "row_ids": torch.tensor([example.row_id for example in examples]),
    }
