"""Keys and values that are kept while a block is decoded. Shapes: R rows, T positions, S positions of a block."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache


class BlockCache:
    """Approximate keys and values of what stands outside a block (Fast-dLLM, arXiv 2505.22618).

    Attention is bidirectional: what is committed in a block moves the keys and values of all other positions. Keeping
    them is exact in the forward pass that computes them, and the further off the more is committed after it.

    Columns are given to the model in an order in which those that are kept come first; `position_ids` tells it where
    they stand. So one `crop` at the end serves a prefix and a gap alike.
    """

    def __init__(self, kind: str, refresh_interval: int | None, block: slice, width: int, device: torch.device) -> None:
        """
        Args:
            kind: `none`, `prefix` (what stands before the block is kept) or `dual` (after it too).
            refresh_interval: forward passes until all is computed anew; None: never.
            width: positions that are looked at, from the first.
        """
        columns = torch.arange(width, device=device)
        before, after = columns < block.start, columns >= block.stop
        kept = {"none": torch.zeros_like(before), "prefix": before, "dual": before | after}[kind]
        self.columns = torch.cat([columns[kept], columns[~kept]])
        self.kept = int(kept.sum())
        self.in_block = ~(before | after)
        self.refresh_interval = refresh_interval
        self.age = 0
        self.past: DynamicCache | None = None

    def block_logits(self, model: Any, tokens: Tensor, visible: Tensor) -> Tensor:
        """Logits [R, S, V] of the block.

        Args:
            tokens: [R, T]; of the kept positions they are read only when the cache is computed.
            visible: bool [R, T], what may be looked at.
        """
        if self.age == self.refresh_interval:
            self.past, self.age = None, 0
        if self.past is None and self.kept:
            self.past = DynamicCache()
            columns = self.columns
        else:
            columns = self.columns[self.kept :]
        logits = model(
            input_ids=tokens[:, columns],
            attention_mask=visible[:, self.columns],
            position_ids=columns[None],
            past_key_values=self.past,
            use_cache=self.past is not None,
            head_positions=self.in_block[columns].expand(len(tokens), -1),
        ).logits
        if self.past is not None:
            self.past.crop(self.kept - len(self.columns))
        self.age += 1
        return logits.view(len(tokens), -1, logits.shape[-1])

    def keep_rows(self, kept: Tensor) -> None:
        """Rows that are done leave: bool [R]."""
        if self.past is not None:
            self.past.batch_select_indices(kept)
