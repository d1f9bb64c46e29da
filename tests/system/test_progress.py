"""Progress where no terminal is: plain lines."""

import io
import re

from rich.console import Console

from topeng.system.progress import clock, progress_bar


def piped(seconds: float) -> str:
    console = Console(file=io.StringIO(), width=20)
    with progress_bar(console, seconds=seconds) as bar:
        task = bar.add_task("lora, [seed 1]", total=None, figures="")
        for step in range(1, 1001):
            bar.update(task, completed=step, total=1000, figures="loss 3.100")
        other = bar.add_task("answers", total=3)
        bar.advance(other)
        bar.remove_task(other)
    return console.file.getvalue()


def test_a_pipe_gets_plain_lines_of_what_is_done_and_left():
    lines = piped(0).splitlines()
    assert re.fullmatch(r"  lora, \[seed 1\]: 500 of 1,000, \d+:\d\d left  loss 3\.100", lines[499])
    assert lines[-2:] == ["  lora, [seed 1]: 1,000 of 1,000  loss 3.100", "  answers: 1 of 3"]


def test_lines_are_seconds_apart():
    assert piped(3600) == ""


def test_a_clock():
    assert [clock(seconds) for seconds in (0.4, 61, 3671)] == ["0:00", "1:01", "1:01:11"]
