"""The recovery procedures of docs/operations.md."""

import shutil
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pandas as pd
import pytest

from etl_assets.warehouse.rebuild import HistoryIncompleteError
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys, evaluate_sensor
from etl_assets_tests.pipeline import STAR

UNITS = "SELECT units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"


@pytest.fixture
def with_history(platform: Platform) -> tuple[Platform, list[str]]:
    """The platform after three windows, each with a change, and their partition keys."""
    platform.now -= timedelta(hours=1)
    partitions = []
    for units in (1, 2, 3):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        platform.refresh()
        partitions.append(platform.partition)
        platform.next_window()
    return platform, partitions


def delete_bucket(url: str) -> None:
    shutil.rmtree(url.removeprefix("file://"))


def test_a_replay_rebuilds_the_warehouse_with_its_history_from_the_ingestion_bucket(
    with_history: tuple[Platform, list[str]],
) -> None:
    platform, partitions = with_history
    before = platform.contents()
    platform.warehouse("DROP SCHEMA warehouse CASCADE")
    platform.replay(partitions[0], partitions[-1], "transformation", "warehouse")
    assert platform.contents() == before


def test_without_the_transformation_bucket_runs_continue_and_a_replay_rebuilds_it(
    with_history: tuple[Platform, list[str]],
) -> None:
    platform, partitions = with_history
    delete_bucket(platform.transformation_url)
    platform.refresh()
    assert_warehouse_equals_totesys(platform)
    before = platform.contents()
    platform.replay(partitions[0], partitions[-1], "transformation", "warehouse")
    assert platform.contents() == before


def test_without_the_ingestion_bucket_everything_is_captured_and_history_is_kept(
    with_history: tuple[Platform, list[str]],
) -> None:
    platform, _ = with_history
    delete_bucket(platform.ingestion_url)
    platform.totesys("UPDATE sales_order SET units_sold = 4 WHERE sales_order_id = 1")
    platform.totesys("DELETE FROM payment WHERE payment_id = 1")
    platform.refresh()
    assert platform.latest_capture.full_because == "it is the first capture"
    assert_warehouse_equals_totesys(platform)
    assert platform.warehouse(UNITS) == [[1], [2], [3], [4]]
    platform.next_window()
    platform.totesys("UPDATE sales_order SET units_sold = 5 WHERE sales_order_id = 1")
    platform.refresh()
    assert platform.warehouse(UNITS)[-1] == [5]


def in_thousands(sales_order: pd.DataFrame) -> pd.DataFrame:
    rows = STAR["fact_sales_order"].transform(sales_order)
    return rows.assign(units_sold=rows["units_sold"] * 1000)


def test_without_the_captures_a_rule_can_be_changed_for_what_is_captured_from_then_on(
    with_history: tuple[Platform, list[str]],
) -> None:
    platform, _ = with_history
    delete_bucket(platform.ingestion_url)
    changed = platform.declaring(replace(STAR["fact_sales_order"], transform=in_thousands))
    with pytest.raises(HistoryIncompleteError, match="If they are lost, launch the job with keep_history"):
        changed.rebuild()
    changed.rebuild(keep_history=True)
    changed.refresh()
    assert platform.warehouse(UNITS) == [[1], [2], [3], [3000]]


def test_a_warehouse_created_without_captures_has_its_foreign_keys(with_history: tuple[Platform, list[str]]) -> None:
    platform, partitions = with_history
    keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'warehouse'::regnamespace"
    before = platform.warehouse(keys)
    platform.warehouse("DROP SCHEMA warehouse CASCADE")
    delete_bucket(platform.ingestion_url)
    platform.refresh("warehouse", partition=partitions[0])
    assert platform.warehouse(keys) == before


def test_without_the_dagster_database_the_next_run_continues_after_the_last_capture(
    with_history: tuple[Platform, list[str]],
) -> None:
    platform, _ = with_history
    with dg.instance_for_test() as new_instance:
        assert evaluate_sensor(platform, new_instance).skip_message == "every capture is loaded"
        activity = evaluate_sensor(platform, new_instance, sensor="source_activity")
        assert "the source has changed" in activity.skip_message, "a capture has just been made"
        platform.totesys("UPDATE sales_order SET units_sold = 4 WHERE sales_order_id = 1")
        platform.run(instance=new_instance)
    assert platform.latest_capture.full_because is None, "only changes are captured"
    assert platform.warehouse(UNITS) == [[1], [2], [3], [4]]
