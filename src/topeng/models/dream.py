"""Dream (arXiv 2508.15487) and DiffuCoder: Qwen2 with bidirectional attention; a position predicts the next token."""

from typing import ClassVar

from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

from topeng.models.masked_lm import Bidirectional, MaskedLMHead


class DreamConfig(Bidirectional, Qwen2Config):
    model_type = "Dream"
    architecture: ClassVar[str] = "DreamModel"
    shifted: ClassVar[bool] = True


class DreamModel(MaskedLMHead, Qwen2ForCausalLM):
    """Its head is aligned with the input here: what it says at a position is what it predicts for it."""

    config_class = DreamConfig


AutoConfig.register("Dream", DreamConfig)
