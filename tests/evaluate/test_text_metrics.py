"""What is measured of answers, on lines made by hand."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from topeng.errors import CorpusError, ModelError
from topeng.evaluate.bertscore import bertscore, f_measure
from topeng.evaluate.breakage import breakage, longest_repeat, other_language
from topeng.evaluate.text_metrics import rouge_l, score_answers, signatures
from topeng.recipe import parse
from topeng.run.pipeline import stages

INDONESIAN = "Kucing itu tidur di atas kursi kayu yang berada di ruang tamu sejak tadi malam."
ENGLISH = "The cat has been sleeping on the wooden chair in the living room since last night."
JAVANESE = "Kucing kuwi turu ing dhuwur kursi kayu sing ana ing ruang tamu wiwit mau bengi, ora gelem tangi."


def line(answer, reference=INDONESIAN, row_id=0, tokens=None, passes=8, ended=True):
    token_ids = [hash(word) for word in answer.split()] if tokens is None else tokens
    return {
        "language": "target",
        "row_id": row_id,
        "input": "Di mana kucing itu?",
        "reference": reference,
        "answer": answer,
        "token_ids": token_ids,
        "committed_at": [1] * len(token_ids),
        "confidence": [0.5] * len(token_ids),
        "forward_passes": passes,
        "seconds": 0.1,
        "ended": ended,
    }


def many(count=30):
    """Rows whose answers are their references, or cut, or empty."""
    words = INDONESIAN.split()
    return [line(" ".join(words[: row % len(words)]), row_id=row) for row in range(count)]


def test_a_right_answer_has_the_highest_scores():
    scores = score_answers([line(INDONESIAN, row_id=row) for row in range(3)], ["id", "ms"])
    assert scores["rows"] == 3 and scores["bertscore"] is None
    for name, best in {"chrf": 100, "rouge_l": 1}.items():
        assert [scores[name], scores[f"{name}_low"], scores[f"{name}_high"]] == pytest.approx([best] * 3)
    assert scores["bleu"] == pytest.approx(100)
    assert scores["empty"] == scores["at_limit"] == scores["other_language"] == 0
    assert scores["mean_tokens"] == 15 and scores["tokens_per_forward_pass"] == 15 / 8


def test_scores_are_those_of_the_libraries():
    from sacrebleu.metrics import BLEU, CHRF

    lines = many()
    answers, references = [a["answer"] for a in lines], [a["reference"] for a in lines]
    scores = score_answers(lines, ["id"])
    assert scores["chrf"] == pytest.approx(CHRF(word_order=2).corpus_score(answers, [references]).score)
    assert scores["bleu"] == pytest.approx(BLEU().corpus_score(answers, [references]).score)
    assert scores["rouge_l"] == pytest.approx(rouge_l(answers, references).mean())


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("Kucing itu tidur", "kucing tidur.", 0.8),
        ("القط نائم هنا", "القط نائم", 0.8),
        ("Anjing", "", 0),
        ("", "x", 0),
        ("🙂", "🙂", 0),
    ],
)
def test_rouge_reads_words_of_any_script(answer, reference, expected):
    assert rouge_l([answer], [reference]) == pytest.approx(expected)


def test_an_interval_holds_its_score_and_is_the_same_twice():
    scores = score_answers(many(), ["id"])
    for name in ("chrf", "rouge_l"):
        assert scores[f"{name}_low"] < scores[name] < scores[f"{name}_high"]
    assert json.dumps(scores) == json.dumps(score_answers(many(), ["id"]))


def test_an_interval_covers_as_often_as_it_says():
    """ROUGE-L of rows that are right (1) or empty (0): the interval of a share."""
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(40):
        right = random.random(40) < 0.4
        scores = score_answers([line("Ya." if r else "", "Ya.", row_id=i) for i, r in enumerate(right)], ["id"])
        inside += scores["rouge_l_low"] <= 0.4 <= scores["rouge_l_high"]
    assert inside >= 34


def test_rows_are_drawn_with_all_their_seeds():
    """Three seeds that answer alike say no more than one."""
    once = score_answers(many(), ["id"])
    thrice = score_answers(many() * 3, ["id"])
    assert thrice["rows"] == 30
    for name in ("chrf", "chrf_low", "chrf_high", "rouge_l", "rouge_l_low", "rouge_l_high"):
        assert thrice[name] == pytest.approx(once[name])


@pytest.mark.parametrize(
    "lines",
    [
        [line("")],
        [line("", "")],
        [line("Ya.", "")],
        [line("", row_id=row, passes=0, ended=False) for row in range(3)],
        [line("🙂🙂🙂", "🙂")],
        [line("القط نائم على الكرسي", "القط نائم على الكرسي الخشبي")],
        [line("... ...", "...")],
    ],
)
def test_odd_answers_have_scores(lines):
    scores = score_answers(lines, ["id", "ms"])
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    assert 0 <= scores["chrf_low"] <= scores["chrf"] <= scores["chrf_high"] <= 100 + 1e-9


def test_nothing_is_said_of_answers_that_are_not_there():
    scores = score_answers([line("", row_id=row) for row in range(3)], ["id"])
    assert scores["empty"] == 1
    assert scores["chrf"] == scores["bleu"] == scores["rouge_l"] == scores["mean_tokens"] == 0
    assert scores["distinct_2"] is scores["longest_repeat"] is scores["other_language"] is None


def test_signatures_say_how_it_is_computed():
    found = signatures()
    assert "|nc:6|nw:2|space:no|version:" in found["chrf"]
    assert "|tok:13a|smooth:exp|version:" in found["bleu"]


def test_what_breaks_is_counted():
    lines = [
        line("", tokens=[], passes=2),
        line("kucing kucing", tokens=[5, 5, 5, 5], passes=4, ended=False),
        line("Ya, itu kucing.", tokens=[1, 2, 3, 4], passes=4),
        line(" ", tokens=[6], passes=2),
    ]
    found = breakage(lines, ["id"])
    assert found["empty"] == 0.5 and found["at_limit"] == 0.25
    assert found["too_short"] == 0.5  # two short ones of a reference of 64 letters; what is empty is counted there
    assert found["distinct_2"] == pytest.approx((1 / 3 + 1) / 2)
    assert found["longest_repeat"] == 1
    assert found["other_language"] is None
    assert found["mean_tokens"] == 9 / 4 and found["tokens_per_forward_pass"] == 9 / 12


@pytest.mark.parametrize(
    ("tokens", "share", "longest"),
    [
        ([7], None, 0),
        ([7, 7], 1, 1),
        ([1, 2, 3, 4], 1, 0),
        ([1, 2, 1], 1, 1),
        ([1, 2, 3, 4, 1, 2, 5], 5 / 6, 2),
        ([1, 2, 1, 2, 1, 2], 2 / 5, 4),
        ([9, 9, 9, 9], 1 / 3, 3),
    ],
)
def test_repetition(tokens, share, longest):
    found = breakage([line("iiii", tokens=tokens)], ["id"])
    assert found["longest_repeat"] == longest
    assert found["distinct_2"] == (share if share is None else pytest.approx(share))


@given(st.lists(st.integers(0, 2), max_size=40))
def test_the_longest_repeat_is_that_of_trying_all(tokens):
    def repeats(length):
        stretches = Counter(tuple(tokens[at : at + length]) for at in range(len(tokens) - length + 1))
        return max(stretches.values(), default=0) > 1

    assert longest_repeat(tokens) == max((length for length in range(1, len(tokens)) if repeats(length)), default=0)


def test_another_language_is_told_from_that_which_is_asked():
    lines = [line(INDONESIAN), line(ENGLISH), line("Yes."), line("")]
    assert other_language(lines, ["id", "ms"]) == 0.5  # of two that are long enough
    assert other_language(lines[:1], ["id", "ms"]) == 0
    assert other_language(lines[:1], ["en"]) == 0  # as its reference
    assert other_language([line(INDONESIAN, ENGLISH)], ["en"]) == 1
    assert other_language(lines[2:], ["id"]) is None


def test_an_answer_in_its_references_language_is_in_the_right_one():
    assert other_language([line(JAVANESE, JAVANESE)], ["id", "ms"]) == 0
    assert other_language([line(JAVANESE, INDONESIAN)], ["id", "ms"]) == 1


def test_without_languages_the_references_say_which():
    lines = [line(ENGLISH, ENGLISH), line(ENGLISH, "Yes."), line(INDONESIAN, ENGLISH)]
    assert other_language(lines, []) == pytest.approx(1 / 3)
    assert other_language([line(ENGLISH, "Yes.")], []) is None


def test_a_language_that_cannot_be_identified_is_refused():
    with pytest.raises(CorpusError, match="names xx, which cannot be identified"):
        other_language([line(INDONESIAN)], ["xx"])


def test_bertscore_of_known_vectors():
    """The paper's figure 1, in small: precision 1, recall 1/2."""
    answer, reference = torch.eye(2)[:1], torch.eye(2)
    assert f_measure(answer, reference) == pytest.approx(2 / 3)
    assert f_measure(reference, reference) == pytest.approx(1)
    assert f_measure(answer[:0], reference) == 0


def test_bertscore_is_highest_where_answer_and_reference_are_alike(encoder):
    text = "Kucing itu tidur."
    answers = [text, "KUCING ITU TIDUR.", "di kursi kayu", "", text]
    found = bertscore(answers, [text, text, text, text, ""], str(encoder))
    assert found[:2] == pytest.approx([1, 1], abs=1e-5) and found[2] < 0.99 and list(found[3:]) == [0, 0]


def test_bertscore_does_not_depend_on_the_batch_and_cuts_what_is_too_long(encoder):
    answers = ["kucing itu", "tidur di kursi kayu", "kursi " * 50]
    references = ["kucing", "kucing itu tidur di kursi kayu .", "kursi kayu " * 50]
    alone = [bertscore([a], [r], str(encoder))[0] for a, r in zip(answers, references, strict=True)]
    assert bertscore(answers, references, str(encoder)) == pytest.approx(alone, abs=1e-5)


def test_bertscore_is_the_mean_over_answers(encoder):
    lines = [line("kucing itu tidur", "kucing itu tidur"), line("", row_id=1)]
    assert score_answers(lines, ["id"], str(encoder))["bertscore"] == pytest.approx(0.5, abs=1e-5)


def test_bertscore_runs_on_the_recipe_s_device_where_there_is_a_gpu_too(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    found = score_answers([line("kucing itu tidur", "kucing itu tidur")], ["id"], str(encoder), "cpu")
    assert found["bertscore"] == pytest.approx(1, abs=1e-5)

    asked = []
    monkeypatch.setattr("topeng.evaluate.compare.compare_models", lambda *given: asked.append(given[1:]) or {})
    recipe = parse({"evaluate": {"bertscore_model": str(encoder)}, "base": {"device": "cpu"}})
    next(one for one in stages(recipe, tmp_path, Console(quiet=True)) if one.name == "compare").work(tmp_path)
    assert asked == [(str(encoder), "cpu")]


def test_an_encoder_must_have_safetensors_and_a_tokenizer(encoder, tmp_path):
    from transformers import BertConfig, BertModel

    with pytest.raises(ModelError, match=r"cannot load evaluate\.bertscore_model = .*nowhere"):
        bertscore(["a"], ["a"], str(tmp_path / "nowhere"))
    (tmp_path / "pickled").mkdir()
    for file in encoder.iterdir():
        (tmp_path / "pickled" / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "pickled" / "model.safetensors"
    torch.save(BertModel.from_pretrained(encoder).state_dict(), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(ModelError, match=r"cannot load .*safetensors"):
        bertscore(["a"], ["a"], str(tmp_path / "pickled"))
    BertModel(BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path / "bare")
    with pytest.raises(ModelError, match=r"the missing files of the tokenizer|cannot load"):
        bertscore(["a"], ["a"], str(tmp_path / "bare"))
