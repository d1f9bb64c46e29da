"""The adaptation methods and their options, declared once: torch-free, for the recipe embeds them.

A method is an entry of `METHODS`; nothing else knows its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from topeng.options import OptionError, Options, option

LORA = "arXiv 2106.09685"
LORA_PLUS = "arXiv 2402.12354"


@dataclass(frozen=True)
class Method:
    """What sets a method apart from LoRA, W + (alpha / r) B A with B = 0 at first.

    Attributes:
        label: its name as its paper writes it.
        learning_rate: peak, where the recipe names none; of A where B has its own.
        source: of the method, and of its learning rate where that is published.
        lora: further options of `peft.LoraConfig`.
        changes_base: its start takes from the base what it gives to the adapter.
        rate_of_b: B learns faster than A, by `adapter.loraplus_lr_ratio`.
        quantized: the frozen base is held in 4 bits.
        full: all weights train, and what is left is a checkpoint.
    """

    label: str
    learning_rate: float
    source: str
    lora: Mapping[str, Any] = field(default_factory=dict)
    changes_base: bool = False
    rate_of_b: bool = False
    quantized: bool = False
    full: bool = False


# AdamW moves A and B by about the learning rate, whatever the gradient's size. So LoRA+ has the rates whose geometric
# mean is LoRA's, and rsLoRA, whose update is scaled by sqrt(r) more, LoRA's over sqrt(16).
METHODS: dict[str, Method] = {
    "lora": Method("LoRA", 2e-4, LORA),
    "lora+": Method("LoRA+", 5e-5, LORA_PLUS, rate_of_b=True),
    "pissa": Method("PiSSA", 2e-4, "arXiv 2404.02948", {"init_lora_weights": "pissa_niter_16"}, changes_base=True),
    "olora": Method("OLoRA", 2e-4, "arXiv 2406.01775", {"init_lora_weights": "olora"}, changes_base=True),
    "dora": Method("DoRA", 2e-4, "arXiv 2402.09353", {"use_dora": True}),
    "rslora": Method("rsLoRA", 5e-5, "arXiv 2312.03732", {"use_rslora": True}),
    "qlora": Method("QLoRA", 2e-4, "arXiv 2305.14314", quantized=True),
    "full": Method("Full FT", 2.5e-5, "arXiv 2502.09992, LLaDA's own SFT", full=True),
}


@dataclass(frozen=True)
class Training:
    """One training of a method. Its adapter is `adapters/NAME`, its scores are `evaluate/NAME`."""

    name: str
    method: str
    seed: int


if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[*METHODS]


@dataclass(frozen=True)
class AdapterOptions(Options):
    """Parameter-efficient methods, side by side."""

    methods: list[MethodName] = option(
        lambda: ["lora", "lora+", "pissa"], f"one adapter each, of {', '.join(METHODS)}; `full` trains all weights"
    )
    rank: int = option(16, "of the update", source=LORA, ge=1)
    alpha: int = option(32, "the update is scaled by alpha / rank", source=LORA, ge=1)
    dropout: float = option(0.0, "on the adapter's input", ge=0, lt=1)
    target_modules: str | list[str] = option("all-linear", "names, a regular expression, or `all-linear`: the blocks'")
    loraplus_lr_ratio: float = option(16.0, "learning rate of B over that of A, for lora+", source=LORA_PLUS, ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.methods:
            raise OptionError("methods", "= [] must name at least one method")
        if len(set(self.methods)) < len(self.methods):
            raise OptionError("methods", f"= {self.methods} names a method twice")


@dataclass(frozen=True)
class SweepOptions(Options):
    """Learning rates to try by short trainings, judged on the validation rows (`topeng train RECIPE --sweep`)."""

    learning_rates: list[float] = option(
        lambda: [1e-5, 3e-5, 1e-4, 3e-4, 1e-3], "peaks to try by each method; of A for lora+"
    )
    learning_rates_b: list[float] = option(
        lambda: [1e-4, 1e-3, 1e-2], "of B, for lora+: each is tried with each rate of A that is not above it"
    )
    steps: int = option(50, "optimiser steps of a trial, with a schedule of its own", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learning_rates", "learning_rates_b"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise OptionError(name, f"= {getattr(self, name)} must be one or more rates above 0")
