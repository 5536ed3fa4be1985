"""Each stage without Dagster, against what PostgreSQL or pyarrow take for the same rows."""

import shutil
from collections.abc import Sequence
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
from benchmarks.measure import compared, in_fresh_process, in_turn, memory, timed, with_peak
from etl_assets.buckets import Bucket
from etl_assets.captures import in_partition, newest
from etl_assets.databases import Connection, connect, names
from etl_assets.ingestion import capture
from etl_assets.storage import open_star
from etl_assets.tables import CAPTURED_AT
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.assets import joins, make
from etl_assets.warehouse.load import load

SOURCE = {table.name: table for table in TOTESYS_TABLES}
STAR = {star.name: star for star in STAR_TABLES}
FACT = STAR["fact_sales_order"]
REFERENCED = [star for star in STAR_TABLES if star.name in FACT.foreign_keys.values()]
FACTS = [star for star in STAR_TABLES if star.record_id]  # dim_date needs them all
ORDER = ("sales_order",)
ORDER_AND_LOOKUPS = (*ORDER, "address", "counterparty", "currency", "department", "design", "staff")
FIRST = "2025-11-20-00:00"

_COLUMNS = names(FACT.captured_columns.names)
_numbers = count(1)
_WORDS = 6
_SPENT = ["statement", "seconds", "share"]


def capture_tables(totesys: str, bucket: str, tables: Sequence[str], partition: str = FIRST) -> None:
    """Capture tables of totesys."""
    with connect(totesys) as connection:
        along = [join for join in joins(STAR_TABLES, TOTESYS_TABLES) if {join.table, join.to} <= {*tables}]
        capture(connection, Bucket(bucket), [SOURCE[name] for name in tables], along, partition)


def make_fact(bucket: str, partition: str = FIRST) -> None:
    """Make the fact of a partition."""
    make(FACT, [SOURCE["sales_order"]], Bucket(bucket), Bucket(bucket), partition)


def make_all(bucket: str, partition: str = FIRST) -> None:
    """Make the fact of a partition and the dimensions it refers to."""
    tables = {**SOURCE, **STAR}
    needed = {star.name: star.inputs(STAR_TABLES) for star in (*FACTS, *REFERENCED)}
    for name in TopologicalSorter(needed).static_order():
        if name in needed:
            make(STAR[name], [tables[each] for each in needed[name]], Bucket(bucket), Bucket(bucket), partition)


def load_fact(warehouse: str, bucket: str, partition: str = FIRST) -> None:
    """Load the fact of a partition and the dimensions it refers to."""
    with ExitStack() as stack, connect(warehouse) as connection:
        captures = in_partition(Bucket(bucket), partition)
        stars = (FACT, *REFERENCED)
        files = {star.name: stack.enter_context(open_star(Bucket(bucket), star.name, partition)) for star in stars}
        load(connection, stars, captures, files)


def statements_of_load(warehouse: str, bucket: str, partition: str = FIRST) -> list[list[str]]:
    """Load, and tell which statements took longest."""
    spent: list[tuple[float, str]] = []

    def run(connection: Connection, sql: str, *args: Any, **kwargs: Any) -> Any:
        started = perf_counter()
        try:
            return original(connection, sql, *args, **kwargs)
        finally:
            spent.append((perf_counter() - started, " ".join(sql.split()[:_WORDS]).replace("|", " ")))

    original = Connection.run
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Connection, "run", run)
        taken = timed(load_fact, warehouse, bucket, partition)
    inside = sum(each for each, _ in spent)
    lines = [
        *sorted(spent, reverse=True)[:8],
        (inside, f"all {len(spent)} statements"),
        (taken - inside, "outside of statements"),
    ]
    return [[f"`{sql}`", f"{each:.3f} s", f"{each / taken:.0%}"] for each, sql in lines]


def fact_by_pyarrow(source: Path, target: Path) -> None:
    """Read CSV and write Parquet, as pyarrow does it by itself."""
    pq.write_table(csv.read_csv(source), target)


def captures_of_orders(bench: Bench) -> None:
    """Measure a capture of sales_order."""
    rows = bench.sizes.rows

    def ours() -> float:
        bucket = bench.bucket(f"captures{next(_numbers)}")
        taken = timed(capture_tables, bench.totesys, bucket, ORDER)
        shutil.rmtree(bucket.removeprefix("file://"))
        return taken

    query = f"SELECT {names(SOURCE['sales_order'].columns.names)} FROM sales_order"
    copy = partial(timed, bench.psql, "totesys", f"\\copy ({query}) TO '/dev/null' CSV")
    own, psql = in_turn(bench.sizes.rounds, ours, copy)
    bench.report.row(compared(f"capture {rows:,} rows of sales_order to CSV", own, {"psql": psql}, 1.25))
    taken = {
        size: with_peak(capture_tables, url, bench.bucket(f"captured{size}"), ORDER)[1]
        for size, url in ((rows, bench.totesys), (rows * 5, bench.orders))
    }
    bench.report.row(memory("memory of that", taken, 64))


def captures_of_nothing(bench: Bench) -> None:
    """Measure a capture of tables of which nothing changed."""
    rows = bench.sizes.rows
    url = bench.filled("wide", 1_000)
    bucket = bench.bucket("wide")
    with connect(url) as connection:
        for table in TOTESYS_TABLES:
            multiply(connection, table, rows)
        connection.run("CHECKPOINT")
    capture_tables(url, bucket, ["payment_type"])  # it notes the horizon
    made = newest(Bucket(bucket))
    assert made
    changed = f"age(xmin) <= age('{made.horizon}'::xid8::xid)"
    selects = [f"SELECT {names(table.columns.names)} FROM {table.name} WHERE {changed}" for table in TOTESYS_TABLES]
    own, psql = in_turn(
        bench.sizes.rounds,
        partial(timed, capture_tables, url, bucket, list(SOURCE)),
        partial(timed, bench.psql, "wide", *selects),
    )
    captured = newest(Bucket(bucket))
    assert captured and not captured.files
    what = f"a capture where nothing changed, {len(SOURCE)} tables of {rows:,} rows"
    bench.report.row(compared(what, own, {"psql": psql}, 1.5))
    bench.drop("wide")


def _lakes(bench: Bench) -> dict[int, str]:
    """Capture the sales orders of both sizes, once; give the URLs of the buckets by size."""
    rows = bench.sizes.rows
    lakes = {rows: bench.bucket("lake"), rows * 5: bench.bucket("large-lake")}
    for bucket, url in zip(lakes.values(), (bench.totesys, bench.orders), strict=True):
        if not newest(Bucket(bucket)):
            capture_tables(url, bucket, ORDER_AND_LOOKUPS)
    return lakes


def facts(bench: Bench) -> None:
    """Measure the making of fact_sales_order."""
    rows = bench.sizes.rows
    lakes = _lakes(bench)
    made = newest(Bucket(lakes[rows]))
    assert made
    source = bench.folder / "lake" / made.files["sales_order"].key
    own, pyarrow = in_turn(
        bench.sizes.rounds,
        partial(timed, make_fact, lakes[rows]),
        partial(timed, fact_by_pyarrow, source, bench.folder / "pyarrow.parquet"),
    )
    what = f"CSV → fact_sales_order as Parquet, {rows:,} rows"
    bench.report.row(compared(what, own, {"pyarrow": pyarrow}, 1.6))
    taken = {size: with_peak(make_fact, bucket)[1] for size, bucket in lakes.items()}
    bench.report.row(memory("memory of that", taken, 400))


def _count(url: str, relation: str) -> int:
    with connect(url) as connection:
        return int(connection.run(f"SELECT count(*) FROM {relation}")[0][0])


class _Server:
    """The limit of a load: the same statements for any way, of rows in a file of the server's."""

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
        """Count what our load has loaded."""
        return _count(self._warehouse, f"warehouse.{FACT.name}")

    def write(self, which: str = "") -> None:
        """Write the rows of the fact to the file."""
        with connect(self._warehouse) as connection:
            connection.run(
                f"COPY (SELECT {_COLUMNS} FROM warehouse.{FACT.name} {which}) TO '{self._file}' (FORMAT csv)"
            )

    def create(self, table: str, *, foreign_keys: bool) -> None:
        """Create a table like the fact."""
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
    """Measure loads of fact_sales_order: the first, the same again, and what changed later."""
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
    limits = {"server-side, foreign keys declared before": before, "added after": after}
    bench.report.row(compared(f"first load of {rows:,} facts", first, limits, 1.3))
    increments(bench, warehouse, _Server(bench, warehouse))
    bench.report.row(compared(f"replay that changes nothing, {rows:,} facts", again, {"first load": first}, 0.8))
    lines = in_fresh_process(statements_of_load, bench.server.create_database("statements"), lake)
    bench.report.table(f"Where a first load of {rows:,} facts spends its time", _SPENT, lines)
    make_all(large_lake)
    taken = {}
    for size, bucket in ((rows, lake), (rows * 5, large_lake)):
        _, taken[size] = with_peak(load_fact, bench.server.create_database(f"peak{size}"), bucket)
        bench.drop(f"peak{size}")
    bench.report.row(memory("memory of a first load", taken, 400))


def increments(bench: Bench, warehouse: str, server: _Server) -> None:
    """Measure loads of one row in a hundred, changed."""
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
    lines = in_fresh_process(statements_of_load, warehouse, lake, changed())
    bench.report.table(f"Where a {what} spends its time", _SPENT, lines)
