"""Cendol's seven columns, and the row that all later packages know."""

from pathlib import Path

COLUMNS = ("dataset_name", "subset_name", "prompt_id", "template_name", "dataset_key", "input", "output")
"""Of `indonlp/cendol_collection_v2`; there is no row id, and `prompt_id` is the template's."""

TEXT_COLUMNS = ("input", "output")
"""All that a file of one's own must have."""

ROW_ID = "row_id"
"""Ordinal of a row in its source: files in the order of their names, rows in the order of their file."""

INGESTED, DRAWN, EMBEDDED = (Path("corpus") / name for name in ("ingested", "drawn", "embedded"))
"""What the stages before the last leave in a run folder."""
