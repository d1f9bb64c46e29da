"""The corpus's options, declared once: the recipe embeds them."""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from topeng.options import OptionError, Options, narrow, option

Group = TypeVar("Group", bound=Options)

CENDOL_INDONESIAN = ["indo_puisi", "wikihow", "wikipedia_id", "safety_prompt", "identity_prompt", "dolly"]
PAPER = "the experiment in DESIGN, profile `paper`"

COLUMNS_HELP = (
    "columns by what they hold, such as {input: question, output: answer}: instruction, input, output, system, "
    "history, messages, or Cendol's other names; empty: the file's own columns tell"
)
SEPARATOR_HELP = (
    "one character, or tab: the separator of CSV files; null: the header tells commas, semicolons and tabs apart"
)
RIGHT_ANSWERS_HELP = (
    "rows with one right answer: `column`: those that the column one_right_answer says, `all`, or a column of your own"
)


@dataclass(frozen=True)
class EngineOptions(Options):
    """Where a corpus is worked on."""

    engine: Literal["native", "ray"] = option(
        "native",
        "where the corpus is worked on: in this process, or on Ray (pip install 'topeng[ray]')",
        cost=True,
    )
    ray_address: str | None = option(
        None, "of a Ray cluster, such as `auto` or HOST:6379; null: one is started here", cost=True
    )


@dataclass(frozen=True)
class IngestOptions(EngineOptions):
    """What is read."""

    files: list[str] = option(
        list,
        "Parquet, Arrow, JSON, JSON Lines, CSV or TSV, plain or .gz or .zst: paths, globs, folders, "
        "hf://datasets/USER/NAME@COMMIT/**; none: synthetic rows",
    )
    columns: dict[str, str] = option(dict, COLUMNS_HELP)
    separator: str | None = option(None, SEPARATOR_HELP)
    right_answers: str = option("column", RIGHT_ANSWERS_HELP)
    digest: str | None = option(None, "of the source's content, as ingested/source.json has it; another is an error")
    expected_rows: dict[str, int] = option(dict, "rows of each subset in the pinned source; others are an error")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_separator(self)


@dataclass(frozen=True)
class DrawOptions(EngineOptions):
    """What is drawn of it, what leaves, and what is held out."""

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
    mask_pii: bool = option(True, "clean: mask NIK, NPWP, phone numbers and e-mail addresses")
    benchmarks: list[str] = option(list, "clean: files whose items must not be trained on; rows that hold one go")

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

    embedder: str = option("tfidf", "`tfidf` (offline), or a BERT or sentence-transformers model by name or path")
    embedder_revision: str | None = option(None, "commit of a model id, to pin it")
    embedding_tokens: int = option(
        512, "a row is cut here before it is embedded (words for tfidf)", unit="tokens", source=PAPER, ge=8
    )
    embedding_dtype: Literal["float32", "bfloat16"] = option("float32", "of a model's weights while it embeds")
    lower_case: bool | None = option(None, "lower-case before embedding; null: as the tokenizer says; tfidf does")


@dataclass(frozen=True)
class CorpusOptions(EmbedOptions, DrawOptions, IngestOptions):
    """The rows of the language to adapt to."""

    synthetic_rows: int = option(40_000, "size of the synthetic corpus", unit="rows", ge=1_000)
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


@dataclass(frozen=True)
class SourceOptions(Options):
    """Rows of the language that the base already speaks: what a model may forget."""

    files: list[str] = option(list, "as corpus.files; none: synthetic rows")
    columns: dict[str, str] = option(dict, "as corpus.columns")
    separator: str | None = option(None, "as corpus.separator")
    right_answers: str = option("column", "as corpus.right_answers")
    synthetic_rows: int = option(12_000, "size of the synthetic source-language corpus", unit="rows", ge=500)
    held_out: str | None = option(None, "JSON whose `rows` are the ordinals that the base was not trained on")
    test_rows: int = option(200, "rows on which forgetting is measured", unit="rows", ge=1)
    plain_files: list[str] = option(
        list, "files of plain text in the target language (column `text`) to pretrain a tiny base on; none: made up"
    )
    plain_rows: int = option(0, "plain texts that a tiny base is pretrained on beside the source rows", ge=0)

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


def ingesting(corpus: CorpusOptions, seed: int) -> Ingesting:
    """Of a corpus that is made up where no files are named."""
    made = None if corpus.files else Made(corpus.synthetic_rows, seed)
    return Ingesting(narrow(corpus, IngestOptions), made)
