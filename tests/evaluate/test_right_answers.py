"""Right answers: what counts as one, and intervals that are no points."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topeng.evaluate.right_answers import difference, exact_match, judged, normalised, share_right, token_f1, wilson


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("jakarta.", "Jakarta"),
        ("  Ibu  kota:\nJakarta! ", "ibu kota Jakarta"),
        ("«Straße»", "STRASSE"),
        ("ｊａｋａｒｔａ２", "Jakarta2"),
        ("Cafe\u0301", "café"),
        ("“Ya”, katanya…", "'ya' katanya"),
        ("Rp10.000", "rp10000"),
        ("?", "?"),
        ("जकार्ता।", "जकार्ता"),
    ],
)
def test_case_punctuation_and_white_space_do_not_count(answer, reference):
    assert exact_match(answer, reference) and token_f1(answer, reference) == 1


@pytest.mark.parametrize(
    ("answer", "reference"),
    [("", "?"), ("the cat", "cat"), ("Jakarta Barat", "Jakarta"), ("jauh", "jauhar"), ("", "ya"), ("🙂", "🙁")],
)
def test_other_answers_are_wrong(answer, reference):
    assert not exact_match(answer, reference) and token_f1(answer, reference) < 1


def test_f1_is_that_of_shared_words():
    assert token_f1("kota Jakarta Barat", "Jakarta, Jakarta!") == pytest.approx(2 * 1 / (3 + 2))
    assert token_f1("barat", "timur") == token_f1("", "timur") == 0


@given(st.text(max_size=30))
def test_normalised_text_stays_as_it_is(text):
    once = normalised(text)
    assert normalised(f" {text}\n") == once and exact_match(text, once)


def test_only_rows_with_one_right_answer_are_judged():
    assert judged("ya", "ya", False) == {"right": None, "f1": None}
    assert judged("Ya!", "ya", True) == {"right": True, "f1": 1.0}
    lines = [{"row_id": 1, "right": None, "f1": None}, {"row_id": 2}]
    assert share_right(lines)["judged"] == 0 and share_right(lines)["exact_match"] is None
    lines += [{"row_id": 3, "right": True, "f1": 1.0}, {"row_id": 3, "right": False, "f1": 0.5}]
    found = share_right(lines)
    assert (found["judged"], found["exact_match"], found["f1"]) == (1, 0.5, 0.75)
    assert (
        0 < found["exact_match_low"] < 0.5 < found["exact_match_high"] < 1 and found["f1_low"] < 0.75 < found["f1_high"]
    )


def test_an_interval_of_none_or_all_is_no_point():
    low, high = wilson(0.0, 20)
    assert low == 0 and high == pytest.approx(0.1611, abs=1e-4)  # z² / (n + z²)
    assert wilson(1.0, 20) == pytest.approx((1 - high, 1))
    assert wilson(0.0, 20, comparisons=5)[1] > high


def test_a_difference_is_paired():
    """Rows that are right of both models and rows that are wrong of both say nothing of a difference."""
    after = dict(enumerate([1] * 36 + [0] * 5 + [0] * 14))
    before = dict(enumerate([1] * 36 + [1] * 5 + [0] * 14))
    found, apart = difference(after, before), difference(after, dict(enumerate([0] * 14 + [1] * 41)))
    assert found["mean"] == apart["mean"] == pytest.approx(-5 / 55)
    assert found["high"] - found["low"] < 0.6 * (apart["high"] - apart["low"])
    assert difference({1: 1.0}, {2: 1.0}) is None


def test_a_difference_covers_the_truth():
    """Of 1,000 draws of 40 rows whose answers go together, at least 93 % of intervals hold the true difference."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        hard = generator.random(40)
        after, before = (hard < 0.85).astype(float), (0.5 * hard + 0.5 * generator.random(40) < 0.25).astype(float)
        found = difference(dict(enumerate(after)), dict(enumerate(before)))
        held += found["low"] <= 0.85 - 0.125 <= found["high"]
    assert held >= 930


def test_no_change_and_every_change_have_an_interval():
    same = difference(dict.fromkeys(range(20), 1.0), dict.fromkeys(range(20), 1.0))
    assert same["mean"] == 0 and same["low"] < 0 < same["high"]
    all_of_them = difference(dict.fromkeys(range(20), 1.0), dict.fromkeys(range(20), 0.0))
    assert all_of_them["low"] < all_of_them["mean"] == all_of_them["high"] == 1
