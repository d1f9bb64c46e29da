"""Tiny causal checkpoints, as they are published: a folder, or a GGUF file."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bytes_tokenizer import bytes_tokenizer
from topeng.text.formats import CHATML

SHAPE = {
    **{"vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2},
}


def causal_tokenizer(special: Sequence[str] = (CHATML.start_header, CHATML.eot)) -> PreTrainedTokenizerFast:
    """Of bytes, with the tokens of ChatML, and none for a mask."""
    return bytes_tokenizer(list(special), eos_token=CHATML.eos, unk_token=CHATML.eos)


def tiny_llama(context: int = 2048) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, max_position_embeddings=context))


def causal_folder(folder: Path, context: int = 2048) -> Path:
    tiny_llama(context).save_pretrained(folder)
    causal_tokenizer().save_pretrained(folder)
    return folder


def causal_gguf(file: Path) -> Path:
    """As llama.cpp converts it: queries and keys permuted, weights in fp32."""
    import gguf

    model, tokenizer = tiny_llama(), causal_tokenizer()
    writer, config = gguf.GGUFWriter(file, "llama"), model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_scores([0.0] * len(tokens))  # merges are derived from them: bytes have none
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_bos_token_id(tokenizer.eos_token_id)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, weight in model.state_dict().items():
        for projection, count in heads.items():
            if projection in name:
                half = weight.shape[0] // count // 2
                weight = weight.reshape(count, 2, half, -1).swapaxes(1, 2).reshape(weight.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
