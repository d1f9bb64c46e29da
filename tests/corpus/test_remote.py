"""Files behind addresses, from a server on this machine that answers for parts of files, as the Hub does."""

import gzip
import http.server
import re
from functools import partial
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from topeng.corpus import readers
from topeng.corpus.ingest import ingest, take_all
from topeng.errors import CorpusError

ROWS = [{"input": f"Apa itu {row}?", "output": f"Ini jawaban nomor {row}."} for row in range(300)]
TALK = [{"role": "user", "content": "Apa?"}, {"role": "assistant", "content": "Ini."}]


class Parts(http.server.SimpleHTTPRequestHandler):
    """Python's own server sends whole files alone."""

    def do_GET(self):
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        path = self.translate_path(self.path)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            asked = None
        if not asked:
            super().do_GET()
            return
        start = int(asked[1]) if asked[1] else max(0, len(content) - int(asked[2]))
        part = content[start : int(asked[2]) + 1 if asked[1] and asked[2] else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path):
    """Of the folder."""
    handler = partial(Parts, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def pairs(name):
    return [(row["input"], row["output"]) for table in readers.tables(name) for row in table.to_pylist()]


def test_an_address_is_read_as_a_file_is_and_named_in_errors(tmp_path, address):
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"input\toutput\nApa?\tIni\n"))
    (tmp_path / "b.jsonl").write_bytes(b'{"input": "Apa?", "output": "Ini"}\n{"input": "\xff"}')
    assert pairs(f"{address}/a.tsv.gz") == [("Apa?", "Ini")]
    with pytest.raises(CorpusError, match=f"{address}/b.jsonl, line 2: the byte 0xff is not UTF-8"):
        pairs(f"{address}/b.jsonl")
    with pytest.raises(CorpusError, match=f"cannot reach {address}/nowhere.csv"):
        pairs(f"{address}/nowhere.csv")


def test_remote_parquet_is_read_as_a_local_file_is(tmp_path, address):
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet", row_group_size=50)
    here = ingest([str(tmp_path / "a.parquet")], tmp_path / "here")
    for number, name in enumerate(("a.parquet", "a.parquet?download=true")):
        there = ingest([f"{address}/{name}"], tmp_path / f"there-{number}")
        assert (there["digest"], there["rows"], there["subsets"]) == (here["digest"], 300, {"a": 300})
        assert take_all(tmp_path / f"there-{number}").equals(take_all(tmp_path / "here"))


def test_conversations_in_remote_parquet(tmp_path, address):
    pq.write_table(pa.table({"messages": [TALK, [], TALK]}), tmp_path / "a.parquet")
    (table,) = readers.tables(f"{address}/a.parquet")
    assert table["input"].to_pylist() == ["Apa?", "", "Apa?"] and table["place"].to_pylist() == [1, 2, 3]
    assert table["problem"].to_pylist() == [None, "a conversation without messages", None]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "none.parquet",
            "cannot reach ADDRESS/none.parquet .* Download it, and point --corpus.files to the local copy",
        ),
        ("text.parquet", "cannot reach ADDRESS/text.parquet .*not a valid parquet file"),
        ("other.parquet", "ADDRESS/other.parquet has no column input and no column output"),
        ("numbers.parquet", "ADDRESS/numbers.parquet: the column output contains int64, but must contain text"),
    ],
)
def test_a_fault_of_remote_parquet_is_one_line_with_its_address(tmp_path, address, name, message):
    (tmp_path / "text.parquet").write_bytes(b"input,output\n" * 9)
    pq.write_table(pa.table({"tanya": ["Apa?"]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"input": ["Apa?"], "output": [3]}), tmp_path / "numbers.parquet")
    with pytest.raises(CorpusError, match=message.replace("ADDRESS", address)) as error:
        pairs(f"{address}/{name}")
    assert "\n" not in str(error.value)
