"""`kecil` ("small" in Indonesian), the base that comes with the package, and the rows that it was not trained on.

`make kecil` pretrains it with recipes/kecil.yaml, and packs it here.
"""

import difflib
import re
from pathlib import Path

from topeng.errors import ModelError

NAME = "kecil"
"""Its name in `base.model` and `topeng chat`."""

FOLDER = Path(__file__).parent / "checkpoint"
HELD_OUT = Path(__file__).parent / "held_out.parquet"
"""English rows of its world that were held out of the last stage of its pretraining."""
HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def locate(model: str | Path) -> str | Path:
    """The folder of the packaged base if its name is given. Other names are unchanged.

    Raises:
        ModelError: it is not in this copy of Topeng.
    """
    if str(model) != NAME:
        return model
    if not FOLDER.is_dir():
        raise ModelError(f"{NAME} is not in this copy of Topeng: `make kecil` pretrains it; or name a checkpoint")
    return FOLDER


def refuse_typo(model: str | Path) -> None:
    """
    Raises:
        ModelError: the name is almost `kecil`, so it is a typo rather than a model on the Hub.
    """
    name = str(model)
    if "/" not in name and difflib.get_close_matches(name.lower(), [NAME], cutoff=0.8):
        raise ModelError(
            f"there is no folder {name!r}: did you mean {NAME!r}, the model that comes with Topeng? A model on the Hub "
            "is named USER/MODEL."
        )


def hub_id(model: str | Path | None) -> str | None:
    """The Hub's model id of a base, for metadata, or None for a local folder and for `kecil`."""
    name = str(model or NAME)
    return name if name != NAME and HUB_ID.fullmatch(name) and not Path(name).exists() else None
