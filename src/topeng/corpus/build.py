"""The corpus stage: from millions of rows to those that are trained, validated and tested on.

    files -> ingest -> reserve test and validation -> sample -> drop their groups -> embed -> cluster -> select

Each row that leaves is counted with its reason, in `funnel.json`.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from daft import col
from rich.console import Console

from topeng.corpus import cluster, sample, synthetic
from topeng.corpus.embed import embed
from topeng.corpus.ingest import ingest
from topeng.corpus.schema import ROW_ID
from topeng.corpus.source_text import group_rows
from topeng.corpus.split import reserve
from topeng.errors import CorpusError
from topeng.recipe import CorpusOptions, SourceOptions
from topeng.run import write_atomically

CANDIDATES = 4
"""Rows looked at for each row that is reserved: some share a group."""

Log = Callable[[str], None]


def build_corpus(options: CorpusOptions, seed: int, work: Path, console: Console) -> None:
    """Writes `corpus/` in `work`: train, validation and test rows, funnel, clusters, UMAP coordinates.

    Raises:
        CorpusError: the source cannot be read, or a count cannot be met.
    """
    out = work / "corpus"
    out.mkdir(exist_ok=True)
    funnel = Funnel(console)
    rows_file = work / "rows.parquet"
    with console.status("reading the corpus"):
        files = options.files or [_synthetic(work / "synthetic.parquet", synthetic.write_target, options, seed)]
        read, dropped = ingest(files, rows_file, options.subsets)
    _check_expected(options.expected_rows, read)
    funnel.start(read.total(), dropped)

    with console.status("drawing rows and grouping them by source text"):
        drawn, candidates = _draw(options, seed, rows_file)
        funnel.step("sample", {"not drawn": funnel.rows - len(drawn)})
        table = _take(rows_file, np.union1d(drawn, candidates))
        held_out, pool = _split(options, seed, table, drawn, candidates, sample.sizes_of(_strata(rows_file)))
        funnel.step("split", {"held out, or like a held-out row": funnel.rows - pool.num_rows})

    with console.status("embedding and clustering"):
        texts = [f"{i}\n{o}" for i, o in zip(pool["input"].to_pylist(), pool["output"].to_pylist(), strict=True)]
        vectors = embed(texts, options.embedder, options.embedding_tokens, options.lower_case, seed)
        labels = cluster.cluster(vectors, options.clusters, seed)
        quotas, shares = cluster.quotas(labels, options.clusters, options.train_rows)
        selected = _select(pool, labels, shares, seed)
        funnel.step("select", {"over its cluster's quota": funnel.rows - len(selected)})

    with console.status("drawing the UMAP plane"):
        _write_plane(out / "umap.parquet", pool, vectors, labels, selected, options.umap_rows, seed)
    words = cluster.telling_words(texts, labels, options.clusters)
    write_atomically(out / "clusters.json", json.dumps(_describe(pool, labels, quotas, shares, words), indent=1))
    train = pool.take(selected).append_column("cluster", pa.array(labels[selected]))
    pq.write_table(train, out / "train.parquet")
    for name, held in held_out.items():
        pq.write_table(held, out / f"{name}.parquet")
    write_atomically(out / "funnel.json", json.dumps(funnel.as_dict(), indent=1))


def build_source(options: SourceOptions, seed: int, work: Path, console: Console) -> None:
    """Writes `source/` in `work`: source-language rows to train a tiny base on, and rows to measure forgetting on.

    Raises:
        CorpusError: the source cannot be read, or holds too few rows.
    """
    out = work / "source"
    out.mkdir(exist_ok=True)
    funnel = Funnel(console)
    with console.status("reading the source language's rows"):
        files = options.files or [_synthetic(work / "synthetic.parquet", synthetic.write_source, options, seed)]
        read, dropped = ingest(files, work / "rows.parquet")
        funnel.start(read.total(), dropped)
        table = pq.read_table(work / "rows.parquet")
        if options.held_out:
            candidates, groups = _held_out_rows(options.held_out, table), np.arange(table.num_rows)
        else:
            candidates, groups = np.arange(table.num_rows), _groups(table)
        keys = sample.rank_keys(table[ROW_ID].to_numpy()[candidates], seed)
        strata = np.full(len(candidates), "source")
        (chosen,) = reserve(groups[candidates], strata, keys, [options.test_rows], {"source": len(candidates)})
        test = candidates[chosen]
        held = np.isin(groups, groups[candidates if options.held_out else test])
    funnel.step("split", {"held out, or like a held-out row": int(held.sum())})
    pq.write_table(table.take(test), out / "test.parquet")
    pq.write_table(table.filter(~held), out / "train.parquet")
    write_atomically(out / "funnel.json", json.dumps(funnel.as_dict(), indent=1))


class Funnel:
    """Counts rows from the source to the selection, each that leaves with its reason."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: list[dict[str, Any]] = []

    @property
    def rows(self) -> int:
        return self._steps[-1]["rows"]

    def start(self, rows: int, dropped: Mapping[str, int]) -> None:
        self._steps.append({"stage": "source", "rows": rows, "dropped": {}})
        self.step("ingest", dropped)

    def step(self, stage: str, dropped: Mapping[str, int]) -> None:
        dropped = {reason: int(count) for reason, count in dropped.items() if count}
        rows = self.rows - sum(dropped.values())
        self._steps.append({"stage": stage, "rows": rows, "dropped": dropped})
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        self._console.print(
            f"  {stage:<7}{rows:>12,} rows" + (f"   dropped: {reasons}" if reasons else ""), highlight=False
        )

    def as_dict(self) -> dict[str, Any]:
        total = self._steps[0]["rows"]
        return {"source_rows": total, "kept_rows": self.rows, "kept_share": self.rows / total, "steps": self._steps}


def _synthetic(path: Path, write: Callable[[Path, int, int], None], options: Any, seed: int) -> str:
    write(path, options.synthetic_rows, seed)
    return str(path)


def _check_expected(expected: Mapping[str, int], read: Counter[str]) -> None:
    for subset, rows in expected.items():
        if read[subset] != rows:
            raise CorpusError(
                f"corpus.expected_rows says {rows:,} rows of {subset}, and the source holds {read[subset]:,}: "
                "it is another revision; pin the right one, or change the expectation"
            )


def _strata(rows_file: Path) -> np.ndarray:
    return pq.read_table(rows_file, columns=["subset_name"])["subset_name"].to_numpy(zero_copy_only=False)


def _draw(options: CorpusOptions, seed: int, rows_file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the rows drawn, and of the candidates to hold out, which come first in another order."""
    row_ids, subsets, keys = sample.read_strata(rows_file, "subset_name", seed + 1)
    wanted = min(CANDIDATES * (options.test_rows + options.validation_rows), len(row_ids))
    candidates = sample.draw(row_ids, subsets, keys, sample.allocate(sample.sizes_of(subsets), wanted))
    row_ids, templates, keys = sample.read_strata(rows_file, "template_name", seed)
    counts = sample.allocate(sample.sizes_of(templates), options.drawn(len(row_ids)))
    drawn = sample.draw(row_ids, templates, keys, counts)
    return drawn, candidates


def _take(rows_file: Path, row_ids: np.ndarray) -> pa.Table:
    wanted = daft.from_arrow(pa.table({ROW_ID: row_ids}))
    return daft.read_parquet(str(rows_file)).join(wanted, on=ROW_ID, how="inner").sort(col(ROW_ID)).to_arrow()


def _groups(table: pa.Table) -> np.ndarray:
    return group_rows(*(table[name].to_pylist() for name in ("template_name", "input", "output")))


def _split(
    options: CorpusOptions, seed: int, table: pa.Table, drawn: np.ndarray, candidates: np.ndarray, sizes: dict[str, int]
) -> tuple[dict[str, pa.Table], pa.Table]:
    """Held-out tables by name, and the drawn rows that share no group with them."""
    row_ids, groups = table[ROW_ID].to_numpy(), _groups(table)
    among = np.flatnonzero(np.isin(row_ids, candidates))
    subsets = table["subset_name"].to_numpy(zero_copy_only=False)
    keys = sample.rank_keys(row_ids, seed + 1)
    counts = [options.test_rows, options.validation_rows]
    test, validation = (among[chosen] for chosen in reserve(groups[among], subsets[among], keys[among], counts, sizes))
    held = np.isin(groups, groups[np.concatenate([test, validation])])
    pool = table.filter(np.isin(row_ids, drawn) & ~held)
    return {"test": table.take(test), "validation": table.take(validation)}, pool


def _select(pool: pa.Table, labels: np.ndarray, shares: Mapping[str, int], seed: int) -> np.ndarray:
    """Indices of the rows taken from each cluster, lowest rank keys first."""
    keys = sample.rank_keys(pool[ROW_ID].to_numpy(), seed)
    return sample.draw(np.arange(len(labels)), labels.astype(str), keys, shares)


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
