"""Finds texts that are nearly the same or contained in one another, by exact comparison of sets.

A text is a set of shingles. Two sets that overlap enough must share one of their rarest shingles (prefix filtering,
Bayardo et al., WWW 2007), so only few pairs need to be compared. `first_of_alike` misses none. `contained` ignores
shingles that occur in more than `MOST_SHARED` sets, and so misses pairs that share no rarer one. If there are too many
shingles for the memory, all sets only keep those whose hash is below a common bound (FracMinHash, Irber et al., 2022),
and shares become estimates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from topeng.corpus.words import compiled, offsets_of

MOST_SHARED = 1_000
"""Texts are not compared because of a shingle that occurs in more of them than this."""
BUCKETS = 2**26
CHUNK_ROWS = 20_000
MOST_SHINGLES = 40_000_000
"""Number of shingles above which sets are sketched. Comparing 40 M shingles takes 1 GB."""


@dataclass(frozen=True)
class Sets:
    """Sorted sets of hashes, one after another. Set s is `hashes[offsets[s] : offsets[s + 1]]`."""

    hashes: np.ndarray
    offsets: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return np.diff(self.offsets)

    def take(self, chosen: np.ndarray) -> "Sets":
        sizes = self.sizes[chosen]
        offsets = offsets_of(sizes)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[chosen] - offsets[:-1], sizes)
        return Sets(self.hashes[places], offsets)


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts, and the share of one that the other contains."""

    left: np.ndarray
    right: np.ndarray
    share: np.ndarray


def sets_of(table: pa.Table, function: Callable[[pa.Table], Sets]) -> Sets:
    """The sets of a table's rows, a few rows at a time, because words take more memory than shingles."""
    starts = range(0, max(1, table.num_rows), CHUNK_ROWS)
    return join([function(table.slice(start, CHUNK_ROWS)) for start in starts])


def interleave(parts: Sequence[Sets]) -> Sets:
    """Interleaves several sequences of sets: the first of each, then the second of each, and so on."""
    count = len(parts[0].sizes)
    return join(parts).take(np.arange(len(parts) * count).reshape(-1, count).T.ravel())


def join(parts: Sequence[Sets]) -> Sets:
    """Concatenates several sequences of sets."""
    sizes = np.concatenate([part.sizes for part in parts])
    return Sets(np.concatenate([part.hashes for part in parts]), offsets_of(sizes))


def contained(sets: Sets, labels: np.ndarray, threshold: float, most_shingles: int = MOST_SHINGLES) -> Pairs:
    """Pairs of texts with different labels whose larger set has the share `threshold` of the smaller one's shingles.

    Pairs that would join what is already joined are left out, so the pairs are a forest over the labels.

    Args:
        labels: label of each set, from 0, [S].
    """
    shared = _Shared.of(_sketched(sets, most_shingles))
    rows = np.repeat(np.arange(len(shared.sizes)), np.diff(shared.offsets))
    holders = rows[np.argsort(shared.ids, kind="stable")]
    starts = offsets_of(shared.counts)
    one_field = np.zeros(len(shared.counts), np.int64)
    left, right, share = _contained(
        shared.ids,
        one_field,
        shared.offsets,
        shared.sizes,
        labels.astype(np.int64),
        (holders, starts),
        (threshold, MOST_SHARED),
    )
    return Pairs(left, right, share)


def first_of_alike(sets: Sets, order: np.ndarray, threshold: float, most_shingles: int = MOST_SHINGLES) -> np.ndarray:
    """For each text, the earlier one that it nearly equals, or -1, [S].

    Two texts are nearly equal if the Jaccard similarities of their inputs and of their outputs both reach the
    threshold. A text is only compared with earlier texts that were not matched themselves.

    Args:
        sets: shingles of both fields. The lowest bit of a hash says which field.
        order: order of all texts. The first of several similar texts is kept.
    """
    sets = _sketched(sets, most_shingles)
    shared = _Shared.of(sets)
    fields = (shared.values & np.uint64(1)).astype(np.int64)
    of_output = offsets_of(sets.hashes & np.uint64(1))[sets.offsets]
    sizes = np.stack([shared.sizes - np.diff(of_output), np.diff(of_output)], axis=1)
    return _first_of_alike(shared.ids, fields, shared.offsets, sizes, order, threshold)


def found_in(sets: Sets, others: Sets) -> Pairs:
    """Every pair of a set and one of the others that share a shingle, with the share that the other has of the set.

    For a few sets against many others, because each pair takes memory.
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
    offsets = offsets_of(kept)[sets.offsets]
    return Sets(sets.hashes[kept], offsets)


@dataclass(frozen=True)
class _Shared:
    """The shingles that occur in several sets, numbered from the rarest, and sorted within each set.

    Attributes:
        ids, offsets: the numbers of all sets, one set after another, and where each set starts.
        sizes: sizes of the sets, including shingles that occur nowhere else.
        counts, values: for each number, how many sets have it, and its hash.
    """

    ids: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    counts: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, sets: Sets) -> "_Shared":
        maybe = _perhaps_shared(sets.hashes, BUCKETS)
        offsets = offsets_of(maybe)[sets.offsets]
        values, ids, counts = np.unique(sets.hashes[maybe], return_inverse=True, return_counts=True)
        order = np.argsort(counts, kind="stable")
        number = np.empty(len(values), np.int64)
        number[order] = np.arange(len(values))
        return cls(_sorted_in_sets(number[ids], offsets), offsets, sets.sizes, counts[order], values[order])


@compiled
def _perhaps_shared(hashes, buckets):
    """False for most hashes that occur once, true for all others. Counting in buckets is faster than sorting."""
    seen = np.zeros(buckets, np.uint8)
    mask = np.uint64(buckets - 1)
    for value in hashes:
        seen[value >> np.uint64(1) & mask] = min(2, seen[value >> np.uint64(1) & mask] + 1)
    kept = np.empty(len(hashes), np.bool_)
    for place, value in enumerate(hashes):
        kept[place] = seen[value >> np.uint64(1) & mask] > 1
    return kept


@compiled
def _sorted_in_sets(ids, offsets):
    for item in range(len(offsets) - 1):
        ids[offsets[item] : offsets[item + 1]] = np.sort(ids[offsets[item] : offsets[item + 1]])
    return ids


@compiled
def _shared(ids, fields, offsets, one, other):
    """How many shingles two sets share in field 0 and in field 1."""
    i, j, stop_i, stop_j = offsets[one], offsets[other], offsets[one + 1], offsets[other + 1]
    zeroth, first = 0, 0
    while i < stop_i and j < stop_j:
        if ids[i] == ids[j]:
            first += fields[ids[i]]
            zeroth += 1 - fields[ids[i]]
            i += 1
            j += 1
        elif ids[i] < ids[j]:
            i += 1
        else:
            j += 1
    return zeroth, first


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
def _contained(ids, fields, offsets, sizes, labels, index, limits):
    (holders, starts), (threshold, most) = index, limits
    count = len(offsets) - 1
    parents = np.arange(labels.max() + 1) if count else np.arange(0)
    seen = np.full(count, -1, np.int64)
    left, right, share = [0 for _ in range(0)], [0 for _ in range(0)], [0.0 for _ in range(0)]
    for item in range(count):
        needed = _needed(threshold, sizes[item])
        for place in range(offsets[item], offsets[item + 1] - needed + (needed > 0)):
            low, high = starts[ids[place]], starts[ids[place] + 1]
            if high - low > most:
                break
            for other in holders[low:high]:
                if other == item or seen[other] == item or sizes[other] < sizes[item]:
                    continue
                seen[other] = item
                one, two = _root(parents, labels[item]), _root(parents, labels[other])
                if one == two:
                    continue
                common, _ = _shared(ids, fields, offsets, item, other)
                if common >= needed:
                    parents[max(one, two)] = min(one, two)
                    left.append(item)
                    right.append(other)
                    share.append(common / sizes[item])
    return np.array(left), np.array(right), np.array(share)


@compiled
def _alike(ids, fields, offsets, sizes, one, other, threshold):
    """Whether both fields of two sets reach the threshold."""
    shared = _shared(ids, fields, offsets, one, other)
    for field in range(2):
        if shared[field] < threshold * (sizes[one, field] + sizes[other, field] - shared[field]):
            return False
    return True


@compiled
def _first_of_alike(ids, fields, offsets, sizes, order, threshold):
    matched = np.full(len(offsets) - 1, -1, np.int64)
    seen = np.full(len(offsets) - 1, -1, np.int64)
    heads = np.full(len(fields), -1, np.int64)  # start of the chain of kept sets with a number in their prefix
    tails, owners = np.empty(len(ids), np.int64), np.empty(len(ids), np.int64)
    links = 0
    for item in order:
        needed = _needed(threshold, sizes[item, 0] + sizes[item, 1])
        prefix = offsets[item + 1] - needed + (needed > 0)
        for place in range(offsets[item], prefix):
            link = heads[ids[place]]
            while link >= 0 and matched[item] < 0:
                other = owners[link]
                if seen[other] != item:
                    seen[other] = item
                    if _alike(ids, fields, offsets, sizes, item, other, threshold):
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
