"""Source and warehouse behind PgBouncer, in each of its modes."""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any
from urllib.parse import urlsplit

import pg8000.native
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import (
    DatabaseUnavailableError,
    SettingNotHeldError,
    StatementRefusedError,
    connect,
    transaction,
)
from etl_assets.ingestion.capture import capture
from etl_assets.ingestion.manifest import Capture, latest
from etl_assets.simulator.postgres import Server
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys, until

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
READER = "pooled_reader"
PARTITIONS = [f"2024-08-22-12:{minute:02}" for minute in (0, 15, 30)]
IGNORED = "extra_float_digits,options,row_security,statement_timeout,lock_timeout,IntervalStyle"
"""What administrators tell PgBouncer to ignore, to please some client."""


@dataclass(frozen=True)
class Pooler:
    port: int

    def url(self, behind: str, user: str = "postgres") -> str:
        """Return the URL, through this pooler, of the database of a URL."""
        return f"postgresql://{user}@127.0.0.1:{self.port}{urlsplit(behind).path}?sslmode=disable"


@contextmanager
def pgbouncer(server: Server, mode: str, ignored: str = "", pool_size: int = 4) -> Iterator[Pooler]:
    """Run PgBouncer in front of a server, as the user that may reach its socket."""
    if not PGBOUNCER:
        pytest.skip("PgBouncer is not installed (Debian: apt-get install pgbouncer)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory(prefix="totesys-pgbouncer-") as folder:
        users, settings = Path(folder) / "users.txt", Path(folder) / "pgbouncer.ini"
        users.write_text(f'"postgres" ""\n"{READER}" ""\n')
        settings.write_text(
            f"""[databases]
* = host={server.socket_folder} pool_size={pool_size}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
ignore_startup_parameters = {ignored}
"""
        )
        process: dict[str, Any] = {}
        if os.geteuid() == 0:
            process = {"user": "nobody", "extra_groups": []}
            for path in (folder, users, settings):
                shutil.chown(path, "nobody")
        log = Path(folder) / "log"
        with log.open("wb") as output:
            running = subprocess.Popen(
                [PGBOUNCER, str(settings)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **process
            )
        try:
            until(lambda: answers(port) or running.poll() is not None, seconds=10)
            assert running.poll() is None, log.read_text()
            yield Pooler(port)
        finally:
            running.kill()
            running.wait()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def pooler_in(server: Server) -> Iterator[Callable[[str], Pooler]]:
    """A function that returns the pooler of a mode, the same for all tests. It ignores what it is asked to set."""
    with ExitStack() as stack:
        running: dict[str, Pooler] = {}

        def in_mode(mode: str) -> Pooler:
            if mode not in running:
                running[mode] = stack.enter_context(pgbouncer(server, mode, IGNORED))
            return running[mode]

        yield in_mode


@pytest.fixture(params=["session", "transaction"])
def pooler(request: pytest.FixtureRequest, pooler_in: Callable[[str], Pooler]) -> Pooler:
    return pooler_in(request.param)


def capture_through(url: str, bucket: Bucket, partition: str) -> Capture:
    with connect(url) as connection:
        [made] = capture(connection, bucket, TOTESYS_TABLES, (), partition).captures
    return made


HOSTILE = {
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "postgres_verbose",
    "TimeZone": "'Asia/Tokyo'",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "serializable",
    "statement_timeout": "'1s'",
}
"""Settings of the databases that must not change what is captured and loaded."""


def test_source_and_warehouse_may_be_behind_pgbouncer_whatever_their_settings(
    server: Server, platform: Platform, pooler_in: Callable[[str], Pooler]
) -> None:
    for database in (platform.totesys, platform.warehouse):
        [[name]] = database("SELECT current_database()::text")
        for setting, value in HOSTILE.items():
            database(f"ALTER DATABASE {name} SET {setting} = {value}")
    with pgbouncer(server, "session") as session:  # as installed: it refuses most startup parameters
        for source, warehouse in ((session, pooler_in("transaction")), (pooler_in("transaction"), session)):
            platform.environment.setenv("TOTESYS_DATABASE_URL", source.url(platform.totesys_url))
            platform.environment.setenv("WAREHOUSE_DATABASE_URL", warehouse.url(platform.warehouse_url))
            result = platform.run()
            assert [check for check in result.get_asset_check_evaluations() if not check.passed] == []
            assert_warehouse_equals_totesys(platform)
            for database in (platform.totesys, platform.warehouse):  # the pools still hold the connections of the run
                assert database("SELECT pid FROM pg_locks WHERE locktype = 'advisory'") == []
            platform.next_window()
            platform.totesys("UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id < 9")


def test_rows_hidden_by_a_policy_are_an_error_behind_pgbouncer(
    pooler: Pooler, totesys_url: str, bucket_url: str
) -> None:
    bucket = Bucket(bucket_url)
    with connect(totesys_url) as connection:
        connection.run(
            f"""DO $$ BEGIN CREATE ROLE {READER} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
                GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}"""
        )
        first = capture_through(pooler.url(totesys_url, READER), bucket, PARTITIONS[0])
        connection.run(
            f"""ALTER TABLE staff ENABLE ROW LEVEL SECURITY;
                CREATE POLICY own ON staff TO {READER} USING (staff_id < 10);
                UPDATE staff SET first_name = 'Ada'"""
        )
    with pytest.raises(StatementRefusedError, match="affected by row-level security policy for table"):
        capture_through(pooler.url(totesys_url, READER), bucket, PARTITIONS[1])
    assert latest(bucket) == first


def test_a_setting_that_something_between_changes_is_named(server: Server, totesys_url: str) -> None:
    with (
        rewriting_proxy(server, b"row_security = 'off'", b"row_security = 'on' ") as port,
        connect(Pooler(port).url(totesys_url)) as connection,
        pytest.raises(SettingNotHeldError, match=r"row_security is 'on' in a transaction .* connect to PostgreSQL"),
    ):
        connection.run("SELECT 1")


@contextmanager
def rewriting_proxy(server: Server, old: bytes, new: bytes) -> Iterator[int]:
    """Forward one connection to a server, and replace what the client sends."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as behind:
        behind.connect(f"{server.socket_folder}/.s.PGSQL.5432")

        def forward(source: socket.socket, target: socket.socket) -> None:
            while data := source.recv(64 * 1024):
                target.sendall(data.replace(old, new))
            target.shutdown(socket.SHUT_WR)

        def serve() -> None:
            with listener.accept()[0] as client:
                back = threading.Thread(target=forward, args=(behind, client))
                back.start()
                forward(client, behind)
                back.join()

        serving = threading.Thread(target=serve)
        serving.start()
        yield listener.getsockname()[1]
        serving.join(timeout=10)


def test_settings_and_time_outs_hold_in_a_transaction_and_do_not_stay_on_the_pooled_connection(
    pooler: Pooler, totesys_url: str
) -> None:
    url = pooler.url(totesys_url)
    with connect(f"{url}&statement_timeout=1") as ours:
        assert ours.run("SELECT current_setting('row_security'), current_setting('IntervalStyle')") == [
            ["off", "iso_8601"]
        ]
        with pytest.raises(DatabaseUnavailableError, match="statement timeout"):
            ours.run("SELECT pg_sleep(:seconds)", seconds=5)
    other = {"host": "127.0.0.1", "port": pooler.port, "database": urlsplit(totesys_url).path[1:]}
    with pg8000.native.Connection("postgres", **other) as theirs:
        for setting, value in {"row_security": "on", "statement_timeout": "0", "IntervalStyle": "postgres"}.items():
            assert theirs.run(f"SHOW {setting}") == [[value]]


def test_statement_mode_is_refused_with_advice(pooler_in: Callable[[str], Pooler], totesys_url: str) -> None:
    with (
        pytest.raises(StatementRefusedError, match="PgBouncer is in statement mode: set pool_mode to session or"),
        connect(pooler_in("statement").url(totesys_url)) as connection,
    ):
        connection.run("SELECT 1")


def test_what_pgbouncer_does_not_know_is_permanent_and_named(pooler: Pooler, totesys_url: str) -> None:
    with pytest.raises(StatementRefusedError, match="auth_file"), connect(pooler.url(totesys_url, "stranger")):
        pass
    with (
        pytest.raises(StatementRefusedError, match='database "nowhere" does not exist'),
        connect(pooler.url("postgresql://h/nowhere")) as connection,
    ):
        connection.run("SELECT 1")


def test_a_server_down_behind_pgbouncer_is_an_outage(tmp_path: Path) -> None:
    with (
        pgbouncer(Server(tmp_path), "transaction") as pooler,
        pytest.raises(DatabaseUnavailableError),
        connect(f"{pooler.url('postgresql://h/d')}&connect_timeout=1") as connection,
    ):
        connection.run("SELECT 1")


def test_two_captures_at_once_follow_each_other_behind_pgbouncer(
    pooler: Pooler, totesys_url: str, bucket_url: str
) -> None:
    bucket, url = Bucket(bucket_url), pooler.url(totesys_url)
    second: list[Capture] = []
    waiting = threading.Thread(target=lambda: second.append(capture_through(url, bucket, PARTITIONS[1])))

    class SlowBucket(Bucket):
        """Starts a second capture, and a change that only that one can see, while the first one copies."""

        def create(self, key: str) -> Any:
            if key.startswith("address/"):
                with connect(totesys_url) as other:
                    other.run("UPDATE address SET city = 'Leeds' WHERE address_id = 1")
                waiting.start()
                sleep(0.5)
            return super().create(key)

    first = capture_through(url, SlowBucket(bucket_url), PARTITIONS[0])
    waiting.join(timeout=10)
    assert (second[0].previous, second[0].files["address"].rows) == (first.id, 1)
    third = capture_through(url, bucket, PARTITIONS[2])
    assert (third.previous, third.files) == (second[0].id, {})
    with connect(totesys_url) as connection:
        assert connection.run("SELECT pid FROM pg_locks WHERE locktype = 'advisory'") == []


def test_another_client_of_the_pool_does_not_hold_up_captures(
    pooler_in: Callable[[str], Pooler], totesys_url: str, bucket_url: str
) -> None:
    """With locks of the session, the capture waited for whoever got the pooled connection of the one before."""
    url, bucket = pooler_in("transaction").url(totesys_url), Bucket(bucket_url)
    capture_through(url, bucket, PARTITIONS[0])
    started = monotonic()
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(transaction(stack.enter_context(connect(url))))
        capture_through(url, bucket, PARTITIONS[1])
    assert monotonic() - started < 5
