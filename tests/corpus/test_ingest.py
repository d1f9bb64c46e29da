import csv
import json
import shutil
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topeng.corpus import readers, row_groups
from topeng.corpus.ingest import ingest, take_all, take_rows
from topeng.corpus.schema import COLUMNS
from topeng.errors import CorpusError


def table(count, subset="indo_puisi", start=0):
    columns = {name: [f"{name} {row}" for row in range(start, start + count)] for name in COLUMNS}
    return pa.table(columns | {"subset_name": [subset] * count})


def rows_of(folder):
    return take_all(folder).to_pylist()


def test_parquet_json_lines_and_csv_are_one_corpus(tmp_path):
    one = table(5)
    pq.write_table(one, tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in one.to_pylist()))
    pacsv.write_csv(one, tmp_path / "c.csv")
    source = ingest([str(tmp_path / name) for name in ("a.parquet", "b.jsonl", "c.csv")], tmp_path / "out")
    assert source["rows"] == 15 and not source["dropped"]
    assert [file["rows"] for file in source["files"]] == [5, 5, 5]
    rows = rows_of(tmp_path / "out")
    assert [row["row_id"] for row in rows] == list(range(15))
    plain = [{name: row[name] for name in COLUMNS} for row in rows]
    assert plain[:5] == plain[5:10] == plain[10:] == one.to_pylist()


def test_a_file_of_inputs_and_outputs_is_one_subset_named_as_the_file(tmp_path):
    (tmp_path / "mine.csv").write_text("input,output,note\nApa?,Ini.,x\nSiapa?,Dia.,y\n")
    source = ingest([str(tmp_path / "mine.csv")], tmp_path / "out")
    assert source["subsets"] == {"mine": 2}
    assert [(row["template_name"], row["input"], row["output"]) for row in rows_of(tmp_path / "out")] == [
        ("mine", "Apa?", "Ini."),
        ("mine", "Siapa?", "Dia."),
    ]


def test_a_glob_is_read_in_the_order_of_names(tmp_path):
    pq.write_table(table(3, "other"), tmp_path / "part-1.parquet")
    pq.write_table(table(4, "dolly", start=10), tmp_path / "part-2.parquet")
    source = ingest([str(tmp_path / "part-*.parquet")], tmp_path / "out")
    assert source["subsets"] == {"dolly": 4, "other": 3}
    assert [row["input"] for row in rows_of(tmp_path / "out")][2:4] == ["input 2", "input 10"]


def test_rows_without_text_leave_with_the_reason_and_their_ordinals(tmp_path):
    odd = table(4).to_pylist()
    odd[0]["input"], odd[2]["output"] = None, " \n"
    pq.write_table(pa.Table.from_pylist(odd), tmp_path / "a.parquet")
    source = ingest([str(tmp_path / "a.parquet")], tmp_path / "out")
    assert source["dropped"] == {"empty input or output": 2}
    assert [row["row_id"] for row in rows_of(tmp_path / "out")] == [1, 3]


@pytest.mark.parametrize("rows", [199, 200, 401])
def test_row_groups_have_as_many_rows_whatever_the_source_s(tmp_path, rows, monkeypatch):
    assert row_groups.ROW_GROUP == 20_000  # which many a test need not write
    monkeypatch.setattr(row_groups, "ROW_GROUP", 200)
    pq.write_table(table(rows), tmp_path / "a.parquet", row_group_size=10)
    ingest([str(tmp_path / "a.parquet")], tmp_path / "out")
    metadata = pq.read_metadata(tmp_path / "out" / "rows" / "part-00000.parquet")
    groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert groups == [200] * (rows // 200) + [rows % 200] * (rows % 200 > 0)
    assert take_all(tmp_path / "out").select(COLUMNS).equals(table(rows))


def test_rows_are_found_by_their_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(row_groups, "ROW_GROUP", 200)  # two in each part
    for part in range(2):
        pq.write_table(table(210, start=210 * part), tmp_path / f"{part}.parquet")
    ingest([str(tmp_path / "*.parquet")], tmp_path / "out")
    wanted = [5, 209, 210, 419]
    found = take_rows(tmp_path / "out", "rows", pa.array(wanted).to_numpy())
    assert found["row_id"].to_pylist() == wanted
    assert found["input"].to_pylist() == [f"input {row}" for row in wanted]


def test_the_digest_depends_on_the_rows_and_not_on_their_shards(tmp_path):
    digests = []
    for name, sizes in (("a", [90]), ("b", [30, 60]), ("c", [89, 1])):
        start = 0
        (tmp_path / name).mkdir()
        for number, size in enumerate(sizes):
            pq.write_table(table(size, start=start), tmp_path / name / f"{number}.parquet", row_group_size=7)
            start += size
        digests.append(ingest([str(tmp_path / name / "*.parquet")], tmp_path / name / "out")["digest"])
    pq.write_table(table(90, start=1), tmp_path / "d.parquet")
    assert digests[0] == digests[1] == digests[2] != ingest([str(tmp_path / "d.parquet")], tmp_path / "d")["digest"]


def test_it_goes_on_after_the_last_whole_part(tmp_path, monkeypatch):
    for part in range(3):
        pq.write_table(table(10, start=10 * part), tmp_path / f"{part}.parquet")
    files = [str(tmp_path / "*.parquet")]
    whole = ingest(files, tmp_path / "whole")
    read = readers.open_source
    opened = []

    def stopped(tables):
        yield from tables
        raise KeyboardInterrupt

    def stops_at_the_last(name, reading):
        opened.append(name)
        source = read(name, reading)
        return source._replace(tables=stopped(source.tables)) if name.endswith("2.parquet") else source

    monkeypatch.setattr(readers, "open_source", stops_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        ingest(files, tmp_path / "out")
    monkeypatch.setattr(readers, "open_source", lambda *given: opened.append(given[0]) or read(*given))
    assert ingest(files, tmp_path / "out") == whole
    assert [name[-9:] for name in opened] == ["0.parquet", "1.parquet", "2.parquet", "2.parquet"]
    assert take_all(tmp_path / "out").equals(take_all(tmp_path / "whole"))


def test_a_lost_part_of_the_hashes_is_made_again(tmp_path):
    pq.write_table(table(10), tmp_path / "a.parquet")
    whole = ingest([str(tmp_path / "a.parquet")], tmp_path / "out")
    before = (tmp_path / "out" / "hashes" / "part-00000.parquet").read_bytes()
    shutil.rmtree(tmp_path / "out" / "hashes")
    assert ingest([str(tmp_path / "a.parquet")], tmp_path / "out") == whole
    assert (tmp_path / "out" / "hashes" / "part-00000.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"not parquet", "cannot read .*a.parquet"),
        (
            "a.csv",
            b"input,answer\na,b\n",
            "has no column output, nor those of another .* Its columns are input, answer",
        ),
        ("a.xlsx", b"PK", "has an unknown format. Known: .parquet, .* Save it as CSV"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        ingest([str(tmp_path / name)], tmp_path / "out")
    assert not list((tmp_path / "out").glob("*/*.parquet"))


def wipe(path, start, stop):
    content = bytearray(path.read_bytes())
    content[start:stop] = bytes(stop - start)
    path.write_bytes(content)


def test_a_broken_file_never_passes_for_an_empty_one(tmp_path):
    """Daft lost every fifth such error beside columns of its own making."""
    texts = [f"Apa {number}?" for number in range(999)]
    pq.write_table(pa.table({"input": texts, "output": texts}), tmp_path / "a.parquet")
    wipe(tmp_path / "a.parquet", 100, 4_000)
    for _ in range(40):
        with pytest.raises(CorpusError, match="cannot read"):
            list(readers.tables(str(tmp_path / "a.parquet")))


def test_fewer_rows_than_a_file_says_are_an_error(tmp_path, monkeypatch):
    pq.write_table(table(5), tmp_path / "a.parquet")
    monkeypatch.setattr(readers, "rows_in", lambda name: 6)
    with pytest.raises(CorpusError, match="should contain 6 rows, but only 5 could be read"):
        list(readers.tables(str(tmp_path / "a.parquet")))


def test_a_shard_that_is_broken_or_of_another_schema_is_named_and_the_others_stay(tmp_path):
    for part in range(3):
        pq.write_table(table(2_000), tmp_path / f"{part}.parquet", row_group_size=500)
    wipe(tmp_path / "1.parquet", 2_000, 9_000)
    with pytest.raises(CorpusError, match=r"cannot read .*1\.parquet"):
        ingest([str(tmp_path / "*.parquet")], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out" / "rows").glob("*.parquet")] == ["part-00000.parquet"]
    pq.write_table(table(5).drop_columns("template_name"), tmp_path / "1.parquet")
    with pytest.raises(CorpusError, match=r"1\.parquet has no column template_name"):
        ingest([str(tmp_path / "*.parquet")], tmp_path / "out")
    pq.write_table(table(5).set_column(2, "prompt_id", pa.array(range(5))), tmp_path / "1.parquet")
    assert ingest([str(tmp_path / "*.parquet")], tmp_path / "out")["rows"] == 4_005


def test_names_with_blanks_and_the_signs_of_globs_are_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a1", "a[1]", "b c", "d*", "e{1,2}")):
        pq.write_table(table(2, start=10 * number), f"{name}.parquet")
    source = ingest(["*.parquet"], tmp_path / "r s [1]")
    assert source["rows"] == 10 and len(set(take_all(tmp_path / "r s [1]")["input"].to_pylist())) == 10
    ingest(["a[1].parquet"], tmp_path / "one")
    assert take_all(tmp_path / "one")["input"].to_pylist() == ["input 10", "input 11"]


def test_numbers_in_csv_stay_as_they_are_written(tmp_path):
    one = table(3).set_column(6, "output", pa.array(["007", "1.10", "1e3"]))
    pacsv.write_csv(one, tmp_path / "a.csv")
    pq.write_table(one, tmp_path / "b.parquet")
    digests = {ingest([str(tmp_path / name)], tmp_path / name[0])["digest"] for name in ("a.csv", "b.parquet")}
    assert len(digests) == 1
    assert take_all(tmp_path / "a")["output"].to_pylist() == ["007", "1.10", "1e3"]


def test_a_row_group_or_a_file_without_text_is_left_out(tmp_path):
    rows = table(20_010)
    outputs = pa.array([""] * 20_000 + ["ya"] * 10)
    pq.write_table(rows.set_column(6, "output", outputs), tmp_path / "0.parquet")
    pq.write_table(rows.slice(0, 5).set_column(6, "output", pa.array([" "] * 5)), tmp_path / "1.parquet")
    source = ingest([str(tmp_path / "*.parquet")], tmp_path / "out")
    assert source["dropped"] == {"empty input or output": 20_005}
    assert take_rows(tmp_path / "out", "hashes", np.array([20_003]))["row_id"].to_pylist() == [20_003]


@pytest.mark.parametrize("column", [pa.array([["a"], ["b"]]), pa.array([b"\xff", b"a"])])
def test_a_column_that_holds_no_text_is_named(tmp_path, column):
    pq.write_table(table(2).set_column(6, "output", column), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a\.parquet: the column output contains .*, but must contain text"):
        ingest([str(tmp_path / "a.parquet")], tmp_path / "out")


def test_a_path_that_matches_nothing_is_named(tmp_path):
    with pytest.raises(CorpusError, match="nothing matches"):
        ingest([str(tmp_path / "*.parquet")], tmp_path / "out")


def test_an_empty_source_is_an_error(tmp_path):
    pq.write_table(table(0), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"no usable row in .* the source is empty"):
        ingest([str(tmp_path / "a.parquet")], tmp_path / "out")


pairs = st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=4)


@pytest.mark.parametrize("name", ["any.parquet", "any.jsonl", "any.csv"])
@settings(max_examples=25)
@given(pairs=pairs)
def test_any_text_comes_back_as_it_was_written(tmp_path_factory, name, pairs):
    file = tmp_path_factory.getbasetemp() / name
    rows = [{"input": one, "output": other} for one, other in pairs]
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with file.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["input", "output"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(rows)
    found = [row for read in readers.tables(str(file)) for row in read.select(["input", "output"]).to_pylist()]
    assert found == rows


odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2)


@settings(max_examples=40)
@given(st.lists(st.dictionaries(st.sampled_from(["input", "output", "note"]), odd), max_size=4))
def test_any_json_is_rows_of_text_or_a_corpus_error(tmp_path_factory, rows):
    file = tmp_path_factory.getbasetemp() / "odd.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts_or_error(file)


@pytest.mark.parametrize("name", ["bytes.parquet", "bytes.jsonl", "bytes.csv"])
@settings(max_examples=25)
@given(content=st.binary() | st.text().map(str.encode))
def test_any_bytes_are_rows_of_text_or_a_corpus_error(tmp_path_factory, name, content):
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(b"input,output\n" + content if file.suffix == ".csv" else content)
    texts_or_error(file)


@settings(max_examples=25)
@given(st.integers(0, 2_000), st.binary(min_size=1, max_size=40))
def test_a_damaged_file_is_rows_of_text_or_a_corpus_error(tmp_path_factory, place, damage):
    file = tmp_path_factory.getbasetemp() / "damaged.parquet"
    pq.write_table(table(30).select(["input", "output"]), file)
    content = bytearray(file.read_bytes())
    content[place : place + len(damage)] = damage
    file.write_bytes(content)
    texts_or_error(file)


def texts_or_error(file):
    with suppress(CorpusError):
        for read in readers.tables(str(file)):
            assert all(isinstance(row[name], str) for row in read.to_pylist() for name in COLUMNS)
