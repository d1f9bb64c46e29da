"""The opening of the page: what was adapted to what, one question with its answers, and how the answers changed."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from topeng import kecil
from topeng.report.answers import answered_by
from topeng.report.files import Finished, Record, without_homes
from topeng.report.wording import LANGUAGE_NAMES, Wording, best_adapter, bounds, finite

FEW_ROWS = 30
"""With fewer judged rows, a share of right answers says little: half of 30 is 33 to 67 %."""
MALAY_TOO = ["id", "ms"]
"""The default of `corpus.languages`. Malay is only included because short Indonesian texts are mistaken for it."""


def language_names(found: Finished, words: Wording) -> dict[str, str]:
    """Names of the target and source languages, if the recipe has them."""
    corpus, source = found.recipe["corpus"], found.recipe.get("source") or {}
    asked = corpus["languages"] if corpus["languages"] != MALAY_TOO else MALAY_TOO[:1]
    place = 1 if words.language == "id" else 0
    target = [LANGUAGE_NAMES.get(code, [code, code])[place] for code in asked]
    english = not source.get("files") and not corpus["files"]
    return {
        "target": words.listed(target) if target else words("on_target"),
        "source": LANGUAGE_NAMES["en"][place] if english else words("on_source"),
    }


def about(found: Finished, words: Wording, names: Mapping[str, str], rows: Any) -> str:
    """One sentence: the base, the language, the methods, the rows, the day of the scores."""
    base = found.recipe["base"]["model"] or found.recipe["base"].get("convert")
    small = base is None or base == kecil.NAME
    made_up = not found.recipe["corpus"]["files"]
    day = datetime.fromtimestamp((found.folder / "scores.json").stat().st_mtime, UTC)
    return words(
        "about",
        base=words("about_small") if small else without_homes(str(base)).rstrip("/").rpartition("/")[2],
        text=words("about_made_up" if made_up else "about_rows", rows=words.count(rows)),
        language=names["target"],
        methods=words.listed([words.label(method) for method in found.methods]),
        day=f"{day.day} {words('months').split()[day.month - 1]} {day.year}",
    )


def example(found: Finished, words: Wording) -> Record | None:
    """The first row that the base answers wrongly and the median method rightly, and the number of such rows. If there
    is none, the first judged row, or the first row."""
    answered = {model: _answers(found, model) for model in ["base", *found.methods]}
    middle = _middle(found)
    if not answered["base"] or middle is None or not answered[middle]:
        return None
    both = [row for row in answered["base"] if row in answered[middle]]
    judged = [row for row in both if answered["base"][row].get("right") is not None]
    told = [row for row in judged if not answered["base"][row]["right"] and answered[middle][row]["right"]]
    if not both:
        return None
    row = (told or judged or both)[0]
    counts = {"count": words.count(len(told)), "rows": words.count(len(judged)), "model": words.label(middle)}
    return {
        "input": answered["base"][row]["input"],
        "reference": answered["base"][row]["reference"],
        "answers": {model: lines[row] for model, lines in answered.items() if row in lines},
        "why": words("example_told", **counts) if told else words("example_first"),
    }


def _answers(found: Finished, model: str) -> dict[Any, Record]:
    lines = answered_by(found, found.names(model)[0])
    return {row: line for (language, row), line in lines.items() if language == "target"}


def _middle(found: Finished) -> str | None:
    """The median method by right answers, or the lower of two."""
    shares = {
        method: finite((found.scores["models"][method]["answers"]["target"] or {}).get("exact_match")) or 0.0
        for method in found.methods
    }
    order = sorted(found.methods, key=lambda method: shares[method])
    return order[(len(order) - 1) // 2] if order else None


def verdict(words: Wording, models: Sequence[Record], names: Mapping[str, str]) -> list[str]:
    """Sentences about how the answers changed, for better or worse, beginning with the adapter of the lowest loss."""
    best, base = best_adapter(list(models)), next(model for model in models if model["name"] == "base")
    if best is None:
        return []
    sentences = [_right(words, best, base, language, names) for language in names]
    sentences += [_others(words, best, models, language, names) for language in names]
    sentences += [_worse(words, models, base, names["target"], measure) for measure in ("chrf", "empty")]
    known = {name: (base["answers"][name] or {}).get("judged", 0) for name in names}
    if not any(known.values()):
        sentences.append(words("not_judged"))
    few = [name for name, rows in known.items() if 0 < rows < FEW_ROWS]
    sentences += [words("few_rows", rows=words.count(known[name]), language=names[name]) for name in few]
    return [sentence for sentence in sentences if sentence]


def change(model: Mapping[str, Any], language: str) -> str:
    """How right answers compare with the base: `better`, `worse`, `unclear`, or nothing if it is not known."""
    figure = model["right"].get(language)
    known = bounds(figure)
    if known is None:
        return ""
    return "better" if known[0] > 0 else "worse" if known[1] < 0 else "unclear"


def _share(model: Mapping[str, Any], language: str) -> float | None:
    return finite((model["answers"][language] or {}).get("exact_match"))


def _right(words: Wording, model: Record, base: Record, language: str, names: Mapping[str, str]) -> str:
    found = change(model, language)
    shares = [_share(one, language) for one in (model, base)]
    if not found or None in shares:
        return ""
    key = {"better": "verdict_better", "worse": "verdict_worse", "unclear": "verdict_unclear"}[found]
    after, before = (words.whole(share) for share in shares)
    return words(key, language=names[language], model=model["label"], after=after, before=before)


def _others(words: Wording, best: Record, models: Sequence[Record], language: str, names: Mapping[str, str]) -> str:
    """The other adapters with clearly fewer right answers than the base."""
    worse = [one for one in models if one["name"] not in ("base", best["name"]) and change(one, language) == "worse"]
    if not worse:
        return ""
    listed = [f"{one['label']} ({words.whole(_share(one, language))})" for one in worse]
    return words("others_worse", language=names[language], models=words.listed(listed))


def _worse(words: Wording, models: Sequence[Record], base: Record, language: str, measure: str) -> str:
    """The adapters whose answers are less similar to their references than the base's, or more often empty."""
    values = {model["label"]: finite((model["answers"]["target"] or {}).get(measure)) for model in models}
    before, form = values.pop(base["label"]), words.decimal if measure == "chrf" else words.whole
    worse = {
        label: value
        for label, value in values.items()
        if value is not None and before is not None and (value < before if measure == "chrf" else value > before + 0.02)
    }
    if not worse:
        return ""
    digits = {"digits": 1} if measure == "chrf" else {}
    listed = words.listed([f"{label} ({form(value, **digits)})" for label, value in worse.items()])
    key = "less_alike" if measure == "chrf" else "more_empty"
    return words(key, language=language, models=listed, before=form(before, **digits))
