"""Keys that several rows of one capture have. Which of the rows is right, nobody can tell: all are rejected.

A source has such rows while it lacks its primary key. A star table has them if its key is not the one of the source.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyroaring import BitMap64

from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE
from etl_assets.schema.table import Table
from etl_assets.schema.validation import Rejection, ValidatedRows, is_at, rejections

CapturedKey: TypeAlias = tuple[datetime, tuple[Any, ...]]
"""The time of a capture, and the values of a key in it."""

REPEATED = "is the key of several rows of the capture"
"""The reason of a row rejected for its key."""

_64_BITS = 2**64 - 1


class SeenKeys:
    """The keys of a table that were seen so far, and those of them that several rows of a capture have."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._integers: defaultdict[datetime, BitMap64] = defaultdict(BitMap64)
        self._others: defaultdict[datetime, set[tuple[Any, ...]]] = defaultdict(set)
        self.repeated: set[CapturedKey] = set()

    def add(self, rows: pa.Table) -> None:
        """Add the keys of a batch of rows."""
        times = rows.column(CAPTURED_AT)
        for time in pc.unique(times):
            of_time = rows.select(self._table.primary_key).filter(pc.equal(times, time))
            self.repeated.update((time.as_py(), key) for key in self._add(time.as_py(), of_time))

    def _add(self, captured_at: datetime, keys: pa.Table) -> Iterator[tuple[Any, ...]]:
        if keys.num_columns == 1 and pa.types.is_integer(keys.schema.types[0]):  # a bitmap of many takes little memory
            seen, new = self._integers[captured_at], BitMap64()
            new.update(memoryview(keys.column(0).to_numpy().astype("uint64")))
            if len(new) < keys.num_rows or seen.intersection_cardinality(new):
                counts = Counter(_tuples(keys))
                yield from (key for key, rows in counts.items() if rows > 1 or key[0] & _64_BITS in seen)
            seen |= new
        else:
            counts, others = Counter(_tuples(keys)), self._others[captured_at]
            yield from (key for key, rows in counts.items() if rows > 1 or key in others)
            others.update(counts)


def keys_of_rejected(table: Table, source_key: Sequence[str], rejected: pa.Table) -> pa.Table:
    """Return the keys that rejected rows would have in a table, from the columns `source_key`, if they can be read."""
    schema = pa.schema(table.captured_columns.field(name) for name in (*table.primary_key, CAPTURED_AT))
    parts = [schema.empty_table()]
    for row in rejected.group_by([CAPTURED_AT, "position", "row"]).aggregate([]).to_pylist():
        values = json.loads(row["row"])
        texts = [pa.array([None if values[name] is None else str(values[name])], pa.string()) for name in source_key]
        with suppress(pa.ArrowInvalid):
            columns = [text.cast(field.type) for text, field in zip(texts, schema, strict=False)]
            parts.append(pa.table([*columns, pa.array([row[CAPTURED_AT]], CAPTURED_AT_TYPE)], schema=schema))
    return pa.concat_tables(parts).drop_null()


def _tuples(rows: pa.Table) -> Iterable[tuple[Any, ...]]:
    return zip(*rows.to_pydict().values(), strict=True)


def reject_repeated(
    table: Table, rows: ValidatedRows, repeated: Set[CapturedKey], first_position: int
) -> ValidatedRows:
    """Return the rows without those that have a repeated key, which are rejected."""
    if not repeated:
        return rows
    keys = zip(rows.rows.column(CAPTURED_AT).to_pylist(), _tuples(rows.rows.select(table.primary_key)), strict=True)
    found = [Rejection(index, table.primary_key[0], REPEATED) for index, key in enumerate(keys) if key in repeated]
    rejected = rejections(table.name, table.primary_key, rows.rows, found, first_position)
    is_rejected = is_at(rows.rows.num_rows, {rejection.index for rejection in found})
    return ValidatedRows(rows.rows.filter(pc.invert(is_rejected)), pa.concat_tables([rows.rejected, rejected]))
