"""Groups of rows that share source text, and which must therefore not be in two splits.

Exact groups are computed over the whole corpus from hashes. Near groups are computed by containment among the examined
rows. A group is numbered by its first row.
"""

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from topeng.corpus import similar, words
from topeng.corpus.source_text import FIELDS, SHORTEST, TemplateText, hash_rows, list_arrays

MOST_SOURCES = 20
"""An answer to more inputs than this is boilerplate, which does not reveal where a row comes from."""
SHINGLE = 5
"""Number of words of the shingles that near groups are computed from."""


def exact_groups(hashes: pa.Table, common: np.ndarray) -> np.ndarray:
    """The group of each row, [R]. Rows are joined if they share a piece of source text, in either field.

    A row without such a piece is joined by its whole input. Rows with the same content are joined whatever their
    templates. Boilerplate answers join nothing.

    Args:
        hashes: results of `source_text.hash_rows` for the whole corpus.
        common: hashes of boilerplate pieces, from `boilerplate`.
    """
    count = hashes.num_rows
    given, given_rows = _flat(hashes["input_pieces"])
    answer, answer_rows = _flat(hashes["output_pieces"])
    inputs = hashes["input_hash"].to_numpy()
    telling = ~np.isin(answer, common)
    answer, answer_rows = answer[telling], answer_rows[telling]
    alone = np.ones(count, bool)
    alone[given_rows] = alone[answer_rows] = False
    alone &= inputs != words.NOTHING
    edges = [
        _edges(np.concatenate([given, answer]), np.concatenate([given_rows, answer_rows])),
        _edges(inputs[alone], np.flatnonzero(alone)),
        _edges(content_arrays(hashes["content_hash"])[:, 0], np.arange(count)),
    ]
    left, right = (np.concatenate(ends) for ends in zip(*edges, strict=True))
    return _named_by_lowest(_components(left, right, count), np.arange(count))


def boilerplate(hashes: pa.Table) -> np.ndarray:
    """Sorted hashes of the pieces that answer more than `MOST_SOURCES` different inputs."""
    answer, rows = _flat(hashes["output_pieces"])
    values, counts = np.unique(answer, return_counts=True)
    often = np.isin(answer, values[counts > MOST_SOURCES])  # few are left to pair with their inputs
    answer, inputs = answer[often], hashes["input_hash"].to_numpy()[rows[often]]
    order = np.lexsort((inputs, answer))
    answer, inputs = answer[order], inputs[order]
    distinct = np.append(True, (answer[1:] != answer[:-1]) | (inputs[1:] != inputs[:-1]))[: len(answer)]
    values, counts = np.unique(answer[distinct], return_counts=True)
    return values[counts > MOST_SOURCES]


def near_groups(
    table: pa.Table,
    template_text: TemplateText,
    common: np.ndarray,
    groups: np.ndarray,
    containment: float,
    most_shingles: int = similar.MOST_SHINGLES,
) -> tuple[np.ndarray, similar.Pairs]:
    """Groups of the examined rows, joined if one text contains a large part of another.

    Args:
        common: hashes of boilerplate pieces.
        groups: exact groups, [R].
        containment: least share of the shorter text's shingles that the longer text must contain.
        most_shingles: if there are more, only a sketch of them is compared.

    Returns:
        Groups, [R], and the pairs of rows that joined them.
    """
    sets, rows = _field_sets(table, template_text, common)
    _, labels = np.unique(groups, return_inverse=True)
    pairs = similar.contained(sets, labels[rows], containment, most_shingles)
    pairs = similar.Pairs(rows[pairs.left], rows[pairs.right], pairs.share)
    joined = _components(labels[pairs.left], labels[pairs.right], int(labels.max(initial=0)) + 1)
    return _named_by_lowest(joined[labels], groups), pairs


def join_equal(groups: np.ndarray, content: pa.ChunkedArray) -> np.ndarray:
    """Groups of the examined rows, joined if two rows have the same content hash, [R]."""
    _, labels = np.unique(groups, return_inverse=True)
    left, right = _edges(content_arrays(content)[:, 0], labels)
    joined = _components(left, right, int(labels.max(initial=0)) + 1)
    return _named_by_lowest(joined[labels], groups)


def group_table(table: pa.Table) -> np.ndarray:
    """Exact groups of a table that is a whole corpus."""
    hashes = hash_rows(table, TemplateText.discover(table))
    return exact_groups(hashes, boilerplate(hashes))


def _field_sets(table: pa.Table, template_text: TemplateText, common: np.ndarray) -> tuple[similar.Sets, np.ndarray]:
    """Shingles of each field that has source text, and the row that each belongs to."""

    def fields(part: pa.Table) -> similar.Sets:
        return similar.interleave([_telling_shingles(template_text.source(part, field), common) for field in FIELDS])

    sets = similar.sets_of(table, fields)
    full = np.flatnonzero(sets.sizes)
    return sets.take(full), full // len(FIELDS)


def _telling_shingles(pieces: words.Pieces, common: np.ndarray) -> similar.Sets:
    telling = (pieces.characters >= SHORTEST) & ~np.isin(pieces.hashes(), common)
    return similar.Sets(*words.shingles(pieces.only(telling), SHINGLE))


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    values, offsets = list_arrays(column)
    return values, np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def content_arrays(column: pa.ChunkedArray) -> np.ndarray:
    """Content hashes as two 64-bit halves, [R, 2]."""
    array = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.binary(16))
    data = np.frombuffer(array.buffers()[1], np.uint64) if len(array) else np.zeros(0, np.uint64)
    return data.reshape(-1, 2)[array.offset : array.offset + len(array)]


def _edges(keys: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows that share a key. Neighbours in sorted order are enough, as a chain joins what a clique does."""
    order = np.argsort(keys)
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    return rows[order[same]], rows[order[same + 1]]


def _components(left: np.ndarray, right: np.ndarray, count: int) -> np.ndarray:
    """The connected component of each of `count` nodes."""
    edges = coo_matrix((np.ones(len(left), bool), (left, right)), shape=(count, count))
    return connected_components(edges)[1]


def _named_by_lowest(labels: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Replaces each label by the lowest name among its rows, [R]."""
    lowest = np.full(int(labels.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(lowest, labels, names)
    return lowest[labels]
