"""The stages of a corpus, on made-up rows with what makes the real ones hard: copies, templates, other languages."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from small_corpus import BEFORE_SELECT, OPTIONS, QUIET, SIDES, make

from topeng.corpus import card, filters, stages
from topeng.corpus.filters import benchmark_items
from topeng.corpus.schema import COLUMNS, INGESTED
from topeng.corpus.settings import Seeded, SourceOptions, Sourcing, ingesting
from topeng.errors import CorpusError
from topeng.recipe import parse, slices


@pytest.fixture(params=["clean", "paper"])
def corpus(request):
    return request.getfixturevalue(request.param)


def read(corpus, name):
    return pq.read_table(corpus / "corpus" / f"{name}.parquet")


def funnel_of(corpus):
    return json.loads((corpus / "corpus" / "funnel.json").read_text())


def test_counts_are_exact(corpus):
    assert [read(corpus, side).num_rows for side in SIDES] == [400, 60, 30]
    assert set(read(corpus, "train")["subset_name"].to_pylist()) == set(OPTIONS.subsets)


def test_no_row_no_group_and_no_content_stands_on_two_sides(corpus):
    tables = [read(corpus, side) for side in SIDES]
    for column in ("row_id", "group", "content_hash"):
        seen = [set(table[column].to_pylist()) for table in tables]
        assert len(set.union(*seen)) == sum(map(len, seen))
    assert len(set(tables[1]["group"].to_pylist())) == 60  # one row a group
    answers = [{text for text in table["output"].to_pylist() if len(text) > 100} for table in tables]
    assert answers[1] and not answers[0] & answers[1]


def test_every_row_that_leaves_is_counted(corpus):
    funnel = funnel_of(corpus)
    assert funnel["source_rows"] == 8000 and funnel["kept_rows"] == 400 and funnel["kept_share"] == 0.05
    rows = funnel["source_rows"]
    for step in funnel["steps"]:
        rows -= sum(step["dropped"].values())
        assert step["rows"] == rows


def test_every_row_that_was_looked_at_has_a_decision(clean):
    decisions = read(clean, "decisions").to_pylist()
    assert len({row["row_id"] for row in decisions}) == len(decisions)
    counts = {}
    for row in decisions:
        counts[row["reason"]] = counts.get(row["reason"], 0) + 1
    train = sum(count for reason, count in counts.items() if reason.startswith("train"))  # some for a short cluster
    assert (train, counts["test"], counts["validation"]) == (400, 60, 30)
    dropped = {reason: rows for step in funnel_of(clean)["steps"] for reason, rows in step["dropped"].items()}
    for reason in ("near duplicate", "like a held-out row", "over its cluster's quota"):
        assert counts[reason] == dropped[reason] > 0
    stage = {row["row_id"]: row for row in decisions}
    held = set(read(clean, "test")["row_id"].to_pylist() + read(clean, "validation")["row_id"].to_pylist())
    for row in decisions:
        assert (row["matched_row"] is not None) == (row["reason"] in ("near duplicate", "like a held-out row"))
        if row["reason"] == "near duplicate":
            assert stage[row["matched_row"]]["reason"] != "near duplicate"
        if row["reason"] == "like a held-out row":
            assert row["matched_row"] in held


def test_the_clean_pool_has_no_content_twice_and_its_quotas_follow_the_corpus(clean):
    pool = pq.read_table(clean / "corpus" / "drawn" / "pool.parquet")
    assert len(set(pool["content_hash"].to_pylist())) == pool.num_rows
    strata = json.loads((clean / "corpus" / "corpus.json").read_text())["strata"]
    got = {name: entry["got"] for name, entry in strata.items()}
    names = pool["template_name"].to_pylist()
    assert got == {name: names.count(name) for name in got}
    upsampled = [name for name in got if name.startswith(("safety", "identity"))]
    assert all(0 < got[name] < strata[name]["wanted"] for name in upsampled)  # all of the few, and no copies
    assert sum(got.values()) == sum(entry["wanted"] for entry in strata.values())


def test_the_paper_s_pool_has_its_copies(paper):
    pool = pq.read_table(paper / "corpus" / "drawn" / "pool.parquet")
    assert pool.num_rows == round(0.36 * funnel_of(paper)["steps"][2]["rows"])
    assert len(set(pool["content_hash"].to_pylist())) < 0.95 * pool.num_rows


def test_clusters_and_the_plane_are_described(corpus):
    clusters = json.loads((corpus / "corpus" / "clusters.json").read_text())
    assert sum(entry["selected"] for entry in clusters) == 400
    assert all(entry["words"] for entry in clusters)
    plane = read(corpus, "umap")
    assert plane.num_rows == 200
    assert np.isfinite(plane["x"].to_numpy()).all()


def test_what_is_left_of_overlap_is_told(corpus):
    overlap = json.loads((corpus / "corpus" / "overlap.json").read_text())
    counted = sum(entry["rows"] for entry in overlap["rows_by_share"])
    assert counted + overlap["too_short"] == overlap["test_rows"] == 60
    shares = [pair["share"] for pair in overlap["most_alike"]]
    assert shares == sorted(shares, reverse=True) and overlap["mean_share"] < 0.2


def test_a_card_says_of_benchmarks_only_what_was_done():
    options = {"benchmarks": ["items.jsonl"]}
    clean, paper = ({"options": options | {"profile": one}, "contaminated": []} for one in ("clean", "paper"))
    assert "0 rows that contain text of items.jsonl were dropped" in card._contaminated(clean)
    assert card._contaminated(paper) == "No benchmark was checked."


def test_the_card_names_sources_licences_and_upsampling(clean, tmp_path):
    options = replace(OPTIONS, licences={"dolly": "CC BY-SA 3.0 | <b>"})
    corpus = make(options, tmp_path, given=clean, kept=BEFORE_SELECT)
    card = (corpus / "corpus" / "README.md").read_text()
    assert "CC BY-SA 3.0 \\| &lt;b>" in card and "not stated" in card
    subsets = json.loads((corpus / "corpus" / "corpus.json").read_text())["subsets"]
    safety = subsets["safety_prompt"]
    assert safety["rows"] > safety["distinct"] and f"{safety['upsampling']:g} ×" in card


def test_another_seed_gives_other_rows(clean, tmp_path):
    other = make(OPTIONS, tmp_path, 43, given=clean, kept=[INGESTED])
    assert not any(read(other, side).equals(read(clean, side)) for side in SIDES)


def test_the_same_seed_gives_the_same_rows_however_they_are_sharded(clean, tmp_path):
    whole = pq.read_table(clean / "synthetic.parquet")
    sizes = [100, 5000, 2900]
    for number, size in enumerate(sizes):
        part = whole.slice(sum(sizes[:number]), size)
        pq.write_table(part, tmp_path / f"{number}.parquet", row_group_size=[1000, 333, 8000][number])
    again = make(replace(OPTIONS, files=[str(tmp_path / "*.parquet")]), tmp_path / "again")
    assert all(read(again, side).equals(read(clean, side)) for side in SIDES)


def test_templates_that_a_filter_empties_are_refilled_by_rank(tmp_path):
    rows = [
        dict.fromkeys(COLUMNS, "soal")
        | {"template_name": f"soal_{number % 2}"}
        | {"input": f"Berapa harga {number} buah mangga di pasar kota?"}
        | {
            "output": english
            if number % 2 and number % 5
            else f"Harga {number} buah mangga itu adalah dua ribu rupiah."
        }
        for number in range(400)
        for english in (f"The price of those {number} mangoes on the market is two thousand rupiah, my friend.",)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    options = replace(OPTIONS, files=[str(tmp_path / "a.parquet")], subsets=[], sample_fraction=0.15)
    options = replace(options, test_rows=5, validation_rows=5, near_duplicate=1.0, containment=1.0)
    stages.ingest_corpus(ingesting(options, 42), tmp_path, QUIET)
    stages.draw_corpus(Seeded(options, 42), tmp_path, tmp_path, QUIET)
    strata = json.loads((tmp_path / "corpus" / "drawn" / "draw.json").read_text())
    assert strata["wanted"] == strata["got"] == {"soal_0": 30, "soal_1": 30}  # of soal_1, 40 rows are Indonesian
    pool = pq.read_table(tmp_path / "corpus" / "drawn" / "pool.parquet")
    assert not any(text.startswith("The price") for text in pool["output"].to_pylist())


def test_personal_data_are_masked_in_train_and_test(tmp_path):
    rows = [
        dict.fromkeys(COLUMNS, "kontak")
        | {"input": f"Ke mana saya mengirim berkas nomor {number} untuk panitia lomba?"}
        | {"output": f"Kirim saja berkas itu ke panitia{number}@contoh.co.id sebelum hari Senin, ya."}
        for number in range(200)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    options = replace(OPTIONS, files=[str(tmp_path / "a.parquet")], subsets=[], sample_fraction=1.0, clusters=2)
    options = replace(options, train_rows=50, test_rows=5, validation_rows=5, near_duplicate=1.0, containment=1.0)
    corpus = make(options, tmp_path / "out")
    for side in SIDES:
        assert all("ke [EMAIL] sebelum" in text for text in read(corpus, side)["output"].to_pylist())
    assert json.loads((corpus / "corpus" / "corpus.json").read_text())["masked"]["EMAIL"] >= 60


def test_rows_that_masking_makes_equal_do_not_stand_on_two_sides(tmp_path):
    rows = [
        dict.fromkeys(COLUMNS, "nomor")
        | {"input": f"Nomor saya 0812{number:08}" if number < 200 else f"Berapa {number} dan satu?", "output": "Baik."}
        for number in range(400)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    options = replace(OPTIONS, files=[str(tmp_path / "a.parquet")], subsets=[], sample_fraction=1.0, languages=[])
    corpus = make(replace(options, train_rows=50, test_rows=20, validation_rows=5, clusters=2), tmp_path / "out")
    seen = [row["input"] for side in SIDES for row in read(corpus, side).to_pylist()]
    assert seen.count("Nomor saya [TELEPON]") == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe\xff", "a.txt is UTF-16 instead of UTF-8. Convert it"),
        ("a.TXT", b" \n\n", "a.TXT contains no text"),
        ("a.jsonl", b'{"id": 1}\n', "a.jsonl contains no text"),
        ("a.csv", None, "corpus.benchmarks: nothing matches .*a.csv"),
    ],
)
def test_a_benchmark_that_cannot_be_used_is_named(clean, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        stages.draw_corpus(Seeded(replace(OPTIONS, benchmarks=[str(tmp_path / name)]), 42), clean, tmp_path, QUIET)


def test_all_texts_of_a_benchmark_s_row_are_its_item(tmp_path):
    rows = [{"question": "Apa?", "answers": {"text": ["satu", None]}, "choices": [["dua"], []], "id": 3}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert benchmark_items(str(tmp_path / "a.parquet")) == [["Apa?", "satu", "dua"]]


def test_rows_that_hold_a_benchmark_s_text_leave_with_their_matches(clean, tmp_path):
    articles = [row for row in read(clean, "train").to_pylist() if row["subset_name"] == "wikipedia_id"]
    item = max(articles, key=lambda row: len(row["output"]))
    (tmp_path / "bench.jsonl").write_text(json.dumps({"question": item["output"], "choices": ["ya", "tidak"], "id": 1}))
    options = replace(OPTIONS, benchmarks=[str(tmp_path / "bench.jsonl")])
    stages.draw_corpus(Seeded(options, 42), clean, tmp_path, QUIET)
    matches = json.loads((tmp_path / "corpus" / "drawn" / "draw.json").read_text())["contaminated"]
    assert item["row_id"] in [match["row"] for match in matches]
    assert all(match["share"] >= 0.5 and item["output"] in match["text"] for match in matches)
    for name in ("pool", "test", "validation"):
        rows = pq.read_table(tmp_path / "corpus" / "drawn" / f"{name}.parquet")["row_id"].to_pylist()
        assert not {match["row"] for match in matches} & set(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_rows": 5000}, "corpus.train_rows = 5,000, but only .* usable rows were sampled"),
        ({"sample_rows": 900_000}, "900,000 rows were requested"),
        ({"sample_rows": 3_900}, "corpus.sample_rows = 3,900, but only .* distinct rows pass the filters"),
        ({"test_rows": 7000}, "share no source text"),
        ({"expected_rows": {"dolly": 3}}, "corpus.expected_rows says 3 rows of dolly"),
        ({"digest": "abc"}, "corpus.digest is abc, but the digest of the source is"),
        (
            {"subsets": ["wikihau"]},
            "corpus.subsets names wikihau, which the source does not contain. Its subsets are dolly",
        ),
        ({"languages": ["xx"]}, "corpus.languages names xx, which cannot be identified"),
        ({"benchmarks": ["nowhere.jsonl"]}, "corpus.benchmarks: nothing matches nowhere.jsonl"),
        ({"profile": "paper", "test_rows": 7000}, "share no source text"),
    ],
)
def test_a_count_that_cannot_be_met_is_an_error(clean, tmp_path, change, message):
    kept = [] if change.keys() & {"expected_rows", "digest"} else [INGESTED]
    with pytest.raises(CorpusError, match=message):
        make(replace(OPTIONS, **change), tmp_path, given=clean, kept=kept)
    assert not (tmp_path / "corpus" / "train.parquet").exists()


def test_source_rows_are_held_out_by_group(tmp_path):
    stages.build_source(Sourcing(SourceOptions(synthetic_rows=2000, test_rows=50), 42), tmp_path, QUIET)
    train, test = (pq.read_table(tmp_path / "source" / f"{name}.parquet") for name in ("train", "test"))
    assert test.num_rows == 50 and 1000 < train.num_rows < 2000
    assert not set(train["output"].to_pylist()) & {text for text in test["output"].to_pylist() if len(text) > 40}


def test_no_source_row_and_no_plain_text_that_holds_a_benchmark_s_item_is_trained_on(tmp_path, monkeypatch):
    item = "seven grey geese crossed the frozen river before the old ferryman woke up"
    rows = [
        {"input": f"What did number {n} of the {n * 7} people say?", "output": f"It said {n * 3}."} for n in range(99)
    ]
    held = {"input": "Tell me a story.", "output": f"Listen: {item}, they say."}
    texts = [{"text": f"Orang ke-{n} berkata {n * 3} kali."} for n in range(19)] + [{"text": f"Kata orang, {item}."}]
    for name, lines in {"rows": [*rows, held], "plain": texts, "items": [{"question": item}]}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = {"files": [str(tmp_path / "rows.jsonl")], "plain_files": [str(tmp_path / "plain.jsonl")]}
    recipe = parse(
        {
            "source": files | {"test_rows": 5, "plain_rows": 19},
            "corpus": {"benchmarks": [str(tmp_path / "items.jsonl")]},
        }
    )
    told, reads = io.StringIO(), []
    monkeypatch.setattr(filters, "benchmark_items", lambda name: reads.append(name) or benchmark_items(name))
    (tmp_path / "other").mkdir()
    stages.build_source(slices.source(recipe), tmp_path, Console(file=told, width=200))
    stages.build_source(replace(slices.source(recipe), benchmarks=[]), tmp_path / "other", QUIET)

    def read(name, folder=tmp_path):
        return pq.read_table(folder / "source" / f"{name}.parquet")

    assert item in " ".join(read("train", tmp_path / "other")["output"].to_pylist())
    assert item not in " ".join(read("train")["output"].to_pylist() + read("plain")["text"].to_pylist())
    assert read("test").equals(read("test", tmp_path / "other")) and read("plain").num_rows == 19
    funnel = json.loads((tmp_path / "source" / "funnel.json").read_text())
    assert funnel["steps"][-1] == {"stage": "filter", "rows": 94, "dropped": {"contains a benchmark's text": 1}}
    assert funnel["plain_texts"] == {"rows": 19, "dropped": {"contains a benchmark's text": 1}}
    assert "dropped: 1 of the plain texts (contains a benchmark's text)" in told.getvalue()
    assert len(reads) == 1
    asked = replace(slices.source(recipe), options=replace(slices.source(recipe).options, plain_rows=20))
    (tmp_path / "more").mkdir()
    with pytest.raises(CorpusError, match="have 19 without a benchmark's text"):
        stages.build_source(asked, tmp_path / "more", QUIET)


def test_held_out_ordinals_are_the_rows_that_are_tested(tmp_path):
    stages.build_source(Sourcing(SourceOptions(synthetic_rows=1000, test_rows=50), 42), tmp_path, QUIET)
    held_out = tmp_path / "held_out.json"
    held_out.write_text(json.dumps({"rows": list(range(100, 140))}))
    options = SourceOptions(files=[str(tmp_path / "synthetic.parquet")], held_out=str(held_out), test_rows=20)
    (tmp_path / "again").mkdir()
    stages.build_source(Sourcing(options, 42), tmp_path / "again", QUIET)
    test = pq.read_table(tmp_path / "again" / "source" / "test.parquet")["row_id"].to_pylist()
    assert len(test) == 20 and set(test) <= set(range(100, 140))
