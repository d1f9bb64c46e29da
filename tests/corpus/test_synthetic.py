import re
from collections import defaultdict

import pyarrow.parquet as pq
import pytest

from topeng.corpus.schema import COLUMNS
from topeng.corpus.settings import CENDOL_INDONESIAN
from topeng.corpus.synthetic import CHUNK_ROWS, write_plain, write_source, write_target
from topeng.corpus.world.english import ENGLISH
from topeng.corpus.world.indonesian import INDONESIAN
from topeng.errors import CorpusError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Makes rows of the Indonesian corpus."""

    def make(rows, seed=0, write=write_target):
        path = tmp_path_factory.mktemp("synthetic") / "rows.parquet"
        write(path, rows, seed)
        return pq.read_table(path)

    return make


@pytest.fixture(scope="module")
def rows(corpus):
    """20,000 Indonesian rows."""
    return corpus(20_000).to_pylist()


def texts_of(rows, template):
    return {row["output"] for row in rows if row["template_name"] == template}


@pytest.mark.parametrize("write", [write_target, write_source])
@pytest.mark.parametrize("count", [1, CHUNK_ROWS + 7])
def test_it_has_the_rows_asked_for_in_cendols_columns(corpus, write, count):
    table = corpus(count, write=write)
    assert table.num_rows == count
    assert tuple(table.schema.names) == (*COLUMNS, "one_right_answer")
    assert [str(kind) for kind in table.schema.types] == ["string"] * len(COLUMNS) + ["bool"]
    assert not any(column.null_count for column in table.columns)


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="0 rows"):
        write_target(tmp_path / "rows.parquet", 0, 0)


def test_rows_depend_on_the_seed_alone(corpus):
    assert corpus(3_000, seed=1).equals(corpus(3_000, seed=1))
    assert not corpus(3_000, seed=1).equals(corpus(3_000, seed=2))


def test_half_of_a_small_corpus_is_the_six_subsets_each_well_represented(corpus):
    subsets = corpus(5_000)["subset_name"].to_pylist()
    indonesian = [subsets.count(name) for name in CENDOL_INDONESIAN]
    assert min(indonesian) > 100
    assert sum(indonesian) == pytest.approx(2_500, abs=150)
    assert {"wikipedia_jv", "nusaparagraph_topic_sun"} < set(subsets)
    assert len(set(subsets[:50])) > 5  # interleaved


def test_a_poem_stands_under_many_templates_in_either_field(rows):
    poem = sorted(texts_of(rows, "indo_puisi_0"))[0]
    found = [row for row in rows if poem in row["input"] or poem in row["output"]]
    assert len({row["template_name"] for row in found}) >= 5
    assert {poem in row["input"] for row in found} == {True, False}


def test_a_template_has_one_id_and_its_own_words(rows):
    ids, prompts = defaultdict(set), defaultdict(list)
    for row in rows:
        ids[row["template_name"]].add(row["prompt_id"])
        prompts[row["template_name"]].append(set(row["input"].split()))
    assert {len(found) for found in ids.values()} == {1}
    assert len(set().union(*ids.values())) == len(ids)
    shared = {name: set.intersection(*words) for name, words in prompts.items()}
    bare = [name for name, words in shared.items() if len(words) < 2]
    assert sorted(bare) == ["dolly_1", "dolly_4", "identity_prompt_0", "wikipedia_id_7"]  # as people write them


def test_safety_identity_and_dolly_are_few_rows_many_times_over(rows):
    distinct = {
        name: {(row["input"], row["output"]) for row in rows if row["subset_name"] == name}
        for name in ("safety_prompt", "identity_prompt", "dolly")
    }
    assert len(distinct["safety_prompt"]) == 187
    assert len({answer for _, answer in distinct["safety_prompt"]}) == 56
    assert len(distinct["identity_prompt"]) == 150
    dolly = sum(row["subset_name"] == "dolly" for row in rows)
    assert 0.9 * dolly / 5 < len(distinct["dolly"]) <= -(-dolly // 5) + 1


def test_distinct_texts_grow_with_the_rows(corpus, rows):
    few, many = (len(texts_of(found, "wikipedia_id_0")) for found in (rows, corpus(60_000).to_pylist()))
    assert few > 300
    assert many > 2.7 * few


def test_rows_are_short_and_every_slot_is_filled(rows, corpus):
    for row in rows + corpus(5_000, write=write_source).to_pylist():
        assert 2 <= len(f"{row['input']} {row['output']}".split()) <= 90
        assert row["output"]
        assert not {"{", "}"} & set(row["input"] + row["output"])


def test_what_is_asked_of_a_text_has_one_right_answer_and_the_text_decides_it(rows):
    marked = [row for row in rows if row["one_right_answer"]]
    by_prompt = defaultdict(set)
    for row in marked:
        by_prompt[row["input"]].add(row["output"])
    assert {len(answers) for answers in by_prompt.values()} == {1}
    sums = [re.search(r"(\d+) .* (\d+) .*sekarang", row["input"]) for row in marked]
    told = [(found, row["output"]) for found, row in zip(sums, marked, strict=True) if found]
    assert len(told) > 20
    assert all(str(int(found[1]) + int(found[2])) in answer for found, answer in told)


def test_a_good_part_of_rows_in_both_languages_has_one_right_answer(rows, corpus):
    indonesian = [row["one_right_answer"] for row in rows if row["subset_name"] in CENDOL_INDONESIAN]
    english = corpus(5_000, write=write_source)["one_right_answer"].to_pylist()
    assert 0.5 < sum(indonesian) / len(indonesian) < 0.8
    assert 0.7 < sum(english) / len(english) < 0.95


def test_plain_texts_ask_nothing_of_their_reader(tmp_path):
    """Who is asked stands in the text, and so does the answer."""
    write_plain(tmp_path / "plain.parquet", 3_000, seed=1)
    texts = pq.read_table(tmp_path / "plain.parquet")["text"].to_pylist()
    assert len(texts) == 3_000
    assert not any("{" in text or text.endswith("?") for text in texts)
    asked = [text for text in texts if "?" in text]
    assert 0.7 < len(asked) / len(texts) < 0.9
    assert all(re.match(r"\s+\S", told) for text in asked for told in text.split("?")[1:])
    assert len(set(texts)) > 2_900


def test_plain_texts_answer_rightly_before_and_after_what_rows_ask(tmp_path):
    """Titles, lines and sums, in the words of instruction rows."""
    write_plain(tmp_path / "plain.parquet", 20_000, seed=2)
    texts = pq.read_table(tmp_path / "plain.parquet")["text"].to_pylist()
    poem = r"((?:[A-Z][\w -]*\n){2}[A-Z][\w -]*)"
    first = [found for text in texts if (found := re.search(rf"baris kedua puisi ini\?\n\n{poem}\n\n\w+: (.*)$", text))]
    after = [found for text in texts if (found := re.search(rf"{poem}\n+Tanya: Apa baris kedua .*? Jawab: (.*)", text))]
    assert min(len(first), len(after)) > 5
    assert all(found[1].split("\n")[1] == found[2] for found in first + after)
    sums = re.findall(r"(\d+) tambah (\d+) adalah (\d+)", "\n".join(texts))
    assert len(sums) > 10 and all(int(one) + int(other) == int(total) for one, other, total in sums)


def test_what_is_so_without_a_text_is_asked_in_both_languages(rows, corpus):
    english = corpus(20_000, write=write_source).to_pylist()
    for found, asked, lexicon, name in (
        (rows, r"Apa lawan kata (\w+)\?$", INDONESIAN, "Siapa namamu?"),
        (english, r"What is the opposite of (\w+)\?$", ENGLISH, "What is your name?"),
    ):
        opposite = {quality["of"]: quality["opposite"] for quality in lexicon["quality"]}
        told = [(match[1], row["output"]) for row in found if (match := re.search(asked, row["input"]))]
        assert len(told) > 5
        assert all(answer.endswith(f" {opposite[word]}.") for word, answer in told)
        (answer,) = {row["output"] for row in found if row["input"] == name}
        assert "Topeng" in answer
