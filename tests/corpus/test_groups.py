import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from topeng.corpus.groups import boilerplate, exact_groups, group_table, near_groups
from topeng.corpus.source_text import TemplateText, hash_rows

POEMS = [
    "Elang melayang rendah di bukit sunyi, mencari bayang ibu yang pulang ke desa",
    "Di tepi laut tenang kutitipkan rindu kepada merpati putih milik ayah",
    "Pantai cerah menyimpan suara camar, dan adik menggambar perahu kertas",
    "Sawah hijau bergoyang pelan ketika pipit kecil bernyanyi bersama kakak",
    "Kota ramai menelan langkah nenek, hanya gagak tua yang masih menyapa",
    "Hutan gelap berbisik pada paman: jangan lupa jalan pulang sebelum malam",
    "Kebun basah sehabis hujan, bibi memetik melati sambil tersenyum lama",
]


def rows_table(rows):
    templates, inputs, outputs = zip(*rows, strict=True)
    return pa.table({"row_id": range(len(rows)), "template_name": templates, "input": inputs, "output": outputs})


def groups(rows):
    return group_table(rows_table(rows))


def near(rows, containment=0.5):
    table = rows_table(rows)
    template_text = TemplateText.discover(table)
    hashes = hash_rows(table, template_text)
    common = boilerplate(hashes)
    return near_groups(table, template_text, common, exact_groups(hashes, common), containment)


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


def test_equal_rows_are_one_group_where_one_template_s_text_is_known_and_the_other_s_not():
    words = [f"kata{number}" for number in range(40)]
    rows = [("known_0", f"Apa lawan dari {word} itu?", f"Bukan {word}.") for word in words]
    rows.append(("rare_1", *rows[7][1:]))
    assert groups(rows).tolist() == [*range(40), 7]


def test_a_group_is_named_by_its_first_row():
    answer = "Jakarta terletak di pesisir barat laut pulau Jawa dan merupakan kota terbesar di negara ini."
    rows = [("qa_0", "Apa kabar?", "Baik."), ("qa_1", "Ceritakan tentang Jakarta.", answer), ("qa_2", "Mana?", answer)]
    assert groups(rows).tolist() == [0, 1, 1]


def test_a_text_cut_in_two_is_of_the_group_of_the_whole():
    whole = " ".join(POEMS)
    half = " ".join(POEMS[:4])
    rows = [("cut_0", half, whole[len(half) + 1 :]), ("whole_1", f"Apakah ini benar? {whole}", "Ya.")]
    rows += [("other_2", POEMS[0][::-1], "Tidak.")]
    assert groups(rows).tolist() == [0, 1, 2]
    found, pairs = near(rows)
    assert found.tolist() == [0, 0, 2]
    assert set(pairs.left.tolist()) == {0} and set(pairs.right.tolist()) == {1} and (pairs.share > 0.9).all()


def test_a_text_with_a_few_words_changed_is_of_the_group_of_the_other():
    changed = POEMS[0].replace("rendah", "tinggi") + " " + POEMS[1]
    rows = [("a_0", f"{POEMS[0]} {POEMS[1]}", "Ya."), ("b_1", changed, "Tidak."), ("c_2", POEMS[2], "Ya.")]
    assert near(rows)[0].tolist() == [0, 0, 2]
    assert near(rows, containment=0.95)[0].tolist() == [0, 1, 2]


def test_boilerplate_answers_join_nothing_nearly_either():
    refusal = "Maaf, saya tidak dapat membantu dengan permintaan yang seperti itu, silakan tanya yang lain."
    rows = [("safety_0", f"Bagaimana caranya melakukan hal nomor {number} itu?", refusal) for number in range(30)]
    assert len(np.unique(near(rows)[0])) == 30


def test_on_real_rows_templates_of_one_text_meet(shared):
    table = pq.read_table(shared / "data" / "indonesian.parquet")
    table = table.filter(pc.is_in(table["subset_name"], pa.array(["facqa", "nusax_mt_eng_ind"])))
    templates = np.array(table["template_name"].to_pylist())
    found = group_table(table.append_column("row_id", pa.array(range(table.num_rows))))

    def groups_of(name):
        return set(found[templates == name])

    assert groups_of("facqa_jawab_1") == groups_of("facqa_jawab_2") == groups_of("facqa_tanya_1")
    assert groups_of("nusax_mt_eng_ind_1") == groups_of("nusax_mt_eng_ind_2")
    assert len(groups_of("nusax_mt_eng_ind_1")) > 590


def test_on_real_rows_news_and_what_continues_it_meet(shared):
    table = pq.read_table(shared / "data" / "indonesian.parquet")
    table = table.filter(pc.equal(table["subset_name"], "berita"))
    table = table.append_column("row_id", pa.array(range(table.num_rows)))
    template_text = TemplateText.discover(table)
    hashes = hash_rows(table, template_text)
    common = boilerplate(hashes)
    exact = exact_groups(hashes, common)
    found, _ = near_groups(table, template_text, common, exact, 0.5)
    templates = np.array(table["template_name"].to_pylist())
    whole, cut = (set(found[templates == name]) for name in ("berita_hoaks_1", "berita_lanjutkan_1"))
    assert len(set(exact[templates == "berita_lanjutkan_1"]) - set(exact[templates == "berita_hoaks_1"])) > 300
    assert len(cut - whole) <= 3
