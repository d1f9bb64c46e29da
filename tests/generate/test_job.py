"""`topeng generate` as a user types it."""

import json

import pytest

from topeng.cli import main
from topeng.generate import job

OPTIONS = ["--max_new_tokens", "8", "--block_length", "8"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_written_whole_with_a_page(checkpoint, adapters, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("Apa?\nSiapa <b>kamu</b>?\n")
    out, page = tmp_path / "out" / "answers.jsonl", tmp_path / "page.html"
    command = ["generate", str(checkpoint), "Di mana?", "--file", str(tmp_path / "prompts.txt"), *OPTIONS]
    command += ["--preset", "fast", "--adapter", str(adapters / "one")]
    assert main([*command, "--out", str(out), "--html", str(page)]) == 0
    records = lines(out)
    assert [record["prompt"] for record in records] == ["Di mana?", "Apa?", "Siapa <b>kamu</b>?"]
    assert {"answer", "token_ids", "forward_passes", "tokens_per_forward_pass", "seconds", "ended"} <= records[0].keys()
    html = page.read_text()
    assert "Siapa &lt;b&gt;kamu&lt;/b&gt;?" in html and html.count("<article") == 3
    assert "http:" not in html and "https:" not in html
    assert not list(out.parent.glob("*.unfinished"))


def test_without_a_file_answers_are_printed(checkpoint, capsys):
    assert main(["generate", str(checkpoint), "Apa?", "--template", "Itu {2}.", *OPTIONS]) == 0
    assert capsys.readouterr().out.startswith("Itu")


def test_answers_under_a_system_message_are_of_another_kind(checkpoint, tmp_path, monkeypatch):
    out, asked, real = tmp_path / "answers.jsonl", [], job.answers

    def stopped(*arguments, **options):
        asked.append(arguments[2][0].tokens)
        yield next(real(*arguments, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "answers", stopped)
    command = ["generate", str(checkpoint), "Apa?", "Siapa?", *OPTIONS, "--out", str(out)]
    assert main([*command, "--system", "Ringkas."]) == 130
    assert main(command) == 130  # begins anew
    assert len(asked[0]) > len(asked[1]) and len(lines(tmp_path / "answers.jsonl.unfinished")) == 2


def test_a_stopped_command_goes_on(checkpoint, tmp_path, monkeypatch):
    out, real = tmp_path / "answers.jsonl", job.answers
    command = ["generate", str(checkpoint), "Apa?", "Siapa kamu?", "Di mana?", *OPTIONS, "--out", str(out)]
    asked = []

    def stopped(*arguments, **options):
        yield next(real(*arguments, **options))
        raise KeyboardInterrupt

    def counted(*arguments, **options):
        for answer in real(*arguments, **options):
            asked.append(answer.index)
            yield answer

    monkeypatch.setattr(job, "answers", stopped)
    assert main(command) == 130
    assert not out.exists()
    unfinished = tmp_path / "answers.jsonl.unfinished"
    gathered = unfinished.read_text() + '{"index": 2, "pro'  # a kill in the middle of a line
    monkeypatch.setattr(job, "answers", counted)
    unfinished.write_text(gathered)
    assert main(command) == 0
    assert len(asked) == 2 and [record["index"] for record in lines(out)] == [0, 1, 2]
    unfinished.write_text(gathered)
    assert main([*command, "--seed", "1"]) == 0  # other settings: nothing is taken over
    assert len(asked) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kucing " * 400], "exceed the model's context of 256"),
        (["Apa?", "--template", "Itu."], "has no gap"),
        (["setengah \ud83d"], "topeng: the text 'setengah \\ud83d' contains an unpaired surrogate, U+D83D"),
        (["Apa?", "--adapter", "{adapters}/other"], "does not fit this base"),
        (["Apa?", "--adapter", "{adapters}"], "is not an adapter folder"),
    ],
)
def test_wrong_input_is_one_line(checkpoint, adapters, capsys, arguments, message):
    given = [argument.format(adapters=adapters) for argument in arguments]
    assert main(["generate", str(checkpoint), *given, *OPTIONS]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
