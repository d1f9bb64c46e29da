"""LLaDA's chat format (Llama 3.1's), as tokens.

Tokens are put together piece by piece, not by parsing a rendered string: text that happens to spell a
special token stays text, and an answer has the same tokens in training as after a prompt in decoding.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from topeng.errors import ModelError

NAMES = {
    "bos": "<|startoftext|>",
    "eos": "<|endoftext|>",
    "mask": "<|mdm_mask|>",
    "start_header": "<|start_header_id|>",
    "end_header": "<|end_header_id|>",
    "eot": "<|eot_id|>",
}

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""The same format for `tokenizer.apply_chat_template`, for tokenizers made here."""


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of LLaDA's special tokens; padding is `eos`."""

    bos: int
    eos: int
    mask: int
    start_header: int
    end_header: int
    eot: int


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """The special tokens of a tokenizer.

    Raises:
        ModelError: the tokenizer lacks one of them (a base model's may lack the headers and the end of turn).
    """
    ids = {field: tokenizer.convert_tokens_to_ids(name) for field, name in NAMES.items()}
    unknown = (None, tokenizer.unk_token_id)
    missing = [NAMES[field] for field, token in ids.items() if token in unknown]
    if missing:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} lacks {', '.join(missing)}: the chat format "
            "needs them; take the instruct model's tokenizer, or add them to the vocabulary"
        )
    return SpecialTokens(**ids)


def check_tokens(name: str, config: Any, tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """The special tokens of a model and its tokenizer, which must agree about them.

    Args:
        name: of the model, for the message.

    Raises:
        ModelError: they do not, or the model has no row for one of them.
    """
    special = special_tokens(tokenizer)
    if (config.mask_token_id, config.eos_token_id) != (special.mask, special.eos):
        raise ModelError(
            f"{name}: config.json has mask_token_id = {config.mask_token_id} and eos_token_id = "
            f"{config.eos_token_id}, its tokenizer {special.mask} and {special.eos}: they belong to two models"
        )
    highest = max(astuple(special))
    if highest >= config.vocab_size:
        raise ModelError(
            f"{name}: config.json has vocab_size = {config.vocab_size}, and its tokenizer a token {highest}: they "
            "belong to two models"
        )
    return special


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Plain text as tokens: nothing is added, and no special token is read out of it."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[dict[str, str]], max_tokens: int | None = None
) -> list[int]:
    """Messages (`role`, `content`) and the assistant's header, as tokens.

    Args:
        max_tokens: where the prompt would be longer, the end of the last message's content is cut; the headers stay.
    """
    special = special_tokens(tokenizer)

    def header(role: str) -> list[int]:
        return [special.start_header, *encode_text(tokenizer, role), special.end_header]

    ids = [special.bos]
    for message in messages[:-1]:
        content = encode_text(tokenizer, "\n\n" + message["content"].strip())
        ids += [*header(message["role"]), *content, special.eot]
    last = messages[-1]
    ids += header(last["role"])
    content = encode_text(tokenizer, "\n\n" + last["content"].strip())
    ending = [special.eot, *header("assistant"), *encode_text(tokenizer, "\n\n")]
    if max_tokens is not None:
        content = content[: max(0, max_tokens - len(ids) - len(ending))]
    return ids + content + ending


def encode_answer(tokenizer: PreTrainedTokenizerBase, answer: str) -> list[int]:
    """An answer and the end of its turn, as tokens; empty for an empty answer."""
    ids = encode_text(tokenizer, answer.strip())
    return [*ids, special_tokens(tokenizer).eot] if ids else []


def decode_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of a decoded canvas, up to its first end token."""
    special = special_tokens(tokenizer)
    ends = [index for index, token in enumerate(ids) if token in (special.eot, special.eos)]
    return tokenizer.decode(list(ids[: ends[0]] if ends else ids), skip_special_tokens=True).strip()
