"""Cendol's seven columns, and the row that all later packages know."""

from pathlib import Path

COLUMNS = ("dataset_name", "subset_name", "prompt_id", "template_name", "dataset_key", "input", "output")
"""Of `indonlp/cendol_collection_v2`; there is no row id, and `prompt_id` is the template's."""

TEXT_COLUMNS = ("input", "output")
"""All that a file of one's own must have."""

MESSAGES = "messages"
"""A conversation as a JSON list of {"role", "content"}, its answer the last; null where a row is the plain pair."""

RIGHT = "one_right_answer"
"""Whether a row has a single right answer, to be judged by; null is false."""

ROW_ID = "row_id"
"""Ordinal of a row in its source: files in the order of their names, rows in the order of their file."""

INGESTED, DRAWN, EMBEDDED = (Path("corpus") / name for name in ("ingested", "drawn", "embedded"))
"""What the stages before the last leave in a run folder."""
