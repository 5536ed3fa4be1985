"""When things run: the job, its schedules, and the sensor that asks again for what did not arrive."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from etl_assets.captures import PARTITION_FORMAT, following, newest, partition_of
from etl_assets.databases import DatabaseResource
from etl_assets.environment import EnvironmentVariableError, Settings, Variable
from etl_assets.errors import PermanentError
from etl_assets.ingestion import INGESTION, activity
from etl_assets.reports.assets import REPORTS
from etl_assets.storage import BucketResource
from etl_assets.tables import Table
from etl_assets.transformation.assets import TRANSFORMATION
from etl_assets.warehouse.load import last_change, last_loaded
from etl_assets.warehouse.schema import WAREHOUSE

ETL = "etl"
REPLAY = "replay"
REPORT = "report"
_WINDOWS = "*/15 * * * *"

_LOOKS_EVERY_SECONDS = 30
_ATTEMPTS = 10
_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)
_REST = timedelta(hours=6)
_LONGEST_RUN = timedelta(hours=1)
_BETWEEN_REPORTS = timedelta(minutes=15)
_QUEUED = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]
_UNFINISHED = [
    *_QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def windows(start: date) -> dg.TimeWindowPartitionsDefinition:
    """Make the partitions: windows of 15 minutes from a date on, UTC, to the one that contains now."""
    return dg.TimeWindowPartitionsDefinition(
        start=f"{start:%Y-%m-%d}-00:00",
        fmt=PARTITION_FORMAT,
        cron_schedule=_WINDOWS,
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


def automation(
    source_tables: Sequence[Table], partitions: dg.TimeWindowPartitionsDefinition, settings: Settings
) -> dg.Definitions:
    """Make the jobs, one partition a run, and what asks for them.

    `etl` goes from totesys to the warehouse: `etl_schedule` asks for it every 15 minutes, `source_activity` as soon as
    something seems to have changed, `etl_full_capture` once a day with a full capture. `replay` makes again from the
    captures all that follows them: `catch_up` asks for it. `report` answers the reports: `something_new` asks for it.

    Raises:
        EnvironmentVariableError: a cron expression is none.
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
    report = dg.define_asset_job(
        REPORT,
        selection=dg.AssetSelection.groups(REPORTS),
        description="Answer the reports from the warehouse, and write the page of them.",
    )
    sensor_status = dg.DefaultSensorStatus.RUNNING if settings.automated else dg.DefaultSensorStatus.STOPPED
    return dg.Definitions(
        jobs=[etl, replay, report],
        schedules=[
            _etl_schedule(partitions, settings),
            _etl_full_capture(partitions, settings),
        ],
        sensors=[
            _source_activity(source_tables, partitions, sensor_status),
            _catch_up(sensor_status),
            _something_new(sensor_status),
        ],
    )


def _etl_schedule(partitions: dg.TimeWindowPartitionsDefinition, settings: Settings) -> dg.ScheduleDefinition:
    def present_window(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if _queued(context.instance):
            return dg.SkipReason("a run is queued already")
        return _request(partitions)

    return _schedule(
        "etl_schedule",
        Variable.ETL_CRON,
        settings.etl_cron,
        settings,
        present_window,
        "Ask for a capture of what changed into the present window, unless a run is queued already.",
    )


def _etl_full_capture(partitions: dg.TimeWindowPartitionsDefinition, settings: Settings) -> dg.ScheduleDefinition:
    return _schedule(
        "etl_full_capture",
        Variable.FULL_CAPTURE_CRON,
        settings.full_capture_cron,
        settings,
        lambda _: _request(partitions, run_config={"ops": {INGESTION: {"config": {"full_capture": True}}}}),
        "Ask for a capture of every row: it finds what was deleted, and what the others had missed.",
    )


def _schedule(
    name: str,
    variable: Variable,
    cron: str,
    settings: Settings,
    asks: Callable[[dg.ScheduleEvaluationContext], dg.RunRequest | dg.SkipReason],
    description: str,
) -> dg.ScheduleDefinition:
    status = dg.DefaultScheduleStatus.RUNNING if settings.automated else dg.DefaultScheduleStatus.STOPPED
    try:
        return dg.ScheduleDefinition(
            name=name,
            job_name=ETL,
            cron_schedule=cron,
            execution_fn=asks,
            default_status=status,
            description=description,
        )
    except dg.DagsterInvalidDefinitionError:
        raise EnvironmentVariableError(
            variable, f"must be a cron expression such as {_WINDOWS}, not {cron!r}"
        ) from None


def _request(
    partitions: dg.TimeWindowPartitionsDefinition, run_config: Mapping[str, Any] | None = None
) -> dg.RunRequest:
    """Ask for the present window, not the scheduled one: a capture can only be made now, however late the tick is."""
    present = partitions.get_last_partition_key()
    # With the tag, or Dagster refuses a window after the scheduled time.
    return dg.RunRequest(partition_key=present, tags={"dagster/partition": present}, run_config=run_config or {})


def _queued(instance: dg.DagsterInstance) -> int:
    return instance.get_runs_count(dg.RunsFilter(job_name=ETL, statuses=_QUEUED))


def _source_activity(
    tables: Sequence[Table], partitions: dg.TimeWindowPartitionsDefinition, status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    @dg.sensor(
        name="source_activity",
        job_name=ETL,
        minimum_interval_seconds=_LOOKS_EVERY_SECONDS,
        default_status=status,
    )
    def source_activity(
        context: dg.SensorEvaluationContext, totesys: DatabaseResource, ingestion_bucket: BucketResource
    ) -> dg.RunRequest | dg.SkipReason:
        """Ask for a capture when the statistics of the tables of totesys tell of changes that none has seen.

        A sign that was seen is asked for once in a window, until a capture is there that was made after it. The
        statistics are a hint, which `etl_schedule` does not need: a crash of totesys, say, sets them back. While its
        clock, set back, has not caught up with the last capture, every change passes for captured.
        """
        with totesys.connect() as connection:
            sign, now = activity(connection, tables)
        seen = json.loads(context.cursor or "{}")
        if seen.get("sign") != sign:
            seen = {"sign": sign, "at": now.isoformat()}
        elif seen.get("captured"):
            return dg.SkipReason("nothing has changed")
        last = newest(ingestion_bucket.open())
        present = partitions.get_last_partition_key()
        if last and last.captured_at > datetime.fromisoformat(seen["at"]):
            seen["captured"] = True
            answer: dg.RunRequest | dg.SkipReason = dg.SkipReason(f"what changed is captured: {last.id}")
        elif _queued(context.instance):
            answer = dg.SkipReason("something has changed; a run is queued already")
        elif seen.get("asked") == present:
            answer = dg.SkipReason(f"something has changed; a run was asked for in window {present}")
        else:
            seen["asked"] = present
            answer = _request(partitions)
        context.update_cursor(json.dumps(seen))
        return answer

    return source_activity


def _catch_up(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(job_name=REPLAY, minimum_interval_seconds=_LOOKS_EVERY_SECONDS, default_status=status)
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

    return catch_up


def _something_new(status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    @dg.sensor(job_name=REPORT, minimum_interval_seconds=_LOOKS_EVERY_SECONDS, default_status=status)
    def something_new(
        context: dg.SensorEvaluationContext, warehouse_database: DatabaseResource
    ) -> dg.RunRequest | dg.SkipReason:
        """Ask for the reports when a load has changed something since they were asked for, every 15 minutes at most.

        A load that changes nothing, as at night, asks for none.
        """
        now = datetime.now(UTC)
        with warehouse_database.connect() as connection:
            changed = last_change(connection)
        asked = json.loads(context.cursor or "{}")
        if changed is None or asked.get("changed") == changed.isoformat():
            return dg.SkipReason("nothing has changed since the reports were asked for")
        if asked and now - datetime.fromisoformat(asked["at"]) < _BETWEEN_REPORTS:
            return dg.SkipReason(f"something has changed; the reports were asked for at {asked['at']}")
        context.update_cursor(json.dumps({"changed": changed.isoformat(), "at": now.isoformat(timespec="seconds")}))
        return dg.RunRequest()

    return something_new
