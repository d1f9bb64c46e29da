"""Optimisers for pretraining a base: Muon for the matrices of its layers and AdamW for the rest, or only AdamW."""

from typing import Any

import torch
from torch import nn

BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.01


def pretraining_optimizer(name: str, model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """The optimiser that `base.tiny.optimizer` names."""
    if name == "adamw":
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        return torch.optim.AdamW(trained, lr=learning_rate, betas=BETAS, weight_decay=0.0)
    return MuonAndAdamW(model, learning_rate)


class MuonAndAdamW(torch.optim.Optimizer):
    """Two optimisers of torch behind one interface, with one learning rate.

    Muon (arXiv 2502.16982) orthogonalises the updates of matrices, and scales them to suit the learning rates of AdamW.
    AdamW updates embeddings, head and norms.
    """

    def __init__(self, model: nn.Module, learning_rate: float) -> None:
        layers = model.get_submodule("model.layers")
        matrices = [weight for weight in layers.parameters() if weight.ndim == 2]
        taken = {id(weight) for weight in matrices}
        others = [weight for weight in model.parameters() if id(weight) not in taken]
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=learning_rate, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=learning_rate, betas=BETAS, weight_decay=0.0),
        ]
        super().__init__([*matrices, *others], {"lr": learning_rate})
        self._share_groups()

    def _share_groups(self) -> None:
        """Copies the learning rates that a schedule sets here to both optimisers."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure else None
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
