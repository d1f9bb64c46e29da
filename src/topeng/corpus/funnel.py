"""What happened to every row: counts for the report, and a line for each row that was examined."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from topeng.corpus.schema import ROW_ID
from topeng.system.files import write_atomically

TOP_UP = "train, for a cluster that is short"
"""Outcome of a training row that tops up for a small cluster; other training rows have `train`."""

SCHEMA = pa.schema(
    [
        (ROW_ID, pa.int64()),
        ("stage", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("matched_row", pa.int64()),
    ]
)


class Funnel:
    """Counts rows from the source to the selection, and the reason of each dropped row.

    A row that is dropped after it was examined has a decision: stage, reason, and the row that it matched.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: list[dict[str, Any]] = []
        self._dropped: dict[str, int] = {}
        self._decisions: list[pa.Table] = []

    @property
    def rows(self) -> int:
        """Number of rows that are left."""
        return self._steps[-1]["rows"]

    def start(self, rows: int) -> None:
        self._steps = [{"stage": "source", "rows": rows, "dropped": {}}]

    def count(self, dropped: Mapping[str, int]) -> None:
        """Counts rows that this stage drops, by reason, if there are too many for a line each."""
        for reason, rows in dropped.items():
            self._dropped[reason] = self._dropped.get(reason, 0) + int(rows)

    def drop(self, stage: str, reason: str, row_ids: np.ndarray, matched: np.ndarray | None = None) -> None:
        """Records rows that this stage drops, with the rows that they were matched with, [R]."""
        self.count({reason: len(row_ids)})
        self._decide(stage, False, reason, row_ids, matched)

    def keep(self, stage: str, role: str, row_ids: np.ndarray) -> None:
        """Records rows that are kept, and their outcome."""
        self._decide(stage, True, role, row_ids, None)

    def close(self, stage: str) -> None:
        """Ends a stage, and prints how many rows are left."""
        dropped = {reason: count for reason, count in self._dropped.items() if count}
        rows = self.rows - sum(dropped.values())
        self._steps.append({"stage": stage, "rows": rows, "dropped": dropped})
        self._dropped = {}
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        line = Table.grid(padding=(0, 3, 0, 0))  # long reasons are indented
        line.add_column(no_wrap=True)
        told = Text(f"dropped: {reasons}" if reasons else "")  # a name may look like markup
        line.add_row(f"  {stage:<9}{rows:>12,} rows", told)
        self._console.print(line, highlight=False)

    def save(self, folder: Path, **beside: Any) -> None:
        """Writes `funnel.json`, with the other counts in `beside`, and `decisions.parquet`."""
        total = self._steps[0]["rows"]
        funnel = {
            "source_rows": total,
            "kept_rows": self.rows,
            "kept_share": self.rows / total,
            "steps": self._steps,
        } | beside
        write_atomically(folder / "funnel.json", json.dumps(funnel, indent=1))
        decisions = pa.concat_tables(self._decisions) if self._decisions else SCHEMA.empty_table()
        pq.write_table(decisions.sort_by(ROW_ID), folder / "decisions.parquet")

    def resume(self, folder: Path) -> None:
        """Continues the funnel that an earlier stage saved."""
        self._steps = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))["steps"]
        self._decisions = [pq.read_table(folder / "decisions.parquet")]

    def _decide(self, stage: str, kept: bool, reason: str, row_ids: np.ndarray, matched: np.ndarray | None) -> None:
        count = len(row_ids)
        rows = pa.nulls(count, pa.int64()) if matched is None else pa.array(matched, pa.int64())
        columns = [pa.array(row_ids, pa.int64()), [stage] * count, [kept] * count, [reason] * count, rows]
        self._decisions.append(pa.table(columns, schema=SCHEMA))
