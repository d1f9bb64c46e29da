"""SDAR (arXiv 2510.06303): Qwen3 with attention that is causal between blocks of four, or of `block_size`."""

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
