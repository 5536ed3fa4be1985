import io
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from pg8000.core import COPY_DATA

from etl_assets.databases import (
    Connection,
    DatabaseResource,
    DatabaseUnavailableError,
    StatementRefusedError,
    connect,
    deviations,
    names,
    quoted,
    transaction,
)
from etl_assets.environment import EnvironmentVariableError
from etl_assets.simulator import postgres
from etl_assets.tables import SchemaMismatchError, columns
from etl_assets.totesys import TOTESYS_TABLES

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "is not set"),
        (f"mysql://u:{SECRET}@h/d", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}@h", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}@h:port/d", "must look like postgresql://"),
        (f"postgresql://:{SECRET}@h/d", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}@/d", "must look like postgresql://"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=maybe", "unknown sslmode: maybe"),
        (f"postgresql://u:{SECRET}@h/d?sslmod=require", "not understood: sslmod"),
        (f"postgresql://u:{SECRET}@h/d?sslmode=verify-full&sslrootcert=/no/file", "sslrootcert"),
    ],
)
def test_a_missing_or_malformed_url_is_one_line_that_names_the_variable_and_no_secret(
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


def test_a_database_nobody_serves_is_an_outage_that_names_where() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with (
            pytest.raises(DatabaseUnavailableError, match=f"no connection to PostgreSQL at 127.0.0.1:{port}") as raised,
            connect(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d"),
        ):
            pass
    assert SECRET not in str(raised.value)


def test_a_socket_that_is_not_there_is_an_outage(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailableError, match=str(tmp_path)), connect(f"postgresql://u@/d?host={tmp_path}"):
        pass


def test_a_database_that_does_not_exist_is_refused_by_name(totesys_url: str) -> None:
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
def test_tls_is_verified_as_libpq_would(mode: str, verify: ssl.VerifyMode, hostname: bool) -> None:
    from etl_assets.databases import _arguments

    context = _arguments(f"postgresql://u:p@h/d?sslmode={mode}")[0]["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (verify, hostname)


def test_a_refused_statement_tells_what_the_database_said(totesys: Connection) -> None:
    with pytest.raises(StatementRefusedError, match=r'relation "nothing" does not exist \[SQLSTATE 42P01\]'):
        totesys.run("SELECT * FROM nothing")


def test_a_statement_that_is_cancelled_is_an_outage(totesys: Connection) -> None:
    totesys.run("SET statement_timeout = 50")
    with pytest.raises(DatabaseUnavailableError, match="57014"):
        totesys.run("SELECT pg_sleep(10)")


def test_a_connection_that_is_cut_is_an_outage(totesys: Connection, totesys_url: str) -> None:
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
        "SELECT repeat('wide', 8000000)",
        "SELECT E'a\\r\\n\"b\"' FROM generate_series(1, 3)",
    ],
)
def test_rows_copied_many_at_a_time_are_those_copied_one_by_one(totesys: Connection, query: str) -> None:
    together, one_by_one = io.BytesIO(), io.BytesIO()
    with transaction(totesys):
        rows = totesys.copy_out(query, together)
        totesys.message_types[COPY_DATA] = lambda data, context: context.stream_write(data)
        assert totesys.copy_out(query, one_by_one) == rows
    assert together.getvalue() == one_by_one.getvalue()


def test_a_copy_that_fails_on_the_way_is_refused_and_the_connection_goes_on(totesys: Connection) -> None:
    into = io.BytesIO()
    with pytest.raises(StatementRefusedError, match="division by zero"):
        totesys.copy_out("SELECT 1 / (50000 - n) FROM generate_series(1, 100000) n", into)
    assert into.getvalue().count(b"\n") > 10_000
    after = io.BytesIO()
    assert totesys.copy_out("SELECT 7 AS n", after) == 1
    assert after.getvalue() == b"n\n7\n"


def test_names_are_quoted_whatever_they_hold(totesys: Connection) -> None:
    odd = 'a "b"; DROP TABLE payment --'
    totesys.run(f"CREATE TEMPORARY TABLE {quoted(odd)} ({names([odd])} integer)")
    assert totesys.run(f"SELECT {names([odd], 't')} FROM {quoted(odd)} t") == []


def test_the_simulated_totesys_is_as_declared(totesys: Connection) -> None:
    declared = {table.name: table.columns for table in TOTESYS_TABLES}
    assert deviations(totesys, "public", "totesys", declared) == dict.fromkeys(declared, ())


def test_a_column_not_declared_is_told(totesys: Connection) -> None:
    totesys.run("ALTER TABLE currency ADD symbol text")
    assert deviations(totesys, "public", "totesys", {"currency": TOTESYS_TABLES[2].columns}) == {
        "currency": ("column symbol is not declared",)
    }


def test_what_is_missing_or_retyped_is_named_all_at_once(totesys: Connection) -> None:
    totesys.run("ALTER TABLE payment ALTER paid TYPE text")
    totesys.run("ALTER TABLE design DROP COLUMN file_name")
    declared = {table.name: table.columns for table in TOTESYS_TABLES} | {"invoice": columns(invoice_id=pa.int32())}
    with pytest.raises(SchemaMismatchError) as raised:
        deviations(totesys, "public", "totesys", declared)
    assert set(raised.value.problems) == {
        "table invoice is missing",
        "column payment.paid is text, declared bool",
        "column design.file_name is missing, declared string",
    }


def test_a_server_is_reached_over_tcp_and_asked_for_tls_it_has_not_is_refused_no_plain_text(tmp_path: Path) -> None:
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
def test_a_malformed_time_out_is_refused_by_name(parameter: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATABASE_URL", f"postgresql://u:{SECRET}@h/d?{parameter}={value}")
    with (
        pytest.raises(EnvironmentVariableError, match=f"{parameter} that is not a whole number of seconds"),
        DatabaseResource(variable="SOME_DATABASE_URL").connect(),
    ):
        pass


def test_statements_and_waits_for_locks_end_in_time(totesys_url: str) -> None:
    with connect(f"{totesys_url}&statement_timeout=1") as connection:
        with pytest.raises(DatabaseUnavailableError, match=r"statement timeout .*during SELECT pg_sleep"):
            connection.run("SELECT pg_sleep(10)")
        assert connection.run("SHOW lock_timeout") == [["1min"]]


def test_a_transaction_left_idle_ends_and_holds_no_lock(totesys_url: str) -> None:
    with connect(f"{totesys_url}&idle_in_transaction_session_timeout=1") as idle, connect(totesys_url) as other:
        idle.run("BEGIN")
        idle.run("LOCK TABLE payment IN ACCESS EXCLUSIVE MODE")
        other.run("SELECT count(*) FROM payment")  # waits until then
        with pytest.raises(DatabaseUnavailableError):
            idle.run("SELECT 1")


def test_a_server_that_accepts_and_says_nothing_is_given_up_and_left(socket_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as over_tcp, socket.socket(socket.AF_UNIX) as over_unix:
        over_unix.bind(f"{socket_folder}/.s.PGSQL.5432")
        over_unix.listen()
        for server, url in (
            (over_tcp, f"postgresql://u@127.0.0.1:{over_tcp.getsockname()[1]}/d?sslmode=disable&connect_timeout=1"),
            (over_unix, f"postgresql://u@/d?host={socket_folder}&connect_timeout=1"),
        ):
            with pytest.raises(DatabaseUnavailableError, match="no connection to PostgreSQL") as refused, connect(url):
                pass
            with server.accept()[0] as heard:
                heard.settimeout(5)
                while heard.recv(4096):  # until the other end is closed, though the error still refers to it
                    pass
            del refused


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    """A folder whose path is short enough for a socket."""
    with TemporaryDirectory() as folder:
        yield Path(folder)
