"""Chat formats as data: which special tokens a conversation is put together with, and the text between them."""

from dataclasses import dataclass
from typing import Any

LLADA_TEMPLATE = (
    "{% for message in messages %}{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n{{ message['content'] | trim }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class ChatFormat:
    """A message is `start_header`, its role, `end_header`, `before_content`, its content, `eot`, `after_turn`.

    Attributes:
        bos: a special token before the first message; None: there is none.
        eos: ends a text, and pads.
        end_header: a special token; None: the role is followed by text alone.
        before_content, after_turn: text.
        template: the same for `tokenizer.apply_chat_template`.
    """

    name: str
    bos: str | None
    eos: str
    mask: str
    start_header: str
    end_header: str | None
    before_content: str
    eot: str
    after_turn: str
    template: str

    @property
    def special(self) -> dict[str, str]:
        """The special tokens that it needs, by what they are."""
        names = ("bos", "eos", "mask", "start_header", "end_header", "eot")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


LLADA = ChatFormat(
    name="Llama 3.1's headers",
    bos="<|startoftext|>",
    eos="<|endoftext|>",
    mask="<|mdm_mask|>",
    start_header="<|start_header_id|>",
    end_header="<|end_header_id|>",
    before_content="\n\n",
    eot="<|eot_id|>",
    after_turn="",
    template=LLADA_TEMPLATE,
)
CHATML = ChatFormat(
    name="ChatML",
    bos=None,
    eos="<|endoftext|>",
    mask="<|mask|>",
    start_header="<|im_start|>",
    end_header=None,
    before_content="\n",
    eot="<|im_end|>",
    after_turn="\n",
    template=CHATML_TEMPLATE,
)
FORMATS = [LLADA, CHATML]


def format_of(tokenizer: Any) -> ChatFormat:
    """The format whose special tokens a tokenizer has; LLaDA's, where it has neither whole."""
    return next((one for one in FORMATS if not missing(one, tokenizer)), LLADA)


def missing(one: ChatFormat, tokenizer: Any) -> list[str]:
    """The special tokens of a format that a tokenizer lacks."""
    unknown = (None, tokenizer.unk_token_id)
    asked = [token for token in one.special.values() if token != tokenizer.unk_token]
    return [token for token in asked if tokenizer.convert_tokens_to_ids(token) in unknown]
