"""The whole flow, from totesys to the warehouse."""

from typing import Any

import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.manifest import partition_folder
from etl_assets.simulator.activity import Totesys
from etl_assets.simulator.postgres import Server
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys, failed_checks, snapshot_of
from etl_assets_tests.pipeline import FACTS


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
    platform.refresh()
    assert_only_loads_changed(before, platform.contents())
    with connect(platform.totesys_url) as connection:
        totesys = Totesys(connection, seed=7)
        for _ in range(10):
            for table in ("sales_order", "purchase_order", "design"):
                totesys.edit_silently(table)
    platform.next_window()
    platform.run()
    assert_warehouse_equals_totesys(platform)


@pytest.mark.parametrize("source", ["simulated", "real"])
def test_silent_edits_late_commits_and_joined_changes_are_loaded_as_exact_versions(
    source: str,
    server: Server,
    warehouse_url: str,
    bucket_url: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    platform = Platform(snapshot_of(source, server, request), warehouse_url, bucket_url, monkeypatch)
    platform.refresh()
    assert_warehouse_equals_totesys(platform)
    first = platform.contents()
    if source == "real":
        assert {name: count for name, count in platform.row_counts().items() if name != "dim_date"} == REAL_COUNTS

    with connect(platform.totesys_url) as late:
        late.run("BEGIN")
        late.run("SAVEPOINT nested")
        [[late_order]] = late.run(
            "UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id = 11 RETURNING sales_order_id"
        )
        late.run("RELEASE SAVEPOINT nested")
        platform.next_window()
        platform.refresh()
        assert_only_loads_changed(first, platform.contents())
        late.run("COMMIT")

    edited: dict[str, set[int]] = {"sales_order": {late_order}, "purchase_order": set(), "design": set()}
    for number in range(99):
        table, column = (("sales_order", "units_sold"), ("purchase_order", "item_quantity"), ("design", "file_name"))[
            number % 3
        ]
        change = f"{column} + 1" if column != "file_name" else f"{column} || '~'"
        key = number // 3 % 12 + 12
        platform.totesys(f"UPDATE {table} SET {column} = {change} WHERE {table}_id = {key}")
        edited[table].add(key)
    platform.totesys("UPDATE department SET department_name = 'Vending' WHERE department_id = 3")
    platform.next_window()
    platform.refresh()
    assert_warehouse_equals_totesys(platform)

    second = platform.contents()
    for fact in (star.name for star in FACTS):
        assert set(first[fact]) <= set(second[fact]), "an earlier version is lost"
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


def assert_only_loads_changed(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert {name for name in before if after[name] != before[name]} <= {"loads"}


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


def test_text_money_times_and_nulls_are_loaded_exactly(platform: Platform) -> None:
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
    platform.refresh()
    assert_warehouse_equals_totesys(platform)
    loaded = platform.warehouse(
        "SELECT address_line_1 FROM warehouse.dim_location ORDER BY location_id LIMIT :n", n=len(TEXTS)
    )
    assert [text for [text] in loaded] == list(TEXTS)
    [[price, created]] = platform.warehouse(
        "SELECT unit_price::text, created_time::text FROM warehouse.fact_sales_order WHERE sales_order_id = 1"
    )
    assert (price, created) == ("0.10", "23:59:59.999")


def test_rows_that_cannot_be_cast_are_quarantined_and_loaded_once_corrected(platform: Platform) -> None:
    platform.totesys("UPDATE sales_order SET agreed_payment_date = 'tomorrow' WHERE sales_order_id = 5")
    platform.totesys("UPDATE purchase_order SET created_at = 'infinity' WHERE purchase_order_id = 6")
    platform.totesys("UPDATE payment SET payment_amount = 'NaN' WHERE payment_id = 7")
    result = platform.run()
    facts = {star.name for star in FACTS}
    transformed = failed_checks(result, "transformation", "no_rejected_rows")
    assert {name: metadata["rejected"] for name, metadata in transformed.items()} == dict.fromkeys(facts, 1)
    loaded = failed_checks(result, "warehouse", "no_rejected_rows")
    counts = {name: (metadata["newly_quarantined"], metadata["quarantined"]) for name, metadata in loaded.items()}
    assert counts == dict.fromkeys(facts, (1, 1))
    assert loaded["fact_sales_order"]["first"] == [
        {
            "table": "fact_sales_order",
            "key": '{"sales_order_id": 5}',
            "column": "agreed_payment_date",
            "value": "tomorrow",
            "reason": "cannot be cast to date32[day]",
        }
    ]
    assert loaded["fact_purchase_order"]["first"][0]["value"] == "infinity"
    assert loaded["fact_payment"]["first"][0]["value"] == "NaN"
    folder = partition_folder("rejected/fact_sales_order", platform.partition)
    assert len(Bucket(platform.transformation_url).objects(folder)) == 1
    assert platform.row_counts()["fact_sales_order"] == platform.totesys("SELECT count(*) - 1 FROM sales_order")[0][0]

    platform.totesys("UPDATE sales_order SET agreed_payment_date = '2024-09-01' WHERE sales_order_id = 5")
    platform.totesys("UPDATE purchase_order SET created_at = '2024-08-01' WHERE purchase_order_id = 6")
    platform.totesys("UPDATE payment SET payment_amount = 1.10 WHERE payment_id = 7")
    platform.next_window()
    assert all(evaluation.passed for evaluation in platform.run().get_asset_check_evaluations())
    assert_warehouse_equals_totesys(platform)


def test_captures_of_one_window_are_loaded_in_order(platform: Platform) -> None:
    platform.refresh()
    for units in (1, 2, 1):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 3", units=units)
        platform.totesys("UPDATE design SET design_name = :name WHERE design_id = 3", name=f"design {units}")
        platform.refresh("ingestion")
    platform.refresh("transformation", "warehouse")
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
        platform.refresh()
        partitions.append(platform.partition)
        platform.next_window()
    before = platform.contents()
    for partition in (partitions[2], partitions[0], partitions[3], partitions[1], partitions[1]):
        platform.refresh("transformation", "warehouse", partition=partition)
        assert platform.contents() == before
