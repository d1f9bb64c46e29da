"""Texts that are nearly the same, or contained in one another: exact set comparison, not estimates.

Texts are sets of shingles. Two sets that overlap enough must share one of their rarest shingles (prefix filtering,
Bayardo et al., WWW 2007), so that few pairs are looked at and none is missed. Where the shingles are too many for the
memory, all sets keep those whose hash is below one bound (FracMinHash, Irber et al., 2022), and shares are estimates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from topeng.corpus.words import compiled

MOST_SHARED = 1_000
"""A shingle that more texts hold than this is no reason to compare them."""
MOST_SHINGLES = 40_000_000
"""Above this many, sets are sketched."""


@dataclass(frozen=True)
class Sets:
    """Sets of hashes, each sorted, end to end; set s is `hashes[offsets[s] : offsets[s + 1]]`."""

    hashes: np.ndarray
    offsets: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.offsets)

    def take(self, chosen: np.ndarray) -> "Sets":
        sizes = self.sizes[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], sizes)
        return Sets(self.hashes[places], offsets)


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts, and the share that one holds of the other."""

    left: np.ndarray
    right: np.ndarray
    share: np.ndarray


def join(parts: Sequence[Sets]) -> Sets:
    """Sets of several sequences as one."""
    sizes = np.concatenate([part.sizes for part in parts])
    return Sets(np.concatenate([part.hashes for part in parts]), np.concatenate([[0], np.cumsum(sizes)]))


def contained(sets: Sets, labels: np.ndarray, threshold: float, most_shingles: int = MOST_SHINGLES) -> Pairs:
    """Pairs that join texts of different labels, where the larger set holds `threshold` of the smaller one's shingles.

    Of pairs that would join what is joined already, none is given: the pairs are a forest over the labels.

    Args:
        labels: of each set, 0 and up, [S].
    """
    sets = _sketched(sets, most_shingles)
    ids, counts, _ = _by_rarity(sets)
    rows = np.repeat(np.arange(len(sets.sizes)), sets.sizes)
    order = np.argsort(ids, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])
    left, right, share = _contained(
        ids, sets.offsets, labels.astype(np.int64), rows[order], starts, threshold, MOST_SHARED
    )
    return Pairs(left, right, share)


def first_of_alike(sets: Sets, order: np.ndarray, threshold: float, most_shingles: int = MOST_SHINGLES) -> np.ndarray:
    """Of each text, the earlier one that it nearly equals, or -1, [S].

    Two texts are nearly equal where the Jaccard similarity of their input's shingles and that of their output's both
    reach the threshold. What was found alike is no reason for others to go.

    Args:
        sets: shingles of both fields; the lowest bit of a hash tells which.
        order: of all texts; the first of those alike stays.
    """
    sets = _sketched(sets, most_shingles)
    ids, _, values = _by_rarity(sets)
    fields = (values & np.uint64(1)).astype(np.uint8)
    return _first_of_alike(ids, fields, sets.offsets, order, threshold)


def found_in(sets: Sets, others: Sets) -> Pairs:
    """Every pair of a set and another that share a shingle, with the share of the set's that the other holds.

    For few sets against many others: each pair takes memory.
    """
    rows = np.repeat(np.arange(len(sets.sizes)), sets.sizes)
    order = np.argsort(sets.hashes, kind="stable")
    values, starts, counts = np.unique(sets.hashes[order], return_index=True, return_counts=True)
    places = np.minimum(np.searchsorted(values, others.hashes), max(0, len(values) - 1))
    hits = np.flatnonzero(values[places] == others.hashes) if len(values) else places[:0]
    held = places[hits]
    total = counts[held]
    within = np.arange(total.sum()) - np.repeat(np.cumsum(total) - total, total)
    left = rows[order[np.repeat(starts[held], total) + within]]
    right = np.repeat(np.repeat(np.arange(len(others.sizes)), others.sizes)[hits], total)
    pairs, shared = np.unique(left * len(others.sizes) + right, return_counts=True)
    left, right = np.divmod(pairs, max(1, len(others.sizes)))
    return Pairs(left, right, shared / sets.sizes[left])


def _sketched(sets: Sets, most_shingles: int) -> Sets:
    share = most_shingles / max(1, len(sets.hashes))
    if share >= 1:
        return sets
    kept = sets.hashes <= np.uint64(share * 2**64)
    offsets = np.concatenate([[0], np.cumsum(kept)])[sets.offsets]
    return Sets(sets.hashes[kept], offsets)


def _by_rarity(sets: Sets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shingles as numbers, the rarest the lowest, sorted within each set; of each number, how many sets hold it, and
    its hash."""
    values, ids, counts = np.unique(sets.hashes, return_inverse=True, return_counts=True)
    order = np.lexsort((values, counts))
    number = np.empty(len(values), np.int64)
    number[order] = np.arange(len(values))
    return _sorted_in_sets(number[ids], sets.offsets), counts[order], values[order]


@compiled
def _sorted_in_sets(ids, offsets):
    for item in range(len(offsets) - 1):
        ids[offsets[item] : offsets[item + 1]] = np.sort(ids[offsets[item] : offsets[item + 1]])
    return ids


@compiled
def _shared(ids, offsets, one, other):
    """How many shingles two sets share."""
    i, j, stop_i, stop_j = offsets[one], offsets[other], offsets[one + 1], offsets[other + 1]
    count = 0
    while i < stop_i and j < stop_j:
        if ids[i] == ids[j]:
            count += 1
            i += 1
            j += 1
        elif ids[i] < ids[j]:
            i += 1
        else:
            j += 1
    return count


@compiled
def _needed(threshold, size):
    return int(np.ceil(threshold * size - 1e-9))


@compiled
def _root(parents, item):
    while parents[item] != item:
        parents[item] = parents[parents[item]]
        item = parents[item]
    return item


@compiled
def _contained(ids, offsets, labels, holders, starts, threshold, most):
    count = len(offsets) - 1
    parents = np.arange(labels.max() + 1) if count else np.arange(0)
    seen = np.full(count, -1, np.int64)
    left, right, share = [0 for _ in range(0)], [0 for _ in range(0)], [0.0 for _ in range(0)]
    for item in range(count):
        size = offsets[item + 1] - offsets[item]
        needed = _needed(threshold, size)
        for place in range(offsets[item], offsets[item + 1] - needed + (size > 0)):
            low, high = starts[ids[place]], starts[ids[place] + 1]
            if high - low > most:
                break
            for other in holders[low:high]:
                larger = offsets[other + 1] - offsets[other] >= size
                if other == item or seen[other] == item or not larger:
                    continue
                seen[other] = item
                one, two = _root(parents, labels[item]), _root(parents, labels[other])
                if one == two:
                    continue
                common = _shared(ids, offsets, item, other)
                if common >= needed:
                    parents[max(one, two)] = min(one, two)
                    left.append(item)
                    right.append(other)
                    share.append(common / size)
    return np.array(left), np.array(right), np.array(share)


@compiled
def _alike(ids, fields, offsets, one, other, threshold):
    """Whether both fields of two sets reach the threshold."""
    sizes, shared = np.zeros(2), np.zeros(2)
    i, j, stop_i, stop_j = offsets[one], offsets[other], offsets[one + 1], offsets[other + 1]
    while i < stop_i or j < stop_j:
        if j == stop_j or (i < stop_i and ids[i] < ids[j]):
            sizes[fields[ids[i]]] += 1
            i += 1
        elif i == stop_i or ids[j] < ids[i]:
            sizes[fields[ids[j]]] += 1
            j += 1
        else:
            sizes[fields[ids[i]]] += 1
            shared[fields[ids[i]]] += 1
            i += 1
            j += 1
    return shared[0] >= threshold * sizes[0] and shared[1] >= threshold * sizes[1]


@compiled
def _first_of_alike(ids, fields, offsets, order, threshold):
    matched = np.full(len(offsets) - 1, -1, np.int64)
    seen = np.full(len(offsets) - 1, -1, np.int64)
    heads = np.full(len(fields), -1, np.int64)  # of the chain of kept sets that have a number in their prefix
    tails, owners = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
    links = 0
    for item in order:
        size = offsets[item + 1] - offsets[item]
        prefix = offsets[item + 1] - _needed(threshold, size) + (size > 0)
        for place in range(offsets[item], prefix):
            link = heads[ids[place]]
            while link >= 0 and matched[item] < 0:
                other = owners[link]
                if seen[other] != item:
                    seen[other] = item
                    if _alike(ids, fields, offsets, item, other, threshold):
                        matched[item] = other
                link = tails[link]
            if matched[item] >= 0:
                break
        if matched[item] < 0:
            for place in range(offsets[item], prefix):
                tails[links], owners[links] = heads[ids[place]], item
                heads[ids[place]] = links
                links += 1
    return matched
