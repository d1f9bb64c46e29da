"""Pictures of Topeng's pages at the widths of a laptop and a phone: report, map, chat and docs site.

    python tools/screenshots.py RUN OUT [--site site] [--language en]

RUN is the folder of a finished run, and OUT gets PAGE-SIZE.png. In the chat, every model is asked a question that the
base answers wrongly and an adapter rightly.

It needs Chromium and Pillow, which matplotlib brings, and the extra `serve`.
"""

import argparse
import base64
import io
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import browser

SIZES = {"laptop": (1280, 800), "phone": (390, 844)}
COLOURS = 256
"""Of a picture: as many as a PNG with a palette has."""
ANSWERED = "document.querySelectorAll('.player').length >= {count}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("out", type=Path, help="folder of the pictures")
    parser.add_argument("--site", type=Path, default=Path("site"), help="the docs site, as `make docs` builds it")
    parser.add_argument("--language", default="en", choices=("en", "id"), help="of the chat")
    known = parser.parse_args()
    known.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, serving(known.run) as url, browser.started(Path(folder)) as chromium:
        pages = {"report": known.run / "report.html", "map": known.run / "corpus" / "map.html"}
        if (known.site / "index.html").exists():
            pages |= {"site": known.site / "index.html", "site-api": known.site / "api.html"}
        for name, (width, height) in SIZES.items():
            for page, file in pages.items():
                with chromium.tab() as tab:
                    tab.open(file.resolve().as_uri(), width, height)
                    save(tab, known.out / f"{page}-{name}.png")
            with chromium.tab() as tab:
                tab.open(f"{url}/?lang={known.language}", width, height)
                chat(tab, question_of(known.run))
                save(tab, known.out / f"chat-{name}.png")


@contextmanager
def serving(run: Path) -> Iterator[str]:
    """The address of a server of the run's base and adapters."""
    base = yaml.safe_load((run / "recipe.yaml").read_text("utf-8"))["base"]["model"] or str(run / "base")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "topeng", "serve", base, "--adapters", str(run), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait(f"http://127.0.0.1:{port}/ready", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait(url: str, process: subprocess.Popen, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    sys.exit("the server did not start")


def question_of(run: Path) -> str:
    """The shortest that the base answers wrongly and the run's first adapter rightly."""
    first = min(path.name for path in (run / "adapters").iterdir())
    wrong, right = (rows_of(run / "evaluate" / "base", False), rows_of(run / "evaluate" / first, True))
    return min((right[row] for row in wrong.keys() & right.keys()), key=len, default="Siapa namamu?")


def rows_of(folder: Path, right: bool) -> dict[int, str]:
    """The questions of the target language that a model answered rightly, or wrongly, by their rows."""
    lines = map(json.loads, (folder / "answers.jsonl").read_text("utf-8").splitlines())
    return {line["row_id"]: line["input"] for line in lines if line["right"] is right and line["language"] == "target"}


def chat(tab: browser.Page, question: str) -> None:
    """Asks all models, and waits for their answers."""
    tab.run("document.querySelectorAll('[name=model]').forEach(box => { box.checked = true; })")
    tab.run("document.querySelector('#question').focus()")
    tab.write(question)
    tab.key("Enter")
    count, end = tab.run("document.querySelectorAll('[name=model]').length"), time.monotonic() + 300
    while not tab.run(ANSWERED.format(count=count)):
        if time.monotonic() > end:
            sys.exit("the chat did not answer")
        time.sleep(0.2)


def save(tab: browser.Page, file: Path) -> None:
    """What the window shows, with few colours."""
    shot = base64.b64decode(tab.call("Page.captureScreenshot", format="png")["data"])
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
