"""A tokenizer's own chat template beside the format that is used here: where they differ, that is said once.

Training, answers and scores use the format, piece by piece; the template is only rendered to be compared with it.
"""

import logging
from functools import cache
from itertools import zip_longest
from typing import Any

from topeng.errors import in_one_line
from topeng.system import ranks
from topeng.text.formats import ChatFormat, format_of

logger = logging.getLogger(__name__)

_QUESTION = {"role": "user", "content": "QUESTION"}
CONVERSATIONS = {
    "a question": [_QUESTION],
    "a question after a system message": [{"role": "system", "content": "SYSTEM"}, _QUESTION],
    "a question after an earlier turn": [_QUESTION, {"role": "assistant", "content": "ANSWER"}, _QUESTION],
}
BEFORE, SHOWN = 12, 48
"""Characters that are quoted: before the first that differs, and in all."""


def tell_template(name: str, tokenizer: Any) -> None:
    """Warns, once in a process, where the tokenizer of a model has a chat template that differs from the format.

    Args:
        name: of the model, for the message.
    """
    form = format_of(tokenizer)
    if ranks.RANK == 0 and (found := template_difference(tokenizer, form)):
        _warn(
            f"{name}: the tokenizer's own chat template differs from the chat format that Topeng uses for training, "
            f"answers and scores ({form.name}). {found}"
        )


def template_difference(tokenizer: Any, form: ChatFormat) -> str | None:
    """The first conversation for which a tokenizer's template writes something else, and what; None: there is none."""
    if tokenizer.chat_template in (None, "", form.template):
        return None
    for what, messages in CONVERSATIONS.items():
        ours = tokenizer.apply_chat_template(
            messages, chat_template=form.template, add_generation_prompt=True, tokenize=False
        )
        try:
            own = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program: it may refuse a role, or fail in any way
            return f"For {what} the template fails ({in_one_line(error)}), where Topeng writes {ours!r}."
        if own != ours:
            at = next(place for place, pair in enumerate(zip_longest(own, ours)) if pair[0] != pair[1])
            start = max(0, at - BEFORE)
            return f"For {what} the template writes {_quoted(own, start)}, where Topeng writes {_quoted(ours, start)}."
    return None


def _quoted(text: str, start: int) -> str:
    end = start + SHOWN
    return f"{'…' if start else ''}{text[start:end]!r}{'…' if end < len(text) else ''}"


@cache
def _warn(message: str) -> None:
    logger.warning("%s", message)
