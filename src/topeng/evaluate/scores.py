"""Measures one model: the likelihood of test rows or its bound, and its answers to some of them.

Both are collected in files that survive a kill, from which `compare` computes figures.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import Progress

from topeng.diffusion import objective_of, response_nll
from topeng.diffusion.likelihood import draw_masks
from topeng.diffusion.noise import Use, row_generator
from topeng.errors import CorpusError
from topeng.evaluate.right_answers import judged
from topeng.evaluate.settings import Answering, Scoring
from topeng.generate.answer import Answer, Prompt, answers, question_text
from topeng.system.files import digest, write_atomically
from topeng.system.lines import Line, LineFile
from topeng.system.progress import progress_bar
from topeng.system.versions import versions
from topeng.text.chat import encode_answer
from topeng.text.rows import read_rows
from topeng.text.settings import AskOptions
from topeng.text.tokens import Example, count_cuts, fit_row, history, tokenize_rows

LANGUAGES = {"target": "corpus/test.parquet", "source": "source/test.parquet"}
CHUNK_ROWS = 32
"""Number of scored rows that are written at a time."""


class Model(NamedTuple):
    """What `topeng.load` returns."""

    network: Any
    tokenizer: Any


def score_model(asked: Scoring, name: str, model: Model, run: Path, work: Path, console: Console) -> None:
    """Writes `likelihood/NAME/`: `likelihood.jsonl`, and `rows.json` with the numbers of dropped and cut rows.

    Called again with the same `work` after a kill, it continues from there.

    Raises:
        CorpusError: no test row has an answer that can be scored.
    """
    out = work / "likelihood" / name
    with progress_bar(console) as bar:
        dropped, cut = score_rows(asked, _test_rows(run), model, out / "likelihood.jsonl", bar)
    write_atomically(out / "rows.json", json.dumps({"dropped": dropped, "cut": cut}, indent=1))


def evaluate_model(asked: Answering, name: str, model: Model, run: Path, work: Path, console: Console) -> None:
    """Writes `evaluate/NAME/`: a copy of the `likelihood.jsonl` of `score_model`, `answers.jsonl`, and `scored.json`,
    which describes them.

    Called again with the same `work` after a kill, it continues from there.

    Raises:
        GenerationError: a prompt and its answer exceed the model's context.
    """
    likelihood, out, training = run / "likelihood" / name, work / "evaluate" / name, asked.training
    with progress_bar(console) as bar:
        answer_rows(asked, _test_rows(run), model, out / "answers.jsonl", bar)
    shutil.copyfile(likelihood / "likelihood.jsonl", out / "likelihood.jsonl")
    scored = {
        "name": name,
        "method": training.method if training else "base",
        "seed": training.seed if training else None,
        "training": asked.trained_by | {"rows": digest(run / "corpus/train.parquet")} if training else {},
        "conditions": conditions(asked, model.tokenizer, run),
        "exact": objective_of(model.network.config).exact,
        "versions": versions(),
        **json.loads((likelihood / "rows.json").read_text(encoding="utf-8")),
    }
    write_atomically(out / "scored.json", json.dumps(scored, indent=1))


def _test_rows(run: Path) -> dict[str, list[dict]]:
    return {language: read_rows(run / path) for language, path in LANGUAGES.items()}


def conditions(asked: Answering, tokenizer: Any, run: Path) -> dict[str, Any]:
    """Everything that scores depend on besides the model. Models can only be compared if these are the same.

    The masks of a row of 100 tokens identify how a version draws them.
    """
    masks, _ = draw_masks(100, asked.evaluate.draws, asked.seed, 0, asked.evaluate.replicates)
    return {
        **{f"{language}_rows": digest(run / path) for language, path in LANGUAGES.items()},
        "tokenizer": hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest(),
        "masks": hashlib.sha256(masks.tobytes()).hexdigest(),
        **asked.conditions,
    }


def score_rows(
    asked: Scoring, rows: dict[str, list[dict]], model: Model, path: Path, bar: Progress
) -> tuple[dict[str, int], dict[str, int]]:
    """Writes one line per row: `language`, `row_id`, `tokens` (of answer and end of turn), `bytes` of the answer, and
    `nats`, the bound as estimated by each replicate.

    Returns:
        The numbers of dropped rows by reason, and of prompts and answers that were cut.

    Raises:
        CorpusError: none of a language's rows can be scored.
    """
    file, text = LineFile(path, {"scores": list(rows)}), asked.text
    done = {(line["language"], line["row_id"]): line for line in file.lines}
    all_dropped, all_cut = Counter[str](), Counter[str]()
    for language, scorable in rows.items():
        examples, dropped = tokenize_rows(model.tokenizer, scorable, text.max_length, min_share=text.min_share)
        if not examples:
            raise CorpusError(f"none of the {len(scorable)} {language} test rows can be scored: {dict(dropped)}")
        all_dropped.update(dropped)
        all_cut.update(count_cuts(examples))
        sizes = _answer_bytes(model.tokenizer, scorable, examples)
        examples.sort(key=lambda example: -len(example.input_ids))  # rows of similar length share a forward pass
        task = bar.add_task(f"likelihood, {language} rows", total=len(examples))
        for start in range(0, len(examples), CHUNK_ROWS):
            chunk = examples[start : start + CHUNK_ROWS]
            if not all((language, example.row_id) in done for example in chunk):
                lines = _score(asked, language, chunk, sizes, model.network)
                file.add(lines)
                done |= {(language, line["row_id"]): line for line in lines}
            bar.advance(task, len(chunk))
    file.finish([done[key] for key in sorted(done)])
    return dict(all_dropped), dict(all_cut)


def _answer_bytes(tokenizer: Any, rows: Sequence[dict], examples: Sequence[Example]) -> dict[int, int]:
    """The size in bytes of the scored part of each row's answer."""
    sizes = {row["row_id"]: len(row["output"].strip().encode()) for row in rows}
    for example in examples:
        if example.cut_answer:
            sizes[example.row_id] = len(tokenizer.decode(example.input_ids[example.prompt_length :]).encode())
    return sizes


def answer_rows(asked: Answering, rows: dict[str, list[dict]], model: Model, path: Path, bar: Progress) -> None:
    """Writes one line per answer: its row, the question, and the denoising of each token."""
    questions = [
        (language, row)
        for language, askable in rows.items()
        for row in draw_questions(askable, asked.evaluate.generate_rows, asked.seed)
    ]
    file = LineFile(path, {"answers": len(questions)})
    done = {(line["language"], line["row_id"]): line for line in file.lines}
    keys = [(language, row["row_id"]) for language, row in questions]
    task = bar.add_task("answers", total=len(questions), completed=len(done))
    for answer in answers(
        model.network,
        model.tokenizer,
        [Prompt(question_text(history(row)), _prompt(asked.text, model.tokenizer, row)) for _, row in questions],
        asked.generate,
        asked.evaluate.batch_tokens,
        skip=[index for index, key in enumerate(keys) if key in done],
    ):
        done[keys[answer.index]] = _answer_line(*questions[answer.index], answer)
        file.add([done[keys[answer.index]]])
        bar.advance(task)
    file.finish([done[key] for key in keys])


def _prompt(text: AskOptions, tokenizer: Any, row: dict) -> list[int]:
    """The prompt as in training and scoring, which is cut with regard to the length of the reference."""
    answer = encode_answer(tokenizer, row["output"])
    return fit_row(tokenizer, history(row), answer, text.max_length, text.min_share)[0]


def draw_questions(rows: Sequence[dict], count: int, seed: int) -> list[dict]:
    """`count` rows at random (all of them, if there are fewer), in order."""
    order = row_generator(Use.DECODING, seed, 0, 0).permutation(len(rows))
    return [rows[index] for index in np.sort(order[:count])]


def _score(
    asked: Scoring, language: str, examples: Sequence[Example], sizes: dict[int, int], network: Any
) -> list[Line]:
    options = asked.evaluate
    nats = response_nll(network, examples, options.draws, asked.seed, options.replicates, options.batch_tokens)
    return [
        {"language": language, "row_id": example.row_id, "tokens": example.response_length}
        | {"bytes": sizes[example.row_id], "nats": estimates.tolist()}
        for example, estimates in zip(examples, nats, strict=True)
    ]


def _answer_line(language: str, row: dict, answer: Answer) -> Line:
    return {
        "language": language,
        "row_id": row["row_id"],
        "input": row["input"],
        "reference": row["output"],
        "answer": answer.answer,
        **judged(answer.answer, row["output"], bool(row.get("one_right_answer"))),
        **answer.denoising,
    }
