"""How rows become tokens, declared once."""

from dataclasses import dataclass
from typing import Literal

from topeng.options import Options, option

LLADA = "arXiv 2502.09992"


@dataclass(frozen=True)
class AskOptions(Options):
    """How a row is fitted in, in training, scoring and generation alike."""

    max_length: int = option(
        512, "length of prompt and answer together; beyond it the prompt is cut first", unit="tokens", ge=16
    )
    min_share: float = option(
        0.25, "least share of max_length, headers apart, that a prompt keeps before its answer is cut", ge=0, le=0.5
    )


@dataclass(frozen=True)
class TextOptions(AskOptions):
    """From rows to tokens."""

    turns: Literal["all", "last"] = option(
        "all", "answers of a conversation to train on, each with what was said before it", source=LLADA
    )
    eos: Literal["fill", "block", "one"] = option(
        "fill", "end tokens after the answer: to the batch's longest row, to the decoding block, or one", source=LLADA
    )
