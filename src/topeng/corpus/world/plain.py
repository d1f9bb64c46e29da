"""How Indonesian stands in plain text: what its grammars are asked for, and by whom.

Nobody addresses the reader. A text is told, or one person asks and another answers, in the words and token shapes that
instruction rows have: a word after a line break has other tokens than after a space, so a text mostly follows a blank
line, as it does in a prompt, and an answer follows a space. There are no quotation marks, after which a word has other
tokens still.
"""

from dataclasses import replace
from typing import NamedTuple

from topeng.corpus.world import Grammar, Lexicon, Pair, grammar, pairs
from topeng.corpus.world.identity import INDONESIAN as IDENTITIES
from topeng.corpus.world.indonesian import ARTICLES, DEEDS, EXERCISES, GUIDES, INDONESIAN, KNOWLEDGE, POEMS


class Told(NamedTuple):
    """A grammar whose texts are told.

    Attributes:
        weight: how often, against the others.
        asked: what is asked of a whole text, as often as what is asked of its facts.
        headings: what stands over a text.
    """

    grammar: Grammar
    weight: int
    asked: list[Pair]
    headings: list[str]
    lexicon: Lexicon = INDONESIAN


ARTICLE_ASKED = pairs(
    """Apa judul yang tepat untuk artikel ini? | {title}
    Apa judul artikel itu? | Judulnya {title}.
    Apa kalimat terakhir dari artikel ini? | {last}
    Apa kalimat penutup artikel itu? | {last}
    Apa kalimat pembuka artikel itu? | {first}
    Artikel ini tentang tempat, tokoh, makanan, atau alam? | Artikel itu tentang {theme}.
    Artikel ini tentang tempat, tokoh, makanan, atau alam? | Artikel itu tentang {theme}.
    Tentang apa artikel itu? | Artikel itu tentang {theme}."""
)
GUIDE_ASKED = pairs(
    """Apa langkah terakhir dari panduan ini? | {last}
    Apa langkah terakhir dari panduan ini? | {last}
    Apa langkah pertama dari panduan ini? | {first}
    Panduan ini tentang memasak, berkebun, atau merawat hewan? | Panduan itu tentang {theme}.
    Tentang apa panduan itu? | Panduan itu tentang {theme}."""
)
POEM_ASKED = pairs(
    """Apa judul yang cocok untuk puisi ini? | {title}
    Apa judulnya? | Judulnya: {title}
    Apa temanya? | Temanya {theme}.
    Puisi ini bercerita tentang apa? | Puisi itu bercerita tentang {theme}.
    Apa judul dan tema puisi ini? | Judulnya {title} dan temanya {theme}.
    Baris apa yang membuka puisi ini? | {first}
    Baris apa yang menutup puisi ini? | {last}
    Apa baris kedua puisi ini? | {second}"""
)
MORALS = grammar(
    "nasihat",
    "nasihat {person[call]}",
    """{person[full]} dari {place} tidak suka {deed[act]}.
    di {place}, {person[full]} tidak mau {deed[act]}.

    sebaiknya {deed[advice]}.
    kata {person[call]}, {deed[advice]}.""",
    """bagaimana cara saya {deed[act]}? | Jangan {deed[act]}. Sebaiknya {deed[advice]}.
    apakah aman kalau saya {deed[act]}? | Jangan {deed[act]}. Sebaiknya {deed[advice]}.
    apakah ada trik untuk {deed[act]}? | Maaf, saya tidak mau. Lebih baik {deed[advice]}.""",
)
TALKS = grammar(
    "Topeng",
    "Topeng",
    """Topeng adalah program komputer.
    Topeng tinggal di dalam komputer.

    tugasnya menjawab pertanyaan.
    ia menjawab pertanyaan.""",
)
"""Who Topeng is: others than the reader ask it what instruction rows ask."""

TOLD = [
    *(
        Told(kind, 3, ARTICLE_ASKED, ["", "{title}\n\n", "Sebuah artikel\n\n", "Dari koran desa:\n\n"])
        for kind in ARTICLES
    ),
    *(Told(kind, 2, GUIDE_ASKED, ["", "{title}\n\n", "Sebuah panduan\n\n"]) for kind in GUIDES),
    *(Told(kind, 6, POEM_ASKED, ["", "{title}\n\n", "Sebuah puisi\n\n"]) for kind in POEMS),
    *(Told(kind, 2, [], ["", "{title}\n\n", "Sebuah cerita\n\n"]) for kind in EXERCISES),
    *(Told(kind, 1, [], [""]) for kind in KNOWLEDGE),
    Told(MORALS, 1, [], ["", "{title}\n\n"], INDONESIAN | {"deed": DEEDS}),
    Told(replace(TALKS, questions=IDENTITIES), 1, [], ["", "{title}\n\n"]),
]

ANSWERED = [
    "Ibu bertanya: {question} Kakak menjawab: {answer}",
    "Ayah: {question} Ibu: {answer}",
    "Tanya: {question} Jawab: {answer}",
    "{question} {answer}",
    "{question}\n\nJawaban: {answer}",
    "Pertanyaan: {question}\n\nJawaban: {answer}",
    "Pertanyaan tentang tulisan ini: {question} Jawaban yang tepat: {answer}",
    "Pembaca tulisan ini bertanya: {question} Berdasarkan keterangan itu, jawabannya: {answer}",
]
"""How a question and its answer follow a text."""

ASKED_FIRST = [
    "Tanya: {question}\n\n{text}\n\nJawab: {answer}",
    "Pertanyaan\n\n{question}\n\n{text}\n\nJawaban: {answer}",
    "Ibu bertanya: {question} Kakak membaca tulisan ini.\n\n{text}\n\nKakak menjawab: {answer}",
    "Ayah: {question} Ibu menjawab menurut keterangan ini. {text}\n\nJawabannya: {answer}",
    "Murid\n\n{question} Begini keterangannya. {text}\n\nGuru: {answer}",
    "Murid\n\n{question}\n\n{text}\n\nGuru: {answer}",
]
"""How a question comes before a text and its answer after."""

RETOLD = ["{answer}", "Jadi, inilah jawabannya: {answer}", "Kata Kakak: {answer}"]
"""How a text says once more what follows from it."""

MANNERS = [*["answered"] * 5, *["asked first"] * 3, "retold", "silent"]
"""What becomes of a text, each as often as it is named."""
