"""Words that name a cluster."""

import numpy as np

from topeng.corpus.telling import stop_words, telling_words

POEMS = [f"Tulislah sebuah puisi tentang hujan. Hujan turun di atas {place}." for place in ("laut", "sawah", "atap")]
RECIPES = [f"Tulislah sebuah puisi tentang nasi. Masaklah nasi dengan {herb}." for herb in ("jahe", "kunyit", "serai")]


def told(texts, labels, templates=None, clusters=2, count=8):
    return telling_words(texts, templates or ["one"] * len(texts), np.array(labels), clusters, count)


def test_a_word_that_clusters_share_tells_less_than_one_of_its_own():
    words = told([*POEMS, *RECIPES], [0, 0, 0, 1, 1, 1], templates=list("abcdef"))
    assert (words[0][0], words[1][0]) == ("hujan", "nasi")
    assert words[0].index("puisi") > words[0].index("turun")


def test_stop_words_name_no_cluster():
    for language in (["yang", "dengan", "adalah"], ["ingkang", "kalih"], ["anu", "jeung"], ["nan", "indak"], ["the"]):
        assert stop_words() >= set(language)
        assert told([" ".join([*language * 3, "hujan"]), "nasi"], [0, 1])[0] == ["hujan"]


def test_what_a_template_says_names_no_cluster():
    texts = [f"Lengkapi pantun berikut: {word}" for word in ("hujan", "hujan deras", "hujan", "hujan", "laut", "laut")]
    words = told([*texts, *["nasi goreng"] * 6], [0] * 6 + [1] * 6, templates=["fill"] * 6 + list("abcdef"))
    assert words[0] == ["laut", "deras"]  # `hujan` is in most rows of its template too, and so are `lengkapi`, `pantun`
    assert words[1] == ["goreng", "nasi"]


def test_a_cluster_that_is_all_template_is_named_by_it():
    assert told(["Siapa namamu? Cendol."] * 9 + ["hujan"], [0] * 9 + [1])[0] == ["cendol", "namamu"]


def test_words_that_begin_alike_are_named_once():
    assert told(["makan makan makanan minum", "laut"], [0, 1])[0] == ["makan", "minum"]


def test_a_corpus_without_words_has_clusters_without_telling_ones():
    assert told(["12 ab", "x1"], [0, 1]) == [[], []]
    assert told(["kucing tidur", "aaa bbb ccc"], [0, 1], clusters=3)[2] == []


def test_one_cluster_of_six_rows_is_named_by_its_content():
    texts = ["Apa itu tempe? Tempe adalah makanan.", "Mengapa laut asin? Air laut asin.", "Apa arti rindu?"]
    assert set(told(texts, [0, 0, 0], clusters=1, count=3)[0]) == {"asin", "laut", "tempe"}
