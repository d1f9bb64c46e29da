"""`verify` and `diff`, on corpora that a run left."""

import json
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from small_corpus import OPTIONS, make

from topeng.cli import main
from topeng.corpus.audit import diff, verify
from topeng.corpus.schema import INGESTED
from topeng.errors import CorpusError
from topeng.system.files import digest


@pytest.fixture
def corpus(clean, tmp_path):
    return shutil.copytree(clean / "corpus", tmp_path / "corpus", ignore=shutil.ignore_patterns("ingested"))


def problems(folder):
    return {check.what: check.problems for check in verify(folder) if check.problems}


def resign(corpus, name):
    """As one would who changed a file on purpose."""
    manifest = json.loads((corpus / "corpus.json").read_text())
    manifest["files"][name]["sha256"] = digest(corpus / name)
    (corpus / "corpus.json").write_text(json.dumps(manifest))


def test_a_finished_corpus_holds(corpus, capsys):
    assert not problems(corpus) and not problems(corpus.parent)
    assert main(["corpus", "verify", str(corpus)]) == 0
    assert capsys.readouterr().out.count("ok  ") == 6


def test_a_changed_file_and_a_missing_one_are_named(corpus, capsys):
    with (corpus / "train.parquet").open("ab") as stream:
        stream.write(b" ")
    (corpus / "test.parquet").unlink()
    assert main(["corpus", "verify", str(corpus)]) == 1
    out = capsys.readouterr().out
    assert "train.parquet has the digest" in out and "test.parquet is missing" in out
    assert main(["corpus", "verify", str(corpus), "--json"]) == 1
    (check,) = json.loads(capsys.readouterr().out)["checks"]
    assert check["what"].startswith("files match") and "test.parquet is missing" in check["problems"]


def test_a_leak_is_named_though_the_digests_hold(corpus):
    test, train = (pq.read_table(corpus / f"{side}.parquet") for side in ("test", "train"))
    place = test.column_names.index("group")
    pq.write_table(test.set_column(place, "group", train["group"].slice(0, test.num_rows)), corpus / "test.parquet")
    resign(corpus, "test.parquet")
    assert list(problems(corpus)) == ["no source text is in two splits"]


def test_a_lost_row_is_named(corpus):
    train = pq.read_table(corpus / "train.parquet")
    pq.write_table(train.slice(1), corpus / "train.parquet")
    resign(corpus, "train.parquet")
    found = problems(corpus)
    assert "train has 399 rows, but corpus.train_rows is 400" in str(found)
    assert f"row {train['row_id'][0].as_py()} is in train only in its table or only in decisions.parquet" in str(found)


def test_two_selections_differ_by_options_rows_and_reasons(clean, tmp_path, capsys):
    other = make(replace(OPTIONS, near_duplicate=0.5), tmp_path / "other", given=clean, kept=[INGESTED])
    found = diff(clean, other)
    assert found.options == {"near_duplicate": (0.8, 0.5)}
    both, first, second = found.rows["train"]
    assert both + first == both + second == 400 and 0 < first < 400
    assert sum(found.why[0].values()) == first and "near duplicate" in found.why[0]
    assert main(["corpus", "diff", str(clean), str(other)]) == 0
    assert "near_duplicate: 0.8 in A, 0.5 in B" in capsys.readouterr().out
    assert main(["corpus", "diff", str(clean), str(other), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["options"] == {"near_duplicate": [0.8, 0.5]} and told["rows"]["train"] == [both, first, second]
    assert diff(clean, clean).rows["train"] == (400, 0, 0)


def test_corpora_of_two_sources_are_not_compared(clean, tmp_path):
    fewer = replace(OPTIONS, synthetic_rows=2000, train_rows=50, test_rows=10, validation_rows=5, umap_rows=50)
    other = make(fewer, tmp_path / "other")
    with pytest.raises(CorpusError, match="Their row ids belong to different rows"):
        diff(clean, other)


@pytest.mark.parametrize("content", ["{", "[]", '{"files": {}}'])
def test_a_damaged_manifest_is_named(corpus, capsys, content):
    (corpus / "corpus.json").write_text(content)
    for words in (["verify", str(corpus)], ["diff", str(corpus), str(corpus)]):
        assert main(["corpus", *words]) == 1
        assert "was changed since a run wrote it" in capsys.readouterr().err


def test_a_corpus_that_lost_a_file_is_not_compared(clean, corpus):
    (corpus / "decisions.parquet").unlink()
    with pytest.raises(CorpusError, match=r"decisions\.parquet is missing"):
        diff(clean, corpus)


def test_a_folder_without_a_corpus_and_wrong_words_are_errors(tmp_path, capsys):
    assert main(["corpus", "verify", str(tmp_path)]) == 1
    assert "contains no finished corpus" in capsys.readouterr().err
    assert main(["corpus", "diff", str(tmp_path)]) == 1
    assert "takes RECIPE, `check FILE…`, `verify DIR`, or `diff DIR DIR`" in capsys.readouterr().err
