"""The options of the report, declared once."""

from dataclasses import dataclass
from typing import Literal

from topeng.options import Options, option


@dataclass(frozen=True)
class PageOptions(Options):
    """Options of all pages of a run."""

    title: str = option("Topeng", "Title of the report.")
    language: Literal["en", "id"] = option(
        "en", "Language of the report and the map: English or Indonesian. Model cards are always in English."
    )


@dataclass(frozen=True)
class ReportOptions(PageOptions):
    """Options of the report and the model cards."""

    answers: int = option(6, "Number of rows per language whose answers the report shows side by side.", ge=0)
    licence: str | None = option(
        None, "Licence of the adapters for their model cards, as the Hub spells it, such as apache-2.0."
    )
