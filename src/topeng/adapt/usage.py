"""What forward passes are spent on: padding, end tokens, answers."""

from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from topeng.system.memory import peak_at_work

SHARES = ("padding_share", "end_share", "end_loss_share")
"""Of the figures, those that a second training has again."""


class Usage(TrainerCallback, ExportableState):
    """Counts of one rank since the last line of the log; a checkpoint keeps them (of rank 0)."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begins a new line of the log."""
        self._counts: Any = torch.zeros(5, dtype=torch.float64)  # positions, padding, response, end tokens, seconds
        self._losses: Any = torch.zeros(2)  # all, of end tokens

    def add_pass(self, positions: int, padding: int, response: int, end: int) -> None:
        """Of a forward pass: positions, those beyond the rows' own (under `fill` too), response and end tokens."""
        self._counts += torch.tensor([positions, padding, response, end, 0])

    def add_losses(self, losses: Tensor, end: Tensor) -> None:
        """Of a forward pass: each masked position's share of the loss, and whether it is an end token: [N] both."""
        losses = losses.detach()
        sums = torch.stack([losses.sum(), (losses * end).sum()])
        self._losses = self._losses.to(sums.device) + sums  # read when it is logged, which waits for the device

    def add_seconds(self, seconds: float) -> None:
        """Of a step's forward and backward passes."""
        self._counts[4] += seconds

    def totals(self) -> Tensor:
        """[8] all counts of this rank, and the most bytes that it had in memory."""
        memory, _ = peak_at_work()
        return torch.cat([self._counts, self._losses.cpu(), torch.tensor([memory])]).float()

    def state(self) -> dict[str, list[float]]:
        """What `trainer_state.json` holds of it."""
        return {"counts": self._counts.tolist(), "losses": self._losses.tolist()}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = state.stateful_callbacks.get("Usage")
        if kept and state.global_step:
            self._counts = torch.tensor(kept["counts"], dtype=torch.float64)
            self._losses = torch.tensor(kept["losses"])


def figures(totals: Tensor) -> dict[str, float]:
    """What is logged: tokens a second are of the forward and backward passes, memory of the rank with the most.

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
