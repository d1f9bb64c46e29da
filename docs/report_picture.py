"""The README's picture of a report: how a finished run's page opens, as a small PNG.

    python docs/report_picture.py RUN [--out docs/report.png] [--width 1100] [--height 900]

It needs Chromium, and Pillow, which matplotlib brings.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
COLOURS = 64
"""Of text on a plain page, as many as are told apart; the file is a third as large as with all."""


def picture(page: Path, out: Path, width: int, height: int) -> None:
    """The top of a page, in a window of so many pixels."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        options = [*OPTIONS, f"--user-data-dir={folder}/profile", f"--window-size={width},{height}"]
        command = [browser, *options, f"--screenshot={shot}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=HERE / "report.png", help="PNG to write")
    parser.add_argument("--width", type=int, default=1100, help="of the window, in pixels")
    parser.add_argument("--height", type=int, default=900, help="of the window, in pixels")
    known = parser.parse_args()
    page = known.run / "report.html"
    if not page.exists():
        sys.exit(f"{page} is missing: `topeng run` finishes the run")
    picture(page, known.out, known.width, known.height)
    print(f"{known.out}: {known.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
