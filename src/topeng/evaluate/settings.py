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
    """What is measured for the base and each adapter."""

    bertscore_model: str | None = option(
        None, "Encoder for the BERTScore of answers: a folder or a model id. Null skips BERTScore."
    )


@dataclass(frozen=True)
class Scoring:
    """Everything that the likelihoods of a model depend on, besides its weights and the rows."""

    base: ModelOptions
    seed: int
    text: AskOptions
    evaluate: ScoreOptions


@dataclass(frozen=True)
class Answering:
    """Everything that the answers of a model depend on, besides its weights and the rows.

    Attributes:
        languages: languages that an answer may be in.
        training: training of the model, or None for the base.
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
        """The values by option that must be the same in models that are compared, except for the model itself."""
        values = results(self)
        dtype = values.pop("base")["dtype"]
        del values["training"]
        return flat(values) | {"base.dtype": dtype}

    @property
    def trained_by(self) -> dict[str, Any]:
        """The values by option that distinguish trainings, which are all but the seed."""
        values = results(self.training) if self.training else {}
        return {name: value for name, value in flat(values).items() if name not in ("seed", "method")}


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options by names such as `adapter.rank`. Null counts as not given."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return {name: value for name, value in found.items() if value is not None}
