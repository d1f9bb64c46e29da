"""Writes a checkpoint as one GGUF file for llama.cpp with the `gguf` package, one weight at a time.

The metadata, the order of the rows of q and k, and the weights that stay in fp32 follow llama.cpp's own converter (its
conversion/llada.py, dream.py and base.py). Metadata that it omits but `llama-diffusion-cli` needs are written too.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from topeng.errors import ExportError
from topeng.models.gguf_tokens import add_tokens
from topeng.models.shards import Weights, check_room

PRECISIONS = ("f32", "f16", "bf16", "q8_0")
Q8_BLOCK = 32


@dataclass(frozen=True)
class Architecture:
    """llama.cpp's name of a network, and how its file differs from the checkpoint.

    Attributes:
        shift: whether the logits at a position are those of the next one. Always written, because llama.cpp's default
            is true.
        permute: whether rows of q and k are reordered, because llama.cpp's rotary embedding rotates neighbouring values
            instead of the halves of a head.
        add_bos: whether a prompt begins with the start token.
        fixed: options for which the network only supports one behaviour, with the values that mean it.
    """

    name: str
    shift: bool
    permute: bool = False
    add_bos: bool = False
    fixed: Mapping[str, tuple[Any, ...]] | None = None


ARCHITECTURES = {
    "LLaDAModelLM": Architecture("llada", shift=False, permute=True, add_bos=True),
    "DreamModel": Architecture("dream", shift=True, fixed={"use_sliding_window": (None, False)}),
    "LLaDAMoEModelLM": Architecture(
        "llada-moe",
        shift=False,
        fixed={
            "norm_topk_prob": (None, False),
            "routed_scaling_factor": (None, 1),
            "partial_rotary_factor": (None, 1),
            "shared_expert_intermediate_size": (None, 0),
            "moe_router_score_function": (None, "softmax"),
            "moe_router_enable_expert_bias": (None, False),
            "qk_layernorm": (True,),
        },
    ),
}


@dataclass(frozen=True)
class _Part:
    """A weight of the file. `read` returns it in fp32."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def architecture(config: Mapping[str, Any]) -> Architecture:
    """llama.cpp's network for the config.json of a checkpoint.

    Raises:
        ExportError: there is none, or the package is missing.
    """
    if importlib.util.find_spec("gguf") is None:
        raise ExportError("GGUF needs the package gguf. Install it with pip install 'topeng[export]'.")
    name = (config.get("architectures") or ["a checkpoint without `architectures`"])[0]
    if name not in ARCHITECTURES:
        raise ExportError(f"{name} cannot be exported as GGUF. Families that can: {', '.join(ARCHITECTURES)}.")
    found = ARCHITECTURES[name]
    for option, values in {"rope_scaling": (None,), **(found.fixed or {})}.items():
        if option in config and config[option] not in values:
            raise ExportError(
                f"config.json has {option} = {config[option]!r}, which llama.cpp's network of {name} does not support. "
                "This checkpoint cannot be exported as GGUF."
            )
    return found


def write_gguf(
    weights: Weights,
    config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    file: Path,
    precision: str,
    name: str,
) -> None:
    """Writes one file, with only one weight in memory at a time.

    Weights are rounded to the nearest value (ties to even), and q8_0 follows llama.cpp's reference.

    Args:
        config: the official config.json.
        precision: precision of matrices. Vectors and routers stay in fp32, as llama.cpp requires. If the length of rows
            is not a multiple of 32, q8_0 becomes f16.
        name: name of the model.

    Raises:
        ExportError: the family has no such format, the kind of tokenizer is not supported, or the disk is full.
    """
    import gguf

    kind = architecture(config)
    types = {name: getattr(gguf.GGMLQuantizationType, name.upper()) for name in PRECISIONS}
    writer = gguf.GGUFWriter(None, kind.name)
    writer.add_name(name)
    _add_network(writer, config, kind)
    add_tokens(writer, config, tokenizer, kind.add_bos)
    writer.add_file_type({"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}[precision])  # llama_ftype
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    parts = list(_parts(weights, config, kind))
    chosen = [types[_precision(part, precision)] for part in parts]
    sizes = [math.prod(gguf.quant_shape_to_byte_shape(p.shape, q)) for p, q in zip(parts, chosen, strict=True)]
    check_room(file.parent, sum(sizes))
    for part, qtype, size in zip(parts, chosen, sizes, strict=True):
        writer.add_tensor_info(part.name, part.shape, np.dtype(np.float32), size, qtype)
    try:
        writer.write_header_to_file(file)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for part, qtype in zip(parts, chosen, strict=True):
            writer.write_tensor_data(_quantized(part, qtype))
    finally:
        writer.close()


def _add_network(writer: Any, config: Mapping[str, Any], kind: Architecture) -> None:
    """The shape under llama.cpp's names, from the options of any family."""

    def option(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name) is not None), None)

    heads = option("num_attention_heads", "n_heads")
    width = option("hidden_size", "d_model")
    rope = option("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta")
    writer.add_block_count(option("num_hidden_layers", "n_layers"))
    writer.add_context_length(option("max_position_embeddings", "max_sequence_length"))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(option("dense_intermediate_size", "intermediate_size", "mlp_hidden_size"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(option("num_key_value_heads", "n_kv_heads") or heads)
    writer.add_rope_freq_base(rope)
    writer.add_rope_dimension_count(option("head_dim") or width // heads)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_causal_attention(False)
    writer.add_diffusion_shift_logits(kind.shift)
    if experts := option("num_experts"):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["expert_intermediate_size"])


def _parts(weights: Weights, config: Mapping[str, Any], kind: Architecture) -> Iterator[_Part]:
    """The weights in llama.cpp's form: its order of q and k, no rows beyond the vocabulary, experts joined."""
    import gguf

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == kind.name)
    layers = config.get("n_layers") or config["num_hidden_layers"]
    names = gguf.get_tensor_name_map(arch, layers)
    heads = config.get("n_heads") or config["num_attention_heads"]
    kv_heads = config.get("n_kv_heads") or config.get("num_key_value_heads") or heads
    for name, shape in weights.shapes.items():
        expert = name.partition(".experts.")[2].partition(".")
        if expert[0] not in ("", "0"):
            continue  # with the first
        read = partial(weights.read, name)
        if expert[0]:
            every = [name.replace(".experts.0.", f".experts.{n}.") for n in range(config["num_experts"])]
            read, shape = partial(_stacked, weights, every), (len(every), *shape)
            name = name.replace(".experts.0.", ".experts.")
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ExportError(f"llama.cpp's network of {kind.name} has no place for {name}")
        if kind.permute and found.endswith(("attn_q.weight", "attn_k.weight")):
            read = partial(_permuted, read, heads if found.endswith("attn_q.weight") else kv_heads)
        if found in ("token_embd.weight", "output.weight"):
            read, shape = partial(_first_rows, read, config["vocab_size"]), (config["vocab_size"], *shape[1:])
        yield _Part(found, shape, read)
    shapes = weights.shapes.keys()
    if kind.name == "llada-moe" and config.get("tie_word_embeddings") and "lm_head.weight" not in shapes:
        raise ExportError(
            "llama.cpp's network of LLaDA-MoE needs a separate output head, but this model ties it to the embedding"
        )


def _stacked(weights: Weights, names: list[str]) -> Tensor:
    return torch.stack([weights.read(name) for name in names])


def _first_rows(read: Callable[[], Tensor], count: int) -> Tensor:
    return read()[:count]


def _permuted(read: Callable[[], Tensor], heads: int) -> Tensor:
    """Interleaves the first and second half of the rows of each head."""
    weight = read()
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _precision(part: _Part, precision: str) -> str:
    if len(part.shape) == 1 or part.name.endswith(("_norm.weight", "ffn_gate_inp.weight")):
        return "f32"
    return "f16" if precision == "q8_0" and part.shape[-1] % Q8_BLOCK else precision


def _quantized(part: _Part, qtype: Any) -> np.ndarray:
    """
    Raises:
        ExportError: a number exceeds the range of half precision.
    """
    import gguf

    with np.errstate(over="ignore"):
        found = gguf.quantize(part.read().float().contiguous().numpy(), qtype)
    if qtype == gguf.GGMLQuantizationType.F16 and not np.isfinite(found).all():
        raise ExportError(f"{part.name} has a number outside the range of f16. Use bf16.")
    return found
