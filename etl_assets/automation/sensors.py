"""The sensors that launch the jobs: `source_activity`, `catch_up`, `rebuild_sensor` and `reports_sensor`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import dagster as dg

from etl_assets.adapters.resources import BucketResource, DatabaseResource
from etl_assets.adapters.settings import SENSOR_INTERVAL, Settings, Variable
from etl_assets.automation.jobs import (
    EVERYDAY_SECONDS,
    MAX_RUNTIME,
    UNFINISHED,
    is_etl_queued,
    request_current_partition,
)
from etl_assets.catalog.metadata import docstring_text
from etl_assets.catalog.stages import ETL, REBUILD, REPLAY, REPORT
from etl_assets.ingestion.changes import write_count
from etl_assets.ingestion.manifest import latest, list_after, partition_of
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.table import Catalog
from etl_assets.transformation.code_version import rule_versions
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ledger import latest_change, latest_loaded, outdated_tables

_Request = dg.RunRequest | dg.SkipReason

_MAX_ATTEMPTS = 10
_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)
_PAUSE_AFTER_LAST_ATTEMPT = timedelta(hours=6)
_LONGEST_RUN = timedelta(hours=1)
_REPORTS_INTERVAL = timedelta(minutes=15)
_NEVER = datetime.min
_FAR_BEHIND = 96
"""More captures than these are loaded by one run of `rebuild`, not by a run per partition."""


class CatchUpFailedError(PermanentError):
    """All attempts to load a captured partition have failed."""

    def __init__(self, partition: str, attempts: int, next_attempt: str) -> None:
        super().__init__(
            f"partition {partition} is captured, but {attempts} runs could not load it, and no later partition can be "
            "loaded before it: fix what made them fail, then materialize transformation/* and warehouse/* for it; "
            f"the next attempt is at {next_attempt}"
        )


class RebuildFailedError(PermanentError):
    """All attempts to rebuild tables have failed."""

    def __init__(self, reason: str, attempts: int, next_attempt: str) -> None:
        super().__init__(
            f"{reason}, and {attempts} runs of the job {REBUILD} have failed; until one succeeds, nothing is loaded "
            "into a table whose rule has changed: fix what made them fail, then launch the job; the next attempt is at "
            f"{next_attempt}"
        )


class BeforeFirstPartitionError(PermanentError):
    """A capture that is not loaded lies before the first partition."""

    def __init__(self, partition: str, start: datetime) -> None:
        super().__init__(
            f"partition {partition} is captured and not loaded, and no later one can be loaded before it, but "
            f"{Variable.PARTITIONS_START} is {start:%Y-%m-%dT%H:%M}: set it to {partition[:10]} or an earlier day"
        )


@dataclass(frozen=True)
class _Attempts:
    """The attempts to get something done, as kept in the cursor of a sensor.

    There are ten, with pauses that double from one minute to one hour. Then there is none for six hours, in which every
    tick is to fail, so that an alert is raised; and they start over, so that an outage of any length ends by itself.
    """

    of: str
    attempts: int = 0
    not_before: str = ""

    @classmethod
    def from_cursor(cls, cursor: str | None, of: str) -> "_Attempts":
        """Return the attempts to get this done: none, if the cursor is of something else."""
        known: dict[str, Any] = json.loads(cursor or "{}")
        return cls(**known) if known.get("of") == of else cls(of)

    def is_paused(self, now: datetime) -> bool:
        """Whether the next attempt is later."""
        return bool(self.attempts) and now < datetime.fromisoformat(self.not_before)

    @property
    def is_exhausted(self) -> bool:
        """Whether the latest attempt was the last of ten."""
        return self.attempts == _MAX_ATTEMPTS

    def next(self, now: datetime) -> str:
        """Return the cursor after one more attempt."""
        attempts = self.attempts % _MAX_ATTEMPTS + 1
        pause = min(_FIRST_PAUSE * 2 ** (attempts - 1), _LONGEST_PAUSE)
        not_before = now + (_PAUSE_AFTER_LAST_ATTEMPT if attempts == _MAX_ATTEMPTS else pause)
        return json.dumps(asdict(_Attempts(self.of, attempts, not_before.isoformat())))


def job_sensors(
    catalog: Catalog[StarTable],
    partitions: dg.TimeWindowPartitionsDefinition,
    status: dg.DefaultSensorStatus,
    settings: Settings,
) -> list[dg.SensorDefinition]:
    """Build the sensors, with the status they have until someone changes it in the UI."""

    def source_activity(
        context: dg.SensorEvaluationContext, totesys: DatabaseResource, ingestion_bucket: BucketResource
    ) -> _Request:
        """Capture totesys when it has changed since the latest capture.

        A change is requested once per window until a capture made after it exists. Changes are gathered for a pause
        after each capture, and while a requested run has not captured yet, so that a busy source makes no run per
        evaluation. The pause does not depend on the window, the request does: a run that starts after its window has
        ended captures nothing.

        PostgreSQL's statistics are only a hint: a crash of the source resets them, for example. `etl_schedule` does not
        depend on them. While the source's clock is behind the latest capture, because it was set back, changes count as
        captured.
        """
        with totesys.connect() as connection:
            writes, now = write_count(connection, catalog.sources)
        cursor = json.loads(context.cursor or "{}")
        if cursor.get("write_count") != writes:
            cursor |= {"write_count": writes, "detected_at": now.isoformat(), "captured": False}
        elif cursor.get("captured"):
            return dg.SkipReason("nothing has changed")
        current = partitions.get_last_partition_key()
        detected_at = datetime.fromisoformat(cursor["detected_at"])
        requested_at = datetime.fromisoformat(cursor["requested_at"]) if "requested_at" in cursor else _NEVER
        capture = latest(ingestion_bucket.open())
        captured_at = capture.captured_at if capture else _NEVER
        is_requested = cursor.get("requested_partition") == current and (
            detected_at <= requested_at
            or (captured_at <= requested_at and _is_within(settings.request_to_load, requested_at, now))
        )
        if capture and captured_at > detected_at:
            cursor["captured"] = True
            result: _Request = dg.SkipReason(f"the changes are in capture {capture.id}")
        elif is_etl_queued(context.instance):
            result = dg.SkipReason("the source has changed; a run is already queued")
        elif is_requested:
            result = dg.SkipReason(f"the source has changed; a run is already requested for partition {current}")
        elif _is_within(settings.activity_min_pause, captured_at, now):
            until = f"{captured_at + settings.activity_min_pause:%H:%M:%S}"
            result = dg.SkipReason(f"the source has changed; changes are gathered until {until} UTC")
        else:
            cursor |= {"requested_partition": current, "requested_at": now.isoformat()}
            result = request_current_partition(partitions)
        context.update_cursor(json.dumps(cursor))
        return result

    def sensor(job: str, evaluate: Callable[..., _Request], default: dg.DefaultSensorStatus) -> dg.SensorDefinition:
        return dg.sensor(
            job_name=job,
            description=docstring_text(evaluate),
            minimum_interval_seconds=SENSOR_INTERVAL.seconds,
            default_status=default,
        )(evaluate)

    off = dg.DefaultSensorStatus.STOPPED
    return [
        sensor(ETL, source_activity, status),
        sensor(REPLAY, _catch_up_in(partitions), status),
        sensor(REBUILD, _rebuild_sensor_of(rule_versions(catalog)), status if settings.rebuild_outdated else off),
        sensor(REPORT, reports_sensor, status),
    ]


def _is_within(duration: timedelta, since: datetime, now: datetime) -> bool:
    """Whether less than this has passed since a time that is not in the future: a clock may have been set back."""
    return timedelta() <= now - since < duration


def _catch_up_in(partitions: dg.TimeWindowPartitionsDefinition) -> Callable[..., _Request]:
    def catch_up(
        context: dg.SensorEvaluationContext, ingestion_bucket: BucketResource, warehouse_database: DatabaseResource
    ) -> _Request:
        """Load captures that are not in the warehouse, oldest first: request each until it is in `warehouse.loads`.

        A tick that cannot reach the warehouse or the ingestion bucket does not count as an attempt.

        Raises:
            CatchUpFailedError: ten attempts have failed.
            BeforeFirstPartitionError: the capture is in no partition, because PARTITIONS_START was moved past it.
        """
        now = datetime.now(UTC)
        with warehouse_database.connect() as connection:
            loaded = latest_loaded(connection)
        capture = next(list_after(ingestion_bucket.open(), loaded), None)
        if capture is None:
            context.update_cursor("")
            return dg.SkipReason("every capture is loaded")
        for job in (ETL, REPLAY, REBUILD):
            recent = dg.RunsFilter(job_name=job, statuses=UNFINISHED, created_after=now - _LONGEST_RUN)
            if context.instance.get_runs_count(recent):
                return dg.SkipReason(f"capture {capture} is not loaded yet; a run is in progress")
        attempts = _Attempts.from_cursor(context.cursor, capture)
        partition = partition_of(capture)
        if not partitions.has_partition_key(partition):
            raise BeforeFirstPartitionError(partition, partitions.start)
        if attempts.is_paused(now):
            if attempts.is_exhausted:
                raise CatchUpFailedError(partition, attempts.attempts, attempts.not_before)
            return dg.SkipReason(f"capture {capture} is not loaded; the next attempt is at {attempts.not_before}")
        context.update_cursor(attempts.next(now))
        return dg.RunRequest(partition_key=partition, tags={MAX_RUNTIME: EVERYDAY_SECONDS})

    return catch_up


def _rebuild_sensor_of(rules: Mapping[str, str]) -> Callable[..., _Request]:
    def rebuild_sensor(
        context: dg.SensorEvaluationContext, ingestion_bucket: BucketResource, warehouse_database: DatabaseResource
    ) -> _Request:
        """Build tables anew from all captured files while they are of another version of their rule.

        The same run loads many captures that are not loaded.
        Until it is done, `catch_up` goes on to load captures.

        Raises:
            RebuildFailedError: ten attempts have failed.
        """
        now = datetime.now(UTC)
        with warehouse_database.connect() as connection:
            outdated, loaded = outdated_tables(connection, rules), latest_loaded(connection)
        not_loaded = list(islice(list_after(ingestion_bucket.open(), loaded), _FAR_BEHIND + 1))
        if outdated:
            reason = f"the rules of {', '.join(outdated)} have changed"
            attempts = _Attempts.from_cursor(context.cursor, " ".join(f"{name}:{rules[name]}" for name in outdated))
        elif len(not_loaded) > _FAR_BEHIND:
            reason = f"more than {_FAR_BEHIND} captures are not loaded"
            attempts = _Attempts.from_cursor(context.cursor, not_loaded[0])
        else:
            context.update_cursor("")
            return dg.SkipReason("every table is built by the rule of now")
        if context.instance.get_runs_count(dg.RunsFilter(job_name=REBUILD, statuses=UNFINISHED)):
            return dg.SkipReason(f"{reason}; a rebuild is in progress")
        if attempts.is_paused(now):
            if attempts.is_exhausted:
                raise RebuildFailedError(reason, attempts.attempts, attempts.not_before)
            return dg.SkipReason(f"{reason}; the next attempt is at {attempts.not_before}")
        context.update_cursor(attempts.next(now))
        return dg.RunRequest()

    return rebuild_sensor


def reports_sensor(context: dg.SensorEvaluationContext, warehouse_database: DatabaseResource) -> _Request:
    """Refresh the reports after a load that changed a star table, every 15 minutes at most."""
    now = datetime.now(UTC)
    with warehouse_database.connect() as connection:
        change = latest_change(connection)
    cursor = json.loads(context.cursor or "{}")
    if change is None or cursor.get("latest_change") == change.isoformat():
        return dg.SkipReason("nothing has changed since the reports were requested")
    requested_at = cursor.get("requested_at")
    if requested_at and now - datetime.fromisoformat(requested_at) < _REPORTS_INTERVAL:
        return dg.SkipReason(f"the warehouse has changed; the reports were already requested at {requested_at}")
    new_cursor = {"latest_change": change.isoformat(), "requested_at": now.isoformat(timespec="seconds")}
    context.update_cursor(json.dumps(new_cursor))
    return dg.RunRequest()
