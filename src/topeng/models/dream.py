"""Dream (arXiv 2508.15487) and DiffuCoder: Qwen2 with bidirectional attention. A position predicts the next token."""

from typing import ClassVar

from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

from topeng.models.masked_lm import Bidirectional, MaskedLMHead


class DreamConfig(Bidirectional, Qwen2Config):
    model_type = "Dream"
    architecture: ClassVar[str] = "DreamModel"
    shifted: ClassVar[bool] = True


class DreamModel(MaskedLMHead, Qwen2ForCausalLM):
    """Dream, with logits aligned with the input: those at a position are the prediction for this position."""

    config_class = DreamConfig


AutoConfig.register("Dream", DreamConfig)
