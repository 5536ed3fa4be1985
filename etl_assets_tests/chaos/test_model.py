"""Changes, captures, loads, replays and crashes in any order, compared with a model (Hypothesis, stateful)."""

import contextlib
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.manifest import list_partition
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED
from etl_assets_tests.harness import new_database
from etl_assets_tests.pipeline import Pipeline

pytestmark = pytest.mark.chaos

EXAMPLES, STEPS = 20, 40
KEYS = st.integers(1, 2)
KNOWN_CURRENCY, UNKNOWN_CURRENCY = 1, 9
INVALID_DATE = "tomorrow"
VALID_DATE = "2024-09-01"

Content = tuple[int, int, str]
"""Units sold, currency and agreed payment date of an order."""


def history(captures: list[tuple[datetime, dict[int, Content], bool]]) -> list[tuple[int, datetime, Content, bool]]:
    """The model: return the versions of orders as key, capture time, content, and whether it is a tombstone."""
    versions = []
    latest: dict[int, tuple[Content, bool]] = {}
    for time, orders, full in captures:
        now = {key: (content, False) for key, content in orders.items() if content[2] != INVALID_DATE}
        if full:
            now |= {key: (content, True) for key, (content, _) in latest.items() if key not in orders}
        changed = {key: version for key, version in now.items() if latest.get(key) != version}
        versions += [(key, time, *version) for key, version in changed.items()]
        latest |= changed
    return versions


class CrashError(Exception):
    """The process crashes here."""


class CrashingBucket(Bucket):
    """A bucket that crashes its writer after some objects."""

    def __init__(self, url: str, objects: int) -> None:
        super().__init__(url)
        self._left = objects

    def create(self, key: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise CrashError
        return super().create(key)


class CrashingFile:
    """A file that crashes its reader."""

    def __getattr__(self, name: str) -> Any:
        raise CrashError


class Machine(RuleBasedStateMachine):
    new_pipeline: Callable[[], Pipeline]

    def __init__(self) -> None:
        super().__init__()
        self.pipeline = type(self).new_pipeline()
        self.orders: dict[int, Content] = {}
        self.captures: list[tuple[datetime, dict[int, Content], bool]] = []
        self.partitions: list[str] = []
        self.loaded_partitions = 0
        self.window = datetime(2026, 11, 23)
        with connect(self.pipeline.totesys_url) as connection:
            connection.run("TRUNCATE payment, transaction, sales_order, purchase_order")
            connection.run("INSERT INTO currency VALUES (9, 'XQX', now(), now())")

    def totesys(self, sql: str, **values: Any) -> None:
        with connect(self.pipeline.totesys_url) as connection:
            connection.run(sql, **values)

    @property
    def partition(self) -> str:
        return f"{self.window:%Y-%m-%d-%H:%M}"

    @rule(
        key=KEYS,
        units=st.integers(1, 2),
        currency=st.sampled_from([KNOWN_CURRENCY, UNKNOWN_CURRENCY]),
        due=st.sampled_from([VALID_DATE, VALID_DATE, INVALID_DATE]),
    )
    def write(self, key: int, units: int, currency: int, due: str) -> None:
        self.orders[key] = (units, currency, due)
        self.totesys(
            """INSERT INTO sales_order VALUES (:key, '2024-08-01', '2024-08-01', 1, 1, 1, :units, 1, :currency,
                   '2024-08-01', :due, 1)
               ON CONFLICT (sales_order_id) DO UPDATE
               SET units_sold = :units, currency_id = :currency, agreed_payment_date = :due""",
            key=key, units=units, currency=currency, due=due,
        )  # fmt: skip

    @rule(key=KEYS)
    def delete(self, key: int) -> None:
        self.orders.pop(key, None)
        self.totesys("DELETE FROM sales_order WHERE sales_order_id = :key", key=key)

    @rule(code=st.sampled_from(["XQX", "GBP"]))
    def name_the_currency(self, code: str) -> None:
        self.totesys("UPDATE currency SET currency_code = :code WHERE currency_id = 9", code=code)

    @rule(full=st.booleans())
    def capture(self, full: bool) -> None:
        self.pipeline.capture(self.partition, full=full)
        self.record_captures()

    @rule(objects=st.integers(0, 5), full=st.booleans())
    def crash_while_capturing(self, objects: int, full: bool) -> None:
        bucket = CrashingBucket(self.pipeline.ingestion.url, objects)
        with contextlib.suppress(CrashError):
            self.pipeline.capture(self.partition, full=full, bucket=bucket)
        self.record_captures()  # the first of two may exist

    def record_captures(self) -> None:
        known = {time for time, _, _ in self.captures}
        new = [
            each for each in list_partition(self.pipeline.ingestion, self.partition) if each.captured_at not in known
        ]
        self.captures += [(capture.captured_at, dict(self.orders), capture.full) for capture in new]
        if new:
            if self.partition not in self.partitions:
                self.partitions.append(self.partition)
            self.loaded_partitions = min(self.loaded_partitions, self.partitions.index(self.partition))

    @rule()
    def next_window(self) -> None:
        self.window += timedelta(minutes=15)

    @precondition(lambda self: self.loaded_partitions < len(self.partitions))
    @rule()
    def load(self) -> None:
        partition = self.partitions[self.loaded_partitions]
        self.pipeline.transform(partition)
        self.pipeline.load(partition)
        self.loaded_partitions += 1
        if self.loaded_partitions == len(self.partitions):
            self.assert_history()

    @rule(
        key=KEYS,
        units=st.integers(1, 2),
        currency=st.sampled_from([KNOWN_CURRENCY, UNKNOWN_CURRENCY]),
        full=st.booleans(),
    )
    def write_and_run(self, key: int, units: int, currency: int, full: bool) -> None:
        self.write(key, units, currency, VALID_DATE)
        self.next_window()
        self.capture(full)
        while self.loaded_partitions < len(self.partitions):
            self.load()

    @precondition(lambda self: self.loaded_partitions < len(self.partitions))
    @rule(star=st.sampled_from(["dim_date", "dim_currency", "fact_sales_order", "fact_payment"]))
    def crash_while_loading(self, star: str) -> None:
        partition = self.partitions[self.loaded_partitions]
        self.pipeline.transform(partition)
        with pytest.raises(CrashError):
            self.pipeline.load(partition, {star: CrashingFile()})  # type: ignore[dict-item]

    @precondition(lambda self: self.loaded_partitions > 0)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        partition = data.draw(st.sampled_from(self.partitions[: self.loaded_partitions]))
        self.pipeline.transform(partition)
        self.pipeline.load(partition)

    def teardown(self) -> None:
        self.name_the_currency("GBP")
        self.next_window()
        self.capture(full=True)
        while self.loaded_partitions < len(self.partitions):
            self.load()
        assert self.warehouse("SELECT * FROM warehouse.pending") == []

    def warehouse(self, sql: str) -> list[tuple[Any, ...]]:
        with connect(self.pipeline.warehouse_url) as connection:
            return [tuple(row) for row in connection.run(sql)]

    def assert_history(self) -> None:
        rows = self.warehouse(
            """SELECT sales_order_id, captured_at, units_sold, currency_id, agreed_payment_date::text, deleted
               FROM warehouse.fact_sales_order
               UNION ALL
               SELECT (key->>'sales_order_id')::int, captured_at, (row->>'units_sold')::int,
                   (row->>'currency_id')::int, row->>'agreed_payment_date', (row->>'deleted')::boolean
               FROM warehouse.pending"""
        )
        resolvable = """SELECT 1 FROM warehouse.pending JOIN warehouse.dim_currency
            ON pending.row->'currency_id' = to_jsonb(dim_currency.currency_id)"""
        assert self.warehouse(resolvable) == [], "a pending row whose reference exists"
        versions = [(key, time, (units, currency, due), deleted) for key, time, units, currency, due, deleted in rows]
        assert sorted(versions) == sorted(history(self.captures))
        rejected = self.warehouse(
            "SELECT (key->>'sales_order_id')::int FROM warehouse.rejected WHERE star_table LIKE 'fact%'"
        )
        assert {key for [key] in rejected} >= {
            key for key, content in self.orders.items() if content[2] == INVALID_DATE
        } & {key for key, content in self.captures[-1][1].items() if content[2] == INVALID_DATE}


def test_any_interleaving_equals_the_model(
    server: Server, small_totesys: str, tmp_path: Path, figures: Callable[..., None]
) -> None:
    runs = itertools.count()

    class MachineOnNewDatabases(Machine):
        @staticmethod
        def new_pipeline() -> Pipeline:
            bucket = Bucket(f"file://{tmp_path}/{next(runs)}")
            return Pipeline(new_database(server, small_totesys), new_database(server), bucket, bucket)

    run_state_machine_as_test(
        seed(SEED)(MachineOnNewDatabases),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # Phase.shrink takes minutes to find a shorter failure
            suppress_health_check=list(HealthCheck),
        ),
    )
    figures(interleavings=next(runs))
