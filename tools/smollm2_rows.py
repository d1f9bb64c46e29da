"""Writes the rows of recipes/smollm2-indonesia.yaml: `python tools/smollm2_rows.py ../shared/data runs/smollm2-rows`.

plain.parquet has Indonesian texts to pretrain on: sentences of subsets that are not adapted to, and three of four texts
of reviews, questions and news. indonesian.parquet has the rows of six subsets that share no text with these, and says
of each whether it has one right answer; indonesian_short.parquet keeps those of at most 240 characters, on which
recipes/compare-smollm2.yaml compares methods on a CPU. english.parquet is the source language.
"""

import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topeng.corpus.filters import Benchmark, contaminated, holding
from topeng.corpus.groups import group_table
from topeng.corpus.schema import RIGHT, ROW_ID
from topeng.corpus.source_text import TemplateText

SUBSETS = ["facqa", "smsa", "berita", "nusax_mt_eng_ind", "identity_prompt", "safety_prompt"]
ONE_ANSWER = ["facqa_jawab_1", "facqa_jawab_2", "smsa_sentimen_1", "smsa_sentimen_2", "berita_hoaks_1"]
ONE_ANSWER += ["nusax_sentiment_eng_1"]
"""Templates whose question has one right answer."""
WITH_TEXT = ["smsa_sentimen_1", "facqa_tanya_1", "berita_hoaks_1"]
"""Templates whose input is an instruction, a blank line, and a text."""
PLAIN_SHARE, PIECE = 0.75, 480
"""Share of those texts that is plain text, and the characters of a piece of it at most."""
SHORT = 240


def main(shared: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    indonesian, english = (pq.read_table(shared / f"{name}.parquet") for name in ("indonesian", "english"))
    kept = indonesian.filter(pc.is_in(indonesian["subset_name"], pa.array(SUBSETS)))
    plain = pa.array(is_plain(kept))
    texts = [*sentences(indonesian), *with_text(kept.filter(plain))]
    pq.write_table(pa.table({"text": pieces(texts)}), out / "plain.parquet", compression="zstd")
    rows = without(numbered(kept.filter(pc.invert(plain))), out / "plain.parquet")
    short = pc.less_equal(pc.add(pc.utf8_length(rows["input"]), pc.utf8_length(rows["output"])), SHORT)
    pq.write_table(marked(rows), out / "indonesian.parquet", compression="zstd")
    pq.write_table(marked(rows.filter(short)), out / "indonesian_short.parquet", compression="zstd")
    pq.write_table(marked(english), out / "english.parquet", compression="zstd")


def marked(table: pa.Table) -> pa.Table:
    return table.append_column(RIGHT, pc.is_in(table["template_name"], pa.array(ONE_ANSWER)))


def is_plain(table: pa.Table) -> np.ndarray:
    """Of each row, whether its text is to be plain text: the same for all rows that share a text."""
    groups = group_table(numbered(table))
    drawn = np.random.default_rng(1).random(int(groups.max()) + 1) < PLAIN_SHARE
    drawn[groups[pc.is_in(table["subset_name"], pa.array(SUBSETS[3:])).to_numpy()]] = False
    return drawn[groups]


def numbered(table: pa.Table) -> pa.Table:
    return table.append_column(ROW_ID, pa.array(np.arange(table.num_rows)))


def without(table: pa.Table, texts: Path) -> pa.Table:
    """The rows that hold none of a file's texts, not even in part: NusaX translates sentences of SmSA's reviews."""
    held = holding(contaminated(table, TemplateText.discover(table), [Benchmark.read(str(texts))]), table.num_rows)
    return table.filter(pa.array(~held)).drop_columns([ROW_ID])


def sentences(table: pa.Table) -> list[str]:
    """The Indonesian sides of sentences that have a translation in a regional language."""
    rows = table.filter(pc.starts_with(table["subset_name"], "nusa_kalimat")).to_pylist()
    return [given(row) if "_ind_" in row["subset_name"] else row["output"] for row in rows]


def with_text(table: pa.Table) -> list[str]:
    return [given(row) for row in table.filter(pc.is_in(table["template_name"], pa.array(WITH_TEXT))).to_pylist()]


def given(row: dict[str, str]) -> str:
    return row["input"].split("\n\n", 1)[1]


def pieces(texts: list[str]) -> list[str]:
    """Each text once, in their order, long ones in pieces."""
    return [piece for text in dict.fromkeys(texts) for piece in textwrap.wrap(text, PIECE)]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
