"""Environment variables: their names, and the settings that shape the definitions.

Importing this module reads none. `definitions.py` reads the settings when Dagster loads it; resources read the rest
during a run.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from etl_assets.adapters.object_store import Bucket, default_s3_client, split_url
from etl_assets.adapters.postgres import parse_url
from etl_assets.schema.errors import PermanentError

SENSOR_INTERVAL = timedelta(seconds=30)
"""The time between two evaluations of a sensor."""

_CHANGE_TO_LOAD = timedelta(minutes=2)


class Variable(StrEnum):
    """An environment variable the platform reads. `docs/configuration.md` describes each."""

    TOTESYS_DATABASE_URL = "TOTESYS_DATABASE_URL"
    WAREHOUSE_DATABASE_URL = "WAREHOUSE_DATABASE_URL"
    INGESTION_URL = "INGESTION_URL"
    TRANSFORMATION_URL = "TRANSFORMATION_URL"
    ALERTS_TOPIC_ARN = "ALERTS_TOPIC_ARN"
    METRICS_NAMESPACE = "METRICS_NAMESPACE"
    DAGSTER_URL = "DAGSTER_URL"
    PARTITIONS_START = "PARTITIONS_START"
    AUTOMATION = "AUTOMATION"
    LOG_FORMAT = "LOG_FORMAT"
    ACTIVITY_MIN_PAUSE_SECONDS = "ACTIVITY_MIN_PAUSE_SECONDS"
    ETL_CRON = "ETL_CRON"
    FULL_CAPTURE_CRON = "FULL_CAPTURE_CRON"
    REBUILD_OUTDATED = "REBUILD_OUTDATED"
    FRESHNESS_WARN_MINUTES = "FRESHNESS_WARN_MINUTES"
    FRESHNESS_FAIL_MINUTES = "FRESHNESS_FAIL_MINUTES"
    RUN_TASK_DEFINITION = "RUN_TASK_DEFINITION"


class EnvironmentVariableError(PermanentError):
    """An environment variable is missing or malformed. The message is one line, names it, and shows no secret."""

    def __init__(self, variable: str, problem: str) -> None:
        super().__init__(f"{variable} {problem}")


def required(variable: str) -> str:
    """Return the value of an environment variable.

    Raises:
        EnvironmentVariableError: it is not set, or empty.
    """
    value = os.environ.get(variable)
    if not value:
        raise EnvironmentVariableError(variable, "is not set (see docs/configuration.md)")
    return value


def open_bucket(variable: str, s3_client: Callable[[], Any] = default_s3_client) -> Bucket:
    """Open the bucket whose URL is in an environment variable.

    Raises:
        EnvironmentVariableError: the variable is not set, or is not the URL of a bucket.
    """
    try:
        return Bucket(required(variable), s3_client)
    except ValueError as error:
        raise EnvironmentVariableError(variable, str(error)) from error


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that shape the definitions. The defaults suit a laptop.

    partitions_start: the beginning of the first partition, UTC.
    automated: whether schedules and sensors are on by default.
    alerts_topic: the ARN of the SNS topic for alerts; with one, the sensor `alerts` is on by default.
    json_logs: whether log lines outside of runs are JSON on stdout.
    activity_min_pause: how long after a capture `source_activity` gathers changes, before it requests the next one.
    etl_cron, full_capture_cron: when the schedules request runs, UTC.
    rebuild_outdated: whether `rebuild_sensor` is on by default, too.
    freshness_warn, freshness_fail: the age of a warehouse table's last load that is a warning, and a failure.
    run_task_definition: on ECS, the task definition family of runs.
    """

    partitions_start: datetime = datetime(2026, 11, 1, tzinfo=UTC)
    automated: bool = False
    alerts_topic: str | None = None
    json_logs: bool = False
    activity_min_pause: timedelta = timedelta(seconds=20)
    etl_cron: str = "*/15 * * * *"
    # Just after a window begins: a run that starts after its window has ended captures nothing.
    full_capture_cron: str = "1 3 * * *"
    rebuild_outdated: bool = True
    freshness_warn: timedelta = timedelta(minutes=30)
    freshness_fail: timedelta = timedelta(minutes=60)
    run_task_definition: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Return the settings of an environment. A variable that is not set, or is empty, gives the default.

        Variables that are read later, such as URLs, are parsed too; nothing is connected to.

        Raises:
            EnvironmentVariableError: a variable is malformed.
        """
        values = {}
        for setting, variable, parse, form in _FORMS:
            if text := environment.get(variable):
                try:
                    value = parse(text)
                except (KeyError, ValueError) as error:
                    problem = f"must be {form}, not {text!r}" if form else str(error)
                    raise EnvironmentVariableError(variable, problem) from None
                if setting:
                    values[setting] = value
        settings = cls(**values)
        if settings.freshness_warn >= settings.freshness_fail:
            raise EnvironmentVariableError(
                Variable.FRESHNESS_WARN_MINUTES, f"must be less than {Variable.FRESHNESS_FAIL_MINUTES}"
            )
        longest = _CHANGE_TO_LOAD - SENSOR_INTERVAL - settings.request_to_load
        if settings.activity_min_pause > longest:
            raise EnvironmentVariableError(
                Variable.ACTIVITY_MIN_PAUSE_SECONDS,
                f"must be at most {longest.seconds}, so that a change is in the warehouse within two minutes: to "
                f"capture more rarely, switch source_activity off and set {Variable.ETL_CRON} (see "
                "docs/configuration.md)",
            )
        return settings

    @property
    def request_to_load(self) -> timedelta:
        """How long the request, start and work of a run may take: a process on half a CPU, or an ECS task."""
        return timedelta(seconds=70 if self.run_task_definition else 40)


def _day_or_moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if text not in (f"{moment:%Y-%m-%d}", f"{moment:%Y-%m-%dT%H:%M}"):
        raise ValueError
    return moment.replace(tzinfo=UTC)


_ON_OR_OFF = {"on": True, "off": False}.__getitem__


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError
        return text

    return parse


def _web_address(text: str) -> None:
    if not re.fullmatch(r"https?://([\w.-]+|\[[\da-f:]+\])(:\d+)?(/[^\s@?#]*)?", text, re.ASCII | re.IGNORECASE):
        raise ValueError("must be an address such as https://dagster.example.com, without user and password")


def _minutes(text: str) -> timedelta:
    if not text.isdecimal() or not int(text):
        raise ValueError
    return timedelta(minutes=int(text))


def _seconds(text: str) -> timedelta:
    if not text.isdecimal():
        raise ValueError
    return timedelta(seconds=int(text))


# By variable: the setting it gives, if any; the function that parses it; and the form it must have. Without a form, the
# error of the function says it: the value may hold a secret. Dagster checks cron expressions.
_FORMS: tuple[tuple[str | None, Variable, Callable[[str], Any], str | None], ...] = (
    (None, Variable.TOTESYS_DATABASE_URL, parse_url, None),
    (None, Variable.WAREHOUSE_DATABASE_URL, parse_url, None),
    (None, Variable.INGESTION_URL, split_url, None),
    (None, Variable.TRANSFORMATION_URL, split_url, None),
    (None, Variable.DAGSTER_URL, _web_address, None),
    (
        None,
        Variable.METRICS_NAMESPACE,
        _matching(r"(?!AWS/|:)[\w./#: -]{1,255}"),
        "a CloudWatch namespace such as totesys-etl",
    ),
    ("partitions_start", Variable.PARTITIONS_START, _day_or_moment, "a day or a moment such as 2026-11-01T10:30, UTC"),
    ("automated", Variable.AUTOMATION, _ON_OR_OFF, "on or off"),
    (
        "alerts_topic",
        Variable.ALERTS_TOPIC_ARN,
        _matching(r"arn:[\w-]+:sns:[\w-]+:\d+:[\w.-]+"),
        "the ARN of an SNS topic such as arn:aws:sns:eu-west-2:123456789012:name",
    ),
    ("json_logs", Variable.LOG_FORMAT, {"json": True, "text": False}.__getitem__, "json or text"),
    ("activity_min_pause", Variable.ACTIVITY_MIN_PAUSE_SECONDS, _seconds, "a whole number of seconds"),
    ("etl_cron", Variable.ETL_CRON, str, "a cron expression"),
    ("full_capture_cron", Variable.FULL_CAPTURE_CRON, str, "a cron expression"),
    ("rebuild_outdated", Variable.REBUILD_OUTDATED, _ON_OR_OFF, "on or off"),
    ("freshness_warn", Variable.FRESHNESS_WARN_MINUTES, _minutes, "a whole number of minutes"),
    ("freshness_fail", Variable.FRESHNESS_FAIL_MINUTES, _minutes, "a whole number of minutes"),
    (
        "run_task_definition",
        Variable.RUN_TASK_DEFINITION,
        _matching(r"[\w-]{1,240}"),
        "a task definition family such as totesys-etl-run, without revision",
    ),
)
