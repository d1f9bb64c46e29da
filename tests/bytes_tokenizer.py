"""A tokenizer whose words are bytes, for tests of special tokens and chat formats."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models
from tokenizers.pre_tokenizers import ByteLevel
from transformers import PreTrainedTokenizerFast


def bytes_tokenizer(special: Sequence[str], **named: Any) -> PreTrainedTokenizerFast:
    """256 bytes, the tokens that are named (`eos_token=…`), and further special ones."""
    alphabet = {symbol: place for place, symbol in enumerate(sorted(ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(alphabet, []))
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **named)
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer
