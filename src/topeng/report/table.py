"""The comparison for a terminal: a table, and what it comes to in plain sentences."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from topeng.report.wording import DASH, Wording, bounds, mean, pair_sentences

TITLE = "Held-out nats a token, ± half of a 95 % interval: less is better, of gain more"
CAPTION = "chrF++ (0 to 100) and ROUGE-L (0 to 1) of answers, target: more is better"
COLUMNS = ("", "seeds", "target", "gain", "source", "forgotten", "chrF++", "ROUGE-L")


def print_comparison(scores: Mapping[str, Any], console: Console) -> None:
    """Prints `scores.json`, the lowest held-out loss first."""
    words, models = Wording(), scores["models"]
    table = Table(title=TITLE, caption=CAPTION, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for column in COLUMNS:
        table.add_column(
            column, justify="right" if column else "left", no_wrap=bool(column), min_width=len(column) or 8
        )
    for name in sorted(models, key=lambda name: models[name]["target"]["nats_per_token"]["mean"]):
        table.add_row(Text(words.label(name)), *_cells(name, scores, words))
    console.print(table)
    sentences = Table.grid(padding=(0, 1, 0, 0))
    for sentence in pair_sentences(words, scores["pairs"]):
        sentences.add_row("-", Text(sentence))
    console.print(sentences)


def _cells(name: str, scores: Mapping[str, Any], words: Wording) -> list[str]:
    model, answers = scores["models"][name], scores["models"][name]["answers"]["target"]
    cells = [str(len(scores["seeds"][name])) if name in scores["seeds"] else DASH]
    for language, change in (("target", "gain"), ("source", "forgetting")):
        cells.append(_figure(model[language]["nats_per_token"], words))
        cells.append(_figure(scores[change].get(name, {}).get("nats_per_token"), words, sign=True))
    return cells + ([words.decimal(answers["chrf"], 1), words.decimal(answers["rouge_l"])] if answers else [DASH] * 2)


def _figure(figure: Mapping[str, Any] | None, words: Wording, sign: bool = False) -> str:
    form, known = words.signed if sign else words.decimal, bounds(figure)
    around = f"±{words.decimal((known[1] - known[0]) / 2)}" if known else ""
    return form(mean(figure)) + around
