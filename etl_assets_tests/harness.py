"""The platform under test: its environment, its runs and its contents, and helpers of several test modules."""

import csv
import io
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection, column_list, connect, csv_chunks, quote_identifier
from etl_assets.adapters.settings import Variable
from etl_assets.catalog.partitions import PARTITION_KEY_FORMAT
from etl_assets.catalog.stages import CAPTURE_OP, ETL, INGESTION, TRANSFORMATION, WAREHOUSE
from etl_assets.definitions import definitions
from etl_assets.ingestion.changes import relation as source_relation
from etl_assets.ingestion.manifest import (
    Capture,
    CapturedFile,
    Source,
    file_key,
    latest,
    list_after,
    partition_of,
    publish,
)
from etl_assets.lake import Lake
from etl_assets.lake.rows import LakeRows
from etl_assets.schema.columns import enum_values
from etl_assets.schema.table import Catalog, Table, referenced_first
from etl_assets.simulator.postgres import Server
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.star_table import StarTable, shared_columns, with_descriptions
from etl_assets.warehouse.checks import LoadedTable, checks_of
from etl_assets.warehouse.ddl import stored_columns, stored_tables
from etl_assets.warehouse.history import count_rows
from etl_assets.warehouse.rebuild import Rebuild
from etl_assets_tests.expected import CURRENT_STATE, DIM_DATE
from etl_assets_tests.pipeline import CATALOG, FACTS, SOURCE, Pipeline

Value = TypeVar("Value")

ROOT = Path(__file__).parent.parent
SNAPSHOT = os.environ.get("TOTESYS_SNAPSHOT", "")

LOCK_WAITERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
"""The sessions that wait for a capture or a load to end."""

NOON = datetime(2024, 8, 22, 12)
STAMPS = {"created_at": datetime(2024, 8, 22, 9, 13, 10, 366_000), "last_updated": datetime(2024, 8, 23)}

EXPECTED = CURRENT_STATE | {"dim_date": DIM_DATE}
COPIED = {shared.star: shared for shared in shared_columns(CATALOG)}

unique_numbers = itertools.count()


def captured_rows(table: str, *rows: dict[str, Any]) -> pa.Table:
    """Return rows as captured at noon; columns that are not given are null."""
    return pa.Table.from_pylist(
        [{"captured_at": NOON} | STAMPS | row for row in rows], schema=SOURCE[table].captured_columns
    )


def write_capture(bucket: Bucket, captured_at: datetime, **tables: str) -> Capture:
    """Write a capture of some tables, given as CSV with a header."""
    partition = f"{captured_at.replace(minute=captured_at.minute // 15 * 15):{PARTITION_KEY_FORMAT}}"
    files = {}
    for table, text in tables.items():
        with bucket.create(file_key(table, partition, captured_at)) as new:
            new.write(text.encode())
        rows = len(list(csv.reader(io.StringIO(text, newline="")))) - 1
        files[table] = CapturedFile(file_key(table, partition, captured_at), rows, new.size, new.sha256.hexdigest())
    capture = Capture(captured_at, partition, "7:7:", Source(1, 1, 1), None, None, files)
    publish(bucket, capture)
    return capture


class Platform:
    """Databases and buckets, and the definitions over them. Its clock stands still until `next_window`."""

    def __init__(
        self,
        totesys: str,
        warehouse: str,
        buckets: str,
        environment: pytest.MonkeyPatch,
        source_tables: tuple[Table, ...] = TOTESYS_TABLES,
        star_tables: tuple[StarTable, ...] = STAR_TABLES,
        **options: Any,
    ) -> None:
        self.totesys_url = totesys
        self.warehouse_url = warehouse
        self.buckets_url = buckets
        self.ingestion_url = f"{buckets}/ingestion"
        self.transformation_url = f"{buckets}/transformation"
        self.environment = environment
        self._tables = source_tables, star_tables
        self._options = options
        self.now = datetime.now(UTC)
        for name, value in self.variables.items():
            environment.setenv(name, value)

    @cached_property
    def definitions(self) -> dg.Definitions:
        return definitions(*self._tables, **self._options)

    def declaring(self, *tables: Table) -> "Platform":
        """Return the platform after a deployment that declares these tables, in place of those of the same names."""
        sources = {table.name: table for table in self._tables[0]}
        stars = {star.name: star for star in self._tables[1]}
        for table in tables:
            if isinstance(table, StarTable):
                stars[table.name] = table
            else:
                sources[table.name] = table
        deployed = Platform(
            self.totesys_url,
            self.warehouse_url,
            self.buckets_url,
            self.environment,
            source_tables=tuple(sources.values()),
            star_tables=tuple(stars.values()),
            **self._options,
        )
        deployed.now = self.now
        return deployed

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of its processes."""
        return {
            "TOTESYS_DATABASE_URL": self.totesys_url,
            "WAREHOUSE_DATABASE_URL": self.warehouse_url,
            "INGESTION_URL": self.ingestion_url,
            "TRANSFORMATION_URL": self.transformation_url,
        }

    @property
    def partition(self) -> str:
        start = self.now.replace(minute=self.now.minute // 15 * 15)
        return f"{start:%Y-%m-%d-%H:%M}"

    def next_window(self) -> None:
        self.now += timedelta(minutes=15)

    def run(
        self,
        *selection: str,
        partition: str | None = None,
        full_capture: bool = False,
        raise_on_error: bool = True,
        instance: dg.DagsterInstance | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run `etl`, or only the selected stages or assets of it."""
        config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        if not selection or "ingestion" in selection:
            config["ops"] = {CAPTURE_OP: {"config": {"full_capture": full_capture}}}
        with dg.partition_loading_context(effective_dt=self.now):
            return self.definitions.resolve_job_def(ETL).execute_in_process(
                partition_key=partition or self.partition,
                run_config=config,
                asset_selection=self._asset_keys(selection) or None,
                raise_on_error=raise_on_error,
                instance=instance,
            )

    def refresh(
        self, *stages: str, partition: str | None = None, full_capture: bool = False
    ) -> Mapping[str, LoadedTable]:
        """Capture, transform and load, or do only some of these stages, without Dagster: twenty times as fast.

        Return by warehouse table what its checks look at.
        """
        pipeline = self.pipeline
        partition = partition or self.partition
        if not stages or INGESTION in stages:
            pipeline.capture(partition, full=full_capture)
        if not stages or TRANSFORMATION in stages:
            pipeline.transform(partition)
        return pipeline.load(partition) if not stages or WAREHOUSE in stages else {}

    @property
    def pipeline(self) -> Pipeline:
        """The stages over what the environment names."""
        return Pipeline(
            os.environ[Variable.TOTESYS_DATABASE_URL],
            os.environ[Variable.WAREHOUSE_DATABASE_URL],
            Bucket(os.environ[Variable.INGESTION_URL]),
            Bucket(os.environ[Variable.TRANSFORMATION_URL]),
            with_descriptions(Catalog(*self._tables)),
        )

    def rebuild(self, *tables: str, keep_history: bool = False) -> Rebuild:
        """Rebuild tables: these, and those that are out of date. Or keep their history."""
        return self.pipeline.rebuild(*tables, keep_history=keep_history)

    def from_scratch(self, server: Server, buckets: Path) -> "Platform":
        """Return the platform over a new warehouse, into which each captured partition is transformed and loaded."""
        new = copy(self)
        new.warehouse_url = new_database(server)
        pipeline = replace(
            self.pipeline, warehouse_url=new.warehouse_url, transformation=Bucket(f"file://{buckets}/from_scratch")
        )
        for partition in dict.fromkeys(map(partition_of, list_after(pipeline.ingestion, None))):
            pipeline.transform(partition)
            pipeline.load(partition)
        return new

    def replay(self, first: str, last: str, *stages: str) -> dg.ExecuteInProcessResult:
        """Run stages of `etl` over a range of partitions, in one run."""
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        with dg.partition_loading_context(effective_dt=self.now):
            return self.definitions.resolve_job_def(ETL).execute_in_process(
                tags=tags, asset_selection=self._asset_keys(stages)
            )

    def _asset_keys(self, selection: Iterable[str]) -> list[dg.AssetKey]:
        return [
            spec.key
            for spec in self.definitions.resolve_all_asset_specs()
            if spec.key.path[0] in selection or spec.key.to_user_string() in selection
        ]

    @property
    def latest_capture(self) -> Capture:
        capture = latest(Bucket(self.ingestion_url))
        assert capture
        return capture

    def totesys(self, sql: str, **values: Any) -> list[list[Any]]:
        with connect(self.totesys_url) as connection:
            return connection.run(sql, **values)

    def warehouse(self, sql: str, **values: Any) -> list[list[Any]]:
        with connect(self.warehouse_url) as connection:
            return connection.run(sql, **values)

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows of the warehouse, sorted, without record ids and load times: equal loads are equal."""
        return {
            table.name: self._rows(table.name, stored_columns(table).names) for table in stored_tables(self._tables[1])
        } | {
            "loads": self._rows("loads", ["capture", "captured_at", "previous", "full_capture"]),
            "rejected": self._rows("rejected", ["*"]),
            "pending": self._rows("pending", ["*"]),
            "table_rows": sorted(map(tuple, recorded_rows(self.warehouse).items())),
        }

    def _rows(self, table: str, columns: Iterable[str]) -> list[tuple[Any, ...]]:
        rows = self.warehouse(f"SELECT {', '.join(columns)} FROM warehouse.{table}")
        return sorted(map(tuple, rows), key=repr)

    def row_counts(self, stars: Iterable[StarTable] = STAR_TABLES) -> dict[str, int]:
        """Return the number of rows of each star table."""
        return {star.name: self.warehouse(f"SELECT count(*) FROM warehouse.{star.name}")[0][0] for star in stars}


def make_history(platform: Platform) -> None:
    """Make captures of changes, deletions, rejected rows, and rows that refer to what is not there."""
    for changes in (
        [],
        [
            "UPDATE sales_order SET units_sold = 1 WHERE sales_order_id IN (1, 2)",
            "UPDATE design SET design_name = 'Renamed' WHERE design_id = 1",
            "UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id IN (1, 2)",
        ],
        [
            "INSERT INTO currency VALUES (8, 'ZZQ', now(), now()), (9, 'XQX', now(), now())",
            "UPDATE sales_order SET currency_id = 8 WHERE sales_order_id = 2",
            "UPDATE sales_order SET currency_id = 9 WHERE sales_order_id IN (3, 4)",
            "UPDATE payment SET payment_date = '2024-09-01' WHERE payment_id = 1",
        ],
        [],
        [
            "UPDATE currency SET currency_code = 'EUR' WHERE currency_id = 8",
            "UPDATE sales_order SET currency_id = 1, units_sold = 7 WHERE sales_order_id = 4",
            "UPDATE department SET location = 'Moved' WHERE department_id = 2",
            "DELETE FROM payment WHERE payment_id IN (3, 4)",
        ],
        ["full", "UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 1"],
        ["UPDATE sales_order SET units_sold = 3 WHERE sales_order_id = 1", "UPDATE payment SET paid = NOT paid"],
        ["full"],
    ):
        for change in changes:
            if change != "full":
                platform.totesys(change)
        platform.refresh(full_capture="full" in changes)
        assert_rows_are_counted(platform.warehouse)
        platform.next_window()


def assert_rows_are_counted(query: Callable[[str], Sequence[Sequence[Any]]]) -> None:
    """Compare the recorded number of rows of each star table with the truth, by a function that queries a warehouse."""
    assert recorded_rows(query) == {star.name: query(count_rows(star))[0][0] for star in STAR_TABLES}


def recorded_rows(query: Callable[[str], Sequence[Sequence[Any]]]) -> dict[str, int]:
    """Return the recorded number of rows of each star table, by a function that queries a warehouse."""
    return dict(map(tuple, query("SELECT star_table, row_count FROM warehouse.tables WHERE row_count IS NOT NULL")))


def current_rows(platform: Platform, star: StarTable, columns: Iterable[str] = ()) -> list[list[Any]]:
    """Return the current rows of a star table that are not deleted: these columns, or all without `captured_at`."""
    selected = column_list(columns or star.columns.names)
    return platform.warehouse(f"SELECT {selected} FROM warehouse.{current_view(star)} WHERE NOT deleted")


VALIDITY = ", nullif(valid_from, '-infinity'), nullif(valid_to, 'infinity')"


def current_view(star: StarTable) -> str:
    """Return the name of the table or view with the latest versions of a star table."""
    return f"{star.name}_current" if star.keeps_every_version else star.name


def in_order(rows: Iterable[Iterable[Any]]) -> list[tuple[Any, ...]]:
    return sorted(map(tuple, rows), key=repr)


def version_rows(
    query: Callable[[str], Iterable[Iterable[Any]]], star: StarTable, view: str, more: str = "", schema: str = WAREHOUSE
) -> list[tuple[Any, ...]]:
    """Return the rows that a query finds in a view of versions, in order."""
    columns = column_list([*star.captured_columns.names, "deleted"])
    return in_order(query(f"SELECT {columns}{more} FROM {schema}.{view}"))


def in_lake(rows: LakeRows) -> list[tuple[Any, ...]]:
    """Return the rows that a table has in the lake, in order."""
    return in_order(zip(*rows.to_arrow().to_pydict().values(), strict=True))


def assert_lake_equals_warehouse(lake: Lake, query: Callable[[str], Iterable[Iterable[Any]]]) -> None:
    """Assert that the files show what the warehouse shows, if no row is pending."""
    for star in lake.catalog.stars:
        current, history = lake.current(star.name), lake.history(star.name)
        assert in_lake(current) == version_rows(query, star, current_view(star)), star.name
        assert in_lake(history) == version_rows(query, star, f"{star.name}_history", VALIDITY), star.name


def assert_warehouse_equals_totesys(platform: Platform) -> None:
    """Assert that star tables have the rows of `expected.py`; those that are not there, the columns that they copy."""
    for star in STAR_TABLES:
        query, columns = EXPECTED.get(star.name), star.columns.names
        if not query and star.name in COPIED:
            copied = COPIED[star.name]
            columns = [*copied.columns]
            query = f"SELECT {column_list(copied.columns.values())} FROM {quote_identifier(copied.table)}"
        if query:
            source = platform.totesys(query)
            assert source, star.name
            assert sorted(map(repr, current_rows(platform, star, columns))) == sorted(map(repr, source)), star.name


def fill_empty_tables(connection: Connection) -> None:
    """Insert a row into each source table that the simulator does not fill: its key and all references are 1."""
    for table in TOTESYS_TABLES:
        [[is_empty]] = connection.run(f"SELECT NOT EXISTS (SELECT FROM {source_relation(table.name)})")
        if is_empty:
            rows = pa.table([_example(column) for column in table.columns], schema=table.columns)
            connection.copy_in(source_relation(table.name), table.columns.names, csv_chunks(rows.to_batches()))


def _example(column: pa.Field) -> pa.Array:
    """Return a value for a column of any type: as text, it is a date."""
    if pa.types.is_string(column.type):
        return pa.array(enum_values(column)[:1] or [f"{NOON:%Y-%m-%d}"])
    return pa.array([NOON if pa.types.is_temporal(column.type) else "1"]).cast(column.type)


def failed_checks(result: dg.ExecuteInProcessResult, stage: str, check: str) -> dict[str, dict[str, Any]]:
    """Return the metadata of a check's failures, by table of a stage."""
    return {
        evaluation.asset_key.path[-1]: {name: value.value for name, value in evaluation.metadata.items()}
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.asset_key.path[0] == stage and evaluation.check_name == check
    }


def failed_counts(loaded: Mapping[str, LoadedTable], name: str) -> dict[str, int]:
    """Return by warehouse table what a check of a load without Dagster counted, if not 0."""
    [check] = [check for check in checks_of(FACTS[0], is_reconciled=True) if check.name == name]
    return {table: count for table, each in loaded.items() if (count := check.count(each))}


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Return the messages that Dagster's UI shows of a failed run."""
    return "\n".join(
        part
        for event in result.get_step_failure_events()
        for part in (
            event.step_failure_data.error_display_string,
            (event.step_failure_data.user_failure_data and event.step_failure_data.user_failure_data.description) or "",
        )
    )


def evaluate_sensor(
    platform: Platform, instance: dg.DagsterInstance, cursor: str | None = None, sensor: str = "catch_up"
) -> Any:
    repository = platform.definitions.get_repository_def()
    definition = repository.get_sensor_def(sensor)
    resources = {
        name: platform.definitions.resources[name]  # type: ignore[index]
        for name in definition.required_resource_keys
    }
    with (
        dg.build_sensor_context(
            instance=instance, cursor=cursor, repository_def=repository, resources=resources
        ) as context,
        dg.partition_loading_context(effective_dt=platform.now),
    ):
        return definition.evaluate_tick(context)


def requested_partitions(tick: Any) -> list[str]:
    return [request.partition_key for request in tick.run_requests or ()]


@contextmanager
def dagster_service(log: Path, environment: Mapping[str, str], *command: str) -> Iterator[None]:
    """Run a service of Dagster, `python -m <command>`, and stop it with all its processes.

    Its output goes to `<log>.stdout` and `<log>.stderr`. Dagster stops on SIGTERM as on SIGINT, which a background
    process ignores by default.
    """
    with Path(f"{log}.stdout").open("wb") as out, Path(f"{log}.stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def until(condition: Callable[[], Value], seconds: float = 60) -> Value:
    """Wait until a condition is true, and return its value."""
    deadline = monotonic() + seconds
    while not (value := condition()):
        assert monotonic() < deadline, f"not true after {seconds} seconds"
        sleep(0.02)
    return value


def new_database(server: Server, template: str = "template1") -> str:
    """Create a database as a copy of the template. Return its URL."""
    return server.create_database(f"test_{next(unique_numbers)}", template)


def snapshot_of(source: str, server: Server, request: pytest.FixtureRequest) -> str:
    """Create a database with a month of the `simulated` totesys, or with the `real` snapshot. Return its URL."""
    if source == "simulated":
        return new_database(server, request.getfixturevalue("busy_totesys"))
    if not SNAPSHOT:
        pytest.skip("TOTESYS_SNAPSHOT names no folder with a real snapshot of totesys")
    url = new_database(server, request.getfixturevalue("empty_totesys"))
    with connect(url) as connection:
        for table in referenced_first(TOTESYS_TABLES):
            rows = pq.ParquetFile(Path(SNAPSHOT) / f"{table.name}.parquet").read()
            connection.copy_in(quote_identifier(table.name), rows.column_names, csv_chunks(rows.to_batches()))
    return url
