"""What all families share: a vocabulary head that runs only where it is asked to.

Shapes: B rows, T positions, N head positions, D width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import CausalLMOutputWithPast

CHUNK_ELEMENTS = 2**24
"""Logits that stand in memory at once: 64 MiB in fp32, 132 positions of LLaDA's vocabulary."""


@dataclass
class MaskedLMOutput(CausalLMOutputWithPast):
    """`token_nll` [N]: cross-entropy in nats at each head position, where targets were given."""

    token_nll: Tensor | None = None


def chunked_cross_entropy(hidden: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Cross-entropy of `head(hidden)` against `targets`, a chunk of positions at a time.

    Chunks are recomputed in the backward pass, so that logits never stand in memory all at once.

    Args:
        hidden: [N, D] last hidden states.
        head: the vocabulary head, D -> V.
        targets: [N] token ids.

    Returns:
        [N] nats, fp32.
    """
    if len(targets) == 0:
        return hidden.sum(dim=-1).float()  # empty, yet part of the graph

    def nll(hidden: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(head(hidden).float(), targets, reduction="none")

    rows = max(1, CHUNK_ELEMENTS // head.out_features)
    pieces = zip(hidden.split(rows), targets.split(rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([nll(*piece) for piece in pieces])
    return torch.cat([checkpoint(nll, *piece, use_reentrant=False) for piece in pieces])


class MaskedLMHead:
    """Mixed in before a `transformers` causal-LM class whose attention is made bidirectional by its config."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        # Padding is the end token, which is a word too: its embedding must learn.
        self.get_input_embeddings().padding_idx = None  # type: ignore[attr-defined]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        head_positions: Tensor | None = None,
        targets: Tensor | None = None,
        weights: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits aligned with the input, or the weighted loss at some positions.

        The loss is computed inside `forward`, so that PEFT, DDP and FSDP wrappers need no knowledge of the head.

        Args:
            input_ids: [B, T].
            attention_mask: [B, T], 1 where a token may be looked at; padding may stand on either side.
            head_positions: bool [B, T], where the vocabulary head runs (everywhere without it).
            targets: [N] token ids at the head positions, row by row; then no logits are returned.
            weights: [N] factor of each position in the loss; ones without it.

        Returns:
            `logits` [B, T, V], or [N, V] with `head_positions`; with `targets` instead
            `loss` = sum of `weights * token_nll`, and `token_nll` [N].
        """
        if targets is None:
            kwargs |= {} if head_positions is None else {"logits_to_keep": head_positions}
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, **kwargs)  # type: ignore[misc]
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state  # type: ignore[attr-defined]
        hidden = hidden.flatten(0, 1) if head_positions is None else hidden[head_positions]  # [N, D]
        token_nll = chunked_cross_entropy(hidden, self.lm_head, targets)  # type: ignore[attr-defined]
        loss = token_nll.sum() if weights is None else (token_nll * weights).sum()
        return MaskedLMOutput(loss=loss, token_nll=token_nll)
