"""Shared by all benchmarks: a server, simulated databases of a given size, and the results."""

import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

from pg8000.native import literal

from benchmarks.measure import HEADER, Row
from etl_assets.adapters.postgres import Connection, column_list, connect, quote_identifier
from etl_assets.schema.table import Table
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets.totesys import TOTESYS_TABLES

SETTINGS = {"shared_buffers": "512MB", "max_wal_size": "8GB", "work_mem": "32MB"}

_END = date(2025, 11, 20)
_YEARS = timedelta(days=730)
_WORKING_DAYS = 522
_SALES_SHARE = 0.71
_UNIQUE = {"sales_order_id", "purchase_order_id", "transaction_id"}


@dataclass(frozen=True)
class Server(postgres.Server):
    """A server that also listens on TCP, with a password: not every peer supports Unix sockets."""

    port: int
    password: str

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return the URL of a database over the Unix socket."""
        return f"postgresql://{user}@:{self.port}/{database}?host={self.socket_folder}"

    def tcp_url(self, database: str) -> str:
        """Return the URL of a database over TCP."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}?sslmode=disable"


@contextmanager
def serve(home: Path) -> Iterator[Server]:
    """Run a server on new data, and stop it and delete the data after the block."""
    folder = postgres.data_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    access = folder / "pg_hba.conf"
    access.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"listen_addresses": "127.0.0.1", "port": str(port), "hba_file": str(access), **SETTINGS}
    try:
        with postgres.serve(home, **settings) as running:
            server = Server(running.socket_folder, port, secrets.token_hex())
            with connect(server.url()) as connection:
                connection.run(f"ALTER ROLE postgres PASSWORD {literal(server.password)}")
            yield server
    finally:
        postgres.remove(home)


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and how often. `rows` is the number of sales orders."""

    rows: int = 1_000_000
    rounds: int = 5
    long_rounds: int = 3
    storages: tuple[str, ...] = ("ephemeral", "SQLite")
    captures: tuple[int, ...] = (1, 100, 10_000)
    row_by_row: int = 50
    """The original design copies 1/50 of the rows, and its seconds are multiplied by 50."""

    @property
    def history(self) -> tuple[int, ...]:
        """The rows in a fact table before a small load."""
        return self.rows // 10, self.rows, self.rows * 10


@dataclass(frozen=True)
class Curve:
    """A chart of how a measurement grows."""

    title: str
    x: str
    y: str
    points: Sequence[tuple[int, float]]

    def cells(self) -> list[list[str]]:
        """Return the points as table cells."""
        return [[f"{x:,}", f"{y:.3g}"] for x, y in self.points]


@dataclass
class Report:
    """The results. Each is printed as soon as it is added."""

    rows: list[Row] = field(default_factory=list)
    tables: dict[str, tuple[Sequence[str], Sequence[Sequence[str]]]] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def row(self, row: Row) -> None:
        """Add a row to the main table."""
        if not self.rows:
            print(" | ".join(HEADER), flush=True)
        self.rows.append(row)
        print(" | ".join(row.cells()), flush=True)

    def table(self, title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
        """Add another table."""
        self.tables[title] = (header, lines)
        _print_table(title, header, lines)

    def curve(self, name: str, curve: Curve) -> None:
        """Add a chart."""
        self.curves[name] = curve
        _print_table(curve.title, [curve.x, curve.y], curve.cells())


def _print_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    print(f"\n{title}", *(" | ".join(line) for line in (header, *lines)), "", sep="\n", flush=True)


@dataclass
class Bench:
    """What a benchmark needs: the server, a folder for files, the sizes, and the report."""

    server: Server
    home: Path
    folder: Path
    sizes: Sizes
    report: Report

    @cached_property
    def totesys(self) -> str:
        """The URL of a totesys with `rows` sales orders."""
        return self.filled("totesys", self.sizes.rows)

    @cached_property
    def orders(self) -> str:
        """The URL of a totesys with five times as many sales orders, and little else."""
        url = self.filled("orders", 1_000)
        with connect(url) as connection:
            multiply(connection, _SALES_ORDER, self.sizes.rows * 5)
        return url

    def filled(self, name: str, rows: int) -> str:
        """Create a totesys with two years of history and `rows` sales orders. Return its URL."""
        url = self.server.create_database(name)
        with connect(url) as connection:
            create_schema(connection)
            totesys = Totesys(connection, seed=1)
            totesys.generate_history(_END - _YEARS, _END, transactions_per_day=rows / _SALES_SHARE / _WORKING_DAYS)
            connection.run("VACUUM ANALYZE")
        return url

    def drop(self, *databases: str) -> None:
        """Drop databases."""
        with connect(self.server.url()) as connection:
            for database in databases:
                connection.run(f"DROP DATABASE {quote_identifier(database)} WITH (FORCE)")

    def bucket(self, name: str) -> str:
        """Return the URL of a bucket in the folder."""
        return f"file://{self.folder}/{name}"

    @property
    def shared_file(self) -> Path:
        """A file that the server, which may run as another user, can write and read."""
        return postgres.data_folder(self.home) / "rows.csv"

    def psql(self, database: str, *commands: str) -> None:
        """Run commands in one process of the server's own psql, and discard their output."""
        options = ["--no-psqlrc", "--quiet", "--output=/dev/null", "--set=ON_ERROR_STOP=1"]
        options += [f"--command={command}" for command in commands]
        postgres.run(self.home, "psql", *options, self.server.url(database))

    def attempt(self, section: Callable[["Bench"], None]) -> None:
        """Run a section. If it fails, record the error and continue."""
        try:
            section(self)
        except Exception as error:  # noqa: BLE001 (the other sections still run)
            self.report.failures.append(f"{section.__name__}: {type(error).__name__}: {error}")
            print(f"failed: {self.report.failures[-1]}", flush=True)


_SALES_ORDER = next(table for table in TOTESYS_TABLES if table.name == "sales_order")


def multiply(connection: Connection, table: Table, rows: int) -> None:
    """Copy the rows of a totesys table within it, under new keys, until it has this many rows."""
    relation = quote_identifier(table.name)
    [[count]] = connection.run(f"SELECT count(*) FROM {relation}")
    unique = _UNIQUE & set(table.columns.names) if table.name in ("transaction", "payment") else {*table.primary_key}
    unique |= {*table.primary_key}
    columns = [
        f"{name} + copy * (SELECT max({name}) FROM {relation})" if name in unique else name
        for name in table.columns.names
    ]
    connection.run("SET session_replication_role = replica")  # foreign keys are not checked row by row
    connection.run(
        f"""INSERT INTO {relation} ({column_list(table.columns.names)})
            SELECT {", ".join(columns)} FROM generate_series(1, {rows // count + 1}) copy, {relation}
            LIMIT greatest(0, {rows - count})"""
    )
    connection.run("SET session_replication_role = origin")
    connection.run(f"VACUUM ANALYZE {relation}")
