"""What runs by itself: the schedules, and the sensor that asks again for what did not arrive."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from etl_assets.automation import CatchUpFailedError
from etl_assets.databases import DatabaseUnavailableError
from etl_assets.definitions import defs
from etl_assets_tests.platform import Platform
from etl_assets_tests.test_etl import assert_warehouse_equals_totesys

NOWHERE = "postgresql://nobody@/nothing?host=/nowhere"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def tick(schedule: str, instance: dg.DagsterInstance, at: datetime) -> list[dg.RunRequest]:
    repository = defs.get_repository_def()
    context = dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository)
    return list(repository.get_schedule_def(schedule).evaluate_tick(context).run_requests or ())


def look(platform: Platform, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    """Evaluate the sensor."""
    repository = platform.definitions.get_repository_def()
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=repository,
        resources={
            name: platform.definitions.resources[name]  # type: ignore[index]
            for name in ("ingestion_bucket", "warehouse_database")
        },
    )
    with dg.partition_loading_context(effective_dt=platform.now):
        return repository.get_sensor_def("catch_up").evaluate_tick(context)


def asked_for(looked: Any) -> list[str]:
    return [request.partition_key for request in looked.run_requests or ()]


@pytest.fixture
def behind(platform: Platform) -> Platform:
    """The platform after a load, three captures while the warehouse was down, and its return."""
    platform.run()
    platform.environment.setenv("WAREHOUSE_DATABASE_URL", NOWHERE)
    for units in (1, 2, 3):
        platform.next_window()
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        platform.run("ingestion", "transformation")
    platform.environment.setenv("WAREHOUSE_DATABASE_URL", platform.warehouse_url)
    return platform


def test_the_schedule_asks_every_15_minutes_for_the_window_that_begins(instance: dg.DagsterInstance) -> None:
    [asked] = tick("etl_schedule", instance, datetime(2026, 11, 23, 10, 15, tzinfo=UTC))
    assert (asked.partition_key, asked.run_config) == ("2026-11-23-10:15", {})
    assert defs.get_repository_def().get_schedule_def("etl_schedule").cron_schedule == "*/15 * * * *"


def test_once_a_day_a_full_capture_is_asked_for_into_the_present_window(instance: dg.DagsterInstance) -> None:
    with dg.partition_loading_context(effective_dt=datetime(2026, 11, 23, 4, 40, tzinfo=UTC)):
        [asked] = tick("etl_full_capture", instance, datetime(2026, 11, 23, 3, 1, tzinfo=UTC))
    assert asked.partition_key == "2026-11-23-04:30", "a tick that comes late captures now"
    assert asked.run_config["ops"]["ingestion"]["config"] == {"full_capture": True}
    job = defs.resolve_job_def("etl")
    assert dg.validate_run_config(job, asked.run_config)


def test_all_of_it_is_off_until_switched_on() -> None:
    repository = defs.get_repository_def()
    assert {schedule.name: schedule.default_status.value for schedule in repository.schedule_defs} == {
        "etl_schedule": "STOPPED",
        "etl_full_capture": "STOPPED",
    }
    assert [sensor.default_status.value for sensor in repository.sensor_defs] == ["STOPPED"]


def test_what_was_captured_and_not_loaded_is_asked_for_oldest_first_until_all_is_there(
    behind: Platform, instance: dg.DagsterInstance
) -> None:
    cursor, partitions = None, []
    while asked := asked_for(looked := look(behind, instance, cursor)):
        partitions += asked
        behind.run("transformation", "warehouse", partition=asked[0])
        cursor = looked.cursor
    assert partitions == sorted(partitions)
    assert len(partitions) == 3
    assert looked.skip_message == "every capture is loaded"
    assert_warehouse_equals_totesys(behind)
    history = behind.warehouse(
        "SELECT units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"
    )
    assert [units for [units] in history][1:] == [1, 2, 3]


def test_an_empty_warehouse_is_filled_from_the_first_capture_on(behind: Platform, instance: dg.DagsterInstance) -> None:
    first = behind.warehouse("SELECT capture FROM warehouse.loads")[0][0]
    behind.warehouse("DROP SCHEMA warehouse CASCADE")
    assert asked_for(look(behind, instance)) == [first.split("/")[0]]


def test_a_partition_that_fails_is_asked_for_ten_times_with_growing_pauses_and_then_named(
    behind: Platform, instance: dg.DagsterInstance
) -> None:
    cursor, pauses = None, []
    for attempt in range(1, 11):
        looked = look(behind, instance, cursor)
        [partition] = asked_for(looked)
        state = json.loads(looked.cursor)
        assert state["attempts"] == attempt
        pauses.append(round((datetime.fromisoformat(state["not_before"]) - datetime.now(UTC)).total_seconds() / 60))
        if attempt == 10:
            cursor = json.dumps(state | {"not_before": datetime.now(UTC).isoformat()})
            break
        waiting = look(behind, instance, looked.cursor)
        assert asked_for(waiting) == []
        assert "asked for again at" in waiting.skip_message
        cursor = json.dumps(state | {"not_before": datetime.now(UTC).isoformat()})
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 360]
    with pytest.raises(CatchUpFailedError, match=f"partition {partition} is captured, but 10 runs could not load it"):
        look(behind, instance, looked.cursor)
    again = look(behind, instance, cursor)  # six hours later
    assert asked_for(again) == [partition]
    assert json.loads(again.cursor)["attempts"] == 1

    behind.run("transformation", "warehouse", partition=partition)  # by a person
    [following] = asked_for(look(behind, instance, cursor))
    assert following > partition


def test_an_outage_spends_no_attempt(behind: Platform, instance: dg.DagsterInstance) -> None:
    behind.environment.setenv("WAREHOUSE_DATABASE_URL", NOWHERE)
    with pytest.raises(DatabaseUnavailableError):
        look(behind, instance)


def test_a_run_under_way_is_waited_for_but_not_for_ever(behind: Platform, instance: dg.DagsterInstance) -> None:
    job = behind.definitions.resolve_job_def("etl")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert "a run is under way" in look(behind, instance).skip_message
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql(
            "UPDATE runs SET create_timestamp = ? WHERE run_id = ?",
            (long_ago.strftime("%Y-%m-%d %H:%M:%S"), run.run_id),
        )
    assert len(asked_for(look(behind, instance))) == 1
