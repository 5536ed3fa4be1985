"""PostgreSQL: connections by URL, transactions, COPY, and quoted names."""

import re
import socket
import ssl
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO
from urllib.parse import unquote

import pg8000.native
import pyarrow as pa
from pg8000.core import COPY_DATA, IN_FAILED_TRANSACTION, IN_TRANSACTION
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import literal
from pyarrow import csv

from etl_assets.schema.columns import MASK
from etl_assets.schema.errors import PermanentError

# Seconds, unless the URL overrides them. Changes are promised to arrive in 30 minutes: hence `statement_timeout`.
_TIMEOUTS = {
    "connect_timeout": 10,
    "statement_timeout": 1800,
    "lock_timeout": 60,
    "idle_in_transaction_session_timeout": 300,
}
_GRACE_SECONDS = 10  # the client waits this much longer than the server's statement_timeout

# What PgBouncer accepts when a connection starts. It refuses everything else, or drops it if told to.
_STARTUP = {"client_encoding": "UTF8", "DateStyle": "ISO, YMD", "TimeZone": "UTC"}

# Set by every transaction, and read back: the rows and the text that a query returns depend on these.
_EXACTNESS = {
    **_STARTUP,
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "row_security": "off",  # a policy that hides rows raises an error
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
}
# The server drops a dead client, and its locks, after two minutes instead of two hours.
_KEEPALIVES = {"tcp_keepalives_idle": "60", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "6"}

UNTRANSLATABLE_CHARACTER = "22P05"
UNDEFINED_TABLE = "42P01"
_NOT_IN_A_TRANSACTION = "25001"
_BEGIN = ("BEGIN", "START TRANSACTION")

# Classes of SQLSTATEs: data exception, integrity constraint violation, WITH CHECK OPTION violation, limit exceeded (a
# value too long for an index); and what a trigger or function raises, by PL/pgSQL's own or a user's code.
_SAID_BY_POSTGRESQL = ("22", "23", "44", "54")
_ABOUT_DATA = (*_SAID_BY_POSTGRESQL, "P0", *"56789IJKLMNOQRSTUVWYZ")

# Quoted text, and whether a word before it says that it is a name.
_QUOTED = re.compile(r'(\b(?:type|encoding|relation|constraint|column|function) )?"([^"]*)"')
_KEY_DETAIL = re.compile(r"Key \((.*?)\)=")

# SQLSTATEs and their classes (PostgreSQL manual, appendix A) that a retry can fix: connection exception, read-only
# transaction (a standby during failover), idle or long transaction ended, transaction rollback, insufficient
# resources, object in use, operator intervention, system error.
_OUTAGES = ("08", "25006", "25P03", "25P04", "40", "53", "55", "57", "58")

# Those of a statement that is ended for what it does, while the server serves others: too long, until
# `statement_timeout` or a person ends it, or with too many temporary files; or to write where it may only read.
_ENDED = ("57014", "53400", "25006")

# What PgBouncer refuses for good, although it gives most of its errors this SQLSTATE, and what to do about it.
_POOLER_SQLSTATE = "08P01"
_POOLER_REFUSALS = {
    "transaction blocks not allowed": "PgBouncer is in statement mode: set pool_mode to session or transaction",
    "unsupported startup parameter": "add it to ignore_startup_parameters of PgBouncer",
    "no such database": "add it to [databases] of PgBouncer, or correct the URL",
    "no such user": "add it to the auth_file of PgBouncer, or correct the URL",
    "authentication failed": "PgBouncer does not know the user (auth_file, auth_query), or the password is wrong",
    "does not exist": "correct the URL",
    "no pg_hba.conf entry": "PostgreSQL refuses PgBouncer: allow it there",
}

_LOGIN_REFUSED = "28P01"

_FORM = "must look like postgresql://user:password@host:5432/database"
_PERCENT_ENCODE = "In user and password, write @ : / ? % and space as %40 %3A %2F %3F %25 %20"

# What a server asks for when a session starts (PostgreSQL manual, “Message Formats”, AuthenticationRequest).
_AUTHENTICATION_REQUEST = struct.Struct("!i")
_LOGGED_IN = 0
_PASSWORD_REQUESTS = (3, 5)  # in clear text, as MD5
_SASL_REQUEST = 10
_CHANNEL_BOUND = b"SCRAM-SHA-256-PLUS"

# One byte for the message type, four for the length, which counts itself (PostgreSQL manual, “Message Formats”).
_MESSAGE_HEADER = struct.Struct("!ci")
_SHORT_MESSAGE = COPY_DATA + bytes(3)
_SHORT_BYTES = 40  # of a row: the headers of longer ones are not worth removing by length


class DatabaseUnavailableError(Exception):
    """The database cannot be reached or cannot serve now. A retry may succeed."""


class StatementEndedError(DatabaseUnavailableError):
    """The server ended a statement that took too long or too much space, or wrote where it may only read."""


class StatementRefusedError(PermanentError):
    """The database refused a statement because of its text or its data. A retry cannot succeed.

    summary: what the server says, without the values of rows that it may quote.
    is_about_data: whether other rows might have been accepted.
    """

    def __init__(self, fields: Mapping[str, str], during: str) -> None:
        self.sqlstate = fields["C"]
        self.is_about_data = self.sqlstate.startswith(_ABOUT_DATA)
        self.summary = _without_values(fields) if self.is_about_data else fields["M"]
        super().__init__(f"{self.summary} [SQLSTATE {self.sqlstate}], {during}")


def _without_values(fields: Mapping[str, str]) -> str:
    """Return what the server says of data, without values of rows: these may be personal.

    It quotes values as it quotes names, and gives the names again in fields of their own (PostgreSQL manual, “Error and
    Notice Message Fields”). What a trigger or a function says can be anything.
    """
    if not fields["C"].startswith(_SAID_BY_POSTGRESQL):
        return "a trigger or a function refuses it (what it says may quote the row: see the server's log)"
    names = {fields[name] for name in "stcdn" if name in fields}
    message = _QUOTED.sub(lambda quoted: quoted[0] if quoted[1] or quoted[2] in names else MASK, fields["M"])
    key = _KEY_DETAIL.match(fields.get("D", ""))
    return f"{message} (key {key[1]})" if key else message


class LoginError(PermanentError):
    """The URL does not suffice to log in as the server asks. The message says what of it."""


class SettingNotHeldError(PermanentError):
    """A setting that exactness depends on has another value than the transaction gave it."""

    def __init__(self, setting: str, value: str, wanted: str) -> None:
        super().__init__(
            f"{setting} is {value!r} in a transaction that set it to {wanted!r}, so rows could be missed or misread: "
            "something between here and PostgreSQL drops or changes SET LOCAL; connect to PostgreSQL itself, or "
            "through PgBouncer in session or transaction mode"
        )


class Connection(pg8000.native.Connection):  # type: ignore[misc]
    """A pg8000 connection that raises two kinds of errors: outages and permanent errors.

    Every statement runs in a transaction, and all settings that it depends on are set in that transaction: there they
    hold behind a pooler too, and they end with it. Outside of `transaction`, a statement gets one of its own.
    """

    _context: Any  # of the latest statement: pg8000 reads row_count and columns from it

    def __init__(self, *, timeouts: Mapping[str, int], channel_binding: str = "prefer", **arguments: Any) -> None:
        self.timeouts = timeouts
        self._channel_binding_required = channel_binding == "require"
        self._error_response: DatabaseError | None = None
        super().__init__(**arguments, timeout=timeouts["connect_timeout"], startup_params=_STARTUP)
        self._usock.settimeout(timeouts["statement_timeout"] + _GRACE_SECONDS)

    def run(self, sql: str, stream: Any = None, **params: Any) -> list[list[Any]]:
        """Run one statement with bound `params` and return its rows.

        What cannot run in a transaction, such as VACUUM, is sent without one. BEGIN begins one, with all settings.

        Raises:
            StatementRefusedError: the statement or its data is wrong.
            DatabaseUnavailableError: the server or the network is down.
            SettingNotHeldError: a setting has another value than the transaction gave it.
        """
        if self._transaction_status in (IN_TRANSACTION, IN_FAILED_TRANSACTION):
            return self._run(sql, stream, params)
        if sql.lstrip().upper().startswith(_BEGIN):
            self._begin(sql)
            return []
        try:
            with transaction(self):
                rows = self._run(sql, stream, params)
                context = self._context
        except StatementRefusedError as error:
            if error.sqlstate != _NOT_IN_A_TRANSACTION:
                raise
            return self._run(sql, stream, params)
        self._context = context
        return rows

    def _run(self, sql: str, stream: Any = None, params: Mapping[str, Any] | None = None) -> list[list[Any]]:
        """Run a statement as it is, whether in a transaction or not."""
        self._error_response = None
        try:
            return super().run(sql, stream=stream, **(params or {})) or []
        except DatabaseError as error:
            raise _classify_error(error, _during(sql)) from None  # its own message may quote a row
        except TimeoutError as error:
            raise DatabaseUnavailableError(f"no answer in time, {_during(sql)}") from error
        except (InterfaceError, ConnectionError, ssl.SSLError) as error:
            if self._error_response:  # the last words of the server, or of a pooler
                raise _classify_error(self._error_response, _during(sql)) from None
            raise DatabaseUnavailableError(f"connection lost ({error}), {_during(sql)}") from error

    def _begin(self, statement: str, isolation: str = "") -> None:
        """Begin a transaction, set all settings in it and read back those that exactness needs, in one round trip."""
        wanted = _EXACTNESS | ({"transaction_isolation": isolation} if isolation else {})
        limits = {name: f"{seconds}s" for name, seconds in self.timeouts.items() if name != "connect_timeout"}
        settings = (_EXACTNESS | _KEEPALIVES | limits).items()
        statements = [statement, *(f"SET LOCAL {name} = {literal(value)}" for name, value in settings)]
        try:
            values = self._run("; ".join([*statements, *(f"SHOW {name}" for name in wanted)]))
            for (name, value), [found] in zip(wanted.items(), values, strict=True):
                if found != value:
                    raise SettingNotHeldError(name, found, value)
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        with suppress(DatabaseUnavailableError, OSError):  # without a connection, the server rolls back
            self._run("ROLLBACK")

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: Any) -> None:  # noqa: N802 (pg8000's name)
        """Answer the server, unless the URL has no password for it, or it would not prove who it is."""
        [request] = _AUTHENTICATION_REQUEST.unpack_from(data)
        if request in (*_PASSWORD_REQUESTS, _SASL_REQUEST) and self.password is None:
            raise LoginError("has no password, and the server asks for one")
        bound = hasattr(self, "auth") or (request == _SASL_REQUEST and _CHANNEL_BOUND in data)
        if self._channel_binding_required and not bound and request in (_LOGGED_IN, *_PASSWORD_REQUESTS, _SASL_REQUEST):
            raise LoginError(
                "has channel_binding=require, and the server offers none: that needs TLS (sslmode=require), a password "
                "stored as scram-sha-256, and no pooler between; or remove channel_binding"
            )
        super().handle_AUTHENTICATION_REQUEST(data, context)

    def handle_ERROR_RESPONSE(self, data: bytes, context: Any) -> None:  # noqa: N802 (pg8000's name)
        """Keep the error: pg8000 loses it if the connection is closed before it is ready for the next statement."""
        super().handle_ERROR_RESPONSE(data, context)
        self._error_response = context.error

    def handle_COPY_DATA(self, data: bytes, context: Any) -> None:  # noqa: N802 (pg8000's name)
        """Write a row of COPY and all rows buffered after it: row by row, pg8000 is slower than the server."""
        buffered = self._sock.peek()
        rows, end = _buffered_short_rows(buffered) if len(data) <= _SHORT_BYTES else _buffered_rows(buffered)
        self._sock.read(end)
        context.stream_write(data + rows)

    def close(self) -> None:
        """Close the connection and its socket. pg8000 leaves the socket open until garbage collection."""
        file = self._sock
        try:
            super().close()
        finally:
            if file is not None:
                with suppress(OSError):
                    file.close()

    def copy_out(self, query: str, into: BinaryIO) -> int:
        """Stream the rows of a query into a file, as CSV with a header line. Return their number."""
        self.run(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", stream=into)
        return int(self.row_count)

    def copy_in(self, table: str, column_names: Iterable[str], chunks: Iterable[bytes]) -> int:
        """Append rows to a table, from chunks of CSV without a header line. Return their number."""
        self.run(f"COPY {table} ({column_list(column_names)}) FROM STDIN (FORMAT csv)", stream=chunks)
        return int(self.row_count)


def _buffered_rows(buffered: bytes) -> tuple[bytes, int]:
    """Return the rows in the messages of COPY at the start of a buffer, and where the last whole one of these ends."""
    rows = []
    start, last = 0, len(buffered) - _MESSAGE_HEADER.size
    while start <= last:
        kind, length = _MESSAGE_HEADER.unpack_from(buffered, start)
        end = start + 1 + length
        if kind != COPY_DATA or end > len(buffered):
            break
        rows.append(buffered[start + _MESSAGE_HEADER.size : end])
        start = end
    return b"".join(rows), start


def _buffered_short_rows(buffered: bytes) -> tuple[bytes, int]:
    """Return the same, faster if rows are a few bytes long: the headers of messages are removed by length.

    PostgreSQL's text has no NUL. So three of them after the type start a short length, and any that is left is of a
    message of another kind or length, which `_buffered_rows` can read.
    """
    last = buffered.rfind(_SHORT_MESSAGE)
    length_at = last + len(_SHORT_MESSAGE)
    end = last + 1 + buffered[length_at] if last >= 0 and length_at < len(buffered) else last
    end = max(0, end if end <= len(buffered) else last)
    rows = buffered[:end]
    while (start := rows.find(_SHORT_MESSAGE)) >= 0:
        rows = rows.replace(rows[start : start + _MESSAGE_HEADER.size], b"")
    return _buffered_rows(buffered) if not rows or b"\0" in rows else (rows, end)


@contextmanager
def connect(url: str) -> Iterator[Connection]:
    """Open a connection to the database of a URL (`parse_url`), and close it after the block.

    Raises:
        ValueError: the URL is malformed. The message does not repeat it.
        DatabaseUnavailableError: no server answers.
        StatementRefusedError: the server refuses the connection, for a wrong password for example.
        LoginError: the URL does not suffice to log in as the server asks.
    """
    arguments, timeouts = parse_url(url)
    try:
        if "host" in arguments:
            address = (arguments["host"], arguments["port"])
            arguments["sock"] = socket.create_connection(address, timeouts["connect_timeout"])
            # Without it, each small COPY waits 40 ms for an acknowledgement.
            arguments["sock"].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            arguments["sock"].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection = Connection(**arguments, timeouts=timeouts)
    except (DatabaseError, InterfaceError, OSError) as error:
        refused: BaseException = error
        while refused.__context__ and not isinstance(refused, DatabaseError):
            refused = refused.__context__  # pg8000's close() may fail too, after the server refused
        if isinstance(refused, DatabaseError):
            raise _classify_error(refused, "connecting") from error
        where = arguments.get("unix_sock") or f"{arguments['host']}:{arguments['port']}"
        reason = error.__cause__ or error  # pg8000 calls whatever happens to a socket a communication error
        raise DatabaseUnavailableError(
            f"no connection to PostgreSQL at {where}: {reason}: is it running, and reached from here?"
        ) from error
    try:
        yield connection
    finally:
        with suppress(InterfaceError, OSError):  # the connection is broken: the block has raised already
            connection.close()


def _during(sql: str) -> str:
    """Return the first 160 characters of a statement, for a message. Values are bound, so it shows none."""
    return f"during {' '.join(sql.split())[:160]}"


def _classify_error(error: DatabaseError, during: str) -> DatabaseUnavailableError | StatementRefusedError:
    fields = error.args[0]
    if fields["C"] == _LOGIN_REFUSED:
        return StatementRefusedError(fields | {"M": f"{fields['M']}: correct the URL. {_PERCENT_ENCODE}"}, during)
    for refusal, advice in _POOLER_REFUSALS.items():
        if fields["C"] == _POOLER_SQLSTATE and refusal in fields["M"]:
            return StatementRefusedError(fields | {"M": f"{fields['M']}: {advice}"}, during)
    if fields["C"].startswith(_OUTAGES):
        outage = StatementEndedError if fields["C"] in _ENDED else DatabaseUnavailableError
        return outage(f"{fields['M']} [SQLSTATE {fields['C']}], {during}")
    return StatementRefusedError(fields, during)


@contextmanager
def transaction(connection: Connection, *, snapshot: bool = False) -> Iterator[None]:
    """Run the block in a transaction: commit after it, roll back on an exception.

    With `snapshot`, every statement reads the state as of the first query, and none may write. `LOCK TABLE`, `SET` and
    `SHOW` are not queries.

    Raises:
        SettingNotHeldError: a setting has another value than the transaction gave it.
    """
    isolation, access = ("repeatable read", " READ ONLY") if snapshot else ("read committed", "")
    connection._begin(f"START TRANSACTION ISOLATION LEVEL {isolation}{access}", isolation)
    try:
        yield
    except BaseException:
        connection._rollback()
        raise
    connection._run("COMMIT")


def server_encoding(connection: Connection) -> str:
    """Return the encoding that the database stores text in, such as `UTF8`."""
    [[encoding]] = connection.run("SHOW server_encoding")
    return str(encoding)


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """Run the block in a savepoint of the transaction, and roll back to it if a statement is refused or ended."""
    connection.run("SAVEPOINT block")
    try:
        yield
    except (StatementRefusedError, StatementEndedError):
        connection.run("ROLLBACK TO SAVEPOINT block")
        raise
    connection.run("RELEASE SAVEPOINT block")


def parse_url(url: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the arguments of `Connection` and the timeouts, in seconds, of `postgresql://user:password@host:port/name?…`.

    The parameters are libpq's `user`, `password`, `host` (a name, or the directory of a Unix socket), `port`, `dbname`,
    `sslmode`, `sslrootcert`, `channel_binding` (prefer, require), `application_name` and `connect_timeout`, and the
    server's `statement_timeout`, `lock_timeout` and `idle_in_transaction_session_timeout`. All timeouts are in seconds.
    Space around the URL is ignored: a secret often ends with a line break.

    Raises:
        ValueError: the URL is malformed. The message says what to do, and does not repeat the URL.
    """
    parts = _url_parts(url.strip())
    timeouts = {name: _seconds(name, parts.pop(name, str(default))) for name, default in _TIMEOUTS.items()}
    user, password, host, port, database = map(parts.pop, ("user", "password", "host", "port", "dbname"))
    for part, value in {"user": user, "host": host, "database": database}.items():
        if not value:
            raise ValueError(f"names no {part}: it {_FORM}")
    if "," in host + port:
        raise ValueError("names several hosts: give one, or the name of what chooses between them")
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"has a port that is not a number up to 65535: it {_FORM}. {_PERCENT_ENCODE}")
    arguments: dict[str, Any] = {
        "user": user,
        "password": password or None,
        "database": database,
        "application_name": parts.pop("application_name", "etl_assets"),
        "channel_binding": parts.pop("channel_binding", "prefer"),
    }
    if arguments["channel_binding"] not in ("prefer", "require"):
        raise ValueError(f"has an unknown channel_binding: {arguments['channel_binding']} (known: prefer, require)")
    mode, root_certificate = parts.pop("sslmode", "prefer"), parts.pop("sslrootcert", None)
    if parts:
        raise ValueError(
            f"has unknown parameters: {', '.join(sorted(parts))}: remove them (docs/configuration.md lists those known)"
        )
    tls = _tls(mode, root_certificate)
    if host.startswith("/"):
        return arguments | {"unix_sock": f"{host}/.s.PGSQL.{port}", "ssl_context": False}, timeouts
    return arguments | {"host": host, "port": int(port), "ssl_context": tls}, timeouts


def _url_parts(url: str) -> dict[str, str]:
    """Return the parts of a URL by the names that libpq gives them as parameters, which override the rest."""
    scheme, separator, rest = url.partition("://")
    if url[:1] in ("'", '"'):
        raise ValueError(f"is in quotes: it {_FORM}, without quotes")
    if not separator or scheme.lower() not in ("postgresql", "postgres"):
        raise ValueError(_FORM)
    authority, slash, path = rest.partition("/")
    login, at, place = authority.rpartition("@")
    if "?" in place:  # without a path
        place, _, query = f"{place}{slash}{path}".partition("?")
        path = ""
    else:
        path, _, query = path.partition("?")
    # Text is encoded; an @ after the slash means that the slash is of a password.
    if any(character.isspace() for character in url) or "@" in path or (not at and "@" in query):
        raise ValueError(f"cannot be split into its parts: it {_FORM}. {_PERCENT_ENCODE}")
    user, _, password = login.partition(":")
    if place.startswith("["):  # IPv6
        host, _, port = place[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = place.partition(":")
    parts = {"user": user, "password": password, "host": host, "port": port or "5432", "dbname": path}
    parts |= dict(pair.partition("=")[::2] for pair in query.split("&") if pair)
    return {unquote(name): unquote(value) for name, value in parts.items()}


def _seconds(name: str, value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise ValueError(f"has a {name} that is not a whole number of seconds, 1 or more")
    return int(value)


def _tls(mode: str, root_certificate: str | None) -> ssl.SSLContext | bool | None:
    """Return pg8000's `ssl_context` for a libpq `sslmode` (libpq manual, “SSL Support”); `allow` is as `prefer`."""
    if mode == "disable":
        return False
    if mode in ("allow", "prefer"):
        return None
    if mode not in ("require", "verify-ca", "verify-full"):
        known = "disable, allow, prefer, require, verify-ca, verify-full"
        raise ValueError(f"has an unknown sslmode: {mode} (known: {known})")
    try:
        context = ssl.create_default_context(cafile=None if root_certificate == "system" else root_certificate)
    except OSError:
        raise ValueError(f"has an sslrootcert that cannot be read: {root_certificate}") from None
    context.check_hostname = mode == "verify-full"
    if mode == "require" and root_certificate is None:
        context.verify_mode = ssl.CERT_NONE
    return context


def csv_chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Yield each batch as CSV for COPY, without a header line. Text is quoted, so '' differs from null."""
    for batch in batches:
        buffer = pa.BufferOutputStream()
        csv.write_csv(batch, buffer, csv.WriteOptions(include_header=False))
        yield buffer.getvalue().to_pybytes()


def quote_identifier(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def column_list(column_names: Iterable[str], alias: str = "") -> str:
    """Return quoted column names, separated by commas, each qualified with the alias if there is one."""
    prefix = f"{alias}." if alias else ""
    return ", ".join(prefix + quote_identifier(name) for name in column_names)


def join_condition(column_names: Iterable[str], left: str, right: str) -> str:
    """Return the SQL condition that the columns of two aliases are equal."""
    return " AND ".join(f"{left}.{quote_identifier(name)} = {right}.{quote_identifier(name)}" for name in column_names)
