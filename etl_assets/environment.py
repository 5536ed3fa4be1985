"""The environment: the names of its variables, and the settings that the definitions' shape depends on.

Nothing is read at import; `definitions.py` reads the settings when Dagster loads it, resources read the rest at a run.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from etl_assets.errors import PermanentError


class Variable(StrEnum):
    """An environment variable the platform reads."""

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
    ETL_CRON = "ETL_CRON"
    FULL_CAPTURE_CRON = "FULL_CAPTURE_CRON"
    FRESHNESS_WARN_MINUTES = "FRESHNESS_WARN_MINUTES"
    FRESHNESS_FAIL_MINUTES = "FRESHNESS_FAIL_MINUTES"


class EnvironmentVariableError(PermanentError):
    """A variable is missing or malformed. Its message is one line that names it and never shows a secret."""

    def __init__(self, variable: str, problem: str) -> None:
        self.variable = variable
        self.problem = problem
        super().__init__(f"{variable} {problem}")


def required(variable: str) -> str:
    """Give the value of an environment variable.

    Raises:
        EnvironmentVariableError: it is not set, or empty.
    """
    value = os.environ.get(variable, "")
    if not value:
        raise EnvironmentVariableError(variable, "is not set (README, “The environment”, lists what it must hold)")
    return value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the definitions' shape depends on.

    partitions_start: the day of the first partition, UTC.
    automated: whether schedules and sensors are on until someone switches them off.
    etl_cron, full_capture_cron: when the schedules ask, UTC.
    json_logs: whether what is logged outside of runs is JSON on stdout.
    late_warning, late_failure: how old the last load of a warehouse table may be.
    """

    partitions_start: date = date(2026, 11, 1)
    automated: bool = False
    json_logs: bool = False
    etl_cron: str = "*/15 * * * *"
    # Just after a tick: a window must not end before the run begins, or nothing would be captured into it.
    full_capture_cron: str = "1 3 * * *"
    late_warning: timedelta = timedelta(minutes=30)
    late_failure: timedelta = timedelta(minutes=60)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; what is not set, or empty, is as on a laptop.

        Raises:
            EnvironmentVariableError: a variable is malformed.
        """
        given = {name: environment[name] for name in Variable if environment.get(name)}
        default = cls()
        warning = _minutes(given, Variable.FRESHNESS_WARN_MINUTES, default.late_warning)
        failure = _minutes(given, Variable.FRESHNESS_FAIL_MINUTES, default.late_failure)
        if warning >= failure:
            raise EnvironmentVariableError(
                Variable.FRESHNESS_WARN_MINUTES, f"must be less than {Variable.FRESHNESS_FAIL_MINUTES}"
            )
        return cls(
            partitions_start=_day(given, Variable.PARTITIONS_START, default.partitions_start),
            automated=_one_of(given, Variable.AUTOMATION, "off", "on"),
            json_logs=_one_of(given, Variable.LOG_FORMAT, "text", "json"),
            etl_cron=given.get(Variable.ETL_CRON, default.etl_cron),
            full_capture_cron=given.get(Variable.FULL_CAPTURE_CRON, default.full_capture_cron),
            late_warning=warning,
            late_failure=failure,
        )


def alerts_topic() -> str | None:
    """Give the ARN of the SNS topic for alerts, if there is one.

    Raises:
        EnvironmentVariableError: it is no ARN of a topic.
    """
    topic = os.environ.get(Variable.ALERTS_TOPIC_ARN)
    if topic and not re.fullmatch(r"arn:[\w-]+:sns:[\w-]+:\d+:[\w.-]+", topic):
        raise EnvironmentVariableError(
            Variable.ALERTS_TOPIC_ARN, f"must look like arn:aws:sns:eu-west-2:123456789012:name, not {topic!r}"
        )
    return topic or None


def _day(given: Mapping[Variable, str], variable: Variable, default: date) -> date:
    try:
        return date.fromisoformat(given[variable]) if variable in given else default
    except ValueError:
        raise EnvironmentVariableError(
            variable, f"must be a date such as 2026-11-01, not {given[variable]!r}"
        ) from None


def _one_of(given: Mapping[Variable, str], variable: Variable, usual: str, other: str) -> bool:
    """Tell whether a variable is the other than the usual of two values."""
    value = given.get(variable, usual)
    if value not in (usual, other):
        raise EnvironmentVariableError(variable, f"must be {other} or {usual}, not {value!r}")
    return value == other


def _minutes(given: Mapping[Variable, str], variable: Variable, default: timedelta) -> timedelta:
    if variable not in given:
        return default
    if not given[variable].isdecimal() or not int(given[variable]):
        raise EnvironmentVariableError(variable, f"must be a whole number of minutes, not {given[variable]!r}")
    return timedelta(minutes=int(given[variable]))
