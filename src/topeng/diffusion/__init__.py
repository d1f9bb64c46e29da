"""Masked diffusion: the forward process, its loss, and the likelihood bound."""

from topeng.diffusion.forward import forward_process
from topeng.diffusion.likelihood import response_nll
from topeng.diffusion.loss import loss_weights, sft_loss

__all__ = ["forward_process", "loss_weights", "response_nll", "sft_loss"]
