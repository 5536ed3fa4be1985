"""The platform under test: its environment, its runs, and what it has made."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar

import dagster as dg
import pytest

from etl_assets.automation import ETL
from etl_assets.buckets import Bucket
from etl_assets.captures import Capture, newest
from etl_assets.databases import connect
from etl_assets.definitions import definitions
from etl_assets.transformation import STAR_TABLES

Found = TypeVar("Found")


class Platform:
    """Buckets and databases, and `etl` over them. The clock of its windows stands still until it is moved."""

    def __init__(
        self, totesys: str, warehouse: str, buckets: str, environment: pytest.MonkeyPatch, **declared: Any
    ) -> None:
        self.totesys_url = totesys
        self.warehouse_url = warehouse
        self.buckets_url = buckets
        self.ingestion_url = f"{buckets}/ingestion"
        self.transformation_url = f"{buckets}/transformation"
        self.environment = environment
        self.definitions = definitions(**declared)
        self.now = datetime.now(UTC)
        for name, value in self.variables.items():
            environment.setenv(name, value)

    @property
    def variables(self) -> dict[str, str]:
        """What its processes must have in their environment."""
        return {
            "TOTESYS_DATABASE_URL": self.totesys_url,
            "WAREHOUSE_DATABASE_URL": self.warehouse_url,
            "INGESTION_URL": self.ingestion_url,
            "TRANSFORMATION_URL": self.transformation_url,
        }

    @property
    def partition(self) -> str:
        start = self.now.replace(minute=self.now.minute // 15 * 15)
        return f"{start:%Y-%m-%d-%H:%M}"

    def next_window(self) -> None:
        self.now += timedelta(minutes=15)

    def run(
        self,
        *selection: str,
        partition: str | None = None,
        full_capture: bool = False,
        raise_on_error: bool = True,
        instance: dg.DagsterInstance | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run `etl`, or the stages or assets of it that are named."""
        config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        if not selection or "ingestion" in selection:
            config["ops"] = {"ingestion": {"config": {"full_capture": full_capture}}}
        chosen = [
            spec.key
            for spec in self.definitions.resolve_all_asset_specs()
            if spec.key.path[0] in selection or spec.key.to_user_string() in selection
        ]
        with dg.partition_loading_context(effective_dt=self.now):
            return self.definitions.resolve_job_def(ETL).execute_in_process(
                partition_key=partition or self.partition,
                run_config=config,
                asset_selection=chosen or None,
                raise_on_error=raise_on_error,
                instance=instance,
            )

    @property
    def newest_capture(self) -> Capture:
        found = newest(Bucket(self.ingestion_url))
        assert found
        return found

    def totesys(self, sql: str, **values: Any) -> list[list[Any]]:
        with connect(self.totesys_url) as connection:
            return connection.run(sql, **values)

    def warehouse(self, sql: str, **values: Any) -> list[list[Any]]:
        with connect(self.warehouse_url) as connection:
            return connection.run(sql, **values)

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything in the warehouse, record ids and load times apart, so that two of them can be compared."""
        return {
            star.name: self._all(star.name, [*star.captured_columns.names, *(["deleted"] if star.record_id else [])])
            for star in STAR_TABLES
        } | {
            "loads": self._all("loads", ["capture", "captured_at", "previous", "full_capture"]),
            "rejected": self._all("rejected", ["*"]),
            "waiting": self._all("waiting", ["*"]),
        }

    def _all(self, table: str, columns: Iterable[str]) -> list[tuple[Any, ...]]:
        rows = self.warehouse(f"SELECT {', '.join(columns)} FROM warehouse.{table}")
        return sorted(map(tuple, rows), key=repr)

    def versions(self) -> dict[str, int]:
        """The number of rows of each star table."""
        return {star.name: self.warehouse(f"SELECT count(*) FROM warehouse.{star.name}")[0][0] for star in STAR_TABLES}


@contextmanager
def dagster(log: Path, environment: Mapping[str, str], *command: str) -> Iterator[None]:
    """Run a service of Dagster's, `python -m <command>`, and end it with all it started.

    Its output goes to `<log>.stdout` and `<log>.stderr`. It is in a session of its own, and heeds SIGINT, which what is
    started in the background does not: Dagster ends on SIGTERM as on SIGINT.
    """
    with Path(f"{log}.stdout").open("wb") as out, Path(f"{log}.stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def until(condition: Callable[[], Found], seconds: float = 60) -> Found:
    """Wait for something to come about, and give it."""
    deadline = monotonic() + seconds
    while not (found := condition()):
        assert monotonic() < deadline, "it does not come about"
        sleep(0.02)
    return found


WAITS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
"""Who waits for a capture or a load to end."""


def failed_checks(result: dg.ExecuteInProcessResult, stage: str, check: str) -> dict[str, dict[str, Any]]:
    """The metadata of the checks that failed, by table of a stage."""
    return {
        evaluation.asset_key.path[-1]: {name: value.value for name, value in evaluation.metadata.items()}
        for evaluation in result.get_asset_check_evaluations()
        if not evaluation.passed and evaluation.asset_key.path[0] == stage and evaluation.check_name == check
    }


def failure(result: dg.ExecuteInProcessResult) -> str:
    """What a person reads of a failed run."""
    return "\n".join(
        part
        for event in result.get_step_failure_events()
        for part in (
            event.step_failure_data.error_display_string,
            (event.step_failure_data.user_failure_data and event.step_failure_data.user_failure_data.description) or "",
        )
    )
