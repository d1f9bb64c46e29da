"""The corpus's options, declared once: the recipe embeds them."""

from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from topeng.options import OptionError, Options, narrow, option

Group = TypeVar("Group", bound=Options)

CENDOL_INDONESIAN = ["indo_puisi", "wikihow", "wikipedia_id", "safety_prompt", "identity_prompt", "dolly"]
PAPER = "the LLaDA-8B-Indonesia experiment"

COLUMNS_HELP = (
    "Which column holds what, such as {input: question, output: answer}. Roles are instruction, input, output, "
    "system, history, messages and Cendol's other column names. Empty recognises common layouts by their column names."
)
SEPARATOR_HELP = (
    "Separator of CSV files: one character, or `tab`. Null detects commas, semicolons and tabs from the header."
)
RIGHT_ANSWERS_HELP = (
    "Which rows have exactly one right answer: `column` reads the column one_right_answer, `all` means every row, and "
    "any other value names a column to read."
)


@dataclass(frozen=True)
class EngineOptions(Options):
    """Where a corpus is worked on."""

    engine: Literal["native", "ray"] = option(
        "native",
        "Where the corpus is processed: in this process, or on Ray (pip install 'topeng[ray]').",
        cost=True,
    )
    ray_address: str | None = option(
        None, "Address of a Ray cluster, such as `auto` or HOST:6379. Null starts one on this machine.", cost=True
    )


@dataclass(frozen=True)
class IngestOptions(EngineOptions):
    """Which files are read, and how."""

    files: list[str] = option(
        list,
        "Files to read: paths, globs, folders or hf://datasets/USER/NAME@COMMIT/**. Formats are Parquet, Arrow, JSON, "
        "JSON Lines, CSV and TSV, also compressed (.gz, .zst). An empty list makes synthetic rows.",
    )
    columns: dict[str, str] = option(dict, COLUMNS_HELP)
    separator: str | None = option(None, SEPARATOR_HELP)
    right_answers: str = option("column", RIGHT_ANSWERS_HELP)
    digest: str | None = option(
        None, "Expected digest of the source, as written in ingested/source.json. The run fails if it differs."
    )
    expected_rows: dict[str, int] = option(
        dict, "Expected number of rows in each subset of the source. The run fails if they differ."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_separator(self)


@dataclass(frozen=True)
class DrawOptions(EngineOptions):
    """Which rows are sampled, filtered and held out."""

    memory_gb: float = option(
        2.0, "Memory limit for comparing texts. Beyond it, rows are compared by sketches.", unit="GB", ge=1
    )
    profile: Literal["clean", "paper"] = option(
        "clean",
        "Order of work: `clean` holds out test rows first, then samples and filters; `paper` samples the corpus as it "
        "is and takes the test rows from the rest.",
    )
    subsets: list[str] = option(
        lambda: list(CENDOL_INDONESIAN), "Subsets to keep, by their subset_name. An empty list keeps all."
    )
    sample_fraction: float = option(
        0.03, "Fraction of the rows to sample, stratified by template_name.", source=PAPER, gt=0, le=1
    )
    sample_rows: int | None = option(None, "Number of rows to sample, instead of sample_fraction.", unit="rows", ge=1)
    test_rows: int = option(
        394, "Number of test rows. They share no source text with the training rows.", unit="rows", source=PAPER, ge=1
    )
    validation_rows: int = option(
        128,
        "Number of validation rows, for the loss curves. They too share no source text with the training rows.",
        unit="rows",
        ge=1,
    )
    containment: float = option(
        0.5,
        "Two texts count as one source text if the longer contains this share of the shorter one's 5-word shingles.",
        gt=0,
        le=1,
    )
    near_duplicate: float = option(
        0.8,
        "Jaccard similarity of both inputs and outputs from which the later row is dropped (profile `clean`).",
        gt=0,
        le=1,
    )
    languages: list[str] = option(
        lambda: ["id", "ms"],
        "Languages that answers may be in, as ISO 639-1 codes; other rows are dropped (profile `clean`). An empty list "
        "disables the check.",
    )
    mask_pii: bool = option(True, "Mask NIK, NPWP, phone numbers and e-mail addresses (profile `clean`).")
    benchmarks: list[str] = option(
        list,
        "Benchmark files to decontaminate against; rows that contain any of their items are dropped, also from "
        "source.files and source.plain_files (profile `clean`).",
    )

    @property
    def most_shingles(self) -> int:
        """How many shingles may be compared at once: half of the memory, at 25 bytes each."""
        return int(self.memory_gb * 20e6)

    def drawn(self, rows: int) -> int:
        """How many of the subsets' `rows` are drawn."""
        return self.sample_rows or round(self.sample_fraction * rows)


@dataclass(frozen=True)
class EmbedOptions(EngineOptions):
    """How rows become vectors."""

    embedder: str = option(
        "tfidf",
        "Model that embeds rows: `tfidf` (offline), or the name or path of a BERT or sentence-transformers model.",
    )
    embedder_revision: str | None = option(None, "Commit of the embedder on the Hub, to pin its version.")
    embedding_tokens: int = option(
        512,
        "Length to which a row is cut before it is embedded. For `tfidf` it counts words.",
        unit="tokens",
        source=PAPER,
        ge=8,
    )
    embedding_dtype: Literal["float32", "bfloat16"] = option("float32", "Precision of the embedding model's weights.")
    lower_case: bool | None = option(
        None, "Lower-case texts before embedding. Null follows the tokenizer; `tfidf` lower-cases."
    )


@dataclass(frozen=True)
class CorpusOptions(EmbedOptions, DrawOptions, IngestOptions):
    """The rows of the language to adapt to."""

    synthetic_rows: int = option(
        40_000, "Size of the synthetic corpus, used where `files` is empty.", unit="rows", ge=1_000
    )
    clusters: int = option(10, "Number of K-Means clusters.", source=PAPER, ge=1)
    train_rows: int = option(
        10_000, "Number of training rows to select, an equal share from each cluster.", unit="rows", source=PAPER, ge=1
    )
    selection: Literal["random", "k-center"] = option(
        "random",
        "How rows are picked within a cluster: at random, or each as far as possible from those already picked.",
        source="Gonzalez 1985",
    )
    licences: dict[str, str] = option(dict, "Licence of each subset, for the data card.")
    umap_rows: int = option(20_000, "Maximum number of rows on the UMAP plot.", unit="rows", ge=50)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.benchmarks and self.profile == "paper":
            raise OptionError(
                "benchmarks",
                f"= {self.benchmarks} has no effect under corpus.profile = paper, which drops no rows. Use clean, or "
                "leave corpus.benchmarks out.",
            )
        if self.train_rows < self.clusters:
            raise OptionError(
                "train_rows", f"= {self.train_rows} must be at least clusters = {self.clusters}, a row each"
            )


@dataclass(frozen=True)
class SourceOptions(Options):
    """Rows of the language that the base already speaks: what a model may forget."""

    files: list[str] = option(
        list, "Files in the source language, written like corpus.files. An empty list makes synthetic rows."
    )
    columns: dict[str, str] = option(dict, "Which column holds what, written like corpus.columns.")
    separator: str | None = option(None, "Separator of CSV files, written like corpus.separator.")
    right_answers: str = option(
        "column", "Which rows have exactly one right answer, written like corpus.right_answers."
    )
    synthetic_rows: int = option(12_000, "Size of the synthetic source-language corpus.", unit="rows", ge=500)
    held_out: str | None = option(None, "JSON file whose `rows` list the row numbers that the base was not trained on.")
    test_rows: int = option(200, "Number of rows on which forgetting is measured.", unit="rows", ge=1)
    plain_files: list[str] = option(
        list,
        "Files of plain text in the target language (column `text`) for pretraining a tiny base. An empty list makes "
        "synthetic texts.",
    )
    plain_rows: int = option(
        0, "Number of plain texts on which a tiny base is pretrained, besides the source rows.", unit="rows", ge=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_separator(self)


def _check_separator(options: IngestOptions | SourceOptions) -> None:
    """A tab may be written as YAML and shells let one."""
    if options.separator in ("\\t", "tab"):
        object.__setattr__(options, "separator", "\t")
    if options.separator is not None and (len(options.separator) != 1 or options.separator in '"\r\n'):
        raise OptionError("separator", f"= {options.separator!r} must be one character, such as ';' or tab")


@dataclass(frozen=True)
class Made:
    """A corpus that is made up: so many rows, by this seed."""

    rows: int
    seed: int


@dataclass(frozen=True)
class Ingesting:
    """What the stage `corpus/ingest` depends on: files, or a corpus that is made up."""

    corpus: IngestOptions
    made: Made | None


@dataclass(frozen=True)
class Seeded(Generic[Group]):
    """What a stage depends on that draws by some options: these, and the seed."""

    options: Group
    seed: int


@dataclass(frozen=True)
class Embedding(Seeded[EmbedOptions]):
    """What the stage `corpus/embed` depends on.

    Attributes:
        device: on which a model embeds; None: a GPU if there is one.
    """

    device: str | None = field(default=None, metadata={"cost": True})


@dataclass(frozen=True)
class Sourcing(Seeded[SourceOptions]):
    """What the stage `source` depends on.

    Attributes:
        benchmarks: files of which no item is trained on.
    """

    benchmarks: list[str] = field(default_factory=list, metadata={"since": []})


def ingesting(corpus: CorpusOptions, seed: int) -> Ingesting:
    """Of a corpus that is made up where no files are named."""
    made = None if corpus.files else Made(corpus.synthetic_rows, seed)
    return Ingesting(narrow(corpus, IngestOptions), made)
