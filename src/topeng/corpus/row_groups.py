"""Rows in groups that fit in memory, however long they are."""

from collections.abc import Iterator

import pyarrow as pa

ROW_GROUP, GROUP_BYTES = 20_000, 2**25
"""Rows per row group. Groups of long rows have fewer, because several groups are in memory at once."""


def in_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of exactly `ROW_GROUP` rows, except for the last table and for tables of long rows."""
    held: list[pa.Table] = []
    count = size = 0
    for table in tables:
        held.append(table)
        count, size = count + table.num_rows, size + table.nbytes
        if count < ROW_GROUP and size < GROUP_BYTES:
            continue
        whole = pa.concat_tables(held)
        cut = count - count % ROW_GROUP if size < GROUP_BYTES else count
        for start in range(0, cut, ROW_GROUP):
            yield whole.slice(start, min(ROW_GROUP, cut - start))
        held = [whole.slice(cut)] if cut < count else []
        count, size = count - cut, sum(rest.nbytes for rest in held)
    if count:
        yield pa.concat_tables(held)
