"""Chat formats as data: the special tokens of a conversation, and the text between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class ChatFormat:
    """A message is `start_header`, its role, `end_header`, `before_content`, its content, `eot`, `after_turn`.

    Attributes:
        bos: special token before the first message, if there is one.
        eos: ends a text, and is the padding.
        end_header: special token, or None if only text follows the role.
        before_content, after_turn: text.
        roles: names of roles that differ from ours.
        tags: whether `start_header` and `end_header` are text, for which a tokenizer may or may not have tokens.
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
    roles: Mapping[str, str] = field(default_factory=dict)
    tags: bool = False

    @property
    def special(self) -> dict[str, str]:
        """The special tokens that the format needs, by their purpose."""
        headers = () if self.tags else ("start_header", "end_header")
        names = ("bos", "eos", "mask", *headers, "eot")  # in the order of their ids in a new tokenizer
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def template(self) -> str:
        """The format as a template for `tokenizer.apply_chat_template`."""
        first = "" if self.bos is None else "{% if loop.index0 == 0 %}{{ bos_token }}{% endif %}"
        after_role = f"{self.end_header or ''}{self.before_content}"
        named = f"{dict(self.roles)}.get(message['role'], message['role'])" if self.roles else "message['role']"
        turn = f"{self.start_header}{{{{ {named} }}}}{after_role}{{{{ message['content'] | trim }}}}{self.eot}"
        assistant = self.roles.get("assistant", "assistant")
        asked = f"{{% if add_generation_prompt %}}{self.start_header}{assistant}{after_role}{{% endif %}}"
        return f"{{% for message in messages %}}{first}{turn}{self.after_turn}{{% endfor %}}{asked}"


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
)
ROLE_TAGS = ChatFormat(
    name="role tags",
    bos=None,
    eos="<|endoftext|>",
    mask="<|mask|>",
    start_header="<role>",
    end_header="</role>",
    before_content="",
    eot="<|role_end|>",
    after_turn="",
    roles={"system": "SYSTEM", "user": "HUMAN", "assistant": "ASSISTANT"},
    tags=True,
)
"""The format of LLaDA-MoE and LLaDA2.x, which is that of Ant's Ling models."""
SDAR = replace(CHATML, mask="<|MASK|>")
SEED = ChatFormat(
    name="Seed-Coder's turns",
    bos=None,
    eos="<[end▁of▁sentence]>",
    mask="<[MASK]>",
    start_header="<[begin▁of▁sentence]>",
    end_header=None,
    before_content="\n",
    eot="<[end▁of▁sentence]>",
    after_turn="",
)
"""The format of iLLaDA's tokenizer, in which each message is a separate sequence."""
FORMATS = [LLADA, CHATML, ROLE_TAGS, SDAR, SEED]


def format_of(tokenizer: Any) -> ChatFormat:
    """The format whose special tokens a tokenizer has, or LLaDA's if it has all tokens of none."""
    return next((one for one in FORMATS if not missing(one, tokenizer)), LLADA)


def missing(one: ChatFormat, tokenizer: Any) -> list[str]:
    """The special tokens of a format that a tokenizer lacks."""
    return [token for token in one.special.values() if not _has(tokenizer, token)]


def mask_token_of(tokenizer: Any) -> str | None:
    """The mask token of a tokenizer in any format, even if it lacks other tokens, as that of a base model may."""
    return next((one.mask for one in FORMATS if _has(tokenizer, one.mask)), None)


def _has(tokenizer: Any, token: str) -> bool:
    unknown = (None, tokenizer.unk_token_id)
    return token == tokenizer.unk_token or tokenizer.convert_tokens_to_ids(token) not in unknown
