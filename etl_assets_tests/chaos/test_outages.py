"""Servers down, slow, restarted, full, locked or refusing: retried where it can help, then failed in plain words."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

import dagster as dg
import pytest

from etl_assets.buckets import Bucket, BucketRefusedError
from etl_assets.databases import Connection, DatabaseUnavailableError, connect
from etl_assets.simulator import postgres
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED
from etl_assets_tests.chaos.faults import Request, Street, Wire, now_and_then, street
from etl_assets_tests.chaos.history import assert_history_is_exact
from etl_assets_tests.platform import Platform, failure, until
from etl_assets_tests.test_etl import assert_warehouse_equals_totesys

pytestmark = pytest.mark.chaos

MANY_ORDERS = """
    INSERT INTO sales_order
    SELECT (jsonb_populate_record(sales_order, jsonb_build_object('sales_order_id', number))).*
    FROM sales_order, generate_series(100001, 200000) AS number WHERE sales_order_id = 1"""
EDIT = "UPDATE sales_order SET units_sold = units_sold + 1"


def retries(result: dg.ExecuteInProcessResult, step: str) -> int:
    return sum(event.is_step_up_for_retry and event.step_key == step for event in result.all_events)


class Running:
    """A run in a thread, and its result."""

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
    """The processes of the platform that wait for a lock in a database."""
    with connect(url) as connection:
        rows = connection.run(
            """SELECT pid FROM pg_stat_activity WHERE datname = current_database()
               AND application_name = 'etl_assets' AND wait_event_type = 'Lock'"""
        )
    return [pid for [pid] in rows]


@contextmanager
def locked(url: str, table: str) -> Iterator[Connection]:
    """Hold a table so that nobody can read it."""
    with connect(f"{url}&application_name=holder") as holder:
        holder.run("BEGIN")
        holder.run(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield holder


@pytest.fixture
def loaded(quiet: Platform) -> Platform:
    """The platform after a first run, with a change that the next will bring."""
    quiet.run()
    quiet.next_window()
    quiet.totesys(EDIT)
    return quiet


SIDES = pytest.mark.parametrize(
    ("side", "table", "step"),
    [("totesys", "payment", "ingestion"), ("warehouse", "warehouse.fact_sales_order", "warehouse")],
)


def through(platform: Platform, side: str, wire: Wire, timeouts: str = "") -> None:
    """Let the platform reach a database over a wire."""
    database = urlsplit(getattr(platform, f"{side}_url")).path.lstrip("/")
    url = f"postgresql://postgres@127.0.0.1:{wire.port}/{database}?sslmode=disable{timeouts}"
    platform.environment.setenv(f"{side.upper()}_DATABASE_URL", url)


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    made = Wire(f"{server.socket_folder}/.s.PGSQL.5432")
    yield made
    made.close()


@SIDES
@pytest.mark.parametrize("answered", [1, 5_000, 12_000])
def test_a_connection_cut_in_the_middle_is_made_again(
    side: str, table: str, step: str, answered: int, loaded: Platform, wire: Wire, figures: Callable[..., None]
) -> None:
    through(loaded, side, wire)
    wire.cut_once_after(answered if side == "totesys" else answered // 8)
    result = loaded.run(raise_on_error=False)
    assert result.success, failure(result)
    assert (wire.cuts, retries(result, step)) == (1, 1)
    assert_warehouse_equals_totesys(loaded)
    assert_history_is_exact(loaded)
    figures(faults_tried=1, faults_survived=1)


@SIDES
@pytest.mark.parametrize("while_connecting", [True, False])
def test_a_server_that_says_nothing_is_given_up_in_time_and_asked_again(
    side: str, table: str, step: str, while_connecting: bool, loaded: Platform, wire: Wire, figures: Callable[..., None]
) -> None:
    limits = "connect_timeout=2&statement_timeout=1&lock_timeout=1&idle_in_transaction_session_timeout=1"
    through(loaded, side, wire, f"&{limits}")
    wire.hang_once_after(0 if while_connecting else 14_000 if side == "totesys" else 1_500)
    result = Running(loaded).result(seconds=60)
    assert result.success, failure(result)
    assert wire.hangs == 1
    assert retries(result, step) >= 1
    assert_warehouse_equals_totesys(loaded)
    figures(faults_tried=1, faults_survived=1)


@SIDES
def test_a_statement_that_is_cancelled_is_tried_again(
    side: str, table: str, step: str, loaded: Platform, figures: Callable[..., None]
) -> None:
    url = getattr(loaded, f"{side}_url")
    with locked(url, table) as holder:
        run = Running(loaded)
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


@SIDES
def test_a_table_that_stays_locked_fails_the_run_in_plain_words_and_loses_nothing(
    side: str, table: str, step: str, loaded: Platform, figures: Callable[..., None]
) -> None:
    url = getattr(loaded, f"{side}_url")
    before = loaded.contents()
    loaded.environment.setenv(f"{side.upper()}_DATABASE_URL", f"{url}&lock_timeout=1")
    with locked(url, table) as holder:
        result = loaded.run(raise_on_error=False)
        holder.run("COMMIT")
    assert not result.success
    assert retries(result, step) == 3
    message = failure(result)
    assert "canceling statement due to lock timeout" in message
    assert ("LOCK TABLE" if side == "totesys" else "fact_sales_order") in message
    assert loaded.contents() == before
    loaded.run(*(["transformation", "warehouse"] if side == "warehouse" else []))
    assert_warehouse_equals_totesys(loaded)
    figures(faults_tried=1, faults_survived=1)


@pytest.fixture
def own(quiet: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Server, Platform]]:
    """A warehouse on a server of its own, loaded once."""
    home = tmp_path / "own"
    with postgres.serve(home, max_connections="12", superuser_reserved_connections="0") as server:
        url = server.create_database("warehouse")
        platform = Platform(quiet.totesys_url, url, quiet.buckets_url, monkeypatch)
        platform.run()
        platform.next_window()
        platform.totesys(EDIT)
        yield home, server, platform
    postgres.remove(home)


def test_a_server_restarted_in_the_middle_of_a_load_is_waited_for(
    own: tuple[Path, Server, Platform], figures: Callable[..., None]
) -> None:
    home, _, platform = own
    with (
        pytest.raises(DatabaseUnavailableError),
        locked(platform.warehouse_url, "warehouse.fact_sales_order") as holder,
    ):
        run = Running(platform)
        until(lambda: waiting_for_a_lock(platform.warehouse_url))
        data = str(postgres.data_folder(home) / "data")
        postgres.run(
            home, "pg_ctl", "--pgdata", data, "--wait", "--mode=immediate", "--log", f"{data}/../log", "restart"
        )
        holder.run("COMMIT")
    result = run.result()
    assert result.success, failure(result)
    assert retries(result, "warehouse") >= 1
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


def test_a_server_out_of_connections_is_asked_again(
    own: tuple[Path, Server, Platform], figures: Callable[..., None]
) -> None:
    _, server, platform = own
    with ExitStack() as taken:
        with pytest.raises(DatabaseUnavailableError, match="53300"):
            while True:
                taken.enter_context(connect(server.url()))
        run = Running(platform)
        sleep(6)
    result = run.result()
    assert result.success, failure(result)
    assert retries(result, "warehouse") >= 1
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


@pytest.fixture
def small_disk(own: tuple[Path, Server, Platform]) -> Iterator[Path]:
    """A folder of the server on a disk of 24 MB."""
    folder = postgres.data_folder(own[0]) / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted here by nobody but root")
    shutil.chown(folder, folder.with_name("data").owner())
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_warehouse_out_of_disk_fails_the_run_in_plain_words_and_loses_nothing(
    own: tuple[Path, Server, Platform], small_disk: Path, figures: Callable[..., None]
) -> None:
    _, server, platform = own
    with connect(server.url()) as connection:
        connection.run(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        connection.run("ALTER DATABASE warehouse SET TABLESPACE small")
    before = platform.contents()
    platform.totesys(MANY_ORDERS)
    result = platform.run(raise_on_error=False)
    assert not result.success
    assert "No space left on device [SQLSTATE 53100]" in failure(result)
    assert retries(result, "warehouse") == 3
    assert platform.contents() == before
    subprocess.run(["mount", "-o", "remount,size=500m", small_disk], check=True)
    platform.run("transformation", "warehouse")
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


def test_a_database_that_is_gone_fails_the_run_with_where_it_should_be(
    loaded: Platform, figures: Callable[..., None]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    loaded.environment.setenv("WAREHOUSE_DATABASE_URL", f"postgresql://etl:hunter2@127.0.0.1:{port}/warehouse")
    result = loaded.run(raise_on_error=False)
    assert f"no connection to PostgreSQL at 127.0.0.1:{port}" in failure(result)
    assert retries(result, "warehouse") == 3
    assert "hunter2" not in failure(result)
    figures(faults_tried=1, faults_survived=1)


@pytest.fixture
def way(
    s3_bucket: str, s3_endpoint: str, totesys_url: str, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Street, Platform]]:
    """The platform over S3, and the way there."""
    with street(s3_endpoint) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server_address[1]}")
        platform = Platform(totesys_url, warehouse_url, s3_bucket, monkeypatch)
        platform.run()
        platform.next_window()
        platform.totesys(EDIT)
        yield made, platform


def test_a_bucket_that_fails_at_random_costs_time_and_no_row(
    way: tuple[Street, Platform], figures: Callable[..., None]
) -> None:
    made, platform = way
    made.fault = now_and_then(SEED, 0.15)
    succeeded = 0
    for _ in range(4):
        result = platform.run(raise_on_error=False)
        succeeded += result.success
        platform.next_window()
        platform.totesys(EDIT)
    made.fault = None
    platform.run()
    assert_warehouse_equals_totesys(platform)
    assert_history_is_exact(platform)
    assert made.faults > 20
    assert succeeded, "no run came through"
    figures(faults_tried=made.faults, faults_survived=made.faults)


def test_a_slow_bucket_is_waited_for(way: tuple[Street, Platform], figures: Callable[..., None]) -> None:
    made, platform = way

    def slow(_: Request) -> bool:
        sleep(0.1)
        return False

    made.fault = slow
    platform.run()
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [("PUT", 403, "AccessDenied"), ("GET", 403, "AccessDenied"), ("GET", 404, "NoSuchBucket")],
)
def test_a_bucket_that_refuses_fails_the_run_at_once_and_is_named(
    method: str, status: int, code: str, way: tuple[Street, Platform], figures: Callable[..., None]
) -> None:
    made, platform = way
    before = platform.contents()
    made.fault = lambda request: request.command == method and request.refuse(status, code)
    result = platform.run(raise_on_error=False)
    assert not result.success
    assert retries(result, "ingestion") == 0
    assert f"bucket {platform.ingestion_url.split('/')[2]}: An error occurred ({code})" in failure(result)
    made.fault = None
    assert platform.contents() == before
    platform.run()
    assert_warehouse_equals_totesys(platform)
    figures(faults_tried=1, faults_survived=1)


def test_expired_credentials_are_tried_again_and_then_named(
    way: tuple[Street, Platform], figures: Callable[..., None]
) -> None:
    made, platform = way
    until_then = monotonic() + 4
    made.fault = lambda request: monotonic() < until_then and request.refuse(400, "ExpiredToken")
    result = platform.run(raise_on_error=False)
    assert result.success, failure(result)
    assert made.faults
    assert_warehouse_equals_totesys(platform)
    platform.next_window()
    made.fault = lambda request: request.refuse(400, "ExpiredToken")
    result = platform.run(raise_on_error=False)
    assert "ExpiredToken" in failure(result)
    assert retries(result, "ingestion") == 3
    figures(faults_tried=2, faults_survived=2)


PASSWORD = "correct-horse-battery-staple"


def test_no_password_is_in_any_message_log_event_or_metadata(
    quiet: Platform, tmp_path: Path, capfd: pytest.CaptureFixture[str], figures: Callable[..., None]
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
        good = f"postgresql://etl:{PASSWORD}@/warehouse?host={server.socket_folder}"
        shown: list[str] = []
        instance = tmp_path / "instance"
        instance.mkdir()
        with dg.instance_for_test(temp_dir=str(instance)) as made:
            bad = (
                good.replace(PASSWORD, f"{PASSWORD}-wrong"),
                good.replace("/warehouse?", "/nothing?"),
                good.replace("host=", "host=/nowhere&sslmode=never&x="),
                f"postgresql://etl:{PASSWORD}@127.0.0.1:1/warehouse?lock_timeout=never",
                f"mysql://etl:{PASSWORD}@h/d",
            )
            quiet.environment.setenv("WAREHOUSE_DATABASE_URL", good)
            for totesys in (*bad, quiet.totesys_url):
                quiet.environment.setenv("TOTESYS_DATABASE_URL", totesys)
                result = quiet.run(raise_on_error=False, instance=made)
                assert result.success == (totesys not in bad)
                shown += [failure(result), *map(repr, result.all_events)]
            for warehouse in bad:
                quiet.environment.setenv("WAREHOUSE_DATABASE_URL", warehouse)
                result = quiet.run("warehouse", raise_on_error=False, instance=made)
                assert not result.success
                shown += [failure(result), *map(repr, result.all_events)]
            stored = [path for path in instance.rglob("*") if path.is_file()]
            assert any(b"warehouse" in path.read_bytes() for path in stored)
            assert not [path for path in stored if PASSWORD.encode() in path.read_bytes()]
    postgres.remove(home)
    out, err = capfd.readouterr()
    assert any("password authentication failed" in text for text in shown)
    assert not [text for text in (*shown, out, err) if PASSWORD in text]
    figures(faults_tried=2 * len(bad), faults_survived=2 * len(bad))


def test_a_part_of_a_large_object_that_is_refused_is_refused_for_good(
    way: tuple[Street, Platform], figures: Callable[..., None]
) -> None:
    made, platform = way
    made.fault = lambda request: request.command == "PUT" and request.refuse(403, "AccessDenied")
    bucket = Bucket(platform.ingestion_url)
    with pytest.raises(BucketRefusedError, match="AccessDenied"), bucket.create("large/object") as new:
        new.write(b"x" * 9 * 2**20)
    assert bucket.objects("large") == []
    figures(faults_tried=1, faults_survived=1)
