"""The made-up world that `synthetic` composes its rows from: lexicons, grammars and templates, as data.

A slot such as `{fruit}` is drawn from the lexicon's list of that name; `{fruit2}` is another draw, never the
same; `{animal[food]}` is a column of a drawn record, so that what goes together stays together.

Texts are short, and what can be asked of them is stated in them or follows from them (a sum, an opposite, an order),
so that a model of a few million parameters can learn to answer. Two texts must not be taken for one: runs without a
slot are short, and a line that can be a whole answer either names its place or person or has fewer than the 40
characters that count as source text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

Lexicon = dict[str, Sequence[Any]]
Pair = tuple[str, str]


class Template(NamedTuple):
    """A prompt and its answer; `right`: the prompt allows one right answer only."""

    prompt: str
    answer: str
    right: bool = True


@dataclass(frozen=True)
class Grammar:
    """One kind of text: each line is drawn from its variants, each question comes with its answer."""

    theme: str
    titles: list[str]
    lines: list[list[str]]
    questions: list[Pair]
    joiner: str


@dataclass(frozen=True)
class Subset:
    """A share of the rows: texts of some grammars under some templates, or a fixed pool of records.

    A text stands once under each template; with `copies` it stands that often under a single one. A pool is
    every record under every template, cut at `pool_rows` and repeated for as long as rows are asked for. The templates
    are numbered from `first`, as two subsets may have one name.
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
    """Templates of which many answers are good."""
    return [Template(*pair, right=False) for pair in pairs]


def right(*pairs: Pair) -> list[Template]:
    """Templates of which one answer is right."""
    return [Template(*pair) for pair in pairs]


def grammar(theme: str, titles: str, lines: str, questions: str = " | ", joiner: str = " ") -> Grammar:
    """A grammar from plain text: a blank line ends a line's variants, a bar stands between question and answer."""
    return Grammar(theme, titles.split(" | "), _blocks(lines), pairs(questions), joiner)


def _blocks(text: str) -> list[list[str]]:
    return [[line.strip() for line in block.strip().split("\n")] for block in text.split("\n\n")]


def pairs(text: str) -> list[Pair]:
    """A pair a line, with a bar between."""
    return [(first.strip(), second.strip()) for first, second in (line.split(" | ") for line in text.split("\n"))]


def words(text: str) -> list[str]:
    """Words with commas between."""
    return [word.strip() for word in text.split(",")]


def table(columns: str, text: str) -> list[dict[str, str]]:
    """A record a line, its columns with commas between."""
    return [dict(zip(columns.split(), words(line), strict=True)) for line in text.split("\n")]


def following(names: Sequence[str]) -> list[dict[str, str]]:
    """Each of the names with the one that comes after it; after the last comes the first."""
    return [{"of": name, "name": after} for name, after in zip(names, [*names[1:], names[0]], strict=True)]


def _names(*syllables: str) -> list[str]:
    return ["".join(parts) for parts in product(*(text.split() for text in syllables))]


def _people(given: str, family: str) -> list[dict[str, str]]:
    return [{"full": f"{call} {name}", "call": call} for call, name in product(given.split(), family.split())]


# Names and numbers are the same in both languages: what a model can do with them in one, it can do in the other.
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
