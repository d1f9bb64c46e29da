"""The same answers as py3langid's own, and floors on real rows whose languages are known."""

import functools

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from topeng.corpus.language import CHARACTERS, identify, identify_rows
from topeng.errors import CorpusError

ACCEPTED = ["id", "ms"]
THRESHOLD = 0.5
INDONESIAN = "Pemerintah akan membangun jembatan baru di atas sungai itu tahun depan."
JAVANESE = "Aku arep lunga menyang pasar karo ibuku, banjur mulih menyang omah maneh."
ODD = [
    INDONESIAN.upper(),
    "Cafe\u0301 ini menjual kue nastar yang enak sekali dan murah",  # decomposed: py3langid composes
    "Ово је реченица на српском језику.",  # Serbian has two classes
    "Ovo je rečenica na srpskom jeziku, a ne na hrvatskom.",
    "這是一個用中文寫的句子,應該可以被辨識出來,沒有問題吧。",
    "lone \ud800 surrogates are bytes too, and do not stop anything",
    INDONESIAN * 40,
    "🙂 " * 30 + INDONESIAN,
]


@pytest.fixture(scope="module")
def plain():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@functools.cache
def read(file):
    return pq.read_table(file, columns=["subset_name", "input", "output"])


@pytest.fixture
def rows(shared):
    def of(subset, count=400):
        """`count` rows spread evenly over a subset's: the inputs, the outputs."""
        name = "english" if subset in ("gsm8k", "roleplay") else "indonesian"
        table = read(shared / "data" / f"{name}.parquet")
        table = table.filter(pc.equal(table["subset_name"], subset))
        table = table.take(np.linspace(0, table.num_rows - 1, count).astype(int))
        return table["input"].to_pylist(), table["output"].to_pylist()

    return of


def test_the_answers_are_those_of_py3langid(plain, rows):
    subsets = ("facqa", "berita", "nusa_kalimat_ind_jav", "nusa_kalimat_ind_sun", "roleplay")
    texts = ODD + [text for subset in subsets for text in rows(subset, 80)[0]]
    languages, probabilities = identify(texts, ACCEPTED)
    cut = [text[:CHARACTERS] for text in texts]
    assert languages.tolist() == [plain.classify(text)[0] for text in cut]
    expected = [sum(chance for language, chance in plain.rank(text) if language in ACCEPTED) for text in cut]
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_a_text_is_judged_by_itself(rows):
    texts = rows("berita", 50)[1] + rows("gsm8k", 50)[1] + ["", "7"]
    together = identify(texts, ACCEPTED)
    alone = [identify([text], ACCEPTED) for text in texts]
    assert together[0].tolist() == [languages[0] for languages, _ in alone]
    np.testing.assert_allclose(together[1], [probabilities[0] for _, probabilities in alone], atol=1e-5)


@pytest.mark.parametrize(
    ("subset", "least", "most"),
    [
        ("berita", 0.99, 1),
        ("smsa", 0.99, 1),
        ("facqa", 0.98, 1),
        ("safety_prompt", 0.97, 1),
        ("identity_prompt", 0.97, 1),
        ("nusax_mt_eng_ind", 0.99, 1),  # an English prompt does no harm
        ("nusa_kalimat_sun_ind", 0.92, 1),
        ("nusax_mt_ind_eng", 0, 0.10),
        ("nusa_kalimat_ind_jav", 0, 0.12),
        ("nusa_kalimat_ind_mak", 0, 0.20),
        ("nusa_kalimat_ind_sun", 0, 0.27),
        ("gsm8k", 0, 0.005),
        ("roleplay", 0, 0.005),
    ],
)
def test_rows_answered_in_indonesian_are_kept_and_others_are_not(rows, subset, least, most):
    _, probabilities = identify_rows(*rows(subset), ACCEPTED)
    assert least <= (probabilities >= THRESHOLD).mean() <= most


def test_an_answer_is_judged_without_its_prompt_unless_it_is_short():
    prompt = f"Terjemahkan kalimat ini ke bahasa Jawa.\n\n{INDONESIAN}"
    languages, probabilities = identify_rows([prompt, prompt], [JAVANESE, "Inggih."], ACCEPTED)
    assert languages.tolist() == ["jv", "id"]
    assert probabilities[0] < 0.05 and probabilities[1] > 0.5


def test_too_few_letters_speak_against_nothing():
    languages, probabilities = identify(["", "2 + 2 = 4", "12.345 " * 50, "Yes, of course."], ACCEPTED)
    assert languages.tolist() == ["und"] * 4
    assert probabilities.tolist() == [1.0] * 4


def test_malay_is_told_from_indonesian_and_taken_with_it_only_where_asked():
    malay = "Polis telah menahan seorang lelaki yang disyaki mencuri kereta di tempat letak kereta hospital."
    languages, together = identify([malay, INDONESIAN], ACCEPTED)
    assert languages.tolist() == ["ms", "id"] and together.min() > 0.9
    assert identify([malay], ["id"])[1] < 0.5


def test_a_language_that_the_model_lacks_is_named():
    with pytest.raises(
        CorpusError, match=r"corpus\.languages names su, which cannot be identified. Known codes: ace, af"
    ):
        identify([JAVANESE], ["jv", "su"])
