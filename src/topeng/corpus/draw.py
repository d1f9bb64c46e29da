"""Which rows are drawn from the whole corpus, and which are held out.

Strata, keys, hashes and groups of all rows are kept in memory, at about 60 bytes per row. Texts are only read for the
rows that are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from topeng.corpus import groups as grouping
from topeng.corpus import sample
from topeng.corpus.engine import NATIVE, Engine
from topeng.corpus.ingest import take_rows
from topeng.corpus.sample import Strata
from topeng.corpus.schema import ROW_ID
from topeng.corpus.settings import DrawOptions
from topeng.corpus.source_text import TemplateText
from topeng.corpus.split import reserve

CANDIDATES = 4
"""Candidates per held-out row. Some of them share a group or are in another language."""
HELD_OUT = ("test", "validation")


@dataclass(frozen=True)
class Corpus:
    """All rows of the subsets that are kept, without their texts.

    Attributes:
        row_ids: ascending, [R].
        templates, subsets: the strata of training rows and of held-out rows.
        keys: rank keys for training rows and for held-out rows, each [R].
        content: content hashes, [R, 2].
        groups: exact groups, [R].
        common: hashes of boilerplate pieces.
        engine: reads the folder.
    """

    folder: Path
    row_ids: np.ndarray
    templates: Strata
    subsets: Strata
    keys: tuple[np.ndarray, np.ndarray]
    content: np.ndarray
    groups: np.ndarray
    common: np.ndarray
    template_text: TemplateText
    engine: Engine

    @classmethod
    def read(cls, folder: Path, subsets: Sequence[str], seed: int, engine: Engine = NATIVE) -> "Corpus":
        """Reads a folder that ingest wrote."""
        row_ids, (templates, names), keys = sample.read_strata(
            folder / "rows", ["template_name", "subset_name"], seed, subsets, engine
        )
        hashes = take_rows(folder, "hashes", row_ids, engine)
        common = grouping.boilerplate(hashes)
        return cls(
            folder=folder,
            row_ids=row_ids,
            templates=templates,
            subsets=names,
            keys=(keys, sample.rank_keys(row_ids, seed + 1)),
            content=grouping.content_arrays(hashes["content_hash"]),
            groups=row_ids[grouping.exact_groups(hashes, common)],
            common=common,
            template_text=TemplateText.load(folder / "templates.parquet"),
            engine=engine,
        )

    def places(self, row_ids: np.ndarray) -> np.ndarray:
        """Positions of rows in the arrays."""
        return np.searchsorted(self.row_ids, row_ids)

    def texts(self, row_ids: np.ndarray) -> pa.Table:
        """Rows with their texts, content hashes and exact groups, in order."""
        table = take_rows(self.folder, "rows", row_ids, self.engine)
        places = self.places(table[ROW_ID].to_numpy())
        content = np.ascontiguousarray(self.content[places])
        hashes = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(places), [None, pa.py_buffer(content)])
        return table.append_column("content_hash", hashes).append_column("group", pa.array(self.groups[places]))

    def distinct(self) -> np.ndarray:
        """Whether a row has the lowest rank key among the rows with its content, [R]."""
        order = np.argsort(self.content[:, 0])
        low = self.content[order, 0]
        same = np.append(False, low[1:] == low[:-1])
        several = order[same | np.append(same[1:], False)]  # few are left to sort by key
        order = several[np.lexsort((self.keys[0][several], self.content[several, 1], self.content[several, 0]))]
        content = self.content[order]
        later = np.append(False, (content[1:] == content[:-1]).all(axis=1))[: len(order)]
        kept = np.ones(len(self.row_ids), bool)
        kept[order[later]] = False
        return kept

    def upsampling(self) -> dict[str, dict[str, Any]]:
        """The rows of each subset, its distinct contents, and how often each content occurs on average."""
        found = {}
        for code, name in enumerate(self.subsets.names):
            content = self.content[self.subsets.codes == code, 0]
            distinct = len(np.unique(content))
            found[name] = {"rows": len(content), "distinct": distinct, "upsampling": round(len(content) / distinct, 2)}
        return found

    def draw(self, counts: dict[str, int], among: np.ndarray | None = None) -> np.ndarray:
        """Ids of the `counts[template]` rows with the lowest keys, out of all rows or those where `among` is true."""
        rows = np.arange(len(self.row_ids)) if among is None else np.flatnonzero(among)
        return sample.draw(self.row_ids[rows], self.templates.take(rows), self.keys[0][rows], counts)

    def candidates(self, options: DrawOptions, among: np.ndarray | None = None) -> np.ndarray:
        """Ids of rows that may be held out: one per group, stratified by `subset_name`, lowest keys first."""
        rows = np.arange(len(self.row_ids)) if among is None else np.flatnonzero(among)
        order = rows[np.argsort(self.keys[1][rows])]
        _, first = np.unique(self.groups[order], return_index=True)
        rows = np.sort(order[first])
        sizes, spare = self.subsets.sizes(), self.subsets.take(rows).sizes()
        wanted = min(CANDIDATES * (options.test_rows + options.validation_rows), len(rows))
        shares = sample.fill(sample.allocate(sizes, wanted), spare)
        return sample.draw(self.row_ids[rows], self.subsets.take(rows), self.keys[1][rows], shares)

    def hold_out(self, candidates: np.ndarray, groups: np.ndarray, options: DrawOptions) -> dict[str, np.ndarray]:
        """Ids of the test rows and of the validation rows, no two of them from the same group.

        Args:
            candidates: row ids; `groups` are their groups, including near groups.

        Raises:
            CorpusError: there are too few groups.
        """
        places = self.places(candidates)
        counts = [options.test_rows, options.validation_rows]
        strata = self.subsets.take(places)
        chosen = reserve(groups, strata, self.keys[1][places], counts, self.subsets.sizes())
        return {name: candidates[rows] for name, rows in zip(HELD_OUT, chosen, strict=True)}
