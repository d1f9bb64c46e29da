"""`topeng corpus check`: what it says of files, and how it ends."""

import csv
import json

import pytest

from topeng.cli import main
from topeng.corpus import check


def said(capsys, *arguments):
    status = main(["corpus", "check", *map(str, arguments)])
    return status, capsys.readouterr().out


def test_it_says_how_a_file_would_be_read_and_what_would_leave(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = [
        {"instruction": f"Apa nama hari ke-{n}?", "input": "", "output": "Senin itu hari pertama.", "id": n}
        for n in range(40)
    ]
    rows += [rows[0], {**rows[1], "output": " "}, {**rows[2], "output": 3}, {**rows[3], "output": ""}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    status, out = said(capsys, tmp_path / "a.jsonl", "--corpus.languages", "[en]")
    assert status == 0 and max(map(len, out.splitlines())) <= 80
    for text in (
        "JSON Lines; 4 kB, 44 rows",
        "Alpaca (instruction, input, output)",
        "not read   id",
        "1 row with the content of an earlier row",
        "2 empty input or output, first in line 42",
        "1 `output` is a number, not text, first in line 43",
        "100% would be dropped: not in corpus.languages (en)",
    ):
        assert text in out


def test_lengths_are_tokens_of_the_base_that_is_named(tmp_path, capsys, checkpoint, tokenizer):
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream, delimiter=";").writerows([["input", "output"], ["Apa?", "kucing " * 40]])
    length = len(tokenizer.encode("kucing " * 40, add_special_tokens=False))
    options = ["--base.model", checkpoint, "--corpus.languages", "[]", "--text.max_length", "16"]
    status, out = said(capsys, tmp_path / "a.csv", *options)
    assert status == 0 and f"median length {length}" in out and f"tokens of {checkpoint.name}" in out
    assert "100% of the rows, which exceed text.max_length = 16" in out and "CSV separated by semicolons" in out


def test_a_file_that_cannot_be_used_fails_and_the_others_are_told_of(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("input,input\na,b\n")
    (tmp_path / "b.csv").write_text("input,output\na,b\n")
    (tmp_path / "c.csv").write_text("input,output\na,\n")
    status, out = said(capsys, tmp_path / "a.csv", tmp_path / "b.csv", "--corpus.languages", "[]")
    assert status == 1 and "the name 'input' occurs 2 times in the header" in " ".join(out.split()) and "1 row" in out
    assert said(capsys, tmp_path / "b.csv", "--corpus.languages", "[]")[0] == 0
    status, out = said(capsys, tmp_path / "c.csv", "--corpus.languages", "[]")
    assert status == 1 and "every row would be dropped" in out
    (tmp_path / "d.csv").write_text("input,output\n")
    status, out = said(capsys, tmp_path / "d.csv")
    assert status == 1 and "the file has no rows" in out
    assert said(capsys, tmp_path / "nowhere.csv")[0] == 1


def test_a_file_that_is_missing_is_told_of_before_a_tokenizer_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("topeng.models.load_tokenizer", None)
    (tmp_path / "empty.csv").touch()
    status, out = said(capsys, tmp_path / "nowhere.csv", tmp_path / "empty.csv")
    text = " ".join(out.split())
    assert status == 1 and "cannot be used: nothing matches" in text and "is empty" in text


def test_the_same_as_numbers(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("input,input\na,b\n")
    (tmp_path / "b.csv").write_text("input,output\na,b\na,b\nc,\n")
    status, out = said(capsys, tmp_path / "a.csv", tmp_path / "b.csv", "--corpus.languages", "[en]", "--json")
    bad, good = json.loads(out)["files"]
    assert status == 1 and not bad["usable"] and "occurs 2 times in the header" in bad["error"]
    assert good["usable"] and (good["rows"], good["repeated"]) == (3, 1)
    assert good["dropped"] == {"empty input or output": {"rows": 1, "first": 4}} and good["counted_in"] == "line"
    assert good["lengths"]["questions"]["median"] == 1 and good["languages"]["wanted"] == ["en"]


def test_the_sample_is_of_all_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "SAMPLE", 20)
    (tmp_path / "a.csv").write_text("input,output\n" + "".join(f"{row},ya\n" for row in range(1_000)))
    seen = check.look(str(tmp_path / "a.csv"), check.Reading())
    drawn = [int(row[0]) for row in seen.sample]
    assert len(set(drawn)) == 20 and min(drawn) < 250 and max(drawn) > 750


@pytest.mark.parametrize("arguments", [["corpus", "check"], ["corpus", "check", "--base.model", "x"]])
def test_it_needs_files(arguments, capsys):
    assert main(arguments) == 1
    assert "`check FILE…`" in capsys.readouterr().err
