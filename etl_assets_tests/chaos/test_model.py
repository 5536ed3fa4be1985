"""Changes, captures, loads, replays and crashes in any order, against a model of ten lines (hypothesis, stateful)."""

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from etl_assets.buckets import Bucket
from etl_assets.captures import in_partition
from etl_assets.databases import connect
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED
from etl_assets_tests.chaos.pipeline import Pipeline
from etl_assets_tests.conftest import fresh

pytestmark = pytest.mark.chaos

EXAMPLES, STEPS = 20, 40
KEYS = st.integers(1, 2)
NAMED, UNNAMED = 1, 9
BAD = "tomorrow"
GOOD = "2024-09-01"

Content = tuple[int, int, str]
"""Of an order: units sold, currency, agreed payment date."""


def history(captures: list[tuple[datetime, dict[int, Content], bool]]) -> list[tuple[int, datetime, Content, bool]]:
    """The model: the versions of orders that captures saw, as key, time, content, and whether it closes."""
    versions = []
    last: dict[int, tuple[Content, bool]] = {}
    for time, orders, full in captures:
        now = {key: (content, False) for key, content in orders.items() if content[2] != BAD}
        if full:
            now |= {key: (content, True) for key, (content, _) in last.items() if key not in orders}
        changed = {key: version for key, version in now.items() if last.get(key) != version}
        versions += [(key, time, *version) for key, version in changed.items()]
        last |= changed
    return versions


class CrashError(Exception):
    """The process is gone."""


class Crashing(Bucket):
    """A bucket whose writer dies before the n-th object is published."""

    def __init__(self, url: str, at: int) -> None:
        super().__init__(url)
        self._left = at

    def create(self, key: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise CrashError
        return super().create(key)


class Torn:
    """A file whose reader dies."""

    def __getattr__(self, name: str) -> Any:
        raise CrashError


class Machine(RuleBasedStateMachine):
    fresh_pipeline: Callable[[], Pipeline]

    def __init__(self) -> None:
        super().__init__()
        self.pipeline = type(self).fresh_pipeline()
        self.orders: dict[int, Content] = {}
        self.captures: list[tuple[datetime, dict[int, Content], bool]] = []
        self.partitions: list[str] = []
        self.loaded = 0
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
        currency=st.sampled_from([NAMED, UNNAMED]),
        due=st.sampled_from([GOOD, GOOD, BAD]),
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
        made = self.pipeline.capture(self.partition, full=full)
        self.captures += [(each.captured_at, dict(self.orders), each.full) for each in made]
        if self.partition not in self.partitions:
            self.partitions.append(self.partition)
        self.loaded = min(self.loaded, self.partitions.index(self.partition))

    @rule(at=st.integers(0, 5), full=st.booleans())
    def crash_while_capturing(self, at: int, full: bool) -> None:
        before = len(self.captures)
        try:
            self.captures += [
                (each.captured_at, dict(self.orders), each.full)
                for each in self.pipeline.capture(self.partition, full=full, lake=Crashing(self.pipeline.lake.url, at))
            ]
        except CrashError:
            # Of two captures the first may be there: it is a capture.
            made = in_partition(self.pipeline.lake, self.partition)
            known = {time for time, _, _ in self.captures}
            self.captures += [(e.captured_at, dict(self.orders), e.full) for e in made if e.captured_at not in known]
        if len(self.captures) > before:
            if self.partition not in self.partitions:
                self.partitions.append(self.partition)
            self.loaded = min(self.loaded, self.partitions.index(self.partition))

    @rule()
    def next_window(self) -> None:
        self.window += timedelta(minutes=15)

    @precondition(lambda self: self.loaded < len(self.partitions))
    @rule()
    def load(self) -> None:
        partition = self.partitions[self.loaded]
        self.pipeline.transform(partition)
        self.pipeline.load(partition)
        self.loaded += 1
        if self.loaded == len(self.partitions):
            self.assert_history()

    @rule(key=KEYS, units=st.integers(1, 2), currency=st.sampled_from([NAMED, UNNAMED]), full=st.booleans())
    def write_and_tick(self, key: int, units: int, currency: int, full: bool) -> None:
        self.write(key, units, currency, GOOD)
        self.next_window()
        self.capture(full)
        while self.loaded < len(self.partitions):
            self.load()

    @precondition(lambda self: self.loaded < len(self.partitions))
    @rule(star=st.sampled_from(["dim_date", "dim_currency", "fact_sales_order", "fact_payment"]))
    def crash_while_loading(self, star: str) -> None:
        partition = self.partitions[self.loaded]
        self.pipeline.transform(partition)
        with pytest.raises(CrashError):
            self.pipeline.load(partition, {star: Torn()})  # type: ignore[dict-item]

    @precondition(lambda self: self.loaded > 0)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        partition = data.draw(st.sampled_from(self.partitions[: self.loaded]))
        self.pipeline.transform(partition)
        self.pipeline.load(partition)

    def teardown(self) -> None:
        self.name_the_currency("GBP")
        self.next_window()
        self.capture(full=True)
        while self.loaded < len(self.partitions):
            self.load()
        assert self.warehouse("SELECT * FROM warehouse.waiting") == []

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
               FROM warehouse.waiting"""
        )
        arrived = """SELECT 1 FROM warehouse.waiting JOIN warehouse.dim_currency
            ON waiting.row->'currency_id' = to_jsonb(dim_currency.currency_id)"""
        assert self.warehouse(arrived) == [], "waits for what is here"
        have = sorted((key, at, (units, currency, due), gone) for key, at, units, currency, due, gone in rows)
        assert have == sorted(history(self.captures))
        rejected = self.warehouse(
            "SELECT (key->>'sales_order_id')::int FROM warehouse.rejected WHERE star_table LIKE 'fact%'"
        )
        assert {key for [key] in rejected} >= {key for key, content in self.orders.items() if content[2] == BAD} & {
            key for key, content in self.captures[-1][1].items() if content[2] == BAD
        }


def test_any_interleaving_equals_the_model(
    server: Server, quiet_totesys: str, tmp_path: Path, figures: Callable[..., None]
) -> None:
    numbers = itertools.count()

    class Fresh(Machine):
        @staticmethod
        def fresh_pipeline() -> Pipeline:
            lake = Bucket(f"file://{tmp_path}/{next(numbers)}")
            return Pipeline(fresh(server, quiet_totesys), fresh(server), lake)

    run_state_machine_as_test(
        seed(SEED)(Fresh),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # of a failure, Phase.shrink finds a short one, in minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    figures(interleavings=next(numbers))
