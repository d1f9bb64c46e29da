"""Masked diffusion: the forward process, its loss, and the likelihood bound."""

from topeng.diffusion.forward import copies, distinct_rows, forward_process, training_noise
from topeng.diffusion.likelihood import monte_carlo_error, response_nll
from topeng.diffusion.loss import loss_weights, sft_loss

__all__ = [
    "copies",
    "distinct_rows",
    "forward_process",
    "loss_weights",
    "monte_carlo_error",
    "response_nll",
    "sft_loss",
    "training_noise",
]
