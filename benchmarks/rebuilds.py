"""Rebuilds of a fact and its dimensions from long histories, against a first load of as many rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from benchmarks.bench import Bench
from benchmarks.measure import compared, in_fresh_process, memory, timed, with_peak
from benchmarks.stages import (
    FACT,
    FIRST,
    ORDER,
    ORDER_AND_LOOKUPS,
    REFERENCED,
    STATEMENTS_HEADER,
    capture_tables,
    load_fact,
    statements_of,
)
from etl_assets.adapters.object_store import Bucket
from etl_assets.catalog.partitions import PARTITION_KEY_FORMAT
from etl_assets.ingestion.manifest import CapturedFile, file_key, latest, publish
from etl_assets.schema.columns import MONEY, about, columns
from etl_assets.schema.table import Catalog
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation.star_table import ColumnOf, StarTable
from etl_assets_tests.pipeline import SOURCE, Pipeline, read_captured

_WINDOW = timedelta(minutes=15)
_TARGETS = {1_000: 1.5, 100: 2.0}
"""By rows of a capture: how many times as long as a first load a rebuild may take."""

_numbers = count(1)


def _rewritten(sales_order: pd.DataFrame) -> pd.DataFrame:
    """Return the same rows by other code."""
    return FACT.transform(sales_order)


def _with_value(sales_order: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with one more column."""
    rows = FACT.transform(sales_order)
    return rows.assign(order_value=(rows["units_sold"] * rows["unit_price"]).astype(pd.ArrowDtype(MONEY)))


_REWRITTEN = replace(FACT, transform=_rewritten)
_WITH_VALUE = replace(
    FACT,
    transform=_with_value,
    columns=pa.schema([*FACT.columns, *columns(order_value=about("Value of the order.", MONEY))]),
    derived_from={
        **FACT.derived_from,
        "order_value": (ColumnOf("sales_order", "units_sold"), ColumnOf("sales_order", "unit_price")),
    },
)

_LOST = "warehouse lost"
_RULES: Mapping[str, StarTable] = {
    _LOST: FACT,
    "other code, the same rows": _REWRITTEN,
    "every version changes": _WITH_VALUE,
}
"""The rule of the fact by what is measured, one after another on the same warehouse."""


@dataclass(frozen=True)
class _Place:
    """A warehouse, and the bucket of the captures and files."""

    warehouse: str
    bucket: str

    def first_load(self) -> None:
        """Transform and load a capture of all orders."""
        _pipeline(self).transform(FIRST)
        load_fact(self.warehouse, self.bucket)

    def rebuild(self, what: str = _LOST) -> None:
        """Rebuild what is out of date, and load what is not loaded."""
        _pipeline(self, _RULES[what]).rebuild()


def _pipeline(place: _Place, fact: StarTable = FACT) -> Pipeline:
    bucket = Bucket(place.bucket)
    return Pipeline("", place.warehouse, bucket, bucket, Catalog(TOTESYS_TABLES, (fact, *REFERENCED)))


def _write_history(bench: Bench, bucket: str, orders: pa.Table, per_capture: int) -> None:
    """Write as many versions as there are orders, after a capture of what they refer to.

    In each capture, half of the rows are new orders, and half are changed earlier ones.
    """
    capture_tables(bench.totesys, bucket, [name for name in ORDER_AND_LOOKUPS if name not in ORDER])
    previous = latest(Bucket(bucket))
    assert previous
    random, created = np.random.default_rng(1), 0
    for number in range(1, orders.num_rows // per_capture + 1):
        changed = random.choice(created, min(per_capture // 2, created), replace=False)
        new = np.arange(created, created + per_capture - len(changed))
        created += len(new)
        rows = orders.take(np.concatenate([changed, new]))
        units = pa.array(np.full(rows.num_rows, number, "int32"))  # others than in all earlier versions
        rows = rows.set_column(rows.column_names.index("units_sold"), "units_sold", units)
        captured_at = previous.captured_at + _WINDOW
        partition = f"{captured_at.replace(minute=captured_at.minute // 15 * 15):{PARTITION_KEY_FORMAT}}"
        key = file_key("sales_order", partition, captured_at)
        with Bucket(bucket).create(key) as file:
            csv.write_csv(rows, file)
        capture = replace(
            previous,
            captured_at=captured_at,
            partition=partition,
            full_because=None,
            previous=previous.id,
            files={"sales_order": CapturedFile(key, rows.num_rows, file.size, file.sha256.hexdigest())},
            earlier_files={name: each for name, each in previous.latest_files.items() if name != "sales_order"},
        )
        publish(Bucket(bucket), capture)
        previous = capture


def rebuilds(bench: Bench) -> None:
    """Measure rebuilds from 1/1,000 and 1/100 as many captures as versions."""
    rows, rounds = bench.sizes.rows, bench.sizes.long_rounds
    lake = bench.bucket("rebuilt-lake")
    capture_tables(bench.totesys, lake, ORDER_AND_LOOKUPS)
    orders = read_captured(Bucket(lake), SOURCE["sales_order"], FIRST).rows
    orders = orders.select(SOURCE["sales_order"].columns.names).slice(0, rows)
    histories = {per_capture: bench.bucket(f"history-of-{per_capture}") for per_capture in _TARGETS}
    for per_capture, bucket in histories.items():
        _write_history(bench, bucket, orders, per_capture)

    def new_place(bucket: str) -> _Place:
        return _Place(bench.server.create_database(f"rebuilt{next(_numbers)}"), bucket)

    def first_load() -> float:
        return timed(new_place(lake).first_load)

    first: list[float] = []
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        first.append(first_load())
        for per_capture, bucket in histories.items():
            place = new_place(bucket)
            for what in _RULES:
                taken.setdefault((what, per_capture), []).append(timed(place.rebuild, what))
    for (what, per_capture), seconds in taken.items():
        title = f"rebuild of {rows:,} versions in {orders.num_rows // per_capture:,} captures: {what}"
        bench.report.row(compared(title, seconds, {"first load": first}, _TARGETS[per_capture]))
    for per_capture, bucket in histories.items():
        place = new_place(bucket)
        for what in _RULES:
            lines = in_fresh_process(statements_of, place.rebuild, what)
            title = f"Where a rebuild from {orders.num_rows // per_capture:,} captures spends its time: {what}"
            bench.report.table(title, STATEMENTS_HEADER, lines)
    most = {
        orders.num_rows // per_capture: with_peak(new_place(bucket).rebuild)[1]
        for per_capture, bucket in histories.items()
    }
    bench.report.row(memory("memory of a rebuild", most, 400, "captures"))
