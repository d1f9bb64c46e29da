"""The comparison for a terminal: right answers, losses, and a summary in sentences."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from topeng.report.wording import DASH, Wording, bounds, finite, mean, pair_sentences

RIGHT = "Right answers in % (95 % interval) on {target} target and {source} source rows"
RIGHT_COLUMNS = ("", "target", "more than base", "source", "forgotten", "F1")
NOT_JUDGED = "Right answers were not counted, because no answered row has exactly one (see corpus.right_answers)."
LOSS = "Held-out loss in nats per token (lower is better), ± half of a 95 % interval"
LOSS_COLUMNS = ("", "seeds", "target", "gain", "source", "forgotten", "chrF++")


def print_comparison(scores: Mapping[str, Any], console: Console) -> None:
    """Prints `scores.json`, with the lowest held-out loss first. Its tables fit into 80 columns."""
    words, models = Wording(), scores["models"]
    order = sorted(models, key=lambda name: models[name]["target"]["nats_per_token"]["mean"])
    rows = {language: judged(models.values(), language) for language in ("target", "source")}
    if any(rows.values()):
        console.print(RIGHT.format(**rows), style="italic", highlight=False)
        console.print(_table(RIGHT_COLUMNS, order, scores, words, _right_cells))
    else:
        console.print(NOT_JUDGED, highlight=False)
    console.print(f"\n{LOSS}", style="italic", highlight=False)
    console.print(_table(LOSS_COLUMNS, order, scores, words, _loss_cells))
    if exact := exact_models(scores, words):
        console.print(words("exact_note", models=exact), highlight=False)
    for library, versions in scores.get("versions", {}).items():
        text = f"The models were scored with different versions of {library}: {', '.join(versions)}."
        console.print(text, style="yellow", highlight=False)
    sentences = Table.grid(padding=(0, 1, 0, 0))
    for sentence in pair_sentences(words, scores["pairs"]):
        sentences.add_row("-", Text(sentence))
    console.print(sentences)


def exact_models(scores: Mapping[str, Any], words: Wording) -> str:
    """The models whose losses are exact, or nothing if all losses are bounds."""
    return words.listed([words.label(name) for name in scores.get("exact", [])]) if scores.get("exact") else ""


def judged(models: Iterable[Mapping[str, Any]], language: str) -> int:
    """Number of rows with one right answer that were answered."""
    return max((model["answers"][language] or {}).get("judged", 0) for model in models)


def _table(
    columns: Sequence[str], order: Sequence[str], scores: Mapping[str, Any], words: Wording, cells: Any
) -> Table:
    """Wraps names of models if there is no room, but never numbers."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column else "left",
            no_wrap=bool(column),
            min_width=len(column) or 8,
            overflow="fold",
        )
    for name in order:
        table.add_row(Text(words.label(name)), *cells(name, scores, words))
    return table


def _right_cells(name: str, scores: Mapping[str, Any], words: Wording) -> list[str]:
    cells = []
    for language, change in (("target", "gain"), ("source", "forgetting")):
        answers = scores["models"][name]["answers"][language] or {}
        cells.append(right(answers, words))
        cells.append(_points(scores[change].get(name, {}).get("exact_match"), words))
    return [*cells, words.decimal((scores["models"][name]["answers"]["target"] or {}).get("f1"), 2)]


def right(answers: Mapping[str, Any], words: Wording) -> str:
    """The share of right answers in percent, such as 64 (54–73)."""
    share, low, high = (finite(answers.get(f"exact_match{end}")) for end in ("", "_low", "_high"))
    if share is None:
        return DASH
    around = "" if low is None or high is None else f" ({words.count(100 * low)}–{words.count(100 * high)})"
    return words.count(100 * share) + around


def _points(figure: Mapping[str, Any] | None, words: Wording) -> str:
    """A change in percentage points, such as +52 (+40 … +62)."""
    if not figure:
        return DASH
    known = bounds(figure)
    around = f" ({words.points(known[0])} … {words.points(known[1])})" if known else ""
    return words.points(figure["mean"]) + around


def _loss_cells(name: str, scores: Mapping[str, Any], words: Wording) -> list[str]:
    model, answers = scores["models"][name], scores["models"][name]["answers"]["target"]
    cells = [str(len(scores["seeds"][name])) if name in scores["seeds"] else DASH]
    for language, change in (("target", "gain"), ("source", "forgetting")):
        cells.append(_figure(model[language]["nats_per_token"], words))
        cells.append(_figure(scores[change].get(name, {}).get("nats_per_token"), words, sign=True))
    return [*cells, words.decimal(answers["chrf"], 1) if answers else DASH]


def _figure(figure: Mapping[str, Any] | None, words: Wording, sign: bool = False) -> str:
    form, known = words.signed if sign else words.decimal, bounds(figure)
    around = f"±{words.decimal((known[1] - known[0]) / 2)}" if known else ""
    return form(mean(figure)) + around
