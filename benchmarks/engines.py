"""One query in five engines: of 12.8 million rows keep six subsets, sample exactly 3 %, fetch the rows to Arrow.

Strata are templates, shares are by largest remainders, ranks are by a 64-bit hash of the row id. Each variant runs
in a fresh process, in turn, several rounds; medians of seconds and of peak memory (`VmHWM`, the interpreter with it)
are printed and written to `benchmarks/engines.json`. Topeng must draw the rows of the oracle, which is pyarrow with
the same hash from another library; the others have hashes of their own.

    python benchmarks/engines.py [FOLDER] [--rounds 3] [--only topeng polars]

FOLDER holds Parquet files, with a column `row_id` or without: then the id is the ordinal in the files by name.
"""

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cendol import INDONESIAN_ROWS
from machine import machine

from topeng.corpus import sample
from topeng.corpus.ingest import take_rows
from topeng.corpus.sample import Strata
from topeng.corpus.schema import ROW_ID

SUBSETS, FRACTION, SEED = list(INDONESIAN_ROWS), 0.03, 0
THREADS = 2
LIMIT = 12 << 30  # of address space for pandas, which would fill the machine


def with_topeng(files: list[str]) -> pa.Table:
    """Daft for the strata, then the row groups of the rows drawn: as `topeng corpus` does."""
    daft.set_runner_native(num_threads=THREADS)
    folder = Path(files[0]).parent
    if ROW_ID not in pq.read_schema(files[0]).names:
        ids, strata = _strata(_daft_batches(files))
        return _fetch(files, _draw(ids, strata, sample.rank_keys(ids, SEED)))
    row_ids, (strata,), keys = sample.read_strata(folder, ["template_name"], SEED, SUBSETS)
    return take_rows(folder.parent, folder.name, _draw(row_ids, strata, keys))


def _daft_batches(files: list[str]) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Of wanted rows: ordinal and template.

    Nothing may be filtered in Daft: it moves a filter below `monotonically_increasing_id`, and the ids are then those
    of what is left (0.7.26).
    """
    first = 0
    with daft.execution_config_ctx(scantask_max_parallel=1):
        for batch in daft.read_parquet(files).select("subset_name", "template_name").to_arrow_iter():
            kept = np.flatnonzero(pc.is_in(batch["subset_name"], pa.array(SUBSETS, batch["subset_name"].type)))
            yield first + kept, batch["template_name"].take(pa.array(kept))
            first += batch.num_rows


def with_pyarrow(files: list[str]) -> pa.Table:
    """The oracle: the hash is xxh3-64 of the id's eight bytes, little endian, from python-xxhash."""
    from xxhash import xxh3_64_intdigest

    ids, strata = _strata(_pyarrow_batches(files))
    keys = [xxh3_64_intdigest(row_id.tobytes(), seed=SEED) for row_id in ids.astype("<i8")]
    return _fetch(files, _draw(ids, strata, np.array(keys, np.uint64)), threads=1)


def _pyarrow_batches(files: list[str]) -> Iterator[tuple[np.ndarray, pa.Array]]:
    first = 0
    for name in files:
        for batch in pq.ParquetFile(name).iter_batches(columns=["subset_name", "template_name"]):
            kept = np.flatnonzero(pc.is_in(batch["subset_name"], pa.array(SUBSETS)))
            yield first + kept, batch["template_name"].take(pa.array(kept))
            first += batch.num_rows


def with_polars(files: list[str]) -> pa.Table:
    os.environ["POLARS_MAX_THREADS"] = str(THREADS)
    import polars as pl

    frame = pl.scan_parquet(files)
    frame = frame if ROW_ID in frame.collect_schema() else frame.with_row_index(ROW_ID)
    strata = frame.filter(pl.col("subset_name").is_in(SUBSETS)).select(
        pl.col(ROW_ID).cast(pl.Int64),
        pl.col("template_name").cast(pl.Categorical),
        pl.col(ROW_ID).hash(SEED).alias("k"),
    )
    table = strata.collect(engine="streaming")
    strata = Strata.of(table["template_name"].cast(pl.String).to_arrow().cast(pa.string()))
    chosen = _draw(table[ROW_ID].to_numpy(), strata, table["k"].to_numpy())
    drawn = pl.LazyFrame({ROW_ID: chosen}).with_columns(pl.col(ROW_ID).cast(frame.collect_schema()[ROW_ID]))
    return frame.join(drawn, on=ROW_ID, how="semi").collect(engine="streaming").to_arrow()


def with_duckdb(files: list[str]) -> pa.Table:
    import duckdb

    connection = duckdb.connect(config={"threads": THREADS, "memory_limit": "1GB", "preserve_insertion_order": False})
    has_ids = ROW_ID in pq.read_schema(files[0]).names
    source = f"read_parquet({files}, file_row_number=true)"
    ids = "row_id" if has_ids else "filename, file_row_number"
    connection.sql(f"create temp table strata as select {ids}, template_name, hash({ids}, {SEED}) as key from {source} "
                   f"where subset_name in {tuple(SUBSETS)}")  # fmt: skip
    sizes = dict(connection.sql("select template_name, count(*) from strata group by all").fetchall())
    shares = sample.allocate(sizes, round(sum(sizes.values()) * FRACTION))
    quotas = pa.table({"template_name": list(shares), "quota": list(shares.values())})
    connection.register("quotas", quotas)
    connection.sql(f"create temp table drawn as select {ids} from (select *, row_number() over "
                   "(partition by template_name order by key) as rank from strata) join quotas using (template_name) "
                   "where rank <= quota")  # fmt: skip
    return connection.sql(f"select rows.* from {source} rows semi join drawn using ({ids})").to_arrow_table()


def with_pandas(files: list[str]) -> pa.Table:
    import pandas as pd

    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    frame = pd.concat([pd.read_parquet(name, filters=[("subset_name", "in", SUBSETS)]) for name in files])
    templates = frame["template_name"].astype("category").cat
    strata, ids = Strata.of_codes(list(templates.categories), templates.codes.to_numpy()), np.arange(len(frame))
    return pa.Table.from_pandas(frame.iloc[_draw(ids, strata, pd.util.hash_array(ids))])


def _strata(batches: Iterator[tuple[np.ndarray, pa.Array]]) -> tuple[np.ndarray, Strata]:
    """Ids and strata of all batches."""
    codes: dict[str, int] = {}
    columns: list[tuple[np.ndarray, ...]] = []
    for ids, names in batches:
        coded = names.dictionary_encode()
        lookup = np.array([codes.setdefault(name, len(codes)) for name in coded.dictionary.to_pylist()], np.int32)
        columns.append((ids, lookup[coded.indices.to_numpy()]))
    ids, strata = (np.concatenate(column) for column in zip(*columns, strict=True))
    return ids, Strata.of_codes(list(codes), strata)


def _draw(ids: np.ndarray, strata: Strata, keys: np.ndarray) -> np.ndarray:
    return sample.draw(ids, strata, keys, sample.allocate(strata.sizes(), round(len(ids) * FRACTION)))


def _fetch(files: list[str], row_ids: np.ndarray, threads: int = THREADS) -> pa.Table:
    """Rows by their ordinals; each row group is read once, as many at a time as there are threads."""
    metadata = {name: pq.read_metadata(name) for name in files}
    groups = [(name, group) for name in files for group in range(metadata[name].num_row_groups)]
    ends = np.cumsum([metadata[name].row_group(group).num_rows for name, group in groups])
    starts = np.concatenate([[0], ends[:-1]])
    bounds = zip(np.searchsorted(row_ids, starts), np.searchsorted(row_ids, ends), strict=True)

    def read(job: tuple[tuple[str, int], tuple[int, int], int]) -> pa.Table:
        (name, group), (low, high), start = job
        file = pq.ParquetFile(name, metadata=metadata[name])
        return file.read_row_group(group, use_threads=False).take(pa.array(row_ids[low:high] - start))

    jobs = [job for job in zip(groups, bounds, starts.tolist(), strict=True) if job[1][0] < job[1][1]]
    with ThreadPoolExecutor(threads) as pool:
        return pa.concat_tables(pool.map(read, jobs))


ENGINES = {
    "topeng": with_topeng,
    "polars": with_polars,
    "duckdb": with_duckdb,
    "pandas": with_pandas,
    "pyarrow": with_pyarrow,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("/tmp/topeng-cendol/corpus/ingested/rows"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--run", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = sorted(str(path) for path in options.folder.glob("*.parquet"))
    if options.run:
        print(json.dumps(measure(options.run, files)))
        return
    engines = options.only
    runs: dict[str, list[dict]] = {name: [] for name in engines}
    for _ in range(options.rounds):
        for name in engines:
            runs[name].append(_child(name, options.folder))
    report = {name: summary(results) for name, results in runs.items()}
    for name, result in report.items():
        print(f"{name:<10}", "{seconds:6.1f} s {gigabytes:6.2f} GB {rows:>9,} rows".format_map(result)
              if "rows" in result else result["failed"])  # fmt: skip
    digests = {report[name]["digest"] for name in ("topeng", "pyarrow") if "digest" in report.get(name, {})}
    assert len(digests) <= 1, digests
    path = Path(__file__).parent / "engines.json"
    saved = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    metadata = [pq.read_metadata(name) for name in files]
    source = f"{sum(file.num_rows for file in metadata):,} rows in groups of {metadata[0].row_group(0).num_rows:,}"
    saved[source] = saved.get(source, {}) | machine() | report
    path.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")


def measure(engine: str, files: list[str]) -> dict[str, float | int | str]:
    started = time.perf_counter()
    table = ENGINES[engine](files)
    seconds = time.perf_counter() - started
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    texts = hashlib.sha256()
    for name in ("template_name", "input", "output"):
        texts.update("\0".join(table[name].to_pylist()).encode())
    return {
        "seconds": seconds,
        "gigabytes": int(status["VmHWM"].split()[0]) / 1e6,
        "rows": table.num_rows,
        "digest": texts.hexdigest(),
    }


def summary(results: list[dict]) -> dict:
    """Medians of what ran; the first failure where one did not."""
    failures = [result for result in results if "failed" in result]
    if failures:
        return failures[0]
    return results[0] | {key: statistics.median(result[key] for result in results) for key in ("seconds", "gigabytes")}


def _child(engine: str, folder: Path) -> dict:
    command = [sys.executable, __file__, str(folder), "--run", engine]
    child = subprocess.run(command, capture_output=True, text=True)
    lines = child.stdout.strip().splitlines() or child.stderr.strip().splitlines() or [f"killed ({child.returncode})"]
    return json.loads(lines[-1]) if child.returncode == 0 else {"failed": lines[-1][:200]}


if __name__ == "__main__":
    main()
