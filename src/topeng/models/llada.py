"""LLaDA (arXiv 2502.09992): Llama with bidirectional attention, under other names.

The network is `transformers`' own; this module only has the names that the official checkpoints use, for
options and for weights, so that a checkpoint is read and written in the official layout.
"""

from typing import Any

from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming

from topeng.errors import ModelError
from topeng.models.attention import ATTENTION
from topeng.models.masked_lm import MaskedLMHead

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

FIXED = {  # options of the official code that Llama's network answers in one way only
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

LLADA_8B = {  # the shape and tokens of GSAI-ML/LLaDA-8B-Base and -Instruct
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

# Official name (a pattern) -> Llama's. `blocks.N.ff_out` and the head's `ff_out` are two. Names that Llama has too are
# left where they are Llama's already: peft renames an adapter's keys by the same list.
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


class LLaDAConfig(LlamaConfig):
    """LLaDA's options under their official names, on `LlamaConfig`. The defaults are LLaDA-8B's."""

    model_type = "llada"

    def __init__(self, **options: Any) -> None:
        refused = [name for name, value in FIXED.items() if options.get(name, value) != value]
        if refused:
            name = refused[0]
            raise ModelError(
                f"config.json has {name} = {options[name]!r}, but Topeng runs LLaDA on Llama's network, where "
                f"{name} = {FIXED[name]!r}. A checkpoint with another value cannot be loaded."
            )
        options.pop("architectures", None)
        attention = {name: options.pop(name) for name in ATTENTION if name in options}
        if "vocab_size" in options:
            options["embedding_size"] = options.get("embedding_size") or options["vocab_size"]
        options = dict[str, Any](LLADA_8B | FIXED | options)
        if options["embedding_size"] < options["vocab_size"]:
            raise ModelError(
                f"config.json has embedding_size = {options['embedding_size']}, which must be at least vocab_size = "
                f"{options['vocab_size']}, as every token has an embedding. Copy the checkpoint again."
            )
        # `head_dim` is derived in `LlamaConfig.__init__`, before an `attribute_map` would apply: rename first.
        super().__init__(**{LLAMA_NAMES.get(name, name): value for name, value in options.items()})
        self.is_causal = False
        self.attention_block = attention.get("attention_block")
        self.predicts_next = attention.get("predicts_next", False)
        self.architectures = ["LLaDAModelLM"]

    def to_dict(self) -> dict[str, Any]:
        """The options under their official names, as `config.json` has them."""
        official = {llama: name for name, llama in LLAMA_NAMES.items()}
        options = {official.get(name, name): value for name, value in super().to_dict().items()}
        options["rope_theta"] = (options.pop("rope_parameters", None) or {}).get("rope_theta")
        for derived in ("head_dim", "is_causal", "attention_bias", "mlp_bias", "pretraining_tp"):
            options.pop(derived, None)
        for name in ATTENTION:
            if not options.get(name):
                options.pop(name, None)
        return options


class LLaDAModelLM(MaskedLMHead, LlamaForCausalLM):
    """Named as the official checkpoints name it, so that `config.json` keeps its `architectures`."""

    config_class = LLaDAConfig
    official_names = WEIGHTS


AutoConfig.register("llada", LLaDAConfig)
register_checkpoint_conversion_mapping("llada", [WeightRenaming(*names) for names in WEIGHTS])
