"""Responses as OpenAI's clients expect them, whole and streamed. There is one class for each kind of response."""

import math
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from topeng import __version__
from topeng.generate.row import Row
from topeng.serve.writer import Spoken


@dataclass
class Chat:
    """`/v1/chat/completions`."""

    model: str
    tokenizer: Any
    logprobs: bool
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": f"topeng-{__version__}",
        }

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return self.head("chat.completion") | {"choices": choices, "usage": usage}

    def piece(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self.head("chat.completion.chunk") | {"choices": choices}

    def choice(self, index: int, spoken: Spoken, row: Row, echo: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": spoken.text, "refusal": None}
        odds = self.odds(row, 0, spoken.tokens, 0)
        return {"index": index, "message": message, "logprobs": odds, "finish_reason": spoken.reason}

    def opening(self, index: int) -> dict[str, Any] | None:
        return _delta(index, {"role": "assistant", "content": ""})

    def delta(self, index: int, text: str, odds: Any) -> dict[str, Any]:
        return _delta(index, {"content": text}, odds)

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        return _delta(index, {}, None, reason)

    def odds(self, row: Row, start: int, stop: int, offset: int) -> dict[str, Any] | None:
        """Log-probabilities of tokens of an answer at the time when they were committed."""
        if not self.logprobs:
            return None
        content = []
        for place in range(row.prompt_length + start, row.prompt_length + stop):
            told = self._token(int(row.tokens[place]), float(row.confidence[place]))
            top = [self._token(*pair) for pair in row.alternatives.get(place, [])]
            content.append(told | {"top_logprobs": top})
        return {"content": content, "refusal": None}

    def _token(self, token: int, probability: float) -> dict[str, Any]:
        text = self.tokenizer.decode([token])
        return {"token": text, "logprob": log(probability), "bytes": list(text.encode("utf-8", "replace"))}


def _delta(index: int, delta: dict[str, Any], odds: Any = None, reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": odds, "finish_reason": reason}


@dataclass
class Completion(Chat):
    """`/v1/completions`."""

    def __post_init__(self) -> None:
        self.id = self.id.replace("chatcmpl", "cmpl")

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, int]) -> dict[str, Any]:
        return self.piece(choices) | {"usage": usage}

    def piece(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return self.head("text_completion") | {"choices": choices}

    def choice(self, index: int, spoken: Spoken, row: Row, echo: str) -> dict[str, Any]:
        odds = self.odds(row, 0, spoken.tokens, len(echo))
        return self.delta(index, echo + spoken.text, odds) | {"finish_reason": spoken.reason}

    def opening(self, index: int) -> dict[str, Any] | None:
        return None

    def delta(self, index: int, text: str, odds: Any) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": odds, "finish_reason": None}

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        return self.delta(index, "", None) | {"finish_reason": reason}

    def odds(self, row: Row, start: int, stop: int, offset: int) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        places = range(row.prompt_length + start, row.prompt_length + stop)
        texts = [self.tokenizer.decode([int(row.tokens[place])]) for place in places]
        tops = [row.alternatives.get(place, []) for place in places]
        return {
            "tokens": texts,
            "token_logprobs": [log(float(row.confidence[place])) for place in places],
            "top_logprobs": [{self.tokenizer.decode([token]): log(p) for token, p in top} for top in tops],
            "text_offset": [offset + sum(map(len, texts[:at])) for at in range(len(texts))],
        }


def log(probability: float) -> float:
    """The log-probability in nats. A given token, with confidence 0, gets OpenAI's value for the least likely token."""
    return math.log(probability) if probability > 0 else -9999.0


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
