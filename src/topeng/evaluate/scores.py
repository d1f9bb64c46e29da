"""What is measured of one model: the likelihood bound on target and source rows, and its answers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from topeng.diffusion import response_nll
from topeng.diffusion.noise import Use, row_generator
from topeng.errors import CorpusError
from topeng.generate.answer import answers
from topeng.recipe import Recipe
from topeng.run import progress_bar
from topeng.text.rows import read_rows
from topeng.text.tokens import tokenize_rows


def evaluate_model(
    recipe: Recipe, name: str, model: Any, tokenizer: Any, run: Path, work: Path, console: Console
) -> None:
    """Writes `evaluate/NAME/`, JSON Lines: `likelihood.jsonl` and `answers.jsonl`.

    Args:
        name: `base` or a method.

    Raises:
        CorpusError: no test row has an answer that can be scored.
    """
    out = work / "evaluate" / name
    out.mkdir(parents=True, exist_ok=True)
    rows = {"target": read_rows(run / "corpus" / "test.parquet"), "source": read_rows(run / "source" / "test.parquet")}
    with progress_bar(console) as bar:
        scored = [
            line
            for language, scorable in rows.items()
            for line in score_likelihood(recipe, language, scorable, model, tokenizer, bar)
        ]
        asked = draw_questions(rows["target"], recipe.evaluate.generate_rows, recipe.seed)
        task = bar.add_task(f"{name}: answers", total=len(asked))
        given: dict[int, str] = {}
        questions = [row["input"] for row in asked]
        for answer in answers(
            model, tokenizer, questions, recipe.generate, recipe.text.max_length, recipe.evaluate.batch_tokens
        ):
            given[answer.index] = answer.answer
            bar.advance(task)
    answered = [
        {"row_id": row["row_id"], "input": row["input"], "reference": row["output"], "answer": given[index]}
        for index, row in enumerate(asked)
    ]
    _write_lines(out / "likelihood.jsonl", scored)
    _write_lines(out / "answers.jsonl", answered)


def score_likelihood(
    recipe: Recipe, language: str, rows: Sequence[dict], model: Any, tokenizer: Any, bar: Progress
) -> list[dict[str, Any]]:
    """`language`, `row_id`, `nats` (the bound) and `tokens` (answer and end of turn) of each row."""
    examples, dropped = tokenize_rows(tokenizer, rows, recipe.text.max_length)
    if not examples:
        raise CorpusError(f"none of {len(rows)} {language} test rows can be scored: {dict(dropped)}")
    task = bar.add_task(f"likelihood, {language} rows", total=None)
    nats = response_nll(
        model,
        examples,
        model.config.mask_token_id,
        model.config.eos_token_id,
        recipe.evaluate.draws,
        recipe.seed,
        batch_tokens=recipe.evaluate.batch_tokens,
        progress=lambda done, passes: bar.update(task, completed=done, total=passes),
    ).mean(axis=1)
    return [
        {"language": language, "row_id": example.row_id, "nats": float(nll), "tokens": example.response_length}
        for example, nll in zip(examples, nats, strict=True)
    ]


def draw_questions(rows: Sequence[dict], count: int, seed: int) -> list[dict]:
    """`count` rows at random (all of them, if there are fewer), in order."""
    order = row_generator(Use.DECODING, seed, 0, 0).permutation(len(rows))
    return [rows[index] for index in np.sort(order[:count])]


def _write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")
