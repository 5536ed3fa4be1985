"""Changes, captures, loads, replays and crashes in any order, compared with a model (Hypothesis, stateful)."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.manifest import list_partition
from etl_assets.lake import Lake
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED
from etl_assets_tests.harness import assert_lake_equals_warehouse, assert_rows_are_counted, new_database
from etl_assets_tests.pipeline import Pipeline

pytestmark = pytest.mark.chaos

EXAMPLES, STEPS = 16, 40
KEYS = st.integers(1, 2)
STAFF, DEPARTMENTS = st.integers(101, 102), st.integers(51, 52)
EMPLOYED = 1
KNOWN_CURRENCY, UNKNOWN_CURRENCY = 1, 9
UNKNOWN_CODE, KNOWN_CODE = "XQX", "GBP"
INVALID_DATE = "tomorrow"
VALID_DATE = "2024-09-01"
LONG_AGO = datetime(2024, 8, 1)
DELETABLE = [
    ("sales_order", 1),
    ("sales_order", 2),
    ("staff", 101),
    ("staff", 102),
    ("department", 51),
    ("currency", 9),
]

Row = tuple[Any, ...]
Rows = dict[int, Row]
"""By key: units sold, currency, agreed payment date, staff and time of an order; name and department of staff; the code
of a currency."""

ORDER_COLUMNS = (
    "sales_order_id, units_sold, currency_id, agreed_payment_date::text, sales_staff_id, created_date + created_time"
)
SOURCES = {"fact_sales_order": "sales_order", "dim_staff": "staff", "dim_currency": "currency"}


class Captured(NamedTuple):
    """What a capture saw of a star table.

    complete: whether it tells which rows are there.
    """

    time: datetime
    rows: Rows
    complete: bool


class Version(NamedTuple):
    """A version of a row."""

    key: int
    time: datetime
    row: Row
    deleted: bool


def is_valid(row: Row) -> bool:
    return INVALID_DATE not in row and UNKNOWN_CODE not in row


def history(captures: list[Captured]) -> list[Version]:
    """The model: return the versions of the rows of a star table."""
    versions: list[Version] = []
    latest: dict[int, tuple[Row, bool]] = {}
    for time, rows, complete in captures:
        now = {key: (row, False) for key, row in rows.items() if is_valid(row)}
        if complete:
            now |= {key: (row, True) for key, (row, _) in latest.items() if key not in rows}
        changed = {key: version for key, version in now.items() if latest.get(key) != version}
        versions += [Version(key, time, *version) for key, version in changed.items()]
        latest |= changed
    return versions


def rejected(captures: list[Captured]) -> set[int]:
    """The model: return the keys of the rows whose latest version is rejected."""
    keys: set[int] = set()
    for _, rows, complete in captures:
        gone = keys - rows.keys() if complete else set()
        keys = keys - gone - rows.keys() | {key for key, row in rows.items() if not is_valid(row)}
    return keys


def latest_of(versions: Iterable[Version], time: datetime) -> dict[int, Version]:
    """Return the latest version of each key as of a time."""
    return {version.key: version for version in sorted(versions, key=lambda each: each.time) if version.time <= time}


def seen_by(versions: Iterable[Version], key: int, event: datetime, time: datetime) -> Row | None:
    """Return what a dimension said of a key when something happened, as known at a time."""
    known = sorted((each.time, each.row) for each in versions if (each.key, each.deleted) == (key, False))
    known = [(at, row) for at, row in known if at <= time]
    return next((row for at, row in reversed(known) if at <= event), known[0][1] if known else None)


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
    counts: ClassVar[Counter[str]]

    def __init__(self) -> None:
        super().__init__()
        self.pipeline = type(self).new_pipeline()
        self.orders: Rows = {}
        self.staff: dict[int, tuple[str, int]] = {}
        self.departments: dict[int, str] = {}
        self.currencies = {UNKNOWN_CURRENCY: UNKNOWN_CODE}
        self.captures: dict[str, list[Captured]] = {star: [] for star in SOURCES}
        self.counted: set[str] = set()
        """The tables whose deletions the source has counted since the latest capture."""
        self.truncated = False
        self.counts_deletions = True
        self.captured_keys: dict[str, set[int]] = {}
        self.partitions: list[str] = []
        self.loaded_partitions = 0
        self.window = datetime(2026, 11, 23)
        with connect(self.pipeline.totesys_url) as connection:
            connection.run("TRUNCATE payment, transaction, sales_order, purchase_order")
        self.name_the_currency(UNKNOWN_CODE)
        self.employ_or_rename(101, "a", 51, "a")
        self.opened = ExitStack()
        self.connection = self.opened.enter_context(connect(self.pipeline.warehouse_url))

    def totesys(self, sql: str, **values: Any) -> None:
        with connect(self.pipeline.totesys_url) as connection:
            connection.run(sql, **values)

    @property
    def partition(self) -> str:
        return f"{self.window:%Y-%m-%d-%H:%M}"

    @property
    def times(self) -> list[datetime]:
        return [capture.time for capture in self.captures["fact_sales_order"]]

    @property
    def is_loaded(self) -> bool:
        return self.loaded_partitions == len(self.partitions)

    @initialize(keeps_statistics=st.booleans())
    def begin(self, keeps_statistics: bool) -> None:
        self.counts_deletions = keeps_statistics
        self.totesys(
            f"""DO $$ BEGIN
                EXECUTE format('ALTER DATABASE %I SET track_counts = {keeps_statistics}', current_database());
            END $$"""
        )

    @rule(
        key=KEYS,
        units=st.integers(1, 2),
        currency=st.sampled_from([KNOWN_CURRENCY, UNKNOWN_CURRENCY]),
        due=st.sampled_from([VALID_DATE, VALID_DATE, INVALID_DATE]),
        staff=st.sampled_from([EMPLOYED, 101]),
        now=st.booleans(),
    )
    def write(self, key: int, units: int, currency: int, due: str, staff: int, now: bool) -> None:
        if currency not in self.currencies:
            currency = KNOWN_CURRENCY
        if staff not in self.staff:
            staff = EMPLOYED
        created = datetime.now(UTC).replace(tzinfo=None, microsecond=0) if now else LONG_AGO
        self.orders[key] = (units, currency, due, staff, created)
        self.totesys(
            """INSERT INTO sales_order VALUES (:key, :created, '2024-08-01', 1, :staff, 1, :units, 1, :currency,
                   '2024-08-01', :due, 1)
               ON CONFLICT (sales_order_id) DO UPDATE SET units_sold = :units, currency_id = :currency,
                   agreed_payment_date = :due, staff_id = :staff, created_at = :created""",
            key=key, units=units, currency=currency, due=due, staff=staff, created=created,
        )  # fmt: skip

    @rule(key=STAFF, name=st.sampled_from("ab"), department=DEPARTMENTS, department_name=st.sampled_from("ab"))
    def employ_or_rename(self, key: int, name: str, department: int, department_name: str) -> None:
        """Write a member of staff and a department, none of them with a new `last_updated`."""
        self.staff[key], self.departments[department] = (name, department), department_name
        self.totesys(
            """WITH written AS (
                   INSERT INTO department VALUES (:department, :department_name, 'x', 'y', '2024-08-01', '2024-08-01')
                   ON CONFLICT (department_id) DO UPDATE SET department_name = :department_name)
               INSERT INTO staff VALUES (:key, :name, 'x', :department, 'x', '2024-08-01', '2024-08-01')
               ON CONFLICT (staff_id) DO UPDATE SET first_name = :name, department_id = :department""",
            key=key, name=name, department=department, department_name=department_name,
        )  # fmt: skip

    @rule(department=DEPARTMENTS, name=st.sampled_from("ab"))
    def rename_department(self, department: int, name: str) -> None:
        if department in self.departments:
            self.departments[department] = name
        self.totesys(
            "UPDATE department SET department_name = :name WHERE department_id = :key", name=name, key=department
        )

    @property
    def deletable(self) -> list[tuple[str, int]]:
        """The rows that nothing refers to, by table and key."""
        references = {
            "staff": {order[3] for order in self.orders.values()},
            "currency": {order[1] for order in self.orders.values()},
            "department": {department for _, department in self.staff.values()},
        }
        return [
            (name, key) for name, rows in self.tables.items() for key in rows if key not in references.get(name, ())
        ]

    @property
    def tables(self) -> dict[str, dict[int, Any]]:
        return {
            "sales_order": self.orders,
            "staff": cast(dict[int, Any], self.staff),
            "department": cast(dict[int, Any], self.departments),
            "currency": cast(dict[int, Any], self.currencies),
        }

    @precondition(lambda self: self.deletable)
    @rule(data=st.data(), hidden=st.booleans(), again=st.sampled_from([False, False, True]))
    def delete(self, data: st.DataObject, hidden: bool, again: bool) -> None:
        """Delete a row that nothing refers to; and maybe insert it `again`, in the same transaction."""
        table, key = data.draw(st.sampled_from(self.deletable))
        if not again:
            del self.tables[table][key]
        if not hidden:
            self.counted.add(table)
        # In one message: the session tells what it counted, if it counts, before the source answers.
        self.totesys(
            f"""{"SET track_counts = off;" if hidden else ""}
                SELECT pg_stat_force_next_flush();
                CREATE TEMPORARY TABLE kept AS SELECT * FROM {table} WHERE {table}_id = {key};
                DELETE FROM {table} WHERE {table}_id = {key};
                INSERT INTO {table} SELECT * FROM kept WHERE {again}"""
        )

    @rule(key=KEYS)
    def change_key(self, key: int) -> None:
        """Give an order the other key: no deletion is counted."""
        other = 3 - key
        if key in self.orders and other not in self.orders:
            self.orders[other] = self.orders.pop(key)
            self.totesys("UPDATE sales_order SET sales_order_id = :new WHERE sales_order_id = :old", old=key, new=other)

    @rule(commit=st.booleans())
    def truncate(self, commit: bool) -> None:
        if commit:
            self.orders.clear()
            self.truncated = True
        self.totesys(f"BEGIN; TRUNCATE sales_order CASCADE; {'COMMIT' if commit else 'ROLLBACK'}")

    @rule(code=st.sampled_from([UNKNOWN_CODE, KNOWN_CODE]))
    def name_the_currency(self, code: str) -> None:
        self.currencies[UNKNOWN_CURRENCY] = code
        self.totesys(
            """INSERT INTO currency VALUES (9, :code, now(), now())
               ON CONFLICT (currency_id) DO UPDATE SET currency_code = :code""",
            code=code,
        )

    @rule(full=st.sampled_from([False, False, True]))
    def capture(self, full: bool) -> None:
        self.pipeline.capture(self.partition, full=full)
        self.record_captures()

    @rule(objects=st.integers(0, 6), full=st.booleans())
    def crash_while_capturing(self, objects: int, full: bool) -> None:
        bucket = CrashingBucket(self.pipeline.ingestion.url, objects)
        with contextlib.suppress(CrashError):
            self.pipeline.capture(self.partition, full=full, bucket=bucket)
        self.record_captures()  # the first of two may exist

    def shows_deletions(self, table: str) -> bool:
        """Whether the statistics of the source, or its numbers of rows, show that rows went since the last capture."""
        if self.counts_deletions:
            return table in self.counted
        before = self.captured_keys.get(table, set())
        return len([key for key in self.tables[table] if key <= max(before, default=0)]) < len(before)

    def record_captures(self) -> None:
        rows: dict[str, Rows] = {
            "fact_sales_order": dict(self.orders),
            "dim_staff": {key: (name, self.departments[in_]) for key, (name, in_) in self.staff.items()},
            "dim_currency": {key: (code,) for key, code in self.currencies.items()},
        }
        known = {*self.times}
        new = [
            each for each in list_partition(self.pipeline.ingestion, self.partition) if each.captured_at not in known
        ]
        for capture in new:
            for table in (*SOURCES.values(), "department"):
                assert capture.is_full(table) == (capture.full or (self.truncated and table == "sales_order"))
                assert capture.has_keys(table) == (self.shows_deletions(table) and not capture.is_full(table)), table
            for star, source in SOURCES.items():
                complete = capture.is_full(source) or capture.has_keys(source)
                self.captures[star].append(Captured(capture.captured_at, rows[star], complete))
            self.counts["captures"] += 1
            self.counts["key_lists"] += len(capture.key_files)
        if new:
            self.counted, self.truncated = set(), False
            self.captured_keys = {name: {*rows} for name, rows in self.tables.items()}
            if self.partition not in self.partitions:
                self.partitions.append(self.partition)
            self.loaded_partitions = min(self.loaded_partitions, self.partitions.index(self.partition))

    @rule()
    def next_window(self) -> None:
        self.window += timedelta(minutes=15)

    @precondition(lambda self: not self.is_loaded)
    @rule()
    def load(self) -> None:
        partition = self.partitions[self.loaded_partitions]
        self.pipeline.transform(partition)
        self.pipeline.load(partition)
        self.loaded_partitions += 1
        if self.is_loaded:
            self.assert_history()

    @rule(
        key=KEYS,
        units=st.integers(1, 2),
        currency=st.sampled_from([KNOWN_CURRENCY, UNKNOWN_CURRENCY]),
        full=st.sampled_from([False, False, True]),
    )
    def write_and_run(self, key: int, units: int, currency: int, full: bool) -> None:
        self.write(key, units, currency, VALID_DATE, 101, now=True)
        self.run(full=full)

    @precondition(lambda self: self.deletable)
    @rule(data=st.data())
    def delete_and_run(self, data: st.DataObject) -> None:
        self.delete(data, hidden=False, again=False)
        self.run()

    def run(self, *, full: bool = False) -> None:
        self.next_window()
        self.capture(full)
        while not self.is_loaded:
            self.load()

    @precondition(lambda self: not self.is_loaded)
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
        self.name_the_currency(KNOWN_CODE)
        self.run(full=True)
        assert self.warehouse("SELECT * FROM warehouse.pending") == []
        for time in self.times:
            self.assert_as_of(time)
        self.assert_lake_is_the_same()
        self.assert_rebuild_changes_nothing()
        self.assert_lake_is_the_same()
        self.opened.close()

    def warehouse(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.run(sql)]

    def versions(self, star: str) -> list[Version]:
        """Return the versions that are loaded or pending."""
        columns, condition = {
            "fact_sales_order": (ORDER_COLUMNS, "true"),
            "dim_staff": ("staff_id, first_name, department_name", "staff_id > 100"),
            "dim_currency": ("currency_id, currency_code", "currency_id = 9"),
        }[star]
        table = star if star.startswith("fact") else f"{star}_versions"
        rows = f"SELECT {columns}, deleted, captured_at FROM {{}} WHERE {condition}"
        loaded = rows.format(f"warehouse.{table}")
        waiting = rows.format(
            f"warehouse.pending, jsonb_populate_record(NULL::warehouse.{table}, pending.row) version"
        ).replace("captured_at FROM", "version.captured_at FROM")
        sql = f"{loaded} UNION ALL {waiting} AND star_table = '{star}'" if star == "fact_sales_order" else loaded
        return [Version(key, time, tuple(row), deleted) for key, *row, deleted, time in self.warehouse(sql)]

    def assert_history(self) -> None:
        resolvable = """SELECT 1 FROM warehouse.pending JOIN warehouse.dim_currency
            ON pending.row->'currency_id' = to_jsonb(dim_currency.currency_id)"""
        assert self.warehouse(resolvable) == [], "a pending row whose reference exists"
        for star, captures in self.captures.items():
            expected = history(captures)
            assert sorted(self.versions(star)) == sorted(expected), star
            rows = self.warehouse(
                f"SELECT (key->>'{SOURCES[star]}_id')::int FROM warehouse.rejected WHERE star_table = '{star}'"
            )
            assert {key for [key] in rows} == rejected(captures), star
        assert_rows_are_counted(self.warehouse)
        self.assert_as_of(None)

    @precondition(lambda self: self.is_loaded and self.partitions)
    @rule(data=st.data())
    def look_back(self, data: st.DataObject) -> None:
        self.assert_as_of(data.draw(st.sampled_from(self.times)))

    def assert_as_of(self, time: datetime | None) -> None:
        """Assert that the views have what is loaded of the model's versions."""
        until = time or datetime.max
        pending = {
            (key, at)
            for key, at in self.warehouse("SELECT (key->>'sales_order_id')::int, captured_at FROM warehouse.pending")
        }
        known = {star: history(captures) for star, captures in self.captures.items()}
        orders = [version for version in known["fact_sales_order"] if (version.key, version.time) not in pending]
        current = {version for version in latest_of(orders, until).values() if not version.deleted}
        as_was = [
            (key, *(seen_by(known["dim_staff"], staff, event, until) or (None, None)),
             *(seen_by(known["dim_currency"], currency, event, until) or (None,)))
            for key, _, (_, currency, _, staff, event), _ in current
        ]  # fmt: skip
        self.warehouse(f"SET etl_assets.as_of = '{time or ''}'")

        def shown(sql: str) -> list[tuple[Any, ...]]:
            return sorted(self.warehouse(sql), key=repr)

        def as_rows(versions: Iterable[Version]) -> list[tuple[Any, ...]]:
            return sorted(((each.key, *each.row, each.deleted, each.time) for each in versions), key=repr)

        every = [version for version in orders if version.time <= until]
        stamps = "deleted, captured_at"
        assert shown(f"SELECT {ORDER_COLUMNS}, {stamps} FROM as_of.fact_sales_order") == as_rows(every)
        assert shown(f"SELECT {ORDER_COLUMNS}, {stamps} FROM as_of.fact_sales_order_current") == as_rows(current)
        staff = f"SELECT staff_id, first_name, department_name, {stamps} FROM {{}}.dim_staff WHERE staff_id > 100"
        currency = f"SELECT currency_id, currency_code, {stamps} FROM {{}}.dim_currency WHERE currency_id = 9"
        for schema in ["as_of"] if time else ["as_of", "warehouse"]:
            assert shown(staff.format(schema)) == as_rows(latest_of(known["dim_staff"], until).values())
            assert shown(currency.format(schema)) == as_rows(latest_of(known["dim_currency"], until).values())
        seen = """SELECT sales_order_id, CASE WHEN sales_staff_id > 100 THEN sales_staff_first_name END,
                CASE WHEN sales_staff_id > 100 THEN sales_staff_department_name END,
                CASE WHEN currency_id = 9 THEN currency_code END
            FROM as_of.fact_sales_order_as_was"""
        assert shown(seen) == sorted(as_was, key=repr)
        self.counts["moments"] += 1

    def assert_lake_is_the_same(self) -> None:
        """Assert that the files show what the warehouse shows."""
        self.warehouse("RESET etl_assets.as_of")
        files = Lake(ingestion=self.pipeline.ingestion, transformation=self.pipeline.transformation)
        assert_lake_equals_warehouse(files, self.warehouse)

    def assert_rebuild_changes_nothing(self) -> None:
        """Assert that a rebuild, which loads all captures at once, gives what loading one by one gave."""
        before = {star: sorted(self.versions(star)) for star in SOURCES}
        self.pipeline.rebuild("fact_sales_order", "dim_staff", "dim_currency")
        assert {star: sorted(self.versions(star)) for star in SOURCES} == before
        self.assert_history()


def test_any_interleaving_equals_the_model(
    server: Server, small_totesys: str, tmp_path: Path, figures: Callable[..., None]
) -> None:
    runs = itertools.count()

    class MachineOnNewDatabases(Machine):
        counts: ClassVar[Counter[str]] = Counter()

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
    figures(interleavings=next(runs), **MachineOnNewDatabases.counts)
