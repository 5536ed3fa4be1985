"""Each stage without Dagster, against PostgreSQL or pyarrow on the same rows."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from graphlib import TopologicalSorter
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from benchmarks.bench import Bench, multiply
from benchmarks.measure import Parameters, Row, compared, in_fresh_process, in_turn, memory, seconds, timed, with_peak
from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection, column_list, connect
from etl_assets.ingestion.capture import capture
from etl_assets.ingestion.manifest import latest, list_partition
from etl_assets.ingestion.present_keys import read_present_keys
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.table import Catalog
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.star_table import join_dependencies
from etl_assets.warehouse.loader import load
from etl_assets_tests.pipeline import CATALOG, SOURCE, STAR, materialize_star, star_input

FACT = STAR["fact_sales_order"]
REFERENCED = [star for star in STAR_TABLES if star.name in FACT.foreign_keys.values()]
FACTS = [star for star in STAR_TABLES if star.keeps_every_version]  # dim_date needs them all
ORDER = ("sales_order",)
ORDER_AND_LOOKUPS = (*ORDER, "address", "counterparty", "currency", "department", "design", "staff")
FIRST = "2025-11-20-00:00"
STATEMENTS_HEADER = ["statement", "seconds", "share"]

_COLUMNS = column_list(FACT.captured_columns.names)
_MAX_WORDS = 6
_numbers = count(1)


def capture_tables(totesys: str, bucket: str, tables: Sequence[str], partition: str = FIRST) -> None:
    """Capture tables of totesys."""
    with connect(totesys) as connection:
        joins = [join for join in join_dependencies(CATALOG) if {join.table, join.to} <= {*tables}]
        capture(connection, Bucket(bucket), [SOURCE[name] for name in tables], joins, partition)


def make_fact(bucket: str, partition: str = FIRST) -> None:
    """Materialize the fact of a partition."""
    materialize_star(FACT, Bucket(bucket), Bucket(bucket), partition)


def make_all(bucket: str, partition: str = FIRST) -> None:
    """Materialize the fact of a partition and the dimensions it references."""
    needed = {star.name: star.inputs(STAR_TABLES) for star in (*FACTS, *REFERENCED)}
    for name in TopologicalSorter(needed).static_order():
        if name in needed:
            materialize_star(STAR[name], Bucket(bucket), Bucket(bucket), partition)


def load_fact(warehouse: str, bucket: str, partition: str = FIRST) -> None:
    """Load the fact of a partition and the dimensions it references."""
    with ExitStack() as stack, connect(warehouse) as connection:
        captures = list_partition(Bucket(bucket), partition)
        stars = (FACT, *REFERENCED)
        files = {
            star.name: stack.enter_context(star_input(Bucket(bucket), star, partition).open(partition))
            for star in stars
        }
        rules = {name: file.rule or "" for name, file in files.items()}
        load(connection, Bucket(bucket), Catalog(TOTESYS_TABLES, stars), rules, captures, files)


def statements_of(
    task: Callable[Parameters, object], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> list[list[str]]:
    """Call a function. Return the statements that took longest."""
    spent: list[tuple[float, str]] = []

    def run(connection: Connection, sql: str, *args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            return original(connection, sql, *args, **kwargs)
        finally:
            spent.append((perf_counter() - started, " ".join(sql.split()[:_MAX_WORDS]).replace("|", " ")))

    original = Connection.run
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Connection, "run", run)
        taken = timed(task, *args, **kwargs)
    inside = sum(each for each, _ in spent)
    lines = [
        *sorted(spent, reverse=True)[:8],
        (inside, f"all {len(spent)} statements"),
        (taken - inside, "outside of statements"),
    ]
    return [[f"`{sql}`", f"{each:.3f} s", f"{each / taken:.0%}"] for each, sql in lines]


def fact_by_pyarrow(source: Path, target: Path) -> None:
    """Read CSV and write Parquet, by pyarrow alone."""
    pq.write_table(csv.read_csv(source), target)


def captures_of_orders(bench: Bench) -> None:
    """Measure a capture of sales_order."""
    rows = bench.sizes.rows

    def ours() -> float:
        bucket = bench.bucket(f"captures{next(_numbers)}")
        taken = timed(capture_tables, bench.totesys, bucket, ORDER)
        shutil.rmtree(bucket.removeprefix("file://"))
        return taken

    query = f"SELECT {column_list(SOURCE['sales_order'].columns.names)} FROM sales_order"
    copy = partial(timed, bench.psql, "totesys", f"\\copy ({query}) TO '/dev/null' CSV")
    own, psql = in_turn(bench.sizes.rounds, ours, copy)
    bench.report.row(compared(f"capture {rows:,} rows of sales_order to CSV", own, {"psql": psql}, 1.25))
    taken = {
        size: with_peak(capture_tables, url, bench.bucket(f"captured{size}"), ORDER)[1]
        for size, url in ((rows, bench.totesys), (rows * 5, bench.orders))
    }
    bench.report.row(memory("memory of a capture of sales_order", taken, 64))


def captures_of_nothing(bench: Bench) -> None:
    """Measure a capture of tables without changes."""
    rows = bench.sizes.rows
    url = bench.filled("wide", 1_000)
    bucket = bench.bucket("wide")
    with connect(url) as connection:
        for table in TOTESYS_TABLES:
            multiply(connection, table, rows)
        connection.run("CHECKPOINT")
    capture_tables(url, bucket, list(SOURCE))
    first = latest(Bucket(bucket))
    assert first
    changed = f"age(xmin) <= age('{first.horizon}'::xid8::xid)"
    selects = [
        f"SELECT {column_list(table.columns.names)} FROM {table.name} WHERE {changed}" for table in TOTESYS_TABLES
    ]
    own, psql = in_turn(
        bench.sizes.rounds,
        partial(timed, capture_tables, url, bucket, list(SOURCE)),
        partial(timed, bench.psql, "wide", *selects),
    )
    second = latest(Bucket(bucket))
    assert second and not second.files
    what = f"capture without changes, {len(SOURCE)} tables of {rows:,} rows"
    bench.report.row(compared(what, own, {"psql": psql}, 1.5))
    bench.drop("wide")


def _read_keys(bucket: str, lists: int) -> None:
    """Read the first key lists of sales_order."""
    captures = [each for each in list_partition(Bucket(bucket), FIRST) if each.has_keys("sales_order")][:lists]
    assert len(captures) == lists
    for _ in read_present_keys(Bucket(bucket), SOURCE["sales_order"], captures):
        pass


def key_lists(bench: Bench) -> None:
    """Measure the keys of sales_order: captured after a deletion, and read."""
    rows, few, many = bench.sizes.rows, 5, 10
    bench.totesys  # noqa: B018 (the template is filled)
    url, bucket = bench.server.create_database("keys", "totesys"), bench.bucket("keys")
    capture_tables(url, bucket, ORDER)
    first = latest(Bucket(bucket))
    assert first

    def ours() -> float:
        with connect(url) as connection:
            connection.run("SET session_replication_role = replica")  # foreign keys are not checked
            connection.run(
                "DELETE FROM sales_order WHERE sales_order_id IN (SELECT min(sales_order_id) FROM sales_order)"
            )
            connection.run("SELECT pg_stat_force_next_flush()")
        return timed(capture_tables, url, bucket, ORDER)

    changed = f"SELECT * FROM sales_order WHERE age(xmin) <= age('{first.horizon}'::xid8::xid)"
    copy = "\\copy (SELECT sales_order_id FROM sales_order) TO '/dev/null' CSV HEADER"
    own, psql = in_turn(max(many, bench.sizes.rounds), ours, partial(timed, bench.psql, "keys", changed, copy))
    what = f"capture after a deletion: the changes and the keys of {rows:,} rows of sales_order"
    bench.report.row(compared(what, own, {"psql": psql}, 1.25))
    taken = {lists: with_peak(_read_keys, bucket, lists)[1] for lists in (few, many)}
    bench.report.row(memory(f"memory of reading lists of {rows:,} keys", taken, 400, "lists"))
    own = in_turn(bench.sizes.rounds, partial(timed, _read_keys, bucket, many))[0]
    bench.report.row(Row(f"reading {many} lists of {rows:,} keys", seconds(own)))
    bench.drop("keys")


def _lakes(bench: Bench) -> dict[int, str]:
    """Capture the sales orders of both sizes, once. Return the URLs of the buckets by size."""
    rows = bench.sizes.rows
    lakes = {rows: bench.bucket("lake"), rows * 5: bench.bucket("large-lake")}
    for bucket, url in zip(lakes.values(), (bench.totesys, bench.orders), strict=True):
        if not latest(Bucket(bucket)):
            capture_tables(url, bucket, ORDER_AND_LOOKUPS)
    return lakes


def facts(bench: Bench) -> None:
    """Measure the transformation of fact_sales_order."""
    rows = bench.sizes.rows
    lakes = _lakes(bench)
    captured = latest(Bucket(lakes[rows]))
    assert captured
    source = bench.folder / "lake" / captured.files["sales_order"].key
    own, pyarrow = in_turn(
        bench.sizes.rounds,
        partial(timed, make_fact, lakes[rows]),
        partial(timed, fact_by_pyarrow, source, bench.folder / "pyarrow.parquet"),
    )
    what = f"CSV → fact_sales_order as Parquet, {rows:,} rows"
    bench.report.row(compared(what, own, {"pyarrow": pyarrow}, 1.6))
    taken = {size: with_peak(make_fact, bucket)[1] for size, bucket in lakes.items()}
    bench.report.row(memory("memory of the transformation of fact_sales_order", taken, 400))


def _count(url: str, relation: str) -> int:
    with connect(url) as connection:
        return int(connection.run(f"SELECT count(*) FROM {relation}")[0][0])


class _Server:
    """The limit of a load: the server copies the same rows from a file of its own."""

    def __init__(self, bench: Bench, warehouse: str) -> None:
        self._file = bench.shared_file
        self._warehouse = warehouse
        with connect(warehouse) as connection:
            self._foreign_keys = [
                f"ADD {definition}"
                for [definition] in connection.run(
                    f"""SELECT pg_get_constraintdef(oid) FROM pg_constraint
                        WHERE conrelid = 'warehouse.{FACT.name}'::regclass AND contype = 'f'"""
                )
            ]

    def rows(self) -> int:
        """Return the number of rows that our load has loaded."""
        return _count(self._warehouse, f"warehouse.{FACT.name}")

    def write(self, which: str = "") -> None:
        """Write the rows of the fact to the file."""
        with connect(self._warehouse) as connection:
            connection.run(
                f"COPY (SELECT {_COLUMNS} FROM warehouse.{FACT.name} {which}) TO '{self._file}' (FORMAT csv)"
            )

    def create(self, table: str, *, foreign_keys: bool) -> None:
        """Create an empty table like the fact."""
        with connect(self._warehouse) as connection:
            connection.run(f"DROP TABLE IF EXISTS {table}")
            connection.run(f"CREATE TABLE {table} (LIKE warehouse.{FACT.name} INCLUDING ALL)")
            if foreign_keys:
                connection.run(f"ALTER TABLE {table} {', '.join(self._foreign_keys)}")

    def load(self, table: str, *, foreign_keys_after: bool = False) -> None:
        """Load the file into a table."""
        with connect(self._warehouse) as connection:
            connection.run("START TRANSACTION")
            connection.run(
                f"CREATE TEMPORARY TABLE staged ON COMMIT DROP AS "
                f"SELECT {_COLUMNS} FROM warehouse.{FACT.name} WITH NO DATA"
            )
            connection.run(f"COPY staged FROM '{self._file}' (FORMAT csv)")
            connection.run(f"INSERT INTO {table} ({_COLUMNS}) SELECT {_COLUMNS} FROM staged")
            if foreign_keys_after:
                connection.run(f"ALTER TABLE {table} {', '.join(self._foreign_keys)}")
            connection.run("COMMIT")


def loads(bench: Bench) -> None:
    """Measure loads of fact_sales_order: the first, its replay, and increments."""
    rows, rounds = bench.sizes.rows, bench.sizes.long_rounds
    lake, large_lake = _lakes(bench).values()
    make_all(lake)
    warehouse = ""
    first, again, before, after = [], [], [], []
    for number in range(rounds):
        warehouse = bench.server.create_database(f"loads{number}")
        first.append(timed(load_fact, warehouse, lake))
        again.append(timed(load_fact, warehouse, lake))
        server = _Server(bench, warehouse)
        assert server.rows() == _count(bench.totesys, "sales_order")
        server.write()
        server.create("fact_after", foreign_keys=False)
        after.append(timed(server.load, "fact_after", foreign_keys_after=True))
        server.create("fact_before", foreign_keys=True)
        before.append(timed(server.load, "fact_before"))
        if number < rounds - 1:
            bench.drop(f"loads{number}")
    limits = {"server-side, foreign keys created before": before, "created after": after}
    bench.report.row(compared(f"first load of {rows:,} facts", first, limits, 1.3))
    increments(bench, warehouse, _Server(bench, warehouse))
    bench.report.row(compared(f"replay without changes, {rows:,} facts", again, {"first load": first}, 0.8))
    lines = in_fresh_process(statements_of, load_fact, bench.server.create_database("statements"), lake)
    bench.report.table(f"Where a first load of {rows:,} facts spends its time", STATEMENTS_HEADER, lines)
    make_all(large_lake)
    taken = {}
    for size, bucket in ((rows, lake), (rows * 5, large_lake)):
        _, taken[size] = with_peak(load_fact, bench.server.create_database(f"peak{size}"), bucket)
        bench.drop(f"peak{size}")
    bench.report.row(memory("memory of a first load", taken, 400))


def increments(bench: Bench, warehouse: str, server: _Server) -> None:
    """Measure loads of a 1 % increment."""
    lake = bench.bucket("lake")
    partitions = (f"2025-11-20-{hour:02}:00" for hour in count(1))

    def changed() -> str:
        partition = next(partitions)
        with connect(bench.totesys) as connection:
            connection.run(
                "UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id % 100 = :some",
                some=next(_numbers) % 100,
            )
        capture_tables(bench.totesys, lake, ORDER_AND_LOOKUPS, partition)
        make_all(lake, partition)
        return partition

    def ours() -> float:
        taken = timed(load_fact, warehouse, lake, changed())
        server.write(f"WHERE {CAPTURED_AT} = (SELECT max({CAPTURED_AT}) FROM warehouse.{FACT.name})")
        return taken

    own, limit = in_turn(bench.sizes.rounds, ours, partial(timed, server.load, "fact_before"))
    what = f"load of a 1 % increment into {bench.sizes.rows:,} facts"
    bench.report.row(compared(what, own, {"server-side": limit}, 1.5))
    lines = in_fresh_process(statements_of, load_fact, warehouse, lake, changed())
    bench.report.table(f"Where a {what} spends its time", STATEMENTS_HEADER, lines)
