"""The made-up world that `synthetic` composes its rows from: lexicons, grammars and templates, as data.

A slot such as `{fruit}` is filled with a word from the lexicon's list of that name. `{fruit2}` is a second draw that
always differs from the first. `{animal[food]}` is a column of a drawn record, so that the parts of a record match.

Texts are short, and every question about a text is answered in it or follows from it (a sum, an opposite, an order),
so that a model with a few million parameters can learn to answer. Two texts must not be mistaken for the same source
text. Therefore passages without a slot are short, and a line that can be a whole answer either names its place or
person, or is shorter than the 40 characters that count as source text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

Lexicon = dict[str, Sequence[Any]]
Pair = tuple[str, str]


class Template(NamedTuple):
    """A prompt and its answer. `right` says that the prompt has exactly one right answer."""

    prompt: str
    answer: str
    right: bool = True


@dataclass(frozen=True)
class Grammar:
    """One kind of text. Each line is drawn from its variants, and each question comes with its answer."""

    theme: str
    titles: list[str]
    lines: list[list[str]]
    questions: list[Pair]
    joiner: str


@dataclass(frozen=True)
class Subset:
    """A share of the rows: texts of some grammars under some templates, or a fixed pool of records.

    Each text is used once with every template or, if `copies` is above 1, that many times with a single template. A
    pool combines every record with every template, is cut at `pool_rows`, and is repeated until there are enough rows.
    The templates are numbered from `first`, because two subsets may share a name.
    """

    name: str
    dataset: str
    share: float
    templates: list[Template]
    lexicon: Lexicon = field(default_factory=dict)
    grammars: list[Grammar] = field(default_factory=list)
    copies: int = 1
    first: int = 0
    records: list[dict[str, str]] = field(default_factory=list)
    pool_rows: int = 0


def open_(*pairs: Pair) -> list[Template]:
    """Templates whose prompts have many good answers."""
    return [Template(*pair, right=False) for pair in pairs]


def right(*pairs: Pair) -> list[Template]:
    """Templates whose prompts have exactly one right answer."""
    return [Template(*pair) for pair in pairs]


def grammar(theme: str, titles: str, lines: str, questions: str = " | ", joiner: str = " ") -> Grammar:
    """Parses a grammar. A blank line ends the variants of a line, and a bar separates a question from its answer."""
    return Grammar(theme, titles.split(" | "), _blocks(lines), pairs(questions), joiner)


def _blocks(text: str) -> list[list[str]]:
    return [[line.strip() for line in block.strip().split("\n")] for block in text.split("\n\n")]


def pairs(text: str) -> list[Pair]:
    """Parses pairs, one per line, separated by a bar."""
    return [(first.strip(), second.strip()) for first, second in (line.split(" | ") for line in text.split("\n"))]


def words(text: str) -> list[str]:
    """Parses words separated by commas."""
    return [word.strip() for word in text.split(",")]


def table(columns: str, text: str) -> list[dict[str, str]]:
    """Parses records, one per line, with columns separated by commas."""
    return [dict(zip(columns.split(), words(line), strict=True)) for line in text.split("\n")]


def following(names: Sequence[str]) -> list[dict[str, str]]:
    """Pairs each name with the next one, and the last with the first."""
    return [{"of": name, "name": after} for name, after in zip(names, [*names[1:], names[0]], strict=True)]


def _names(*syllables: str) -> list[str]:
    return ["".join(parts) for parts in product(*(text.split() for text in syllables))]


def _people(given: str, family: str) -> list[dict[str, str]]:
    return [{"full": f"{call} {name}", "call": call} for call, name in product(given.split(), family.split())]


# Names and numbers are shared by both languages, so that what a model learns about them in one carries over.
SHARED: Lexicon = {
    "small": range(2, 7),
    "number": range(2, 10),
    "minutes": range(5, 65, 5),
    "grams": range(100, 1000, 50),
    "count": range(21, 100),
    "year": range(1950, 2021),
    "place": _names(
        "Ka Ra Ba Su Ta Ma La Pa Sa Wa Gu Ci Ke Lu Mo Na Ro Si Te Da",
        "rang lima mandu rino kasi tara lolo nggala mbara suri gemu wangi",
    ),
    "district": _names(
        "Ban Sin Lam Pur Gar Mar Tan Kar Sum Won Jem Ngan Bin Tul Cil Pan Ser Lum Kun Med",
        "dang bak jaya gis sono tung puri dara mulya ding",
    ),
    "person": _people(
        "Adi Agus Andi Anisa Ayu Bagus Bayu Budi Citra Dewi Dian Dimas Eka Fajar Fitri Galih Hadi Hana Indah Intan "
        "Joko Kartika Laras Maya Mega Nadia Nina Putri Rahma Rani Ratna Rina Rizki Sari Sinta Siti Surya Tari Tono "
        "Wahyu Wati Wulan Yanti Yudi Yusuf Zahra",
        "Hidayat Kusuma Lestari Nugroho Pratama Purnama Santoso Setiawan Siregar Suryadi Susanto Utama Wibowo Wijaya "
        "Maulana Permata Rahayu Gunawan Halim Hartono Iskandar Kurniawan Mahendra Mulyadi Nasution Ginting Manurung "
        "Lubis Harahap Pangestu",
    ),
}
