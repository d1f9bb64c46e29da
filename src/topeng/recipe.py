"""A whole run as data: every option is declared once, here or in `generate.settings` and `adapt.settings`.

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
from topeng.errors import RecipeError
from topeng.generate.settings import Settings
from topeng.options import OptionError, Options, option

CENDOL_INDONESIAN = ["indo_puisi", "wikihow", "wikipedia_id", "safety_prompt", "identity_prompt", "dolly"]

Logger = Literal["tensorboard", "wandb", "trackio"]
Noise = Literal["independent", "stratified", "complementary"]

ENGINE_OPTIONS = ("engine", "ray_address")
"""Of the corpus, where the work is done; what comes of it does not depend on them."""

NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""What the parser raises: of bytes that are no UTF-8 and dates that are none a ValueError."""

REMOVED = {
    "train.gradient_accumulation_steps": "train.batch_rows is the rows of a step, however it is cut into forward "
    "passes: multiply it, and bound a pass with train.batch_tokens",
}
"""Options of earlier versions, and what stands in their place."""

LLADA = "arXiv 2502.09992"
PAPER = "the experiment in DESIGN, profile `paper`"


@dataclass(frozen=True)
class CorpusOptions(Options):
    """The rows of the language to adapt to."""

    files: list[str] = option(
        list, "Parquet, JSON Lines or CSV: paths, globs, hf://datasets/USER/NAME@COMMIT/**; none: synthetic rows"
    )
    synthetic_rows: int = option(40_000, "size of the synthetic corpus", unit="rows", ge=1_000)
    digest: str | None = option(None, "of the source's content, as ingested/source.json has it; another is an error")
    expected_rows: dict[str, int] = option(dict, "rows of each subset in the pinned source; others are an error")
    engine: Literal["native", "ray"] = option(
        "native",
        "where the corpus is worked on: in this process, or on Ray (pip install 'topeng[ray]')",
    )
    ray_address: str | None = option(None, "of a Ray cluster, such as `auto` or HOST:6379; null: one is started here")
    memory_gb: float = option(2.0, "bound of what is held at once; more rows are compared by sketches", unit="GB", ge=1)
    profile: Literal["clean", "paper"] = option(
        "clean", "`clean`: hold out first, then draw and filter; `paper`: draw as the corpus is, hold out of the rest"
    )
    subsets: list[str] = option(lambda: list(CENDOL_INDONESIAN), "subset_name to keep; an empty list keeps all")
    sample_fraction: float = option(0.03, "share drawn, stratified on template_name", source=PAPER, gt=0, le=1)
    sample_rows: int | None = option(None, "rows drawn, in place of sample_fraction", unit="rows", ge=1)
    test_rows: int = option(394, "rows to test on; they share no group with train", unit="rows", source=PAPER, ge=1)
    validation_rows: int = option(128, "rows for the curves of training; likewise", unit="rows", ge=1)
    containment: float = option(
        0.5, "two texts are of one group where the longer holds this share of the shorter's 5-word shingles", gt=0, le=1
    )
    near_duplicate: float = option(
        0.8, "clean: Jaccard similarity of inputs and of outputs at which the later row goes", gt=0, le=1
    )
    languages: list[str] = option(
        lambda: ["id", "ms"], "clean: ISO 639-1 codes of the answers that stay; empty: no check"
    )
    language_threshold: float = option(0.5, "clean: least probability of these languages together", ge=0, le=1)
    mask_pii: bool = option(True, "clean: mask NIK, NPWP, phone numbers and e-mail addresses")
    benchmarks: list[str] = option(list, "clean: files whose items must not be trained on; rows that hold one go")
    benchmark_overlap: float = option(
        0.5, "clean: share of an item's 8-grams that a row holds, at which it goes", gt=0, le=1
    )
    embedder: str = option("tfidf", "`tfidf` (offline), or a BERT or sentence-transformers model by name or path")
    embedder_revision: str | None = option(None, "commit of a model id, to pin it")
    embedding_tokens: int = option(
        512, "a row is cut here before it is embedded (words for tfidf)", unit="tokens", source=PAPER, ge=8
    )
    embedding_dtype: Literal["float32", "bfloat16"] = option("float32", "of a model's weights while it embeds")
    lower_case: bool | None = option(None, "lower-case before embedding; null: as the tokenizer says; tfidf does")
    clusters: int = option(10, "K of K-Means", source=PAPER, ge=1)
    train_rows: int = option(10_000, "rows selected, an equal quota from each cluster", unit="rows", source=PAPER, ge=1)
    selection: Literal["random", "k-center"] = option(
        "random", "of a cluster's rows: by rank, or each the farthest from those before", source="Gonzalez 1985"
    )
    licences: dict[str, str] = option(dict, "of each subset, for the data card")
    umap_rows: int = option(20_000, "rows on the UMAP plot, at most", unit="rows", ge=50)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.train_rows < self.clusters:
            raise OptionError(
                "train_rows", f"= {self.train_rows} must be at least clusters = {self.clusters}, a row each"
            )

    @property
    def most_shingles(self) -> int:
        """How many shingles may be compared at once: half of the memory, at 25 bytes each."""
        return int(self.memory_gb * 20e6)

    def drawn(self, rows: int) -> int:
        """How many of the subsets' `rows` are drawn."""
        return self.sample_rows or round(self.sample_fraction * rows)


@dataclass(frozen=True)
class SourceOptions(Options):
    """Rows of the language that the base already speaks: what a model may forget."""

    files: list[str] = option(list, "as corpus.files; none: synthetic rows")
    synthetic_rows: int = option(12_000, "size of the synthetic source-language corpus", unit="rows", ge=500)
    held_out: str | None = option(None, "JSON whose `rows` are the ordinals that the base was not trained on")
    test_rows: int = option(200, "rows on which forgetting is measured", unit="rows", ge=1)


@dataclass(frozen=True)
class TextOptions(Options):
    """From rows to tokens."""

    max_length: int = option(512, "of prompt and answer; the prompt's content is cut first", unit="tokens", ge=16)
    eos: Literal["fill", "block", "one"] = option(
        "fill", "end tokens after the answer: to the batch's longest row, to the decoding block, or one", source=LLADA
    )


@dataclass(frozen=True)
class TinyOptions(Options):
    """A base that is pretrained on the source-language rows, where the recipe names no model."""

    vocab_size: int = option(2048, "byte-level BPE with LLaDA's special tokens", ge=300)
    hidden_size: int = option(128, "width", ge=16)
    intermediate_size: int = option(352, "width of the MLP", ge=16)
    layers: int = option(4, "depth", ge=1)
    heads: int = option(4, "attention heads", ge=1)
    steps: int = option(600, "optimiser steps", ge=1)
    batch_rows: int = option(32, "rows in a step", unit="rows", ge=1)
    learning_rate: float = option(2e-3, "peak, cosine after a warm-up", gt=0)


@dataclass(frozen=True)
class BaseOptions(Options):
    """The model that is adapted."""

    model: str | None = option(None, "checkpoint folder or model id; null: pretrain a tiny one (base.tiny)")
    revision: str | None = option(None, "commit of a model id, to pin it")
    dtype: Literal["float32", "bfloat16"] = option("float32", "of the frozen weights")
    device: str | None = option(None, "such as cuda:0; null: a GPU where there is one")
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
        8192, "a step is cut into forward passes of so many tokens, with padding; bounds memory", unit="tokens", ge=1
    )
    noise: Noise = option("stratified", "which tokens of a step are masked (docs/training.md)")
    precision: Literal["float32", "bfloat16"] = option("float32", "of the computation (autocast); weights keep theirs")
    compile: bool = option(False, "compile the decoder's layers (torch.compile)")
    warmup_fraction: float = option(0.05, "share of the steps", ge=0, lt=1)
    weight_decay: float = option(0.0, "of AdamW", ge=0)
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm", gt=0)
    gradient_checkpointing: bool = option(False, "recompute activations in the backward pass")
    eval_steps: int = option(50, "held-out loss is taken every so many steps", ge=1)
    save_steps: int = option(100, "a checkpoint every so many steps", ge=1)
    report_to: list[Logger] = option(lambda: ["tensorboard"], "loggers: tensorboard, wandb, trackio")

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
    batch_tokens: int = option(8192, "tokens in a forward pass", unit="tokens", ge=512)
    bertscore_model: str | None = option(
        None, "encoder for the BERTScore of answers, a folder or a model id; null: it is not taken"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draws % self.replicates:
            raise OptionError("draws", f"= {self.draws} must be a multiple of replicates = {self.replicates}")


@dataclass(frozen=True)
class ReportOptions(Options):
    """The page."""

    title: str = option("Topeng", "of the page")
    answers: int = option(6, "rows of each language whose answers are shown side by side", ge=0)
    language: Literal["en", "id"] = option("en", "of the page: English or Indonesian; model cards are in English")
    licence: str | None = option(None, "of the adapters, on their model cards, in the Hub's spelling: apache-2.0")


@dataclass(frozen=True)
class Recipe(Options):
    """A complete run."""

    seed: int = option(42, "of everything that is drawn", source=PAPER, ge=0, lt=2**32)
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
