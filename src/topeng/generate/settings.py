"""Decoding settings, declared once: the Python call, the recipe and the command line share them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from topeng.errors import ModelError
from topeng.kecil import locate
from topeng.options import OptionError, Options, option
from topeng.system.files import read_object

SAMPLER = "LLaDA's reference sampler, arXiv 2502.09992"
FAST_DLLM = "Fast-dLLM, arXiv 2505.22618"
EB_SAMPLER = "EB-Sampler, arXiv 2505.24857"

Policy = Literal["top_k", "random", "margin", "entropy", "threshold", "factor", "entropy_bound"]


@dataclass(frozen=True)
class Settings(Options):
    """How an answer is decoded. The defaults follow the reference sampler: greedy, one token per step."""

    max_new_tokens: int = option(
        128, "Length of the answer to decode (the canvas after the prompt).", unit="tokens", source=SAMPLER, ge=1
    )
    steps: int | None = option(
        None,
        "Number of forward passes, shared evenly between the blocks (policies top_k, random, margin and entropy). Null "
        "takes one per token.",
        ge=1,
    )
    block_length: int = option(
        32, "Length of a block. Blocks are decoded from left to right.", unit="tokens", source=SAMPLER, ge=1
    )
    temperature: float = option(
        0.0, "Temperature of the Gumbel noise on the logits. 0 decodes greedily.", source=SAMPLER, ge=0
    )
    top_p: float = option(
        1.0,
        "Sample only from the likeliest tokens whose probabilities add up to this value.",
        source="arXiv 1904.09751",
        gt=0,
        le=1,
    )
    repetition_penalty: float = option(
        1.0, "Penalty on tokens that the answer already contains. 1 means none.", source="arXiv 1909.05858", ge=1
    )
    suppressed_tokens: list[int] = option(list, "Token ids that never appear in an answer.")
    min_new_tokens: int = option(
        0, "Shortest answer: the end token is not allowed before this length.", unit="tokens", ge=0
    )
    cfg_scale: float = option(0.0, "Strength of classifier-free guidance. 0 means none.", source=SAMPLER, ge=0)
    policy: Policy = option(
        "top_k",
        "Rule by which a step chooses the predictions that it keeps. Each step keeps at least one.",
        source=SAMPLER,
    )
    threshold: float = option(
        0.9, "Least confidence at which a prediction is kept (policy threshold).", source=FAST_DLLM, gt=0, le=1
    )
    factor: float = option(
        1.0,
        "Keep the n most confident predictions while (n + 1)(1 - the n-th confidence) is below this (policy factor).",
        source=FAST_DLLM,
        gt=0,
    )
    entropy_bound: float = option(
        0.1,
        "Keep predictions while the summed entropy of all but the last is at most this (policy entropy_bound).",
        unit="nats",
        source=EB_SAMPLER,
        ge=0,
    )
    cache: Literal["none", "prefix", "dual"] = option(
        "none",
        "Keys and values to reuse while a block is decoded: `none`, those before the block (`prefix`), or those on "
        "both sides (`dual`).",
        source=FAST_DLLM,
    )
    refresh_interval: int | None = option(
        None, "Steps after which the cache is recomputed. Null recomputes it for each block.", ge=1
    )
    window: int | None = option(
        None,
        "Number of masked tokens after the block that the model sees. Null shows all of them.",
        unit="tokens",
        ge=0,
    )
    stop_at_end: bool = option(
        False, "Stop an answer once nothing before its end token is masked. The rest is filled with end tokens."
    )
    seed: int = option(0, "Seed of the sampling noise. Each row draws from its own stream.", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_new_tokens % self.block_length:
            raise OptionError(
                "max_new_tokens", f"= {self.max_new_tokens} must be a multiple of block_length = {self.block_length}"
            )
        blocks = self.max_new_tokens // self.block_length
        steps = self.max_new_tokens if self.steps is None else self.steps
        if steps % blocks or steps > self.max_new_tokens:
            raise OptionError(
                "steps",
                f"= {steps} must be a multiple of {blocks}, the number of blocks (max_new_tokens / block_length), and "
                f"at most max_new_tokens = {self.max_new_tokens}",
            )
        if self.min_new_tokens > self.max_new_tokens:
            raise OptionError(
                "min_new_tokens", f"= {self.min_new_tokens} must be at most max_new_tokens = {self.max_new_tokens}"
            )

    @property
    def steps_per_block(self) -> int:
        steps = self.max_new_tokens if self.steps is None else self.steps
        return steps // (self.max_new_tokens // self.block_length)


PRESETS: dict[str, dict[str, Any]] = {
    "reference": {"stop_at_end": True},
    "quality": {"policy": "entropy_bound", "entropy_bound": 16.0, "stop_at_end": True},
    "fast": {"policy": "entropy_bound", "entropy_bound": 16.0, "cache": "prefix", "window": 128, "stop_at_end": True},
}
"""Changes to the defaults, by the name of a preset. The bounds suit a small model (docs/generation.md)."""

CHECKPOINT_SETTINGS = ("max_new_tokens", "block_length", "turns")


def checkpoint_settings(model: str | Path) -> dict[str, int]:
    """The decoding settings that a local checkpoint declares in its generation_config.json.

    `turns` is not a setting of the decoder, but the number of earlier turns that the model should see.

    Raises:
        ModelError: the file is damaged.
    """
    file = Path(locate(model)) / "generation_config.json"
    if not file.is_file():
        return {}
    found = read_object(file, ModelError, "checkpoint")
    own = {name: found[name] for name in CHECKPOINT_SETTINGS if isinstance(found.get(name), int)}
    if "block_length" not in own:  # then the length was meant for a causal model, and may not be a multiple of a block
        own.pop("max_new_tokens", None)
    return own


def preset_values(preset: str, own: Mapping[str, int]) -> dict[str, Any]:
    """The settings that a preset changes, overridden by those that a checkpoint declares."""
    return PRESETS[preset] | {name: value for name, value in own.items() if name != "turns"}
