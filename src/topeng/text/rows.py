"""The rows that the corpus stage leaves, as the later packages know them."""

from pathlib import Path
from typing import Any


def read_rows(path: Path) -> list[dict[str, Any]]:
    """`row_id`, `input` and `output` of the rows in a Parquet file, in order."""
    import pyarrow.parquet as pq  # here alone: models train and answer without it

    return pq.read_table(path, columns=["row_id", "input", "output"]).to_pylist()
