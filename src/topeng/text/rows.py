"""The rows that the corpus stage leaves, as the later packages know them."""

import json
from pathlib import Path
from typing import Any

from topeng.errors import GenerationError


def read_rows(path: Path) -> list[dict[str, Any]]:
    """`row_id`, `input` and `output` of the rows in a Parquet file, in order."""
    import pyarrow.parquet as pq  # here alone: models train and answer without it

    return pq.read_table(path, columns=["row_id", "input", "output"]).to_pylist()


def read_texts(path: Path) -> list[str]:
    """The column `text` of a Parquet file, in order."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["text"])["text"].to_pylist()


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
