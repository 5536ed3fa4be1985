"""The source itself goes wrong: its transaction ids wrap around, it is replaced by a restored dump."""

import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest

from etl_assets.databases import connect
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets_tests.chaos import SEED
from etl_assets_tests.chaos.history import assert_history_is_exact, captures, watch
from etl_assets_tests.platform import Platform
from etl_assets_tests.test_etl import assert_warehouse_equals_totesys

pytestmark = pytest.mark.chaos

TRANSACTIONS_A_SEGMENT = 2**20


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Where a cluster of its own lies."""
    yield tmp_path / "cluster"
    postgres.remove(tmp_path / "cluster")


def fill(server: postgres.Server) -> str:
    """Make a watched totesys of three days on a server; give its URL."""
    url = server.create_database("totesys")
    with connect(url) as connection:
        create_schema(connection)
        Totesys(connection, seed=SEED).past(date(2024, 8, 19), date(2024, 8, 22))
        watch(connection)
    return url


def freeze(server: postgres.Server) -> None:
    with connect(server.url()) as connection:
        connection.run("UPDATE pg_database SET datallowconn = true")
        databases = [name for [name] in connection.run("SELECT datname::text FROM pg_database")]
    for name in databases:
        with connect(server.url(name)) as connection:
            connection.run("VACUUM FREEZE")


def set_next_transaction_id(home: Path, xid: int) -> None:
    data = postgres.data_folder(home) / "data"
    segment = data / "pg_xact" / f"{xid // TRANSACTIONS_A_SEGMENT:04X}"
    segment.write_bytes(bytes(TRANSACTIONS_A_SEGMENT // 4))
    shutil.chown(segment, data.owner())
    postgres.run(home, "pg_resetwal", "--pgdata", str(data), f"--next-transaction-id={xid}")


def test_captures_across_a_wraparound_of_transaction_ids_miss_nothing(
    home: Path,
    warehouse_url: str,
    bucket_url: str,
    monkeypatch: pytest.MonkeyPatch,
    figures: Callable[..., None],
) -> None:
    with postgres.serve(home) as server:
        fill(server)
        freeze(server)
    # Three steps, each less than half way round and with all rows frozen, or the rows of before would be of the future.
    for target in (1_400_000_000, 2_800_000_000, 2**32 - 400):
        set_next_transaction_id(home, target)
        with postgres.serve(home) as server:
            freeze(server)

    with postgres.serve(home) as server:
        platform = Platform(server.url("totesys"), warehouse_url, bucket_url, monkeypatch)
        platform.run()
        assert platform.newest_capture.horizon < 2**32
        with connect(platform.totesys_url) as late, connect(platform.totesys_url) as other:
            late.run("BEGIN")
            late.run("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
            assert late.run("SELECT pg_current_xact_id()::text::bigint < 4294967296") == [[True]]
            for number in range(12):
                for _ in range(40):
                    other.run("UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id = 2")
                other.run("UPDATE payment SET paid = NOT paid WHERE payment_id = :key", key=number + 1)
                platform.next_window()
                platform.run(full_capture=number == 9)
                if number == 10:
                    late.run("COMMIT")
            assert other.run("SELECT pg_current_xact_id()::text::bigint > 4294967296") == [[True]]
        made = captures(platform)
        assert made[0].horizon < 2**32 < made[-1].horizon
        assert [capture.full for capture in made].count(True) == 2
        assert_warehouse_equals_totesys(platform)
        versions = assert_history_is_exact(platform)
        figures(faults_tried=1, faults_survived=1, captures=len(made), versions_checked=versions)


def test_a_dump_restored_into_a_new_cluster_loses_nothing_and_doubles_nothing(
    home: Path, quiet: Platform, tmp_path: Path, figures: Callable[..., None]
) -> None:
    quiet.run()
    quiet.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    quiet.next_window()
    quiet.run()
    before = quiet.contents()
    quiet.totesys("UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 2")  # in the dump, not yet captured
    with postgres.serve(home) as server:
        url = server.create_database("restored")
        dump = f"{postgres.data_folder(home)}/dump.sql"
        postgres.run(home, "pg_dump", "--file", dump, "--dbname", libpq(quiet.totesys_url))
        postgres.run(home, "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--file", dump, "--dbname", libpq(url))
        restored = Platform(url, quiet.warehouse_url, quiet.buckets_url, quiet.environment)
        restored.now = quiet.now
        restored.next_window()
        restored.totesys("DELETE FROM payment WHERE payment_id = 3")
        restored.totesys("UPDATE sales_order SET units_sold = 3 WHERE sales_order_id = 3")
        restored.run()
        assert "another cluster" in (restored.newest_capture.full_because or "")
        assert_warehouse_equals_totesys(restored)
        after = restored.contents()
        new = {
            fact: sorted((row[0], row[-1]) for row in set(after[fact]) - set(before[fact]))
            for fact in ("fact_sales_order", "fact_purchase_order", "fact_payment")
        }
        assert new == {
            "fact_sales_order": [(2, False), (3, False)],
            "fact_purchase_order": [],
            "fact_payment": [(3, True)],
        }
        assert all(set(before[fact]) <= set(after[fact]) for fact in new)
        restored.next_window()
        restored.totesys("UPDATE sales_order SET units_sold = 4 WHERE sales_order_id = 4")
        restored.run()
        assert not restored.newest_capture.full
        assert_warehouse_equals_totesys(restored)
    figures(faults_tried=1, faults_survived=1)


def libpq(url: str) -> str:
    return url.replace("postgresql://postgres@/", "postgresql:///").replace("?", "?user=postgres&")
