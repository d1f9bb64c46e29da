"""The attention of a model: full, causal, or causal between blocks.

`attention_block` in a config says which. With None, every position sees all others. With n, it sees its own block of n
positions and all earlier blocks (block-causal). With 1, it sees itself and all earlier positions (causal). Blocks are
counted from the first token of a row.
Shapes: B rows, Q queries, K keys, T positions.
"""

from typing import Any

import torch
from torch import Tensor

ATTENTION = ("attention_block", "predicts_next")
"""Options of a config that an objective changes."""


def attend(model: Any, attention_block: int | None, predicts_next: bool | None = None) -> None:
    """Changes the attention of a network, with or without an adapter. Its weights do not change.

    Args:
        predicts_next: whether a position predicts the next token, or None to keep the current value.
    """
    network = model.get_base_model() if hasattr(model, "get_base_model") else model
    network.config.attention_block = attention_block
    if predicts_next is not None:
        network.config.predicts_next = network.predicts_next = predicts_next


def attention_of(config: Any) -> dict[str, Any]:
    """The attention of a model, as arguments of `attend`."""
    return {
        "attention_block": getattr(config, "attention_block", None),
        "predicts_next": bool(getattr(config, "predicts_next", False)),
    }


def block_causal(visible: Tensor, queries: Tensor, keys: Tensor, block: int) -> Tensor:
    """The keys that each query sees, which are those of its own block and of earlier blocks.

    Args:
        visible: bool [B, K], false on padding.
        queries, keys: positions in the row, [B, Q] and [B, K].
        block: the value of `attention_block`.

    Returns:
        bool [B, 1, Q, K], an `attention_mask` of transformers. A query that would see nothing, which is padding, sees
        all keys.
    """
    seen = visible[:, None, :] & (keys[:, None, :] // block <= queries[:, :, None] // block)
    return (seen | ~seen.any(dim=-1, keepdim=True))[:, None]


def annealed(seen: Tensor, positions: Tensor, opened: Tensor) -> Tensor:
    """Attention of a causal network during the transition to `seen` (DiffuLLaMA, arXiv 2410.17891).

    Args:
        seen: the keys that each query will see in the end: bool [B, 1, T, T], or [B, T] for keys alone.
        positions: positions in the row, [B, T].
        opened: bool [B, N, N], the later positions that each position may already see.

    Returns:
        bool [B, 1, T, T].
    """
    seen = seen[:, None, None, :] if seen.ndim == 2 else seen
    before = positions[:, None, :] <= positions[:, :, None]
    rows = torch.arange(len(positions), device=positions.device)[:, None, None]
    return seen.bool() & (before | opened[rows, positions[:, :, None], positions[:, None, :]])[:, None]


def noisy_and_clean(visible: Tensor, block: int) -> Tensor:
    """Attention of one pass over [noisy, clean], with T positions each (Block Diffusion, arXiv 2503.09573).

    A noisy block sees itself and the earlier clean blocks. A clean block sees itself and the earlier clean blocks.

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
