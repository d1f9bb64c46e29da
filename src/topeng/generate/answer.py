"""Questions in, answers out: the chat format and the decoding loop put together."""

from collections.abc import Callable, Sequence
from typing import Any

from topeng.generate.canvas import pad_left
from topeng.generate.decode import generate_ids
from topeng.generate.settings import Settings
from topeng.text.chat import decode_answer, encode_prompt


def answer_all(
    model: Any,
    tokenizer: Any,
    questions: Sequence[str],
    settings: Settings,
    max_length: int,
    batch_tokens: int = 8192,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The answer to each question, in order.

    Args:
        max_length: of a prompt; longer questions are cut at their end.
        batch_tokens: of one forward pass; questions of like length share it.
        progress: told how many questions were answered.
    """
    prompts = [
        encode_prompt(tokenizer, [{"role": "user", "content": question}], max_tokens=max_length)
        for question in questions
    ]
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    answers = [""] * len(prompts)
    while order:
        count = max(1, batch_tokens // (len(prompts[order[0]]) + settings.max_new_tokens))
        now, order = order[:count], order[count:]
        input_ids, attention_mask = pad_left([prompts[index] for index in now], model.config.eos_token_id)
        canvas = generate_ids(model, input_ids, attention_mask, settings, now)
        for index, ids in zip(now, canvas[:, input_ids.shape[1] :].tolist(), strict=True):
            answers[index] = decode_answer(tokenizer, ids)
        progress(len(now))
    return answers
