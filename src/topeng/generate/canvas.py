"""The canvas of a generation. Shapes: B rows, P prompt positions, T positions, S positions of a block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from topeng.errors import GenerationError


@dataclass
class Canvas:
    """Tokens, some of which are given and some masked. The decoding loop fills it in place.

    It is kept on the CPU, where rows are scheduled. The device of the model only gets what a pass needs.

    Attributes:
        tokens: [B, T], the prompt (padded on the left) and its answer, with masks where no token is committed.
        attention_mask: bool [B, T], false on padding.
        masked: bool [B, T], true where a token must still be decoded.
        prompt_length: P, where blocks begin.
        committed_at: [B, T], the row's forward pass, from 1, that committed a token, or 0.
        confidence: fp32 [B, T], probability of a token when it was committed, or 0.
        passes: [B], number of forward passes that each row took part in.
        forward_passes: number of steps so far of all rows together.
    """

    tokens: Tensor
    attention_mask: Tensor
    masked: Tensor
    prompt_length: int
    committed_at: Tensor = field(init=False)
    confidence: Tensor = field(init=False)
    passes: Tensor = field(init=False)
    forward_passes: int = 0

    def __post_init__(self) -> None:
        self.tokens, self.attention_mask, self.masked = self.tokens.cpu(), self.attention_mask.cpu(), self.masked.cpu()
        self.committed_at = torch.zeros_like(self.tokens)
        self.confidence = torch.zeros_like(self.tokens, dtype=torch.float32)
        self.passes = torch.zeros_like(self.tokens[:, :0].sum(dim=1))


def blank_canvas(
    input_ids: Tensor,
    attention_mask: Tensor,
    new_tokens: int,
    mask_token_id: int,
    fixed: Mapping[int, Sequence[int]] | None = None,
) -> Canvas:
    """A canvas of `new_tokens` masks after each prompt.

    Args:
        input_ids: [B, P], padded on the left.
        attention_mask: [B, P], 0 on padding.
        fixed: tokens to put into every answer, by their position from 0.

    Raises:
        GenerationError: a prompt contains a mask token, or fixed tokens are beyond the answer.
    """
    if (input_ids == mask_token_id).any():
        raise GenerationError(
            f"the prompt contains the mask token ({mask_token_id}), which only an answer may contain. To fill gaps, "
            "use infilling_canvas."
        )
    answer = torch.full((len(input_ids), new_tokens), mask_token_id, device=input_ids.device)
    for place, tokens in (fixed or {}).items():
        if place < 0 or place + len(tokens) > new_tokens:
            raise GenerationError(
                f"{len(tokens)} fixed tokens at position {place} do not fit into an answer of {new_tokens} tokens"
            )
        answer[:, place : place + len(tokens)] = torch.tensor(tokens, device=answer.device)
    return infilling_canvas(
        torch.cat([input_ids, answer], dim=1),
        torch.cat([attention_mask, torch.ones_like(answer)], dim=1),
        input_ids.shape[1],
        mask_token_id,
    )


def infilling_canvas(input_ids: Tensor, attention_mask: Tensor, prompt_length: int, mask_token_id: int) -> Canvas:
    """A canvas whose gaps are the mask tokens of `input_ids` [B, T].

    Raises:
        GenerationError: there is a gap before `prompt_length`, where decoding starts.
    """
    masked = (input_ids == mask_token_id) & attention_mask.bool()
    if masked[:, :prompt_length].any():
        raise GenerationError(
            f"there is a gap before prompt_length = {prompt_length}, but only tokens after it are decoded"
        )
    return Canvas(input_ids.clone(), attention_mask.bool(), masked, prompt_length)


def pad_left(prompts: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Pads prompts of different lengths to `input_ids` and `attention_mask`, both [B, P]."""
    longest = max(len(prompt) for prompt in prompts)
    input_ids = [[pad_token_id] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    attention_mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(input_ids, dtype=torch.long), torch.tensor(attention_mask, dtype=torch.long)
