"""From totesys to the warehouse: what the platform is for."""

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from etl_assets.databases import Connection, connect, csv_chunks, quoted
from etl_assets.simulator.activity import Totesys
from etl_assets.simulator.postgres import Server
from etl_assets.tables import referenced_first
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.conftest import fresh
from etl_assets_tests.oracle import CURRENT_STATE, DATES
from etl_assets_tests.platform import Platform

SNAPSHOT = os.environ.get("TOTESYS_SNAPSHOT", "")


def assert_warehouse_equals_totesys(platform: Platform) -> None:
    for star in STAR_TABLES:
        columns = ", ".join(map(quoted, star.columns.names))
        source = platform.totesys(CURRENT_STATE.get(star.name, DATES))
        current = f"{star.name}_current" if star.record_id else star.name
        loaded = platform.warehouse(f"SELECT {columns} FROM warehouse.{current}")
        assert sorted(map(repr, loaded)) == sorted(map(repr, source)), star.name
        assert source, star.name


@pytest.fixture(params=["file", "s3"])
def any_platform(
    request: pytest.FixtureRequest, totesys_url: str, warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> Platform:
    buckets = request.getfixturevalue("bucket_url" if request.param == "file" else "s3_bucket")
    return Platform(totesys_url, warehouse_url, buckets, monkeypatch)


def test_the_warehouse_equals_totesys_after_a_run_and_after_edits(any_platform: Platform) -> None:
    platform = any_platform
    platform.run()
    assert_warehouse_equals_totesys(platform)
    before = platform.contents()
    platform.run()
    assert {name: rows for name, rows in platform.contents().items() if name != "loads"} == {
        name: rows for name, rows in before.items() if name != "loads"
    }
    with connect(platform.totesys_url) as connection:
        totesys = Totesys(connection, seed=7)
        for _ in range(10):
            for table in ("sales_order", "purchase_order", "design"):
                totesys.edit_silently(table)
    platform.next_window()
    platform.run()
    assert_warehouse_equals_totesys(platform)


@pytest.mark.skipif(not SNAPSHOT, reason="TOTESYS_SNAPSHOT names no folder with a real snapshot of totesys")
def test_a_real_snapshot_arrives_exactly(
    server: Server, empty_totesys: str, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh(server, empty_totesys)
    with connect(url) as connection:
        load_snapshot(connection, Path(SNAPSHOT))
    platform = Platform(url, warehouse_url, bucket_url, monkeypatch)
    platform.run()
    assert_warehouse_equals_totesys(platform)
    assert platform.versions() | {"dim_date": 0} == {
        "dim_date": 0,
        "dim_staff": 20,
        "dim_location": 30,
        "dim_currency": 3,
        "dim_design": 424,
        "dim_counterparty": 20,
        "dim_payment_type": 4,
        "dim_transaction": 13_959,
        "fact_sales_order": 9_845,
        "fact_purchase_order": 4_114,
        "fact_payment": 13_959,
    }


def load_snapshot(connection: Connection, folder: Path) -> None:
    for table in referenced_first(TOTESYS_TABLES):
        rows = pq.ParquetFile(folder / f"{table.name}.parquet").read()
        connection.copy_in(quoted(table.name), rows.column_names, csv_chunks(rows.to_batches()))
