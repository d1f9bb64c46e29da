"""What reading takes: rows a second of each format, and the memory of long rows.

Each part runs in a fresh process, so that its peak memory is its own; prints a line each and writes
`benchmarks/readers.json`. `--gigabytes 1` takes 5 GB of disk.

    python benchmarks/readers.py [--gigabytes 0.1] [--folder /tmp/topeng-readers] [--only jsonl csv parquet]
"""

import argparse
import csv
import json
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from machine import in_a_process, machine
from rich.console import Console

from topeng.corpus import stages
from topeng.corpus.settings import CorpusOptions, Seeded, ingesting

KINDS = ("parquet", "csv", "jsonl")
SHORTEST, LONGEST = 1_000, 4_000_000


def write(folder: Path, gigabytes: float) -> dict[str, Any]:
    """The same rows in each format; their sizes are spread evenly on a logarithmic scale."""
    generator = np.random.default_rng(0)
    words = np.array(
        ["".join(generator.choice(list("abdegiklmnoprstuy"), length)) for length in range(2, 12) for _ in range(2_000)]
    )
    left, count = gigabytes * 1e9, 0
    with (
        (folder / "rows.csv").open("w", newline="", encoding="utf-8") as table,
        (folder / "rows.jsonl").open("w", encoding="utf-8") as lines,
    ):
        writer = csv.DictWriter(table, ["input", "output"])
        writer.writeheader()
        schema = pa.schema([("input", pa.string()), ("output", pa.string())])
        with pq.ParquetWriter(folder / "rows.parquet", schema) as parquet:
            while left > 0:
                size = int(np.exp(generator.uniform(np.log(SHORTEST), np.log(LONGEST))))
                row = {"input": f"Apa isi naskah {count}?", "output": " ".join(generator.choice(words, size // 8))}
                writer.writerow(row)
                lines.write(json.dumps(row) + "\n")
                parquet.write_table(pa.Table.from_pylist([row], schema))
                left, count = left - len(row["output"]), count + 1
    return {"rows": count, "bytes": {kind: (folder / f"rows.{kind}").stat().st_size for kind in KINDS}}


def read(folder: Path, kind: str) -> dict[str, Any]:
    """Ingest, then the draw."""
    out = folder / kind
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    options = CorpusOptions(
        files=[str(folder / f"rows.{kind}")], subsets=[], languages=[], test_rows=10, validation_rows=5, train_rows=10
    )
    started = time.perf_counter()
    stages.ingest_corpus(ingesting(options, 42), out, Console(quiet=True))
    facts: dict[str, Any] = {"seconds": round(time.perf_counter() - started, 1), "gigabytes": _peak()}
    stages.draw_corpus(Seeded(options, 42), out, out, Console(quiet=True))
    shutil.rmtree(out)
    return facts | {"gigabytes with the draw": _peak()}


def _peak() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=0.1)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/topeng-readers"))
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--part", choices=("write", *KINDS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.part:
        write_or_read = (
            write(options.folder, options.gigabytes) if options.part == "write" else read(options.folder, options.part)
        )
        print(json.dumps(write_or_read))
        return
    report = {"machine": machine()}
    for name in ("write", *options.only):
        given = ("--gigabytes", str(options.gigabytes), "--folder", str(options.folder))
        report[name] = in_a_process(__file__, name, *given)
        print(f"{name:<10}{json.dumps(report[name])}", flush=True)
    path = Path(__file__).parent / "readers.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
