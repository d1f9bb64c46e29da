"""A tiny LLaDA and its tokenizer, from scratch: a base for demos and tests that downloads nothing."""

from collections.abc import Iterable

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from topeng.models import LLaDAConfig, LLaDAModelLM
from topeng.recipe import TinyOptions
from topeng.text.chat import CHAT_TEMPLATE, NAMES


def new_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `texts`, with LLaDA's special tokens and chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(NAMES.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=NAMES["bos"],
        eos_token=NAMES["eos"],
        pad_token=NAMES["eos"],
        mask_token=NAMES["mask"],
        additional_special_tokens=[NAMES["start_header"], NAMES["end_header"], NAMES["eot"]],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(tiny: TinyOptions, context: int) -> LLaDAConfig:
    """The shape of a tiny base.

    Args:
        context: the longest sequence, in tokens.
    """
    ids = {name: index for index, name in enumerate(NAMES)}  # a trained BPE numbers its special tokens first
    return LLaDAConfig(
        vocab_size=tiny.vocab_size,
        embedding_size=tiny.vocab_size,
        d_model=tiny.hidden_size,
        mlp_hidden_size=tiny.intermediate_size,
        n_layers=tiny.layers,
        n_heads=tiny.heads,
        n_kv_heads=tiny.heads,
        max_sequence_length=context,
        mask_token_id=ids["mask"],
        eos_token_id=ids["eos"],
        pad_token_id=ids["eos"],
    )


def new_model(config: LLaDAConfig, seed: int) -> LLaDAModelLM:
    """A model with random weights, in fp32."""
    with torch.random.fork_rng([]):  # of the CPU, which draws
        torch.manual_seed(seed)
        return LLaDAModelLM(config)
