"""Mixtures of experts: LLaDA-MoE (arXiv 2509.24389) on Qwen3-MoE's network, LLaDA2.x (2512.15745) on GLM-4-MoE's.

Options and weights have the official names, and only the experts of a token are computed. The attention of LLaDA2.x is
causal between blocks of 32.
"""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, Glm4MoeConfig, Glm4MoeForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.conversion_mapping import (
    get_checkpoint_conversion_mapping,
    register_checkpoint_conversion_mapping,
)
from transformers.core_model_loading import Split, WeightConverter, WeightRenaming

from topeng.models.masked_lm import Bidirectional, MaskedLMHead

EXPERTS = "qwen2_moe"
"""transformers' name for checkpoints with a weight per expert, while its networks have one for all experts."""


@strict
class LLaDAMoEConfig(Bidirectional, Qwen3MoeConfig):
    model_type = "lladamoe"
    norm_topk_prob: bool | None = None
    architecture: ClassVar[str] = "LLaDAMoEModelLM"
    official: ClassVar[dict[str, str]] = {
        "num_experts": "num_local_experts",
        "expert_intermediate_size": "moe_intermediate_size",
        "dense_intermediate_size": "intermediate_size",
    }
    fixed: ClassVar[dict[str, Any]] = {
        "qk_layernorm": True,
        "clip_qkv": None,
        "moe_router_score_function": "softmax",
        "moe_router_enable_expert_bias": False,
        "router_num_group": None,
        "routed_scaling_factor": 1,
        "shared_expert_intermediate_size": None,
        "partial_rotary_factor": 1,
    }


class LLaDA2Config(Bidirectional, Glm4MoeConfig):
    model_type = "llada2_moe"
    architecture: ClassVar[str] = "LLaDA2MoeModelLM"
    block: ClassVar[int | None] = 32
    official: ClassVar[dict[str, str]] = {
        "num_experts": "n_routed_experts",
        "num_shared_experts": "n_shared_experts",
        "use_qkv_bias": "attention_bias",
    }
    fixed: ClassVar[dict[str, Any]] = {
        "use_bias": False,
        "norm_head": False,
        "embedding_dropout": 0.0,
        "output_dropout": 0.0,
        "use_sliding_window": False,
        "score_function": "sigmoid",
    }

    def __post_init__(self, **options: Any) -> None:
        super().__post_init__(**{"num_nextn_predict_layers": 0} | options)


class LLaDAMoEModelLM(MaskedLMHead, Qwen3MoeForCausalLM):
    config_class = LLaDAMoEConfig
    one_to_one = False


class LLaDA2MoeModelLM(MaskedLMHead, Glm4MoeForCausalLM):
    config_class = LLaDA2Config
    one_to_one = False
    official_names: ClassVar[list[tuple[str, str]]] = [
        (r"^model\.word_embeddings\.", "model.embed_tokens."),
        (r"\.attention\.dense\.", ".self_attn.o_proj."),
        (r"\.attention\.query_layernorm\.", ".self_attn.q_norm."),
        (r"\.attention\.key_layernorm\.", ".self_attn.k_norm."),
        (r"\.mlp\.gate\.expert_bias", ".mlp.gate.e_score_correction_bias"),
    ]
    fused: ClassVar[dict[str, list[str]]] = {
        "attention.query_key_value.weight": [f"self_attn.{part}_proj.weight" for part in "qkv"],
    }


QKV = [WeightConverter(whole, parts, [Split(dim=0)]) for whole, parts in LLaDA2MoeModelLM.fused.items()]
MODELS: list[Any] = [LLaDAMoEModelLM, LLaDA2MoeModelLM]
for model, own in ((LLaDAMoEModelLM, []), (LLaDA2MoeModelLM, QKV)):
    kind = model.config_class.model_type
    AutoConfig.register(kind, model.config_class)
    renamed = [WeightRenaming(*names) for names in model.official_names]
    register_checkpoint_conversion_mapping(kind, [*renamed, *own, *get_checkpoint_conversion_mapping(EXPERTS)])
