"""Answers for the page: side by side with the steps of their denoising, and examples of failures."""

from collections.abc import Mapping, Sequence
from typing import Any

from topeng.evaluate.breakage import distinct, too_short
from topeng.evaluate.comparable import LANGUAGES
from topeng.evaluate.right_answers import token_f1
from topeng.report.files import Finished, Record, first_of
from topeng.system.lines import read_lines

FEWEST_TOKENS = 8
"""Least number of tokens of an answer in which repetition can be judged."""
REPETITIVE = 0.5
"""An answer with a lower share of distinct pairs of neighbouring tokens counts as repetitive here."""

Key = tuple[str, Any]
"""A language and the id of a row."""


def rows(found: Finished, limit: int) -> tuple[list[Record], list[Record]]:
    """The first rows of each language, and the steps of their answers.

    Returns:
        Rows with the answer of each model's first adapter, or None; and films, to which the `film` of an answer refers:
        `pieces`, the text of each token, and `at`, the forward pass that committed it.
    """
    answered = {model: answered_by(found, found.names(model)[0]) for model in ["base", *found.methods]}
    answered = {model: records for model, records in answered.items() if records}
    films: list[Record] = []
    shown = [key for language in LANGUAGES for key in _first_keys(answered, language, limit)]
    return [_row(key, answered, films) for key in shown], films


def worst(found: Finished) -> list[Record]:
    """For each model and kind of failure, how many answers failed in this way, and an example.

    `other_language` is not included, because `scores.json` only has its total.
    """
    failed = []
    for model in ["base", *found.methods]:
        records = [record for name in found.names(model) for record in answered_by(found, name).values()]
        for kind, those in _failed(records).items():
            if those:
                failed.append(those[0] | {"model": model, "kind": kind, "count": len(those), "rows": len(records)})
    return failed


def _failed(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The failed answers of each kind, worst first."""
    by_repetition = sorted(((_distinct(record), record) for record in records), key=lambda item: item[0])
    return {
        "empty": [record for record in records if not record["answer"].strip()],
        "too_short": sorted(filter(too_short, records), key=lambda record: len(record["answer"])),
        "at_limit": [record for _, record in by_repetition if not record["ended"]],
        "repetitive": [record for pairs, record in by_repetition if pairs < REPETITIVE],
        "wrong": sorted((one for one in records if one.get("right") is False), key=_alike),
    }


def _alike(record: Record) -> float:
    return token_f1(record["answer"], record["reference"])


def _distinct(record: Record) -> float:
    tokens = record["token_ids"]
    return distinct(tokens, 2) if len(tokens) >= FEWEST_TOKENS else 1.0


def answered_by(found: Finished, name: str) -> dict[Key, Record]:
    """The lines of `answers.jsonl` of an adapter or of `base`, or none if there is no such file."""
    path = found.folder / "evaluate" / name / "answers.jsonl"
    records = read_lines(path) if path.exists() else []
    return {(record["language"], record["row_id"]): record for record in records}


def _first_keys(answered: Mapping[str, Mapping[Key, Record]], language: str, limit: int) -> list[Key]:
    """Rows in the order of the first model that answered, then those that only others did."""
    keys = dict.fromkeys(key for records in answered.values() for key in records if key[0] == language)
    return list(keys)[:limit]


def _row(key: Key, answered: Mapping[str, Mapping[Key, Record]], films: list[Record]) -> Record:
    """One row. The films of its answers are added to `films`."""
    language, row_id = key
    asked = first_of({model: records[key] for model, records in answered.items() if key in records})
    answers = {model: _answer(records.get(key), films) for model, records in answered.items()}
    passes = max((answer["passes"] or 0 for answer in answers.values() if answer["film"] is not None), default=0)
    known = {"language": language, "row_id": row_id, "input": asked.get("input"), "reference": asked.get("reference")}
    return known | {"answers": answers, "passes": passes}


def _answer(record: Record | None, films: list[Record]) -> Record:
    if record is None:
        return {"text": None, "film": None, "tokens": None, "passes": None, "ended": True, "right": None}
    film = None
    if record.get("pieces"):
        film = len(films)
        films.append({"pieces": record["pieces"], "at": record["committed_at"]})
    return {
        "text": record["answer"],
        "film": film,
        "tokens": len(record["token_ids"]) if "token_ids" in record else None,
        "passes": record.get("forward_passes"),
        "ended": record.get("ended", True),
        "right": record.get("right"),
    }
