"""A whole run as data: every option is declared once, here or in the `settings` of `corpus`, `adapt` and `generate`.

`load` reads a YAML file and overrides such as `{"adapter.rank": "32"}`; what it cannot accept it names
with its place, the rule, and the nearest name.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from topeng.adapt.settings import METHODS, AdapterOptions, SweepOptions, Training
from topeng.corpus.settings import PAPER, CorpusOptions, SourceOptions
from topeng.errors import RecipeError
from topeng.generate.settings import Settings
from topeng.options import OptionError, Options, option, results

Logger = Literal["tensorboard", "wandb", "trackio"]
Noise = Literal["independent", "stratified", "complementary"]

NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What the parser raises: of bytes that are no UTF-8 and dates that are none a ValueError."""

REMOVED = {
    "train.gradient_accumulation_steps": "train.batch_rows is the rows of a step, however it is cut into forward "
    "passes: multiply it, and bound a pass with train.batch_tokens",
}
"""Options of earlier versions, and what stands in their place."""

LLADA = "arXiv 2502.09992"


@dataclass(frozen=True)
class TextOptions(Options):
    """From rows to tokens."""

    max_length: int = option(
        512, "length of prompt and answer together; beyond it the prompt is cut first", unit="tokens", ge=16
    )
    min_share: float = option(
        0.25, "least share of max_length, headers apart, that a prompt keeps before its answer is cut", ge=0, le=0.5
    )
    turns: Literal["all", "last"] = option(
        "all", "answers of a conversation to train on, each with what was said before it", source=LLADA
    )
    eos: Literal["fill", "block", "one"] = option(
        "fill", "end tokens after the answer: to the batch's longest row, to the decoding block, or one", source=LLADA
    )

    @property
    def asked(self) -> dict[str, Any]:
        """Those that decide what is asked, in training, scoring and generation alike."""
        return {"max_length": self.max_length, "min_share": self.min_share}


@dataclass(frozen=True)
class TinyOptions(Options):
    """A base that is pretrained on the source-language rows and on plain texts (`source.plain_rows`), where the recipe
    names no model.
    """

    start: str | None = option(
        None, "checkpoint to go on from, whose shape and tokenizer stay; null: new ones, by the options that follow"
    )
    vocab_size: int = option(2048, "byte-level BPE with LLaDA's special tokens", ge=300)
    hidden_size: int = option(128, "width", ge=16)
    intermediate_size: int = option(352, "width of the MLP", ge=16)
    layers: int = option(4, "depth", ge=1)
    heads: int = option(4, "attention heads", ge=1)
    steps: int = option(600, "optimiser steps", ge=1)
    batch_rows: int = option(32, "rows in a step", unit="rows", ge=1)
    learning_rate: float = option(4e-3, "peak, cosine after a warm-up; of Muon and AdamW", gt=0)


@dataclass(frozen=True)
class BaseOptions(Options):
    """The model that is adapted."""

    model: str | None = option(
        None, "checkpoint folder, model id, or `kecil`, the one that comes with Topeng; null: a tiny one (base.tiny)"
    )
    revision: str | None = option(None, "commit of a model id, to pin it")
    dtype: Literal["float32", "bfloat16"] = option("float32", "of the frozen weights")
    device: str | None = option(None, "such as cuda:0; null: a GPU where there is one", cost=True)
    tiny: TinyOptions = option(TinyOptions, "the tiny base")


@dataclass(frozen=True)
class TrainOptions(Options):
    """Adaptation by the diffusion loss."""

    epochs: float = option(1.0, "passes over the selected rows", gt=0)
    steps: int | None = option(None, "optimiser steps, in place of epochs", ge=1)
    seeds: list[int] = option(list, "each method is trained once with each; none: once, with the recipe's seed")
    learning_rate: float | None = option(
        None, "peak, cosine after a warm-up; of A for lora+; null: each method's own (adapt/settings.py)", gt=0
    )
    learning_rates: dict[str, float] = option(dict, "by method, in place of learning_rate")
    batch_rows: int = option(
        16,
        "rows in an optimiser step, over all ranks; complementary noise has half as many, twice each",
        unit="rows",
        ge=1,
    )
    batch_tokens: int = option(
        8192,
        "a step is cut into forward passes of so many tokens, with padding; bounds memory",
        unit="tokens",
        cost=True,
        ge=1,
    )
    noise: Noise = option("stratified", "which tokens of a step are masked (docs/training.md)")
    precision: Literal["float32", "bfloat16"] = option("float32", "of the computation (autocast); weights keep theirs")
    compile: bool = option(False, "compile the decoder's layers (torch.compile)")
    warmup_fraction: float = option(0.05, "share of the steps", ge=0, lt=1)
    weight_decay: float = option(0.0, "of AdamW", ge=0)
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm", gt=0)
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass", cost=True)
    eval_steps: int = option(50, "held-out loss is taken every so many steps", ge=1)
    save_steps: int = option(100, "a checkpoint every so many steps", cost=True, ge=1)
    report_to: list[Logger] = option(lambda: ["tensorboard"], "loggers: tensorboard, wandb, trackio", cost=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noise == "complementary" and self.batch_rows % 2:
            raise OptionError("batch_rows", f"= {self.batch_rows} must be even for complementary noise, a row twice")
        if len(set(self.seeds)) < len(self.seeds) or not all(0 <= seed < 2**32 for seed in self.seeds):
            raise OptionError("seeds", f"= {self.seeds} must be different numbers from 0 to 2**32 - 1")

    def rate(self, method: str) -> float:
        """The learning rate of a method: the recipe's for it, the recipe's for all, or the method's own."""
        return self.learning_rates.get(method) or self.learning_rate or METHODS[method].learning_rate


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """What is measured of the base and of each adapter."""

    draws: int = option(
        16, "Monte Carlo draws of the likelihood bound, a row; rows with fewer masks are exact", source=LLADA, ge=1
    )
    replicates: int = option(
        2, "independent estimates that share the draws; their spread is the Monte Carlo error", ge=1
    )
    generate_rows: int = option(
        100, "test rows of each language that are answered, drawn at random", unit="rows", source=PAPER, ge=0
    )
    batch_tokens: int = option(8192, "tokens in a forward pass", unit="tokens", cost=True, ge=512)
    bertscore_model: str | None = option(
        None, "encoder for the BERTScore of answers, a folder or a model id; null: it is not taken"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws % self.replicates:
            raise OptionError("draws", f"= {self.draws} must be a multiple of replicates = {self.replicates}")

    @property
    def measured(self) -> dict[str, Any]:
        """Those that a likelihood or an answer depends on; the encoder is `compare`'s."""
        return {name: value for name, value in results(self).items() if name != "bertscore_model"}


@dataclass(frozen=True)
class ReportOptions(Options):
    """The page."""

    title: str = option("Topeng", "of the page")
    answers: int = option(6, "rows of each language whose answers are shown side by side", ge=0)
    language: Literal["en", "id"] = option("en", "of page and map: English or Indonesian; model cards are in English")
    licence: str | None = option(None, "of the adapters, on their model cards, in the Hub's spelling: apache-2.0")


@dataclass(frozen=True)
class Recipe(Options):
    """A complete run."""

    seed: int = option(42, "of everything that is drawn", source=PAPER, ge=0, lt=2**32)
    threads: int | None = option(
        None,
        "CPU threads of a training or an evaluation; as many as the cores allow run side by side. Null: all cores, one "
        "after another",
        cost=True,
        ge=1,
    )
    corpus: CorpusOptions = option(CorpusOptions, "")
    source: SourceOptions = option(SourceOptions, "")
    text: TextOptions = option(TextOptions, "")
    base: BaseOptions = option(BaseOptions, "")
    adapter: AdapterOptions = option(AdapterOptions, "")
    train: TrainOptions = option(TrainOptions, "")
    sweep: SweepOptions = option(SweepOptions, "")
    generate: Settings = option(Settings, "")
    evaluate: EvaluateOptions = option(EvaluateOptions, "")
    report: ReportOptions = option(ReportOptions, "")

    def __post_init__(self) -> None:
        super().__post_init__()
        for method, rate in self.train.learning_rates.items():
            if method not in METHODS:
                raise OptionError("train.learning_rates", f"has {method!r}, which is none of {', '.join(METHODS)}")
            if rate <= 0:
                raise OptionError(f"train.learning_rates.{method}", f"= {rate} must be above 0")

    @property
    def trainings(self) -> list[Training]:
        """What is trained: each method once, as METHOD, or once with each of train.seeds, as METHOD-seed-SEED."""
        seeds = self.train.seeds
        return [
            Training(f"{method}-seed-{seed}" if seeds else method, method, seed)
            for method in self.adapter.methods
            for seed in seeds or [self.seed]
        ]

    @property
    def results(self) -> dict[str, Any]:
        """Nested plain values of all that a result may depend on. Where end tokens fill a forward pass they are learnt,
        and how many tokens it holds is no matter of cost alone.
        """
        values = results(self)
        if self.text.eos == "fill":
            values["train"]["batch_tokens"] = self.train.batch_tokens
        return values

    @property
    def context(self) -> int:
        """The longest sequence that the base meets, a prompt and its answer, in tokens."""
        return self.text.max_length + self.generate.max_new_tokens


class _Loader(yaml.SafeLoader):
    """Refuses a name that stands twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(f"{twice[0]} stands twice in a section")
        return super().construct_mapping(node, deep)


def load(path: str | Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """The recipe in a YAML file, with overrides such as `{"adapter.rank": "32"}`.

    Raises:
        RecipeError: it cannot be read, or an option is unknown or ill-typed.
    """
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader) or {}
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except NOT_YAML as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} must hold options by name, such as `seed: 42`")
    for name, value in (overrides or {}).items():
        set_option(values, name, value)
    return parse(values)


def parse(values: Mapping[str, Any]) -> Recipe:
    """The recipe that nested values declare.

    Raises:
        RecipeError: an option is unknown or ill-typed.
    """
    try:
        return Recipe.from_values(values)
    except OptionError as error:
        raise RecipeError(_with_place(error)) from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every option resolved."""
    return yaml.safe_dump(as_dict(recipe), sort_keys=False, allow_unicode=True)


def as_dict(options: Options) -> dict[str, Any]:
    """Options as nested plain values."""
    return dataclasses.asdict(options)


def describe(cls: type[Options] = Recipe, prefix: str = "") -> list[tuple[str, str, str]]:
    """Every option as (name, default, help with unit and source)."""
    rows = []
    for field in dataclasses.fields(cls):
        name, default = f"{prefix}{field.name}", field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if isinstance(default, Options):
            rows += describe(type(default), f"{name}.")
            continue
        notes = ", ".join(note for note in (field.metadata["unit"], field.metadata["source"]) if note)
        text = field.metadata["help"] + (f" [{notes}]" if notes else "")
        rows.append((name, yaml.safe_dump(default, default_flow_style=True, width=1000).split("\n")[0], text))
    return rows


def set_option(values: dict[str, Any], name: str, text: str) -> None:
    """Sets `a.b` in nested values to a YAML value.

    Raises:
        RecipeError: `a` is no section, or the text is not YAML.
    """
    *sections, last = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--{name}: `{section}` is a value, not a section of options")
    try:
        values[last] = yaml.safe_load(text)
    except NOT_YAML as error:
        raise RecipeError(f"--{name} {text}: not a YAML value") from error


def _with_place(error: OptionError) -> str:
    """The error, with the option of that name elsewhere where its section has none near."""
    if not error.rule.startswith("is no option"):
        return str(error)
    if error.place in REMOVED:
        return f"{error.place} was removed: {REMOVED[error.place]}"
    names = [name for name, _, _ in describe()]
    last = error.place.rpartition(".")[2]
    elsewhere = [name for name in names if name.endswith(f".{last}")]
    sections = sorted({name.rpartition(".")[0] for name in names if "." in name})
    near = elsewhere or difflib.get_close_matches(error.place, [*names, *sections], n=1, cutoff=0.6)
    hint = f": did you mean '{near[0]}'?" if near else "; `topeng options` lists them"
    return f"unknown option '{error.place}'{hint}"
