"""The rows that the corpus stage leaves, as the later packages know them."""

import json
from pathlib import Path
from typing import Any

from topeng.corpus.schema import MESSAGES, RIGHT, ROW_ID, TEXT_COLUMNS
from topeng.errors import GenerationError

ROW = (ROW_ID, *TEXT_COLUMNS, MESSAGES, RIGHT)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file of the corpus, in order.

    Of each row `row_id`, `input`, `output`, `messages` (a list of {"role", "content"}, the answer last; None where the
    row is the plain pair) and `one_right_answer` (bool). Files of older runs know neither of the last two.
    """
    import pyarrow.parquet as pq  # here alone: models train and answer without it

    there = set(pq.read_schema(path).names)
    rows = pq.read_table(path, columns=[name for name in ROW if name in there]).to_pylist()
    for row in rows:
        row["messages"] = json.loads(row["messages"]) if row.get("messages") else None
        row["one_right_answer"] = bool(row.get("one_right_answer"))
    return rows


def read_prompts(path: Path) -> list[str]:
    """Prompts of a file: the column `input` of Parquet (.parquet) or JSON Lines (.jsonl), else a prompt a line.

    Raises:
        GenerationError: it cannot be read, or has no `input`, or no prompt.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            prompts = pq.read_table(path, columns=["input"])["input"].to_pylist()
        else:
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            prompts = [json.loads(line)["input"] for line in lines] if path.suffix == ".jsonl" else lines
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = "a line has no `input`" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise GenerationError(f"cannot read prompts from {path}: {reason}") from error
    if odd := [prompt for prompt in prompts if not isinstance(prompt, str)]:
        raise GenerationError(f"cannot read prompts from {path}: an `input` is {odd[0]!r}, and must be text")
    if not prompts:
        raise GenerationError(f"{path} holds no prompt")
    return prompts
