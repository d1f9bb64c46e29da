"""Reads a corpus once, with Daft, and rewrites it: every row gets its ordinal and the hashes of what it holds.

    rows/part-00000.parquet      a source file's rows, in groups of 20,000
    hashes/part-00000.parquet    of the same rows, in the same order, content and source text (`source_text.SCHEMA`)
    templates.parquet            the templates' n-grams
    source.json                  files, counts of rows, digest

A part is there whole or not at all; after a kill, ingest goes on with the first that is missing.
"""

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from xxhash import xxh3_128

from topeng.corpus import readers, sample
from topeng.corpus import source_text as st
from topeng.corpus.schema import COLUMNS, ROW_ID
from topeng.errors import CorpusError
from topeng.run import write_atomically

ROW_GROUP = 20_000
SCHEMA = pa.schema([(ROW_ID, pa.int64()), *((name, pa.string()) for name in COLUMNS)])
LAYOUT = {
    "compression": "lz4",  # read in two thirds of zstd's time, in 1.6 times its space
    "use_dictionary": ["dataset_name", "subset_name", "prompt_id", "template_name", "dataset_key"],
    "write_statistics": [ROW_ID],
}
TEMPLATE_SEED = 0
THREADS = 2

Progress = Callable[[str, int, int | None], None]
"""Told what is done, how many rows of it, and how many there are where that is known."""


def ingest(files: Sequence[str], folder: Path, progress: Progress = lambda *_: None) -> dict[str, Any]:
    """Rewrites a source into `folder`, and says what it held: the content of `source.json`.

    Args:
        files: Parquet, JSON Lines or CSV in Cendol's seven columns: paths, globs, hf:// addresses.

    Raises:
        CorpusError: a file is missing, unreadable or lacks a column, or no row is left.
    """
    for name in ("rows", "hashes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = readers.resolve(files)
    parts = [_read_part(name, number, names, folder, progress) for number, name in enumerate(names)]
    subsets, dropped = Counter[str](), Counter[str]()
    for part in parts:
        subsets.update(part["subsets"])
        dropped.update(part["dropped"])
    rows = subsets.total()
    if rows == dropped.total():
        raise CorpusError(f"no row is left of {', '.join(files)}: {dict(dropped) or 'the source is empty'}")
    digest = _hash_parts(folder, rows - dropped.total(), progress)
    source = {
        "files": [{"name": part["file"], "rows": sum(part["subsets"].values())} for part in parts],
        "rows": rows,
        "subsets": dict(subsets.most_common()),
        "dropped": dict(dropped),
        "digest": digest,
    }
    write_atomically(folder / "source.json", json.dumps(source, indent=1))
    return source


def part_files(folder: Path, kind: str) -> list[Path]:
    """The parts of `rows` or of `hashes`, in order."""
    return sorted((folder / kind).glob("part-*.parquet"))


def take_rows(folder: Path, kind: str, row_ids: np.ndarray) -> pa.Table:
    """Some `rows` or `hashes` by their row ids, in order; row groups that hold none are not read."""
    wanted = np.sort(row_ids)

    def take(path: Path) -> list[pa.Table]:
        tables = []
        with pq.ParquetFile(path) as file:
            for number in range(file.num_row_groups):
                ids = file.metadata.row_group(number).column(0).statistics
                low, high = np.searchsorted(wanted, [ids.min, ids.max + 1])
                if low < high:
                    table = file.read_row_group(number, use_threads=False)
                    places = np.searchsorted(table[ROW_ID].to_numpy(), wanted[low:high])
                    tables.append(table.take(pa.array(places)))
            return tables or [file.schema_arrow.empty_table()]

    with ThreadPoolExecutor(THREADS) as pool:
        return pa.concat_tables(chain.from_iterable(pool.map(take, part_files(folder, kind))))


def take_all(folder: Path) -> pa.Table:
    """All rows of a small corpus."""
    return pa.concat_tables([pq.read_table(path) for path in part_files(folder, "rows")])


def _read_part(name: str, number: int, names: Sequence[str], folder: Path, progress: Progress) -> dict[str, Any]:
    """Writes the rows of one source file, unless that was done before; what is known of them is kept beside them."""
    path = folder / "rows" / f"part-{number:05}.parquet"
    known = path.with_suffix(".json")
    if known.exists():
        return json.loads(known.read_text())
    first = _rows_before(folder, number)
    subsets, dropped, read = Counter[str](), Counter[str](), 0
    partial = path.with_suffix(".partial")
    total, label = None, f"reading {Path(name).name} ({number + 1} of {len(names)})"
    with pq.ParquetWriter(partial, SCHEMA, **LAYOUT) as writer:
        for table in _in_groups(readers.tables(name), ROW_GROUP):
            if not read:
                total = readers.rows_in(name)  # now that Daft could read it
            subsets.update(_value_counts(table["subset_name"]))
            ids = pa.array(np.arange(first + read, first + read + table.num_rows))
            if (left := _with_text(table.add_column(0, ROW_ID, ids), dropped)).num_rows:
                writer.write_table(left)
            read += table.num_rows
            progress(label, read, total)
    partial.replace(path)
    shown = name if "://" in name else Path(name).name  # where it lies on this machine is nobody's business
    part = {"file": shown, "first_row_id": first, "subsets": subsets, "dropped": dropped}
    write_atomically(known, json.dumps(part))
    return part


def _rows_before(folder: Path, number: int) -> int:
    if number == 0:
        return 0
    before = json.loads((folder / "rows" / f"part-{number - 1:05}.json").read_text())
    return before["first_row_id"] + sum(before["subsets"].values())


def _in_groups(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `rows`, but for the last."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += table.num_rows
        if count >= rows:
            whole = pa.concat_tables(held)
            for start in range(0, count - rows + 1, rows):
                yield whole.slice(start, rows)
            held, count = [whole.slice(count - count % rows)], count % rows
    if count:
        yield pa.concat_tables(held)


def _with_text(table: pa.Table, dropped: Counter[str]) -> pa.Table:
    texts = [pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(table[name])), 0) for name in st.FIELDS]
    whole = table.filter(pc.and_(*texts))
    if whole.num_rows < table.num_rows:
        dropped["empty input or output"] += table.num_rows - whole.num_rows
    return whole


def _hash_parts(folder: Path, rows: int, progress: Progress) -> str:
    """Writes the hashes of all rows; returns a digest of the rows' content, in order, however they are sharded."""
    template_text = _template_text(folder)
    total, done = xxh3_128(), 0
    for part in part_files(folder, "rows"):
        out = folder / "hashes" / part.name
        if not out.exists():
            partial, hashed = out.with_suffix(".partial"), 0
            with pq.ParquetWriter(partial, st.SCHEMA, **LAYOUT) as writer:
                for hashes in _in_order(lambda table: st.hash_rows(table, template_text), _groups_of(part)):
                    writer.write_table(hashes)
                    hashed += hashes.num_rows
                    progress("hashing source text", done + hashed, rows)
            partial.replace(out)
        hashes = pq.read_table(out, columns=["content_hash"])["content_hash"]
        for chunk in hashes.chunks:
            total.update(chunk.buffers()[1])
        done += len(hashes)
    return total.hexdigest()


def _template_text(folder: Path) -> st.TemplateText:
    """Found in rows of each template that are drawn at random, so that no order of the rows matters."""
    path = folder / "templates.parquet"
    if not path.exists():
        row_ids, (strata,), keys = sample.read_strata(folder / "rows", ["template_name"], TEMPLATE_SEED)
        counts = {name: min(size, st.TEMPLATE_ROWS) for name, size in strata.sizes().items()}
        chosen = sample.draw(row_ids, strata, keys, counts)
        partial = path.with_suffix(".partial")
        st.TemplateText.discover(take_rows(folder, "rows", chosen)).save(partial)
        partial.replace(path)
    return st.TemplateText.load(path)


def _groups_of(part: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(part) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns=[ROW_ID, "template_name", *st.FIELDS])


def _in_order(function: Callable[[pa.Table], pa.Table], tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """`map` on two threads, with no more tables at hand than they need."""
    with ThreadPoolExecutor(THREADS) as pool:
        ahead = deque(pool.submit(function, table) for table in islice(tables, THREADS + 1))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(function, table) for table in islice(tables, 1))


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {str(entry["values"]): entry["counts"] for entry in pc.value_counts(column).to_pylist()}
