"""The page, declared once."""

from dataclasses import dataclass
from typing import Literal

from topeng.options import Options, option


@dataclass(frozen=True)
class PageOptions(Options):
    """What all pages of a run have."""

    title: str = option("Topeng", "of the page")
    language: Literal["en", "id"] = option("en", "of page and map: English or Indonesian; model cards are in English")


@dataclass(frozen=True)
class ReportOptions(PageOptions):
    """The report and the model cards."""

    answers: int = option(6, "rows of each language whose answers are shown side by side", ge=0)
    licence: str | None = option(None, "of the adapters, on their model cards, in the Hub's spelling: apache-2.0")
