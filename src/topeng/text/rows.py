"""Reads rows that the corpus stages wrote, and prompts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from topeng.corpus import conventions, files, formats, turns
from topeng.corpus.schema import MESSAGES, RIGHT, ROW_ID, TEXT_COLUMNS
from topeng.errors import CorpusError, GenerationError

ROW = (ROW_ID, *TEXT_COLUMNS, MESSAGES, RIGHT)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file of the corpus, in order.

    A row has `row_id`, `input`, `output`, `messages` (a list of {"role", "content"} with the answer last, or None for a
    plain pair) and `one_right_answer` (bool). Files of older runs lack the last two.
    """
    import pyarrow.parquet as pq  # imported here, because models train and answer without it

    there = set(pq.read_schema(path).names)
    rows = pq.read_table(path, columns=[name for name in ROW if name in there]).to_pylist()
    for row in rows:
        row["messages"] = json.loads(row["messages"]) if row.get("messages") else None
        row["one_right_answer"] = bool(row.get("one_right_answer"))
    return rows


def read_texts(path: Path) -> list[str]:
    """The column `text` of a Parquet file, in order."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["text"])["text"].to_pylist()


def read_prompts(path: Path) -> list[str | list[dict[str, str]]]:
    """Reads prompts from a file of any format that a corpus may have, or one prompt per line of text.

    A prompt is a text or, in a conversation, the messages before the last answer. Answers next to prompts are not read.

    Raises:
        GenerationError: the file cannot be read, or a row has no prompt. It is not skipped, so that answers can be
            assigned to rows by their order.
    """
    try:
        names = files.local_files(str(path)) or [str(path)]
        prompts = [prompt for name in names for prompt in _prompts(name)]
    except CorpusError as error:
        reason = str(error).removeprefix(f"{path}, ").removeprefix(f"cannot read {path}: ")
        raise GenerationError(f"cannot read prompts from {path}: {reason}") from error
    if not prompts:
        raise GenerationError(f"{path} contains no prompt")
    return prompts


def _prompts(name: str) -> Iterator[str | list[dict[str, str]]]:
    rows, reading = formats.open_rows(name), conventions.Reading(section="")
    with rows.stack:
        found = conventions.find(name, rows.columns, reading, answers=False) if rows.columns else None
        for batch in rows.batches:
            for place, record in zip(batch.places, batch.records(), strict=True):
                assert found
                where = f"{rows.unit} {place}"
                found.unread.extend(conventions.new_columns(name, where, record, found, reading, answers=False))
                turn = turns.turn(record, found.roles, answers=False)
                if turn.problem or not turn.input.strip():
                    raise CorpusError(f"{name}, {where}: {turn.problem or 'the prompt is empty'}")
                yield turn.messages or turn.input
