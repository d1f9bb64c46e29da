"""The two ways to draw rows: `clean` holds out rows first and filters, `paper` repeats the experiment as it was."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from topeng.corpus import language, pii, sample, words
from topeng.corpus.draw import Corpus
from topeng.corpus.filters import HELD, Benchmark, contaminated, holding, near_duplicates
from topeng.corpus.funnel import Funnel
from topeng.corpus.groups import join_equal, near_groups
from topeng.corpus.ingest import Progress
from topeng.corpus.schema import MESSAGES, ROW_ID
from topeng.corpus.settings import DrawOptions
from topeng.corpus.source_text import FIELDS, content_hashes
from topeng.errors import CorpusError

OVERSAMPLE = 1.25
"""Rows drawn per wanted row in the first round. A stratum that falls short draws twice as many in the next."""

LANGUAGE_ROWS = 20_000


@dataclass(frozen=True)
class Drawn:
    """Tables by name (`pool` and the held-out sets), and facts about them for the manifest."""

    tables: dict[str, pa.Table]
    facts: dict[str, Any]


def draw_paper(corpus: Corpus, options: DrawOptions, funnel: Funnel, progress: Progress) -> Drawn:
    """Draws rows as they are in the corpus, including duplicates, stratified by `template_name`.

    Raises:
        CorpusError: more rows are asked for than there are.
    """
    wanted = sample.allocate(corpus.templates.sizes(), options.drawn(len(corpus.row_ids)))
    progress("reading the rows drawn", 0, None)
    pool = corpus.texts(corpus.draw(wanted))
    funnel.count({"not drawn": len(corpus.row_ids) - pool.num_rows})
    funnel.close("sample")
    return Drawn({"pool": pool}, {"wanted": wanted, "got": wanted})


def draw_clean(corpus: Corpus, options: DrawOptions, funnel: Funnel, progress: Progress) -> Drawn:
    """Draws test and validation rows whose groups contain no other drawn row, and a pool of rows that pass the filters.

    Quotas are in proportion to the corpus with its upsampling, but all rows of the pool differ in content. If a
    template has too few rows, or loses some to a filter, they are replaced by its next rows by rank, then by rows of
    other templates.

    Raises:
        CorpusError: there are too few rows for `sample_rows`, or too few groups to hold out.
    """
    distinct = corpus.distinct()
    candidates = corpus.candidates(options, distinct)
    wanted = sample.allocate(corpus.templates.sizes(), options.drawn(len(corpus.row_ids)))
    spare = corpus.templates.take(distinct).sizes()
    asked = {name: min(spare[name], math.ceil(OVERSAMPLE * rows)) for name, rows in wanted.items()}
    benchmarks = [Benchmark.read(name) for name in options.benchmarks]
    while True:
        rows = _look_at(corpus, options, benchmarks, candidates, corpus.draw(asked, distinct), progress)
        passed = rows.row_ids[rows.left]
        strata = corpus.templates.take(corpus.places(passed))
        short = [name for name, size in strata.sizes().items() if size < wanted[name] and asked[name] < spare[name]]
        if not short:
            break
        asked |= {name: min(spare[name], 2 * asked[name]) for name in short}
    got = _quotas(options, wanted, strata.sizes())
    chosen = sample.draw(passed, strata, corpus.keys[0][corpus.places(passed)], got)
    _tell(funnel, rows, chosen, int((~distinct).sum()))
    tables = {"pool": rows.take(chosen)} | {name: rows.take(held) for name, held in rows.held_out.items()}
    facts = {"wanted": wanted, "got": got, "contaminated": rows.matches}
    if options.mask_pii:
        facts["masked"] = pii.count(
            [text for table in tables.values() for name in FIELDS for text in table[name].to_pylist()]
        )
    return Drawn(tables, facts)


def hold_out_of_the_rest(corpus: Corpus, options: DrawOptions, train: pa.Table, funnel: Funnel) -> dict[str, pa.Table]:
    """Test and validation rows whose groups, including near groups, contain no training row.

    If all groups of a subset are in the training rows, other subsets fill its share.

    Raises:
        CorpusError: there are too few such groups.
    """
    free = ~np.isin(corpus.groups, train["group"].to_numpy())
    candidates = corpus.texts(corpus.candidates(options, free))
    count = candidates.num_rows
    table = pa.concat_tables([candidates, train.select(candidates.column_names)])
    groups = _near_groups(corpus, options, table)
    clear = ~np.isin(groups[:count], groups[count:])
    held_out = corpus.hold_out(candidates[ROW_ID].to_numpy()[clear], groups[:count][clear], options)
    for name, row_ids in held_out.items():
        funnel.keep("hold out", name, row_ids)
    return {name: _rows(candidates, row_ids) for name, row_ids in held_out.items()}


class _Rows:
    """The examined rows with their texts: which are left, which are held out, and why the others were dropped."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.row_ids = table[ROW_ID].to_numpy()
        self.left = np.ones(table.num_rows, bool)
        self.held_out: dict[str, np.ndarray] = {}
        self.drops: list[tuple[str, np.ndarray, np.ndarray | None]] = []
        self.matches: list[dict[str, Any]] = []

    def drop(self, reason: str, gone: np.ndarray, matched: np.ndarray | None = None) -> None:
        """Drops those of the remaining rows where `gone` [R] is true. `matched` [R] has the rows that they match."""
        gone = gone & self.left
        self.left &= ~gone
        self.drops.append((reason, self.row_ids[gone], None if matched is None else matched[gone]))

    def take(self, row_ids: np.ndarray) -> pa.Table:
        return _rows(self.table, row_ids)


def _look_at(
    corpus: Corpus,
    options: DrawOptions,
    benchmarks: Sequence[Benchmark],
    candidates: np.ndarray,
    drawn: np.ndarray,
    progress: Progress,
) -> _Rows:
    """Filters the drawn rows and the candidates, holds out some candidates, and drops rows that are like them."""
    progress("reading the rows drawn", 0, None)
    table = corpus.texts(np.union1d(drawn, candidates))
    if options.mask_pii:  # first, because two rows may only differ in masked text
        table = _masked(table)
    progress("joining texts that contain one another", 0, None)
    groups = _near_groups(corpus, options, table)
    rows = _Rows(_with(table, "group", pa.array(groups)))
    if options.languages:
        rows.drop("in another language", ~_spoken(options, table, progress))
    if benchmarks:
        matches = contaminated(table, corpus.template_text, benchmarks)
        rows.matches = [vars(match) | {"row": int(rows.row_ids[match.row])} for match in matches]
        rows.drop(HELD, holding(matches, table.num_rows))
    _hold_out(corpus, options, rows, groups, candidates)
    rows.drop("not drawn", ~np.isin(rows.row_ids, drawn))  # candidates that are not held out
    progress("finding near duplicates", 0, None)
    pool = np.flatnonzero(rows.left)
    keys = corpus.keys[0][corpus.places(rows.row_ids[pool])]
    matched = np.full(len(rows.row_ids), -1)
    found = near_duplicates(table.take(pool), corpus.template_text, keys, options.near_duplicate, options.most_shingles)
    matched[pool] = np.where(found >= 0, rows.row_ids[pool][found], -1)
    rows.drop("near duplicate", matched >= 0, matched)
    return rows


def _spoken(options: DrawOptions, table: pa.Table, progress: Progress) -> np.ndarray:
    """Whether the answer of a row is in one of the languages, [R]."""
    told = np.zeros(table.num_rows, bool)
    for start in range(0, table.num_rows, LANGUAGE_ROWS):
        inputs, outputs = (table[field].slice(start, LANGUAGE_ROWS).to_pylist() for field in FIELDS)
        progress("identifying languages", start, table.num_rows)
        _, probability = language.identify_rows(inputs, outputs, options.languages)
        told[start : start + LANGUAGE_ROWS] = probability >= language.SPOKEN
    return told


def _hold_out(corpus: Corpus, options: DrawOptions, rows: _Rows, groups: np.ndarray, candidates: np.ndarray) -> None:
    free = rows.left & np.isin(rows.row_ids, candidates)
    rows.held_out = corpus.hold_out(rows.row_ids[free], groups[free], options)
    chosen = np.flatnonzero(np.isin(rows.row_ids, np.concatenate(list(rows.held_out.values()))))
    owner = dict(zip(groups[chosen].tolist(), rows.row_ids[chosen].tolist(), strict=True))
    matched = np.array([owner.get(group, -1) for group in groups.tolist()])
    rows.left[chosen] = False
    rows.drop("like a held-out row", matched >= 0, matched)


def _quotas(options: DrawOptions, wanted: dict[str, int], passed: dict[str, int]) -> dict[str, int]:
    """Number of rows to take from each template. Other templates make up for one that has too few, if they can."""
    total, there = sum(wanted.values()), sum(passed.values())
    if there >= total:
        return sample.fill(wanted, passed)
    if options.sample_rows:
        raise CorpusError(
            f"corpus.sample_rows = {total:,}, but only {there:,} distinct rows pass the filters and share no source "
            "text with held-out rows. Ask for fewer, or filter less (corpus.languages, corpus.near_duplicate, "
            "corpus.profile)."
        )
    return passed


def _tell(funnel: Funnel, rows: _Rows, chosen: np.ndarray, copies: int) -> None:
    """Records the steps in their order. Only examined rows have a line of their own."""
    funnel.count({"same content as another row": copies})
    funnel.close("distinct")
    funnel.count({"not drawn": funnel.rows - len(rows.row_ids)})
    funnel.close("sample")
    for reason, row_ids, matched in rows.drops:
        funnel.drop("filter", reason, row_ids, matched)
    funnel.drop("filter", "over its template's quota", np.setdiff1d(rows.row_ids[rows.left], chosen))
    for name, row_ids in rows.held_out.items():
        funnel.keep("filter", name, row_ids)
        funnel.count({f"held out: {name}": len(row_ids)})
    funnel.close("filter")


def _masked(table: pa.Table) -> pa.Table:
    """Rows with personal numbers and addresses masked, and with the hashes of the masked texts."""
    for field in FIELDS:
        texts, _ = pii.mask(table[field].to_pylist())
        table = _with(table, field, pa.array(texts, pa.string()))
    messages = [_masked_messages(text) for text in table[MESSAGES].to_pylist()]
    table = _with(table, MESSAGES, pa.array(messages, pa.string()))
    return _with(table, "content_hash", content_hashes(*(words.normalise(table[field]) for field in FIELDS)))


def _masked_messages(text: str | None) -> str | None:
    if not text:
        return text
    messages = json.loads(text)
    contents, _ = pii.mask(message["content"] for message in messages)
    masked = [{**message, "content": content} for message, content in zip(messages, contents, strict=True)]
    return json.dumps(masked, ensure_ascii=False)


def _near_groups(corpus: Corpus, options: DrawOptions, table: pa.Table) -> np.ndarray:
    exact = join_equal(table["group"].to_numpy(), table["content_hash"])
    return near_groups(table, corpus.template_text, corpus.common, exact, options.containment, options.most_shingles)[0]


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _rows(table: pa.Table, row_ids: np.ndarray) -> pa.Table:
    return table.filter(pc.is_in(table[ROW_ID], pa.array(row_ids)))
