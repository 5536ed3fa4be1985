"""Schedules and sensors: what they request, when, and into which partition."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from etl_assets.adapters.postgres import DatabaseUnavailableError, connect
from etl_assets.adapters.settings import Settings
from etl_assets.automation.sensors import BeforeFirstPartitionError, CatchUpFailedError, RebuildFailedError
from etl_assets.catalog.stages import CAPTURE_OP
from etl_assets.definitions import definitions, defs
from etl_assets.ingestion.changes import write_count
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets_tests.harness import (
    Platform,
    assert_warehouse_equals_totesys,
    evaluate_sensor,
    requested_partitions,
    until,
)
from etl_assets_tests.pipeline import STAR

NOWHERE = "postgresql://nobody@/nothing?host=/nowhere"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as temporary:
        yield temporary


def requests_of(schedule: str, instance: dg.DagsterInstance, at: datetime) -> list[dg.RunRequest]:
    repository = defs.get_repository_def()
    context = dg.build_schedule_context(instance, scheduled_execution_time=at, repository_def=repository)
    return list(repository.get_schedule_def(schedule).evaluate_tick(context).run_requests or ())


@pytest.fixture
def with_backlog(platform: Platform) -> Platform:
    """The platform with a load, and three later captures that are not loaded because the warehouse was down."""
    platform.refresh()
    platform.environment.setenv("WAREHOUSE_DATABASE_URL", NOWHERE)
    for units in (1, 2, 3):
        platform.next_window()
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        platform.refresh("ingestion", "transformation")
    platform.environment.setenv("WAREHOUSE_DATABASE_URL", platform.warehouse_url)
    return platform


def queue_run(platform: Platform, instance: dg.DagsterInstance) -> dg.DagsterRun:
    job = platform.definitions.resolve_job_def("etl")
    return instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)


def test_etl_schedule_requests_the_current_partition_every_15_minutes(instance: dg.DagsterInstance) -> None:
    with dg.partition_loading_context(effective_dt=datetime(2026, 11, 23, 10, 31, tzinfo=UTC)):
        [request] = requests_of("etl_schedule", instance, datetime(2026, 11, 23, 10, 15, tzinfo=UTC))
    assert (request.partition_key, request.run_config) == ("2026-11-23-10:30", {}), "a late tick captures now"
    assert defs.get_repository_def().get_schedule_def("etl_schedule").cron_schedule == "*/15 * * * *"


def test_etl_schedule_skips_while_a_run_is_queued(platform: Platform, instance: dg.DagsterInstance) -> None:
    now = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
    queued = queue_run(platform, instance)
    assert requests_of("etl_schedule", instance, now) == []
    instance.delete_run(queued.run_id)
    assert len(requests_of("etl_schedule", instance, now)) == 1


def test_etl_full_capture_requests_a_full_capture_into_the_current_partition(instance: dg.DagsterInstance) -> None:
    with dg.partition_loading_context(effective_dt=datetime(2026, 11, 23, 4, 40, tzinfo=UTC)):
        [request] = requests_of("etl_full_capture", instance, datetime(2026, 11, 23, 3, 1, tzinfo=UTC))
    assert request.partition_key == "2026-11-23-04:30", "a late tick captures now"
    assert request.run_config["ops"][CAPTURE_OP]["config"] == {"full_capture": True}
    job = defs.resolve_job_def("etl")
    assert dg.validate_run_config(job, request.run_config)


@pytest.mark.parametrize(("automation", "status"), [("", "STOPPED"), ("off", "STOPPED"), ("on", "RUNNING")])
def test_automation_is_off_by_default_and_on_in_a_deployment(automation: str, status: str) -> None:
    repository = definitions(settings=Settings.from_environment({"AUTOMATION": automation})).get_repository_def()
    schedules = {schedule.name: schedule.default_status.value for schedule in repository.schedule_defs}
    sensors = {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs}
    assert schedules == dict.fromkeys(["etl_schedule", "etl_full_capture"], status)
    assert sensors == dict.fromkeys(
        ["source_activity", "catch_up", "rebuild_sensor", "reports_sensor", "alerts"], status
    )


def test_the_cron_expressions_of_the_schedules_are_settings() -> None:
    environment = {"ETL_CRON": "*/5 * * * *", "FULL_CAPTURE_CRON": "0 22 * * 0"}
    repository = definitions(settings=Settings.from_environment(environment)).get_repository_def()
    assert repository.get_schedule_def("etl_schedule").cron_schedule == environment["ETL_CRON"]
    assert repository.get_schedule_def("etl_full_capture").cron_schedule == environment["FULL_CAPTURE_CRON"]


def evaluate_source_activity(
    platform: Platform, instance: dg.DagsterInstance, cursor: str | None = None, pause: int = 0
) -> Any:
    """Evaluate the sensor, with a pause in seconds: with none, as if it were over."""
    urls = (platform.totesys_url, platform.warehouse_url, platform.buckets_url)
    settings = Settings(activity_min_pause=timedelta(seconds=pause))
    paused = Platform(*urls, platform.environment, settings=settings)
    paused.now = platform.now
    return evaluate_sensor(paused, instance, cursor, sensor="source_activity")


def change(platform: Platform) -> None:
    """Update a row of totesys, and wait until the statistics count it."""
    with connect(platform.totesys_url) as connection:
        before, _ = write_count(connection, TOTESYS_TABLES)
        connection.run("UPDATE design SET file_name = file_name || 'x' WHERE design_id = 1")
    with connect(platform.totesys_url) as connection:
        until(lambda: write_count(connection, TOTESYS_TABLES)[0] != before)


def test_a_change_is_requested_once(platform: Platform, instance: dg.DagsterInstance) -> None:
    first = evaluate_source_activity(platform, instance)
    assert requested_partitions(first) == [platform.partition]
    second = evaluate_source_activity(platform, instance, first.cursor)
    assert (requested_partitions(second), "is already requested" in second.skip_message) == ([], True)
    platform.refresh()
    captured = evaluate_source_activity(platform, instance, second.cursor)
    assert "the changes are in capture" in captured.skip_message
    unchanged = evaluate_source_activity(platform, instance, captured.cursor)
    assert unchanged.skip_message == "nothing has changed"
    change(platform)
    assert requested_partitions(evaluate_source_activity(platform, instance, unchanged.cursor)) == [platform.partition]


def test_a_cursor_of_an_older_version_counts_as_none(platform: Platform, instance: dg.DagsterInstance) -> None:
    cursor = json.dumps({"sign": 1, "at": "2026-11-23T10:00:00", "captured": True, "asked": platform.partition})
    assert requested_partitions(evaluate_source_activity(platform, instance, cursor)) == [platform.partition]


def test_a_change_is_not_requested_while_a_run_is_queued(platform: Platform, instance: dg.DagsterInstance) -> None:
    queued = queue_run(platform, instance)
    skipped = evaluate_source_activity(platform, instance)
    assert (requested_partitions(skipped), "is already queued" in skipped.skip_message) == ([], True)
    instance.delete_run(queued.run_id)  # it ran after its window had ended, and captured nothing
    assert requested_partitions(evaluate_source_activity(platform, instance, skipped.cursor)) == [platform.partition]


def test_a_change_that_is_not_captured_is_requested_again_in_the_next_window(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    first = evaluate_source_activity(platform, instance)
    platform.next_window()
    assert requested_partitions(evaluate_source_activity(platform, instance, first.cursor)) == [platform.partition]


def test_a_capture_made_before_a_change_does_not_count_as_its_capture(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    platform.refresh()
    change(platform)
    assert requested_partitions(evaluate_source_activity(platform, instance)) == [platform.partition]


def test_a_busy_source_makes_one_run_per_pause_and_a_quiet_one_none(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    platform.refresh()
    cursor = None
    for _ in range(3):
        change(platform)
        gathering = evaluate_source_activity(platform, instance, cursor, pause=600)
        assert (requested_partitions(gathering), "are gathered until" in gathering.skip_message) == ([], True)
        cursor = gathering.cursor
    requested = evaluate_source_activity(platform, instance, cursor)
    assert requested_partitions(requested) == [platform.partition], "the pause is over, and nothing else has changed"
    change(platform)
    starting = evaluate_source_activity(platform, instance, requested.cursor)
    assert "is already requested" in starting.skip_message, "the run captures this change too"
    platform.refresh()
    captured = evaluate_source_activity(platform, instance, starting.cursor)
    assert "the changes are in capture" in captured.skip_message
    assert (
        evaluate_source_activity(platform, instance, captured.cursor, pause=600).skip_message == "nothing has changed"
    )


def test_gathered_changes_outlast_the_end_of_a_window(platform: Platform, instance: dg.DagsterInstance) -> None:
    platform.refresh()
    change(platform)
    gathering = evaluate_source_activity(platform, instance, pause=600)
    platform.next_window()
    in_the_next = evaluate_source_activity(platform, instance, gathering.cursor, pause=600)
    assert requested_partitions(in_the_next) == [], "a pause does not end with a window"
    requested = evaluate_source_activity(platform, instance, in_the_next.cursor)
    assert requested_partitions(requested) == [platform.partition]
    change(platform)
    platform.next_window()  # before the run has captured
    again = evaluate_source_activity(platform, instance, requested.cursor)
    assert requested_partitions(again) == [platform.partition]


def test_a_run_that_does_not_capture_holds_later_changes_for_no_longer_than_a_run_may_take(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    requested = evaluate_source_activity(platform, instance)
    change(platform)
    state = json.loads(requested.cursor)
    a_minute_ago = datetime.fromisoformat(state["requested_at"]) - timedelta(minutes=1)
    failed = json.dumps(state | {"requested_at": a_minute_ago.isoformat()})
    assert requested_partitions(evaluate_source_activity(platform, instance, failed)) == [platform.partition]


def test_catch_up_requests_captures_oldest_first_until_all_are_loaded(
    with_backlog: Platform, instance: dg.DagsterInstance
) -> None:
    cursor, partitions = None, []
    while requested := requested_partitions(result := evaluate_sensor(with_backlog, instance, cursor)):
        partitions += requested
        with_backlog.refresh("transformation", "warehouse", partition=requested[0])
        cursor = result.cursor
    assert partitions == sorted(partitions)
    assert len(partitions) == 3
    assert result.skip_message == "every capture is loaded"
    assert_warehouse_equals_totesys(with_backlog)
    history = with_backlog.warehouse(
        "SELECT units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"
    )
    assert [units for [units] in history][1:] == [1, 2, 3]


def test_catch_up_names_a_first_partition_that_was_moved_past_a_capture(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    platform.now -= timedelta(days=2)
    platform.refresh("ingestion")
    day = f"{platform.now:%Y-%m-%d}"
    platform.now += timedelta(days=2)
    urls = (platform.totesys_url, platform.warehouse_url, platform.buckets_url)
    start = platform.now.replace(hour=0, minute=0)
    later = Platform(*urls, platform.environment, settings=Settings(partitions_start=start))
    with pytest.raises(BeforeFirstPartitionError, match=f"is captured and not loaded, .* set it to {day} or"):
        evaluate_sensor(later, instance)


def test_catch_up_fills_an_empty_warehouse_from_the_first_capture(
    with_backlog: Platform, instance: dg.DagsterInstance
) -> None:
    first = with_backlog.warehouse("SELECT capture FROM warehouse.loads")[0][0]
    with_backlog.warehouse("DROP SCHEMA warehouse CASCADE")
    assert requested_partitions(evaluate_sensor(with_backlog, instance)) == [first.split("/")[0]]


def test_catch_up_fails_after_ten_attempts_with_growing_pauses_and_names_the_partition(
    with_backlog: Platform, instance: dg.DagsterInstance
) -> None:
    cursor, pauses = None, []
    for attempt in range(1, 11):
        result = evaluate_sensor(with_backlog, instance, cursor)
        [partition] = requested_partitions(result)
        state = json.loads(result.cursor)
        assert state["attempts"] == attempt
        pauses.append(round((datetime.fromisoformat(state["not_before"]) - datetime.now(UTC)).total_seconds() / 60))
        if attempt == 10:
            cursor = json.dumps(state | {"not_before": datetime.now(UTC).isoformat()})
            break
        paused = evaluate_sensor(with_backlog, instance, result.cursor)
        assert requested_partitions(paused) == []
        assert "the next attempt is at" in paused.skip_message
        cursor = json.dumps(state | {"not_before": datetime.now(UTC).isoformat()})
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 360]
    with pytest.raises(CatchUpFailedError, match=f"partition {partition} is captured, but 10 runs could not load it"):
        evaluate_sensor(with_backlog, instance, result.cursor)
    again = evaluate_sensor(with_backlog, instance, cursor)  # six hours later
    assert requested_partitions(again) == [partition]
    assert json.loads(again.cursor)["attempts"] == 1

    with_backlog.refresh("transformation", "warehouse", partition=partition)  # manually
    [next_partition] = requested_partitions(evaluate_sensor(with_backlog, instance, cursor))
    assert next_partition > partition


def test_an_outage_of_the_warehouse_does_not_count_as_an_attempt(
    with_backlog: Platform, instance: dg.DagsterInstance
) -> None:
    with_backlog.environment.setenv("WAREHOUSE_DATABASE_URL", NOWHERE)
    with pytest.raises(DatabaseUnavailableError):
        evaluate_sensor(with_backlog, instance)


def test_catch_up_waits_for_a_run_in_progress_for_an_hour_at_most(
    with_backlog: Platform, instance: dg.DagsterInstance
) -> None:
    job = with_backlog.definitions.resolve_job_def("etl")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert "a run is in progress" in evaluate_sensor(with_backlog, instance).skip_message
    long_ago = datetime.now(UTC) - timedelta(hours=2)
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.exec_driver_sql(
            "UPDATE runs SET create_timestamp = ? WHERE run_id = ?",
            (long_ago.strftime("%Y-%m-%d %H:%M:%S"), run.run_id),
        )
    assert len(requested_partitions(evaluate_sensor(with_backlog, instance))) == 1


def evaluate_rebuild_sensor(platform: Platform, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    return evaluate_sensor(platform, instance, cursor, sensor="rebuild_sensor")


@pytest.fixture
def with_changed_rule(loaded: Platform) -> Platform:
    """The platform with a rule that has changed since the first load."""
    return loaded.declaring(replace(STAR["dim_design"], description="Designs.", transform=with_short_names))


def with_short_names(design: pd.DataFrame) -> pd.DataFrame:
    return design.assign(design_name=design["design_name"].str.slice(0, 3))


def test_a_rebuild_is_requested_once_for_a_rule_that_has_changed_and_no_more_when_it_is_done(
    with_changed_rule: Platform, instance: dg.DagsterInstance
) -> None:
    requested = evaluate_rebuild_sensor(with_changed_rule, instance)
    assert len(requested.run_requests) == 1
    paused = evaluate_rebuild_sensor(with_changed_rule, instance, requested.cursor)
    assert paused.skip_message.startswith("the rules of dim_design have changed; the next attempt is at")
    job = with_changed_rule.definitions.resolve_job_def("rebuild")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    running = evaluate_rebuild_sensor(with_changed_rule, instance, requested.cursor)
    assert running.skip_message == "the rules of dim_design have changed; a rebuild is in progress"
    instance.delete_run(run.run_id)
    assert job.execute_in_process(instance=instance).success
    done = evaluate_rebuild_sensor(with_changed_rule, instance, requested.cursor)
    assert (done.skip_message, done.cursor) == ("every table is built by the rule of now", "")
    key = dg.AssetKey(["warehouse", "dim_design"])
    [observed] = instance.fetch_observations(key, limit=2).records
    assert observed.asset_observation
    designs = with_changed_rule.totesys("SELECT count(*) FROM design WHERE length(design_name) > 3")
    assert [[observed.asset_observation.metadata["dagster/partition_row_count"].value]] == designs


def test_a_rebuild_that_fails_ten_times_raises_an_alert(
    with_changed_rule: Platform, instance: dg.DagsterInstance
) -> None:
    state = json.loads(evaluate_rebuild_sensor(with_changed_rule, instance).cursor)
    with pytest.raises(
        RebuildFailedError, match="the rules of dim_design have changed, and 10 runs of the job rebuild"
    ):
        evaluate_rebuild_sensor(with_changed_rule, instance, json.dumps(state | {"attempts": 10}))


def test_a_rebuild_is_requested_when_many_captures_are_not_loaded(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    platform.refresh("ingestion")
    for _ in range(95):
        platform.refresh("ingestion")
    assert evaluate_rebuild_sensor(platform, instance).skip_message == "every table is built by the rule of now"
    platform.refresh("ingestion")
    requested = evaluate_rebuild_sensor(platform, instance)
    assert len(requested.run_requests) == 1
    assert platform.definitions.resolve_job_def("rebuild").execute_in_process(instance=instance).success
    assert evaluate_sensor(platform, instance).skip_message == "every capture is loaded"
    assert_warehouse_equals_totesys(platform)


def test_the_rebuild_of_outdated_tables_can_be_left_to_an_operator() -> None:
    settings = Settings.from_environment({"AUTOMATION": "on", "REBUILD_OUTDATED": "off"})
    sensors = definitions(settings=settings).get_repository_def().sensor_defs
    off = {sensor.name for sensor in sensors if sensor.default_status is dg.DefaultSensorStatus.STOPPED}
    assert off == {"rebuild_sensor"}


def test_reports_are_requested_after_a_load_that_changed_rows_every_15_minutes_at_most(
    platform: Platform, instance: dg.DagsterInstance
) -> None:
    def evaluate(cursor: str | None) -> tuple[bool, Any]:
        result = evaluate_sensor(platform, instance, cursor, sensor="reports_sensor")
        return bool(result.run_requests), result.cursor

    assert evaluate(None) == (False, None)
    platform.refresh()
    requested, cursor = evaluate(None)
    assert requested
    platform.next_window()
    platform.refresh()
    assert evaluate(cursor) == (False, cursor), "nothing has changed"
    change(platform)
    platform.refresh()
    assert evaluate(cursor) == (False, cursor), "they were requested less than 15 minutes ago"
    earlier = datetime.now(UTC) - timedelta(minutes=15)
    requested, cursor = evaluate(json.dumps(json.loads(cursor) | {"requested_at": earlier.isoformat()}))
    assert requested
    assert evaluate(cursor) == (False, cursor)
