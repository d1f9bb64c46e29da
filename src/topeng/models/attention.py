"""Who looks at whom: a model's attention is full, causal, or causal between blocks.

A config's `attention_block` says which: None where every position sees all others, n where it sees its own block of n
and the blocks before (block-causal), 1 where it sees itself and what is before (causal). Blocks are counted from the
first token of a row.
Shapes: B rows, Q queries, K keys, T positions.
"""

from typing import Any

import torch
from torch import Tensor

ATTENTION = ("attention_block", "predicts_next")
"""The options of a config that an objective changes."""


def attend(model: Any, attention_block: int | None, predicts_next: bool | None = None) -> None:
    """Makes a network, with an adapter or without, look as asked from now on; its weights stay.

    Args:
        predicts_next: whether a position predicts the next token; None leaves that as it is.
    """
    network = model.get_base_model() if hasattr(model, "get_base_model") else model
    network.config.attention_block = attention_block
    if predicts_next is not None:
        network.config.predicts_next = network.predicts_next = predicts_next


def attention_of(config: Any) -> dict[str, Any]:
    """How a model looks, as arguments of `attend`."""
    return {
        "attention_block": getattr(config, "attention_block", None),
        "predicts_next": bool(getattr(config, "predicts_next", False)),
    }


def block_causal(visible: Tensor, queries: Tensor, keys: Tensor, block: int) -> Tensor:
    """Which keys each query looks at: those of its own block and of earlier ones.

    Args:
        visible: bool [B, K], false on padding.
        queries, keys: positions in the row, [B, Q] and [B, K].
        block: n of `attention_block`.

    Returns:
        bool [B, 1, Q, K], as `attention_mask` of transformers. A query that sees nothing, which is padding, sees all.
    """
    seen = visible[:, None, :] & (keys[:, None, :] // block <= queries[:, :, None] // block)
    return (seen | ~seen.any(dim=-1, keepdim=True))[:, None]


def annealed(seen: Tensor, positions: Tensor, opened: Tensor) -> Tensor:
    """Attention of a network that has looked back only, on its way to `seen` (DiffuLLaMA, arXiv 2410.17891).

    Args:
        seen: which keys each query is to look at in the end: bool [B, 1, T, T], or [B, T] of keys alone.
        positions: in the row, [B, T].
        opened: bool [B, N, N], of each position which ones after it may be looked at already.

    Returns:
        bool [B, 1, T, T].
    """
    seen = seen[:, None, None, :] if seen.ndim == 2 else seen
    before = positions[:, None, :] <= positions[:, :, None]
    rows = torch.arange(len(positions), device=positions.device)[:, None, None]
    return seen.bool() & (before | opened[rows, positions[:, :, None], positions[:, None, :]])[:, None]


def noisy_and_clean(visible: Tensor, block: int) -> Tensor:
    """Attention of one pass over [noisy, clean], both of T positions (Block Diffusion, arXiv 2503.09573).

    A noisy block sees itself and the clean blocks before it; a clean one itself and those before it.

    Args:
        visible: bool [B, T], false on padding.

    Returns:
        bool [B, 1, 2T, 2T].
    """
    blocks = torch.arange(visible.shape[1], device=visible.device) // block
    same, before = blocks[None, :] == blocks[:, None], blocks[None, :] < blocks[:, None]
    noisy = torch.cat([same, before], dim=1)
    clean = torch.cat([torch.zeros_like(same), same | before], dim=1)
    seen = torch.cat([noisy, clean]) & torch.cat([visible, visible], dim=1)[:, None, :]
    return (seen | ~seen.any(dim=-1, keepdim=True))[:, None]
