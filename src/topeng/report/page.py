"""The page of a run: one HTML file that loads nothing, from the files of the run folder.

The template escapes every value; nothing is marked safe.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topeng.adapt.settings import METHODS
from topeng.report import plots, wording
from topeng.report.files import existing, read_json, read_json_lines, read_text, templates, write_page

Record = dict[str, Any]
MAP_PAGE = "corpus/map.html"
STYLES = 6  # colours of methods in the template


def write_report(run_dir: Path, path: Path, title: str, answers: int) -> None:
    """Write the page of a finished run.

    Args:
        run_dir: the run folder.
        path: the HTML file to write.
        title: of the page.
        answers: rows whose answers stand side by side, at most.

    Raises:
        RunError: a file of the run folder is missing or cannot be read.
    """
    context = _context(Path(run_dir), answers)
    write_page(path, templates().get_template("page.html.jinja").render(title=title, **context))


def _context(run_dir: Path, answers: int) -> Record:
    """All that the template shows."""
    scores, manifest = read_json(run_dir / "scores.json"), read_json(run_dir / "manifest.json")
    methods = _methods(scores)
    summaries = {method: read_json(run_dir / "adapters" / method / "summary.json") for method in methods}
    funnel = _funnel(read_json(run_dir / "corpus" / "funnel.json"), summaries)
    models = _comparison(scores, summaries)
    logs = {method: read_json_lines(run_dir / "adapters" / method / "log.jsonl") for method in methods}
    return {
        "summary": wording.summary(funnel, models),
        "best": wording.best_adapter(models),
        "models": models,
        "styles": {model["name"]: model for model in models},
        "loss": plots.loss_plot(logs),
        "funnel": funnel,
        "overlap": read_json(run_dir / "corpus" / "overlap.json"),
        "clusters": [_cluster(cluster) for cluster in read_json(run_dir / "corpus" / "clusters.json")],
        "map": plots.cluster_map(existing(run_dir / "corpus" / "umap.parquet")),
        "map_page": MAP_PAGE if (run_dir / MAP_PAGE).exists() else None,
        "answers": _answers(run_dir, ["base", *methods], answers),
        "manifest": manifest,
        "recipe": read_text(run_dir / "recipe.yaml"),
        "dash": wording.DASH,
    }


def _methods(scores: Record) -> list[str]:
    """The adapters that were scored, those with a place of their own first, so that colours stay."""
    found = [name for name in scores["models"] if name != "base"]
    return sorted(found, key=lambda name: ([*METHODS, *found]).index(name))


def _comparison(scores: Record, summaries: Mapping[str, Record]) -> list[Record]:
    """A row for each model, the lowest held-out loss first, unknown ones last."""
    models = [_model(name, scores) for name in scores["models"]]
    for model in models:
        name = model["name"]
        model |= _style(name, list(summaries))
        model["share"] = summaries.get(name, {}).get("share")
    return sorted(models, key=_loss)


def _model(name: str, scores: Record) -> Record:
    measures, differences = scores["models"][name] or {}, (scores.get("differences") or {}).get(name) or {}
    return {
        "name": name,
        "label": wording.label(name),
        "target": measures.get("target") or {},
        "source": measures.get("source") or {},
        "answers": measures.get("answers") or {},
        "gain": differences.get("target") or {},
        "forgetting": differences.get("source") or {},
        "share": None,
    }


def _style(name: str, methods: list[str]) -> Record:
    """The colour and the marker of a model, the same all over the page and, for known methods, on every page."""
    if name == "base":
        return {"style": "base", "marker": plots.MARKERS[0]}
    order = [*METHODS, *(method for method in methods if method not in METHODS)]
    place = order.index(name)
    return {"style": f"m{place % STYLES}", "marker": plots.MARKERS[place % len(plots.MARKERS)]}


def _loss(model: Record) -> float:
    loss = wording.finite(model["target"].get("nats_per_token"))
    return float("inf") if loss is None else loss


def _funnel(funnel: Record, summaries: Mapping[str, Record]) -> Record:
    """The funnel, each step with its share of the corpus; its last is training's, the same for every method."""
    source = wording.finite(funnel.get("source_rows"))
    kept = {"source_rows": source, "kept_rows": funnel.get("kept_rows")}
    steps = list(funnel["steps"])
    trained = next((summary for summary in summaries.values() if "rows" in summary), None)
    if trained:
        steps.append({"stage": "tokens", "rows": trained["rows"], "dropped": trained["dropped"]})
        kept["kept_rows"] = trained["rows"]
    steps = [step | {"share": _share(step.get("rows"), source)} for step in steps]
    return kept | {"kept_share": _share(kept["kept_rows"], source), "steps": steps}


def _share(rows: Any, source: float | None) -> float | None:
    number = wording.finite(rows)
    return number / source if number is not None and source else None


def _cluster(cluster: Record) -> Record:
    """A cluster with its colour, its three main subsets and templates by share, and its most central row."""
    return cluster | {
        "colour": plots.cluster_colour(cluster["cluster"]),
        "subsets": _main(cluster["subsets"], cluster["rows"]),
        "templates": _main(cluster["templates"], cluster["rows"]),
        "central": next(iter(cluster["central"]), None),
    }


def _main(rows: Mapping[str, int], total: int) -> list[tuple[str, float | None]]:
    most = sorted(rows.items(), key=lambda item: -item[1])[:3]
    return [(name, _share(count, total)) for name, count in most]


def _answers(run_dir: Path, models: list[str], limit: int) -> list[Record]:
    """The first rows with, for each model that answered any, its answer or None."""
    answered = {model: _answers_of(run_dir / "evaluate" / model / "answers.jsonl") for model in models}
    answered = {model: rows for model, rows in answered.items() if rows}
    rows: dict[Any, Record] = {}
    for records in answered.values():
        rows = {**records, **rows}
    first = next(iter(answered.values()), {})
    order = [*first, *(row_id for row_id in rows if row_id not in first)][:limit]
    return [_answer(rows[row_id], row_id, answered) for row_id in order]


def _answer(row: Record, row_id: Any, answered: Mapping[str, Mapping[Any, Record]]) -> Record:
    answers = {model: (records.get(row_id) or {}).get("answer") for model, records in answered.items()}
    return {"row_id": row_id, "input": row.get("input"), "reference": row.get("reference"), "answers": answers}


def _answers_of(path: Path) -> dict[Any, Record]:
    return {record.get("row_id"): record for record in read_json_lines(path)} if path.exists() else {}
