"""Reads a corpus once and rewrites it. Every row gets a number and hashes of its content and source text.

    rows/part-00000.parquet      the rows of a source file, in groups of 20,000
    hashes/part-00000.parquet    hashes of the same rows, in the same order (`source_text.SCHEMA`)
    templates.parquet            n-grams of the templates
    source.json                  the files and how they were read, numbers of rows, and a digest

A part is written completely or not at all. After a kill, ingest continues with the first missing part.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from xxhash import xxh3_128

from topeng.corpus import readers, sample
from topeng.corpus import source_text as st
from topeng.corpus.conventions import Reading
from topeng.corpus.engine import NATIVE, Engine, in_order, remove_partials, whole_file
from topeng.corpus.row_groups import GROUP_BYTES, in_groups
from topeng.corpus.schema import COLUMNS, MESSAGES, RIGHT, ROW_ID
from topeng.corpus.turns import EMPTY
from topeng.errors import CorpusError
from topeng.system.files import write_atomically

SCHEMA = pa.schema([(ROW_ID, pa.int64()), *((name, pa.string()) for name in (*COLUMNS, MESSAGES)), (RIGHT, pa.bool_())])
LAYOUT = {
    "compression": "lz4",  # takes two thirds of zstd's time to read, and 1.6 times its space
    "use_dictionary": ["dataset_name", "subset_name", "prompt_id", "template_name", "dataset_key"],
    "write_statistics": [ROW_ID],
}
TEMPLATES = "templates.parquet"
TEMPLATE_SEED = 0
HASHING = "hashing source text"

Progress = Callable[[str, int, int | None], None]
"""Called with a description of the work, the number of rows so far, and the total if it is known."""


def _silent(label: str, done: int, total: int | None) -> None:
    """Progress inside a task on Ray, which is not shown."""


def ingest(
    files: Sequence[str],
    folder: Path,
    progress: Progress = _silent,
    engine: Engine = NATIVE,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """Rewrites a source into `folder`, and returns the content of `source.json`, which describes it.

    Args:
        files: paths, globs, folders or hf:// addresses, in any format and convention that `readers` knows.
        reading: what the recipe says about their columns.

    Raises:
        CorpusError: a file is missing, unreadable or lacks a column, or no row is left.
    """
    reading = reading or Reading()
    folder = folder.resolve()  # because a task has another working directory
    for name in ("rows", "hashes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    names = readers.resolve(files, f"{reading.section}.files")
    parts = list(_read_parts(names, folder, reading, progress, engine))
    subsets, dropped, first = Counter[str](), Counter[str](), dict[str, str]()
    for part in parts:
        subsets.update(part["subsets"])
        dropped.update(part["dropped"])
        first = part["first_dropped"] | first
    rows = subsets.total()
    if rows == dropped.total():
        why = "; ".join(f"{count:,} {reason}, first in {first[reason]}" for reason, count in dropped.items())
        raise CorpusError(f"no usable row in {', '.join(files)}: {why or 'the source is empty'}")
    digest = _hash_parts(folder, rows - dropped.total(), progress, engine)
    source = {
        "files": [{"name": part["file"], "rows": sum(part["subsets"].values())} | part["read_as"] for part in parts],
        "rows": rows,
        "subsets": dict(subsets.most_common()),
        "dropped": dict(dropped),
        "first_dropped": first,
        "digest": digest,
    }
    remove_partials(folder)
    write_atomically(folder / "source.json", json.dumps(source, indent=1))
    return source


def part_files(folder: Path, kind: str) -> list[Path]:
    """The parts of `rows` or of `hashes`, in order."""
    return sorted((folder / kind).glob("part-*.parquet"))


def take_rows(folder: Path, kind: str, row_ids: np.ndarray, engine: Engine = NATIVE) -> pa.Table:
    """Some `rows` or `hashes` by their row ids, in order. Row groups without any of them are not read."""
    files = part_files(folder.resolve(), kind)
    take = partial(_take, threads=engine.threads)
    found = engine.map(take, _wanted_of_each(files, np.sort(row_ids)))
    return pa.concat_tables([pq.read_schema(files[0]).empty_table(), *found])


def take_all(folder: Path) -> pa.Table:
    """All rows of a small corpus."""
    return pa.concat_tables([pq.read_table(path) for path in part_files(folder, "rows")])


def _read_parts(
    names: Sequence[str], folder: Path, reading: Reading, progress: Progress, engine: Engine
) -> Iterator[dict[str, Any]]:
    """Writes the rows of each source file, and yields the facts about them.

    Raises:
        CorpusError: a file was changed between counting and reading.
    """
    inside = progress if engine.local else _silent
    read = partial(_read_part, folder=folder, files=len(names), reading=reading, progress=inside)
    rows = 0
    for part in engine.map(read, _numbered(names, folder, reading.separator)):
        if part["first_row_id"] != rows:
            raise CorpusError(f"a file before {part['file']} changed while it was read. Run the same command again.")
        rows += sum(part["subsets"].values())
        if not engine.local:
            progress("reading the source", rows, None)
        yield part


def _numbered(names: Sequence[str], folder: Path, separator: str | None) -> Iterator[tuple[int, str, int]]:
    """Number, name and first row id of each file. Rows of earlier files that were not read yet are counted."""
    first = 0
    for number, name in enumerate(names):
        if number:
            known = _part(folder, number - 1).with_suffix(".json")
            before = json.loads(known.read_text(encoding="utf-8"))["subsets"].values() if known.exists() else None
            first += readers.count(names[number - 1], separator) if before is None else sum(before)
        yield number, name if "://" in name else os.path.abspath(name), first


def _read_part(
    item: tuple[int, str, int], folder: Path, files: int, reading: Reading, progress: Progress
) -> dict[str, Any]:
    """Writes the rows of one source file and a JSON file of facts about them, unless both exist."""
    number, name, first = item
    path = _part(folder, number)
    known = path.with_suffix(".json")
    if known.exists():
        return json.loads(known.read_text(encoding="utf-8"))
    subsets, dropped, places, read = Counter[str](), Counter[str](), dict[str, int](), 0
    total, label = None, f"reading {Path(name).name} ({number + 1} of {files})"
    source = readers.open_source(name, reading)
    with whole_file(path) as file, pq.ParquetWriter(file, SCHEMA, **LAYOUT) as writer:
        for table in in_groups(source.tables):
            if not read:
                total = readers.rows_in(name)  # after opening it, which reports files that cannot be read
            subsets.update(_value_counts(table["subset_name"]))
            ids = pa.array(np.arange(first + read, first + read + table.num_rows))
            if (left := _usable(table.add_column(0, ROW_ID, ids), dropped, places)).num_rows:
                writer.write_table(left.select(SCHEMA.names))
            read += table.num_rows
            progress(label, read, total)
    shown = name if "://" in name else Path(name).name  # not where it is on this machine, because corpora are published
    part = {
        "file": shown,
        "first_row_id": first,
        "subsets": subsets,
        "dropped": dropped,
        "first_dropped": {reason: f"{shown}, {source.unit} {place}" for reason, place in places.items()},
        "read_as": _read_as(source),
    }
    with whole_file(known) as file:
        file.write_text(json.dumps(part), encoding="utf-8")
    return part


def _read_as(source: readers.Source) -> dict[str, Any]:
    """Format, convention and columns of a file, for `source.json`."""
    found = source.convention
    return {
        "format": source.format,
        "convention": found.name,
        "columns": {**found.roles, **found.about, **({RIGHT: found.right} if found.right else {})},
        "not_read": found.unread,
    }


def _part(folder: Path, number: int) -> Path:
    return folder / "rows" / f"part-{number:05}.parquet"


def _usable(table: pa.Table, dropped: Counter[str], places: dict[str, int]) -> pa.Table:
    """The rows that have text and no problem. The others are counted by reason, with the place of the first."""
    texts = [pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(table[name])), 0) for name in st.FIELDS]
    filled, sound = pc.and_(*texts), pc.is_null(table[readers.PROBLEM])
    kept = pc.and_(filled, sound)
    gone = table.filter(pc.invert(kept)).select([readers.PROBLEM, readers.PLACE])
    for problem, place in zip(*(gone[name].to_pylist() for name in gone.column_names), strict=True):
        dropped[problem or EMPTY] += 1
        places.setdefault(problem or EMPTY, place)
    return table.filter(kept)


def _hash_parts(folder: Path, rows: int, progress: Progress, engine: Engine) -> str:
    """Writes the hashes of all rows, and returns a digest of their content in order, which no sharding affects."""
    _find_templates(folder, engine)
    inside = progress if engine.local else _silent
    hash_part = partial(_hash_part, folder=folder, rows=rows, progress=inside, threads=engine.threads)
    for done in engine.map(hash_part, _with_rows_before(part_files(folder, "rows"))):
        progress(HASHING, done, rows)
    total = xxh3_128()
    for part in part_files(folder, "hashes"):
        for chunk in pq.read_table(part, columns=["content_hash"])["content_hash"].chunks:
            total.update(chunk.buffers()[1])
    return total.hexdigest()


def _hash_part(item: tuple[Path, int], folder: Path, rows: int, progress: Progress, threads: int) -> int:
    """Writes the hashes of a part, unless they exist, and returns the number of rows up to its end."""
    part, done = item
    out = folder / "hashes" / part.name
    if out.exists():
        return done + pq.read_metadata(out).num_rows
    hash_rows = partial(st.hash_rows, template_text=st.TemplateText.load(folder / TEMPLATES))
    with whole_file(out) as file, pq.ParquetWriter(file, st.SCHEMA, **LAYOUT) as writer:
        for hashes in in_order(hash_rows, _groups_of(part), threads):
            writer.write_table(hashes)
            done += hashes.num_rows
            progress(HASHING, done, rows)
    return done


def _with_rows_before(parts: Sequence[Path]) -> Iterator[tuple[Path, int]]:
    rows = 0
    for part in parts:
        yield part, rows
        rows += pq.read_metadata(part).num_rows


def _find_templates(folder: Path, engine: Engine) -> None:
    """Finds template text in rows of each template, drawn at random so that the order of rows does not matter."""
    if (folder / TEMPLATES).exists():
        return
    row_ids, (strata,), keys = sample.read_strata(folder / "rows", ["template_name"], TEMPLATE_SEED, engine=engine)
    counts = {name: min(size, st.TEMPLATE_ROWS) for name, size in strata.sizes().items()}
    chosen = sample.draw(row_ids, strata, keys, counts)
    parts = np.array_split(chosen, 1 + int(len(chosen) * _mean_size(folder) / GROUP_BYTES))
    ends = pa.concat_tables([st.ends(take_rows(folder, "rows", part, engine)) for part in parts])
    with whole_file(folder / TEMPLATES) as file:
        st.TemplateText.discover(ends).save(file)


def _mean_size(folder: Path) -> float:
    """Mean size of a row in bytes."""
    groups = [group for path in part_files(folder, "rows") for group in _row_groups(pq.read_metadata(path))]
    return sum(group.total_byte_size for group in groups) / max(1, sum(group.num_rows for group in groups))


def _wanted_of_each(files: Sequence[Path], wanted: np.ndarray) -> Iterator[tuple[Path, np.ndarray]]:
    """The parts that contain wanted rows, each with the ids of those rows."""
    for path in files:
        ids = [group.column(0).statistics for group in _row_groups(pq.read_metadata(path))]
        if ids:
            low, high = np.searchsorted(wanted, [ids[0].min, ids[-1].max + 1])
            if low < high:
                yield path, wanted[low:high]


def _take(item: tuple[Path, np.ndarray], threads: int) -> pa.Table:
    """The wanted rows of a part."""
    path, wanted = item

    def take(groups: np.ndarray) -> pa.Table:
        tables = []
        with pq.ParquetFile(path) as file:
            for group in groups.tolist():
                table = file.read_row_group(group, use_threads=False)
                places = np.searchsorted(table[ROW_ID].to_numpy(), wanted[bounds[group, 0] : bounds[group, 1]])
                tables.append(table.take(pa.array(places)))
            return pa.concat_tables(tables or [file.schema_arrow.empty_table()])

    ids = [group.column(0).statistics for group in _row_groups(pq.read_metadata(path))]
    bounds = np.searchsorted(wanted, [[group.min, group.max + 1] for group in ids])
    holding = np.flatnonzero(bounds[:, 0] < bounds[:, 1])
    return pa.concat_tables(in_order(take, np.array_split(holding, threads), threads))


def _row_groups(metadata: pq.FileMetaData) -> list[pq.RowGroupMetaData]:
    return [metadata.row_group(number) for number in range(metadata.num_row_groups)]


def _groups_of(part: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(part) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, columns=[ROW_ID, "template_name", *st.FIELDS])


def _value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {str(entry["values"]): entry["counts"] for entry in pc.value_counts(column).to_pylist()}
