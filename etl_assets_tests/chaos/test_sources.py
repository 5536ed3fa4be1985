"""Faults of the source: its transaction ids wrap around, and it is replaced by a restored dump."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl_assets.adapters.postgres import connect
from etl_assets.simulator import postgres
from etl_assets_tests.chaos.history import all_captures, assert_history_is_exact, create_totesys
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys
from etl_assets_tests.pipeline import FACTS

pytestmark = pytest.mark.chaos

TRANSACTIONS_PER_SEGMENT = 2**20


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The folder of a separate cluster."""
    yield tmp_path / "cluster"
    postgres.remove(tmp_path / "cluster")


def freeze(server: postgres.Server) -> None:
    with connect(server.url()) as connection:
        connection.run("UPDATE pg_database SET datallowconn = true")
        databases = [name for [name] in connection.run("SELECT datname::text FROM pg_database")]
    for name in databases:
        with connect(server.url(name)) as connection:
            connection.run("VACUUM FREEZE")


def set_next_transaction_id(home: Path, xid: int) -> None:
    data = postgres.data_folder(home) / "data"
    segment = data / "pg_xact" / f"{xid // TRANSACTIONS_PER_SEGMENT:04X}"
    segment.write_bytes(bytes(TRANSACTIONS_PER_SEGMENT // 4))
    shutil.chown(segment, data.owner())
    postgres.run(home, "pg_resetwal", "--pgdata", str(data), f"--next-transaction-id={xid}")


def test_a_wraparound_of_transaction_ids_loses_no_change(
    home: Path, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch, figures: Callable[..., None]
) -> None:
    with postgres.serve(home) as server:
        create_totesys(server, "totesys")
        freeze(server)
    # Each step is less than 2**31 transactions and freezes all rows: otherwise older rows would be in the future.
    for target in (1_400_000_000, 2_800_000_000, 2**32 - 400):
        set_next_transaction_id(home, target)
        with postgres.serve(home) as server:
            freeze(server)

    with postgres.serve(home) as server:
        platform = Platform(server.url("totesys"), warehouse_url, bucket_url, monkeypatch)
        platform.run()
        assert platform.latest_capture.horizon < 2**32
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
        captures = all_captures(platform)
        assert captures[0].horizon < 2**32 < captures[-1].horizon
        assert sum(capture.full for capture in captures) == 2
        assert_warehouse_equals_totesys(platform)
        versions = assert_history_is_exact(platform).versions
        figures(faults_tried=1, faults_survived=1, captures=len(captures), versions_checked=versions)


def test_a_dump_restored_into_a_new_cluster_loses_and_duplicates_nothing(
    home: Path, platform: Platform, figures: Callable[..., None]
) -> None:
    platform.run()
    platform.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    platform.next_window()
    platform.run()
    before = platform.contents()
    platform.totesys("UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 2")  # in the dump, not captured
    with postgres.serve(home) as server:
        url = server.create_database("restored")
        dump = f"{postgres.data_folder(home)}/dump.sql"
        postgres.run(home, "pg_dump", "--file", dump, "--dbname", libpq(platform.totesys_url))
        postgres.run(home, "psql", "--quiet", "--set=ON_ERROR_STOP=1", "--file", dump, "--dbname", libpq(url))
        restored = Platform(url, platform.warehouse_url, platform.buckets_url, platform.environment)
        restored.now = platform.now
        restored.next_window()
        restored.totesys("DELETE FROM payment WHERE payment_id = 3")
        restored.totesys("UPDATE sales_order SET units_sold = 3 WHERE sales_order_id = 3")
        restored.run()
        assert "another server" in (restored.latest_capture.full_because or "")
        assert_warehouse_equals_totesys(restored)
        after = restored.contents()
        new = {
            fact: sorted((row[0], row[-1]) for row in set(after[fact]) - set(before[fact]))
            for fact in (star.name for star in FACTS)
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
        assert not restored.latest_capture.full
        assert_warehouse_equals_totesys(restored)
    figures(faults_tried=1, faults_survived=1)


def libpq(url: str) -> str:
    """Return a URL of pg8000 as libpq reads it."""
    return url.replace("postgresql://postgres@/", "postgresql:///").replace("?", "?user=postgres&")
