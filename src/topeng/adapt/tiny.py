"""Makes a tiny LLaDA and its tokenizer from scratch, as a base for demos and tests without a download."""

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast

from topeng.adapt.base_settings import TinyOptions
from topeng.models import LLaDAConfig, LLaDAModelLM
from topeng.text.formats import LLADA

ROLES = ["system", "user", "assistant"]
EMBEDDING_STD = 0.5
VALUE_GAIN, QUERY_GAIN = 0.7, 0.6


def new_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `texts`, with LLaDA's special tokens and chat template.

    A word has the same tokens at the beginning of a text as within it, so that an answer can copy it from its prompt.
    """
    texts = list(texts)
    texts += ROLES * (1 + len(texts) // 2)  # so that a header takes few tokens
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(LLADA.special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=LLADA.bos,
        eos_token=LLADA.eos,
        pad_token=LLADA.eos,
        mask_token=LLADA.mask,
        additional_special_tokens=[LLADA.start_header, LLADA.end_header, LLADA.eot],
        chat_template=LLADA.template,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(tiny: TinyOptions, context: int) -> LLaDAConfig:
    """The config of a tiny base.

    Args:
        context: length of the longest sequence in tokens.
    """
    ids = {name: index for index, name in enumerate(LLADA.special)}  # a trained BPE numbers its special tokens first
    return LLaDAConfig(
        vocab_size=tiny.vocab_size,
        embedding_size=tiny.vocab_size,
        d_model=tiny.hidden_size,
        mlp_hidden_size=tiny.intermediate_size,
        n_layers=tiny.layers,
        n_heads=tiny.heads,
        n_kv_heads=tiny.heads,
        max_sequence_length=context,
        weight_tying=True,
        rope_theta=10_000.0,
        mask_token_id=ids["mask"],
        eos_token_id=ids["eos"],
        pad_token_id=ids["eos"],
    )


def new_model(config: LLaDAConfig, seed: int) -> LLaDAModelLM:
    """A model with random weights, in fp32."""
    with torch.random.fork_rng([]):  # the generator of the CPU, which draws the weights
        torch.manual_seed(seed)
        return LLaDAModelLM(config)


@torch.no_grad()
def copy_from_the_start(model: LLaDAModelLM, seed: int) -> None:
    """Sets initial weights from which a small model soon learns to copy from its prompt.

    The value and output matrices of attention are each other's transpose, and so are the query and key matrices of a
    head, so that a token attends to equal tokens and passes them on (mimetic initialisation, arXiv 2305.09828). Large
    embeddings keep rare names apart. In trials of 600 steps, 2 % of names were copied with random queries and keys, and
    35 % and 56 % with equal ones and a gain of 0.3 and 0.6 (docs/kecil.md).
    """
    width, heads = model.config.hidden_size, model.config.num_attention_heads
    with torch.random.fork_rng([]):  # as above
        torch.manual_seed(seed)
        model.get_input_embeddings().weight.normal_(0, EMBEDDING_STD)
        model.model.norm.weight.fill_(1 / (EMBEDDING_STD * width**0.5))  # the first logits are about 1
        for layer in model.model.layers:
            attention = layer.self_attn
            values = nn.init.orthogonal_(torch.empty(width, width)) * VALUE_GAIN
            attention.v_proj.weight.copy_(values)
            attention.o_proj.weight.copy_(values.T)
            queries = [nn.init.orthogonal_(torch.empty(width // heads, width)) for _ in range(heads)]
            attention.q_proj.weight.copy_(torch.cat(queries) * QUERY_GAIN)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
