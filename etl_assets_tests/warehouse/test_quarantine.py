"""Rows that cannot be loaded yet are kept, reported once, block no other row, and are loaded when they can be."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.adapters.postgres import connect
from etl_assets.schema.columns import columns
from etl_assets.schema.validation import IS_NULL
from etl_assets.simulator.postgres import Server
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.repeated_keys import REPEATED
from etl_assets.transformation.star_table import star_table
from etl_assets.warehouse.checks import LoadedTable
from etl_assets.warehouse.staging import RowsRefusedError
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys, failed_counts

HISTORY = "SELECT currency_id, units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"


@pytest.fixture
def with_unknown_currency(loaded: Platform) -> Platform:
    """The platform after the currency of order 1 was changed to one that ISO 4217 does not know."""
    loaded.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
    loaded.totesys("UPDATE sales_order SET currency_id = 1, units_sold = 1 WHERE sales_order_id = 1")
    refresh(loaded)
    loaded.totesys("UPDATE sales_order SET currency_id = 9, units_sold = 2 WHERE sales_order_id = 1")
    loaded.totesys("UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 2")
    refresh(loaded)
    return loaded


def refresh(platform: Platform, **how: Any) -> Mapping[str, LoadedTable]:
    loaded = platform.refresh(**how)
    platform.next_window()
    return loaded


def reported(loaded: Mapping[str, LoadedTable]) -> list[dict[str, Any]]:
    """The rows that a load reports for the first time."""
    return [asdict(row) for table in loaded.values() for load in table.loads for row in load.quarantined]


def outstanding(loaded: Mapping[str, LoadedTable]) -> dict[str, int]:
    return failed_counts(loaded, "no_rejected_rows")


def correct_currency(platform: Platform) -> None:
    platform.totesys("UPDATE currency SET currency_code = 'GBP' WHERE currency_id = 9")


def test_a_fact_that_references_a_rejected_row_is_pending_and_blocks_no_other(with_unknown_currency: Platform) -> None:
    assert with_unknown_currency.warehouse(HISTORY)[1:] == [[1, 1]]
    assert with_unknown_currency.warehouse(
        "SELECT units_sold FROM warehouse.fact_sales_order_current WHERE sales_order_id = 2"
    ) == [[2]]
    assert with_unknown_currency.warehouse(
        'SELECT star_table, key, "column", value, referenced FROM warehouse.pending'
    ) == [["fact_sales_order", {"sales_order_id": 1}, "currency_id", "9", "dim_currency"]]


def test_a_pending_fact_is_loaded_with_its_own_capture_time_when_the_referenced_row_arrives(
    with_unknown_currency: Platform,
) -> None:
    [[captured_at]] = with_unknown_currency.warehouse("SELECT captured_at FROM warehouse.pending")
    correct_currency(with_unknown_currency)
    result = refresh(with_unknown_currency)
    assert outstanding(result) == {}
    assert with_unknown_currency.warehouse(HISTORY)[1:] == [[1, 1], [9, 2]]
    assert [captured_at] in with_unknown_currency.warehouse(
        "SELECT captured_at FROM warehouse.fact_sales_order WHERE sales_order_id = 1"
    )
    assert (
        with_unknown_currency.warehouse("SELECT * FROM warehouse.pending")
        == with_unknown_currency.warehouse("SELECT * FROM warehouse.rejected")
        == []
    )
    assert_warehouse_equals_totesys_but_the_currency(with_unknown_currency)


def assert_warehouse_equals_totesys_but_the_currency(platform: Platform) -> None:
    platform.totesys("UPDATE sales_order SET currency_id = 1 WHERE currency_id = 9")
    platform.totesys("DELETE FROM currency WHERE currency_id = 9")
    refresh(platform)
    platform.warehouse("DELETE FROM warehouse.fact_sales_order WHERE currency_id = 9")
    platform.warehouse("DELETE FROM warehouse.dim_currency WHERE currency_id = 9")
    assert_warehouse_equals_totesys(platform)


def test_a_change_back_while_a_version_is_pending_is_a_new_version(with_unknown_currency: Platform) -> None:
    with_unknown_currency.totesys("UPDATE sales_order SET currency_id = 1, units_sold = 1 WHERE sales_order_id = 1")
    assert outstanding(refresh(with_unknown_currency)) == {"dim_currency": 1}, (
        "the latest version of the order is loaded"
    )
    correct_currency(with_unknown_currency)
    refresh(with_unknown_currency)
    assert with_unknown_currency.warehouse(HISTORY)[1:] == [[1, 1], [9, 2], [1, 1]]
    current = "SELECT currency_id FROM warehouse.fact_sales_order_current WHERE sales_order_id = 1"
    assert with_unknown_currency.warehouse(current) == [[1]]


def test_every_pending_version_is_loaded(with_unknown_currency: Platform) -> None:
    for units in (3, 3, 4):
        with_unknown_currency.totesys(
            "UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units
        )
        refresh(with_unknown_currency)
    correct_currency(with_unknown_currency)
    refresh(with_unknown_currency)
    assert with_unknown_currency.warehouse(HISTORY)[1:] == [[1, 1], [9, 2], [9, 3], [9, 4]]


def test_a_fact_deleted_while_pending_is_deleted_when_it_is_loaded(with_unknown_currency: Platform) -> None:
    with_unknown_currency.totesys("UPDATE transaction SET sales_order_id = NULL WHERE sales_order_id = 1")
    with_unknown_currency.totesys("DELETE FROM sales_order WHERE sales_order_id = 1")
    result = refresh(with_unknown_currency, full_capture=True)
    assert outstanding(result) == {"dim_currency": 1}, "a deleted row is not outstanding"
    correct_currency(with_unknown_currency)
    refresh(with_unknown_currency)
    history = with_unknown_currency.warehouse(
        "SELECT currency_id, deleted FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"
    )
    assert history[1:] == [[1, False], [9, False], [9, True]]
    assert (
        with_unknown_currency.warehouse("SELECT 1 FROM warehouse.fact_sales_order_current WHERE sales_order_id = 1")
        == []
    )


@pytest.mark.parametrize("full_capture", [False, True])
def test_a_deleted_fact_whose_latest_version_is_pending_is_not_current(
    with_unknown_currency: Platform, server: Server, tmp_path: Path, full_capture: bool
) -> None:
    platform = with_unknown_currency
    versions = "SELECT deleted FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"
    current = "SELECT 1 FROM warehouse.fact_sales_order_current WHERE sales_order_id = 1"
    assert platform.warehouse(current) == [[1]], "the version before"
    platform.totesys("ALTER TABLE sales_order DISABLE TRIGGER ALL")
    platform.totesys("DELETE FROM sales_order WHERE sales_order_id = 1")
    refresh(platform, full_capture=full_capture)
    assert platform.warehouse(current) == []
    assert platform.warehouse(versions) == [[False], [False], [True]]
    loaded = platform.contents()
    refresh(platform)
    assert platform.contents() | {"loads": []} == loaded | {"loads": []}, "once"

    correct_currency(platform)
    refresh(platform)
    assert platform.warehouse(current) == []
    assert platform.warehouse(versions) == [[False], [False], [False], [True]]
    assert platform.warehouse("SELECT * FROM warehouse.pending") == []
    assert platform.contents() == platform.from_scratch(server, tmp_path).contents()
    assert platform.rebuild("fact_sales_order").load.tables["fact_sales_order"].changed == 0


def test_quarantined_rows_are_reported_once_and_the_check_fails_until_they_are_corrected(loaded: Platform) -> None:
    with connect(loaded.totesys_url) as late:
        late.run("BEGIN")
        late.run(
            "UPDATE design SET design_name = 'late' WHERE design_id = 1"
        )  # later changes are captured again while it is open
        loaded.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
        loaded.totesys("UPDATE sales_order SET currency_id = 9 WHERE sales_order_id = 1")
        loaded.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
        first = refresh(loaded)
        assert sorted((row["table"], row["value"]) for row in reported(first)) == [
            ("dim_currency", None),
            ("fact_payment", "tomorrow"),
            ("fact_sales_order", "9"),
        ]
        for again in (refresh(loaded), refresh(loaded, full_capture=True)):
            assert reported(again) == []
            assert outstanding(again) == {"dim_currency": 1, "fact_payment": 1, "fact_sales_order": 1}
        late.run("ROLLBACK")
    loaded.totesys("UPDATE payment SET payment_date = 'never' WHERE payment_id = 1")
    assert [row["value"] for row in reported(refresh(loaded))] == ["never"]
    loaded.totesys("UPDATE payment SET payment_date = '2024-09-01' WHERE payment_id = 1")
    correct_currency(loaded)
    assert outstanding(refresh(loaded)) == {}


def test_a_replay_reports_nothing_again(with_unknown_currency: Platform) -> None:
    with_unknown_currency.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
    partition = with_unknown_currency.partition
    refresh(with_unknown_currency)
    with_unknown_currency.totesys("UPDATE payment SET payment_date = '2024-09-01' WHERE payment_id = 1")
    correct_currency(with_unknown_currency)
    refresh(with_unknown_currency)
    before = with_unknown_currency.contents()
    result = with_unknown_currency.refresh("transformation", "warehouse", partition=partition)
    assert (reported(result), outstanding(result)) == ([], {})
    assert with_unknown_currency.contents() == before


def test_a_rejected_row_is_not_treated_as_deleted(loaded: Platform) -> None:
    loaded.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
    loaded.totesys("UPDATE sales_order SET created_at = 'infinity' WHERE sales_order_id = 1")
    refresh(loaded)
    refresh(loaded, full_capture=True)
    for fact, key in (("fact_payment", "payment_id"), ("fact_sales_order", "sales_order_id")):
        assert loaded.warehouse(f"SELECT count(*) FROM warehouse.{fact}_current WHERE {key} = 1") == [[1]]
        assert loaded.warehouse(f"SELECT count(*) FROM warehouse.{fact} WHERE deleted") == [[0]]


def test_a_deleted_rejected_row_is_cleared(loaded: Platform) -> None:
    for table, column, value in (("payment", "payment_date", "tomorrow"), ("address", "created_at", "infinity")):
        loaded.totesys(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        loaded.totesys(f"UPDATE {table} SET {column} = '{value}' WHERE {table}_id = 1")
    refresh(loaded)
    loaded.totesys("UPDATE payment SET paid = NOT paid WHERE payment_id = 2")
    assert outstanding(refresh(loaded)) == {"fact_payment": 1, "dim_location": 1, "dim_counterparty": 1}
    loaded.totesys("DELETE FROM payment WHERE payment_id = 3")
    assert outstanding(refresh(loaded))["fact_payment"] == 1, "the row is there, though not this version of it"
    for table in ("payment", "address"):
        loaded.totesys(f"DELETE FROM {table} WHERE {table}_id = 1")
    left = outstanding(refresh(loaded))
    assert {"fact_payment", "dim_location"}.isdisjoint(left)
    assert loaded.warehouse("SELECT 1 FROM warehouse.fact_payment_current WHERE payment_id = 1") == []
    assert loaded.warehouse("SELECT deleted FROM warehouse.dim_location WHERE location_id = 1") == [[True]]


def test_a_corrected_row_under_another_key_than_its_sources_is_cleared(loaded: Platform) -> None:
    loaded.totesys("UPDATE address SET created_at = 'infinity' WHERE address_id = 30")
    assert outstanding(refresh(loaded))["dim_location"] == 1
    loaded.totesys("UPDATE address SET created_at = now() WHERE address_id = 30")
    assert "dim_location" not in outstanding(refresh(loaded))


def test_a_rejected_department_blocks_only_its_staff_until_it_is_corrected(loaded: Platform) -> None:
    loaded.totesys(
        "UPDATE department SET department_name = 'Vending', last_updated = 'infinity' WHERE department_id = 3"
    )
    members = {key for [key] in loaded.totesys("SELECT staff_id FROM staff WHERE department_id = 3")}
    rows = reported(refresh(loaded))
    assert {row["key"] for row in rows if row["table"] == "dim_staff"} == {f'{{"staff_id": {key}}}' for key in members}
    assert [row["value"] for row in rows if row["table"] == "department"] == ["infinity"]
    loaded.totesys("UPDATE department SET last_updated = now() WHERE department_id = 3")
    refresh(loaded)
    assert outstanding(refresh(loaded, full_capture=True)) == {}
    assert_warehouse_equals_totesys(loaded)


def test_a_fact_whose_key_does_not_resolve_is_pending_and_reported(loaded: Platform) -> None:
    loaded.totesys("ALTER TABLE sales_order DROP CONSTRAINT sales_order_design_id_fkey")
    loaded.totesys("UPDATE sales_order SET design_id = 999999 WHERE sales_order_id = 1")
    assert reported(refresh(loaded)) == [
        {
            "table": "fact_sales_order",
            "key": '{"sales_order_id": 1}',
            "column": "design_id",
            "value": "999999",
            "reason": "references a row that is not in dim_design",
        }
    ]


@star_table(
    record_id="receipt_record_id",
    primary_key=("receipt_id",),
    columns=columns(receipt_id=pa.string(), paid=pa.bool_()),
    derived_from={"receipt_id": "payment.payment_id"},
)
def fact_receipt(payment: pd.DataFrame) -> pd.DataFrame:
    """Payments under a key of another type."""
    return payment.assign(receipt_id=payment["payment_id"].astype(str))


def test_nothing_is_deleted_while_a_rejected_row_cannot_be_matched_to_a_fact(platform: Platform) -> None:
    buckets = platform.buckets_url
    stars = (*STAR_TABLES, fact_receipt)
    wider = Platform(platform.totesys_url, platform.warehouse_url, buckets, platform.environment, star_tables=stars)
    refresh(wider)
    wider.totesys("UPDATE payment SET created_at = 'infinity' WHERE payment_id = 1")
    wider.totesys("DELETE FROM payment WHERE payment_id = 2")
    refresh(wider, full_capture=True)
    assert wider.warehouse("SELECT count(*) FROM warehouse.fact_receipt WHERE deleted") == [[0]]
    wider.totesys("UPDATE payment SET created_at = now() WHERE payment_id = 1")
    refresh(wider, full_capture=True)
    assert wider.warehouse("SELECT receipt_id FROM warehouse.fact_receipt WHERE deleted") == [["2"]]


def test_thousands_of_pending_rows_do_not_stall_a_load(loaded: Platform) -> None:
    loaded.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
    loaded.totesys(
        """INSERT INTO sales_order
           SELECT (jsonb_populate_record(sales_order, jsonb_build_object(
               'sales_order_id', number, 'currency_id', 1 + 8 * (number % 2)))).*
           FROM sales_order, generate_series(100001, 108000) AS number WHERE sales_order_id = 1"""
    )
    for how in ({}, {"full_capture": True}):
        [load] = refresh(loaded, **how)["fact_sales_order"].loads
        assert load.seconds_write < 15, "50 s if each row scanned all pending ones"
    assert loaded.warehouse("SELECT count(*) FROM warehouse.pending") == [[4000]]


def test_a_rerun_reports_what_a_run_that_died_after_its_load_did_not(loaded: Platform) -> None:
    loaded.warehouse("UPDATE warehouse.fact_sales_order SET units_sold = 0 WHERE sales_order_id = 1")
    loaded.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 1")
    loaded.refresh(full_capture=True)
    again = loaded.refresh("warehouse")
    assert [row["value"] for row in reported(again)] == ["tomorrow"]
    assert failed_counts(again, "no_missed_changes") == {"fact_sales_order": 1}


REPEATED_IN = ("sales_order", "design", "payment", "department")


def lose_primary_keys(platform: Platform) -> None:
    """Drop the primary keys of some tables, and insert a copy of a row of each; both copies are captured."""
    platform.totesys("ALTER TABLE payment DROP CONSTRAINT IF EXISTS payment_transaction_id_key")
    for table in REPEATED_IN:
        platform.totesys(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey CASCADE")
        platform.totesys(f"INSERT INTO {table} SELECT * FROM {table} WHERE {table}_id = 2")
        platform.totesys(f"UPDATE {table} SET last_updated = now() WHERE {table}_id = 2")


def mend_primary_keys(platform: Platform) -> None:
    for table in REPEATED_IN:
        platform.totesys(f"DELETE FROM {table} a USING {table} b WHERE a.{table}_id = b.{table}_id AND a.ctid > b.ctid")
        platform.totesys(f"ALTER TABLE {table} ADD PRIMARY KEY ({table}_id)")


def test_rows_of_a_key_that_the_source_repeats_wait_until_a_capture_has_it_once(platform: Platform) -> None:
    platform.totesys("UPDATE staff SET department_id = 2 WHERE staff_id IN (3, 4)")
    platform.refresh()
    platform.next_window()
    before = platform.row_counts()
    lose_primary_keys(platform)
    first = refresh(platform)
    assert {(row["table"], row["key"], row["value"], row["reason"]) for row in reported(first)} == {
        ("fact_sales_order", '{"sales_order_id": 2}', "2", REPEATED),
        ("fact_payment", '{"payment_id": 2}', "2", REPEATED),
        ("dim_design", '{"design_id": 2}', "2", REPEATED),
        ("department", '{"department_id": 2}', "2", REPEATED),
        *(("dim_staff", f'{{"staff_id": {staff}}}', None, IS_NULL) for staff in staff_of_department(platform, 2)),
    }
    assert failed_counts(first, "rows_match_capture") == {}
    assert platform.row_counts() == before, "the versions loaded before are kept"
    platform.totesys("UPDATE purchase_order SET item_quantity = 7 WHERE purchase_order_id = 1")
    full = refresh(platform, full_capture=True)
    assert reported(full) == [], "they are reported once"
    assert failed_counts(full, "rows_match_capture") == {}
    assert platform.warehouse(
        "SELECT item_quantity FROM warehouse.fact_purchase_order_current WHERE purchase_order_id = 1"
    ) == [[7]]
    mend_primary_keys(platform)
    mended = refresh(platform, full_capture=True)
    assert outstanding(mended) == {}
    assert failed_counts(mended, "no_missed_changes") == {}, "they were known"
    assert platform.warehouse("SELECT * FROM warehouse.rejected") == []
    assert_warehouse_equals_totesys(platform)


def staff_of_department(platform: Platform, department: int) -> list[int]:
    rows = platform.totesys("SELECT staff_id FROM staff WHERE department_id = :department", department=department)
    return [staff for [staff] in rows]


def test_every_row_of_a_repeated_key_is_kept_in_the_quarantine(loaded: Platform) -> None:
    loaded.totesys("ALTER TABLE sales_order DROP CONSTRAINT sales_order_pkey CASCADE")
    loaded.totesys("INSERT INTO sales_order SELECT * FROM sales_order WHERE sales_order_id = 2")
    loaded.totesys("UPDATE sales_order SET units_sold = CAST(substring(ctid::text FROM ',(.*)\\)') AS integer)")
    refresh(loaded)
    [[rows]] = loaded.warehouse('SELECT "row" FROM warehouse.rejected')
    units = [[units] for [units] in loaded.totesys("SELECT units_sold FROM sales_order WHERE sales_order_id = 2")]
    assert sorted([json.loads(row)["units_sold"]] for row in rows.split("\n")) == sorted(units)


@pytest.mark.parametrize(
    ("rule", "refusal"),
    [
        (
            "ALTER TABLE warehouse.dim_staff ADD CHECK (first_name <> 'Zaphod') NOT VALID",
            'new row for relation "dim_staff" violates check constraint "dim_staff_first_name_check"',
        ),
        (
            """CREATE FUNCTION warehouse.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF new.first_name = 'Zaphod' THEN RAISE 'not %', new; END IF; RETURN new; END $$;
               CREATE TRIGGER refuse BEFORE INSERT ON warehouse.dim_staff
               FOR EACH ROW EXECUTE FUNCTION warehouse.refuse()""",
            "a trigger or a function refuses it (what it says may quote the row: see the server's log)",
        ),
    ],
)
def test_a_row_that_a_rule_of_the_warehouse_refuses_waits_and_blocks_no_other(
    loaded: Platform, rule: str, refusal: str
) -> None:
    loaded.warehouse(rule)
    loaded.totesys("UPDATE staff SET first_name = 'Zaphod' WHERE staff_id = 1")
    loaded.totesys("UPDATE staff SET first_name = 'Arthur' WHERE staff_id IN (2, 3)")
    result = refresh(loaded)
    assert [(row["table"], row["key"], row["reason"]) for row in reported(result)] == [
        ("dim_staff", '{"staff_id": 1}', f"is refused by the warehouse: {refusal}")
    ]
    assert "Zaphod" not in repr(reported(result))
    assert loaded.warehouse("SELECT staff_id FROM warehouse.dim_staff WHERE first_name = 'Arthur'") == [[2], [3]]
    again = refresh(loaded, full_capture=True)
    assert (reported(again), outstanding(again)) == ([], {"dim_staff": 1})
    loaded.totesys("UPDATE staff SET first_name = 'Ford' WHERE staff_id = 1")
    assert outstanding(refresh(loaded)) == {}
    assert_warehouse_equals_totesys(loaded)


def test_a_refused_row_is_loaded_by_a_replay_once_the_rule_is_gone(loaded: Platform) -> None:
    loaded.warehouse("ALTER TABLE warehouse.fact_payment ADD CONSTRAINT cheap CHECK (payment_amount < 5000) NOT VALID")
    loaded.totesys("UPDATE payment SET payment_amount = 5000 + payment_id WHERE payment_id <= 3")
    partition = loaded.partition
    refresh(loaded)
    assert loaded.warehouse("SELECT key FROM warehouse.rejected ORDER BY key") == [
        [{"payment_id": number}] for number in (1, 2, 3)
    ]
    loaded.warehouse("ALTER TABLE warehouse.fact_payment DROP CONSTRAINT cheap")
    assert outstanding(loaded.refresh("transformation", "warehouse", partition=partition)) == {}
    assert_warehouse_equals_totesys(loaded)


def test_a_rule_that_refuses_many_rows_fails_the_load_and_loses_nothing(loaded: Platform) -> None:
    loaded.warehouse("ALTER TABLE warehouse.fact_purchase_order ADD CHECK (item_code IS NULL) NOT VALID")
    loaded.totesys(
        "INSERT INTO purchase_order SELECT (jsonb_populate_record(purchase_order, "
        "jsonb_build_object('purchase_order_id', 10000 + n))).* "
        "FROM purchase_order, generate_series(1, 1100) n WHERE purchase_order_id = 1"
    )
    refused = "the warehouse refuses more than 1,000 rows of fact_purchase_order: new row for relation"
    with pytest.raises(RowsRefusedError, match=refused):
        loaded.refresh()
    loaded.warehouse("ALTER TABLE warehouse.fact_purchase_order DROP CONSTRAINT fact_purchase_order_item_code_check")
    refresh(loaded)
    assert_warehouse_equals_totesys(loaded)


def test_a_value_that_the_warehouse_cannot_store_waits_and_blocks_no_other(
    server: Server, totesys_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server.url("postgres")) as connection:
        connection.run("CREATE DATABASE in_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    platform = Platform(totesys_url, server.url("in_latin1"), bucket_url, monkeypatch)
    platform.totesys("UPDATE design SET design_name = 'Größe' WHERE design_id = 1")
    platform.totesys("UPDATE design SET design_name = '10 € ☂' WHERE design_id = 2")
    first = refresh(platform)
    assert [(row["table"], row["column"], row["value"]) for row in reported(first) if row["table"] == "dim_design"] == [
        ("dim_design", "design_name", "10 \\u20ac \\u2602")
    ]
    assert platform.warehouse("SELECT design_name FROM warehouse.dim_design WHERE design_id = 1") == [["Größe"]]
    platform.totesys("UPDATE design SET design_name = '10 EUR' WHERE design_id = 2")
    assert outstanding(refresh(platform)) == {}
    assert_warehouse_equals_totesys(platform)
