"""PostgreSQL: connections under a URL, the types of columns, and how names become SQL."""

import re
import socket
import ssl
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit

import dagster as dg
import pg8000.native
import pyarrow as pa
from pg8000.core import COPY_DATA
from pg8000.exceptions import DatabaseError, InterfaceError
from pyarrow import csv

from etl_assets.environment import EnvironmentVariableError, required
from etl_assets.errors import PermanentError
from etl_assets.tables import SchemaMismatchError, enum_values

# Seconds, unless the URL says otherwise. A statement's is the promise of the platform: a change arrives in 30 minutes.
_TIMEOUTS = {
    "connect_timeout": 10,
    "statement_timeout": 1800,
    "lock_timeout": 60,
    "idle_in_transaction_session_timeout": 300,
}
_GRACE_SECONDS = 10  # for the server to end a statement itself, before the client takes it for dead

# Text that COPY writes and reads depends on these; none is left to the server's configuration.
_SESSION = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "client_encoding": "UTF8",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "row_security": "off",  # a policy that hides rows is an error, not rows lost
    # A client that has died holds its locks until the server notices: in two minutes, not in two hours.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}

# SQLSTATEs and classes of them (PostgreSQL manual, appendix A) that trying again can mend: connection exceptions,
# read-only transaction (a standby, until the failover is over), idle or long transaction ended, transaction rollback,
# insufficient resources, object in use, operator intervention, system error.
_OUTAGES = ("08", "25006", "25P03", "25P04", "40", "53", "55", "57", "58")
FOREIGN_KEY_VIOLATION = "23503"
_STATEMENT_SHOWN = 160
# Of a message: its kind, and its length without the byte for that (PostgreSQL manual, “Message Formats”).
_MESSAGE = struct.Struct("!ci")


class DatabaseUnavailableError(Exception):
    """The database could not be reached or could not serve now: trying again may help."""


class StatementRefusedError(PermanentError):
    """The database refused a statement for what it says: trying again cannot help."""

    def __init__(self, fields: Mapping[str, str], during: str) -> None:
        self.sqlstate = fields["C"]
        self.message = fields["M"]
        self.detail = fields.get("D", "")
        detail = f" ({self.detail})" if self.detail else ""
        super().__init__(f"{self.message}{detail} [SQLSTATE {self.sqlstate}], {during}")


class Connection(pg8000.native.Connection):  # type: ignore[misc]
    """A pg8000 connection whose errors are either an outage or permanent."""

    def run(self, sql: str, stream: Any = None, types: Any = None, **params: Any) -> list[list[Any]]:
        """Run one statement with bound `params`; give its rows.

        Raises:
            StatementRefusedError: the statement or its data is at fault.
            DatabaseUnavailableError: the server or the way to it is at fault.
        """
        try:
            return super().run(sql, stream=stream, types=types, **params) or []
        except DatabaseError as error:
            raise _told(error, _during(sql)) from error
        except TimeoutError as error:
            raise DatabaseUnavailableError(f"no answer in time, {_during(sql)}") from error
        except (InterfaceError, ConnectionError, ssl.SSLError) as error:
            raise DatabaseUnavailableError(f"the connection is lost ({error}), {_during(sql)}") from error

    def handle_COPY_DATA(self, data: bytes, context: Any) -> None:  # noqa: N802 (pg8000's name)
        """Take a row of a COPY, and with it all that are here: one by one, pg8000 is slower than the server."""
        rows = [data]
        arrived = self._sock.peek()
        start, last = 0, len(arrived) - _MESSAGE.size
        while start <= last:
            kind, length = _MESSAGE.unpack_from(arrived, start)
            end = start + 1 + length
            if kind != COPY_DATA or end > len(arrived):
                break
            rows.append(arrived[start + _MESSAGE.size : end])
            start = end
        self._sock.read(start)
        context.stream_write(b"".join(rows))

    def close(self) -> None:
        """Say goodbye and close. pg8000 leaves the file over the socket to the collector, and with it the socket."""
        file = self._sock
        try:
            super().close()
        finally:
            if file is not None:
                with suppress(OSError):
                    file.close()

    def wait_at_most(self, seconds: int) -> None:
        """Take the server for dead when it is silent for so long."""
        self._usock.settimeout(seconds)

    def copy_out(self, query: str, into: BinaryIO) -> int:
        """Stream the rows of a query into a file as CSV with a header line; give their number."""
        self.run(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", stream=into)
        return int(self.row_count)

    def copy_in(self, table: str, column_names: Iterable[str], chunks: Iterable[bytes]) -> int:
        """Append rows, given as chunks of CSV without a header, to a table; give their number."""
        self.run(f"COPY {table} ({names(column_names)}) FROM STDIN (FORMAT csv)", stream=chunks)
        return int(self.row_count)


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """Open a connection to `postgresql://user:password@host:port/database?…`; close it at the end.

    The parameters understood are libpq's `sslmode` (disable, prefer, require, verify-ca, verify-full),
    `sslrootcert`, `application_name`, `connect_timeout`, and `host`, a directory with a unix socket; and, in seconds
    as well, the server's `statement_timeout`, `lock_timeout` and `idle_in_transaction_session_timeout`.

    Raises:
        ValueError: the URL is malformed. The message does not repeat it.
        DatabaseUnavailableError: nobody answers.
        StatementRefusedError: the server refuses, for a wrong password for example.
    """
    arguments, timeouts = _arguments(url)
    limits = {name: f"{seconds}s" for name, seconds in timeouts.items() if name != "connect_timeout"}
    try:
        if "host" in arguments:
            address = (arguments["host"], arguments["port"])
            arguments["sock"] = socket.create_connection(address, timeouts["connect_timeout"])
            # Or each small COPY waits 40 ms for an acknowledgement.
            arguments["sock"].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            arguments["sock"].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection = Connection(**arguments, timeout=timeouts["connect_timeout"], startup_params=_SESSION | limits)
        connection.wait_at_most(timeouts["statement_timeout"] + _GRACE_SECONDS)
    except (DatabaseError, InterfaceError, OSError) as error:
        refused: BaseException = error
        while refused.__context__ and not isinstance(refused, DatabaseError):
            refused = refused.__context__  # saying goodbye to a server that refused may fail as well
        if isinstance(refused, DatabaseError):
            raise _told(refused, "connecting") from error
        where = arguments.get("unix_sock") or f"{arguments['host']}:{arguments['port']}"
        raise DatabaseUnavailableError(f"no connection to PostgreSQL at {where}: {error}") from error
    try:
        yield connection
    finally:
        with suppress(InterfaceError, OSError):  # the server is gone already: what went wrong is being raised
            connection.close()


def _during(sql: str) -> str:
    """Name a statement by its beginning; values are bound, so it holds none."""
    return f"during {' '.join(sql.split())[:_STATEMENT_SHOWN]}"


def _told(error: DatabaseError, during: str) -> DatabaseUnavailableError | StatementRefusedError:
    """Make of what the server answered an outage or a permanent failure."""
    fields = error.args[0]
    if fields["C"].startswith(_OUTAGES):
        return DatabaseUnavailableError(f"{fields['M']} [SQLSTATE {fields['C']}], {during}")
    return StatementRefusedError(fields, during)


@contextmanager
def transaction(connection: Connection, characteristics: str = "") -> Iterator[None]:
    """Run the block in one transaction: committed at its end, rolled back on an exception."""
    connection.run(f"START TRANSACTION {characteristics}")
    try:
        yield
    except BaseException:
        with suppress(DatabaseUnavailableError, OSError):  # the connection is gone, and with it the transaction
            connection.run("ROLLBACK")
        raise
    connection.run("COMMIT")


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """Run the block within a transaction, which goes on without what the block did if a statement is refused."""
    connection.run("SAVEPOINT block")
    try:
        yield
    except StatementRefusedError:
        connection.run("ROLLBACK TO SAVEPOINT block")
        raise
    connection.run("RELEASE SAVEPOINT block")


def _arguments(url: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Read a URL: what pg8000 takes, and the time-outs."""
    form = "must look like postgresql://user:password@host:5432/database"
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        raise ValueError(form) from None
    parameters = dict(parse_qsl(parts.query))
    database = unquote(parts.path.removeprefix("/"))
    socket_directory = parameters.pop("host", None)
    if parts.scheme not in ("postgresql", "postgres") or not parts.username or not database:
        raise ValueError(form)
    if not (socket_directory or parts.hostname):
        raise ValueError(form)
    arguments: dict[str, Any] = {
        "user": unquote(parts.username),
        "password": unquote(parts.password) if parts.password else None,
        "database": database,
        "application_name": parameters.pop("application_name", "etl_assets"),
    }
    timeouts = {name: _seconds(name, parameters.pop(name, default)) for name, default in _TIMEOUTS.items()}
    root_certificate = parameters.pop("sslrootcert", None)
    mode = parameters.pop("sslmode", "prefer")
    if parameters:
        raise ValueError(f"has parameters that are not understood: {', '.join(sorted(parameters))}")
    if socket_directory:
        return arguments | {"unix_sock": f"{socket_directory}/.s.PGSQL.{port}", "ssl_context": False}, timeouts
    return arguments | {"host": parts.hostname, "port": port, "ssl_context": _tls(mode, root_certificate)}, timeouts


def _seconds(name: str, given: str | int) -> int:
    try:
        seconds = int(given)
    except ValueError:
        seconds = 0
    if seconds < 1:
        raise ValueError(f"has a {name} that is not a whole number of seconds")
    return seconds


def _tls(mode: str, root_certificate: str | None) -> ssl.SSLContext | bool | None:
    """Give what pg8000 takes for a libpq `sslmode` (libpq manual, “SSL Support”)."""
    if mode == "disable":
        return False
    if mode == "prefer":
        return None
    if mode not in ("require", "verify-ca", "verify-full"):
        raise ValueError(f"has an unknown sslmode: {mode}")
    try:
        context = ssl.create_default_context(cafile=root_certificate)
    except OSError:
        raise ValueError(f"names an sslrootcert that cannot be read: {root_certificate}") from None
    context.check_hostname = mode == "verify-full"
    if mode == "require" and root_certificate is None:
        context.verify_mode = ssl.CERT_NONE
    return context


def csv_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Write batches as the CSV that COPY reads: nulls bare, text quoted, so that '' is no null."""
    for batch in batches:
        buffer = pa.BufferOutputStream()
        csv.write_csv(batch, buffer, csv.WriteOptions(include_header=False))
        yield buffer.getvalue().to_pybytes()


class DatabaseResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A PostgreSQL database whose URL is in an environment variable, so that no configuration shows it."""

    variable: str

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection; close it at the end.

        Raises:
            EnvironmentVariableError: the variable is missing or holds no PostgreSQL URL.
            DatabaseUnavailableError: nobody answers.
        """
        url = required(self.variable)
        try:
            _arguments(url)
        except ValueError as error:
            raise EnvironmentVariableError(self.variable, str(error)) from None
        with connect(url) as connection:
            yield connection


def quoted(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def names(column_names: Iterable[str], of: str = "") -> str:
    """Give a list of quoted column names, each with the table or alias it is `of`."""
    return ", ".join(f"{of}.{quoted(name)}" if of else quoted(name) for name in column_names)


def equal(column_names: Iterable[str], left: str, right: str) -> str:
    """Compose the condition that columns are the same in two tables or aliases."""
    return " AND ".join(f"{left}.{quoted(name)} = {right}.{quoted(name)}" for name in column_names)


_SQL_TYPES = {
    pa.bool_(): "boolean",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "character varying",
    pa.date32(): "date",
    pa.time64("us"): "time without time zone",
    pa.timestamp("us"): "timestamp without time zone",
    pa.timestamp("ms"): "timestamp(3) without time zone",
}


def sql_type(type_: pa.DataType) -> str:
    """Give the PostgreSQL type that holds an Arrow type exactly.

    Raises:
        KeyError: there is none.
    """
    if pa.types.is_decimal(type_):
        return f"numeric({type_.precision},{type_.scale})"
    return _SQL_TYPES[type_]


_ARROW_TYPES = {sql: arrow for arrow, sql in _SQL_TYPES.items()} | {"text": pa.string()}


def _arrow_type(sql: str, is_enum: bool) -> pa.DataType | None:
    """Give the Arrow type that holds a PostgreSQL type exactly, if there is one."""
    if is_enum or re.fullmatch(r"character( varying)?\(\d+\)", sql):
        return pa.string()
    if numeric := re.fullmatch(r"numeric\((\d+),(\d+)\)", sql):
        return pa.decimal128(int(numeric[1]), int(numeric[2]))
    return _ARROW_TYPES.get(sql)


def deviations(
    connection: Connection, schema: str, where: str, expected: Mapping[str, pa.Schema]
) -> dict[str, tuple[str, ...]]:
    """Compare the live tables of a schema with the declared columns; give for each table where it deviates harmlessly.

    Raises:
        SchemaMismatchError: a declared table or column is missing or may not be read, a column has another type, may
            be null where none may be, or may hold a value of an enum that is not declared.
    """
    live: dict[str, dict[str, _LiveColumn]] = {}
    unreadable = set()
    for table, readable, column, sql, may_be_null, values in connection.run(
        """SELECT c.relname::text, has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
                  a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
                  (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e
                   WHERE e.enumtypid = a.atttypid)
           FROM pg_class c
           JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
           ORDER BY c.relname, a.attnum""",
        schema=schema,
    ):
        live.setdefault(table, {})[column] = _LiveColumn(sql, may_be_null, tuple(values or ()))
        if not readable:
            unreadable.add(table)
    problems = []
    for table, declared in expected.items():
        if table not in live:
            problems.append(f"table {table} is missing")
            continue
        if table in unreadable:
            problems.append(f"table {table} may not be read: its owner must GRANT SELECT on it, and USAGE of {schema}")
        for column in declared:
            problems += live[table].get(column.name, _MISSING).problems(f"column {table}.{column.name}", column)
    if problems:
        raise SchemaMismatchError(where, problems)
    return {table: tuple(_harmless(live[table], declared)) for table, declared in expected.items()}


@dataclass(frozen=True)
class _LiveColumn:
    sql: str
    may_be_null: bool
    enum: tuple[str, ...]

    def problems(self, name: str, declared: pa.Field) -> Iterator[str]:
        if _arrow_type(self.sql, bool(self.enum)) != declared.type:
            yield f"{name} is {self.sql}, declared {declared.type}"
        elif self.may_be_null and not declared.nullable:
            yield f"{name} may be null, declared never null"
        values = enum_values(declared)
        if values and not self.enum:
            yield f"{name} is {self.sql}, declared one of {', '.join(values)}"
        elif values:
            yield from (f"{name} may be {value}, which is not declared" for value in self.enum if value not in values)


_MISSING = _LiveColumn("missing", may_be_null=False, enum=())


def _harmless(live: Mapping[str, _LiveColumn], declared: pa.Schema) -> Iterator[str]:
    for name, column in live.items():
        if name not in declared.names:
            yield f"column {name} is not declared"
        elif declared.field(name).nullable and not column.may_be_null:
            yield f"column {name} is never null, declared optional"
