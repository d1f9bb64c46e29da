"""SDAR (arXiv 2510.06303): Qwen3 that looks back from blocks of four, or of as many as its `block_size` says."""

from typing import ClassVar

from transformers import AutoConfig, Qwen3Config, Qwen3ForCausalLM

from topeng.models.masked_lm import Bidirectional, MaskedLMHead


class SDARConfig(Bidirectional, Qwen3Config):
    model_type = "sdar"
    architecture: ClassVar[str] = "SDARForCausalLM"
    block: ClassVar[int | None] = 4
    mask: ClassVar[int | None] = 151669
    official: ClassVar[dict[str, str]] = {"block_size": "attention_block"}


class SDARForCausalLM(MaskedLMHead, Qwen3ForCausalLM):
    config_class = SDARConfig


AutoConfig.register("sdar", SDARConfig)
