"""Items of the Indonesian benchmarks, as a corpus may hold them, are found in rows and kept out."""

import csv
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_corpus import OPTIONS, QUIET

from topeng.corpus import stages
from topeng.corpus.filters import Benchmark, contaminated
from topeng.corpus.schema import COLUMNS, DRAWN
from topeng.corpus.settings import Seeded, ingesting
from topeng.corpus.source_text import FIELDS, TemplateText


def cause(row):
    right = row[f"choice{int(row['label']) + 1}"]
    if row["question"] == "cause":
        return f"{row['premise']} Mengapa?", right
    return f"Apa yang terjadi kemudian? {row['premise']}", right


def inference(row):
    return f"{row['premise']}\nBenarkah: {row['hypothesis']}", {"e": "Ya.", "n": "Mungkin.", "c": "Tidak."}[
        row["label"]
    ]


def knowledge(row):
    asked = row["prompts"][0]
    options = "\n".join(f"{letter.upper()}. {asked[f'option_{letter}']}" for letter in "abcd")
    return f"{asked['question']}\n{options}", row["label"]


FILES = {
    "copal_id_standard.csv": cause,
    "copal_id_colloquial.csv": cause,
    "xcopa_id.jsonl": cause,
    "xcopa_id_val.jsonl": cause,
    "indonli_test_lay.jsonl": inference,
    "indonli_test_expert.jsonl": inference,
    "nusax_sentiment_id.csv": lambda row: (f"Apa sentimen ulasan ini? {row['text']}", row["label"]),
    "nusax_mt_id_en.csv": lambda row: ("Terjemahkan: " + row["english"], row["indonesian"]),
    "global_mmlu_lite_id_test.jsonl": knowledge,
    "global_mmlu_lite_id_dev.jsonl": knowledge,
}
"""How a corpus may put a row of each file: an input and an output."""


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]


def held_by(rows, files):
    """The matches of rows, pairs of input and output, each of a template of its own."""
    columns = [[f"template {place}" for place in range(len(rows))], *zip(*rows, strict=True)]
    table = pa.table([pa.array(column, pa.string()) for column in columns], names=["template_name", *FIELDS])
    return contaminated(table, TemplateText.discover(table), [Benchmark.read(name) for name in files])


@pytest.mark.parametrize("name", FILES)
def test_items_in_a_corpus_s_own_words_are_found(shared, name):
    path = shared / "data" / "benchmarks" / name
    every = read(path)
    matches = held_by([FILES[name](row) for row in every], [str(path)])
    found = {match.row for match in matches if match.row == match.item}
    assert len(found) >= 0.95 * len(every)


def test_texts_too_short_for_8_grams_count_together(tmp_path):
    item = {"premise": "Kulitnya penuh bentol-bentol.", "choice1": "Ia digigit nyamuk.", "choice2": "Ia patah hati."}
    (tmp_path / "a.jsonl").write_text(json.dumps(item))
    rows = [
        ("Kulitnya penuh bentol-bentol. Mengapa?", "Ia digigit nyamuk. Atau: ia patah hati."),
        ("Kulitnya penuh bentol-bentol. Mengapa?", "Ia digigit semut."),
        ("Ia digigit nyamuk.", "Ia sehat."),
    ]
    (match,) = held_by(rows, [str(tmp_path / "a.jsonl")])
    assert match.row == 0 and match.text == "\n".join(item.values()) and match.share == 1


def test_one_text_of_an_item_is_enough(tmp_path):
    long = "satu dua tiga empat lima enam tujuh delapan sembilan sepuluh"
    item = {"indonesian": long, "english": "one two three four five six seven eight nine ten eleven twelve"}
    (tmp_path / "a.jsonl").write_text(json.dumps(item))
    (match,) = held_by([("Hitunglah.", long), ("Hitunglah.", "satu dua tiga")], [str(tmp_path / "a.jsonl")])
    assert match.row == 0 and match.share == 1


def test_rows_that_hold_items_are_counted_under_that_reason(clean, shared, tmp_path):
    """One row of each file in a corpus of 409."""
    folder = shared / "data" / "benchmarks"
    plain = pq.read_table(clean / "corpus" / "train.parquet").select(list(COLUMNS)).to_pylist()
    texts = [make(read(folder / name)[30]) for name, make in FILES.items()]
    names = {"subset_name": "held", "template_name": "held"}
    held = [dict.fromkeys(COLUMNS, "") | names | {"input": given, "output": out} for given, out in texts]
    pq.write_table(pa.Table.from_pylist([*plain, *held]), tmp_path / "rows.parquet")
    options = replace(
        OPTIONS,
        files=[str(tmp_path / "rows.parquet")],
        subsets=[],
        sample_fraction=1.0,
        test_rows=5,
        validation_rows=5,
        languages=[],
        benchmarks=[str(folder / "*.csv"), str(folder / "*.jsonl")],
    )
    (tmp_path / "corpus").mkdir()
    stages.ingest_corpus(ingesting(options, 42), tmp_path, QUIET)
    stages.draw_corpus(Seeded(options, 42), tmp_path, tmp_path, QUIET)
    funnel = json.loads((tmp_path / DRAWN / "funnel.json").read_text())
    dropped = {reason: count for step in funnel["steps"] for reason, count in step["dropped"].items()}
    assert dropped["contains a benchmark's text"] == len(FILES)
    matched = {match["row"] for match in json.loads((tmp_path / DRAWN / "draw.json").read_text())["contaminated"]}
    assert matched == set(range(len(plain), len(plain) + len(FILES)))
    assert "held" not in pq.read_table(tmp_path / DRAWN / "pool.parquet")["subset_name"].to_pylist()
