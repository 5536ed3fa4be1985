"""Servers that are down, slow, restarted, full, locked or refuse: outages are retried, then the run fails."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import sleep
from urllib.parse import urlsplit

import dagster as dg
import pytest

from etl_assets.adapters.object_store import Bucket, BucketRefusedError
from etl_assets.adapters.postgres import Connection, DatabaseUnavailableError, connect
from etl_assets.catalog.stages import CAPTURE_OP, LOAD_OP
from etl_assets.simulator import postgres
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.faults import PostgresProxy, Request, S3Proxy, for_seconds, random_faults, s3_proxy
from etl_assets_tests.chaos.history import assert_history_is_exact
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys, failure, until

pytestmark = pytest.mark.chaos

MANY_ORDERS = """
    INSERT INTO sales_order
    SELECT (jsonb_populate_record(sales_order, jsonb_build_object('sales_order_id', number))).*
    FROM sales_order, generate_series(100001, 200000) AS number WHERE sales_order_id = 1"""
EDIT = "UPDATE sales_order SET units_sold = units_sold + 1"


def retries(result: dg.ExecuteInProcessResult, step: str) -> int:
    return sum(event.is_step_up_for_retry and event.step_key == step for event in result.all_events)


class BackgroundRun:
    """A run in a thread."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._thread = threading.Thread(target=self._run)
        self._result: dg.ExecuteInProcessResult | None = None
        self._thread.start()

    def _run(self) -> None:
        self._result = self._platform.run(raise_on_error=False)

    def result(self, seconds: float = 120) -> dg.ExecuteInProcessResult:
        self._thread.join(timeout=seconds)
        assert self._result, "the run does not end"
        return self._result


def waiting_for_a_lock(url: str) -> list[int]:
    """Return the PIDs of the platform's sessions that wait for a lock in a database."""
    with connect(url) as connection:
        rows = connection.run(
            """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
               AND application_name = 'etl_assets' AND wait_event_type = 'Lock'"""
        )
    return [pid for [pid] in rows]


@contextmanager
def locked(url: str, table: str) -> Iterator[Connection]:
    """Lock a table so that nobody can read it."""
    with connect(f"{url}&application_name=holder") as holder:
        holder.run("BEGIN")
        holder.run(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield holder


@pytest.fixture
def loaded(platform: Platform) -> Platform:
    """The platform after a first load, with a change for the next one."""
    platform.refresh()
    platform.next_window()
    platform.totesys(EDIT)
    return platform


BOTH_DATABASES = pytest.mark.parametrize(
    ("database", "table", "step"),
    [("totesys", "payment", CAPTURE_OP), ("warehouse", "warehouse.fact_sales_order", LOAD_OP)],
)


def connect_through(proxy: PostgresProxy, platform: Platform, database: str, timeouts: str = "") -> None:
    """Connect the platform to totesys or the warehouse through the proxy."""
    name = urlsplit(getattr(platform, f"{database}_url")).path.lstrip("/")
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}?sslmode=disable{timeouts}"
    platform.environment.setenv(f"{database.upper()}_DATABASE_URL", url)


@pytest.fixture
def postgres_proxy(server: Server) -> Iterator[PostgresProxy]:
    proxy = PostgresProxy(f"{server.socket_folder}/.s.PGSQL.5432")
    yield proxy
    proxy.close()


@BOTH_DATABASES
@pytest.mark.parametrize("received", [1, 5_000, 12_000])
def test_a_reset_connection_is_retried(
    database: str,
    table: str,
    step: str,
    received: int,
    loaded: Platform,
    postgres_proxy: PostgresProxy,
    figures: Callable[..., None],
) -> None:
    connect_through(postgres_proxy, loaded, database)
    postgres_proxy.reset_once_after(received if database == "totesys" else received // 8)
    result = loaded.run(raise_on_error=False)
    assert result.success, failure(result)
    assert (postgres_proxy.resets, retries(result, step)) == (1, 1)
    assert_warehouse_equals_totesys(loaded)
    assert_history_is_exact(loaded)
    figures(faults_tried=1, faults_survived=1)


@BOTH_DATABASES
@pytest.mark.parametrize("while_connecting", [True, False])
def test_a_silent_server_times_out_and_is_retried(
    database: str,
    table: str,
    step: str,
    while_connecting: bool,
    loaded: Platform,
    postgres_proxy: PostgresProxy,
    figures: Callable[..., None],
) -> None:
    timeouts = "&connect_timeout=2&statement_timeout=1&lock_timeout=1&idle_in_transaction_session_timeout=1"
    connect_through(postgres_proxy, loaded, database, timeouts)
    postgres_proxy.hang_once_after(0 if while_connecting else 14_000 if database == "totesys" else 1_500)
    result = BackgroundRun(loaded).result(seconds=60)
    assert result.success, failure(result)
    assert postgres_proxy.hangs == 1
    assert retries(result, step) >= 1
    assert_warehouse_equals_totesys(loaded)
    figures(faults_tried=1, faults_survived=1)


@BOTH_DATABASES
def test_a_cancelled_statement_is_retried(
    database: str, table: str, step: str, loaded: Platform, figures: Callable[..., None]
) -> None:
    url = getattr(loaded, f"{database}_url")
    with locked(url, table) as holder:
        run = BackgroundRun(loaded)
        until(lambda: waiting_for_a_lock(url))
        for pid in waiting_for_a_lock(url):
            holder.run("SELECT pg_cancel_backend(:pid)", pid=pid)
        until(lambda: not waiting_for_a_lock(url))
        holder.run("COMMIT")
    result = run.result()
    assert result.success, failure(result)
    assert retries(result, step) >= 1
    assert_warehouse_equals_totesys(loaded)
    figures(faults_tried=1, faults_survived=1)


@BOTH_DATABASES
def test_a_table_that_stays_locked_fails_the_run_and_loses_nothing(
    database: str, table: str, step: str, loaded: Platform, figures: Callable[..., None]
) -> None:
    url = getattr(loaded, f"{database}_url")
    before = loaded.contents()
    loaded.environment.setenv(f"{database.upper()}_DATABASE_URL", f"{url}&lock_timeout=1")
    with locked(url, table) as holder:
        result = loaded.run(raise_on_error=False)
        holder.run("COMMIT")
    assert not result.success
    assert retries(result, step) == 3
    message = failure(result)
    assert "canceling statement due to lock timeout" in message
    assert ("LOCK TABLE" if database == "totesys" else "fact_sales_order") in message
    assert loaded.contents() == before
    loaded.run(*(["transformation", "warehouse"] if database == "warehouse" else []))
    assert_warehouse_equals_totesys(loaded)
    figures(faults_tried=1, faults_survived=1)


@pytest.fixture
def separate_warehouse(
    totesys_url: str, bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Path, Server, Platform]]:
    """A platform whose warehouse has its own server, after a first load, with a change for the next one."""
    home = tmp_path / "warehouse"
    with postgres.serve(home, max_connections="12", superuser_reserved_connections="0") as server:
        url = server.create_database("warehouse")
        platform = Platform(totesys_url, url, bucket_url, monkeypatch)
        platform.refresh()
        platform.next_window()
        platform.totesys(EDIT)
        yield home, server, platform
    postgres.remove(home)


def test_a_server_restarted_during_a_load_is_waited_for(
    separate_warehouse: tuple[Path, Server, Platform], figures: Callable[..., None]
) -> None:
    home, _, platform = separate_warehouse
    with (
        pytest.raises(DatabaseUnavailableError),
        locked(platform.warehouse_url, "warehouse.fact_sales_order") as holder,
    ):
        run = BackgroundRun(platform)
        until(lambda: waiting_for_a_lock(platform.warehouse_url))
        data = str(postgres.data_folder(home) / "data")
        postgres.run(
            home, "pg_ctl", "--pgdata", data, "--wait", "--mode=immediate", "--log", f"{data}/../log", "restart"
        )
        holder.run("COMMIT")
    result = run.result()
    assert result.success, failure(result)
    assert retries(result, LOAD_OP) >= 1
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


def test_a_server_out_of_connections_is_retried(
    separate_warehouse: tuple[Path, Server, Platform], figures: Callable[..., None]
) -> None:
    home, server, platform = separate_warehouse
    with ExitStack() as connections:
        with pytest.raises(DatabaseUnavailableError, match="53300"):
            while True:
                connections.enter_context(connect(server.url()))
        log = postgres.data_folder(home) / "log"
        run = BackgroundRun(platform)
        until(lambda: log.read_text().count("too many clients already") > 1)
    result = run.result()
    assert result.success, failure(result)
    assert retries(result, LOAD_OP) >= 1
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


@pytest.fixture
def small_disk(separate_warehouse: tuple[Path, Server, Platform]) -> Iterator[Path]:
    """A folder of the server on a disk of 24 MB."""
    folder = postgres.data_folder(separate_warehouse[0]) / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    shutil.chown(folder, folder.with_name("data").owner())
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_warehouse_out_of_disk_space_fails_the_run_and_loses_nothing(
    separate_warehouse: tuple[Path, Server, Platform], small_disk: Path, figures: Callable[..., None]
) -> None:
    _, server, platform = separate_warehouse
    with connect(server.url()) as connection:
        connection.run(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        connection.run("ALTER DATABASE warehouse SET TABLESPACE small")
    before = platform.contents()
    platform.totesys(MANY_ORDERS)
    result = platform.run(raise_on_error=False)
    assert not result.success
    assert "No space left on device [SQLSTATE 53100]" in failure(result)
    assert retries(result, LOAD_OP) == 3
    assert platform.contents() == before
    subprocess.run(["mount", "-o", "remount,size=500m", small_disk], check=True)
    platform.run("transformation", "warehouse")
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


def test_an_unreachable_database_fails_the_run_with_its_address(loaded: Platform, figures: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    loaded.environment.setenv("WAREHOUSE_DATABASE_URL", f"postgresql://etl:hunter2@127.0.0.1:{port}/warehouse")
    result = loaded.run(raise_on_error=False)
    assert f"no connection to PostgreSQL at 127.0.0.1:{port}" in failure(result)
    assert retries(result, LOAD_OP) == 3
    assert "hunter2" not in failure(result)
    figures(faults_tried=1, faults_survived=1)


@pytest.fixture
def over_s3(
    s3_bucket: str, s3_endpoint: str, totesys_url: str, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[S3Proxy, Platform]]:
    """A proxy in front of S3, and the platform that uses it, after a first load, with a change for the next one."""
    with s3_proxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_address[1]}")
        platform = Platform(totesys_url, warehouse_url, s3_bucket, monkeypatch)
        platform.refresh()
        platform.next_window()
        platform.totesys(EDIT)
        yield proxy, platform


def test_a_bucket_that_fails_at_random_loses_no_row(
    over_s3: tuple[S3Proxy, Platform], figures: Callable[..., None]
) -> None:
    proxy, platform = over_s3
    proxy.fault = random_faults(SEED, 0.15)
    platform.run(raise_on_error=False)  # which may fail, like those that follow
    while proxy.faults < 40:
        platform.next_window()
        platform.totesys(EDIT)
        with suppress(Exception):
            platform.refresh()
    proxy.fault = None
    platform.next_window()
    processes.catch_up(platform)
    platform.refresh()
    assert_warehouse_equals_totesys(platform)
    assert_history_is_exact(platform)
    figures(faults_tried=proxy.faults, faults_survived=proxy.faults)


def test_a_slow_bucket_is_waited_for(over_s3: tuple[S3Proxy, Platform], figures: Callable[..., None]) -> None:
    proxy, platform = over_s3

    def slow(_: Request) -> bool:
        sleep(0.1)
        return False

    proxy.fault = slow
    platform.run()
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [("PUT", 403, "AccessDenied"), ("GET", 403, "AccessDenied"), ("GET", 404, "NoSuchBucket")],
)
def test_a_bucket_that_refuses_fails_the_run_without_retry_and_is_named(
    method: str, status: int, code: str, over_s3: tuple[S3Proxy, Platform], figures: Callable[..., None]
) -> None:
    proxy, platform = over_s3
    before = platform.contents()
    proxy.fault = lambda request: request.command == method and request.refuse(status, code)
    result = platform.run(raise_on_error=False)
    assert not result.success
    assert retries(result, CAPTURE_OP) == 0
    assert f"bucket {platform.ingestion_url.split('/')[2]}: An error occurred ({code})" in failure(result)
    proxy.fault = None
    assert platform.contents() == before
    platform.run()
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


def test_expired_credentials_are_retried_then_named(
    over_s3: tuple[S3Proxy, Platform], figures: Callable[..., None]
) -> None:
    proxy, platform = over_s3
    proxy.fault = for_seconds(4, lambda request: request.refuse(400, "ExpiredToken"))
    result = platform.run(raise_on_error=False)
    assert result.success, failure(result)
    assert proxy.faults
    assert_warehouse_equals_totesys(platform)
    platform.next_window()
    proxy.fault = lambda request: request.refuse(400, "ExpiredToken")
    result = platform.run(raise_on_error=False)
    assert "ExpiredToken" in failure(result)
    assert retries(result, CAPTURE_OP) == 3
    figures(faults_tried=2, faults_survived=2)


PASSWORD = "correct-horse-battery-staple"


def test_no_message_log_or_event_contains_a_password(
    platform: Platform, tmp_path: Path, capfd: pytest.CaptureFixture[str], figures: Callable[..., None]
) -> None:
    home = tmp_path / "locked"
    with postgres.serve(home) as server:
        with connect(server.create_database("warehouse")) as connection:
            connection.run(f"CREATE ROLE etl LOGIN PASSWORD '{PASSWORD}'")
            connection.run("GRANT ALL ON DATABASE warehouse TO etl")
        hba = postgres.data_folder(home) / "data" / "pg_hba.conf"
        hba.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        with connect(server.url()) as connection:
            connection.run("SELECT pg_reload_conf()")
        sleep(0.5)
        valid = f"postgresql://etl:{PASSWORD}@/warehouse?host={server.socket_folder}"
        texts: list[str] = []
        folder = tmp_path / "instance"
        folder.mkdir()
        with dg.instance_for_test(temp_dir=str(folder)) as instance:
            invalid = (
                valid.replace(PASSWORD, f"{PASSWORD}-wrong"),
                valid.replace("/warehouse?", "/nothing?"),
                valid.replace("host=", "host=/nowhere&sslmode=never&x="),
                f"postgresql://etl:{PASSWORD}@127.0.0.1:1/warehouse?lock_timeout=never",
                f"mysql://etl:{PASSWORD}@h/d",
            )
            platform.environment.setenv("WAREHOUSE_DATABASE_URL", valid)
            for url in (*invalid, platform.totesys_url):
                platform.environment.setenv("TOTESYS_DATABASE_URL", url)
                result = platform.run(raise_on_error=False, instance=instance)
                assert result.success == (url not in invalid)
                texts += [failure(result), *map(repr, result.all_events)]
            for url in invalid:
                platform.environment.setenv("WAREHOUSE_DATABASE_URL", url)
                result = platform.run("warehouse", raise_on_error=False, instance=instance)
                assert not result.success
                texts += [failure(result), *map(repr, result.all_events)]
            stored = [path for path in folder.rglob("*") if path.is_file()]
            assert any(b"warehouse" in path.read_bytes() for path in stored)
            assert not [path for path in stored if PASSWORD.encode() in path.read_bytes()]
    postgres.remove(home)
    out, err = capfd.readouterr()
    assert any("password authentication failed" in text for text in texts)
    assert not [text for text in (*texts, out, err) if PASSWORD in text]
    figures(faults_tried=2 * len(invalid), faults_survived=2 * len(invalid))


def test_a_refused_part_of_a_large_object_is_a_permanent_error(
    over_s3: tuple[S3Proxy, Platform], figures: Callable[..., None]
) -> None:
    proxy, platform = over_s3
    proxy.fault = lambda request: request.command == "PUT" and request.refuse(403, "AccessDenied")
    bucket = Bucket(platform.ingestion_url)
    with pytest.raises(BucketRefusedError, match="AccessDenied"), bucket.create("large/object") as new:
        new.write(b"x" * 9 * 2**20)
    assert bucket.objects("large") == []
    figures(faults_tried=1, faults_survived=1)
