"""Cendol's seven columns, and the row that all later packages use."""

from pathlib import Path

COLUMNS = ("dataset_name", "subset_name", "prompt_id", "template_name", "dataset_key", "input", "output")
"""Columns of `indonlp/cendol_collection_v2`. It has no row id, and `prompt_id` identifies the template."""

TEXT_COLUMNS = ("input", "output")
"""The only columns that your own file must have."""

MESSAGES = "messages"
"""A conversation as a JSON list of {"role", "content"} that ends with the answer; null for a plain pair."""

RIGHT = "one_right_answer"
"""Whether a row has exactly one right answer, which answers can be compared with; null means false."""

ROW_ID = "row_id"
"""Number of a row in its source, where files are ordered by name and rows as in their file."""

INGESTED, DRAWN, EMBEDDED = (Path("corpus") / name for name in ("ingested", "drawn", "embedded"))
"""Folders that the stages before the last write in a run folder."""
