"""One query in five engines: of 12.8 million rows keep six subsets, sample exactly 3 %, fetch the rows to Arrow.

Strata are templates, shares are by largest remainders, ranks are by a 64-bit hash of the row id. Each variant runs
in a fresh process, in turn, several rounds; medians of seconds and of peak memory (`VmHWM`, the interpreter with it)
are printed and written to `benchmarks/engines.json`. Daft must draw the rows of the oracle, which is pyarrow with
the same hash from another library; the others have hashes of their own.

    python benchmarks/engines.py FOLDER [--rounds 3] [--only daft polars]

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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cendol import INDONESIAN_ROWS

from topeng.corpus.sample import allocate, draw
from topeng.corpus.schema import ROW_ID

SUBSETS, FRACTION, SEED = list(INDONESIAN_ROWS), 0.03, 0
THREADS = 2
LIMIT = 12 << 30  # of address space for pandas, which would fill the machine


def with_daft(files: list[str]) -> pa.Table:
    """Strata by Daft; the drawn rows by row group."""
    return _fetch(files, _draw(*_strata(_daft_batches(files))))


def with_daft_join(files: list[str]) -> pa.Table:
    """Strata by Daft, and the drawn rows by a semi join."""
    import daft

    chosen = daft.from_arrow(pa.table({ROW_ID: _draw(*_strata(_daft_batches(files)))}))
    return daft.read_parquet(files).join(chosen, on=ROW_ID, how="semi").to_arrow().sort_by(ROW_ID)


def _daft_batches(files: list[str]) -> Iterator[tuple[np.ndarray, pa.Array, np.ndarray]]:
    """Of wanted rows: id, template and rank key.

    Without a `row_id` nothing may be filtered in Daft: it moves a filter below `monotonically_increasing_id`, and
    the ids are then those of what is left (0.7.26).
    """
    import daft
    from daft import col

    daft.set_runner_native(num_threads=THREADS)
    daft.set_execution_config(scantask_max_parallel=1)
    frame = daft.read_parquet(files)
    if ROW_ID in frame.column_names:
        frame = frame.where(col("subset_name").is_in(SUBSETS))
        for batch in frame.select(ROW_ID, "template_name", col(ROW_ID).hash(seed=SEED).alias("key")).to_arrow_iter():
            yield batch[ROW_ID].to_numpy(), batch["template_name"], batch["key"].to_numpy()
        return
    first = 0
    for batch in frame.select("subset_name", "template_name").to_arrow_iter():
        kept = np.flatnonzero(pc.is_in(batch["subset_name"], pa.array(SUBSETS, batch["subset_name"].type)))
        keys = daft.Series.from_numpy(first + kept).hash(seed=daft.Series.from_numpy(np.array([SEED], np.uint64)))
        yield first + kept, batch["template_name"].take(pa.array(kept)), keys.to_arrow().to_numpy()
        first += batch.num_rows


def with_pyarrow(files: list[str]) -> pa.Table:
    """The oracle: the hash is xxh3-64 of the id's eight bytes, little endian, from python-xxhash."""
    return _fetch(files, _draw(*_strata(_pyarrow_batches(files))), threads=1)


def _pyarrow_batches(files: list[str]) -> Iterator[tuple[np.ndarray, pa.Array, np.ndarray]]:
    from xxhash import xxh3_64_intdigest

    first = 0
    for name in files:
        for batch in pq.ParquetFile(name).iter_batches(columns=["subset_name", "template_name"]):
            kept = np.flatnonzero(pc.is_in(batch["subset_name"], pa.array(SUBSETS)))
            ids = (first + kept).astype("<i8")
            keys = [xxh3_64_intdigest(row_id.tobytes(), seed=SEED) for row_id in ids]
            yield ids, batch["template_name"].take(pa.array(kept)), np.array(keys, np.uint64)
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
    codes = table["template_name"].to_physical().to_numpy()
    chosen = _draw(table[ROW_ID].to_numpy(), codes, table["k"].to_numpy())
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
    shares = allocate(sizes, round(sum(sizes.values()) * FRACTION))
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
    strata = frame["template_name"].astype("category").cat.codes.to_numpy()
    ids = np.arange(len(frame))
    return pa.Table.from_pandas(frame.iloc[_draw(ids, strata, pd.util.hash_array(ids))])


def _strata(batches: Iterator[tuple[np.ndarray, pa.Array, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids, strata and keys of all batches; strata as codes in the order of their first row, so 18 bytes a row."""
    codes: dict[str, int] = {}
    columns: list[tuple[np.ndarray, ...]] = []
    for ids, names, keys in batches:
        coded = names.dictionary_encode()
        lookup = np.array([codes.setdefault(name, len(codes)) for name in coded.dictionary.to_pylist()], np.int16)
        columns.append((ids, lookup[coded.indices.to_numpy()], keys))
    ids, strata, keys = (np.concatenate(column) for column in zip(*columns, strict=True))
    return ids, strata, keys


def _draw(ids: np.ndarray, strata: np.ndarray, keys: np.ndarray) -> np.ndarray:
    sizes = dict(enumerate(np.bincount(strata).tolist()))
    return draw(ids, strata, keys, allocate(sizes, round(len(ids) * FRACTION)))


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
    "daft": with_daft,
    "daft join": with_daft_join,
    "polars": with_polars,
    "duckdb": with_duckdb,
    "pandas": with_pandas,
    "pyarrow": with_pyarrow,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--run", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    files = sorted(str(path) for path in options.folder.glob("*.parquet"))
    if options.run:
        print(json.dumps(measure(options.run, files)))
        return
    has_ids = ROW_ID in pq.read_schema(files[0]).names
    engines = [name for name in options.only if has_ids or name != "daft join"]
    runs: dict[str, list[dict]] = {name: [] for name in engines}
    for _ in range(options.rounds):
        for name in engines:
            runs[name].append(_child(name, options.folder))
    report = {name: summary(results) for name, results in runs.items()}
    for name, result in report.items():
        print(f"{name:<10}", "{seconds:6.1f} s {gigabytes:6.2f} GB {rows:>9,} rows".format_map(result)
              if "rows" in result else result["failed"])  # fmt: skip
    oracle = report.get("pyarrow", {}).get("digest")
    assert all(report[name].get("digest") == oracle for name in ("daft", "daft join") if oracle and name in report)
    path = Path(__file__).parent / "engines.json"
    saved = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(saved | {options.folder.name: report}, indent=1) + "\n")


def measure(engine: str, files: list[str]) -> dict[str, float | int | str]:
    started = time.perf_counter()
    table = ENGINES[engine](files)
    seconds = time.perf_counter() - started
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
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
