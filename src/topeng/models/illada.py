"""iLLaDA (arXiv 2606.25331): Llama with bidirectional attention, grouped queries and a tied head.

Unlike LLaDA, its official code uses Llama's names for options and weights. No option names the mask token, which is
`<[MASK]>` of the tokenizer, id 5.
"""

from typing import Any, ClassVar

from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM

from topeng.models.masked_lm import Bidirectional, MaskedLMHead


class ILLaDAConfig(Bidirectional, LlamaConfig):
    model_type = "illada"
    architecture: ClassVar[str] = "ILLaDAForCausalLM"
    mask: ClassVar[int | None] = 5
    fixed: ClassVar[dict[str, Any]] = {"layer_norm_eps": None}


class ILLaDAForCausalLM(MaskedLMHead, LlamaForCausalLM):
    config_class = ILLaDAConfig


AutoConfig.register("illada", ILLaDAConfig)
