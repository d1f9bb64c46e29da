"""A tiny checkpoint of each family in its official layout: the golden ones, and random ones of those without.

What a random one holds is written here by the official code's names, and not by the code that is tested.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from topeng.adapt.tiny import new_tokenizer

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden"
SHARED = ["dream-tiny", "a2d-llama-tiny", "a2d-qwen3-tiny", "llada-moe-tiny", "llada2-tiny"]
MADE = ["illada-tiny", "sdar-tiny"]
FAMILIES = ["llada-tiny", *MADE, *(SHARED if GOLDEN.is_dir() else [])]

SHAPE = {
    **{"vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "hidden_act": "silu"},
    **{"attention_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": False},
}
ILLADA = SHAPE | {
    **{"architectures": ["ILLaDAForCausalLM"], "model_type": "illada", "tie_word_embeddings": True},
    **{"mlp_bias": False, "resid_pdrop": 0.0, "layer_norm_eps": None, "rms_norm_eps": 1e-5},
    **{"rope_theta": 500000.0, "rope_scaling": None, "dtype": "float32"},
    **{"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
}
SDAR = SHAPE | {
    **{"architectures": ["SDARForCausalLM"], "model_type": "sdar", "block_size": 4, "head_dim": 16},
    **{"tie_word_embeddings": False, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "rope_scaling": None},
    **{"sliding_window": None, "use_sliding_window": False, "max_window_layers": 2, "fuse_cross_entropy": True},
    **{"dtype": "float32", "bos_token_id": 501, "eos_token_id": 501, "pad_token_id": 501, "mask_token_id": 500},
}


def causal_network(options):
    """transformers' own network of one that is made here, with random weights large enough that predictions differ."""
    theta = {"rope_parameters": {"rope_type": "default", "rope_theta": float(options["rope_theta"])}}
    names = {*SHAPE, "tie_word_embeddings", "rms_norm_eps", "head_dim"} & options.keys()
    shape = {name: options[name] for name in names} | theta
    torch.manual_seed(0)
    if options["model_type"] == "illada":
        network = LlamaForCausalLM(LlamaConfig(**shape))
    else:
        network = Qwen3ForCausalLM(Qwen3Config(**shape))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return network.eval()


def write_checkpoint(options, folder):
    """The official layout: a config.json, and the weights by their names."""
    weights = causal_network(options).state_dict()
    if options["tie_word_embeddings"]:
        del weights["lm_head.weight"]
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: weight.clone() for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    (folder / "config.json").write_text(json.dumps(options, indent=2))
    return folder


def tiny_checkpoint(name, folder):
    """The folder of a family's checkpoint; `folder` is where one is made."""
    if name in MADE:
        return write_checkpoint(ILLADA if name == "illada-tiny" else SDAR, folder / name)
    return ROOT / "tests" / "golden" / name if name == "llada-tiny" else GOLDEN / name


TEXTS = ["Ibu kota Indonesia adalah Jakarta, kan?", "What's the capital of Indonesia in 1945?"] * 20
MASK, EOS = 500, 501
"""Of the golden mixtures, whose config.json says neither."""


def write_tokenizer(folder):
    """LLaDA's special tokens in a vocabulary of the checkpoint's size, mask and end where its config.json has them."""
    options = json.loads((folder / "config.json").read_text())
    mask = options.get("mask_token_id") or (5 if options["model_type"] == "illada" else MASK)
    tokenizer = new_tokenizer(TEXTS, vocab_size=min(500, options["vocab_size"] - 20))
    tokenizer.add_tokens([f"<|extra_{n}|>" for n in range(options["vocab_size"] - len(tokenizer))])
    tokenizer.save_pretrained(folder)
    rules = json.loads((folder / "tokenizer.json").read_text())
    for content, place in {"<|mdm_mask|>": mask, "<|endoftext|>": options.get("eos_token_id") or EOS}.items():
        (token,) = [one for one in rules["added_tokens"] if one["content"] == content]
        (other,) = [one for one in rules["added_tokens"] if one["id"] == place]
        other["content"], token["content"] = token["content"], other["content"]
        for one in (token, other):
            rules["model"]["vocab"][one["content"]] = one["id"]
    (folder / "tokenizer.json").write_text(json.dumps(rules))
