"""The compiled loops, against the same in plain Python."""

import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from topeng.corpus import words

texts = st.lists(st.text(st.sampled_from(list("abAB é0_ \n\t.,!?’“—«ºÅ鳥😀")), max_size=30), min_size=1, max_size=6)
NOTHING = np.zeros(0, np.uint64), np.zeros(2, np.int64)


def tokens_of(batch):
    return words.tokenize(words.normalise(pa.array(batch)))


def rows_of(values, offsets):
    return [values[start:stop].tolist() for start, stop in pairwise(offsets)]


def plain_tokens(text):
    squeezed = re.sub(r"\s*[\n\r]\s*", "\n", text.strip(" \t\n\r").lower())
    return re.findall(r"\w+|[^\w\s]|\n", squeezed)


@given(texts)
def test_tokens_are_words_marks_and_line_breaks(batch):
    tokens = tokens_of(batch)
    expected = [plain_tokens(text.replace("º", "o").replace("Å", "å")) for text in batch]
    numbers = {}
    for found, kinds, plain in zip(
        rows_of(tokens.hashes, tokens.offsets), rows_of(tokens.kinds, tokens.offsets), expected, strict=True
    ):
        assert len(found) == len(plain)
        for code, kind, token in zip(found, kinds, plain, strict=True):
            assert numbers.setdefault(token, code) == code
            assert kind == (words.BREAK if token == "\n" else words.WORD if re.match(r"\w", token) else words.MARK)
    assert len(set(numbers.values())) == len(numbers)


@given(texts)
def test_a_text_is_the_same_in_any_batch(batch):
    together = rows_of(*words.shingles(words.pieces(tokens_of(batch)), 3))
    assert together == [rows_of(*words.shingles(words.pieces(tokens_of([text])), 3))[0] for text in batch]


def test_case_white_space_and_compatibility_forms_are_one():
    tokens = tokens_of(["Kota  Besar", "kota besar ", "ｋｏｔａ besar", "kota\nbesar", "kota besa"])
    rows = rows_of(tokens.hashes, tokens.offsets)
    assert rows[0] == rows[1] == rows[2] != rows[3] != rows[4]


@given(st.lists(st.sampled_from("abcdefg"), max_size=12), st.sets(st.integers(0, 11)))
def test_what_a_known_ngram_covers_is_not_source_text(letters, places):
    tokens = tokens_of([" ".join(letters)])
    hashes, offsets = words.ngrams(tokens)
    assert len(hashes) == offsets[-1] == len(letters) + 2
    starts = [place for place in places if place < len(hashes)]
    known = np.unique(hashes[starts])
    hidden = {
        index + back
        for index, value in enumerate(hashes)
        for back in (-2, -1, 0)
        if value in known and 0 <= index + back < len(letters)
    }
    pieces = words.outside(tokens, np.zeros(1, np.int64), known, np.array([0, len(known)]))
    runs = "".join("|" if place in hidden else letter for place, letter in enumerate(letters)).split("|")
    runs = [run for run in runs if run]
    assert pieces.characters.tolist() == [2 * len(run) - 1 for run in runs]
    expected = [tokens_of([" ".join(run)]) for run in runs]
    assert rows_of(pieces.words, pieces.starts) == [tokens.hashes.tolist() for tokens in expected]


def test_pieces_can_be_chosen_and_joined():
    tokens = tokens_of(["a b c d e", "f", ""])
    hashes, _ = words.ngrams(tokens)
    middle = words.outside(tokens, np.zeros(3, np.int64), hashes[3:4], np.array([0, 1]))  # `b c d`
    assert middle.characters.tolist() == [1, 1, 1] and middle.rows.tolist() == [0, 2, 3, 3]
    assert middle.whole().characters.tolist() == [2, 1, 0]
    kept = middle.only(np.array([False, True, True]))
    assert rows_of(kept.words, kept.starts) == [tokens.hashes[4:5].tolist(), tokens.hashes[5:6].tolist()]
    assert kept.row_hashes()[2] == words.NOTHING != kept.row_hashes()[1]


def test_shingles_are_distinct_and_sorted_and_a_short_piece_is_one():
    rows = rows_of(*words.shingles(words.pieces(tokens_of(["a b a b a b", "a b", ""])), 3))
    assert [len(row) for row in rows] == [2, 1, 0]
    assert rows[0] == sorted(rows[0])
