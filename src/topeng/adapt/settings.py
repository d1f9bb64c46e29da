"""The adaptation methods and their options, declared once. Free of torch, because the recipe embeds them.

A method is an entry of `METHODS`. Nothing else knows its name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from topeng.adapt.base_settings import LORA, ModelOptions, TinyOptions
from topeng.options import OptionError, Options, option
from topeng.text.settings import TextOptions

Logger = Literal["tensorboard", "wandb", "trackio"]
Noise = Literal["independent", "stratified", "complementary"]
ObjectiveName = Literal["masked", "block", "autoregressive"]

CONVERTED = "converted"
"""Folder of a run for a converted model before it is pretrained."""

LORA_PLUS = "arXiv 2402.12354"


@dataclass(frozen=True)
class Method:
    """How a method differs from LoRA, W + (alpha / r) B A with B = 0 at first.

    Attributes:
        label: name of the method in its paper.
        learning_rate: default peak learning rate, or that of A if B has its own.
        source: source of the method, and of its learning rate if that is published.
        lora: further options of `peft.LoraConfig`.
        changes_base: whether its start moves a part of the base into the adapter.
        rate_of_b: whether B learns faster than A, by `adapter.loraplus_lr_ratio`.
        quantized: whether the frozen base is kept in 4 bits.
        noise_aware: whether the update depends on the share of masks (`adapt.nara`).
        full: whether all weights are trained, with a checkpoint as the result.
    """

    label: str
    learning_rate: float
    source: str
    lora: Mapping[str, Any] = field(default_factory=dict)
    changes_base: bool = False
    rate_of_b: bool = False
    quantized: bool = False
    noise_aware: bool = False
    full: bool = False


# AdamW moves A and B by about the learning rate, whatever the size of the gradient. So LoRA+ has rates whose geometric
# mean is that of LoRA, and rsLoRA, whose update is larger by sqrt(r), has the rate of LoRA divided by sqrt(16).
METHODS: dict[str, Method] = {
    "lora": Method("LoRA", 2e-4, LORA),
    "lora+": Method("LoRA+", 5e-5, LORA_PLUS, rate_of_b=True),
    "pissa": Method("PiSSA", 2e-4, "arXiv 2404.02948", {"init_lora_weights": "pissa_niter_16"}, changes_base=True),
    "olora": Method("OLoRA", 2e-4, "arXiv 2406.01775", {"init_lora_weights": "olora"}, changes_base=True),
    "dora": Method("DoRA", 2e-4, "arXiv 2402.09353", {"use_dora": True}),
    "rslora": Method("rsLoRA", 5e-5, "arXiv 2312.03732", {"use_rslora": True}),
    "qlora": Method("QLoRA", 2e-4, "arXiv 2305.14314", quantized=True),
    "nara": Method("NaRA", 2e-4, "arXiv 2605.29716", noise_aware=True),
    "full": Method("Full FT", 2.5e-5, "arXiv 2502.09992, LLaDA's own SFT", full=True),
}


@dataclass(frozen=True)
class Training:
    """One training of a method. Its adapter is `adapters/NAME`, its scores are `evaluate/NAME`."""

    name: str
    method: str
    seed: int
    objective: ObjectiveName = "masked"


def without_seed(training: str) -> str:
    """The name without the seed, such as `lora-block`, because a run has one model card for all seeds."""
    return re.sub(r"-seed-[0-9]+$", "", training)


if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[*METHODS]


@dataclass(frozen=True)
class LoraOptions(Options):
    """Options of the update of an adapter."""

    rank: int = option(16, "Rank of the update.", source=LORA, ge=1)
    alpha: int = option(32, "Scale of the update, which is multiplied by alpha / rank.", source=LORA, ge=1)
    dropout: float = option(0.0, "Dropout on the adapter's input.", ge=0, lt=1)
    target_modules: str | list[str] = option(
        "all-linear",
        "Modules to adapt: a list of names, a regular expression, or `all-linear` for all linear layers of the blocks.",
    )
    loraplus_lr_ratio: float = option(
        16.0, "Learning rate of B divided by that of A, for lora+.", source=LORA_PLUS, ge=1
    )


@dataclass(frozen=True)
class AdapterOptions(LoraOptions):
    """Parameter-efficient methods, side by side."""

    methods: list[MethodName] = option(
        lambda: ["lora", "lora+", "pissa"],
        f"Methods to train, one adapter each: {', '.join(METHODS)}. `full` trains all weights.",
    )

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
        lambda: [1e-5, 3e-5, 1e-4, 3e-4, 1e-3], "Peak learning rates to try for each method; for lora+, those of A."
    )
    learning_rates_b: list[float] = option(
        lambda: [1e-4, 1e-3, 1e-2],
        "Learning rates of B to try for lora+, each with every rate of A that is not larger.",
    )
    steps: int = option(50, "Optimiser steps of each trial, with a learning-rate schedule of its own.", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learning_rates", "learning_rates_b"):
            if not getattr(self, name) or min(getattr(self, name)) <= 0:
                raise OptionError(name, f"= {getattr(self, name)} must be one or more rates above 0")


@dataclass(frozen=True)
class StepOptions(Options):
    """A step of the diffusion loss, in the pretraining of a base and in adaptation alike."""

    batch_tokens: int = option(
        8192,
        "Largest forward pass, with padding. Larger steps are split into several passes, which limits memory.",
        unit="tokens",
        cost=True,
        ge=1,
    )
    noise: Noise = option(
        "stratified",
        "How the masked tokens of a step are drawn: for each row independently, spread evenly over the step's rows, or "
        "each row twice with complementary masks (docs/training.md).",
    )
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "Precision of the computation (autocast). The weights keep their own."
    )
    compile: bool = option(False, "Compile the decoder layers with torch.compile.")
    gradient_checkpointing: bool = option(
        False, "Recompute activations in the backward pass, which saves memory and costs time.", cost=True
    )
    save_steps: int = option(100, "Steps between checkpoints.", cost=True, ge=1)
    report_to: list[Logger] = option(
        lambda: ["tensorboard"], "Experiment loggers: tensorboard, wandb, trackio.", cost=True
    )


@dataclass(frozen=True)
class ScheduleOptions(StepOptions):
    """An adaptation, whatever its method."""

    epochs: float = option(1.0, "Number of passes over the training rows.", gt=0)
    steps: int | None = option(None, "Number of optimiser steps, instead of epochs.", ge=1)
    batch_rows: int = option(
        16,
        "Rows per optimiser step, over all processes. Complementary noise takes half as many, each twice.",
        unit="rows",
        ge=1,
    )
    weight_decay: float = option(0.0, "Weight decay of AdamW.", ge=0)
    eval_steps: int = option(50, "Steps between measurements of the validation loss.", ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise == "complementary" and self.batch_rows % 2:
            raise OptionError("batch_rows", f"= {self.batch_rows} must be even for complementary noise, a row twice")


@dataclass(frozen=True)
class TrainOptions(ScheduleOptions):
    """Options of the training of adapters."""

    objectives: list[ObjectiveName] = option(
        lambda: ["masked"],
        "Training objectives: masked diffusion (`masked`), block diffusion in blocks of generate.block_length "
        "(`block`), or prediction of the next token (`autoregressive`). Each method is trained with each of them, and "
        "a base with the first.",
    )
    seeds: list[int] = option(
        list, "Seeds to train each method with, once each. An empty list trains once, with the recipe's seed."
    )
    learning_rate: float | dict[str, float] | None = option(
        None,
        "Peak learning rate, with a warm-up and cosine decay; for lora+, that of A. One rate for all methods, or one "
        "for each, such as {lora: 2e-4}. Null, or a method that is not named, uses the method's own (docs/methods.md).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise OptionError("objectives", f"= {self.objectives} must be one or more different objectives")
        if self.noise == "complementary" and "autoregressive" in self.objectives:
            raise OptionError("noise", "= 'complementary' trains each row twice, but `autoregressive` masks nothing")
        if len(set(self.seeds)) < len(self.seeds) or not all(0 <= seed < 2**32 for seed in self.seeds):
            raise OptionError("seeds", f"= {self.seeds} must be different numbers from 0 to 2**32 - 1")

        for place, method, rate in self._rates():
            if method and method not in METHODS:
                raise OptionError("learning_rate", f"has {method!r}, which is none of {', '.join(METHODS)}")
            if rate <= 0:
                raise OptionError(place, f"= {rate} must be above 0")

    def _rates(self) -> list[tuple[str, str, float]]:
        """The given rates: the place of each, its method if there is one, and its value."""
        rate = self.learning_rate
        if isinstance(rate, dict):
            return [(f"learning_rate.{method}", method, value) for method, value in rate.items()]
        return [] if rate is None else [("learning_rate", "", rate)]

    def rate(self, method: str) -> float:
        """The learning rate of a method: that of the recipe for it or for all methods, or else its default."""
        named = self.learning_rate.get(method) if isinstance(self.learning_rate, dict) else self.learning_rate
        return named or METHODS[method].learning_rate


@dataclass(frozen=True)
class Converting:
    """Everything that the stage `base/convert` depends on. The options of the same names explain the fields."""

    convert: str
    revision: str | None
    shift: bool


@dataclass(frozen=True)
class Pretraining:
    """Everything that the stage `base` depends on.

    Attributes:
        context: length of the longest sequence for the base, in tokens.
        converted: whether it begins with the output of the stage `base/convert`.
        objective: training objective.
        fill: tokens of a forward pass, if end tokens fill it, or else None.
        revision: commit on the Hub of the checkpoint that it continues from.
        device: device to train on.
    """

    seed: int
    tiny: TinyOptions
    text: TextOptions
    block_length: int | None
    context: int
    train: StepOptions
    fill: int | None
    converted: bool = field(metadata={"since": False})
    objective: ObjectiveName = field(metadata={"since": "masked"})
    revision: str | None = field(metadata={"since": None})
    device: str | None = field(metadata={"cost": True})


@dataclass(frozen=True)
class Adapting:
    """Everything that one training of a method depends on.

    Attributes:
        block_length: block length of decoding, if end tokens fill a block or the objective is `block`, or else None.
        adapter: options of the adapter, or None if all weights are trained.
        learning_rate: peak learning rate, or that of A for `lora+`.
        fill: as in `Pretraining`.
    """

    method: str
    seed: int
    base: ModelOptions
    text: TextOptions
    block_length: int | None
    adapter: LoraOptions | None
    train: ScheduleOptions
    learning_rate: float
    fill: int | None
    objective: ObjectiveName = field(metadata={"since": "masked"})
