"""Decoding settings, declared once: the Python call, the recipe and the command line share them."""

from dataclasses import dataclass
from typing import Literal

from topeng.options import OptionError, Options, option

SAMPLER = "LLaDA's reference sampler, arXiv 2502.09992"


@dataclass(frozen=True)
class Settings(Options):
    """How an answer is decoded. The defaults follow the reference sampler, greedy."""

    max_new_tokens: int = option(128, "length of the canvas after the prompt", unit="tokens", source=SAMPLER, ge=1)
    steps: int = option(128, "forward passes over the whole canvas, shared evenly by its blocks", source=SAMPLER, ge=1)
    block_length: int = option(32, "blocks are decoded from left to right", unit="tokens", source=SAMPLER, ge=1)
    temperature: float = option(0.0, "of the Gumbel noise on the logits; 0 is greedy", source=SAMPLER, ge=0)
    cfg_scale: float = option(0.0, "classifier-free guidance; 0 is none", source=SAMPLER, ge=0)
    policy: Literal["top_k"] = option("top_k", "which predictions a step commits", source=SAMPLER)
    cache: Literal["none"] = option("none", "keys and values that are kept between steps")
    stop_at_end: bool = option(False, "stop after the block in which every row has its end token")
    seed: int = option(0, "of the noise; each row has its own", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_new_tokens % self.block_length:
            raise OptionError(
                "max_new_tokens", f"= {self.max_new_tokens} must be a multiple of block_length = {self.block_length}"
            )
        blocks = self.max_new_tokens // self.block_length
        if self.steps % blocks or self.steps > self.max_new_tokens:
            raise OptionError(
                "steps",
                f"= {self.steps} must be a multiple of {blocks}, the blocks (max_new_tokens / block_length), and at "
                f"most max_new_tokens = {self.max_new_tokens}",
            )

    @property
    def steps_per_block(self) -> int:
        return self.steps // (self.max_new_tokens // self.block_length)
