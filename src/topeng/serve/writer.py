"""From a canvas to the text of which nothing will change any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spoken:
    """Text that is committed for good.

    Attributes:
        tokens: that it is made of, from the first.
        reason: `stop` or `length` when it is whole.
    """

    text: str
    tokens: int
    reason: str | None


@dataclass(frozen=True)
class Writer:
    """Reads an answer up to its first mask; what may still become part of a stop text or of a character is held back.

    Attributes:
        ends: end tokens.
        stops: texts before which an answer ends.
        strip: white space at both sides is no part of it.
        gaps: its length is given, so that it is whole without an end token.
        within: only so many tokens are read; what follows them was given.
    """

    tokenizer: Any
    ends: frozenset[int]
    stops: tuple[str, ...] = ()
    strip: bool = True
    gaps: bool = False
    within: int | None = None

    def read(self, tokens: Sequence[int], masked: Sequence[bool]) -> Spoken:
        tokens, masked = tokens[: self.within], masked[: self.within]
        known = next((place for place, hidden in enumerate(masked) if hidden), len(tokens))
        length = next((place for place in range(known) if tokens[place] in self.ends), known)
        ended, whole = length < known, known == len(tokens)
        text = self._decode(tokens[:length])
        found = [place for place in (text.find(stop) for stop in self.stops) if place >= 0]
        if found:
            return Spoken(text[: min(found)], self._count(tokens[:length], min(found)), "stop")
        if ended or whole:
            reason = "stop" if ended or self.gaps else "length"
            return Spoken(text.rstrip() if self.strip else text, length, reason)
        text = text.rstrip("\ufffd")
        text = text[: len(text) - self._held(text)]
        return Spoken(text.rstrip() if self.strip else text, length, None)

    def _decode(self, tokens: Sequence[int]) -> str:
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text.lstrip() if self.strip else text

    def _held(self, text: str) -> int:
        """How much of the end of a text may begin a stop text."""
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self.stops):
                return length
        return 0

    def _count(self, tokens: Sequence[int], characters: int) -> int:
        """Tokens whose text reaches so far."""
        return next(n for n in range(len(tokens) + 1) if len(self._decode(tokens[:n])) >= characters)
