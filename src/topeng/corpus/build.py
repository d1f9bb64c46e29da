"""The corpus stages: from millions of rows to those that are trained, validated and tested on.

    ingest ──> draw ──> select
    clean:  hold out test and validation, draw, filter, refill  ──> embed, cluster, take quotas
    paper:  draw ──> embed, cluster, take quotas, then hold out of the rest

Each row that leaves is counted with its reason, in `funnel.json`; each that was looked at has a line in
`decisions.parquet`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import TaskID

from topeng.corpus import cluster, sample, synthetic
from topeng.corpus.card import write_card
from topeng.corpus.clean import benchmark_items
from topeng.corpus.draw import HELD_OUT, Corpus
from topeng.corpus.embed import embed
from topeng.corpus.engine import open_engine
from topeng.corpus.funnel import Funnel
from topeng.corpus.groups import group_table
from topeng.corpus.ingest import Progress, ingest, take_all
from topeng.corpus.overlap import overlap
from topeng.corpus.profiles import draw_clean, draw_paper, hold_out_of_the_rest
from topeng.corpus.sample import Strata
from topeng.corpus.schema import ROW_ID
from topeng.corpus.source_text import TemplateText
from topeng.corpus.split import reserve
from topeng.errors import CorpusError
from topeng.recipe import CorpusOptions, SourceOptions
from topeng.run import progress_bar, write_atomically

INGESTED, DRAWN = Path("corpus/ingested"), Path("corpus/drawn")


def ingest_corpus(options: CorpusOptions, seed: int, work: Path, console: Console) -> None:
    """Writes `corpus/ingested` in `work`: all rows of the source, numbered and hashed.

    Raises:
        CorpusError: the source cannot be read, or is not the one that the recipe pins.
    """
    files = options.files or [_synthetic(work / "synthetic.parquet", synthetic.write_target, options, seed)]
    for name in options.files:
        if "://" in name and "@" not in name and not options.digest:
            console.print(
                f"  {name} is not pinned: name a commit (…@COMMIT/**), or corpus.digest", style="yellow", soft_wrap=True
            )
    with open_engine(options, work) as engine, _progress(console) as progress:
        source = ingest(files, work / INGESTED, progress, engine)
    _check_source(options, source)


def draw_corpus(options: CorpusOptions, seed: int, run: Path, work: Path, console: Console) -> None:
    """Writes `corpus/drawn` in `work`: the pool that train is selected from, and for `clean` what is held out.

    Raises:
        CorpusError: a subset does not occur, or a count cannot be met.
    """
    out = work / DRAWN
    out.mkdir(parents=True, exist_ok=True)
    source = json.loads((run / INGESTED / "source.json").read_text())
    _check_subsets(options, source)
    funnel = Funnel(console)
    funnel.start(source["rows"])
    funnel.count(source["dropped"])
    funnel.close("ingest")
    for name in options.benchmarks:
        benchmark_items(name)  # fails now rather than minutes from now
    with open_engine(options, work) as engine, _progress(console) as progress:
        progress("grouping rows by source text", 0, None)
        corpus = Corpus.read(run / INGESTED, options.subsets, seed, engine)
        funnel.count({"subset not asked for": funnel.rows - len(corpus.row_ids)})
        funnel.close("subsets")
        draw = draw_clean if options.profile == "clean" else draw_paper
        drawn = draw(corpus, options, funnel, progress)
    for name, table in drawn.tables.items():
        pq.write_table(table, out / f"{name}.parquet")
    write_atomically(out / "draw.json", json.dumps(drawn.facts | {"subsets": corpus.upsampling()}, indent=1))
    funnel.save(out)


def select_corpus(options: CorpusOptions, seed: int, run: Path, work: Path, console: Console) -> None:
    """Writes `corpus/` in `work`: train, validation and test rows, and what is to be known of them.

    Raises:
        CorpusError: there are fewer rows than are to be selected.
    """
    out = work / "corpus"
    out.mkdir(exist_ok=True)
    funnel = Funnel(console)
    funnel.resume(run / DRAWN)
    pool = pq.read_table(run / DRAWN / "pool.parquet")
    with console.status("embedding and clustering"):
        texts = [f"{i}\n{o}" for i, o in zip(pool["input"].to_pylist(), pool["output"].to_pylist(), strict=True)]
        vectors = embed(texts, options.embedder, options.embedding_tokens, options.lower_case, seed)
        labels = cluster.cluster(vectors, options.clusters, seed)
        quotas, shares = cluster.quotas(labels, options.clusters, options.train_rows)
        selected = _select(pool, labels, shares, seed)
    row_ids = pool[ROW_ID].to_numpy()
    funnel.drop("select", "over its cluster's quota", np.delete(row_ids, selected))
    funnel.keep("select", "train", row_ids[selected])
    funnel.close("select")
    train = pool.take(selected).append_column("cluster", pa.array(labels[selected]))

    with console.status("comparing test and train"):
        held_out = _held_out(options, seed, run, train, funnel)
        _check_leaks(train, held_out)
        facts = overlap(held_out["test"], train, TemplateText.load(run / INGESTED / "templates.parquet"))
    with console.status("drawing the UMAP plane"):
        _write_plane(out / "umap.parquet", pool, vectors, labels, selected, options.umap_rows, seed)
    words = cluster.telling_words(texts, labels, options.clusters)
    write_atomically(out / "clusters.json", json.dumps(_describe(pool, labels, quotas, shares, words), indent=1))
    write_atomically(out / "overlap.json", json.dumps(facts, indent=1, ensure_ascii=False))
    for name, table in {"train": train, **held_out}.items():
        pq.write_table(table, out / f"{name}.parquet")
    funnel.save(out)
    write_card(options, seed, run, out)


def build_source(options: SourceOptions, seed: int, work: Path, console: Console) -> None:
    """Writes `source/` in `work`: source-language rows to train a tiny base on, and rows to measure forgetting on.

    Raises:
        CorpusError: the source cannot be read, or holds too few rows.
    """
    out = work / "source"
    out.mkdir(exist_ok=True)
    funnel = Funnel(console)
    files = options.files or [_synthetic(work / "synthetic.parquet", synthetic.write_source, options, seed)]
    with _progress(console) as progress:
        source = ingest(files, work / "ingested", progress)
    funnel.start(source["rows"])
    funnel.count(source["dropped"])
    funnel.close("ingest")
    table = take_all(work / "ingested")
    if options.held_out:
        candidates, groups = _held_out_rows(options.held_out, table), np.arange(table.num_rows)
    else:
        candidates, groups = np.arange(table.num_rows), group_table(table)
    keys = sample.rank_keys(table[ROW_ID].to_numpy()[candidates], seed)
    strata = Strata(["source"], np.zeros(len(candidates), np.int32))
    (chosen,) = reserve(groups[candidates], strata, keys, [options.test_rows], {"source": len(candidates)})
    test = candidates[chosen]
    held = np.isin(groups, groups[candidates if options.held_out else test])
    funnel.count({"held out, or like a held-out row": int(held.sum())})
    funnel.close("split")
    pq.write_table(table.take(test), out / "test.parquet")
    pq.write_table(table.filter(~held), out / "train.parquet")
    funnel.save(out)


def _synthetic(path: Path, write: Callable[[Path, int, int], None], options: Any, seed: int) -> str:
    write(path, options.synthetic_rows, seed)
    return str(path)


def _check_source(options: CorpusOptions, source: Mapping[str, Any]) -> None:
    for subset, rows in options.expected_rows.items():
        found = source["subsets"].get(subset, 0)
        if found != rows:
            raise CorpusError(
                f"corpus.expected_rows says {rows:,} rows of {subset}, and the source holds {found:,}: "
                "it is another revision; pin the right one, or change the expectation"
            )
    if options.digest and options.digest != source["digest"]:
        raise CorpusError(
            f"corpus.digest is {options.digest}, and the source's content has {source['digest']}: it is another "
            "revision; pin the right one, or change the expectation"
        )


def _check_subsets(options: CorpusOptions, source: Mapping[str, Any]) -> None:
    missing = sorted(set(options.subsets) - set(source["subsets"]))
    if missing:
        raise CorpusError(
            f"corpus.subsets names {', '.join(missing)}, which the source does not hold; it holds "
            f"{', '.join(sorted(source['subsets']))}"
        )


def _held_out(options: CorpusOptions, seed: int, run: Path, train: pa.Table, funnel: Funnel) -> dict[str, pa.Table]:
    """What the draw held out; for `paper`, what is held out now, of the rows that train left."""
    if options.profile == "clean":
        return {name: pq.read_table(run / DRAWN / f"{name}.parquet") for name in HELD_OUT}
    corpus = Corpus.read(run / INGESTED, options.subsets, seed)
    return hold_out_of_the_rest(corpus, options, train, funnel)


def _check_leaks(train: pa.Table, held_out: Mapping[str, pa.Table]) -> None:
    """No group and no content stands on two sides; that it does is our bug, not the user's."""
    sides = {"train": train, **held_out}
    for column in ("group", "content_hash"):
        seen = [set(table[column].to_pylist()) for table in sides.values()]
        assert sum(len(values) for values in seen) == len(set().union(*seen)), f"a {column} stands on two sides"


def _select(pool: pa.Table, labels: np.ndarray, shares: Mapping[str, int], seed: int) -> np.ndarray:
    """Indices of the rows taken from each cluster, lowest rank keys first."""
    keys = sample.rank_keys(pool[ROW_ID].to_numpy(), seed)
    strata = Strata.of_codes([str(number) for number in range(len(shares))], labels)
    return sample.draw(np.arange(len(labels)), strata, keys, shares)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """One line for what is being done, with the rows that are left where their number is known."""
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


def _held_out_rows(path: str, table: pa.Table) -> np.ndarray:
    try:
        rows = json.loads(Path(path).read_text())["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"source.held_out = {path} is no JSON file with a list `rows`: {error!r}") from error
    return np.flatnonzero(np.isin(table[ROW_ID].to_numpy(), rows))


def _write_plane(
    path: Path, pool: pa.Table, vectors: np.ndarray, labels: np.ndarray, selected: np.ndarray, most: int, seed: int
) -> None:
    keys = sample.rank_keys(pool[ROW_ID].to_numpy(), seed + 2)
    shown = np.sort(np.argsort(keys, kind="stable")[:most])
    x, y = cluster.plane(vectors[shown], seed).T
    columns = {"x": x, "y": y, "cluster": labels[shown], "selected": np.isin(shown, selected)}
    pq.write_table(pa.table(columns).append_column("subset_name", pool["subset_name"].take(pa.array(shown))), path)


def _describe(
    pool: pa.Table, labels: np.ndarray, quotas: Mapping[str, int], shares: Mapping[str, int], words: list[list[str]]
) -> list[dict[str, Any]]:
    subsets = pool["subset_name"].to_numpy(zero_copy_only=False)
    return [
        {
            "cluster": number,
            "rows": int((labels == number).sum()),
            "selected": shares[str(number)],
            "topped_up": max(0, shares[str(number)] - quotas[str(number)]),
            "subsets": dict(Counter(subsets[labels == number].tolist()).most_common()),
            "words": words[number],
        }
        for number in range(len(words))
    ]
