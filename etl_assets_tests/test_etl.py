"""From totesys to the warehouse: what the platform is for."""

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from etl_assets.buckets import Bucket
from etl_assets.captures import folder
from etl_assets.databases import Connection, connect, csv_chunks, quoted
from etl_assets.simulator.activity import Totesys
from etl_assets.simulator.postgres import Server
from etl_assets.tables import referenced_first
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.conftest import fresh
from etl_assets_tests.oracle import CURRENT_STATE, DATES
from etl_assets_tests.platform import Platform, failed_checks

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


def snapshot_of(name: str, server: Server, request: pytest.FixtureRequest) -> str:
    """A database with a month of the simulated totesys, or with the real snapshot."""
    if name == "simulated":
        return fresh(server, request.getfixturevalue("busy_totesys"))
    if not SNAPSHOT:
        pytest.skip("TOTESYS_SNAPSHOT names no folder with a real snapshot of totesys")
    url = fresh(server, request.getfixturevalue("empty_totesys"))
    with connect(url) as connection:
        load_snapshot(connection, Path(SNAPSHOT))
    return url


@pytest.mark.parametrize("source", ["simulated", "real"])
def test_silent_edits_late_commits_and_joined_changes_arrive_as_exactly_those_versions(
    source: str,
    server: Server,
    warehouse_url: str,
    bucket_url: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    platform = Platform(snapshot_of(source, server, request), warehouse_url, bucket_url, monkeypatch)
    platform.run()
    assert_warehouse_equals_totesys(platform)
    first = platform.contents()
    if source == "real":
        assert {name: count for name, count in platform.versions().items() if name != "dim_date"} == REAL_COUNTS

    with connect(platform.totesys_url) as late:
        late.run("BEGIN")
        late.run("SAVEPOINT inner_one")
        [[late_order]] = late.run(
            "UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id = 11 RETURNING sales_order_id"
        )
        late.run("RELEASE SAVEPOINT inner_one")
        platform.next_window()
        platform.run()
        assert_nothing_but_loads_changed(first, platform.contents())
        late.run("COMMIT")

    edited: dict[str, set[int]] = {"sales_order": {late_order}, "purchase_order": set(), "design": set()}
    for number in range(99):
        table, column = (
            ("sales_order", "units_sold"),
            ("purchase_order", "item_quantity"),
            ("design", "file_name"),
        )[number % 3]
        change = f"{column} + 1" if column != "file_name" else f"{column} || '~'"
        key = number // 3 % 12 + 12
        platform.totesys(f"UPDATE {table} SET {column} = {change} WHERE {table}_id = {key}")
        edited[table].add(key)
    platform.totesys("UPDATE department SET department_name = 'Vending' WHERE department_id = 3")
    platform.next_window()
    platform.run()
    assert_warehouse_equals_totesys(platform)

    second = platform.contents()
    for fact in ("fact_sales_order", "fact_purchase_order", "fact_payment"):
        assert set(first[fact]) <= set(second[fact]), "an earlier version is gone"
        new = {row[0] for row in set(second[fact]) - set(first[fact])}
        assert new == edited.get(fact.removeprefix("fact_"), set())
        assert len(second[fact]) == len(first[fact]) + len(new)
    assert {row[0] for row in set(second["dim_design"]) - set(first["dim_design"])} == edited["design"]
    members = platform.totesys("SELECT count(*) FROM staff WHERE department_id = 3")
    assert platform.warehouse("SELECT count(*) FROM warehouse.dim_staff WHERE department_name = 'Vending'") == members


REAL_COUNTS = {
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


def assert_nothing_but_loads_changed(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name in before:
        if name != "loads":
            assert after[name] == before[name], name


TEXTS = (
    "plain",
    "comma, and more",
    'a "quoted" word',
    "two\nlines",
    "dos\r\nlines",
    "\r\n",
    "\\N",
    "NULL",
    "null",
    "00123",
    "",
    " spaces ",
    "tab\there",
    "tote 👜 bag",
    "'; DROP TABLE staff --",
    "\\.",
    "\ufeffmark",
    "é́",
)


def test_text_money_times_and_nulls_survive(platform: Platform) -> None:
    with connect(platform.totesys_url) as connection:
        for number, text in enumerate(TEXTS, 1):
            connection.run(
                """UPDATE address SET address_line_1 = :text, address_line_2 = :maybe, district = :district
                   WHERE address_id = :key""",
                text=text,
                maybe=text if number % 2 else None,
                district=None if number % 2 else text,
                key=number,
            )
        connection.run("UPDATE sales_order SET unit_price = 99999999.99, created_at = '2024-08-01 10:00:00.000'")
        connection.run(
            "UPDATE sales_order SET unit_price = 0.10, created_at = '1999-12-31 23:59:59.999' WHERE sales_order_id = 1"
        )
        connection.run("UPDATE transaction SET sales_order_id = NULL WHERE sales_order_id = 2")
    platform.run()
    assert_warehouse_equals_totesys(platform)
    loaded = platform.warehouse(
        "SELECT address_line_1 FROM warehouse.dim_location ORDER BY location_id LIMIT :n", n=len(TEXTS)
    )
    assert [text for [text] in loaded] == list(TEXTS)
    [[price, created]] = platform.warehouse(
        "SELECT unit_price::text, created_time::text FROM warehouse.fact_sales_order WHERE sales_order_id = 1"
    )
    assert (price, created) == ("0.10", "23:59:59.999")


def test_rows_that_cannot_be_cast_are_set_apart_alerted_and_arrive_when_mended(platform: Platform) -> None:
    platform.totesys("UPDATE sales_order SET agreed_payment_date = 'tomorrow' WHERE sales_order_id = 5")
    platform.totesys("UPDATE purchase_order SET created_at = 'infinity' WHERE purchase_order_id = 6")
    platform.totesys("UPDATE payment SET payment_amount = 'NaN' WHERE payment_id = 7")
    result = platform.run()
    in_files = failed_checks(result, "transformation", "nothing_rejected")
    assert {name: made["rejected"] for name, made in in_files.items()} == {
        "fact_sales_order": 1,
        "fact_purchase_order": 1,
        "fact_payment": 1,
    }
    failed = {name: made["first"] for name, made in failed_checks(result, "warehouse", "nothing_rejected").items()}
    assert set(failed) == {"fact_sales_order", "fact_purchase_order", "fact_payment"}
    assert failed["fact_sales_order"] == [
        {
            "table": "fact_sales_order",
            "key": '{"sales_order_id": 5}',
            "column": "agreed_payment_date",
            "value": "tomorrow",
            "reason": "cannot be read as date32[day]",
        }
    ]
    assert failed["fact_purchase_order"][0]["value"] == "infinity"
    assert failed["fact_payment"][0]["value"] == "NaN"
    kept = Bucket(platform.transformation_url).objects(folder("rejected/fact_sales_order", platform.partition))
    assert len(kept) == 1
    counts = platform.versions()
    assert counts["fact_sales_order"] == platform.totesys("SELECT count(*) - 1 FROM sales_order")[0][0]

    platform.totesys("UPDATE sales_order SET agreed_payment_date = '2024-09-01' WHERE sales_order_id = 5")
    platform.totesys("UPDATE purchase_order SET created_at = '2024-08-01' WHERE purchase_order_id = 6")
    platform.totesys("UPDATE payment SET payment_amount = 1.10 WHERE payment_id = 7")
    platform.next_window()
    assert all(evaluation.passed for evaluation in platform.run().get_asset_check_evaluations())
    assert_warehouse_equals_totesys(platform)


def test_several_captures_of_one_window_are_loaded_in_their_order(platform: Platform) -> None:
    platform.run()
    for units in (1, 2, 1):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 3", units=units)
        platform.totesys("UPDATE design SET design_name = :name WHERE design_id = 3", name=f"design {units}")
        platform.run("ingestion")
    platform.run("transformation", "warehouse")
    assert_warehouse_equals_totesys(platform)
    history = platform.warehouse(
        "SELECT units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 3 ORDER BY captured_at"
    )
    assert [units for [units] in history][1:] == [1, 2, 1]


def test_replays_in_any_order_change_nothing(platform: Platform) -> None:
    partitions = []
    for units in (1, 2, 2, 1):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 3", units=units)
        platform.totesys("UPDATE department SET location = :place WHERE department_id = 1", place=f"place {units}")
        platform.run()
        partitions.append(platform.partition)
        platform.next_window()
    before = platform.contents()
    for partition in (partitions[2], partitions[0], partitions[3], partitions[1], partitions[1]):
        platform.run("transformation", "warehouse", partition=partition)
        assert platform.contents() == before


def load_snapshot(connection: Connection, folder: Path) -> None:
    for table in referenced_first(TOTESYS_TABLES):
        rows = pq.ParquetFile(folder / f"{table.name}.parquet").read()
        connection.copy_in(quoted(table.name), rows.column_names, csv_chunks(rows.to_batches()))
