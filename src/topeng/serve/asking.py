"""Turns a request into rows: checks values, and makes settings, prompts and canvases."""

import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import torch

from topeng.generate.answer import GAP, encode_gaps, encode_template, without_end
from topeng.generate.canvas import Canvas, blank_canvas, infilling_canvas
from topeng.generate.row import Row, Voice, end_tokens
from topeng.generate.settings import PRESETS, Settings, preset_values
from topeng.serve.faults import ApiError
from topeng.serve.schema import Ask, ChatAsk, CompletionAsk
from topeng.serve.writer import Writer
from topeng.text.chat import Message, encode_prompt, encode_text, recent_turns, special_tokens

REFUSED: dict[str, tuple[Any, str]] = {
    "frequency_penalty": (
        0,
        "tokens are not generated from left to right. Use `topeng: {repetition_penalty: 1.2}` to reduce repetition.",
    ),
    "presence_penalty": (0, "Use `topeng: {repetition_penalty: 1.2}` to reduce repetition."),
    "logit_bias": ({}, "Use `topeng: {suppressed_tokens: [ID]}` to forbid a token."),
    "prompt_logprobs": (None, "a masked diffusion model does not predict the prompt. Leave it out."),
    "tools": ([], "these models cannot call tools. Leave it out."),
    "functions": ([], "these models cannot call functions. Leave it out."),
    "audio": (None, "these models only write text. Leave it out."),
    "best_of": (1, "Ask for `n` answers and choose one."),
}
"""Unsupported fields that would change an answer, with the value that has no effect, and the remedy."""
MOST = 128
"""Largest number of answers to one request."""
EXTRAS = ("preset", "fixed_words", "template", "gaps")
FIXED = re.compile(r",\s*(?=\d+\s*:)")


@dataclass(frozen=True)
class Prompt:
    """A prompt as tokens.

    Attributes:
        ids: tokens before the answer.
        given: the answer, with masks in its gaps. None if all of it is to be generated.
        echo: text before the answer.
    """

    ids: list[int]
    given: list[int] | None = None
    echo: str = ""


@dataclass(frozen=True)
class Asked:
    """Rows to decode, with the `choices` of each prompt next to each other, and how their answers are read."""

    rows: list[Row]
    writer: Writer
    prompts: list[Prompt]
    choices: int

    @property
    def prompt_tokens(self) -> int:
        return sum(len(prompt.ids) for prompt in self.prompts)


@dataclass(frozen=True)
class Models:
    """Voices by name, what they share, and the default settings of a request.

    Attributes:
        own: settings of the checkpoint, which a preset in a request does not change.
        turns: number of earlier turns of a conversation that the model sees, or None for all.
    """

    voices: Mapping[str, Voice]
    tokenizer: Any
    settings: Settings
    system: str | None = None
    own: Mapping[str, int] = field(default_factory=dict)
    turns: int | None = None

    def voice(self, name: str) -> Voice:
        if name not in self.voices:
            raise ApiError(
                404, f"there is no model {name!a}. Models are {', '.join(self.voices)}.", "model", "model_not_found"
            )
        return self.voices[name]


def of_chat(models: Models, ask: ChatAsk) -> Asked:
    """
    Raises:
        ApiError, TopengError: a value breaks a rule.
    """
    refuse(ask)
    if ask.top_logprobs and not ask.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", "top_logprobs")
    messages = [_message(message.role, message.text()) for message in ask.messages]
    if models.system is not None and messages[0]["role"] != "system":
        messages.insert(0, _message("system", models.system))
    messages = recent_turns(messages, models.turns)
    config = models.voice(ask.model).model.config
    template = (ask.topeng or {}).get("template")
    given = None
    if template is not None:
        _check_gaps(template, config)
        given = encode_template(models.tokenizer, template, config.mask_token_id)
    prompt = Prompt(encode_prompt(models.tokenizer, messages), given)
    top = (ask.top_logprobs or 0) if ask.logprobs else 0
    return _asked(models, ask, [prompt], ask.max_completion_tokens or ask.max_tokens, top, strip=True)


def _message(role: str, content: str) -> Message:
    return {"role": "system" if role == "developer" else role, "content": content}


def of_completion(models: Models, ask: CompletionAsk) -> Asked:
    """
    Raises:
        ApiError, TopengError: a value breaks a rule.
    """
    refuse(ask)
    prompt = ask.prompt
    several = isinstance(prompt, list) and not isinstance(prompt[0], int)
    texts: list[Any] = prompt if several else [prompt]  # type: ignore[assignment]
    if len(texts) * (ask.n or 1) > MOST:
        raise ApiError(
            400, f"{len(texts)} prompts × n = {ask.n or 1} is more than {MOST} answers. Split the request.", "prompt"
        )
    prompts = [_raw_prompt(models, ask, text) for text in texts]
    return _asked(models, ask, prompts, ask.max_tokens, ask.logprobs or 0, strip=False)


def _raw_prompt(models: Models, ask: CompletionAsk, text: str | list[int]) -> Prompt:
    """A plain text, without the chat format. With `gaps`, the answer begins at the first gap."""
    tokenizer, config = models.tokenizer, models.voice(ask.model).model.config
    beginning = special_tokens(tokenizer).beginning
    if not isinstance(text, str):
        if not text or not all(0 <= token < config.vocab_size for token in text):
            raise ApiError(400, f"prompt must contain token ids from 0 to {config.vocab_size - 1}", "prompt")
        return Prompt(list(text), echo=tokenizer.decode(text, skip_special_tokens=True))
    if (ask.topeng or {}).get("gaps"):
        _check_gaps(text, config)
        first = GAP.search(text)
        start = first.start() if first else 0
        given = encode_gaps(tokenizer, text[start:], config.mask_token_id)
        return Prompt([*beginning, *encode_text(tokenizer, text[:start])], given, text[:start])
    ids = [*beginning, *encode_text(tokenizer, text)]
    if not ask.suffix:
        return Prompt(ids, echo=text)
    after = encode_text(tokenizer, ask.suffix)
    length = ask.max_tokens or models.settings.max_new_tokens
    check_room(len(ids) + len(after), length, config)
    return Prompt(ids, [config.mask_token_id] * length + after, text)


def _check_gaps(template: Any, config: Any) -> None:
    """Checks the gaps before masks are made for them."""
    if not isinstance(template, str):
        raise ApiError(400, "topeng.template must be a text with gaps, such as 'Namanya {4}.'", "topeng.template")
    lengths = GAP.findall(template)
    if any(len(length) > 6 for length in lengths):
        raise ApiError(
            400, "a gap is longer than any context. {4} is a gap of four tokens.", "topeng", "context_length_exceeded"
        )
    check_room(0, sum(map(int, lengths)), config)


def refuse(ask: Ask) -> None:
    """
    Raises:
        ApiError: a field would change an answer and cannot be honoured.
    """
    for name, (neutral, remedy) in REFUSED.items():
        if ask.given(name) not in (None, neutral):
            raise ApiError(400, f"{name} is not supported: {remedy}", name, "unsupported_parameter")
    wanted = ask.given("response_format")
    if wanted is not None and (not isinstance(wanted, dict) or wanted.get("type", "text") != "text"):
        message = "response_format must be {type: text}, as answers cannot follow a grammar"
        raise ApiError(400, message, "response_format", "unsupported_parameter")


def _asked(models: Models, ask: Ask, prompts: list[Prompt], limit: int | None, top: int, strip: bool) -> Asked:
    voice, extras = models.voice(ask.model), ask.topeng or {}
    stops = [ask.stop] if isinstance(ask.stop, str) else ask.stop or []
    if len(stops) > 4:
        raise ApiError(400, f"stop has {len(stops)} texts, and at most 4 are allowed", "stop")
    if limit is None and isinstance(extras.get("max_new_tokens"), int) and extras["max_new_tokens"] > 0:
        limit = extras["max_new_tokens"]
    how = decoding(models, ask, limit)
    fixed = fixed_words(models.tokenizer, extras.get("fixed_words"))
    gaps = any(prompt.given is not None for prompt in prompts)
    how = without_end(how, voice.model) if gaps else how
    rows = []
    for prompt in prompts:
        for choice in range(ask.n or 1):
            canvas = _canvas(prompt, how, limit, fixed, voice.model.config)
            rows.append(Row(canvas, 0, voice, how, noise_id=choice, top=top))
    ends = frozenset(end_tokens(voice.model).tolist())
    within = (limit or models.settings.max_new_tokens) if isinstance(ask, CompletionAsk) and ask.suffix else None
    return Asked(rows, Writer(models.tokenizer, ends, tuple(stops), strip, gaps, within), prompts, ask.n or 1)


def decoding(models: Models, ask: Ask, limit: int | None) -> Settings:
    """Settings of a request. Blocks cover the answer, and the last one may reach beyond it.

    Raises:
        ApiError, OptionError: a setting is unknown, or a value breaks a rule.
    """
    default = models.settings
    given = {name: value for name, value in (ask.topeng or {}).items() if name not in EXTRAS}
    preset = (ask.topeng or {}).get("preset")
    if preset is not None:
        if preset not in list(PRESETS):
            message = f"topeng.preset = {ascii(preset)[:80]} must be one of {', '.join(PRESETS)}"
            raise ApiError(400, message, "topeng.preset")
        limit, default = limit or default.max_new_tokens, Settings(**preset_values(preset, models.own))
    values = asdict(default) | {n: getattr(ask, n) for n in ("temperature", "top_p") if getattr(ask, n) is not None}
    values |= {"seed": random.getrandbits(53) if ask.seed is None else ask.seed % 2**53} | given
    if limit is not None:
        values["max_new_tokens"] = limit
    length, block = values["max_new_tokens"], values["block_length"]
    if all(isinstance(value, int) and value > 0 for value in (length, block)):
        values["max_new_tokens"] = -(-length // block) * block
        if default.steps is not None and "steps" not in given:  # as many per block
            values["steps"] = min(default.steps_per_block, block) * -(-length // block)
        if "min_new_tokens" not in given:
            values["min_new_tokens"] = min(default.min_new_tokens, values["max_new_tokens"])
    return Settings.from_values(values)


def _canvas(prompt: Prompt, how: Settings, limit: int | None, fixed: dict[int, list[int]], config: Any) -> Canvas:
    if prompt.given is not None:
        check_room(len(prompt.ids), len(prompt.given), config)
        ids = torch.tensor([[*prompt.ids, *prompt.given]])
        return infilling_canvas(ids, torch.ones_like(ids), len(prompt.ids), config.mask_token_id)
    room = config.max_position_embeddings - len(prompt.ids)
    length = limit or min(how.max_new_tokens, max(1, room))
    check_room(len(prompt.ids), length, config)
    ids = torch.tensor([prompt.ids])
    return blank_canvas(ids, torch.ones_like(ids), length, config.mask_token_id, fixed)


def check_room(prompt: int, new: int, config: Any) -> None:
    """
    Raises:
        ApiError: they exceed the model's context.
    """
    if prompt + new > config.max_position_embeddings:
        message = (
            f"the model's context is {config.max_position_embeddings} tokens, but the prompt has {prompt} and the "
            f"answer {new}. Shorten one of them."
        )
        raise ApiError(400, message, code="context_length_exceeded")


def fixed_words(tokenizer: Any, words: Any) -> dict[int, list[int]]:
    """Words that are fixed in an answer before it is decoded, as tokens by place, counted from 0.

    Args:
        words: `position:word, position:word`, where a word may contain commas, or words by position.

    Raises:
        ApiError: it is neither.
    """
    if isinstance(words, str):
        pairs = [piece.partition(":")[::2] for piece in FIXED.split(words.strip()) if piece.strip()]
    elif isinstance(words, dict):
        pairs = [(str(place), str(word)) for place, word in words.items()]
    elif words is None:
        pairs = []
    else:
        pairs = [("", "")]
    fixed = {}
    for place, word in pairs:
        if not re.fullmatch(r"\s*[0-9]{1,6}\s*", place) or not word.strip():
            message = (
                f"topeng.fixed_words must be 'position:word, …', such as '0:Ya, 5:Jakarta'; {ascii(place)[:40]} is not"
            )
            raise ApiError(400, message, "topeng.fixed_words")
        text = word.strip()
        spaced = f" {text}" if int(place) and text[0].isalnum() else text  # as it is tokenised within a sentence
        fixed[int(place)] = encode_text(tokenizer, spaced)
    for (place, word), (following, _) in pairwise(sorted(fixed.items())):
        if place + len(word) > following:
            message = f"topeng.fixed_words: the {len(word)} tokens at {place} overlap those at {following}"
            raise ApiError(400, f"{message}. Leave room between them.", "topeng.fixed_words")
    return fixed
