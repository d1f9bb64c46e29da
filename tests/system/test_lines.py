"""Files of lines that a kill may cut anywhere."""

import json

import pytest

from topeng.system.lines import LineFile, read_lines


def test_lines_of_another_head_are_not_taken_over(tmp_path):
    LineFile(tmp_path / "out.jsonl", {"of": "one"}).add([{"text": "satu"}])
    assert LineFile(tmp_path / "out.jsonl", {"of": "one"}).lines == [{"text": "satu"}]
    assert LineFile(tmp_path / "out.jsonl", {"of": "other"}).lines == []


@pytest.mark.parametrize("lost", range(1, 14))
def test_a_cut_line_is_left_out_wherever_it_is_cut(tmp_path, lost):
    """In the midst of a character of several bytes too."""
    file = LineFile(tmp_path / "out.jsonl", {"of": "kafé"})
    file.add([{"text": "satu"}, {"text": "é漢"}])
    content = file.unfinished.read_bytes()
    file.unfinished.write_bytes(content[:-lost])
    again = LineFile(tmp_path / "out.jsonl", {"of": "kafé"})
    assert again.lines == [{"text": "satu"}]
    again.add([{"text": "dua"}])
    gathered = [json.loads(line) for line in file.unfinished.read_bytes().splitlines()]
    assert gathered[1:] == [{"text": "satu"}, {"text": "dua"}]
    again.finish([*again.lines, {"text": "dua"}])
    assert read_lines(tmp_path / "out.jsonl") == [{"text": "satu"}, {"text": "dua"}]
