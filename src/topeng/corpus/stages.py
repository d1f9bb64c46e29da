"""The corpus stages, from millions of rows to training, validation and test rows. The last one is in `select`.

    ingest ──> draw ──> embed ──> select
    clean:  hold out test and validation rows, draw, filter, refill ──> embed ──> cluster, take quotas
    paper:  draw ──> embed ──> cluster, take quotas, then hold out rows of the rest

`funnel.json` counts the dropped rows by reason. `decisions.parquet` has a line for every row that was examined.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import TaskID
from rich.text import Text

from topeng.corpus import embed, sample, synthetic
from topeng.corpus.draw import Corpus
from topeng.corpus.engine import open_engine
from topeng.corpus.filters import HELD, Benchmark, as_inputs, benchmark_items, contaminated, holding
from topeng.corpus.funnel import Funnel
from topeng.corpus.groups import group_table
from topeng.corpus.ingest import Progress, ingest, take_all
from topeng.corpus.profiles import draw_clean, draw_paper
from topeng.corpus.readers import read_ordinals, read_texts, reading, resolve
from topeng.corpus.sample import Strata
from topeng.corpus.schema import DRAWN, EMBEDDED, INGESTED, ROW_ID
from topeng.corpus.settings import DrawOptions, Embedding, Ingesting, IngestOptions, Seeded, Sourcing
from topeng.corpus.source_text import NO_TEMPLATES, TemplateText
from topeng.corpus.split import reserve
from topeng.errors import CorpusError
from topeng.system.files import write_atomically
from topeng.system.progress import progress_bar


def ingest_corpus(asked: Ingesting, work: Path, console: Console) -> None:
    """Writes `corpus/ingested` in `work`: all rows of the source, numbered and hashed.

    Raises:
        CorpusError: the source cannot be read, or is not the one that the recipe names by digest or rows.
    """
    options, made = asked.corpus, asked.made
    files = [_synthetic(work, synthetic.write_target, made.rows, made.seed)] if made else options.files
    for name in options.files:
        if "://" in name and "@" not in name and not options.digest:
            console.print(
                f"  {name} is not pinned. Name a commit (…@COMMIT/**), or set corpus.digest.",
                style="yellow",
                soft_wrap=True,
            )
    with open_engine(options, work) as engine, _progress(console) as progress:
        source = ingest(files, work / INGESTED, progress, engine, reading(options, "corpus"))
    _tell(source, console)
    _check_source(options, source)


def draw_corpus(asked: Seeded[DrawOptions], run: Path, work: Path, console: Console) -> None:
    """Writes `corpus/drawn` in `work`: the pool of possible training rows and, for `clean`, the held-out rows.

    Raises:
        CorpusError: a subset does not occur, or a count cannot be met.
    """
    options, out = asked.options, work / DRAWN
    out.mkdir(parents=True, exist_ok=True)
    source = json.loads((run / INGESTED / "source.json").read_text(encoding="utf-8"))
    _check_subsets(options, source)
    funnel = Funnel(console)
    funnel.start(source["rows"])
    funnel.count(source["dropped"])
    funnel.close("ingest")
    for name in options.benchmarks:
        benchmark_items(name)  # so that a bad file fails now rather than minutes later
    with open_engine(options, work) as engine, _progress(console) as progress:
        progress("grouping rows by source text", 0, None)
        corpus = Corpus.read(run / INGESTED, options.subsets, asked.seed, engine)
        funnel.count({"subset not asked for": funnel.rows - len(corpus.row_ids)})
        funnel.close("subsets")
        draw = draw_clean if options.profile == "clean" else draw_paper
        drawn = draw(corpus, options, funnel, progress)
    for name, table in drawn.tables.items():
        pq.write_table(table, out / f"{name}.parquet")
    write_atomically(out / "draw.json", json.dumps(drawn.facts | {"subsets": corpus.upsampling()}, indent=1))
    funnel.save(out)


def embed_corpus(asked: Embedding, run: Path, work: Path, console: Console) -> None:
    """Writes `corpus/embedded` in `work`: a vector for each row of the pool, and the embedder that made them.

    Raises:
        ModelError: the embedder cannot be loaded.
    """
    options, out = asked.options, work / EMBEDDED
    out.mkdir(parents=True, exist_ok=True)
    pool = pq.read_table(run / DRAWN / "pool.parquet", columns=["content_hash", "input", "output"])
    order = pc.sort_indices(pool["content_hash"]).to_numpy()  # so that sums do not depend on the order of the source
    with open_engine(options, work) as engine, _progress(console) as progress:

        def tell(shards: int) -> None:
            progress("embedding", min(shards * embed.SHARD_ROWS, len(order)), len(order))

        rows = embed.shards(pool, order)
        found = embed.embed(rows, options, asked.seed, work / "shards", engine, tell, asked.device)
    vectors = np.empty_like(found)
    vectors[order] = found
    digest = (
        None if options.embedder == "tfidf" else embed.encoder_digest(*embed.encoder_settings(options, asked.device))
    )
    embed.load_encoder.cache_clear()
    np.save(out / "vectors.npy", vectors)
    write_atomically(out / "embedder.json", json.dumps({"embedder": options.embedder, "digest": digest}, indent=1))


def build_source(asked: Sourcing, work: Path, console: Console) -> None:
    """Writes `source/` in `work`: rows and plain texts for training a tiny base, and rows for measuring forgetting.

    Raises:
        CorpusError: the source cannot be read, or has too few rows.
    """
    options, seed, out = asked.options, asked.seed, work / "source"
    out.mkdir(exist_ok=True)
    funnel = Funnel(console)
    files = options.files or [_synthetic(work, synthetic.write_source, options.synthetic_rows, seed)]
    with _progress(console) as progress:
        source = ingest(files, work / "ingested", progress, reading=reading(options, "source"))
    _tell(source, console)
    funnel.start(source["rows"])
    funnel.count(source["dropped"])
    funnel.close("ingest")
    table = take_all(work / "ingested")
    if options.held_out:
        ordinals = read_ordinals(options.held_out)
        candidates, groups = np.flatnonzero(np.isin(table[ROW_ID].to_numpy(), ordinals)), np.arange(table.num_rows)
    else:
        candidates, groups = np.arange(table.num_rows), group_table(table)
    keys = sample.rank_keys(table[ROW_ID].to_numpy()[candidates], seed)
    strata = Strata(["source"], np.zeros(len(candidates), np.int32))
    (chosen,) = reserve(groups[candidates], strata, keys, [options.test_rows], {"source": len(candidates)})
    test = candidates[chosen]
    held = np.isin(groups, groups[candidates if options.held_out else test])
    funnel.count({"held out, or like a held-out row": int(held.sum())})
    funnel.close("split")
    train = table.filter(~held)
    benchmarks = [Benchmark.read(name) for name in asked.benchmarks]
    if benchmarks:
        template_text = TemplateText.load(work / "ingested" / "templates.parquet")
        gone = holding(contaminated(train, template_text, benchmarks), train.num_rows)
        funnel.count({HELD: int(gone.sum())})
        funnel.close("filter")
        train = train.filter(~gone)
    plain, dropped = _plain_texts(asked, benchmarks, work, console)
    pq.write_table(table.take(test), out / "test.parquet")
    pq.write_table(train, out / "train.parquet")
    pq.write_table(plain, out / "plain.parquet")
    funnel.save(out, plain_texts={"rows": plain.num_rows, "dropped": dropped})


def _plain_texts(
    asked: Sourcing, benchmarks: Sequence[Benchmark], work: Path, console: Console
) -> tuple[pa.Table, dict[str, int]]:
    """`source.plain_rows` texts from `source.plain_files`, or synthetic ones, and the numbers of dropped texts.

    Raises:
        CorpusError: a file cannot be read or has no column `text`, or there are too few texts.
    """
    options, rows = asked.options, asked.options.plain_rows
    if not rows:
        return synthetic.PLAIN_SCHEMA.empty_table(), {}
    files = options.plain_files or [_synthetic(work, synthetic.write_plain, rows, asked.seed)]
    found = [text for name in resolve(files, "source.plain_files") for text in read_texts(name)]
    order = np.argsort(sample.rank_keys(np.arange(len(found)), asked.seed), kind="stable")
    kept, dropped = _first_clean(found, order, rows, benchmarks)
    if dropped:
        console.print(f"  dropped: {dropped:,} of the plain texts ({HELD})", style="yellow", highlight=False)
    if options.plain_files and len(kept) < rows:
        without = " without a benchmark's text" if dropped else ""
        raise CorpusError(
            f"source.plain_rows = {rows:,}, but source.plain_files have {len(kept):,}{without}. Lower it."
        )
    texts = pa.table([found], schema=synthetic.PLAIN_SCHEMA).take(np.sort(kept))
    return texts, {HELD: dropped} if dropped else {}


def _first_clean(
    texts: Sequence[str], order: np.ndarray, rows: int, benchmarks: Sequence[Benchmark]
) -> tuple[np.ndarray, int]:
    """Places of the first `rows` texts, in this order, without a benchmark item, and the number of skipped texts."""
    if not benchmarks:
        return order[:rows], 0
    kept, looked = order[:0], 0
    while len(kept) < rows and looked < len(order):
        now = order[looked : looked + rows - len(kept)]
        looked += len(now)
        table = as_inputs("text", [texts[place] for place in now])
        held = holding(contaminated(table, NO_TEMPLATES, benchmarks), len(now))
        kept = np.append(kept, now[~held])
    return kept, looked - len(kept)


def _synthetic(work: Path, write: Callable[[Path, int, int], None], rows: int, seed: int) -> str:
    path = work / "synthetic.parquet"
    write(path, rows, seed)
    return str(path)


def _tell(source: Mapping[str, Any], console: Console) -> None:
    """Prints how the files were read, one line for those alike, and the first dropped row of each kind."""
    alike = Counter(
        (file["format"], file["convention"], ", ".join(file["columns"].values()), ", ".join(file["not_read"]))
        for file in source["files"]
    )
    for (format, convention, columns, unread), count in alike.items():
        text = f"  {count:,} file{'s' * (count > 1)} of {format}: {convention}"
        text += f" ({columns})" if columns not in convention else ""
        console.print(Text(text + (f"; not read: {unread}" if unread else "")), soft_wrap=True)
    for reason, count in source["dropped"].items():
        where = source["first_dropped"][reason]
        console.print(Text(f"  dropped: {count:,} {reason}, first in {where}"), style="yellow", soft_wrap=True)


def _check_source(options: IngestOptions, source: Mapping[str, Any]) -> None:
    for subset, rows in options.expected_rows.items():
        found = source["subsets"].get(subset, 0)
        if found != rows:
            raise CorpusError(
                f"corpus.expected_rows says {rows:,} rows of {subset}, but the source contains {found:,}. "
                "This is another revision. Pin the right one, or change corpus.expected_rows."
            )
    if options.digest and options.digest != source["digest"]:
        raise CorpusError(
            f"corpus.digest is {options.digest}, but the digest of the source is {source['digest']}. This is another "
            "revision. Pin the right one, or change corpus.digest."
        )


def _check_subsets(options: DrawOptions, source: Mapping[str, Any]) -> None:
    missing = sorted(set(options.subsets) - set(source["subsets"]))
    if missing:
        raise CorpusError(
            f"corpus.subsets names {', '.join(missing)}, which the source does not contain. Its subsets are "
            f"{', '.join(sorted(source['subsets']))}."
        )


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """Shows one progress line for the current work, with a total if it is known."""
    with progress_bar(console) as bar:
        tasks: dict[str, TaskID] = {}

        def show(label: str, done: int, total: int | None) -> None:
            if label not in tasks:
                for other in tasks.values():
                    bar.remove_task(other)
                tasks.clear()
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done)

        yield show
