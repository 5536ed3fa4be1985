"""When things run: the job, its schedules, and the sensor that asks again for what did not arrive."""

import json
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from etl_assets.captures import PARTITION_FORMAT, following, partition_of
from etl_assets.databases import DatabaseResource
from etl_assets.errors import PermanentError
from etl_assets.ingestion import INGESTION
from etl_assets.storage import BucketResource
from etl_assets.transformation.assets import TRANSFORMATION
from etl_assets.warehouse.load import last_loaded
from etl_assets.warehouse.schema import WAREHOUSE

ETL = "etl"
REPLAY = "replay"
_EVERY_15_MINUTES = "*/15 * * * *"
# Just after a tick: a window must not end before the run begins, or nothing would be captured into it.
_DAILY = "1 3 * * *"

_LOOKS_EVERY_SECONDS = 30
_ATTEMPTS = 10
_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)
_REST = timedelta(hours=6)
_LONGEST_RUN = timedelta(hours=1)
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def windows(start: str) -> dg.TimeWindowPartitionsDefinition:
    """Make the partitions: windows of 15 minutes from a date on, UTC, to the one that contains now.

    Raises:
        ValueError: the start is no date, as YYYY-MM-DD.
    """
    return dg.TimeWindowPartitionsDefinition(
        start=f"{date.fromisoformat(start):%Y-%m-%d}-00:00",
        fmt=PARTITION_FORMAT,
        cron_schedule=_EVERY_15_MINUTES,
        end_offset=1,
    )


class CatchUpFailedError(PermanentError):
    """A captured partition could not be loaded, however often it was tried."""

    def __init__(self, partition: str, attempts: int, rests_until: str) -> None:
        self.partition = partition
        self.attempts = attempts
        super().__init__(
            f"partition {partition} is captured, but {attempts} runs could not load it, and none after it can be: mend "
            "what they failed of, then materialize transformation/* and warehouse/* of it; "
            f"it is tried again at {rests_until}"
        )


def automation(partitions: dg.TimeWindowPartitionsDefinition) -> dg.Definitions:
    """Make the jobs, one partition a run, and what asks for them, off until switched on.

    `etl` goes from totesys to the warehouse: `etl_schedule` asks for it every 15 minutes, `etl_full_capture` once a day
    with a full capture. `replay` makes again from the captures all that follows them: `catch_up` asks for it.
    """
    etl = dg.define_asset_job(
        ETL,
        selection=dg.AssetSelection.groups(INGESTION, TRANSFORMATION, WAREHOUSE),
        description="Capture what changed in totesys, reshape it, load it into the warehouse.",
    )
    replay = dg.define_asset_job(
        REPLAY,
        selection=dg.AssetSelection.groups(TRANSFORMATION, WAREHOUSE),
        description="Reshape again what a partition captured, and load it; what is loaded already changes nothing.",
    )
    return dg.Definitions(
        jobs=[etl, replay],
        schedules=[etl_schedule, _etl_full_capture(partitions)],
        sensors=[catch_up],
    )


@dg.schedule(job_name=ETL, cron_schedule=_EVERY_15_MINUTES, default_status=dg.DefaultScheduleStatus.STOPPED)
def etl_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for the window that begins."""
    return dg.RunRequest(partition_key=f"{context.scheduled_execution_time:{PARTITION_FORMAT}}")


def _etl_full_capture(partitions: dg.TimeWindowPartitionsDefinition) -> dg.ScheduleDefinition:
    @dg.schedule(job_name=ETL, cron_schedule=_DAILY, default_status=dg.DefaultScheduleStatus.STOPPED)
    def etl_full_capture(_: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        """Ask for a capture of every row: it finds what was deleted, and what the others had missed."""
        now = partitions.get_last_partition_key()  # not the scheduled window: a tick that comes late captures now
        return dg.RunRequest(
            partition_key=now,
            tags={"dagster/partition": now},  # or Dagster refuses a window after the scheduled time
            run_config={"ops": {INGESTION: {"config": {"full_capture": True}}}},
        )

    return etl_full_capture


@dg.sensor(
    job_name=REPLAY, minimum_interval_seconds=_LOOKS_EVERY_SECONDS, default_status=dg.DefaultSensorStatus.STOPPED
)
def catch_up(
    context: dg.SensorEvaluationContext, ingestion_bucket: BucketResource, warehouse_database: DatabaseResource
) -> dg.RunRequest | dg.SkipReason:
    """Ask for the oldest capture that is not loaded, as the bucket and `warehouse.loads` tell, until it is.

    It is asked for ten times, with pauses that double, from a minute to an hour. Then the sensor fails, loudly, and
    rests for six hours before it begins again: an outage of any length ends. While the warehouse or the ingestion
    bucket cannot be asked, none of the ten is spent.
    """
    now = datetime.now(UTC)
    with warehouse_database.connect() as connection:
        loaded = last_loaded(connection)
    capture = next(following(ingestion_bucket.open(), loaded), None)
    if capture is None:
        context.update_cursor("")
        return dg.SkipReason("every capture is loaded")
    for job in (ETL, REPLAY):
        recent = dg.RunsFilter(job_name=job, statuses=_UNFINISHED, created_after=now - _LONGEST_RUN)
        if context.instance.get_runs_count(recent):
            return dg.SkipReason(f"capture {capture} is not loaded yet; a run is under way")
    asked = json.loads(context.cursor or "{}")
    attempts = asked["attempts"] if asked.get("capture") == capture else 0
    partition = partition_of(capture)
    if attempts and now < datetime.fromisoformat(asked["not_before"]):
        if attempts == _ATTEMPTS:
            raise CatchUpFailedError(partition, attempts, asked["not_before"])
        return dg.SkipReason(f"capture {capture} is not loaded; it is asked for again at {asked['not_before']}")
    attempts %= _ATTEMPTS
    pause = _REST if attempts + 1 == _ATTEMPTS else min(_FIRST_PAUSE * 2**attempts, _LONGEST_PAUSE)
    context.update_cursor(
        json.dumps({"capture": capture, "attempts": attempts + 1, "not_before": (now + pause).isoformat()})
    )
    return dg.RunRequest(partition_key=partition)
