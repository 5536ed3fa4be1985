"""A deployment with the settings of production: automation, alerts, recovery, metrics and logs."""

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic, sleep
from typing import Any

import boto3
import pytest

from etl_assets.adapters.metrics import ROWS_LOADED, SECONDS_FROM_CAPTURE_TO_LOAD
from etl_assets.adapters.postgres import DatabaseUnavailableError, StatementRefusedError
from etl_assets.catalog.stages import LOAD_OP, TRANSFORMATION, WAREHOUSE
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.e2e.services import Deployment, deployment, overlapping
from etl_assets_tests.harness import until

pytestmark = pytest.mark.e2e

PROMISED_SECONDS = 120
FAILED = "etl failed at warehouse/load"


@pytest.fixture(scope="module")
def deployed(aws: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment whose sensors are running, after a first load."""
    settings = {"ETL_CRON": "* * * * *", "FRESHNESS_WARN_MINUTES": "2", "FRESHNESS_FAIL_MINUTES": "30"}
    with deployment(tmp_path_factory.mktemp("deployment"), **settings) as running:
        running.start_sensors(
            "source_activity", "catch_up", "rebuild_sensor"
        )  # `alerts` is on, because there is a topic
        until(lambda: count_loads(running), seconds=300)
        yield running


def count_loads(deployed: Deployment) -> int:
    try:
        return int(deployed.warehouse("SELECT count(*) FROM warehouse.loads")[0][0])
    except (DatabaseUnavailableError, StatementRefusedError):
        return 0


def units_sold(deployed: Deployment) -> int:
    [[units]] = deployed.warehouse("SELECT units_sold FROM warehouse.fact_sales_order_current WHERE sales_order_id = 1")
    return int(units)


def is_deleted(deployed: Deployment, payment: int) -> bool:
    return not deployed.warehouse(f"SELECT 1 FROM warehouse.fact_payment_current WHERE payment_id = {payment}")


def set_units(deployed: Deployment, units: int) -> None:
    """Change an order without a new `last_updated`, as totesys does."""
    deployed.totesys(f"UPDATE sales_order SET units_sold = {units} WHERE sales_order_id = 1")


def await_units(deployed: Deployment, units: int) -> None:
    until(lambda: units_sold(deployed) == units, seconds=300)


def await_alert(deployed: Deployment, subject: str, earlier: int) -> None:
    until(lambda: subject in deployed.alerts()[earlier:], seconds=300)


def await_idle(deployed: Deployment) -> None:
    until(lambda: not deployed.runs("QUEUED", "NOT_STARTED", "STARTING", "STARTED"), seconds=240)


def test_a_change_is_loaded_within_two_minutes_without_intervention(
    deployed: Deployment, figures: Callable[..., None]
) -> None:
    seconds = []
    for units in (1_001, 1_002, 1_003):
        await_idle(deployed)
        set_units(deployed, units)
        started = monotonic()
        await_units(deployed, units)
        seconds.append(round(monotonic() - started))
    figures(seconds_from_change_to_warehouse_at_most=max(seconds))
    assert max(seconds) < PROMISED_SECONDS, seconds


def test_a_deletion_is_loaded_within_two_minutes_without_intervention(
    deployed: Deployment, figures: Callable[..., None]
) -> None:
    seconds = []
    for payment in (11, 12):
        await_idle(deployed)
        deployed.totesys(f"DELETE FROM payment WHERE payment_id = {payment}")
        started = monotonic()
        until(partial(is_deleted, deployed, payment), seconds=300)
        seconds.append(round(monotonic() - started))
    [[full]] = deployed.warehouse(
        """SELECT count(*) FROM warehouse.fact_payment JOIN warehouse.loads USING (captured_at)
           WHERE deleted AND full_capture"""
    )
    assert full == 0, "found by ordinary captures"
    figures(seconds_from_deletion_to_warehouse_at_most=max(seconds))
    assert max(seconds) < PROMISED_SECONDS, seconds


def test_runs_of_schedule_and_sensor_never_overlap_or_accumulate(deployed: Deployment) -> None:
    await_idle(deployed)
    most_queued = 0
    with deployed.started_schedule("etl_schedule"):
        until(lambda: deployed.runs("SUCCESS", schedule_name="etl_schedule"), seconds=180)
        deadline = monotonic() + 60
        while monotonic() < deadline:
            set_units(deployed, int(monotonic()))
            most_queued = max(most_queued, len(deployed.runs("QUEUED", "NOT_STARTED")))
            sleep(1)
    await_idle(deployed)
    assert 1 <= most_queued <= 2, "both may request a run at the same moment"
    assert not overlapping(run for run in deployed.runs("SUCCESS") if run["jobName"] == "etl")


def test_an_outage_of_the_warehouse_and_its_end_are_each_alerted_once(deployed: Deployment) -> None:
    critical = [FAILED, "sensor catch_up keeps failing", "sensor rebuild_sensor keeps failing"]
    expected = [*critical, "data is late"]
    await_idle(deployed)
    until(lambda: units_sold(deployed), seconds=60)
    earlier = len(deployed.alerts())
    deployed.warehouse_server.stop()
    set_units(deployed, 2_001)
    for subject in expected:
        await_alert(deployed, subject, earlier)
    message = next(message["Message"] for message in deployed.messages if FAILED in message["Subject"])
    assert "job: etl" in message
    assert "step: warehouse__load" in message
    assert "cause: DatabaseUnavailableError: no connection to PostgreSQL" in message
    assert f"run: {deployed.url}/runs/" in message

    deployed.warehouse_server.start()
    await_units(deployed, 2_001)
    for subject in expected:
        await_alert(deployed, f"recovered: {subject}", earlier)
    for subject in critical:
        assert [deployed.alerts()[earlier:].count(each) for each in (subject, f"recovered: {subject}")] == [1, 1]

    lines = deployed.log("code-server")
    captured = next(line for line in lines if line.get("message", "").startswith("captured"))
    assert {"timestamp", "level", "logger", "run", "job", "partition", "step", "rows", "capture"} <= captured.keys()
    failed = next(line for line in lines if line.get("event") == "STEP_FAILURE")
    assert (failed["level"], failed["step"]) == ("ERROR", LOAD_OP)
    assert "DatabaseUnavailableError" in failed["traceback"]
    logged = {line["alert"]["summary"] for line in lines if line["level"] == "CRITICAL"}
    assert logged == set(critical)


def test_a_run_whose_worker_is_killed_is_retried_without_an_alert(deployed: Deployment) -> None:
    earlier = len(deployed.alerts())
    await_idle(deployed)
    set_units(deployed, 3_001)
    [run, *_] = until(lambda: deployed.runs("STARTED"), seconds=240)
    os.kill(worker_pid(deployed, run["runId"]), signal.SIGKILL)
    until(lambda: deployed.runs("SUCCESS", parent_run_id=run["runId"]), seconds=240)
    await_units(deployed, 3_001)
    ticks = count_ticks_of_alerts(deployed)
    until(lambda: count_ticks_of_alerts(deployed) > ticks + 1, seconds=120)
    assert [alert for alert in deployed.alerts()[earlier:] if "failed" in alert] == []


def count_ticks_of_alerts(deployed: Deployment) -> int:
    return sum(line["event"].startswith("Sensor alerts skipped") for line in deployed.log("daemon"))


def worker_pid(deployed: Deployment, run: str) -> int:
    """Return the PID of a run's process, from the log of the run."""
    marker = "Started process for run (pid: "
    [line] = [line for line in deployed.events(run) if marker in line]
    return int(line.partition(marker)[2].partition(")")[0])


def test_a_backfill_transforms_in_parallel_runs_and_loads_in_consecutive_ones(deployed: Deployment) -> None:
    await_idle(deployed)
    transformations = deployed.backfill(*(f"{TRANSFORMATION}/{star.name}" for star in STAR_TABLES))
    assert overlapping(transformations)
    loads = deployed.backfill(*(f"{WAREHOUSE}/{star.name}" for star in STAR_TABLES))
    assert not overlapping(loads)
    assert loads == sorted(loads, key=lambda run: float(run["startTime"]))


def test_a_table_that_was_built_by_another_rule_is_rebuilt_without_intervention(deployed: Deployment) -> None:
    await_idle(deployed)
    deployed.warehouse("UPDATE warehouse.dim_design SET design_name = 'by an older rule'")
    deployed.warehouse("UPDATE warehouse.tables SET rule = 'older' WHERE star_table = 'dim_design'")
    by_older_rule = "SELECT 1 FROM warehouse.dim_design WHERE design_name = 'by an older rule'"
    until(lambda: not deployed.warehouse(by_older_rule), seconds=240)
    await_idle(deployed)
    assert [run["jobName"] for run in deployed.runs("SUCCESS") if run["jobName"] == "rebuild"] == ["rebuild"]


def statistics_of(metric: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    [datapoint] = boto3.client("cloudwatch").get_metric_statistics(
        Namespace="totesys-etl",
        MetricName=metric,
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=1),
        Period=7200,
        Statistics=["SampleCount", "Sum", "Minimum"],
    )["Datapoints"]
    return dict(datapoint)


def test_each_load_publishes_metrics_to_cloudwatch(deployed: Deployment) -> None:
    await_idle(deployed)
    before, earlier = statistics_of(ROWS_LOADED), count_loads(deployed)
    set_units(deployed, 4_001)
    await_units(deployed, 4_001)
    await_idle(deployed)
    after, later = statistics_of(ROWS_LOADED), count_loads(deployed)
    assert after["SampleCount"] - before["SampleCount"] == later - earlier > 0
    assert after["Sum"] > before["Sum"]
    assert 0 < statistics_of(SECONDS_FROM_CAPTURE_TO_LOAD)["Minimum"] < PROMISED_SECONDS


def test_every_part_writes_json_lines(deployed: Deployment) -> None:
    for part in ("code-server", "daemon", "webserver"):
        lines = deployed.log(part)
        assert lines, part
        assert all({"timestamp", "level", "logger"} <= line.keys() for line in lines), part


def test_no_secret_is_in_the_logs(deployed: Deployment) -> None:
    for file in deployed.folder.glob("*.std*"):
        assert b"s3cret" not in file.read_bytes(), file
