"""The checks of the environment, of Amazon SNS and CloudWatch, and of Dagster's storage."""

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version

import dagster as dg
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import SQLAlchemyError

from etl_assets.adapters import metrics
from etl_assets.adapters.settings import EnvironmentVariableError, Settings, Variable, required
from etl_assets.automation.alerts.sns import SnsTopicResource
from etl_assets.automation.alerts.state import INFO, Message, MessageState, Problem, ProblemKey, ProblemKind
from etl_assets.automation.jobs import capture_partitions
from etl_assets.automation.schedules import etl_schedules
from etl_assets.catalog.partitions import ETL_POOL
from etl_assets.preflight.checks import NotSetError, Preflight, PreflightError

_REQUIRED = (
    Variable.TOTESYS_DATABASE_URL,
    Variable.WAREHOUSE_DATABASE_URL,
    Variable.INGESTION_URL,
    Variable.TRANSFORMATION_URL,
)
_PROBE = "--publish tries it"
_TEST_METRIC = "Preflight"


def check_variables(preflight: Preflight, environment: Mapping[str, str]) -> None:
    """Check that all environment variables that must be set are, and that settings have their form."""

    def check() -> str:
        missing = [f"{name} is not set" for name in _REQUIRED if not environment.get(name)]
        if problems := [*missing, *_same_bucket(environment), *_malformed(environment)]:
            raise PreflightError(f"{'; '.join(problems)} (see docs/configuration.md)")
        default = ", ".join(name for name in Variable if not environment.get(name))
        return f"all that must be set are; not set: {default or 'none'}"

    preflight.check("variables", check)


def _same_bucket(environment: Mapping[str, str]) -> Iterator[str]:
    ingestion, transformation = Variable.INGESTION_URL, Variable.TRANSFORMATION_URL
    url = environment.get(ingestion, "").rstrip("/")
    if url and url == environment.get(transformation, "").rstrip("/"):
        yield f"{transformation} must be another place than {ingestion}"


def _malformed(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the problems of all settings: what a problem names is left out, to find those of the others."""
    remaining: dict[str, str] = {name: environment[name] for name in Variable if name in environment}
    while remaining:
        try:
            settings = Settings.from_environment(remaining)
            etl_schedules(capture_partitions(settings.partitions_start), settings)
        except EnvironmentVariableError as error:
            problem = str(error)
            yield problem
            remaining = {name: value for name, value in remaining.items() if name not in problem}
        else:
            return


def check_topic(preflight: Preflight, *, publish: bool) -> None:
    """Check that alerts can be published, by a test message."""
    problem = Problem(
        key=ProblemKey(ProblemKind.JOB, "check"),
        summary="this is a test of python -m etl_assets check: alerts arrive",
        severity=INFO,
    )
    message = Message(problem=problem, state=MessageState.SUCCEEDED)

    def send(topic: str) -> str:
        Settings.from_environment({Variable.ALERTS_TOPIC_ARN: topic})  # raises if it is malformed
        SnsTopicResource(topic_arn=topic).publish(message)
        return f"a test message was sent to {topic}: it must arrive"

    _check_publishing(preflight, "alerts", Variable.ALERTS_TOPIC_ARN, send, "alerts are only logged", publish=publish)


def check_metrics(preflight: Preflight, *, publish: bool) -> None:
    """Check that metrics can be published, by one that no alarm counts."""

    def put(namespace: str) -> str:
        metrics.put(namespace, {"MetricName": _TEST_METRIC, "Value": 1, "Unit": "Count"})
        return f"the metric {_TEST_METRIC} was published in {namespace}"

    _check_publishing(
        preflight, "metrics", Variable.METRICS_NAMESPACE, put, "no metrics are published", publish=publish
    )


def _check_publishing(
    preflight: Preflight, name: str, variable: Variable, send: Callable[[str], str], without: str, *, publish: bool
) -> None:
    target = os.environ.get(variable)
    if target and not publish:
        preflight.leave(name, f"{target}: {_PROBE}")
        return

    def check() -> str:
        if not target:
            raise NotSetError(f"{variable}: {without}")
        return send(target)

    preflight.check(name, check)


def check_dagster(preflight: Preflight) -> None:
    """Check that Dagster's storage is reached and up to date, and that one run captures or loads at a time."""
    opened: list[dg.DagsterInstance] = []
    with ExitStack() as stack:

        def reach() -> str:
            home = required("DAGSTER_HOME")
            with _dagster_errors():
                opened.append(stack.enter_context(dg.DagsterInstance.get()))
            return f"reached, by {home}"

        storage = "dagster storage"
        preflight.check(storage, reach)
        preflight.check("dagster migrations", lambda: _migrations(*opened), storage)
        preflight.check("dagster pool", lambda: _pool(*opened), storage)


@contextmanager
def _dagster_errors() -> Iterator[None]:
    """Raise what Dagster says of its storage as one line, without what it says of SQLAlchemy."""
    try:
        yield
    except dg.DagsterInvalidConfigError as error:
        raise PreflightError("; ".join(each.message for each in error.errors)) from error
    except (dg.DagsterError, DagsterPostgresException, SQLAlchemyError) as error:
        raise PreflightError(str(error.__cause__ or error).partition("\n\n")[0].partition("(Background")[0]) from error


def _migrations(instance: dg.DagsterInstance) -> str:
    with _dagster_errors():
        storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
        versions = {storage.alembic_version() for storage in storages if storage}
    if any(found and found[0] != found[1] for found in versions):
        raise PreflightError("the storage is of another version of Dagster: run dagster instance migrate")
    return "the storage is of this version of Dagster"


def _pool(instance: dg.DagsterInstance) -> str:
    with _dagster_errors():
        limits = {
            pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits() if not pool.from_default
        }
    if limits.get(ETL_POOL) != 1:
        found = f"has the limit {limits[ETL_POOL]}" if ETL_POOL in limits else "has no limit"
        raise PreflightError(f"the pool {ETL_POOL} {found}: run dagster instance concurrency set {ETL_POOL} 1")
    return f"the pool {ETL_POOL} lets one run capture or load at a time"


def check_versions(preflight: Preflight) -> None:
    """Name the versions of what runs here."""
    packages = ("etl-assets", "dagster", "pyarrow")
    named = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
    preflight.check("versions", lambda: ", ".join(named))
