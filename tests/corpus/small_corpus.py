"""A corpus of 8,000 made-up rows with what makes real ones hard: copies, templates, other languages."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from topeng.corpus import stages
from topeng.corpus.schema import DRAWN, EMBEDDED, INGESTED
from topeng.corpus.select import select_corpus
from topeng.corpus.settings import CorpusOptions, Embedding, Seeded, ingesting

QUIET = Console(quiet=True)
OPTIONS = CorpusOptions(
    synthetic_rows=8000,
    sample_fraction=0.36,
    test_rows=60,
    validation_rows=30,
    clusters=5,
    train_rows=400,
    umap_rows=200,
)
SIDES = ("train", "test", "validation")
BEFORE_SELECT = [INGESTED, DRAWN, EMBEDDED]


def make(
    options: CorpusOptions, folder: Path, seed: int = 42, given: Path | None = None, kept: Sequence[Path] = ()
) -> Path:
    """Does the stages of a corpus, but for those of which another corpus has the outputs.

    Args:
        given: the folder of the other corpus.
        kept: what is taken from it, of `BEFORE_SELECT`: what the options that differ do not change.
    """
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for name in kept:
        (folder / name).symlink_to(given / name)
    if INGESTED not in kept:
        stages.ingest_corpus(ingesting(options, seed), folder, QUIET)
    if DRAWN not in kept:
        stages.draw_corpus(Seeded(options, seed), folder, folder, QUIET)
    if EMBEDDED not in kept:
        stages.embed_corpus(Embedding(options, seed), folder, folder, QUIET)
    select_corpus(Seeded(options, seed), folder, folder, QUIET)
    return folder
