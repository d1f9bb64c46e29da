"""The options of an evaluation, declared once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from topeng.adapt.base_settings import ModelOptions
from topeng.adapt.settings import Adapting
from topeng.corpus.settings import PAPER
from topeng.generate.settings import Settings
from topeng.options import OptionError, Options, option, results
from topeng.text.settings import LLADA, AskOptions


@dataclass(frozen=True)
class ScoreOptions(Options):
    """How likelihoods are estimated."""

    draws: int = option(
        16,
        "Monte Carlo draws per row for the likelihood bound. Rows with fewer masked tokens are computed exactly.",
        source=LLADA,
        ge=1,
    )
    replicates: int = option(
        2,
        "Number of independent estimates that the draws are divided into. Their spread is the Monte Carlo error.",
        ge=1,
    )
    batch_tokens: int = option(
        8192, "Largest forward pass of the evaluation, with padding.", unit="tokens", cost=True, ge=512
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws % self.replicates:
            raise OptionError("draws", f"= {self.draws} must be a multiple of replicates = {self.replicates}")


@dataclass(frozen=True)
class AnswerOptions(ScoreOptions):
    """How likelihoods are estimated, and how many rows are answered."""

    generate_rows: int = option(
        100,
        "Number of test rows per language for which answers are generated, chosen at random.",
        unit="rows",
        source=PAPER,
        ge=0,
    )


@dataclass(frozen=True)
class EvaluateOptions(AnswerOptions):
    """What is measured of the base and of each adapter."""

    bertscore_model: str | None = option(
        None, "Encoder for the BERTScore of answers: a folder or a model id. Null skips BERTScore."
    )


@dataclass(frozen=True)
class Scoring:
    """What the likelihoods of a model depend on, besides its weights and the rows."""

    base: ModelOptions
    seed: int
    text: AskOptions
    evaluate: ScoreOptions


@dataclass(frozen=True)
class Answering:
    """What the answers of a model depend on, likewise.

    Attributes:
        languages: that an answer may be in.
        training: that the model comes from; None: it is the base.
    """

    base: ModelOptions
    seed: int
    text: AskOptions
    evaluate: AnswerOptions
    generate: Settings
    languages: list[str]
    training: Adapting | None

    @property
    def conditions(self) -> dict[str, Any]:
        """By the names of options, all that must be the same of models to compare: what model it is may differ."""
        values = results(self)
        dtype = values.pop("base")["dtype"]
        del values["training"]
        return flat(values) | {"base.dtype": dtype}

    @property
    def trained_by(self) -> dict[str, Any]:
        """By the names of options, what tells one way of training from another: all but the seed."""
        values = results(self.training) if self.training else {}
        return {name: value for name, value in flat(values).items() if name not in ("seed", "method")}


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by names such as `adapter.rank`; null is as good as not named."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return {name: value for name, value in found.items() if value is not None}
