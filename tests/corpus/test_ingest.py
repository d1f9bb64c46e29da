import json

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from topeng.corpus.ingest import ingest
from topeng.corpus.schema import COLUMNS
from topeng.errors import CorpusError


def table(count, subset="indo_puisi", start=0):
    columns = {name: [f"{name} {row}" for row in range(start, start + count)] for name in COLUMNS}
    return pa.table(columns | {"subset_name": [subset] * count})


def rows_of(path):
    return pq.read_table(path).to_pylist()


def test_parquet_json_lines_and_csv_are_one_corpus(tmp_path):
    one = table(5)
    pq.write_table(one, tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in one.to_pylist()))
    pacsv.write_csv(one, tmp_path / "c.csv")
    read, dropped = ingest(
        [str(tmp_path / name) for name in ("a.parquet", "b.jsonl", "c.csv")], tmp_path / "out.parquet"
    )
    assert read.total() == 15 and not dropped
    rows = rows_of(tmp_path / "out.parquet")
    assert [row["row_id"] for row in rows] == list(range(15))
    plain = [{name: row[name] for name in COLUMNS} for row in rows]
    assert plain[:5] == plain[5:10] == plain[10:] == one.to_pylist()


def test_a_glob_is_read_in_the_order_of_names_and_ordinals_count_what_is_left_out(tmp_path):
    pq.write_table(table(3, "other"), tmp_path / "part-1.parquet")
    pq.write_table(table(4, "dolly", start=10), tmp_path / "part-2.parquet")
    read, dropped = ingest([str(tmp_path / "part-*.parquet")], tmp_path / "out.parquet", ["dolly"])
    assert read == {"other": 3, "dolly": 4}
    assert dropped == {"subset not asked for": 3}
    assert [row["row_id"] for row in rows_of(tmp_path / "out.parquet")] == [3, 4, 5, 6]


def test_rows_without_text_leave_with_the_reason(tmp_path):
    odd = table(3).to_pylist()
    odd[0]["input"], odd[1]["output"] = None, " \n"
    pq.write_table(pa.Table.from_pylist(odd), tmp_path / "a.parquet")
    _, dropped = ingest([str(tmp_path / "a.parquet")], tmp_path / "out.parquet")
    assert dropped == {"empty input or output": 2}
    assert len(rows_of(tmp_path / "out.parquet")) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"not parquet", "cannot read .*a.parquet"),
        ("a.csv", b"input,output\na,b\n", "lacks the column dataset_name, subset_name"),
        ("a.txt", b"", "is none of .parquet, .jsonl"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        ingest([str(tmp_path / name)], tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_subset_that_does_not_occur_is_named(tmp_path):
    pq.write_table(table(3), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match="names wikihau, which the source does not hold; it holds indo_puisi"):
        ingest([str(tmp_path / "a.parquet")], tmp_path / "out.parquet", ["wikihau"])


def test_a_path_that_matches_nothing_is_named(tmp_path):
    with pytest.raises(CorpusError, match="nothing matches"):
        ingest([str(tmp_path / "*.parquet")], tmp_path / "out.parquet")
