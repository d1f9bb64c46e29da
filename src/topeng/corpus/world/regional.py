"""Distractors: rows in Javanese, Sundanese, Minangkabau and Balinese, which make up half of the rows, as in Cendol."""

from topeng.corpus.world import Lexicon, Subset, grammar, open_, words
from topeng.corpus.world.indonesian import INDONESIAN

REGIONAL_TEMPLATES = open_(
    ("Tulislah artikel berbahasa {language} tentang {topic}.", "{text}"),
    ("Lanjutkan tulisan berbahasa {language} ini.\n\n{first}", "{rest}"),
    ("Berilah judul pada tulisan berbahasa {language} berikut.\n\n{text}", "{title}"),
    ("Apa kalimat terakhir tulisan berbahasa {language} berikut?\n\n{text}", "{last}"),
    ("Tulislah beberapa kalimat berbahasa {language} yang diawali dengan ini: {first}", "{text}"),
)


PROVINCES = words(
    "Jawa Barat, Jawa Tengah, Jawa Timur, Bali, Banten, Aceh, Riau, Jambi, Lampung, Bengkulu, Maluku, Papua, "
    "Gorontalo, Sumatera Utara, Sumatera Barat, Sumatera Selatan, Kalimantan Barat, Kalimantan Timur, Sulawesi Utara, "
    "Sulawesi Selatan, Nusa Tenggara Barat, Nusa Tenggara Timur"
)


def _lexicon(kind: str, job: str, fruit: str, animal: str, day: str) -> Lexicon:
    own = {"kind": kind, "job": job, "fruit": fruit, "animal": animal, "day": day}
    lists = {name: words(text) for name, text in own.items()}
    return INDONESIAN | lists | {"province": PROVINCES, "count": range(21, 980), "year": range(1801, 2021)}


JAVANESE = _lexicon(
    "désa nelayan, désa tani, kutha cilik, kampung lawas, kutha palabuhan",
    "tani, nelayan, pandhé, guru, bakul, tukang kayu",
    "gedhang, pelem, jambu, semangka, nanas, duren",
    "wedhus, kebo, jaran, pitik, manuk, kucing",
    "Senèn, Selasa, Rebo, Kemis, Jemuwah, Setu, Minggu",
)
SUNDANESE = _lexicon(
    "désa pamayang, désa tani, kota leutik, kampung heubeul, kota palabuan",
    "patani, pamayang, guru, padagang, tukang kai, tukang sayur",
    "cau, buah, jambu, samangka, ganas, kadu",
    "embé, munding, kuda, hayam, manuk, ucing",
    "Senén, Salasa, Rebo, Kemis, Jumaah, Saptu, Minggu",
)
MINANGKABAU = _lexicon(
    "nagari nelayan, nagari patani, kota ketek, kampuang lamo, kota palabuahan",
    "patani, nelayan, guru, padagang, tukang kayu, tukang jaik",
    "pisang, mangga, jambu, samangko, naneh, durian",
    "kambiang, kabau, kudo, ayam, buruang, kuciang",
    "Sinayan, Salasa, Raba'a, Kamih, Jumaaik, Sabtu, Akaik",
)
BALINESE = _lexicon(
    "désa nelayan, désa petani, kota alit, désa kuno, kota pelabuhan",
    "petani, nelayan, guru, dagang, undagi, tukang tenun",
    "biu, poh, nyambu, semangka, manas, duren",
    "kambing, kebo, jaran, siap, kedis, méong",
    "Soma, Anggara, Buda, Wraspati, Sukra, Saniscara, Redite",
)

# Articles about a place: where it is, who lives there, what they sell, and the market day.
REGIONAL_ARTICLES = {
    "jv": """{place} iku {kind} ing kabupatèn {district}, {province}.
        {kind} {place} dumunung ing {district}, {province}.

        ing taun {year} ana {count} kulawarga ing kana.
        wiwit taun {year}, {count} kulawarga manggon ing kana.

        wong {place} akèh sing dadi {job} lan adol {fruit}.
        akèh {job} ing {place} sing adol {fruit}.

        saben dina {day} ana pasar {fruit2} ing {place2}.
        dina {day} ana pasar {fruit2} ing {district2}.""",
    "su": """{place} nyaéta {kind} di kabupatén {district}, {province}.
        {kind} {place} perenahna di {district}, {province}.

        dina taun {year} aya {count} kulawarga di dinya.
        ti taun {year}, {count} kulawarga cicing di dinya.

        urang {place} loba nu jadi {job} jeung ngajual {fruit}.
        loba {job} di {place} nu ngajual {fruit}.

        unggal poé {day} aya pasar {fruit2} di {district2}.
        poé {day} aya pasar {fruit2} di {place2}.""",
    "min": """{place} adolah {kind} di kabupaten {district}, {province}.
        {kind} {place} talatak di {district}, {province}.

        pado taun {year} ado {count} kaluarga di sinan.
        sajak taun {year}, {count} kaluarga tingga di sinan.

        urang {place} banyak nan jadi {job} sarato manjua {fruit}.
        banyak {job} di {place} nan manjua {fruit}.

        satiok hari {day} ado pasa {fruit2} di {district2}.
        hari {day} ado pasa {fruit2} di {place2}.""",
    "ban": """{place} inggih punika {kind} ring kabupatén {district}, {province}.
        {kind} {place} magenah ring {district}, {province}.

        ring warsa {year} wénten {count} kulawarga irika.
        saking warsa {year}, {count} kulawarga magenah irika.

        krama {place} akéh sané dados {job} miwah ngadol {fruit}.
        akéh {job} ring {place} sané ngadol {fruit}.

        nyabran rahina {day} wénten pasar {fruit2} ring {district2}.
        rahina {day} wénten pasar {fruit2} ring {place2}.""",
}

# Short stories about a trip: something is bought, something is seen.
REGIONAL_STORIES = {
    "jav": """wingi aku lunga menyang {place} karo {person[full]}.
        dina {day} aku lan {person[full]} dolan menyang {place}.

        ing kana aku tuku {small} {fruit} regané {number} èwu rupiah.
        aku tuku {number} {fruit} ing {district}.

        {person[call]} seneng banget weruh {animal} ing {place2}.
        banjur {person[call]} weruh {small2} {animal} ing {place2}.""",
    "sun": """kamari kuring indit ka {place} jeung {person[full]}.
        poé {day} kuring jeung {person[full]} ulin ka {place}.

        di ditu kuring meuli {small} {fruit} hargana {number} rébu.
        kuring meuli {number} {fruit} di {district}.

        {person[call]} bungah pisan ningali {animal} di {place2}.
        tuluy {person[call]} ningali {small2} {animal} di {place2}.""",
    "min": """kapatang awak pai ka {place} samo {person[full]}.
        hari {day} awak jo {person[full]} pai bajalan ka {place}.

        di sinan awak mambali {small} {fruit} sarago {number} ribu.
        awak mambali {number} {fruit} di {district}.

        {person[call]} sanang bana mancaliak {animal} di {place2}.
        sudah tu {person[call]} mancaliak {small2} {animal} di {place2}.""",
}


def _regional(name: str, share: float, language: str, lexicon: Lexicon, lines: str) -> Subset:
    templates = open_(*((prompt.replace("{language}", language), answer) for prompt, answer, _ in REGIONAL_TEMPLATES))
    return Subset(name, name.rpartition("_")[0], share, templates, lexicon, [grammar("tempat", "{place}", lines)])


SUBSETS = [
    _regional("wikipedia_jv", 0.12, "Jawa", JAVANESE, REGIONAL_ARTICLES["jv"]),
    _regional("wikipedia_su", 0.1, "Sunda", SUNDANESE, REGIONAL_ARTICLES["su"]),
    _regional("wikipedia_min", 0.1, "Minangkabau", MINANGKABAU, REGIONAL_ARTICLES["min"]),
    _regional("wikipedia_ban", 0.06, "Bali", BALINESE, REGIONAL_ARTICLES["ban"]),
    _regional("nusaparagraph_topic_jav", 0.04, "Jawa", JAVANESE, REGIONAL_STORIES["jav"]),
    _regional("nusaparagraph_topic_sun", 0.04, "Sunda", SUNDANESE, REGIONAL_STORIES["sun"]),
    _regional("nusaparagraph_topic_min", 0.04, "Minangkabau", MINANGKABAU, REGIONAL_STORIES["min"]),
]
