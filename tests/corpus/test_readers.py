"""Files as people keep them: each kind of fault is an error with the line, or is read as it was meant."""

import csv
import gzip
import json
from contextlib import suppress

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from topeng.corpus import delimited, files, formats, json_rows, readers
from topeng.corpus.conventions import Reading
from topeng.corpus.ingest import ingest, take_all
from topeng.errors import CorpusError, GenerationError
from topeng.text.rows import read_prompts

HALF = "an unpaired surrogate"
CASES = [
    # case, file, what a corpus comes to (rows, or an error), what prompts come to
    ("01-csv-repeated-header", "dup_other.csv", "line 1: the name 'note' occurs 2 times in the header", "line 1"),
    ("01-csv-repeated-header", "dupcols.csv", "line 1: the name 'input' occurs 2 times in the header", "line 1"),
    ("01-csv-repeated-header", "empty_heads.csv", "line 1: column 1 of 4 has no name", "line 1"),
    ("03-alpaca-instruction-lost", "alpaca_array.json", 12, 12),
    ("03-alpaca-instruction-lost", "alpaca_lines.jsonl", 12, 12),
    ("09-prompts-lone-surrogate", "surr.jsonl", f"line 1: 'input' contains {HALF}", f"line 1: 'input' contains {HALF}"),
    (
        "09-prompts-lone-surrogate",
        "surrogate.jsonl",
        f"line 1: 'output' contains {HALF}",
        f"line 1: 'output' contains {HALF}",
    ),
    ("10-prompts-other-suffix", "UP.JSONL", "has no column output", 3),
    ("10-prompts-other-suffix", "array.json", "has no column output", 3),
    ("10-prompts-other-suffix", "rows.csv", 3, 3),
    ("11-bom", "bom.jsonl", "has no column output", 3),
    ("11-bom", "bom.txt", "has no column input and no column output", 3),
    ("12-jsonl-blank-line", "mid_blank.jsonl", 12, 12),
    ("12-jsonl-blank-line", "trail_blank.jsonl", 12, 12),
    ("16-excel-csv", "excel_id.csv", 12, 12),
]


def rows_of(path, tmp_path, **reading):
    ingest([str(path)], tmp_path / "out", reading=Reading(**reading))
    return take_all(tmp_path / "out").to_pylist()


@pytest.mark.parametrize(("case", "name", "corpus", "prompts"), CASES)
def test_a_file_of_a_bug_report_is_read_or_refused_with_its_line(shared, tmp_path, case, name, corpus, prompts):
    path = shared / "cases" / case / name
    if isinstance(corpus, int):
        found = rows_of(path, tmp_path)
        assert len(found) == corpus and all("?" in row["input"] or "." in row["input"] for row in found)
    else:
        with pytest.raises(CorpusError, match=corpus) as error:
            rows_of(path, tmp_path)
        assert "\n" not in str(error.value)
    if isinstance(prompts, int):
        found = read_prompts(path)
        assert len(found) == prompts and all(text[0].isalpha() and text[-1] in "?.!" for text in found)
    else:
        with pytest.raises(GenerationError, match=prompts):
            read_prompts(path)


def test_alpaca_s_instruction_and_material_are_one_question(shared, tmp_path):
    rows = rows_of(shared / "cases" / "03-alpaca-instruction-lost" / "alpaca_lines.jsonl", tmp_path)
    assert [row["input"] for row in rows[:2]] == ["Apa ibu kota Jawa Timur?\n\nJawab singkat.", "Apa itu tempe?"]


LATE = [3, None, True, "1945-08-17", 2.5, ["a"], {"a": 1}]


@pytest.mark.parametrize("first", LATE)
def test_the_type_of_a_field_does_not_depend_on_the_head_of_the_file(tmp_path, first):
    """Of `cases/02`: texts after the first MiB were lost, as the head held labels."""
    head = [json.dumps({"input": f"Berapa nilai {row} itu menurut naskah?", "output": first}) for row in range(18_000)]
    rest = [json.dumps({"input": f"Apa itu {row}?", "output": f"Jawaban nomor {row}."}) for row in range(1_000)]
    assert len("\n".join(head)) > 2**20
    (tmp_path / "a.jsonl").write_text("\n".join([*head, *rest]))
    source = ingest([str(tmp_path / "a.jsonl")], tmp_path / "out")
    texts = [text for text in take_all(tmp_path / "out")["output"].to_pylist() if text.startswith("Jawaban")]
    assert len(texts) == 1_000
    if isinstance(first, str):
        assert not source["dropped"]
    else:
        ((reason, rows),) = source["dropped"].items()
        assert rows == 18_000 and source["first_dropped"] == {reason: "a.jsonl, line 1"}
        assert (reason == "empty input or output") == (first is None) and (first is None or "`output` is" in reason)


@pytest.mark.parametrize("characters", [500_000, 4_000_000])
def test_a_long_cell_is_read(tmp_path, characters):
    answer = "jawab " * (characters // 6)
    with (tmp_path / "long.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["input", "output"], ["Apa?", answer], ["Siapa?", "Dia."]])
    assert [row["output"] for row in rows_of(tmp_path / "long.csv", tmp_path)] == [answer, "Dia."]


FAULTS = [
    (
        "a.csv",
        'input,output\nApa?,"Ini\nSiapa?,Dia\nKapan?,Nanti\n',
        "line 2: a quote that opens there is never closed",
    ),
    ("a.csv", 'input,output\nApa?,Ini\nSiapa?,"Dia\nKapan?,"Nanti"\n', "line 3: text follows a closing quote"),
    ("a.csv", "input,output\nApa?,Ini,itu\n", "line 2 has 3 cells, but the header has 2 columns, separated by commas"),
    ("a.csv", "input,output\n\n\nApa?\n", "line 4 has 1 cells"),
    ("a.csv", "input|output\nApa?|Ini\n", "has no column input and no column output.* Its columns are input|output"),
    ("a.csv", "", r"is empty\. A table needs a header"),
    ("a.csv", "input,output\nApa\rItu?,Ini\n", "line 2 has 1 cells|line 2: a line break outside quotes"),
    (
        "a.csv",
        "input,output\nKafé?,Ya\n".encode("latin-1"),
        "line 2: the byte 0xe9 is not UTF-8.*iconv -f WINDOWS-1252",
    ),
    ("a.csv", "input,output\nApa?,Ini\n".encode("utf-16"), "is UTF-16 instead of UTF-8.*iconv -f UTF-16"),
    ("a.csv", "input,output\nApa?,Ini\n".encode("utf-16-le"), "is UTF-16"),
    ("a.jsonl", '{"input": "Kafé?"}'.encode("latin-1"), "line 1: the byte 0xe9 is not UTF-8"),
    ("a.jsonl", '{"input": "a", "output": "b"}\n{"input": "a"\n', "line 2 is not a JSON object"),
    ("a.jsonl", '{"input": "a", "output": "b"} x\n', "line 1 is not a JSON object .Extra data"),
    ("a.jsonl", '{"input": "a", "output": "b", "output": "c"}\n', "line 1.* 'output' occurs twice in an object"),
    ("a.jsonl", '"a"\n', "line 1 is text, but must be an object"),
    ("a.jsonl", "[" * 100_000, "line 1 is not JSON .it is nested too deeply"),
    ("a.jsonl", '{"a":' * 100_000, "line 1 is not a JSON object .it is nested too deeply"),
    ("a.jsonl", '{"input": "\\ud83d", "output": "b"}', HALF),
    ("a.jsonl", '{"input": "a", "output": "b", "meta": [{"\\uDE00": 1}]}', HALF),
    ("a.json", '[{"input": "a", "output": "b"},\n{"input": "a"', "line 2 is not JSON"),
    ("a.json", '[{"input": "a", "output": "b"}', "nor is closed"),
    ("a.json", '[{"input": "a", "output": "b"}]\n[]', "line 2: there is more text after the array"),
    ("a.json", '[{"input": "a", "output": "b"},\n3]', "line 2 is a number, but must be an object"),
    ("a.jsonl.gz", gzip.compress(b'{"input": "a", "output": "b"}\n' * 99, mtime=0)[:-9], "cannot read .*a.jsonl.gz"),
    ("a.csv", "input,output,prompt\na,b,c\n", "has a column 'prompt', which would be ignored next to input, output"),
    ("a.csv", "input,output,input \na,b,c\n", "line 1: the name 'input' occurs 2 times in the header"),
    ("a.csv", "input,output, \na,b,c\n", "line 1: column 3 of 3 has no name"),
    ("a.csv", "prompt,completion,input,output\na,b,c,d\n", "could be input and output or prompt and completion"),
]


@pytest.mark.parametrize(("name", "content", "message"), FAULTS)
def test_a_fault_is_one_line_that_names_it(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError, match=message) as error:
        for _ in readers.tables(str(tmp_path / name)):
            pass
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_column_that_later_rows_have_is_read_or_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "ROWS", 1)
    rows = [{"instruction": "a", "output": "b"}, {"instruction": "a", "input": "c", "output": "b", "id": 1}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = readers.open_source(str(tmp_path / "a.jsonl"))
    assert [row["input"] for table in source.tables for row in table.to_pylist()] == ["a", "a\n\nc"]
    assert source.convention.unread == ["id"]
    rows = [{"input": "a", "output": "b"}, {"input": "a", "output": "b", "instruction": "c"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        CorpusError, match="line 2 has a column 'instruction', which would be ignored next to input, output"
    ):
        pairs(tmp_path / "a.jsonl")


def test_a_line_end_outside_quotes_does_not_make_two_prompts_of_one(tmp_path):
    """pandas and Python's csv leave a carriage return without quotes."""
    (tmp_path / "a.csv").write_bytes(b"input\nApa\rItu?\n")
    with pytest.raises(GenerationError, match="line 2: a line break outside quotes"):
        read_prompts(tmp_path / "a.csv")


READ = [
    ("a.csv", '\ufeffinput;output\r\nApa, ini?;"Itu; ya"\r\n', [("Apa, ini?", "Itu; ya")]),
    ("a.csv", "input\toutput\nApa?\tItu, ya\n", [("Apa?", "Itu, ya")]),
    ("a.tsv", "input\toutput\nApa, ya?\tItu\n", [("Apa, ya?", "Itu")]),
    ("a.tsv", "input,output\nApa?,Itu\n", [("Apa?", "Itu")]),
    ("A.CSV", "sep=;\ninput;output\nApa?;Itu\n", [("Apa?", "Itu")]),
    ("a.csv", "input , output\nApa?,Itu\n", [("Apa?", "Itu")]),
    ("a.csv", "\n\ninput,output\r\rApa?,Itu\r", [("Apa?", "Itu")]),
    ("a.csv", 'input,"out\nput"\n', CorpusError),
    ("a.csv", 'input,output\n"Apa\r\n\r\nitu?","Ini ""itu""\n"\n', [("Apa\r\n\r\nitu?", 'Ini "itu"\n')]),
    ("a.csv", "input,output\nApa\u2028itu\x85?,Ini\x0c\x1c\x1d.\n", [("Apa\u2028itu\x85?", "Ini\x0c\x1c\x1d.")]),
    ("a.jsonl", '{"input": "Apa\u2028itu\x85?", "output": "Ini\x7f"}\n', [("Apa\u2028itu\x85?", "Ini\x7f")]),
    (
        "a.jsonl",
        '\ufeff\r\n{"input": "a", "output": "b"}\r\n \r\n{"output": "d", "input": "c"}',
        [("a", "b"), ("c", "d")],
    ),
    (
        "a.json",
        '\ufeff [ {"input": "a",\n "output": "b"}\n,{"input": "c", "output": "\\ud83d\\ude00"}] \n',
        [("a", "b"), ("c", "😀")],
    ),
    ("a.json", '{"input": "a", "output": "b"}\n', [("a", "b")]),
    ("A.NDJSON", '{"input": "2020-01-01", "output": "b"}\n', [("2020-01-01", "b")]),
    ("a.jsonl", '[{"input": "a", "output": "b"}]', [("a", "b")]),
]


@pytest.mark.parametrize(("name", "content", "expected"), READ)
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_as_it_was_meant(tmp_path, name, content, expected, packed):
    path = tmp_path / (f"{name}.GZ" if packed else name)
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    if expected is CorpusError:
        with pytest.raises(CorpusError):
            pairs(path)
    else:
        assert pairs(path) == expected


def pairs(path, **reading):
    tables = list(readers.tables(str(path), Reading(**reading)))
    return [(row["input"], row["output"]) for table in tables for row in table.to_pylist() if not row["problem"]]


def test_a_separator_of_one_s_own(tmp_path):
    (tmp_path / "a.csv").write_text("input|output\nApa, ini; itu?|Ya\n")
    assert pairs(tmp_path / "a.csv", separator="|") == [("Apa, ini; itu?", "Ya")]


def test_compressed_and_folders_and_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    line = b'{"input": "Apa?", "output": "Itu."}\n'
    (tmp_path / "d").mkdir()
    for name, content in (("a.jsonl", line), ("b.jsonl.gz", gzip.compress(line) * 2), ("README.md", b"about")):
        (tmp_path / "d" / name).write_bytes(content)
    with pa.output_stream(tmp_path / "d" / "c.JSONL.ZST", compression="zstd") as stream:
        stream.write(line * 3)
    for name in ("~/d", str(tmp_path / "d" / "*.*[ltTz]*"), "~/d/"):
        found = readers.resolve([name])
        assert [len(pairs(file)) for file in found] == [1, 2, 3], found
    (tmp_path / "d" / "e.csv").write_bytes(b"input,output\na,b\n")
    with pytest.raises(
        CorpusError,
        match=r"is a folder with files of .csv, .jsonl. Name the files to read by a glob, such as .*/d/\*.csv",
    ):
        readers.resolve(["~/d"])


def test_what_datasets_saved_is_read(tmp_path):
    table = pa.table({"input": pa.array(["Apa?", "Siapa?"], pa.large_string()), "output": ["Ini.", "Dia."]})
    for split in ("train", "test"):
        (tmp_path / "saved" / split).mkdir(parents=True)
        with pa.ipc.new_stream(tmp_path / "saved" / split / "data-00000-of-00001.arrow", table.schema) as stream:
            stream.write_table(table)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_format_type": None}
        (tmp_path / "saved" / split / "state.json").write_text(json.dumps(state))
        (tmp_path / "saved" / split / "dataset_info.json").write_text("{}")
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    source = ingest([str(tmp_path / "saved" / "train")], tmp_path / "out")
    assert source["subsets"] == {"train": 2} and source["files"][0]["format"] == "Arrow"
    with pytest.raises(CorpusError, match=r"several splits.*saved/test, .*saved/train"):
        readers.resolve([str(tmp_path / "saved")])


KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_parquet_s_kinds_of_text_are_text(tmp_path, kind):
    texts = pa.array(["Apa?", None, "Siapa, yang namanya lebih panjang dari dua belas?"]).cast(kind)
    pq.write_table(pa.table({"input": texts, "output": texts}), tmp_path / "a.parquet")
    assert pairs(tmp_path / "a.parquet") == [(text or "", text or "") for text in texts.to_pylist()]


@pytest.mark.parametrize("column", [pa.array([1, 2]), pa.array([True, False]), pa.array([0.5, 1.5])])
def test_numbers_are_no_texts_in_parquet_either(tmp_path, column):
    pq.write_table(pa.table({"input": ["a", "b"], "output": column}), tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"the column output contains .*, but must contain text"):
        pairs(tmp_path / "a.parquet")


def written(kind, rows, path):
    """Texts in columns `input` and `output`, by one of the usual writers."""
    columns = list(rows[0])
    writer, _, ending = kind.partition(" ")
    separator = "\t" if ending == "tsv" else ","
    if writer == "pandas":
        import pandas

        frame = pandas.DataFrame(rows, columns=columns, dtype=object)
        {
            "csv": lambda: frame.to_csv(path, index=False),
            "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
            "json": lambda: frame.to_json(path, orient="records"),
            "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
            "parquet": lambda: frame.to_parquet(path),
        }[ending]()
    elif writer == "pyarrow":
        table = pa.Table.from_pylist(rows, pa.schema([(name, pa.string()) for name in columns]))
        if ending == "parquet":
            pq.write_table(table, path)
        else:
            pacsv.write_csv(table, path, pacsv.WriteOptions(delimiter=separator))
    elif ending in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, columns, delimiter=separator)
            table.writeheader()
            table.writerows(rows)
    else:
        lines = "".join(json.dumps(row, ensure_ascii=len(rows) % 2 == 0) + "\n" for row in rows)
        content = (json.dumps(rows) if ending == "json" else lines).encode()
        if ending == "jsonl.zst":
            with pa.output_stream(path, compression="zstd") as stream:
                stream.write(content)
        else:
            path.write_bytes(gzip.compress(content) if ending == "jsonl.gz" else content)


WRITERS = [f"pandas {kind}" for kind in ("csv", "tsv", "json", "jsonl", "parquet")]
WRITERS += ["pyarrow csv", "pyarrow tsv", "pyarrow parquet"]
WRITERS += [f"stdlib {kind}" for kind in ("csv", "tsv", "json", "jsonl", "jsonl.gz", "jsonl.zst")]
SIGNS = st.sampled_from(
    [*"\",;\t\n\r \\'|[]{}:a0", "\r\n", '""', "\0", "\x1a", "\x85", "\u2028", "\ufeff", "😀", "\ud83d", "\udc00"]
)
TEXT = (
    st.lists(SIGNS, max_size=12).map("".join)
    | st.text(max_size=8)
    | st.sampled_from(["x" * 70_000, "NA", "null", "1e5"])
)


@pytest.mark.parametrize("kind", WRITERS)
@settings(suppress_health_check=[HealthCheck.data_too_large])
@given(
    names=st.sampled_from([["input", "output"], ["input"]]),
    texts=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5),
)
def test_any_texts_are_read_back_the_same_or_refused(tmp_path_factory, kind, names, texts):
    path = tmp_path_factory.getbasetemp() / f"any.{kind.partition(' ')[2]}"
    rows = [dict(zip(names, pair, strict=False)) for pair in texts]
    with suppress(UnicodeEncodeError):  # a half of a pair, which this writer refuses
        written(kind, rows, path)
        found = None
        with suppress(CorpusError):
            opened = formats.open_rows(str(path))
            found = [record for batch in opened.batches for record in batch.records()]
        assert found is None or read_back(kind, found, rows)
        assert found or any(sign == "\r" or "\ud800" <= sign <= "\udfff" for pair in texts for sign in "".join(pair))


def read_back(kind, found, rows):
    """Whether rows are the same; pandas quotes no carriage return, and one at a line's end is part of that end."""
    if kind in ("pandas csv", "pandas tsv"):
        last = list(rows[0])[-1]
        rows = [row if row in found else {**row, last: row[last].removesuffix("\r")} for row in rows]
    return found == rows


def test_an_unclosed_quote_does_not_take_the_file_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "LARGEST", 1_000)
    (tmp_path / "a.csv").write_text('input,output\nApa?,"Ini\n' + "Siapa?,Dia\n" * 1_000)
    with pytest.raises(CorpusError, match="line 2: a cell that begins there exceeds 1,000 characters"):
        pairs(tmp_path / "a.csv")


def test_a_file_without_line_ends_is_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr(json_rows, "LARGEST", 1_000)
    (tmp_path / "a.jsonl").write_text('{"data": "' + "x" * 5_000)
    with pytest.raises(CorpusError, match="line 1 is longer than 1,000 bytes"):
        pairs(tmp_path / "a.jsonl")


def test_a_file_is_what_its_bytes_say(tmp_path):
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"input,output\nApa?,Ini\n"))
    (tmp_path / "b.csv.gz").write_bytes(b"input,output\nApa?,Ini\n")
    assert pairs(tmp_path / "a.csv") == pairs(tmp_path / "b.csv.gz") == [("Apa?", "Ini")]


def test_every_ending_has_a_reader_and_none_is_read_elsewhere():
    assert set(files.ENDINGS) == set(formats.READERS) - {".txt", ""}


def test_rows_without_a_field_are_not_lost_in_silence(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n{}\n{}\n")
    with pytest.raises(CorpusError, match="line 2 is an empty object"):
        list(readers.tables(str(path)))
