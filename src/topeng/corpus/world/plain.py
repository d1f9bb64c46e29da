"""How Indonesian appears in plain text: what is asked about the texts of each grammar, and in which form.

Nobody addresses the reader. A narrator tells a text, or one person asks and another answers, in the words and token
shapes of instruction rows. A word has different tokens after a line break than after a space, so a text mostly follows
a blank line, as it does in a prompt, and an answer follows a space. Quotation marks are avoided, because a word after
one has different tokens again.
"""

from dataclasses import replace
from typing import NamedTuple

from topeng.corpus.world import Grammar, Lexicon, Pair, grammar, pairs
from topeng.corpus.world.identity import INDONESIAN as IDENTITIES
from topeng.corpus.world.indonesian import ARTICLES, DEEDS, EXERCISES, GUIDES, INDONESIAN, KNOWLEDGE, POEMS


class Told(NamedTuple):
    """A grammar whose texts appear as plain text.

    Attributes:
        weight: how often its texts occur, relative to the other grammars.
        asked: questions about a whole text, which are asked as often as those about its facts.
        headings: possible headings of a text.
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
"""Who Topeng is. Other people, not the reader, ask it the questions of instruction rows."""

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
"""Forms in which a question and its answer follow a text."""

ASKED_FIRST = [
    "Tanya: {question}\n\n{text}\n\nJawab: {answer}",
    "Pertanyaan\n\n{question}\n\n{text}\n\nJawaban: {answer}",
    "Ibu bertanya: {question} Kakak membaca tulisan ini.\n\n{text}\n\nKakak menjawab: {answer}",
    "Ayah: {question} Ibu menjawab menurut keterangan ini. {text}\n\nJawabannya: {answer}",
    "Murid\n\n{question} Begini keterangannya. {text}\n\nGuru: {answer}",
    "Murid\n\n{question}\n\n{text}\n\nGuru: {answer}",
]
"""Forms in which a question precedes a text and its answer follows it."""

RETOLD = ["{answer}", "Jadi, inilah jawabannya: {answer}", "Kata Kakak: {answer}"]
"""Forms in which a fact is repeated after a text."""

MANNERS = [*["answered"] * 5, *["asked first"] * 3, "retold", "silent"]
"""What is done with a text. How often a manner is listed is its weight."""
