"""The page of a run: one self-contained HTML file, made from the files of the run folder.

The templates escape every value, and nothing from the run is marked as safe. Tokens are stored in the page as JSON,
which its only script inserts as text. The content security policy names this script and the style by their digests, and
allows nothing else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topeng.adapt.settings import METHODS
from topeng.pages import LOOK, PLAYER
from topeng.report import answers as side_by_side
from topeng.report import opening, plane, plots
from topeng.report.files import (
    Finished,
    Record,
    cut_rows,
    embedded,
    own_source,
    read_json,
    read_run,
    read_text,
    share,
    templates,
    without_homes,
    write_page,
)
from topeng.report.table import exact_models, judged
from topeng.report.wording import Wording, best_adapter, better_of, finite, mean, pair_sentences, summary
from topeng.system.lines import read_lines

MAP_PAGE = "corpus/map.html"
SECTIONS = ("right", "comparison", "loss", "failures", "answers", "rows", "overlap", "clusters", "run")
STYLES = 9  # colours of methods in page.css
STAGES = {
    "source": "stage_source",
    "ingest": "stage_ingest",
    "subsets": "stage_subsets",
    "sample": "stage_sample",
    "distinct": "stage_distinct",
    "filter": "stage_filter",
    "split": "stage_split",
    "select": "stage_select",
    "tokens": "stage_tokens",
}
"""Names of the funnel's steps for people."""
WORDS_OF_STEPS = ("step", "play", "pause")


def write_report(run_dir: Path, path: Path, title: str, answers: int, language: str = "en") -> None:
    """Writes the page of a finished run.

    Args:
        run_dir: the run folder.
        path: the HTML file to write.
        title: title of the page.
        answers: maximum number of rows per language whose answers are shown side by side.
        language: language of the page, `en` or `id`. Texts of the corpus, models and stages are not translated.

    Raises:
        RunError: a file of the run folder is missing or cannot be read.
    """
    words, found = Wording(language), read_run(Path(run_dir))
    (style, style_digest), (script, script_digest) = own_source(LOOK, "page.css"), own_source(PLAYER, "steps.js")
    page = (
        templates(words)
        .get_template("page.html.jinja")
        .render(
            title=title,
            language=language,
            sections=SECTIONS,
            style=style,
            style_digest=style_digest,
            script=script,
            script_digest=script_digest,
            **_context(found, answers, words),
        )
    )
    write_page(path, page)


def _context(found: Finished, answers: int, words: Wording) -> Record:
    """All values that the templates show."""
    run, scores, summaries = found.folder, found.scores, found.summaries
    funnel = _funnel(read_json(run / "corpus" / "funnel.json"), summaries, words)
    models, names = comparison(found, words), opening.language_names(found, words)
    logs = {
        method: [read_lines(run / "adapters" / name / "log.jsonl") for name in found.names(method)]
        for method in found.methods
    }
    rows, films = side_by_side.rows(found, answers)
    steps = {key: words.texts[key] for key in WORDS_OF_STEPS}
    return {
        "about": opening.about(found, words, names, funnel["kept_rows"]),
        "example": opening.example(found, words),
        "verdict": opening.verdict(words, models, names),
        "names": names,
        "judged": {name: judged(models, name) for name in names},
        "cut": next((cut for summary in summaries.values() if (cut := cut_rows(summary))), {}),
        "summary": summary(words, funnel, models),
        "sentences": pair_sentences(words, scores["pairs"]),
        "best": best_adapter(models),
        "exact": exact_models(scores, words),
        "models": models,
        "styles": {model["name"]: model for model in models},
        "pairs": [_pair(pair) for pair in scores["pairs"]],
        "right_pairs": scores["right_pairs"],
        "signatures": scores["signatures"],
        "tradeoff": plots.tradeoff_plot(scores, found.methods, words),
        "loss": plots.loss_plot(logs, words),
        "funnel": funnel,
        "overlap": read_json(run / "corpus" / "overlap.json"),
        "clusters": [_cluster(cluster) for cluster in read_json(run / "corpus" / "clusters.json")],
        "map": plane.cluster_map(run / "corpus", words),
        "map_page": MAP_PAGE if (run / MAP_PAGE).exists() else None,
        "languages": [name for name in ("target", "source") if any(model["answers"][name] for model in models)],
        "worst": side_by_side.worst(found),
        "answers": rows,
        "films": embedded({"words": steps, "films": films}) if films else None,
        "manifest": _without_homes(found.manifest),
        "conditions": {name: without_homes(str(value)) for name, value in scores["conditions"].items()},
        "recipe": without_homes(read_text(run / "recipe.yaml")),
    }


def comparison(found: Finished, words: Wording) -> list[Record]:
    """A row for each model, with the lowest held-out loss first and unknown ones last."""
    models = [_model(name, found, words) for name in ["base", *found.methods]]
    return sorted(models, key=_loss)


def _model(name: str, found: Finished, words: Wording) -> Record:
    measures = found.scores["models"][name]
    return {
        "name": name,
        "label": words.label(name),
        "seeds": len(measures["names"]),
        "target": measures["target"] or {},
        "source": measures["source"] or {},
        "answers": measures["answers"],
        "gain": found.scores["gain"].get(name, {}).get("nats_per_token") or {},
        "forgetting": found.scores["forgetting"].get(name, {}).get("nats_per_token") or {},
        "right": {"target": _change(found, "gain", name), "source": _change(found, "forgetting", name)},
        "share": found.summaries.get(name, {}).get("share"),
        **style(name, found.methods),
    }


def _change(found: Finished, kind: str, name: str) -> Record | None:
    """The change of right answers as after minus before, so that forgetting is below zero on the page."""
    figure = found.scores[kind].get(name, {}).get("exact_match")
    if figure is None or kind == "gain":
        return figure
    return figure | {"mean": -figure["mean"], "low": -figure["high"], "high": -figure["low"]}


def style(name: str, methods: list[str]) -> Record:
    """The colour and marker of a model, which are the same on the whole page and, for known methods, on all pages."""
    if name == "base":
        return {"style": "base", "marker": plots.RING}
    order = [*METHODS, *(method for method in methods if method not in METHODS)]
    place = order.index(name)
    return {"style": f"m{place % STYLES}", "marker": plots.MARKERS[place % len(plots.MARKERS)]}


def _loss(model: Record) -> float:
    loss = mean(model["target"].get("nats_per_token"))
    return float("inf") if loss is None else loss


def _pair(pair: Record) -> Record:
    return pair | {"better": better_of(pair)[0]}


def _funnel(funnel: Record, summaries: Mapping[str, Record], words: Wording) -> Record:
    """The funnel, with the share of the corpus of each step. The last step is the training, equal for all methods."""
    source = finite(funnel.get("source_rows"))
    kept = {"source_rows": source, "kept_rows": funnel.get("kept_rows")}
    steps = list(funnel["steps"])
    trained = next((summary for summary in summaries.values() if "rows" in summary), None)
    if trained:
        steps.append({"stage": "tokens", "rows": trained["rows"], "dropped": trained["dropped"]})
        kept["kept_rows"] = trained["rows"]
    steps = [step | {"share": share(step.get("rows"), source), "name": _stage(words, step["stage"])} for step in steps]
    return kept | {"kept_share": share(kept["kept_rows"], source), "steps": steps}


def _stage(words: Wording, stage: str) -> str:
    return words(STAGES[stage]) if stage in STAGES else stage


def _cluster(cluster: Record) -> Record:
    """A cluster with its colour, its three main subsets and templates by share, and its most central row."""
    return cluster | {
        "colour": plane.cluster_colour(cluster["cluster"]),
        "name": plane.cluster_name(cluster),
        "subsets": _main(cluster["subsets"], cluster["rows"]),
        "templates": _main(cluster["templates"], cluster["rows"]),
        "central": next(iter(cluster["central"]), None),
    }


def _main(rows: Mapping[str, int], total: int) -> list[tuple[str, float | None]]:
    most = sorted(rows.items(), key=lambda item: -item[1])[:3]
    return [(name, share(count, total)) for name, count in most]


def _without_homes(manifest: Record) -> Record:
    inputs: dict[str, Any] = {without_homes(name): known for name, known in manifest.get("inputs", {}).items()}
    return manifest | {"inputs": inputs}
