"""The load: one transaction, full history of facts, latest of dimensions, never a gap."""

import threading
from time import monotonic

import pytest

from etl_assets.buckets import Bucket
from etl_assets.captures import folder
from etl_assets.databases import StatementRefusedError, connect
from etl_assets_tests.platform import Platform, failure


@pytest.fixture
def loaded(platform: Platform) -> Platform:
    """The platform after a first run, in the window after it."""
    platform.run()
    platform.next_window()
    return platform


def test_a_capture_whose_predecessor_is_not_loaded_is_refused_naming_the_partition(loaded: Platform) -> None:
    loaded.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    loaded.run("ingestion", "transformation")
    skipped = loaded.partition
    before = loaded.contents()
    loaded.next_window()
    result = loaded.run(raise_on_error=False)
    assert f"materialize transformation/* and warehouse/* of partition {skipped} first" in failure(result)
    assert loaded.contents() == before
    loaded.run("transformation", "warehouse", partition=skipped)
    loaded.run("warehouse")
    assert len(loaded.contents()["loads"]) == 3


def test_a_capture_made_after_the_transformation_is_not_taken_for_loaded(loaded: Platform) -> None:
    loaded.run("ingestion", "transformation")
    loaded.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    loaded.run("ingestion")
    late = loaded.newest_capture.id
    assert f"lacks the captures {late}" in failure(loaded.run("warehouse", raise_on_error=False))
    loaded.run("transformation", "warehouse")
    assert late in {row[0] for row in loaded.contents()["loads"]}


def test_every_version_of_a_fact_is_kept_and_the_view_shows_the_last(loaded: Platform) -> None:
    [[before]] = loaded.totesys("SELECT units_sold FROM sales_order WHERE sales_order_id = 1")
    for units in (1, 2, 1):
        loaded.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        loaded.run()
        loaded.next_window()
    history = "SELECT units_sold FROM warehouse.{} WHERE sales_order_id = 1 ORDER BY captured_at"
    assert [row for [row] in loaded.warehouse(history.format("fact_sales_order"))] == [before, 1, 2, 1]
    assert loaded.warehouse(history.format("fact_sales_order_current")) == [[1]]


def test_a_dimension_keeps_the_latest_version_and_when_it_was_captured(loaded: Platform) -> None:
    before = dict(loaded.warehouse("SELECT design_id, captured_at FROM warehouse.dim_design"))
    loaded.totesys("UPDATE design SET design_name = 'new' WHERE design_id = 2")
    loaded.totesys("UPDATE design SET last_updated = now() WHERE design_id = 3")  # no column of the dimension
    loaded.run()
    after = dict(loaded.warehouse("SELECT design_id, captured_at FROM warehouse.dim_design"))
    assert {key for key in after if after[key] != before[key]} == {2}


def test_a_row_read_again_unchanged_adds_no_version_and_burns_no_record_id(loaded: Platform) -> None:
    before = loaded.warehouse("SELECT max(sales_record_id), count(*) FROM warehouse.fact_sales_order")
    loaded.run(full_capture=True)
    loaded.next_window()
    loaded.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    loaded.run()
    [[highest, count]] = loaded.warehouse("SELECT max(sales_record_id), count(*) FROM warehouse.fact_sales_order")
    assert [[highest - 1, count - 1]] == before


def test_a_fact_marked_deleted_leaves_the_view_and_comes_back_as_a_new_version(loaded: Platform) -> None:
    loaded.warehouse("UPDATE warehouse.fact_payment SET deleted = true WHERE payment_id = 1")
    query = "SELECT count(*) FROM warehouse.fact_payment_current WHERE payment_id = 1"
    assert loaded.warehouse(query) == [[0]]
    loaded.run(full_capture=True)
    assert loaded.warehouse(query) == [[1]]
    assert loaded.warehouse("SELECT count(*) FROM warehouse.fact_payment WHERE payment_id = 1") == [[2]]


def test_a_broken_foreign_key_loads_nothing_and_names_table_and_key(loaded: Platform) -> None:
    before = loaded.contents()
    loaded.totesys("UPDATE design SET design_name = 'x' WHERE design_id = 1")
    loaded.totesys("ALTER TABLE sales_order DROP CONSTRAINT sales_order_design_id_fkey")
    loaded.totesys("UPDATE sales_order SET design_id = 999999 WHERE sales_order_id = 1")
    result = loaded.run(raise_on_error=False)
    message = failure(result)
    assert 'Key (design_id)=(999999) is not present in table "dim_design"' in message
    assert '"fact_sales_order"' in message
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert loaded.contents() == before


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
    assert foreign_keys == 9 + 8 + 7
    [[comments]] = loaded.warehouse(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'warehouse'::regnamespace AND obj_description(oid) > ''"
    )
    assert comments == 11 + 3 + 1


def test_a_warehouse_table_that_is_not_as_declared_is_refused_by_name(loaded: Platform) -> None:
    loaded.warehouse("ALTER TABLE warehouse.dim_staff DROP COLUMN location")
    message = failure(loaded.run(raise_on_error=False))
    assert "warehouse is not as declared: column dim_staff.location is missing" in message


def test_a_load_waits_for_another_and_does_not_wait_for_readers(loaded: Platform) -> None:
    with connect(loaded.warehouse_url) as reader, connect(loaded.warehouse_url) as other:
        reader.run("BEGIN")
        reader.run("SELECT count(*) FROM warehouse.fact_sales_order_current")
        other.run("BEGIN")
        other.run("SELECT pg_advisory_xact_lock(hashtextextended('totesys ETL: load', 0))")
        run = threading.Thread(target=loaded.run)
        run.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        deadline = monotonic() + 30
        while reader.run(waiting) == [[0]]:
            assert monotonic() < deadline, "did not wait"
        other.run("COMMIT")
        run.join(timeout=30)
        assert not run.is_alive(), "waits for a reader"
    assert len(loaded.contents()["loads"]) == 2


def test_objects_of_the_warehouse_are_protected_from_two_loads_of_one_name(loaded: Platform) -> None:
    with pytest.raises(StatementRefusedError, match="duplicate key"):
        loaded.warehouse(
            "INSERT INTO warehouse.loads (capture, captured_at, full_capture) "
            "SELECT 'other', captured_at, false FROM warehouse.loads"
        )


def test_nothing_rejected_writes_nothing_under_rejected(loaded: Platform) -> None:
    assert Bucket(loaded.transformation_url).folders("rejected") == []
    assert Bucket(loaded.transformation_url).objects(folder("fact_payment", loaded.partition)) == []
