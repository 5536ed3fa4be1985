"""What is lost can be had again: docs/operations.md tells how, and these do it."""

import shutil
from datetime import timedelta

import dagster as dg
import pytest

from etl_assets_tests.platform import Platform
from etl_assets_tests.test_automation import asked_for, look
from etl_assets_tests.test_catalogue import replay_range
from etl_assets_tests.test_etl import assert_warehouse_equals_totesys

UNITS = "SELECT units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"


@pytest.fixture
def lived(platform: Platform) -> tuple[Platform, list[str]]:
    """The platform after three windows, each with a change; and the windows."""
    platform.now -= timedelta(hours=1)
    partitions = []
    for units in (1, 2, 3):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        platform.run()
        partitions.append(platform.partition)
        platform.next_window()
    return platform, partitions


def lose(url: str) -> None:
    shutil.rmtree(url.removeprefix("file://"))


def test_the_warehouse_is_made_again_from_the_ingestion_bucket_with_all_its_history(
    lived: tuple[Platform, list[str]],
) -> None:
    platform, partitions = lived
    before = platform.contents()
    platform.warehouse("DROP SCHEMA warehouse CASCADE")
    replay_range(platform, partitions[0], partitions[-1], "transformation", "warehouse")
    assert platform.contents() == before


def test_without_the_transformation_bucket_nothing_stops_and_it_is_made_again(
    lived: tuple[Platform, list[str]],
) -> None:
    platform, partitions = lived
    lose(platform.transformation_url)
    platform.run()
    assert_warehouse_equals_totesys(platform)
    before = platform.contents()
    replay_range(platform, partitions[0], partitions[-1], "transformation", "warehouse")
    assert platform.contents() == before


def test_without_the_ingestion_bucket_a_capture_of_everything_begins_anew_and_the_warehouse_keeps_its_history(
    lived: tuple[Platform, list[str]],
) -> None:
    platform, _ = lived
    lose(platform.ingestion_url)
    platform.totesys("UPDATE sales_order SET units_sold = 4 WHERE sales_order_id = 1")
    platform.totesys("DELETE FROM payment WHERE payment_id = 1")
    platform.run()
    assert platform.newest_capture.full_because == "it is the first capture"
    assert_warehouse_equals_totesys(platform)
    assert platform.warehouse(UNITS) == [[1], [2], [3], [4]]
    platform.next_window()
    platform.totesys("UPDATE sales_order SET units_sold = 5 WHERE sales_order_id = 1")
    platform.run()
    assert platform.warehouse(UNITS)[-1] == [5]


def test_a_warehouse_made_where_no_capture_is_left_has_its_foreign_keys(lived: tuple[Platform, list[str]]) -> None:
    platform, partitions = lived
    keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'warehouse'::regnamespace"
    before = platform.warehouse(keys)
    platform.warehouse("DROP SCHEMA warehouse CASCADE")
    lose(platform.ingestion_url)
    platform.run("warehouse", partition=partitions[0])
    assert platform.warehouse(keys) == before


def test_without_dagsters_database_the_next_run_goes_on_where_the_last_ended(
    lived: tuple[Platform, list[str]],
) -> None:
    platform, _ = lived
    with dg.instance_for_test() as another:
        assert look(platform, another).skip_message == "every capture is loaded"
        assert asked_for(look(platform, another, sensor="source_activity"))
        platform.totesys("UPDATE sales_order SET units_sold = 4 WHERE sales_order_id = 1")
        platform.run(instance=another)
    assert platform.newest_capture.full_because is None, "it takes what changed, as if nothing had happened"
    assert platform.warehouse(UNITS) == [[1], [2], [3], [4]]
