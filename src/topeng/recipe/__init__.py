"""A whole run as data: the `settings` of each package declare its options once, and a recipe holds them all.

`load` reads a YAML file and overrides such as `{"adapter.rank": "32"}`. An error names the place of a bad value, the
rule and the closest valid name.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from topeng.adapt.base_settings import BaseOptions
from topeng.adapt.settings import METHODS, AdapterOptions, SweepOptions, Training, TrainOptions
from topeng.corpus.settings import PAPER, CorpusOptions, SourceOptions
from topeng.errors import RecipeError
from topeng.evaluate.settings import EvaluateOptions
from topeng.generate.settings import Settings
from topeng.options import OptionError, Options, option
from topeng.report.settings import ReportOptions
from topeng.text.settings import TextOptions

NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""Errors of the YAML parser. Bytes that are not UTF-8 and impossible dates raise a ValueError."""

REMOVED = {
    "train.gradient_accumulation_steps": "train.batch_rows now counts all rows of an optimiser step. Multiply it by "
    "the old value, and limit the size of a forward pass with train.batch_tokens.",
    "train.learning_rates": "train.learning_rate takes one rate, or one per method, such as {lora+: 0.0008}.",
    "corpus.language_threshold": "A row is now kept if corpus.languages have at least half of the probability.",
    "corpus.benchmark_overlap": "A row is now dropped if it contains half of the 8-grams of an item.",
    "train.warmup_fraction": "The learning rate now always warms up over 5 % of the steps.",
    "train.max_grad_norm": "Gradients are now always clipped to a norm of 1.",
    "base.tiny.intermediate_size": "It now follows from base.tiny.hidden_size: 8/3 of it, as in Llama.",
    "base.tiny.heads": "There is now one head for every 32 dimensions of base.tiny.hidden_size.",
}
"""Options of earlier versions, and what replaced them."""


@dataclass(frozen=True)
class Recipe(Options):
    """All options of a run. `topeng options` lists them."""

    seed: int = option(42, "Seed of every random draw of the run.", source=PAPER, ge=0, lt=2**32)
    threads: int | None = option(
        None,
        "CPU threads per training or evaluation. As many of them as the cores allow run side by side, also on one GPU, "
        "whose memory has to hold them. Null runs one after another, each on all cores.",
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
        if self.base.tiny.anneal_steps and self.train.objectives[0] == "autoregressive":
            raise OptionError(
                "base.tiny.anneal_steps",
                f"= {self.base.tiny.anneal_steps} lets the base see what is after, but `autoregressive`, the first of "
                "train.objectives, looks back only. Leave one of them out.",
            )
        if self.base.tiny.distillation_weight and self.train.objectives[0] != "masked":
            raise OptionError(
                "base.tiny.distillation_weight",
                f"= {self.base.tiny.distillation_weight:g} is for `masked`, but {self.train.objectives[0]!r} is the "
                "first of train.objectives. Leave one of them out.",
            )
        others = [objective for objective in self.train.objectives if objective != "masked"]
        aware = [method for method in self.adapter.methods if METHODS[method].noise_aware]
        if others and aware:  # there a row has one share of masks, but each block has its own
            raise OptionError(
                "train.objectives",
                f"has {others[0]!r}, but {aware[0]} depends on the share of masks in the whole answer, which only "
                f"`masked` has. Leave {others[0]!r} out, or {aware[0]} out of adapter.methods.",
            )

    @property
    def trainings(self) -> list[Training]:
        """The trainings: each method once, named METHOD, or once per seed of train.seeds, named METHOD-seed-SEED.

        With an objective other than `masked`, METHOD is followed by -OBJECTIVE.
        """
        seeds = self.train.seeds
        return [
            Training(_name(method, objective, seed if seeds else None), method, seed, objective)
            for method in self.adapter.methods
            for objective in self.train.objectives
            for seed in seeds or [self.seed]
        ]

    @property
    def context(self) -> int:
        """Length of the longest sequence that the base sees, a prompt with its answer, in tokens."""
        return self.text.max_length + self.generate.max_new_tokens


def _name(method: str, objective: str, seed: int | None) -> str:
    other = "" if objective == "masked" else f"-{objective}"
    return f"{method}{other}" if seed is None else f"{method}{other}-seed-{seed}"


class _Loader(yaml.SafeLoader):
    """Refuses repeated names, for which YAML would silently use the last value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.YAMLError(f"{twice[0]} occurs twice in a section")
        return super().construct_mapping(node, deep)


def load(path: str | Path, overrides: Mapping[str, str] | None = None) -> Recipe:
    """Reads the recipe in a YAML file, with overrides such as `{"adapter.rank": "32"}`.

    Raises:
        RecipeError: the file cannot be read, or an option is unknown or has a value of the wrong type.
    """
    values = _read(path)
    for name, value in (overrides or {}).items():
        set_option(values, name, value)
    return parse(values)


def training_names(path: str | Path) -> list[str]:
    """The names of the trainings of a recipe, which may be of an older version with options that were removed.

    Raises:
        RecipeError: the file cannot be read, or an option that the names depend on has a value of the wrong type.
    """
    values = _read(path)
    sections = {name: values.get(name) or {} for name in ("adapter", "train")}
    naming = {
        name: {option: value for option, value in section.items() if option in ("methods", "objectives", "seeds")}
        for name, section in sections.items()
    }
    return [training.name for training in parse(naming).trainings]


def _read(path: str | Path) -> dict[str, Any]:
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader) or {}
    except IsADirectoryError as error:
        own = Path(path) / "recipe.yaml"
        hint = f" The recipe of this run is {own}. Give it with --run-dir {path}." if own.is_file() else ""
        raise RecipeError(f"{path} is a folder, but a recipe is a YAML file.{hint}") from error
    except OSError as error:
        raise RecipeError(f"cannot read the recipe {path}: {error.strerror}") from error
    except NOT_YAML as error:
        raise RecipeError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path} must contain named options, such as `seed: 42`")
    return values


def parse(values: Mapping[str, Any]) -> Recipe:
    """Makes a recipe from nested values. Options that are left out have their defaults.

    Raises:
        RecipeError: an option is unknown or has a value of the wrong type.
    """
    try:
        return Recipe.from_values(values)
    except OptionError as error:
        raise RecipeError(_with_place(error)) from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, with every option."""
    return yaml.safe_dump(as_dict(recipe), sort_keys=False, allow_unicode=True)


def as_dict(options: Options) -> dict[str, Any]:
    """Options as nested plain values."""
    return dataclasses.asdict(options)


@dataclass(frozen=True)
class Declared:
    """An option, by its name in a recipe such as `adapter.rank`."""

    name: str
    default: Any
    help: str
    unit: str
    source: str

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def default_text(self) -> str:
        return yaml.safe_dump(self.default, default_flow_style=True, width=1000).split("\n")[0]

    @property
    def text(self) -> str:
        """The help, with unit and source."""
        notes = {"Unit": "" if f" {self.unit}" in self.help else self.unit, "Source": self.source}
        return self.help + "".join(f" {note}: {value}." for note, value in notes.items() if value)


def declared(cls: type[Options] = Recipe, prefix: str = "") -> list[Declared]:
    """Every option of a recipe."""
    rows = []
    for field in dataclasses.fields(cls):
        name, default = f"{prefix}{field.name}", field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if isinstance(default, Options):
            rows += declared(type(default), f"{name}.")
        else:
            rows.append(Declared(name, default, *(field.metadata[key] for key in ("help", "unit", "source"))))
    return rows


def describe() -> list[tuple[str, str, str]]:
    """Every option as (name, default, help with unit and source)."""
    return [(one.name, one.default_text, one.text) for one in declared()]


def set_option(values: dict[str, Any], name: str, text: str) -> None:
    """Sets `a.b` in nested values to a YAML value.

    Raises:
        RecipeError: `a` is not a section, or the text is not YAML.
    """
    *sections, last = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--{name}: `{section}` is a value, not a section of options")
    try:
        values[last] = yaml.safe_load(text)
    except NOT_YAML as error:
        raise RecipeError(f"--{name} {text} is not valid YAML") from error


def _with_place(error: OptionError) -> str:
    """The error message, with a similar option or the option of the same name in another section."""
    if not error.rule.startswith("is not an option"):
        return str(error)
    if error.place in REMOVED:
        return f"{error.place} was removed. {REMOVED[error.place]}"
    names = [name for name, _, _ in describe()]
    last = error.place.rpartition(".")[2]
    elsewhere = [name for name in names if name.endswith(f".{last}")]
    sections = sorted({name.rpartition(".")[0] for name in names if "." in name})
    near = elsewhere or difflib.get_close_matches(error.place, [*names, *sections], n=1, cutoff=0.6)
    hint = f": did you mean '{near[0]}'?" if near else ". `topeng options` lists them."
    return f"unknown option '{error.place}'{hint}"
