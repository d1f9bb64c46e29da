"""Reads the final part of an answer from a canvas: the text that will not change any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spoken:
    """Text that will not change any more.

    Attributes:
        tokens: number of tokens, from the first, that it consists of.
        reason: `stop` or `length` if the answer is complete.
    """

    text: str
    tokens: int
    reason: str | None


@dataclass(frozen=True)
class Writer:
    """Reads an answer up to its first mask. An end that may still become a stop text or a character is held back.

    Attributes:
        ends: end tokens.
        stops: texts before which an answer ends.
        strip: whether white space at both ends is removed.
        gaps: whether the length is given, so that an answer is complete without an end token.
        within: number of tokens to read, if given text follows them.
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
        """Number of characters at the end of a text that may begin a stop text."""
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self.stops):
                return length
        return 0

    def _count(self, tokens: Sequence[int], characters: int) -> int:
        """Number of tokens whose text reaches that far."""
        return next(n for n in range(len(tokens) + 1) if len(self._decode(tokens[:n])) >= characters)
