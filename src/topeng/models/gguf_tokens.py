"""Writes a tokenizer for llama.cpp to GGUF: a byte-level BPE that splits text in a way known to llama.cpp."""

import json
import re
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from topeng.errors import ExportError
from topeng.text.formats import LLADA

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLITS = {  # the expression that splits text before the merges -> llama.cpp's name of it
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt-2",
    rf"{_WORDS}\p{{N}}{{1,3}}{_REST}": "llama-bpe",
    rf"{_WORDS}\p{{N}}{_REST}": "qwen2",
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+": (
        "bailingmoe"
    ),
}


def add_tokens(writer: Any, config: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, add_bos: bool) -> None:
    """Writes words, merges, special tokens and the chat template to a `gguf.GGUFWriter`.

    Args:
        config: the official config.json.
        add_bos: whether a prompt begins with the start token.

    Raises:
        ExportError: no mask token is named, or llama.cpp would split text differently.
    """
    import gguf

    mask = config.get("mask_token_id") or tokenizer.mask_token_id
    if mask is None:
        raise ExportError("neither config.json nor the tokenizer names the mask token, which llama.cpp requires")
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    words = {token: word for word, token in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    types = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.USER_DEFINED}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_split(rules))
    numbers = range(config["vocab_size"])
    writer.add_token_list([words.get(token, f"[PAD{token}]") for token in numbers])
    writer.add_token_types(
        [
            types[added[token].special] if token in added else
            gguf.TokenType.NORMAL if token in words else gguf.TokenType.UNUSED
            for token in numbers
        ]
    )  # fmt: skip
    merges = rules["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_mask_token_id(mask)
    for name in ("bos", "eos", "unk", "pad"):
        token = getattr(tokenizer, f"{name}_token_id")
        if token is not None:
            getattr(writer, f"add_{name}_token_id")(token)
    writer.add_add_bos_token(add_bos)
    if template := _template(tokenizer, rules):
        writer.add_chat_template(template)


def _split(rules: Mapping[str, Any]) -> str:
    """llama.cpp's name for how a tokenizer splits text before its merges.

    Raises:
        ExportError: it is not a byte-level BPE, or llama.cpp does not know this way of splitting.
    """
    model, steps = rules["model"], _steps(rules)
    patterns = [step["pattern"].get("Regex") for step in steps if step["type"] == "Split"]
    if [step["type"] for step in steps] == ["ByteLevel"] and steps[0]["use_regex"]:
        patterns = [next(iter(SPLITS))]
    if model["type"] != "BPE" or rules["normalizer"] not in (None, {"type": "NFC"}) or len(patterns) != 1:
        raise ExportError(
            "the tokenizer is not a byte-level BPE that llama.cpp supports, so the model cannot be exported as GGUF"
        )
    if patterns[0] not in SPLITS:
        raise ExportError(
            f"the tokenizer splits text by {patterns[0]!r}, for which Topeng knows no name in llama.cpp. Text would be "
            "split differently there."
        )
    return SPLITS[patterns[0]]


def _steps(rules: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The steps in which a tokenizer splits text before its merges."""
    first = rules["pre_tokenizer"] or {}
    return list(first.get("pretokenizers", [first]))


def _template(tokenizer: PreTrainedTokenizerBase, rules: Mapping[str, Any]) -> str | None:
    """The chat template, with the spaces that the tokenizer puts before text after a special token.

    The tokenizers of `kecil` and of tiny bases put such spaces, but llama.cpp's byte-level BPE never does.

    Raises:
        ExportError: there are such spaces, and the template is not Topeng's.
    """
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None
    if not any(step.get("add_prefix_space") for step in _steps(rules)):
        return template
    if template != LLADA.template:
        raise ExportError(
            "the tokenizer puts a space before each piece of text (add_prefix_space), which llama.cpp does not. Such a "
            "model can only be exported as GGUF with Topeng's chat template."
        )
    return re.sub(r"(<\|(?:start|end)_header_id\|>)", r"\1 ", LLADA.template)
