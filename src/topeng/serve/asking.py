"""From a request to rows: settings, prompt, canvas, and the rules that a value may break."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from topeng.errors import GenerationError
from topeng.generate.answer import GAP, encode_template, without_end
from topeng.generate.canvas import Canvas, blank_canvas, infilling_canvas
from topeng.generate.row import Row, Voice, end_tokens
from topeng.generate.settings import PRESETS, Settings
from topeng.serve.faults import ApiError
from topeng.serve.schema import Ask, ChatAsk, CompletionAsk
from topeng.serve.writer import Writer
from topeng.text.chat import Message, encode_prompt, encode_text, special_tokens

REFUSED: dict[str, tuple[Any, str]] = {
    "frequency_penalty": (0, "counts have no order here; `topeng: {repetition_penalty: 1.2}` weakens what was said"),
    "presence_penalty": (0, "`topeng: {repetition_penalty: 1.2}` weakens what was said"),
    "logit_bias": ({}, "`topeng: {suppressed_tokens: [ID]}` forbids a token"),
    "prompt_logprobs": (None, "a prompt is not predicted by a masked diffusion model"),
    "tools": ([], "these models call no tools: leave it out"),
    "functions": ([], "these models call no functions: leave it out"),
    "audio": (None, "only text is written: leave it out"),
    "best_of": (1, "ask for `n` answers and choose"),
}
"""Fields that would change an answer and cannot be honoured: the value that changes nothing, and the remedy."""
EXTRAS = ("preset", "fixed_words", "template", "gaps")
FIXED = re.compile(r",\s*(?=\d+\s*:)")


@dataclass(frozen=True)
class Asked:
    """Rows to decode, with who reads each; those of one prompt stand together."""

    rows: list[Row]
    writer: Writer
    prompts: list[list[int]]

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))


@dataclass(frozen=True)
class Models:
    """Voices by name, what they share, and the settings of a request that says nothing."""

    voices: Mapping[str, Voice]
    tokenizer: Any
    settings: Settings
    system: str | None = None

    def voice(self, name: str) -> Voice:
        if name not in self.voices:
            raise ApiError(
                404, f"there is no model {ascii(name)}: there are {', '.join(self.voices)}", "model", "model_not_found"
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
    messages = [_message(role=m.role, content=m.text()) for m in ask.messages]
    if models.system is not None and messages[0]["role"] != "system":
        messages.insert(0, _message("system", models.system))
    prompt = encode_prompt(models.tokenizer, messages)
    limit = ask.max_completion_tokens or ask.max_tokens
    return _asked(models, ask, [prompt], limit, (ask.top_logprobs or 0) if ask.logprobs else 0, strip=True)


def _message(role: str, content: str) -> Message:
    return {"role": "system" if role == "developer" else role, "content": content}


def of_completion(models: Models, ask: CompletionAsk) -> Asked:
    """
    Raises:
        ApiError, TopengError: a value breaks a rule.
    """
    refuse(ask)
    prompts = _prompts(models, ask)
    return _asked(models, ask, prompts, ask.max_tokens, ask.logprobs or 0, strip=False)


def refuse(ask: Ask) -> None:
    for name, (neutral, remedy) in REFUSED.items():
        if ask.given(name) not in (None, neutral):
            raise ApiError(400, f"{name} cannot be honoured: {remedy}", name, "unsupported_parameter")
    wanted = ask.given("response_format")
    if isinstance(wanted, dict) and wanted.get("type", "text") != "text":
        message = "response_format must be {type: text}: no grammar guides these answers"
        raise ApiError(400, message, "response_format", "unsupported_parameter")


def _prompts(models: Models, ask: CompletionAsk) -> list[list[int]]:
    bos, vocabulary = special_tokens(models.tokenizer).bos, len(models.tokenizer)
    texts = [ask.prompt] if isinstance(ask.prompt, str) or isinstance(ask.prompt[0], int) else ask.prompt
    if len(texts) * (ask.n or 1) > 128:
        raise ApiError(400, f"{len(texts)} prompts × n = {ask.n or 1} are more than 128 answers: ask twice", "prompt")
    prompts = []
    for text in texts:
        ids = [bos, *encode_text(models.tokenizer, text)] if isinstance(text, str) else list(text)  # type: ignore[arg-type]
        if not all(0 <= token < vocabulary for token in ids):
            raise ApiError(400, f"prompt has a token that is none: they go from 0 to {vocabulary - 1}", "prompt")
        prompts.append(ids)
    return prompts


def _asked(models: Models, ask: Ask, prompts: list[list[int]], limit: int | None, top: int, strip: bool) -> Asked:
    voice, extras = models.voice(ask.model), ask.topeng or {}
    how = decoding(models.settings, ask, limit)
    suffix = ask.suffix if isinstance(ask, CompletionAsk) else None
    gaps = bool(extras.get("template") or extras.get("gaps") or suffix)
    how = without_end(how, voice.model) if gaps else how
    rows = []
    for prompt in prompts:
        for choice in range(ask.n or 1):
            canvas = _canvas(models, voice, prompt, how, limit, extras, suffix)
            rows.append(Row(canvas, 0, voice, how, noise_id=choice, top=top))
    stops = [ask.stop] if isinstance(ask.stop, str) else ask.stop or []
    if len(stops) > 4:
        raise ApiError(400, f"stop has {len(stops)} texts, and at most 4 are allowed", "stop")
    ends = frozenset(end_tokens(voice.model).tolist())
    return Asked(rows, Writer(models.tokenizer, ends, tuple(stops), strip, gaps), prompts)


def decoding(default: Settings, ask: Ask, limit: int | None) -> Settings:
    """Settings of a request. Blocks cover the answer; the last may reach beyond it.

    Raises:
        ApiError, OptionError: a setting is unknown, or a value breaks a rule.
    """
    given = {name: value for name, value in (ask.topeng or {}).items() if name not in EXTRAS}
    preset = (ask.topeng or {}).get("preset")
    if preset is not None and preset not in PRESETS:
        raise ApiError(400, f"topeng.preset = {ascii(preset)} must be one of {', '.join(PRESETS)}", "topeng.preset")
    values = asdict(default) if preset is None else PRESETS[preset] | {"max_new_tokens": default.max_new_tokens}
    values = values | {name: getattr(ask, name) for name in ("temperature", "top_p") if getattr(ask, name) is not None}
    values |= {"seed": random.getrandbits(53) if ask.seed is None else ask.seed % 2**53} | given
    if limit is not None:
        values["max_new_tokens"] = limit
    length, block = values["max_new_tokens"], values.get("block_length", default.block_length)
    if isinstance(length, int) and isinstance(block, int) and length > 0 and block > 0:
        values["max_new_tokens"] = -(-length // block) * block
    return Settings.from_values(values)


def _canvas(
    models: Models,
    voice: Voice,
    prompt: Sequence[int],
    how: Settings,
    limit: int | None,
    extras: Mapping[str, Any],
    suffix: str | None,
) -> Canvas:
    tokenizer, config = models.tokenizer, voice.model.config
    if extras.get("gaps"):
        return _gaps(tokenizer, prompt, config.mask_token_id, config)
    if template := extras.get("template"):
        given = encode_template(tokenizer, _text(template, "topeng.template"), config.mask_token_id)
        ids = torch.tensor([[*prompt, *given]])
        _check_room(len(prompt), len(given), config)
        return infilling_canvas(ids, torch.ones_like(ids), len(prompt), config.mask_token_id)
    after = encode_text(tokenizer, suffix) if suffix else []
    room = config.max_position_embeddings - len(prompt) - len(after)
    length = limit or min(how.max_new_tokens, max(1, room))
    _check_room(len(prompt) + len(after), length, config)
    fixed = fixed_words(tokenizer, extras.get("fixed_words"))
    if after:
        return blank_canvas(*_alone(prompt), length + len(after), config.mask_token_id, fixed | {length: after})
    return blank_canvas(*_alone(prompt), length, config.mask_token_id, fixed)


def _alone(prompt: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([list(prompt)], dtype=torch.long)
    return ids, torch.ones_like(ids)


def _check_room(prompt: int, new: int, config: Any) -> None:
    if prompt + new > config.max_position_embeddings:
        raise ApiError(
            400,
            f"the model's context is {config.max_position_embeddings} tokens, and {prompt} of a prompt and {new} of an "
            "answer are asked for: shorten one of them",
            "messages",
            "context_length_exceeded",
        )
