"""LLaDA-8B's shape at random weights, made on the device itself; a tiny one with `--small`."""

from typing import Any

import torch
from bench import Bench

from topeng.adapt.base_settings import TinyOptions
from topeng.adapt.tiny import tiny_config
from topeng.models import LLaDAConfig, LLaDAModelLM

SMALL = TinyOptions(vocab_size=1000, hidden_size=64, layers=2)
CONTEXT = 4096


def config(small: bool) -> LLaDAConfig:
    """Of LLaDA-8B, with the token ids of a tokenizer that `topeng.adapt.tiny` trains."""
    tiny = tiny_config(SMALL, CONTEXT)
    if small:
        return tiny
    return LLaDAConfig(mask_token_id=tiny.mask_token_id, eos_token_id=tiny.eos_token_id, pad_token_id=tiny.pad_token_id)


def random_model(bench: Bench) -> Any:
    """In bf16: 16 GB at LLaDA-8B's shape, which are never in the machine's own memory."""
    torch.manual_seed(0)
    with torch.device(bench.device):
        return LLaDAModelLM._from_config(config(bench.small), dtype=torch.bfloat16).eval()


def useful_operations(shape: LLaDAConfig, tokens: float, masked: float) -> float:
    """Floating-point operations of a training step whose weights are frozen: two a weight and token, forward and back.

    What is recomputed is not counted, nor are attention's own products (2 % at 512 tokens) or the adapter's.

    Args:
        tokens: in the step, without padding.
        masked: of them, those that the vocabulary head runs on.
    """
    width, mlp = shape.hidden_size, shape.intermediate_size
    body = shape.num_hidden_layers * (4 * width**2 + 3 * width * mlp)
    return 4 * (body * tokens + shape.vocab_size * width * masked)
