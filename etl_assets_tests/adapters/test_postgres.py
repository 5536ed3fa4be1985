import io
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pg8000.core import COPY_DATA

from etl_assets.adapters.postgres import (
    Connection,
    DatabaseUnavailableError,
    LoginError,
    StatementRefusedError,
    _buffered_rows,
    _buffered_short_rows,
    column_list,
    connect,
    parse_url,
    quote_identifier,
    transaction,
)
from etl_assets.adapters.resources import DatabaseResource
from etl_assets.adapters.schema_drift import Drift, schema_drift
from etl_assets.adapters.settings import EnvironmentVariableError
from etl_assets.schema.columns import columns
from etl_assets.schema.errors import SchemaMismatchError
from etl_assets.simulator import postgres
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets_tests.harness import until

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is not set"),
        (f"mysql://u:{SECRET}@h/d", "must look like postgresql://"),
        (f"postgresql+psycopg2://u:{SECRET}@h/d", "must look like postgresql://"),
        (f"jdbc:postgresql://h/d?user=u&password={SECRET}", "must look like postgresql://"),
        (f"host=h user=u password={SECRET} dbname=d", "must look like postgresql://"),
        (f"'postgresql://u:{SECRET}@h/d'", "without quotes"),
        (f"postgresql://u:{SECRET}@h", "names no database"),
        (f"postgresql://u:{SECRET}@h?sslmode=require", "names no database"),
        (f"postgresql://u:{SECRET}@h:port/d", "has a port that is not a number"),
        (f"postgresql://u:{SECRET}@h:99999/d", "has a port that is not a number"),
        (f"postgresql://u:{SECRET}@h1:5432,h2:5432/d", "names several hosts"),
        (f"postgresql://:{SECRET}@h/d", "names no user"),
        (f"postgresql://u:{SECRET}@/d", "names no host"),
        (f"postgresql://u:/{SECRET}@h/d", "write @ : / ? % and space as %40 %3A %2F %3F %25 %20"),
        (f"postgresql://u:1/{SECRET}?@h/d", "write @ : / ? % and space as %40 %3A %2F %3F %25 %20"),
        (f"postgresql://u:{SECRET} @h/d", "write @ : / ? % and space as %40 %3A %2F %3F %25 %20"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=", "unknown sslmode"),
        (f"postgresql://u:{SECRET}@h/d?channel_binding=disable", "unknown channel_binding: disable"),
        (f"postgresql://u:{SECRET}@h/d?pgbouncer=true&options=-cx", "unknown parameters: options, pgbouncer: remove"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=maybe", "unknown sslmode: maybe"),
        (f"postgresql://u:{SECRET}@h/d?sslmod=require", "unknown parameters: sslmod"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=verify-full&sslrootcert=/no/file", "sslrootcert"),
    ],
)
def test_a_missing_or_malformed_url_is_reported_in_one_line_with_the_variable_and_without_secrets(
    url: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_DATABASE_URL", url)
    with pytest.raises(EnvironmentVariableError) as raised, DatabaseResource(variable="SOME_DATABASE_URL").connect():
        pass
    message = str(raised.value)
    assert message.startswith("SOME_DATABASE_URL ")
    assert problem in message
    assert "\n" not in message
    assert SECRET not in message


ODD = "p@ss:w/o%41r#d?&+é[x]"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql://u:{quote(ODD, safe='')}@h:6432/d", {"user": "u", "password": ODD, "host": "h", "port": 6432}),
        (" postgresql://u:p#[&x@h/d\n", {"user": "u", "password": "p#[&x", "host": "h", "port": 5432}),
        ("POSTGRES://u@[::1]:6432/d", {"user": "u", "password": None, "host": "::1", "port": 6432}),
        ("postgresql://h:6432/d?user=u&password=p%2Bq+r", {"user": "u", "password": "p+q+r", "port": 6432}),
        ("postgresql://u@h?dbname=d", {"database": "d", "host": "h"}),
        ("postgresql://u@/d?host=127.0.0.1&port=6432", {"host": "127.0.0.1", "port": 6432}),
        ("postgresql://u@/d?host=/Run&port=6432", {"unix_sock": "/Run/.s.PGSQL.6432"}),
        ("postgresql://u@%2FRun/d", {"unix_sock": "/Run/.s.PGSQL.5432"}),
        ("postgresql://u@h/d?sslmode=require&sslmode=disable", {"ssl_context": False}),
        ("postgresql://u@h/d?sslmode=allow", {"ssl_context": None}),
    ],
)
def test_a_url_means_what_it_means_to_libpq(url: str, expected: dict[str, object]) -> None:
    arguments, _ = parse_url(url)
    assert {name: arguments[name] for name in expected} == expected
    assert arguments["database"] == "d"


def test_a_server_that_is_down_is_an_outage_with_its_address() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with (
            pytest.raises(DatabaseUnavailableError, match=f"no connection to PostgreSQL at 127.0.0.1:{port}") as raised,
            connect(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d"),
        ):
            pass
    assert SECRET not in str(raised.value)


def test_a_missing_socket_is_an_outage_with_the_reason_and_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_DATABASE_URL", f"postgresql://u@/d?host={tmp_path}")
    missing = rf"{tmp_path}.*: \[Errno 2\] No such file or directory: is it running, .*\(WAREHOUSE_DATABASE_URL\)$"
    with (
        pytest.raises(DatabaseUnavailableError, match=missing),
        DatabaseResource(variable="WAREHOUSE_DATABASE_URL").connect(),
    ):
        pass


def test_a_database_that_does_not_exist_is_named(totesys_url: str) -> None:
    with (
        pytest.raises(StatementRefusedError, match='database "nowhere" does not exist'),
        connect(totesys_url.replace("/test_", "/nowhere?application_name=", 1).replace("?host", "&host")),
    ):
        pass


@pytest.mark.parametrize(
    ("mode", "verify", "hostname"),
    [
        ("require", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-full", ssl.CERT_REQUIRED, True),
    ],
)
def test_tls_is_verified_as_by_libpq(mode: str, verify: ssl.VerifyMode, hostname: bool) -> None:
    context = parse_url(f"postgresql://u:p@h/d?sslmode={mode}")[0]["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (verify, hostname)


def test_a_refused_statement_raises_the_message_of_the_database(totesys: Connection) -> None:
    with pytest.raises(StatementRefusedError, match=r'relation "nothing" does not exist \[SQLSTATE 42P01\]'):
        totesys.run("SELECT * FROM nothing")


def test_a_cancelled_statement_is_an_outage(totesys: Connection) -> None:
    with pytest.raises(DatabaseUnavailableError, match="57014"), transaction(totesys):
        totesys.run("SET LOCAL statement_timeout = 50")
        totesys.run("SELECT pg_sleep(10)")


def test_a_terminated_connection_is_an_outage(totesys: Connection, totesys_url: str) -> None:
    [[process]] = totesys.run("SELECT pg_backend_pid()")
    with connect(totesys_url) as other:
        other.run("SELECT pg_terminate_backend(:process)", process=process)
    with pytest.raises(DatabaseUnavailableError), transaction(totesys):
        totesys.run("SELECT 1")


def test_a_transaction_is_rolled_back_on_an_exception(totesys: Connection) -> None:
    with pytest.raises(ZeroDivisionError), transaction(totesys):
        totesys.run("DELETE FROM payment")
        raise ZeroDivisionError
    assert totesys.run("SELECT count(*) > 0 FROM payment") == [[True]]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT FROM generate_series(1, 1000)",
        "SELECT n FROM generate_series(1, 0) n",
        "SELECT n, repeat(chr(255), n % 7), NULL, '' FROM generate_series(1, 100000) n",
        "SELECT n, repeat('x', n) FROM generate_series(8170, 8210) n",  # around the size of pg8000's buffer
        "SELECT repeat('d', n % 300) FROM generate_series(1, 20000) n",
        "SELECT repeat('wide', 8000000)",
        "SELECT E'a\\r\\n\"b\"' FROM generate_series(1, 3)",
    ],
)
def test_rows_copied_in_batches_equal_rows_copied_one_by_one(totesys: Connection, query: str) -> None:
    in_batches, one_by_one = io.BytesIO(), io.BytesIO()
    with transaction(totesys):
        rows = totesys.copy_out(query, in_batches)
        totesys.message_types[COPY_DATA] = lambda data, context: context.stream_write(data)
        assert totesys.copy_out(query, one_by_one) == rows
    assert in_batches.getvalue() == one_by_one.getvalue()


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.tuples(st.text("d\n", max_size=3), st.sampled_from([0, 1, 96, 246, 250, 300])), max_size=8),
    st.sampled_from([b"", b"c\0\0\0\4", b"N\0\0\0\x09Mdd\0\0", b"N\0\0\0\x0dMd\0\0\0dd\0\0"]),
    st.integers(0, 8),
    st.integers(0, 30),
)
@pytest.mark.parametrize("read", [_buffered_rows, _buffered_short_rows])
def test_the_rows_in_a_buffer_are_those_of_its_whole_messages(
    read: Callable[[bytes], tuple[bytes, int]], texts: list[tuple[str, int]], other: bytes, place: int, cut: int
) -> None:
    rows = [f"{text}{'x' * wide}\n".encode() for text, wide in texts]
    messages = [b"d" + (len(row) + 4).to_bytes(4, "big") + row for row in rows]
    buffered = b"".join([*messages[:place], other, *messages[place:]])
    buffered = buffered[: max(0, len(buffered) - cut)]
    copied, end = read(buffered)
    number = next(n for n in range(len(rows) + 1) if len(b"".join(messages[:n])) == end)
    assert copied == b"".join(rows[:number])
    assert end or not any(buffered.startswith(message) for message in messages[:1])


def test_the_connection_is_usable_after_a_copy_that_fails_halfway(totesys: Connection) -> None:
    into = io.BytesIO()
    with pytest.raises(StatementRefusedError, match="division by zero"):
        totesys.copy_out("SELECT 1 / (50000 - n) FROM generate_series(1, 100000) n", into)
    assert into.getvalue().count(b"\n") > 10_000
    after = io.BytesIO()
    assert totesys.copy_out("SELECT 7 AS n", after) == 1
    assert after.getvalue() == b"n\n7\n"


def test_any_name_can_be_quoted(totesys: Connection) -> None:
    odd = 'a "b"; DROP TABLE payment --'
    totesys.run(f"CREATE TEMPORARY TABLE {quote_identifier(odd)} ({column_list([odd])} integer)")
    assert totesys.run(f"SELECT {column_list([odd], 't')} FROM {quote_identifier(odd)} t") == []


def test_what_the_server_refuses_is_reported_with_the_variable(
    totesys_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_DATABASE_URL", totesys_url.replace("postgres@", f"nobody_at_all:{SECRET}@"))
    with (
        pytest.raises(EnvironmentVariableError, match=r'^SOME_DATABASE_URL is refused: role "nobody_at_all" does not'),
        DatabaseResource(variable="SOME_DATABASE_URL").connect(),
    ):
        pass


def test_the_simulated_totesys_matches_the_declaration(totesys: Connection) -> None:
    declared = {table.name: table.columns for table in TOTESYS_TABLES}
    assert schema_drift(totesys, "public", "totesys", declared) == dict.fromkeys(declared, Drift())


def test_an_undeclared_column_is_harmless(totesys: Connection) -> None:
    totesys.run("ALTER TABLE currency ADD symbol text")
    assert schema_drift(totesys, "public", "totesys", {"currency": TOTESYS_TABLES[2].columns}) == {
        "currency": Drift(undeclared=("symbol",))
    }


def test_all_missing_and_retyped_columns_are_named_in_one_error(totesys: Connection) -> None:
    totesys.run("ALTER TABLE payment ALTER paid TYPE text")
    totesys.run("ALTER TABLE design DROP COLUMN file_name")
    declared = {table.name: table.columns for table in TOTESYS_TABLES} | {"invoice": columns(invoice_id=pa.int32())}
    with pytest.raises(SchemaMismatchError) as raised:
        schema_drift(totesys, "public", "totesys", declared)
    assert set(raised.value.problems) == {
        "table invoice is missing",
        "column payment.paid is text, declared bool",
        "column design.file_name is missing, declared string",
    }


def test_a_server_without_tls_is_reached_over_tcp_unless_tls_is_required(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with postgres.serve(tmp_path / "tcp", listen_addresses="127.0.0.1", port=str(port)):
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        for mode in ("disable", "prefer"):
            with connect(f"{url}?sslmode={mode}") as connection:
                assert connection.run("SELECT inet_server_port()") == [[port]]
                assert connection.run("SHOW tcp_keepalives_idle") == [["60"]]
        with pytest.raises(DatabaseUnavailableError, match="refuses SSL"), connect(f"{url}?sslmode=require"):
            pass
    postgres.remove(tmp_path / "tcp")


@pytest.mark.parametrize("parameter", ["connect_timeout", "lock_timeout"])
@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5"])
def test_a_malformed_timeout_is_named(parameter: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATABASE_URL", f"postgresql://u:{SECRET}@h/d?{parameter}={value}")
    with (
        pytest.raises(EnvironmentVariableError, match=f"{parameter} that is not a whole number of seconds"),
        DatabaseResource(variable="SOME_DATABASE_URL").connect(),
    ):
        pass


def test_a_server_that_asks_for_a_password_says_so_and_how_to_write_it(tmp_path: Path) -> None:
    with postgres.serve(tmp_path / "asking") as server:
        with connect(server.url()) as connection:
            connection.run(f"CREATE ROLE u LOGIN PASSWORD '{ODD}'")
            hba = postgres.data_folder(tmp_path / "asking") / "data" / "pg_hba.conf"
            hba.write_text(f"local all u scram-sha-256\n{hba.read_text()}")
            connection.run("SELECT pg_reload_conf()")
            with pytest.raises(LoginError, match="has no password, and the server asks for one"):
                until(lambda: logged_in(server.url(user="u")), seconds=10)
        with pytest.raises(StatementRefusedError, match=r"authentication failed .* write @ : / \? % and space as %40"):
            logged_in(server.url(user=f"u:{ODD.replace('/', '')}"))
        login = f"u:{quote(ODD, safe='')}"
        bound = f"{server.url(user=login)}&channel_binding="
        assert logged_in(f"{bound}prefer") == "u"
        with pytest.raises(LoginError, match="channel_binding=require, and the server offers none"):
            logged_in(f"{bound}require")
    postgres.remove(tmp_path / "asking")


def logged_in(url: str) -> str | None:
    """Return the user of a session, or None for one that needed no password."""
    with connect(url) as connection:
        user = str(connection.run("SELECT session_user::text")[0][0])
    return user if ":" in url.removeprefix("postgresql://") else None


def test_a_statement_outside_a_transaction_has_one_with_all_settings(totesys: Connection) -> None:
    totesys.run("SET IntervalStyle = postgres; SET extra_float_digits = -15; SET bytea_output = escape")
    totesys.run("SET quote_all_identifiers = on; SET row_security = on; SET TimeZone = 'Asia/Tokyo'")
    into = io.BytesIO()
    totesys.copy_out("SELECT interval '1 day', 0.1::float8, '\\x00'::bytea, 'payment'::regclass", into)
    assert into.getvalue().splitlines()[1] == b"P1D,0.1,\\x00,payment"
    assert totesys.run("SELECT current_setting('row_security'), current_setting('TimeZone')") == [["off", "UTC"]]
    assert totesys.row_count == 1


def test_a_statement_that_cannot_run_in_a_transaction_runs_without_one(totesys: Connection) -> None:
    totesys.run("VACUUM payment")
    totesys.run("BEGIN")
    assert totesys.run("SELECT current_setting('row_security')") == [["off"]]
    totesys.run("DELETE FROM payment")
    totesys.run("ROLLBACK")
    assert totesys.run("SELECT count(*) > 0 FROM payment") == [[True]]


def test_statements_and_lock_waits_time_out(totesys_url: str) -> None:
    with connect(f"{totesys_url}&statement_timeout=1") as connection:
        with pytest.raises(DatabaseUnavailableError, match=r"statement timeout .*during SELECT pg_sleep"):
            connection.run("SELECT pg_sleep(10)")
        assert connection.run("SHOW lock_timeout") == [["1min"]]


def test_an_idle_transaction_times_out_and_releases_its_locks(totesys_url: str) -> None:
    with connect(f"{totesys_url}&idle_in_transaction_session_timeout=1") as idle, connect(totesys_url) as other:
        idle.run("BEGIN")
        idle.run("LOCK TABLE payment IN ACCESS EXCLUSIVE MODE")
        other.run("SELECT count(*) FROM payment")  # waits for the lock
        with pytest.raises(DatabaseUnavailableError):
            idle.run("SELECT 1")


def test_a_silent_server_is_an_outage_and_its_connection_is_closed(socket_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as over_tcp, socket.socket(socket.AF_UNIX) as over_unix:
        over_unix.bind(f"{socket_folder}/.s.PGSQL.5432")
        over_unix.listen()
        for server, url in (
            (over_tcp, f"postgresql://u@127.0.0.1:{over_tcp.getsockname()[1]}/d?sslmode=disable&connect_timeout=1"),
            (over_unix, f"postgresql://u@/d?host={socket_folder}&connect_timeout=1"),
        ):
            with pytest.raises(DatabaseUnavailableError, match="no connection to PostgreSQL") as refused, connect(url):
                pass
            with server.accept()[0] as accepted:
                accepted.settimeout(5)
                while accepted.recv(4096):  # until the client closes, although the error still references it
                    pass
            del refused


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder with a path short enough for a Unix socket."""
    with TemporaryDirectory() as folder:
        yield Path(folder)
