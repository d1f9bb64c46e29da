"""Writes the rows of recipes/smollm2-indonesia.yaml: `python tools/smollm2_rows.py ../shared/data runs/smollm2-rows`.

indonesian.parquet has six subsets, and says of each row whether it has one right answer; english.parquet is the source
language; plain.parquet has Indonesian sentences of other subsets, to pretrain on. indonesian_short.parquet keeps
the rows of at most 240 characters, on which recipes/compare-smollm2.yaml compares methods on a CPU.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topeng.corpus.schema import RIGHT

SUBSETS = ["facqa", "smsa", "berita", "nusax_mt_eng_ind", "identity_prompt", "safety_prompt"]
ONE_ANSWER = ["facqa_jawab_1", "facqa_jawab_2", "smsa_sentimen_1", "smsa_sentimen_2", "berita_hoaks_1"]
ONE_ANSWER += ["nusax_sentiment_eng_1"]
"""Templates whose question has one right answer."""
SHORT = 240


def main(shared: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    indonesian, english = (pq.read_table(shared / f"{name}.parquet") for name in ("indonesian", "english"))
    kept = indonesian.filter(pc.is_in(indonesian["subset_name"], pa.array(SUBSETS)))
    rows = marked(kept)
    short = pc.less_equal(pc.add(pc.utf8_length(rows["input"]), pc.utf8_length(rows["output"])), SHORT)
    pq.write_table(rows, out / "indonesian.parquet", compression="zstd")
    pq.write_table(rows.filter(short), out / "indonesian_short.parquet", compression="zstd")
    pq.write_table(marked(english), out / "english.parquet", compression="zstd")
    pq.write_table(pa.table({"text": plain_texts(indonesian)}), out / "plain.parquet", compression="zstd")


def marked(table: pa.Table) -> pa.Table:
    return table.append_column(RIGHT, pc.is_in(table["template_name"], pa.array(ONE_ANSWER)))


def plain_texts(table: pa.Table) -> list[str]:
    """The Indonesian sides of sentences that stand beside those of regional languages, each once, in their order."""
    found: dict[str, None] = {}
    for row in table.filter(pc.starts_with(table["subset_name"], "nusa_kalimat")).to_pylist():
        found[row["input"].split("\n\n", 1)[1] if "_ind_" in row["subset_name"] else row["output"]] = None
    return list(found)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
