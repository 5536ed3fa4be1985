"""The load: one transaction, full history of facts, latest version of dimensions, no gaps."""

import threading

import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import StatementRefusedError, connect
from etl_assets.ingestion.manifest import partition_folder
from etl_assets.schema.errors import SchemaMismatchError
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.parquet_files import NotTransformedError
from etl_assets.warehouse.ddl import stored_tables
from etl_assets.warehouse.ledger import PredecessorNotLoadedError
from etl_assets_tests.harness import (
    LOCK_WAITERS,
    Platform,
    assert_rows_are_counted,
    failed_counts,
    make_history,
    recorded_rows,
    until,
)
from etl_assets_tests.pipeline import FACTS


def test_a_capture_whose_predecessor_is_not_loaded_fails_and_names_the_partition(loaded: Platform) -> None:
    loaded.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    loaded.refresh("ingestion", "transformation")
    skipped = loaded.partition
    before = loaded.contents()
    loaded.next_window()
    first = rf"materialize transformation/\* and warehouse/\* of partition {skipped} first"
    with pytest.raises(PredecessorNotLoadedError, match=first):
        loaded.refresh()
    assert loaded.contents() == before
    loaded.refresh("transformation", "warehouse", partition=skipped)
    loaded.refresh("warehouse")
    assert len(loaded.contents()["loads"]) == 3


def test_a_capture_made_after_the_transformation_is_not_recorded_as_loaded(loaded: Platform) -> None:
    loaded.refresh("ingestion", "transformation")
    loaded.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    loaded.refresh("ingestion")
    late = loaded.latest_capture.id
    with pytest.raises(NotTransformedError, match=f"lacks the captures {late}"):
        loaded.refresh("warehouse")
    loaded.refresh("transformation", "warehouse")
    assert late in {row[0] for row in loaded.contents()["loads"]}


def test_every_version_of_a_fact_is_kept_and_the_view_shows_the_latest(loaded: Platform) -> None:
    [[before]] = loaded.totesys("SELECT units_sold FROM sales_order WHERE sales_order_id = 1")
    for units in (1, 2, 1):
        loaded.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        loaded.refresh()
        loaded.next_window()
    history = "SELECT units_sold FROM warehouse.{} WHERE sales_order_id = 1 ORDER BY captured_at"
    assert [row for [row] in loaded.warehouse(history.format("fact_sales_order"))] == [before, 1, 2, 1]
    assert loaded.warehouse(history.format("fact_sales_order_current")) == [[1]]


def test_an_ordinary_load_adds_to_the_number_of_rows_and_a_full_one_counts_them_again(platform: Platform) -> None:
    make_history(platform)
    before = recorded_rows(platform.warehouse)
    platform.warehouse("UPDATE warehouse.tables SET row_count = row_count + 1000 WHERE star_table LIKE 'fact_%'")
    platform.totesys("INSERT INTO design VALUES (999, now(), 'new', '/usr', 'new.json', now())")
    platform.refresh()
    after = {star.name: 1000 * star.keeps_every_version for star in STAR_TABLES} | {"dim_design": 1}
    assert recorded_rows(platform.warehouse) == {name: before[name] + rows for name, rows in after.items()}
    platform.next_window()
    platform.refresh(full_capture=True)
    assert_rows_are_counted(platform.warehouse)


def test_the_rows_of_a_warehouse_of_an_older_release_are_counted_by_the_first_load(loaded: Platform) -> None:
    loaded.warehouse("ALTER TABLE warehouse.tables DROP COLUMN row_count")
    loaded.refresh()
    assert_rows_are_counted(loaded.warehouse)


def test_a_dimension_keeps_the_latest_version_and_when_it_was_captured(loaded: Platform) -> None:
    before = dict(loaded.warehouse("SELECT design_id, captured_at FROM warehouse.dim_design"))
    loaded.totesys("UPDATE design SET design_name = 'new' WHERE design_id = 2")
    loaded.totesys("UPDATE design SET last_updated = now() WHERE design_id = 3")  # no column of the dimension
    loaded.refresh()
    after = dict(loaded.warehouse("SELECT design_id, captured_at FROM warehouse.dim_design"))
    assert {key for key in after if after[key] != before[key]} == {2}


def test_an_unchanged_row_adds_no_version_and_uses_no_record_id(loaded: Platform) -> None:
    before = loaded.warehouse("SELECT max(sales_record_id), count(*) FROM warehouse.fact_sales_order")
    loaded.refresh(full_capture=True)
    loaded.next_window()
    loaded.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    loaded.refresh()
    [[highest, count]] = loaded.warehouse("SELECT max(sales_record_id), count(*) FROM warehouse.fact_sales_order")
    assert [[highest - 1, count - 1]] == before


def test_tables_have_keys_comments_and_the_declared_types(loaded: Platform) -> None:
    columns = loaded.warehouse(
        """SELECT column_name::text, data_type::text, is_nullable::text FROM information_schema.columns
           WHERE table_schema = 'warehouse' AND table_name = 'fact_payment' ORDER BY ordinal_position"""
    )
    date, time, whole = "date", "time without time zone", "integer"
    assert columns == [
        [name, type_, "NO"]
        for name, type_ in (
            ("payment_record_id", whole), ("payment_id", whole), ("created_date", date), ("created_time", time),
            ("last_updated_date", date), ("last_updated_time", time), ("transaction_id", whole),
            ("counterparty_id", whole), ("payment_amount", "numeric"), ("currency_id", whole),
            ("payment_type_id", whole), ("paid", "boolean"), ("payment_date", date),
            ("captured_at", "timestamp without time zone"), ("deleted", "boolean"),
        )
    ]  # fmt: skip
    [[foreign_keys]] = loaded.warehouse(
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text LIKE 'warehouse.fact%'"
    )
    assert foreign_keys == sum(len(star.foreign_keys) for star in FACTS)
    comments = dict(
        loaded.warehouse(
            """SELECT nspname::text, count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
               WHERE nspname IN ('warehouse', 'as_of') AND obj_description(pg_class.oid) > '' GROUP BY 1"""
        )
    )
    tables, views = len(stored_tables(STAR_TABLES)), len(STAR_TABLES) + 2 * len(FACTS)
    assert tables == 2 * len(STAR_TABLES) - len(FACTS), "dimensions have a table of their versions"
    assert comments == {"warehouse": tables + views + 5, "as_of": tables + views + 1}, "and bookkeeping tables"


def test_a_warehouse_table_that_does_not_match_its_declaration_fails_the_load(loaded: Platform) -> None:
    loaded.warehouse("ALTER TABLE warehouse.dim_staff DROP COLUMN location")
    mismatch = "warehouse does not match its declaration: column dim_staff.location is missing"
    with pytest.raises(SchemaMismatchError, match=mismatch):
        loaded.refresh()


def test_a_load_waits_for_another_and_does_not_wait_for_readers(loaded: Platform) -> None:
    with connect(loaded.warehouse_url) as reader, connect(loaded.warehouse_url) as other:
        reader.run("BEGIN")
        reader.run("SELECT count(*) FROM warehouse.fact_sales_order_current")
        other.run("BEGIN")
        other.run("SELECT pg_advisory_xact_lock(hashtextextended('totesys ETL: load', 0))")
        run = threading.Thread(target=loaded.refresh)
        run.start()
        until(lambda: reader.run(LOCK_WAITERS), seconds=30)
        other.run("COMMIT")
        run.join(timeout=30)
        assert not run.is_alive(), "it waits for a reader"
    assert len(loaded.contents()["loads"]) == 2


def test_two_captures_of_one_time_cannot_be_loaded(loaded: Platform) -> None:
    with pytest.raises(StatementRefusedError, match="duplicate key"):
        loaded.warehouse(
            "INSERT INTO warehouse.loads (capture, captured_at, full_capture) "
            "SELECT 'other', captured_at, false FROM warehouse.loads"
        )


def test_without_rejected_rows_there_is_no_rejected_folder(loaded: Platform) -> None:
    assert Bucket(loaded.transformation_url).folders("rejected") == []
    assert Bucket(loaded.transformation_url).objects(partition_folder("fact_payment", loaded.partition)) == []


PAYMENT_1 = "SELECT paid, deleted FROM warehouse.fact_payment WHERE payment_id = 1 ORDER BY captured_at"


def test_a_deleted_fact_gets_a_tombstone_and_returns_as_a_new_version(loaded: Platform) -> None:
    [[paid, *_]] = loaded.warehouse(PAYMENT_1)
    row = loaded.totesys("SELECT row_to_json(payment)::text FROM payment WHERE payment_id = 1")[0][0]
    current = "SELECT count(*) FROM warehouse.fact_payment_current WHERE payment_id = 1"
    loaded.totesys("DELETE FROM payment WHERE payment_id = 1")
    result = loaded.refresh()
    assert loaded.warehouse(current) == [[0]]
    assert loaded.warehouse(PAYMENT_1) == [[paid, False], [paid, True]]
    deleted = {name: table.loads[0].deleted for name, table in result.items()}
    assert {table: count for table, count in deleted.items() if count} == {"fact_payment": 1}

    for _ in range(2):
        loaded.next_window()
        assert failed_counts(loaded.refresh(full_capture=True), "no_missed_changes") == {}
    assert loaded.warehouse(PAYMENT_1) == [[paid, False], [paid, True]], "one tombstone"

    loaded.totesys("INSERT INTO payment SELECT * FROM json_populate_record(NULL::payment, CAST(:row AS json))", row=row)
    loaded.next_window()
    loaded.refresh()
    assert loaded.warehouse(current) == [[1]]
    assert loaded.warehouse(PAYMENT_1) == [[paid, False], [paid, True], [paid, False]]


def test_a_deletion_that_no_statistics_count_is_found_by_the_next_full_capture(loaded: Platform) -> None:
    with connect(loaded.totesys_url) as connection:
        connection.run("SET track_counts = off")
        connection.run("DELETE FROM payment WHERE payment_id = 1")
    loaded.refresh()
    assert [deleted for _, deleted in loaded.warehouse(PAYMENT_1)] == [False]
    loaded.next_window()
    result = loaded.refresh(full_capture=True)
    assert [deleted for _, deleted in loaded.warehouse(PAYMENT_1)] == [False, True]
    assert failed_counts(result, "no_missed_changes") == {}


def test_all_facts_of_a_truncated_table_get_tombstones_and_dimensions_keep_their_rows(loaded: Platform) -> None:
    before = loaded.row_counts()
    loaded.totesys("TRUNCATE payment")
    loaded.refresh()
    assert loaded.warehouse("SELECT count(*) FROM warehouse.fact_payment_current") == [[0]]
    after = loaded.row_counts()
    assert after["fact_payment"] == 2 * before["fact_payment"]
    assert after | {"fact_payment": 0} == before | {"fact_payment": 0}


def test_a_design_deleted_in_the_source_stays_because_facts_reference_it_and_says_since_when(loaded: Platform) -> None:
    [[name]] = loaded.totesys("SELECT design_name FROM design WHERE design_id = 1")
    loaded.totesys("UPDATE sales_order SET design_id = 2 WHERE design_id = 1")
    loaded.totesys("DELETE FROM design WHERE design_id = 1")
    loaded.refresh()
    gone_at = loaded.latest_capture.captured_at
    design = "SELECT design_name, captured_at, deleted FROM warehouse.dim_design WHERE design_id = 1"
    assert loaded.warehouse(design) == [[name, gone_at, True]]
    history = "SELECT design_name, valid_from, valid_to FROM warehouse.dim_design_history WHERE design_id = 1"
    assert loaded.warehouse(history) == [[name, "-infinity", gone_at]]
    loaded.totesys(
        """INSERT INTO design SELECT (jsonb_populate_record(design, '{"design_id": 1, "design_name": "New"}')).*
           FROM design LIMIT 1"""
    )
    loaded.next_window()
    loaded.refresh()
    assert loaded.warehouse(design) == [["New", loaded.latest_capture.captured_at, False]]


def test_changes_found_only_by_a_full_capture_are_counted_and_fail_the_check(loaded: Platform) -> None:
    loaded.warehouse("UPDATE warehouse.fact_sales_order SET units_sold = 0 WHERE sales_order_id IN (1, 2, 3)")
    loaded.warehouse("UPDATE warehouse.dim_design SET file_name = 'wrong' WHERE design_id = 1")
    loaded.totesys("UPDATE sales_order SET units_sold = 77 WHERE sales_order_id = 3")  # the incremental capture has it
    missed = failed_counts(loaded.refresh(full_capture=True), "no_missed_changes")
    assert missed == {"fact_sales_order": 2, "dim_design": 1}
    loaded.next_window()
    assert failed_counts(loaded.refresh(full_capture=True), "no_missed_changes") == {}
    assert loaded.totesys("SELECT units_sold FROM sales_order ORDER BY sales_order_id") == loaded.warehouse(
        "SELECT units_sold FROM warehouse.fact_sales_order_current ORDER BY sales_order_id"
    )


def test_tombstones_do_not_depend_on_the_order_or_number_of_replays(loaded: Platform) -> None:
    partitions = []
    for step in ("DELETE FROM payment WHERE payment_id IN (1, 2)", "DELETE FROM payment WHERE payment_id = 3"):
        loaded.totesys(step)
        loaded.refresh(full_capture=True)
        partitions.append(loaded.partition)
        loaded.next_window()
    before = loaded.contents()
    for partition in (partitions[1], partitions[0], partitions[0], partitions[1]):
        loaded.refresh("transformation", "warehouse", partition=partition)
        assert loaded.contents() == before
