import numpy as np

from topeng.corpus.source_text import group_rows

POEMS = [
    "Elang melayang rendah di bukit sunyi, mencari bayang ibu yang pulang ke desa",
    "Di tepi laut tenang kutitipkan rindu kepada merpati putih milik ayah",
    "Pantai cerah menyimpan suara camar, dan adik menggambar perahu kertas",
    "Sawah hijau bergoyang pelan ketika pipit kecil bernyanyi bersama kakak",
    "Kota ramai menelan langkah nenek, hanya gagak tua yang masih menyapa",
    "Hutan gelap berbisik pada paman: jangan lupa jalan pulang sebelum malam",
    "Kebun basah sehabis hujan, bibi memetik melati sambil tersenyum lama",
]


def groups(rows):
    return group_rows(*zip(*rows, strict=True))


def test_one_text_under_several_templates_is_one_group():
    rows = [("title_0", f"Buatlah sebuah puisi. Judul: {poem.split()[0]}", poem) for poem in POEMS]
    rows += [("theme_1", f"Apa tema puisi berikut ini?\n\n{poem}\n\nJawab singkat saja.", "alam") for poem in POEMS]
    rows += [("first_2", f"Tulis ulang puisi ini dengan rapi: {poem.upper()}", poem + "!") for poem in POEMS]
    found = groups(rows).reshape(3, len(POEMS))
    assert (found == found[0]).all()
    assert len(np.unique(found)) == len(POEMS)


def test_labels_and_boilerplate_answers_do_not_join_rows():
    refusal = "Maaf, saya tidak dapat membantu dengan permintaan yang seperti itu, silakan tanya yang lain."
    rows = [("safety_0", f"Bagaimana caranya melakukan hal nomor {number} itu?", refusal) for number in range(30)]
    rows += [("label_1", f"Apakah kalimat {number} ini positif atau negatif?", "positif") for number in range(50, 80)]
    assert len(np.unique(groups(rows))) == 60


def test_a_long_answer_of_few_sources_joins_them():
    answer = "Jakarta terletak di pesisir barat laut pulau Jawa dan merupakan kota terbesar di negara ini."
    rows = [("qa_0", "Ceritakan tentang Jakarta.", answer), ("qa_1", "Di mana letak Jakarta?", answer)]
    assert len(np.unique(groups(rows))) == 1


def test_equal_short_rows_are_one_group():
    rows = [("id_0", "Siapa namamu?", "Namaku Cendol.")] * 3 + [("id_0", "Apa kabar?", "Baik.")]
    assert groups(rows).tolist().count(groups(rows)[0]) == 3


def test_on_real_rows_templates_of_one_text_meet(shared):
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(shared / "data" / "indonesian.parquet")
    table = table.filter(pc.is_in(table["subset_name"], pa.array(["facqa", "nusax_mt_eng_ind"])))
    templates = np.array(table["template_name"].to_pylist())
    found = group_rows(templates.tolist(), table["input"].to_pylist(), table["output"].to_pylist())

    def groups_of(name):
        return set(found[templates == name])

    assert groups_of("facqa_jawab_1") == groups_of("facqa_jawab_2") == groups_of("facqa_tanya_1")
    assert groups_of("nusax_mt_eng_ind_1") == groups_of("nusax_mt_eng_ind_2")
    assert len(groups_of("nusax_mt_eng_ind_1")) > 590
