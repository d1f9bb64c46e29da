"""A model card for each method, in the Hub's format: the numbers of the report, and how to load the adapter.

Cards are in English, like the Hub. What they say about the run comes from its files. They name no folder of this
machine.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from topeng.adapt.settings import METHODS, Method, without_seed
from topeng.kecil import hub_id
from topeng.report.files import (
    Finished,
    Record,
    cut_rows,
    read_json,
    read_run,
    share,
    templates,
    without_homes,
    write_page,
)
from topeng.report.page import comparison
from topeng.report.wording import Wording, finite, mean

HUB_FILES = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)")
ANSWER_METRICS = {
    "exact_match": "Right answers (exact match, 0 to 1)",
    "f1": "Token F1 (0 to 1)",
    "chrf": "chrF++",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "bertscore": "BERTScore",
}
NOT_STATED = "not stated"


def write_cards(run_dir: Path, folder: Path, title: str, licence: str | None) -> None:
    """Writes a card for each method of a finished run, named like its adapters but without their seeds.

    Args:
        run_dir: the run folder.
        folder: folder for the cards, which is created.
        title: title of the run.
        licence: licence of the adapters, in the Hub's spelling, or None if it is not stated.

    Raises:
        RunError: a file of the run folder is missing or cannot be read.
    """
    found = read_run(Path(run_dir))
    folder.mkdir(parents=True, exist_ok=True)
    for method in found.methods:
        write_page(folder / f"{without_seed(found.names(method)[0])}.md", card(found, method, title, licence))


def card(found: Finished, method: str, title: str, licence: str | None) -> str:
    """The card of one method, with front matter and body."""
    words, base, known = Wording(), _base(found.recipe), _known(method)
    models = {model["name"]: model for model in comparison(found, words)}
    front = yaml.safe_dump(_front(found, method, title, licence), sort_keys=False, allow_unicode=True, width=120)
    environment = templates(words, escape=False)
    environment.filters["cell"] = cell
    body = environment.get_template("model_card.md.jinja").render(
        title=title,
        method=method,
        label=words.label(method),
        source=known.source if known else "",
        full=_full(method),
        topeng_alone=_topeng_alone(method),
        names=found.names(method),
        hub_base=hub_id(base),
        converted=without_homes(found.recipe["base"].get("convert") or "").rpartition("/")[2],
        base=base.rstrip("/").rpartition("/")[2] if base else None,
        recipe=found.recipe,
        summary=found.summaries[method],
        corpus=_corpus(found),
        cut=cut_rows(found.summaries[method]),
        models=[models["base"], models[method]],
        scores=found.scores,
        gain=found.scores["gain"].get(method, {}),
        forgetting=found.scores["forgetting"].get(method, {}),
        exact=method in found.scores.get("exact", []),
        versions=found.manifest["versions"],
        licence=licence,
    )
    return f"---\n{front}---\n\n{body}"


def cell(text: Any) -> str:
    """Text for a Markdown table: on one line, with bars and tags escaped, and without home folders."""
    return " ".join(without_homes(str(text)).replace("|", "\\|").replace("<", "&lt;").split())


def _front(found: Finished, method: str, title: str, licence: str | None) -> Record:
    """The metadata that the Hub reads."""
    recipe, base = found.recipe, _base(found.recipe)
    corpus = recipe["corpus"]
    front: Record = {"license": licence} if licence else {"license": "other", "license_name": "not-stated"}
    if hub_id(base):
        front |= {"base_model": base, "base_model_relation": "finetune" if _full(method) else "adapter"}
    library = "transformers" if _full(method) else "topeng" if _topeng_alone(method) else "peft"
    front |= {"library_name": library, "pipeline_tag": "text-generation"}
    if corpus["languages"]:
        front["language"] = list(corpus["languages"])
    datasets = sorted({match[1] for file in corpus["files"] if (match := HUB_FILES.match(file))})
    if datasets:
        front["datasets"] = datasets
    tags = ["topeng", "llada", "masked-diffusion", "diffusion-language-model", _kind(method).replace("+", "plus")]
    return front | {"tags": tags, "model-index": [_index(found, method, title, datasets)]}


def _index(found: Finished, method: str, title: str, datasets: list[str]) -> Record:
    """The measurements on held-out rows of both languages, in the Hub's format for results."""
    scores = found.scores
    results = []
    kind_of_score = "exact" if method in scores.get("exact", []) else "upper bound"
    for language, change in (("target", "gain"), ("source", "forgetting")):
        measures = scores["models"][method]
        values = {
            measure: (f"{name} ({kind_of_score})", _mean_of(measures[language], measure))
            for measure, name in (("nats_per_token", "Nats per token"), ("bits_per_byte", "Bits per byte"))
        }
        values[change] = (
            f"{change.capitalize()}, nats per token",
            _mean_of(scores[change].get(method), "nats_per_token"),
        )
        answers = measures["answers"][language] or {}
        values |= {metric: (name, finite(answers.get(metric))) for metric, name in ANSWER_METRICS.items()}
        metrics = [
            {"type": metric, "name": name, "value": round(value, 4)}
            for metric, (name, value) in values.items()
            if value is not None
        ]
        kind = datasets[0] if datasets and language == "target" else "topeng"
        results.append(
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": f"Held-out rows, {language} language", "type": kind, "split": "test"},
                "metrics": metrics,
            }
        )
    return {"name": f"{title}: {Wording().label(method)}", "results": results}


def _mean_of(figures: Mapping[str, Any] | None, measure: str) -> float | None:
    return mean((figures or {}).get(measure))


def _base(recipe: Mapping[str, Any]) -> str | None:
    """The model id or folder of the base, or None if the run made it."""
    return recipe["base"]["model"]


def _kind(method: str) -> str:
    """The name of a method without its options, such as `full` for `full objective=block`."""
    return method.partition(" ")[0]


def _known(method: str) -> Method | None:
    """The description of a method, or None if this version of Topeng no longer has it."""
    return METHODS.get(_kind(method))


def _full(method: str) -> bool:
    return bool((known := _known(method)) and known.full)


def _topeng_alone(method: str) -> bool:
    """Whether only Topeng can load the adapter."""
    return bool((known := _known(method)) and known.noise_aware)


def _corpus(found: Finished) -> Record:
    """The training rows, and what is known about the licences of their texts."""
    funnel, options = read_json(found.folder / "corpus" / "funnel.json"), found.recipe["corpus"]
    licences = {subset: options["licences"].get(subset, NOT_STATED) for subset in options["subsets"]}
    kept = next((summary["rows"] for summary in found.summaries.values() if "rows" in summary), funnel["kept_rows"])
    source = funnel["source_rows"]
    return {"source_rows": source, "kept_rows": kept, "kept_share": share(kept, source), "licences": licences}
