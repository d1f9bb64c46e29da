"""Autoregressive networks that were turned into masked diffusion models (A2D), as published by dLLM.

The network and its names are those of `transformers`. Attention is bidirectional, and a position predicts its own
token. Published checkpoints do not name the mask token, which is `<|mask|>` of their tokenizer.
"""

from typing import Any, ClassVar

from transformers import (
    AutoConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from topeng.models.masked_lm import Bidirectional, MaskedLMHead


class A2DLlamaConfig(Bidirectional, LlamaConfig):
    model_type = "a2d-llama"
    architecture: ClassVar[str] = "A2DLlamaLMHeadModel"


class A2DQwen2Config(Bidirectional, Qwen2Config):
    model_type = "a2d-qwen2"
    architecture: ClassVar[str] = "A2DQwen2LMHeadModel"


class A2DQwen3Config(Bidirectional, Qwen3Config):
    model_type = "a2d-qwen3"
    architecture: ClassVar[str] = "A2DQwen3LMHeadModel"


class A2DLlamaLMHeadModel(MaskedLMHead, LlamaForCausalLM):
    config_class = A2DLlamaConfig


class A2DQwen2LMHeadModel(MaskedLMHead, Qwen2ForCausalLM):
    config_class = A2DQwen2Config


class A2DQwen3LMHeadModel(MaskedLMHead, Qwen3ForCausalLM):
    config_class = A2DQwen3Config


MODELS: list[Any] = [A2DLlamaLMHeadModel, A2DQwen2LMHeadModel, A2DQwen3LMHeadModel]
for model in MODELS:
    AutoConfig.register(model.config_class.model_type, model.config_class)
