"""Groups of rows that share source text: what must not stand on both sides of a split.

A corpus such as Cendol puts one text under many templates, as the input of one and the output of another. What is
left of a row once template text and boilerplate answers are removed is its source text; rows that share a piece of
it, in either field, are one group.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

NGRAM = 3
TEMPLATE_SHARE = 0.5
"""An n-gram that stands in over this share of a template's rows is template text."""
TEMPLATE_ROWS = 1_000
"""Distinct rows of a template that are looked at."""
FEWEST_ROWS = 5
"""Below this many distinct rows, a template's text cannot be told from its rows'."""
SHORTEST = 40
"""Characters below which a piece is no source text (a label, a name)."""
MOST_SOURCES = 20
"""An answer under more sources than this is boilerplate."""

TOKEN = re.compile(r"\w+|[^\w\s]|\n+")
WORD = re.compile(r"\w")
START, END = ("\x02", "\x02"), ("\x03", "\x03")


def group_rows(templates: Sequence[str], inputs: Sequence[str], outputs: Sequence[str]) -> np.ndarray:
    """A group number for each row, [R]; rows that share exact source text, in either field, have the same one."""
    fields = [_pieces(templates, texts) for texts in (inputs, outputs)]
    boilerplate = _boilerplate(*fields)
    rows, keys = [], []
    for row, (given, answer) in enumerate(zip(*fields, strict=True)):
        shared = [piece for piece in given if len(piece) >= SHORTEST]
        shared += [piece for piece in answer if len(piece) >= SHORTEST and piece not in boilerplate]
        # A row with short texts alone is its input; and rows that are the same are one group under any template.
        for key in [*(shared or [" ".join(given)]), f"{inputs[row]}\n{outputs[row]}".lower()]:
            rows.append(row)
            keys.append(blake2b(key.encode(), digest_size=8).digest())
    _, columns = np.unique(np.frombuffer(b"".join(keys), dtype=np.uint64), return_inverse=True)
    count = len(inputs)
    edges = coo_matrix(
        (np.ones(len(rows), dtype=bool), (rows, columns + count)), shape=(count + columns.max() + 1,) * 2
    )
    return connected_components(edges, directed=False)[1][:count]


def _pieces(templates: Sequence[str], texts: Sequence[str]) -> list[list[str]]:
    """Of each text, the runs of words that are not template text: lower-case, without punctuation."""
    known = _template_ngrams(templates, texts)
    return [_outside(tokenize(text), known[template]) for template, text in zip(templates, texts, strict=True)]


def tokenize(text: str) -> list[str]:
    """Lower-case words, punctuation marks and line breaks."""
    return TOKEN.findall(re.sub(r"\n\s*", "\n", text.lower()))


def _template_ngrams(templates: Sequence[str], texts: Sequence[str]) -> dict[str, set[tuple[str, ...]]]:
    distinct: dict[str, set[str]] = defaultdict(set)
    for template, text in zip(templates, texts, strict=True):
        if len(distinct[template]) < TEMPLATE_ROWS:
            distinct[template].add(text)
    known = {}
    for template, rows in distinct.items():
        counts = Counter(ngram for text in rows for ngram in set(_ngrams(tokenize(text))))
        enough = len(rows) >= FEWEST_ROWS
        known[template] = {ngram for ngram, n in counts.items() if enough and n > TEMPLATE_SHARE * len(rows)}
    return known


def _ngrams(tokens: Sequence[str]) -> list[tuple[str, ...]]:
    """With marks at both ends, so that a template's single word there is part of an n-gram."""
    padded = (*START, *tokens, *END)
    return list(zip(*(padded[offset:] for offset in range(NGRAM)), strict=False))


def _outside(tokens: list[str], template: set[tuple[str, ...]]) -> list[str]:
    covered = np.zeros(len(tokens) + 2 * len(START), dtype=bool)
    for index, ngram in enumerate(_ngrams(tokens)):
        if ngram in template:
            covered[index : index + NGRAM] = True
    pieces: list[list[str]] = [[]]
    for token, hidden in zip(tokens, covered[len(START) :], strict=False):
        if hidden:
            pieces.append([])
        elif WORD.match(token):
            pieces[-1].append(token)
    return [" ".join(piece) for piece in pieces if piece]


def _boilerplate(inputs: list[list[str]], outputs: list[list[str]]) -> set[str]:
    sources: dict[str, set[str]] = defaultdict(set)
    for given, answer in zip(inputs, outputs, strict=True):
        for piece in answer:
            if len(sources[piece]) <= MOST_SOURCES:
                sources[piece].add(" ".join(given))
    return {piece for piece, given in sources.items() if len(given) > MOST_SOURCES}
