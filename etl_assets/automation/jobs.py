"""The jobs, their partitions, and the run requests of schedules and sensors.

`etl` runs on `etl_schedule` every 15 minutes, on `source_activity` when the source has changed, and on
`etl_full_capture` once a day. `replay` runs on `catch_up`, `rebuild` on `rebuild_sensor` and on `catch_up` if many
captures are not loaded, and `report` on `reports_sensor`. `ingestion`, `transformation` and `warehouse` are parts of
`etl`, to be launched or scheduled by themselves.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from etl_assets.adapters.settings import EnvironmentVariableError, Settings, Variable
from etl_assets.catalog.partitions import PARTITION_KEY_FORMAT, WINDOW_CRON, WINDOW_MINUTES
from etl_assets.catalog.stages import ETL, INGESTION, REPLAY, REPORT, REPORTS, TRANSFORMATION, WAREHOUSE

MAX_RUNTIME = "dagster/max_runtime"
"""The tag with the seconds after which the daemon ends a run. `deploy/dagster.yaml` limits runs without it."""

EVERYDAY_SECONDS = "2700"
"""The limit of everyday runs. A hung run must not keep others waiting; a statement of PostgreSQL times out before."""

_RETRY_ALL_STEPS = {"dagster/retry_strategy": "ALL_STEPS"}
"""The tag that makes the retry of an interrupted run do every step, not only those that failed.

Dagster's default, `FROM_FAILURE`, leaves out the steps that were skipped: those that depend on the failed one.
"""

_STAGES = (INGESTION, TRANSFORMATION, WAREHOUSE)


class AlertTestConfig(dg.Config):
    """The configuration of the job `alert_test`: whether it fails, which raises an alert, or resolves the alert."""

    fail: bool = True


@dg.op
def fail_on_purpose(config: AlertTestConfig) -> None:
    """Fail, unless the configuration says otherwise."""
    if config.fail:
        raise dg.Failure("this is a test: alerts arrive", allow_retries=False)


@dg.job
def alert_test() -> None:
    """Fail on purpose, to see that alerts arrive; with `fail: false`, succeed and resolve the alert."""
    fail_on_purpose()


def jobs(settings: Settings) -> list[Any]:
    """Build the jobs. On ECS, runs of one stage are tasks of a definition of their own, with a role of their own."""
    asset_jobs = []
    for name, stages, seconds, description in (
        (ETL, _STAGES, EVERYDAY_SECONDS, "Capture changes in totesys, transform and load them."),
        (INGESTION, (INGESTION,), EVERYDAY_SECONDS, "Capture changes in totesys."),
        (TRANSFORMATION, (TRANSFORMATION,), EVERYDAY_SECONDS, "Transform captures."),
        (WAREHOUSE, (WAREHOUSE,), EVERYDAY_SECONDS, "Load what is transformed. Loading is idempotent."),
        (REPLAY, _STAGES[1:], None, "Transform and load captures again. Loading is idempotent."),
        (REPORT, (REPORTS,), EVERYDAY_SECONDS, "Query the warehouse for the reports, and write them to one HTML page."),
    ):
        tags = _RETRY_ALL_STEPS | ({MAX_RUNTIME: seconds} if seconds else {})
        if settings.run_task_definition and name in _STAGES:
            tags["ecs/run_task_kwargs"] = json.dumps({"taskDefinition": f"{settings.run_task_definition}-{name}"})
        selection = dg.AssetSelection.groups(*stages)
        asset_jobs.append(dg.define_asset_job(name, selection, description=description, tags=tags))
    return [*asset_jobs, alert_test]


_QUEUED = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
UNFINISHED = [*_QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def capture_partitions(start: datetime) -> dg.TimeWindowPartitionsDefinition:
    """Return the partitions: 15-minute windows, UTC, from the first one to the one that contains now.

    Raises:
        EnvironmentVariableError: the start is in the future, so that there would be none, or within a window.
    """
    variable, written = Variable.PARTITIONS_START, f"{start:%Y-%m-%dT%H:%M}"
    if start > datetime.now(UTC):
        raise EnvironmentVariableError(variable, f"is {written}, in the future: set it to a day up to today")
    if start.minute % WINDOW_MINUTES:
        problem = f"is {written}, within a window: set it to a time at which one begins, every {WINDOW_MINUTES} minutes"
        raise EnvironmentVariableError(variable, problem)
    return dg.TimeWindowPartitionsDefinition(
        start=f"{start:{PARTITION_KEY_FORMAT}}", fmt=PARTITION_KEY_FORMAT, cron_schedule=WINDOW_CRON, end_offset=1
    )


def request_current_partition(
    partitions: dg.TimeWindowPartitionsDefinition, run_config: Mapping[str, Any] | None = None
) -> dg.RunRequest:
    """Return a request for the current window, not the scheduled one: however late the tick, a capture is made now."""
    current = partitions.get_last_partition_key()
    # Without the tag, Dagster rejects a window that begins after the scheduled time.
    return dg.RunRequest(partition_key=current, tags={"dagster/partition": current}, run_config=run_config)


def is_etl_queued(instance: dg.DagsterInstance) -> bool:
    """Whether a run of `etl` is waiting to start."""
    return instance.get_runs_count(dg.RunsFilter(job_name=ETL, statuses=_QUEUED)) > 0
