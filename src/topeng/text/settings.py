"""How rows become tokens, declared once."""

from dataclasses import dataclass
from typing import Literal

from topeng.options import Options, option

LLADA = "arXiv 2502.09992"
Eos = Literal["fill", "block", "one"]
Turns = Literal["all", "last"]


@dataclass(frozen=True)
class AskOptions(Options):
    """How a row is fitted in, in training, scoring and generation alike."""

    max_length: int = option(
        512, "Longest prompt and answer together. Longer rows are cut, the prompt first.", unit="tokens", ge=16
    )
    min_share: float = option(
        0.25,
        "Share of max_length, not counting headers, that a prompt keeps at least. Only then is the answer cut.",
        ge=0,
        le=0.5,
    )


@dataclass(frozen=True)
class TextOptions(AskOptions):
    """From rows to tokens."""

    turns: Turns = option(
        "all",
        "Answers of a conversation to train on: all or only the last, each with the turns before it.",
        source=LLADA,
    )
    eos: Eos = option(
        "fill",
        "End tokens after the answer: `fill` pads to the longest row of the batch, `block` to the end of the decoding "
        "block, and `one` adds a single one.",
        source=LLADA,
    )
