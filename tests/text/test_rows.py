import json

import pyarrow as pa
import pyarrow.parquet as pq

from topeng.text.rows import read_rows

TURNS = [{"role": "system", "content": "Singkat."}, {"role": "user", "content": "Apa?"}]
TURNS += [{"role": "assistant", "content": "Itu."}]


def test_rows_of_the_corpus_have_their_messages_and_say_whether_one_answer_is_right(tmp_path):
    columns = {"row_id": [3, 5], "input": ["Apa?", "Singkat.\n\nApa?"], "output": ["Ini.", "Itu."]}
    columns |= {"messages": [None, json.dumps(TURNS)], "one_right_answer": pa.array([None, True])}
    pq.write_table(pa.table(columns), tmp_path / "new.parquet")
    first, second = read_rows(tmp_path / "new.parquet")
    assert first == {"row_id": 3, "input": "Apa?", "output": "Ini.", "messages": None, "one_right_answer": False}
    assert second["messages"] == TURNS and second["one_right_answer"] is True


def test_rows_of_an_older_run_are_plain_pairs(tmp_path):
    pq.write_table(pa.table({"row_id": [1], "input": ["Apa?"], "output": ["Ini."]}), tmp_path / "old.parquet")
    (row,) = read_rows(tmp_path / "old.parquet")
    assert row["messages"] is None and row["one_right_answer"] is False
