"""`kecil` ("small" in Indonesian), the base that comes with the package, and the rows that it was not trained on.

`make kecil` pretrains it by recipes/kecil.yaml and packs it here (`python -m topeng.kecil RUN`).
"""

from pathlib import Path

NAME = "kecil"
"""What `base.model` and `topeng chat` call it."""

FOLDER = Path(__file__).parent / "checkpoint"
HELD_OUT = Path(__file__).parent / "held_out.parquet"
"""English rows of its own world that share no source text with those it was trained on."""


def locate(model: str | Path) -> str | Path:
    """The folder of the packaged base where its name is given; anything else as it is."""
    return FOLDER if str(model) == NAME else model
