"""The last corpus stage: clusters the embedded pool, selects rows from each cluster, and describes them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from topeng.corpus import describe, sample
from topeng.corpus.card import write_card
from topeng.corpus.cluster import cluster, quotas
from topeng.corpus.diverse import take
from topeng.corpus.draw import HELD_OUT, Corpus
from topeng.corpus.engine import open_engine
from topeng.corpus.funnel import TOP_UP, Funnel
from topeng.corpus.overlap import overlap
from topeng.corpus.profiles import hold_out_of_the_rest
from topeng.corpus.schema import DRAWN, EMBEDDED, INGESTED, ROW_ID
from topeng.corpus.settings import CorpusOptions, Seeded
from topeng.corpus.source_text import TemplateText
from topeng.system.files import write_atomically

SHOWING, SELECTION = 2, 3
"""Added to the seed, because the keys of the draw (0, 1) would prefer templates of which few rows were drawn."""


def select_corpus(asked: Seeded[CorpusOptions], run: Path, work: Path, console: Console) -> None:
    """Writes `corpus/` in `work`: training, validation and test rows, and files that describe them.

    Raises:
        CorpusError: there are fewer rows than should be selected.
    """
    options, seed, out = asked.options, asked.seed, work / "corpus"
    out.mkdir(exist_ok=True)
    pool = pq.read_table(run / DRAWN / "pool.parquet")
    vectors, row_ids = np.load(run / EMBEDDED / "vectors.npy"), pool[ROW_ID].to_numpy()
    with console.status("clustering"):
        labels, centres = cluster(vectors, options.clusters, seed)
        wanted, shares = quotas(labels, options.clusters, options.train_rows)
        keys = sample.rank_keys(row_ids, seed + SELECTION)
        selected, added = take(vectors, labels, keys, wanted, shares, options.selection)
    _tell_top_ups(wanted, shares, console)
    funnel = _count(run, row_ids, selected, added, console)
    train = pool.take(pa.array(selected)).append_column("cluster", pa.array(labels[selected]))
    with console.status("comparing test and train"):
        held_out = _held_out(asked, run, work, train, funnel)
        _check_leaks(train, held_out)
        facts = overlap(held_out["test"], train, TemplateText.load(run / INGESTED / "templates.parquet"))
    with console.status("describing the clusters"):
        shown = np.sort(np.argsort(sample.rank_keys(row_ids, seed + SHOWING))[: options.umap_rows])
        plane = describe.plane(pool, vectors, labels, selected, shown, seed)
        clusters = describe.clusters(pool, vectors, labels, centres, selected, wanted, shown)
    write_atomically(out / "clusters.json", json.dumps(clusters, indent=1, ensure_ascii=False))
    write_atomically(out / "overlap.json", json.dumps(facts, indent=1, ensure_ascii=False))
    for name, table in {"train": train, **held_out, "umap": plane}.items():
        pq.write_table(table, out / f"{name}.parquet")
    funnel.save(out)
    write_card(options, seed, run, out)


def _tell_top_ups(asked: Mapping[str, int], shares: Mapping[str, int], console: Console) -> None:
    short = {name: asked[name] - share for name, share in shares.items() if share < asked[name]}
    given = {name: share - asked[name] for name, share in shares.items() if share > asked[name]}
    if short:
        console.print(
            f"  rows missing from small clusters: {_counted(short)}; taken from larger ones: {_counted(given)}",
            highlight=False,
            soft_wrap=True,
        )


def _counted(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} (cluster {name})" for name, count in rows.items())


def _count(run: Path, row_ids: np.ndarray, selected: np.ndarray, added: np.ndarray, console: Console) -> Funnel:
    """The funnel of the draw, with the rows that are dropped and kept now."""
    funnel = Funnel(console)
    funnel.resume(run / DRAWN)
    funnel.drop("select", "over its cluster's quota", np.delete(row_ids, selected))
    funnel.keep("select", "train", row_ids[np.setdiff1d(selected, added)])
    funnel.keep("select", TOP_UP, row_ids[added])
    funnel.close("select")
    return funnel


def _held_out(
    asked: Seeded[CorpusOptions], run: Path, work: Path, train: pa.Table, funnel: Funnel
) -> dict[str, pa.Table]:
    """The rows that the draw held out or, for `paper`, rows held out now, after the training rows were chosen."""
    options = asked.options
    if options.profile == "clean":
        return {name: pq.read_table(run / DRAWN / f"{name}.parquet") for name in HELD_OUT}
    with open_engine(options, work) as engine:
        corpus = Corpus.read(run / INGESTED, options.subsets, asked.seed, engine)
        return hold_out_of_the_rest(corpus, options, train, funnel)


def _check_leaks(train: pa.Table, held_out: Mapping[str, pa.Table]) -> None:
    """Asserts that no group and no content is in two splits, which would be a bug in Topeng."""
    sides = {"train": train, **held_out}
    for column in ("group", "content_hash"):
        seen = [set(table[column].to_pylist()) for table in sides.values()]
        assert sum(len(values) for values in seen) == len(set().union(*seen)), f"a {column} is in two splits"
