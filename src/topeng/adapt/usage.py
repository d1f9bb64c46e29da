"""The usage of forward passes: padding, end tokens and answers."""

from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from topeng.system.memory import peak_at_work

SHARES = ("padding_share", "end_share", "end_loss_share")
"""The figures that are the same in a repeated training."""


class Usage(TrainerCallback, ExportableState):
    """Counts of one rank since the last line of the log. A checkpoint keeps those of rank 0."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begins a new line of the log."""
        self._counts: Any = torch.zeros(5, dtype=torch.float64)  # positions, padding, response, end tokens, seconds
        self._losses: Any = torch.zeros(2)  # all, of end tokens

    def add_pass(self, positions: int, padding: int, response: int, end: int) -> None:
        """Counts a forward pass: positions, padding (also with `fill`), response tokens and end tokens."""
        self._counts += torch.tensor([positions, padding, response, end, 0])

    def add_losses(self, losses: Tensor, end: Tensor) -> None:
        """Counts a forward pass: each masked position's share of the loss, and whether it is an end token, both [N]."""
        losses = losses.detach()
        sums = torch.stack([losses.sum(), (losses * end).sum()])
        self._losses = self._losses.to(sums.device) + sums  # read when it is logged: reading waits for the device

    def add_seconds(self, seconds: float) -> None:
        """Counts the time of the forward and backward passes of a step."""
        self._counts[4] += seconds

    def totals(self) -> Tensor:
        """All counts of this rank and its peak memory in bytes, [8]."""
        memory, _ = peak_at_work()
        return torch.cat([self._counts, self._losses.cpu(), torch.tensor([memory])]).float()

    def state(self) -> dict[str, list[float]]:
        """The state in `trainer_state.json`."""
        return {"counts": self._counts.tolist(), "losses": self._losses.tolist()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = state.stateful_callbacks.get("Usage")
        if kept and state.global_step:
            self._counts = torch.tensor(kept["counts"], dtype=torch.float64)
            self._losses = torch.tensor(kept["losses"])


def figures(totals: Tensor) -> dict[str, float]:
    """The logged values. Tokens per second are of forward and backward passes, memory is that of the largest rank.

    Args:
        totals: [ranks, 8].
    """
    positions, padding, response, end, _, loss, end_loss, _ = totals.sum(dim=0).tolist()
    seconds, memory = totals[:, 4].max().item(), totals[:, 7].max().item()
    return {
        "padding_share": padding / positions,
        "end_share": end / response,
        "end_loss_share": end_loss / loss if loss else 0.0,
        "tokens_per_second": positions / seconds,
        "answer_tokens_per_second": (response - end) / seconds,
        "peak_memory_bytes": memory,
    }
