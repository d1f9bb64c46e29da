"""LLaDA (arXiv 2502.09992): Llama with bidirectional attention, under other names.

The network is that of `transformers`. This file has the names of options and weights in official checkpoints.
"""

from typing import Any, ClassVar

from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming

from topeng.errors import ModelError
from topeng.models.illada import ILLaDAConfig
from topeng.models.masked_lm import Bidirectional, MaskedLMHead

LLAMA_NAMES = {  # official option -> Llama's
    "d_model": "hidden_size",
    "mlp_hidden_size": "intermediate_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "max_sequence_length": "max_position_embeddings",
    "init_std": "initializer_range",
    "weight_tying": "tie_word_embeddings",
    "activation_type": "hidden_act",
}

FIXED = {  # options of the official code for which Llama's network only supports one value
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_type": "llama",
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "multi_query_attention": None,
    "rope": True,
    "scale_logits": False,
}

LLADA_8B = {  # shape and tokens of GSAI-ML/LLaDA-8B-Base and -Instruct
    "d_model": 4096,
    "mlp_hidden_size": 12288,
    "n_layers": 32,
    "n_heads": 32,
    "max_sequence_length": 4096,
    "vocab_size": 126464,
    "embedding_size": 126464,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
    "mask_token_id": 126336,
    "eos_token_id": 126081,
    "pad_token_id": 126081,
    "bos_token_id": None,
}

# Official name (a pattern) -> Llama's name. `blocks.N.ff_out` and the `ff_out` of the head are different. Names that
# are Llama's already (`self_attn.q_proj`) are not matched, because peft renames the keys of an adapter with this list.
WEIGHTS = [
    (r"^model\.transformer\.wte\.", "model.embed_tokens."),
    (r"^model\.transformer\.ln_f\.", "model.norm."),
    (r"^model\.transformer\.ff_out\.", "lm_head."),
    (r"^model\.transformer\.blocks\.", "model.layers."),
    (r"\.attn_norm\.", ".input_layernorm."),
    (r"\.ff_norm\.", ".post_attention_layernorm."),
    (r"(?<!self_attn)\.q_proj\.", ".self_attn.q_proj."),
    (r"(?<!self_attn)\.k_proj\.", ".self_attn.k_proj."),
    (r"(?<!self_attn)\.v_proj\.", ".self_attn.v_proj."),
    (r"\.attn_out\.", ".self_attn.o_proj."),
    (r"\.ff_proj\.", ".mlp.gate_proj."),
    (r"(?<!mlp)\.up_proj\.", ".mlp.up_proj."),
    (r"\.ff_out\.", ".mlp.down_proj."),
]


class LLaDAConfig(Bidirectional, LlamaConfig):
    """LLaDA's options under their official names, on top of `LlamaConfig`. The defaults are those of LLaDA-8B."""

    model_type = "llada"
    architecture: ClassVar[str] = "LLaDAModelLM"
    official: ClassVar[dict[str, str]] = LLAMA_NAMES
    fixed: ClassVar[dict[str, Any]] = FIXED

    def __init__(self, **options: Any) -> None:
        if options.get("mask_token_id") is None and _is_illada(options):
            options["mask_token_id"] = ILLaDAConfig.mask
        if "vocab_size" in options:
            options["embedding_size"] = options.get("embedding_size") or options["vocab_size"]
        options = dict[str, Any](LLADA_8B | FIXED | options)
        if options["embedding_size"] < options["vocab_size"]:
            raise ModelError(
                f"config.json has embedding_size = {options['embedding_size']}, which must be at least vocab_size = "
                f"{options['vocab_size']}, as every token has an embedding. Copy the checkpoint again."
            )
        super().__init__(**options)

    def to_dict(self) -> dict[str, Any]:
        """The options under their official names, as in `config.json`."""
        options = super().to_dict()
        for derived in ("head_dim", "attention_bias", "mlp_bias", "pretraining_tp", "rope_scaling"):
            options.pop(derived, None)
        return options


def _is_illada(options: dict[str, Any]) -> bool:
    """Whether a checkpoint in LLaDA's layout is iLLaDA, the only one with grouped queries and a tied head."""
    return bool(options.get("weight_tying")) and options.get("n_kv_heads") not in (None, options.get("n_heads"))


class LLaDAModelLM(MaskedLMHead, LlamaForCausalLM):
    """LLaDA. The class has its official name, so that `config.json` keeps its `architectures`."""

    config_class = LLaDAConfig
    official_names = WEIGHTS


AutoConfig.register("llada", LLaDAConfig)
register_checkpoint_conversion_mapping("llada", [WeightRenaming(*names) for names in WEIGHTS])
