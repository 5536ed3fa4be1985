"""When which keys were present in the source: docs/adr/0014-deletions-between-full-captures.md."""

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.read_ahead import read_ahead
from etl_assets.ingestion.csv_files import read_key_files
from etl_assets.ingestion.live_tables import live_name
from etl_assets.ingestion.manifest import Capture
from etl_assets.schema.columns import CAPTURED_AT_TYPE, missing_value
from etl_assets.schema.table import Table

FIRST_AT = "first_at"
LAST_AT = "last_at"


def has_keys(capture: Capture, table: Table) -> bool:
    """Whether a capture has the primary keys of all rows of a table, by the key that it is declared to have now."""
    taken = capture.key_columns.get(table.name, ())
    key = (table.columns.field(name) for name in table.primary_key)
    return capture.has_keys(table.name) and all(
        live_name(column, taken) in taken or missing_value(column) is not None for column in key
    )


def read_present_keys(bucket: Bucket, table: Table, captures: Iterable[Capture]) -> Iterator[pa.Table]:
    """Yield when keys of a table were present, from captures in the order of their times.

    A row is a range of consecutive key lists that all have a key: the columns of the primary key, and the times of the
    first and of the last list (`first_at`, `last_at`). A full capture of the table between two lists ends all ranges. A
    few lists are held at once, never all. A key that does not fit its declaration is left out, and so are lists
    of another key.

    Raises:
        CorruptObjectError: an object is missing, or differs from its manifest.
    """
    captures = [*captures]
    with_keys = (each for each in captures if has_keys(each, table))
    full_at = [each.captured_at for each in captures if each.is_full(table.name)]
    lists = read_ahead(read_key_files(bucket, table, with_keys))
    for _, consecutive in groupby(lists, lambda each: bisect(full_at, each[0])):
        yield from _ranges(consecutive, table.primary_key)


def _ranges(lists: Iterable[tuple[datetime, pa.Table]], primary_key: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the ranges of key lists: those that have ended, list by list, and at last those that have not."""
    present: list[pa.Table] = []  # the ranges that reach to the latest list
    for at, keys in lists:
        time = pa.scalar(at, CAPTURED_AT_TYPE)
        times = pa.repeat(time, keys.num_rows)
        listed = keys.append_column(FIRST_AT, times).append_column(LAST_AT, times)
        merged = _one_per_key(pa.concat_tables([*present, listed]), primary_key)
        is_present = pc.equal(merged.column(LAST_AT), time)
        yield from _not_empty(merged.filter(pc.invert(is_present)))
        present = [merged.filter(is_present)]
    yield from chain.from_iterable(map(_not_empty, present))


def _one_per_key(ranges: pa.Table, primary_key: Sequence[str]) -> pa.Table:
    """Return ranges with those of equal keys united. They are in the order of their times."""
    [name, *others] = primary_key
    is_integer = pa.types.is_integer(ranges.schema.field(name).type) and not ranges.column(name).null_count
    if others or not is_integer or not ranges.num_rows:
        united = ranges.group_by([*primary_key]).aggregate([(FIRST_AT, "min"), (LAST_AT, "max")])
        return united.select([*primary_key, f"{FIRST_AT}_min", f"{LAST_AT}_max"]).rename_columns(ranges.column_names)
    # Keys that come almost sorted, as they do, are sorted several times as fast as they are hashed.
    keys = ranges.column(name).to_numpy()
    order = np.argsort(keys, kind="stable")
    differs = np.diff(keys[order]) != 0
    first, last = order[np.insert(differs, 0, values=True)], order[np.append(differs, values=True)]
    return ranges.take(first).set_column(ranges.num_columns - 1, LAST_AT, ranges.column(LAST_AT).take(last))


def _not_empty(ranges: pa.Table) -> Iterator[pa.Table]:
    if ranges.num_rows:
        yield ranges
