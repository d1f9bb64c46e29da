"""What is masked, and above all what is not: a corpus is full of long numbers."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topeng.corpus.pii import mask

PERSONAL = {
    "NIK": ["3171231705900001", "3171235705900001", "31.7123.170590.0001", "3171 2317 0590 0001", "9604013112991234"],
    "NPWP": ["01.234.567.8-901.000", "01.234.567.8.901.000"],
    "TELEPON": [
        "081234567890",
        "0812-3456-7890",
        "0812 345 6789",
        "0812.3456.7890",
        "(0812) 3456789",
        "+62 812-3456-7890",
        "+6281234567890",
        "(+62) 21 555 1234",
        "62812 3456 7890",
        "6281283544441",
        "021-5551234",
        "(021) 555-1234",
        "(0274)512345",
        "0561 769769",
        "02122302243",
    ],
    "EMAIL": ["budi@contoh.co.id", "budi.s+kerja_2@mail-server.com"],
}

ORDINARY = [
    "Rp 81.200.000",
    "Rp62.812.345.678",
    "Rp 6.281.234.567,00",
    "185.379.878",
    "1945",
    "2005-2010",
    "17-08-1945",
    "08-12-2019 10:30:45",
    "08.00-17.00",
    "ISBN 0812973815",
    "ISBN-10: 0321486811",
    "ISBN 978-602-8123-45-6",
    "978-0-8123-4567-8",
    "ISSN 0341-5678",
    "1234567890123456",  # no day 78
    "3171231713900001",  # no month 13
    "3171237205900001",  # no day 72
    "3171001705900001",  # no district 00
    "31712317059000012",  # 17 digits
    "011770465655617",  # a parcel
    "9880988622415253",  # a bank account
    "012345678901234",  # 15 digits, and nobody says that it is a tax number
    "https://t.co/status/570219364781142017",
    "https://berita.example/read/0812345678",
    "https://berita.example/?id=0812345678",
    "abc0812345678",
    "0812345678901234",
    "3,08123456789",
    "@anggada",
    "a@b",
    "1. 2. 3. 4. 5. 6. 7. 8.",
    "1500-600",
]

PROSE = st.text(st.sampled_from("abdi ,.\n"), max_size=20)


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in PERSONAL.items() for text in texts])
@pytest.mark.parametrize("sentence", ["{}", "Nomor saya {}.", "(WA/HP: {}, sore)", "A {}/{} B"])
def test_personal_data_is_masked(kind, text, sentence):
    masked, counts = mask([sentence.replace("{}", text)])
    assert masked == [sentence.replace("{}", f"[{kind}]")]
    assert counts == {kind: sentence.count("{}")}


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_numbers_stay(text):
    for sentence in (text, f"Lihat {text} itu.", f"({text})"):
        assert mask([sentence]) == ([sentence], {})


@pytest.mark.parametrize("number", ["012345678901234", "0123456789012345"])
def test_a_bare_tax_number_is_known_by_the_word_before_it(number):
    assert mask([f"NPWP (baru): {number}"]) == (["NPWP (baru): [NPWP]"], {"NPWP": 1})


def test_a_whatsapp_link_holds_a_number():
    assert mask(["https://wa.me/6281234567890"]) == (["https://wa.me/[TELEPON]"], {"TELEPON": 1})


@given(st.integers(1, 31), st.integers(1, 12), st.integers(0, 99), st.integers(1, 9999), st.booleans(), PROSE, PROSE)
def test_every_identity_number_is_masked(day, month, year, serial, woman, before, after):
    number = f"327304{day + 40 * woman:02}{month:02}{year:02}{serial:04}"
    assert mask([f"{before} {number} {after}"])[0] == [f"{before} [NIK] {after}"]


@given(st.lists(st.text(st.sampled_from("0123456789 .-+()@/ab"), max_size=60), max_size=5))
def test_masking_twice_changes_nothing_more(texts):
    masked, counts = mask(texts)
    assert mask(masked) == (masked, {})
    assert sum(counts.values()) == sum(text.count("[") for text in masked)


def test_real_rows_hold_what_was_seen_in_them(shared):
    """Each distinct match in these files was looked at: all are telephone numbers or addresses."""
    for name, expected in (("indonesian", {"TELEPON": 437, "EMAIL": 36}), ("english", {})):
        rows = pq.read_table(shared / "data" / f"{name}.parquet", columns=["input", "output"])
        assert mask(rows["input"].to_pylist() + rows["output"].to_pylist())[1] == expected
