"""Rows that cannot be loaded yet: kept, told of once, in the way of no other, and loaded when they can be."""

from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.databases import connect
from etl_assets.tables import columns
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.declare import star_table
from etl_assets_tests.platform import Platform, failed_checks
from etl_assets_tests.test_etl import assert_warehouse_equals_totesys

HISTORY = "SELECT currency_id, units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"


@pytest.fixture
def loaded(platform: Platform) -> Platform:
    """The platform after a first run, in the window after it."""
    platform.run()
    platform.next_window()
    return platform


@pytest.fixture
def unnamed(loaded: Platform) -> Platform:
    """The platform after order 1 was put in a currency that ISO 4217 does not know."""
    loaded.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
    loaded.totesys("UPDATE sales_order SET currency_id = 1, units_sold = 1 WHERE sales_order_id = 1")
    run(loaded)
    loaded.totesys("UPDATE sales_order SET currency_id = 9, units_sold = 2 WHERE sales_order_id = 1")
    loaded.totesys("UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 2")
    run(loaded)
    return loaded


def run(platform: Platform, **how: Any) -> dg.ExecuteInProcessResult:
    result = platform.run(**how)
    platform.next_window()
    return result


def told(result: dg.ExecuteInProcessResult) -> list[dict[str, Any]]:
    """What a run tells of for the first time."""
    return [row for check in failed_checks(result, "warehouse", "nothing_rejected").values() for row in check["first"]]


def outstanding(result: dg.ExecuteInProcessResult) -> dict[str, int]:
    checks = failed_checks(result, "warehouse", "nothing_rejected")
    return {table: check["outstanding"] for table, check in checks.items()}


def mend(platform: Platform) -> None:
    platform.totesys("UPDATE currency SET currency_code = 'GBP' WHERE currency_id = 9")


def test_a_fact_that_refers_to_a_rejected_row_waits_and_stops_no_other(unnamed: Platform) -> None:
    assert unnamed.warehouse(HISTORY)[1:] == [[1, 1]]
    assert unnamed.warehouse("SELECT units_sold FROM warehouse.fact_sales_order_current WHERE sales_order_id = 2") == [
        [2]
    ]
    assert unnamed.warehouse('SELECT star_table, key, "column", value, referenced FROM warehouse.waiting') == [
        ["fact_sales_order", {"sales_order_id": 1}, "currency_id", "9", "dim_currency"]
    ]


def test_it_arrives_with_the_row_it_refers_to_at_its_own_time(unnamed: Platform) -> None:
    [[waited]] = unnamed.warehouse("SELECT captured_at FROM warehouse.waiting")
    mend(unnamed)
    result = run(unnamed)
    assert outstanding(result) == {}
    assert unnamed.warehouse(HISTORY)[1:] == [[1, 1], [9, 2]]
    assert [waited] in unnamed.warehouse("SELECT captured_at FROM warehouse.fact_sales_order WHERE sales_order_id = 1")
    assert (
        unnamed.warehouse("SELECT * FROM warehouse.waiting")
        == unnamed.warehouse("SELECT * FROM warehouse.rejected")
        == []
    )
    assert_warehouse_equals_totesys_but_the_currency(unnamed)


def assert_warehouse_equals_totesys_but_the_currency(platform: Platform) -> None:
    platform.totesys("UPDATE sales_order SET currency_id = 1 WHERE currency_id = 9")
    platform.totesys("DELETE FROM currency WHERE currency_id = 9")
    run(platform)
    platform.warehouse("DELETE FROM warehouse.fact_sales_order WHERE currency_id = 9")
    platform.warehouse("DELETE FROM warehouse.dim_currency WHERE currency_id = 9")
    assert_warehouse_equals_totesys(platform)


def test_a_change_back_while_a_version_waits_is_a_version_of_its_own(unnamed: Platform) -> None:
    unnamed.totesys("UPDATE sales_order SET currency_id = 1, units_sold = 1 WHERE sales_order_id = 1")
    assert outstanding(run(unnamed)) == {"dim_currency": 1}, "the present state of the order is known"
    mend(unnamed)
    run(unnamed)
    assert unnamed.warehouse(HISTORY)[1:] == [[1, 1], [9, 2], [1, 1]]
    current = "SELECT currency_id FROM warehouse.fact_sales_order_current WHERE sales_order_id = 1"
    assert unnamed.warehouse(current) == [[1]]


def test_every_version_that_waited_arrives(unnamed: Platform) -> None:
    for units in (3, 3, 4):
        unnamed.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        run(unnamed)
    mend(unnamed)
    run(unnamed)
    assert unnamed.warehouse(HISTORY)[1:] == [[1, 1], [9, 2], [9, 3], [9, 4]]


def test_a_fact_deleted_while_it_waits_is_closed_when_it_arrives(unnamed: Platform) -> None:
    unnamed.totesys("UPDATE transaction SET sales_order_id = NULL WHERE sales_order_id = 1")
    unnamed.totesys("DELETE FROM sales_order WHERE sales_order_id = 1")
    result = run(unnamed, full_capture=True)
    assert outstanding(result) == {"dim_currency": 1}, "what is deleted is missed by nobody"
    mend(unnamed)
    run(unnamed)
    history = unnamed.warehouse(
        "SELECT currency_id, deleted FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"
    )
    assert history[1:] == [[1, False], [9, False], [9, True]]
    assert unnamed.warehouse("SELECT 1 FROM warehouse.fact_sales_order_current WHERE sales_order_id = 1") == []


def test_what_is_set_apart_is_told_of_once_and_the_check_fails_until_it_is_mended(loaded: Platform) -> None:
    with connect(loaded.totesys_url) as late:
        late.run("BEGIN")
        late.run("UPDATE design SET design_name = 'late' WHERE design_id = 1")  # what changes from now on is read again
        loaded.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
        loaded.totesys("UPDATE sales_order SET currency_id = 9 WHERE sales_order_id = 1")
        loaded.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
        first = run(loaded)
        assert sorted((row["table"], row["value"]) for row in told(first)) == [
            ("dim_currency", None),
            ("fact_payment", "tomorrow"),
            ("fact_sales_order", "9"),
        ]
        for again in (run(loaded), run(loaded, full_capture=True)):
            assert told(again) == []
            assert outstanding(again) == {"dim_currency": 1, "fact_payment": 1, "fact_sales_order": 1}
        late.run("ROLLBACK")
    loaded.totesys("UPDATE payment SET payment_date = 'never' WHERE payment_id = 1")
    assert [row["value"] for row in told(run(loaded))] == ["never"]
    loaded.totesys("UPDATE payment SET payment_date = '2024-09-01' WHERE payment_id = 1")
    mend(loaded)
    assert outstanding(run(loaded)) == {}


def test_a_replay_tells_of_nothing_anew(unnamed: Platform) -> None:
    unnamed.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
    partition = unnamed.partition
    run(unnamed)
    unnamed.totesys("UPDATE payment SET payment_date = '2024-09-01' WHERE payment_id = 1")
    mend(unnamed)
    run(unnamed)
    before = unnamed.contents()
    result = unnamed.run("transformation", "warehouse", partition=partition)
    assert (told(result), outstanding(result)) == ([], {})
    assert unnamed.contents() == before


def test_a_rejected_row_is_not_taken_for_deleted(loaded: Platform) -> None:
    loaded.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
    loaded.totesys("UPDATE sales_order SET created_at = 'infinity' WHERE sales_order_id = 1")
    run(loaded)
    run(loaded, full_capture=True)
    for fact, key in (("fact_payment", "payment_id"), ("fact_sales_order", "sales_order_id")):
        assert loaded.warehouse(f"SELECT count(*) FROM warehouse.{fact}_current WHERE {key} = 1") == [[1]]
        assert loaded.warehouse(f"SELECT count(*) FROM warehouse.{fact} WHERE deleted") == [[0]]


def test_a_rejected_row_that_is_deleted_is_let_go_by_the_next_full_capture(loaded: Platform) -> None:
    loaded.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
    run(loaded)
    loaded.totesys("DELETE FROM payment WHERE payment_id = 1")
    assert outstanding(run(loaded)) == {"fact_payment": 1}
    assert outstanding(run(loaded, full_capture=True)) == {}
    assert loaded.warehouse("SELECT 1 FROM warehouse.fact_payment_current WHERE payment_id = 1") == []


def test_a_rejected_department_holds_back_its_staff_alone_until_it_is_mended(loaded: Platform) -> None:
    loaded.totesys(
        "UPDATE department SET department_name = 'Vending', last_updated = 'infinity' WHERE department_id = 3"
    )
    members = {key for [key] in loaded.totesys("SELECT staff_id FROM staff WHERE department_id = 3")}
    rows = told(run(loaded))
    assert {row["key"] for row in rows if row["table"] == "dim_staff"} == {f'{{"staff_id": {key}}}' for key in members}
    assert [row["value"] for row in rows if row["table"] == "department"] == ["infinity"]
    loaded.totesys("UPDATE department SET last_updated = now() WHERE department_id = 3")
    run(loaded)
    assert outstanding(run(loaded, full_capture=True)) == {}
    assert_warehouse_equals_totesys(loaded)


def test_a_key_that_leads_nowhere_waits_and_is_named(loaded: Platform) -> None:
    loaded.totesys("ALTER TABLE sales_order DROP CONSTRAINT sales_order_design_id_fkey")
    loaded.totesys("UPDATE sales_order SET design_id = 999999 WHERE sales_order_id = 1")
    assert told(run(loaded)) == [
        {
            "table": "fact_sales_order",
            "key": '{"sales_order_id": 1}',
            "column": "design_id",
            "value": "999999",
            "reason": "refers to a row not in dim_design",
        }
    ]


@star_table(
    record_id="receipt_record_id",
    primary_key=("receipt_id",),
    columns=columns(receipt_id=pa.int32(), paid=pa.bool_()),
    derived_from={"receipt_id": "payment.payment_id"},
)
def fact_receipt(payment: pd.DataFrame) -> pd.DataFrame:
    """Payments under another key."""
    return payment.rename(columns={"payment_id": "receipt_id"})


def test_nothing_is_closed_while_it_is_not_known_which_fact_a_rejected_row_is(platform: Platform) -> None:
    buckets = platform.buckets_url
    stars = (*STAR_TABLES, fact_receipt)
    wider = Platform(platform.totesys_url, platform.warehouse_url, buckets, platform.environment, star_tables=stars)
    run(wider)
    wider.totesys("UPDATE payment SET created_at = 'infinity' WHERE payment_id = 1")
    wider.totesys("DELETE FROM payment WHERE payment_id = 2")
    run(wider, full_capture=True)
    assert wider.warehouse("SELECT count(*) FROM warehouse.fact_receipt WHERE deleted") == [[0]]
    wider.totesys("UPDATE payment SET created_at = now() WHERE payment_id = 1")
    run(wider, full_capture=True)
    assert wider.warehouse("SELECT receipt_id FROM warehouse.fact_receipt WHERE deleted") == [[2]]


def test_thousands_that_wait_do_not_slow_a_load_to_a_halt(loaded: Platform) -> None:
    loaded.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
    loaded.totesys(
        """INSERT INTO sales_order
           SELECT (jsonb_populate_record(sales_order, jsonb_build_object(
               'sales_order_id', number, 'currency_id', 1 + 8 * (number % 2)))).*
           FROM sales_order, generate_series(100001, 108000) AS number WHERE sales_order_id = 1"""
    )
    for how in ({}, {"full_capture": True}):
        result = run(loaded, **how)
        [made] = [
            event
            for event in result.asset_materializations_for_node("warehouse")
            if event.asset_key and event.asset_key.path[-1] == "fact_sales_order"
        ]
        assert float(str(made.metadata["seconds_write"].value)) < 15, "it takes 50 when each row looks at all that wait"
    assert loaded.warehouse("SELECT count(*) FROM warehouse.waiting") == [[4000]]


def test_a_run_that_dies_after_its_load_takes_nothing_untold_with_it(loaded: Platform) -> None:
    loaded.warehouse("UPDATE warehouse.fact_sales_order SET units_sold = 0 WHERE sales_order_id = 1")
    loaded.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
    loaded.run(full_capture=True)
    again = loaded.run("warehouse")
    assert [row["value"] for row in told(again)] == ["tomorrow"]
    assert failed_checks(again, "warehouse", "repaired_rows") == {"fact_sales_order": {"repaired_rows": 1}}
