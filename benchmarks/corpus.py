"""The corpus stages on synthetic Cendol, and what a split by rows leaks on real rows.

Each part runs in a fresh process, so that its peak memory is its own; prints a line each and writes
`benchmarks/corpus.json`. `--scale 1` is the whole of 12,810,390 rows, and takes some 10 minutes and 6 GB of disk.

    python benchmarks/corpus.py [--scale 0.02] [--folder /tmp/topeng-cendol] [--only ingest draw leaks]
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cendol import write_cendol
from machine import in_a_process, machine
from rich.console import Console

from topeng.corpus import filters, groups, language, pii, sample, stages
from topeng.corpus.draw import Corpus
from topeng.corpus.ingest import take_rows
from topeng.corpus.overlap import overlap
from topeng.corpus.schema import DRAWN, INGESTED
from topeng.corpus.select import select_corpus
from topeng.corpus.settings import CENDOL_INDONESIAN, CorpusOptions, Embedding, Seeded, ingesting

SEED = 42
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "indonesian.parquet"
REAL_SUBSETS = "identity_prompt safety_prompt smsa facqa berita nusax_mt_eng_ind"
TRANSLATED = "bew btk jav mad mak min sun"
Facts = dict[str, Any]


def write(folder: Path, scale: float) -> Facts:
    """Synthetic Cendol, in row groups of 1,000."""
    return {"rows": sum(write_cendol(folder / "cendol", scale).values())}


def ingest(folder: Path, scale: float) -> Facts:
    """The whole source: rows numbered and rewritten, source text hashed."""
    shutil.rmtree(folder / "corpus", ignore_errors=True)
    stages.ingest_corpus(ingesting(_options(folder), SEED), folder, Console(quiet=True))
    source = json.loads((folder / INGESTED / "source.json").read_text(encoding="utf-8"))
    return {"rows": source["rows"], "digest": source["digest"]}


def sample_after_ingest(folder: Path, scale: float) -> Facts:
    """Filter six subsets, count, rank, draw 3 % and read the rows."""
    row_ids, (strata,), keys = sample.read_strata(
        folder / INGESTED / "rows", ["template_name"], SEED, CENDOL_INDONESIAN
    )
    counts = sample.allocate(strata.sizes(), round(0.03 * len(row_ids)))
    table = take_rows(folder / INGESTED, "rows", sample.draw(row_ids, strata, keys, counts))
    return {"rows": table.num_rows, "digest": _digest(table)}


def deduplicate(folder: Path, scale: float) -> Facts:
    """Exact duplicates of the whole corpus, then near ones among the 3 %; near groups and the other filters beside."""
    corpus = Corpus.read(folder / INGESTED, CENDOL_INDONESIAN, SEED)
    seconds, started = {}, time.perf_counter()
    distinct = corpus.distinct()
    seconds["exact duplicates of all rows"] = time.perf_counter() - started
    wanted = sample.allocate(corpus.templates.sizes(), round(0.03 * len(corpus.row_ids)))
    table = corpus.texts(corpus.draw(wanted))
    keys = corpus.keys[0][corpus.places(table["row_id"].to_numpy())]
    steps = {
        "near duplicates of the rows drawn": lambda: filters.near_duplicates(table, corpus.template_text, keys, 0.8),
        "near groups of the rows drawn": lambda: groups.near_groups(
            table, corpus.template_text, corpus.common, table["group"].to_numpy(), 0.5
        ),
        "languages": lambda: language.identify_rows(
            table["input"].to_pylist(), table["output"].to_pylist(), ["id", "ms"]
        ),
        "personal data": lambda: [pii.mask(table[name].to_pylist()) for name in ("input", "output")],
    }
    found = {}
    for name, step in steps.items():
        started = time.perf_counter()
        found[name] = step()
        seconds[name] = time.perf_counter() - started
    return {
        "rows": table.num_rows,
        "copies": int((~distinct).sum()),
        "near_duplicates": int((found["near duplicates of the rows drawn"] >= 0).sum()),
        "steps": {name: round(value, 1) for name, value in seconds.items()},
    }


def draw(folder: Path, scale: float) -> Facts:
    """The profile `clean` after ingest: hold out, draw an oversample, filter, refill."""
    stages.draw_corpus(Seeded(_options(folder, scale), SEED), folder, folder, Console(quiet=True))
    return {"rows": pq.read_metadata(folder / DRAWN / "pool.parquet").num_rows}


def select(folder: Path, scale: float) -> Facts:
    """Embed, cluster, take quotas, draw the plane, measure the overlap that is left."""
    stages.embed_corpus(Embedding(_options(folder, scale), SEED), folder, folder, Console(quiet=True))
    select_corpus(Seeded(_options(folder, scale), SEED), folder, folder, Console(quiet=True))
    facts = json.loads((folder / "corpus" / "overlap.json").read_text(encoding="utf-8"))
    return {"rows": pq.read_metadata(folder / "corpus" / "train.parquet").num_rows, "overlap": facts["mean_share"]}


def shards(folder: Path, scale: float) -> Facts:
    """The digest of the rows selected over three shardings of one source, each on one thread and on two."""
    small = folder / "small"
    write_cendol(small, min(scale, 0.005))
    whole = pa.concat_tables([pq.read_table(path) for path in sorted(small.glob("*.parquet"))])
    digests = {}
    for count, group in ((1, 20_000), (7, 1_000), (24, 333)):
        source = folder / f"shards-{count}"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        bounds = np.linspace(0, whole.num_rows, count + 1).astype(int)
        for number, (start, stop) in enumerate(pairwise(bounds)):
            pq.write_table(whole.slice(start, stop - start), source / f"{number:03}.parquet", row_group_size=group)
        for threads in (1, 2):
            program = f"import corpus; corpus.select_shards({str(source)!r}, {threads})"
            command = [sys.executable, "-c", program]
            out = subprocess.run(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True)
            digests[f"{count} shards, {threads} threads"] = out.stdout.strip()
    assert len(set(digests.values())) == 1, digests
    return {"rows": whole.num_rows, "digests": digests}


def select_shards(source: str, threads: int) -> None:
    """Prints the digest of what is selected from a folder of shards."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    folder = Path(source) / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    options = CorpusOptions(files=[f"{source}/*.parquet"], test_rows=100, train_rows=800, umap_rows=50)
    stages.ingest_corpus(ingesting(options, SEED), folder, Console(quiet=True))
    stages.draw_corpus(Seeded(options, SEED), folder, folder, Console(quiet=True))
    stages.embed_corpus(Embedding(options, SEED), folder, folder, Console(quiet=True))
    select_corpus(Seeded(options, SEED), folder, folder, Console(quiet=True))
    print(_digest(pq.read_table(folder / "corpus" / "train.parquet")))


def ray(folder: Path, scale: float) -> Facts:
    """The rows selected natively, on Ray, and while a worker and then a node is killed."""
    import on_ray

    rows = sum(write_cendol(folder / "on-ray" / "cendol", min(scale, 0.05)).values())
    options = replace(_options(folder / "on-ray", min(scale, 0.05)), umap_rows=50)
    runs = on_ray.compare(
        options, folder / "on-ray", lambda out: _digest(pq.read_table(out / "corpus" / "train.parquet"))
    )
    return {"rows": rows, "runs": runs}


def leaks(folder: Path, scale: float) -> Facts:
    """Real rows: a split by rows, the usual way, and ours; what of test stands in train."""
    if not REAL.exists():
        return {"skipped": f"{REAL} is not there"}
    subsets = [*REAL_SUBSETS.split(), *(f"nusa_kalimat_{code}_ind" for code in TRANSLATED.split())]
    options = CorpusOptions(files=[str(REAL)], subsets=subsets, sample_fraction=0.5, train_rows=10_000, umap_rows=50)
    out = folder / "real"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    stages.ingest_corpus(ingesting(options, SEED), out, Console(quiet=True))
    stages.draw_corpus(Seeded(options, SEED), out, out, Console(quiet=True))
    stages.embed_corpus(Embedding(options, SEED), out, out, Console(quiet=True))
    select_corpus(Seeded(options, SEED), out, out, Console(quiet=True))
    corpus = Corpus.read(out / INGESTED, subsets, SEED)
    order = np.random.default_rng(SEED).permutation(corpus.row_ids)
    splits = {
        "by rows": (order[: options.test_rows], order[options.test_rows :][: options.train_rows]),
        "ours": tuple(
            pq.read_table(out / "corpus" / f"{name}.parquet")["row_id"].to_numpy() for name in ("test", "train")
        ),
    }
    return {
        "rows": len(corpus.row_ids),
        **{name: _leaks(corpus, corpus.texts(test), corpus.texts(train)) for name, (test, train) in splits.items()},
    }


def _leaks(corpus: Corpus, test: pa.Table, train: pa.Table) -> Facts:
    """Of the test rows, the share whose content, exact group and near group stand in train; and 8-gram overlap."""
    table, count = pa.concat_tables([test, train]), test.num_rows
    exact = table["group"].to_numpy()
    near, _ = groups.near_groups(table, corpus.template_text, corpus.common, exact, 0.5)
    content = np.array([value.hex() for value in table["content_hash"].to_pylist()])
    found = overlap(test, train, corpus.template_text)
    shares = {"content": content, "exact group": exact, "near group": near}
    return {
        **{name: round(float(np.isin(labels[:count], labels[count:]).mean()), 4) for name, labels in shares.items()},
        "mean share of 8-grams": round(found["mean_share"], 4),
        "test rows with half of their 8-grams in train": sum(
            entry["rows"] for entry in found["rows_by_share"] if (entry["above"] or 0) >= 0.5
        ),
        "most alike": [
            f"{pair['share']:.2f} {pair['test']['template_name']}: {pair['test']['input'][:160]!r} | "
            f"{pair['train']['template_name']}: {pair['train']['input'][:160]!r}"
            for pair in found["most_alike"][:5]
        ],
    }


def _options(folder: Path, scale: float = 1.0) -> CorpusOptions:
    rows = max(50, round(10_000 * min(1.0, scale * 5)))
    return CorpusOptions(files=[str(folder / "cendol" / "*.parquet")], train_rows=rows)


def _digest(table: pa.Table) -> str:
    texts = ("\0".join(table[name].to_pylist()) for name in ("template_name", "input", "output"))
    return hashlib.sha256("\1".join(texts).encode()).hexdigest()[:16]


PARTS = {
    function.__name__: function
    for function in (write, ingest, sample_after_ingest, deduplicate, draw, select, shards, ray, leaks)
}


def _measure(name: str, folder: Path, scale: float) -> Facts:
    started = time.perf_counter()
    facts = PARTS[name](folder, scale)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"seconds": round(seconds, 1), "gigabytes": round(peak, 2)} | facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=0.02)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/topeng-cendol"))
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.part:
        print(json.dumps(_measure(options.part, options.folder, options.scale)))
        return
    path = Path(__file__).parent / "corpus.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in options.only:
        facts = in_a_process(__file__, name, "--scale", str(options.scale), "--folder", str(options.folder))
        report.setdefault(f"scale {options.scale:g}", {})[name] = machine() | facts
        rate = facts.get("rows", 0) / facts["seconds"]
        print(f"{name:<20}{facts['seconds']:8.1f} s {facts['gigabytes']:6.2f} GB {rate:11,.0f} rows/s")
        for fact, value in facts.items():
            if fact not in ("seconds", "gigabytes"):
                print(f"    {fact}: {json.dumps(value, indent=1, ensure_ascii=False) if value else value}")
        path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
