"""Keys that several rows of one capture have. Which of the rows is right, nobody can tell: all are rejected.

A source has such rows while it lacks its primary key. A star table has them if its key is not the one of the source.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
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


class SeenKeys:
    """The keys of a table that were seen so far, and those of them that several rows of a capture have."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._numbers: defaultdict[datetime, BitMap64] = defaultdict(BitMap64)
        self._others: defaultdict[datetime, set[tuple[Any, ...]]] = defaultdict(set)
        self.repeated: set[CapturedKey] = set()

    def add(self, rows: pa.Table) -> None:
        """Add the keys of a batch of rows."""
        if pc.count_distinct(rows.column(CAPTURED_AT)).as_py() > 1:
            rows = rows.sort_by(CAPTURED_AT)
        keys, times = rows.select(self._table.primary_key), rows.column(CAPTURED_AT)
        numbers = _numbers(keys)
        changes = np.flatnonzero(np.diff(times.to_numpy())) + 1
        for start, end in pairwise([0, *changes.tolist(), len(times)]):
            if start == end:
                continue  # no rows
            captured_at, of_capture = times[start].as_py(), keys.slice(start, end - start)
            if numbers is None:
                repeated = self._add(captured_at, of_capture)
            else:
                repeated = self._add_numbers(captured_at, of_capture, numbers[start:end])
            self.repeated.update((captured_at, key) for key in repeated)

    def _add_numbers(self, captured_at: datetime, keys: pa.Table, numbers: memoryview) -> Iterable[tuple[Any, ...]]:
        seen, new = self._numbers[captured_at], BitMap64()
        new.update(numbers)
        repeated: list[tuple[Any, ...]] = []
        if len(new) < keys.num_rows or seen.intersection_cardinality(new):
            by_key = zip(_tuples(keys), numbers.tolist(), strict=True)
            counts = Counter(by_key)
            repeated = [key for (key, number), rows in counts.items() if rows > 1 or number in seen]
        seen |= new
        return repeated

    def _add(self, captured_at: datetime, keys: pa.Table) -> Iterable[tuple[Any, ...]]:
        counts, seen = Counter(_tuples(keys)), self._others[captured_at]
        repeated = [key for key, rows in counts.items() if rows > 1 or key in seen]
        seen.update(counts)
        return repeated


def _numbers(keys: pa.Table) -> memoryview | None:
    """Return keys as numbers, if they are integers or dates: a bitmap of many takes little memory."""
    [type_, *others] = keys.schema.types
    if others or not (pa.types.is_integer(type_) or pa.types.is_date32(type_)):
        return None
    numbers = keys.column(0).cast(pa.int32()) if pa.types.is_date32(type_) else keys.column(0)
    return memoryview(numbers.to_numpy().astype("uint64"))


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
