"""What forward passes are spent on: padding, end tokens, answers."""

from typing import Any

import torch
from torch import Tensor

from topeng.run import peak_memory

SHARES = ("padding_share", "end_share", "end_loss_share")
"""Of the figures, those that a second training has again."""


class Usage:
    """Counts of one rank, from one line of the log to the next."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._tokens = torch.zeros(4, dtype=torch.float64)  # all, padding, response, end
        self._loss: Any = 0.0
        self._end_loss: Any = 0.0

    def add_tokens(self, tokens: int, padding: int, response: int, end: int) -> None:
        """Of a forward pass: positions, those beyond the rows' own (`fill` supervises them), response and end tokens."""
        self._tokens += torch.tensor([tokens, padding, response, end])

    def add_loss(self, losses: Tensor, end: Tensor) -> None:
        """Of a forward pass: each masked position's share of the loss, and whether it is an end token: [N] both."""
        losses = losses.detach()
        self._loss = self._loss + losses.sum()  # stays where it is until it is logged
        self._end_loss = self._end_loss + (losses * end).sum()

    def totals(self) -> Tensor:
        """[8] all counts of this rank, and the most that it had in memory."""
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        memory = torch.cuda.max_memory_allocated() if cuda else peak_memory()
        return torch.cat([self._tokens, torch.tensor([self.seconds, self._loss, self._end_loss, memory])]).float()


def figures(totals: Tensor) -> dict[str, float]:
    """What is logged: tokens a second are of the forward and backward passes, memory of the rank with the most.

    Args:
        totals: [ranks, 8].
    """
    tokens, padding, response, end, _, loss, end_loss, _ = totals.sum(dim=0).tolist()
    seconds, memory = totals[:, 4].max().item(), totals[:, 7].max().item()
    return {
        "padding_share": padding / tokens,
        "end_share": end / response,
        "end_loss_share": end_loss / loss if loss else 0.0,
        "tokens_per_second": tokens / seconds,
        "answer_tokens_per_second": (response - end) / seconds,
        "peak_memory_bytes": memory,
    }
