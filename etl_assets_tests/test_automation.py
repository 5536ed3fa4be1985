"""What runs by itself: the schedules, and the sensor that asks again for what did not arrive."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from etl_assets.automation import CatchUpFailedError
from etl_assets.databases import DatabaseUnavailableError, connect
from etl_assets.definitions import definitions, defs
from etl_assets.environment import EnvironmentVariableError, Settings
from etl_assets.ingestion import activity
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets_tests.platform import Platform, until
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


def look(platform: Platform, instance: dg.DagsterInstance, cursor: str | None = None, sensor: str = "catch_up") -> Any:
    """Evaluate a sensor."""
    repository = platform.definitions.get_repository_def()
    definition = repository.get_sensor_def(sensor)
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        repository_def=repository,
        resources={
            name: platform.definitions.resources[name]  # type: ignore[index]
            for name in definition.required_resource_keys
        },
    )
    with dg.partition_loading_context(effective_dt=platform.now):
        return definition.evaluate_tick(context)


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


def queue_run(platform: Platform, instance: dg.DagsterInstance) -> dg.DagsterRun:
    job = platform.definitions.resolve_job_def("etl")
    return instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)


def test_the_schedule_asks_every_15_minutes_for_the_present_window(instance: dg.DagsterInstance) -> None:
    with dg.partition_loading_context(effective_dt=datetime(2026, 11, 23, 10, 31, tzinfo=UTC)):
        [asked] = tick("etl_schedule", instance, datetime(2026, 11, 23, 10, 15, tzinfo=UTC))
    assert (asked.partition_key, asked.run_config) == ("2026-11-23-10:30", {}), "a tick that comes late captures now"
    assert defs.get_repository_def().get_schedule_def("etl_schedule").cron_schedule == "*/15 * * * *"


def test_the_schedule_adds_no_run_to_one_that_is_queued(platform: Platform, instance: dg.DagsterInstance) -> None:
    now = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
    queued = queue_run(platform, instance)
    assert tick("etl_schedule", instance, now) == []
    instance.delete_run(queued.run_id)
    assert len(tick("etl_schedule", instance, now)) == 1


def test_once_a_day_a_full_capture_is_asked_for_into_the_present_window(instance: dg.DagsterInstance) -> None:
    with dg.partition_loading_context(effective_dt=datetime(2026, 11, 23, 4, 40, tzinfo=UTC)):
        [asked] = tick("etl_full_capture", instance, datetime(2026, 11, 23, 3, 1, tzinfo=UTC))
    assert asked.partition_key == "2026-11-23-04:30", "a tick that comes late captures now"
    assert asked.run_config["ops"]["ingestion"]["config"] == {"full_capture": True}
    job = defs.resolve_job_def("etl")
    assert dg.validate_run_config(job, asked.run_config)


@pytest.mark.parametrize(("automation", "status"), [("", "STOPPED"), ("off", "STOPPED"), ("on", "RUNNING")])
def test_a_laptop_does_nothing_by_itself_and_a_deployment_does(automation: str, status: str) -> None:
    made = definitions(settings=Settings.from_environment({"AUTOMATION": automation})).get_repository_def()
    schedules = {schedule.name: schedule.default_status.value for schedule in made.schedule_defs}
    sensors = {sensor.name: sensor.default_status.value for sensor in made.sensor_defs}
    assert schedules == dict.fromkeys(["etl_schedule", "etl_full_capture"], status)
    assert sensors == dict.fromkeys(["source_activity", "catch_up", "something_new", "alerts"], status)


def test_when_the_schedules_ask_is_configured() -> None:
    given = {"ETL_CRON": "*/5 * * * *", "FULL_CAPTURE_CRON": "0 22 * * 0"}
    made = definitions(settings=Settings.from_environment(given)).get_repository_def()
    assert made.get_schedule_def("etl_schedule").cron_schedule == given["ETL_CRON"]
    assert made.get_schedule_def("etl_full_capture").cron_schedule == given["FULL_CAPTURE_CRON"]


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("AUTOMATION", "yes", "AUTOMATION must be on or off, not 'yes'"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT must be json or text, not 'xml'"),
        ("ETL_CRON", "hourly, please", "ETL_CRON must be a cron expression .* not 'hourly, please'"),
        ("FULL_CAPTURE_CRON", "61 * * * *", "FULL_CAPTURE_CRON must be a cron expression .* not '61"),
        ("FRESHNESS_WARN_MINUTES", "soon", "FRESHNESS_WARN_MINUTES must be a whole number of minutes, not 'soon'"),
        ("FRESHNESS_FAIL_MINUTES", "0", "FRESHNESS_FAIL_MINUTES must be a whole number of minutes, not '0'"),
        ("FRESHNESS_FAIL_MINUTES", "30", "FRESHNESS_WARN_MINUTES must be less than FRESHNESS_FAIL_MINUTES"),
    ],
)
def test_a_malformed_setting_is_one_line_that_names_it(variable: str, value: str, line: str) -> None:
    with pytest.raises(EnvironmentVariableError, match=f"^{line}"):
        definitions(settings=Settings.from_environment({variable: value}))


def activity_looks(platform: Platform, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    return look(platform, instance, cursor, sensor="source_activity")


def change(platform: Platform) -> None:
    """Change totesys, and wait until its statistics tell of it."""
    with connect(platform.totesys_url) as connection:
        before, _ = activity(connection, TOTESYS_TABLES)
        connection.run("UPDATE design SET file_name = file_name || 'x' WHERE design_id = 1")
    with connect(platform.totesys_url) as connection:
        until(lambda: activity(connection, TOTESYS_TABLES)[0] != before)


def test_a_change_is_asked_for_once_and_quiet_is_not(platform: Platform, instance: dg.DagsterInstance) -> None:
    first = activity_looks(platform, instance)
    assert asked_for(first) == [platform.partition]
    waiting = activity_looks(platform, instance, first.cursor)
    assert (asked_for(waiting), "was asked for" in waiting.skip_message) == ([], True)
    platform.run()
    captured = activity_looks(platform, instance, waiting.cursor)
    assert "is captured" in captured.skip_message
    quiet = activity_looks(platform, instance, captured.cursor)
    assert quiet.skip_message == "nothing has changed"
    change(platform)
    assert asked_for(activity_looks(platform, instance, quiet.cursor)) == [platform.partition]


def test_a_change_while_a_run_is_queued_is_left_to_that_run_and_asked_for_if_it_does_not_capture(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    queued = queue_run(platform, instance)
    seen = activity_looks(platform, instance)
    assert (asked_for(seen), "is queued already" in seen.skip_message) == ([], True)
    instance.delete_run(queued.run_id)  # it has run, too late for its window, and captured nothing
    assert asked_for(activity_looks(platform, instance, seen.cursor)) == [platform.partition]


def test_a_run_that_began_after_its_window_is_asked_for_again_in_the_next(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    asked = activity_looks(platform, instance)
    platform.next_window()
    assert asked_for(activity_looks(platform, instance, asked.cursor)) == [platform.partition]


def test_a_capture_made_before_the_change_is_not_taken_for_one_of_it(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    platform.run()
    change(platform)
    assert asked_for(activity_looks(platform, instance)) == [platform.partition]


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


def test_reports_are_asked_for_when_a_load_has_changed_something_and_every_15_minutes_at_most(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    def asks(cursor: str | None) -> tuple[bool, Any]:
        looked = look(platform, instance, cursor, sensor="something_new")
        return bool(looked.run_requests), looked.cursor

    assert asks(None) == (False, None)
    platform.run()
    asked, cursor = asks(None)
    assert asked
    platform.next_window()
    platform.run()
    assert asks(cursor) == (False, cursor), "nothing has changed"
    change(platform)
    platform.run()
    assert asks(cursor) == (False, cursor), "they were asked for just now"
    earlier = datetime.now(UTC) - timedelta(minutes=15)
    asked, cursor = asks(json.dumps(json.loads(cursor) | {"at": earlier.isoformat()}))
    assert asked
    assert asks(cursor) == (False, cursor)
