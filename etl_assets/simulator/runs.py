"""Runs of jobs in this process that Dagster's UI shows as those it has launched."""

import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from etl_assets.adapters.settings import Settings
from etl_assets.automation.jobs import request_current_partition
from etl_assets.automation.storage import end_runs
from etl_assets.catalog.partitions import ETL_POOL
from etl_assets.catalog.stages import ETL, REPORT, REPORTS
from etl_assets.simulator import folder

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""The run configuration of runs that print nothing."""


class Runs:
    """Runs over the demo's folder, whose environment becomes that of this process."""

    def __init__(self, *, raise_on_error: bool) -> None:
        os.environ |= folder.environment()
        from etl_assets.definitions import definitions  # reads the environment

        self._raise_on_error = raise_on_error
        self._definitions = definitions(settings=Settings.from_environment(os.environ))
        self._instance = dg.DagsterInstance.get()
        self._instance.event_log_storage.set_concurrency_slots(ETL_POOL, 1)
        end_runs(self._instance, folder.command("dev"))  # else a dead one holds the pool for minutes

    def etl(self) -> dg.JobExecutionResult:
        """Run `etl` for the current window."""
        job = self._definitions.resolve_job_def(ETL)
        # One fixed time, so that a run cannot start in one window and capture in the next.
        with dg.partition_loading_context(effective_dt=datetime.now(UTC)):
            assert isinstance(job.partitions_def, dg.TimeWindowPartitionsDefinition)
            return self._execute(job, request_current_partition(job.partitions_def).tags)

    def report(self) -> None:
        """Run `report`, and copy the page to the demo's folder."""
        self._execute(self._definitions.resolve_job_def(REPORT), {})
        copy_newest_page()

    def _execute(self, job: dg.JobDefinition, tags: Mapping[str, str]) -> dg.JobExecutionResult:
        """Execute a job as a run of the code location: the UI lists no other run on its timeline and beside its job.

        `execute_in_process` knows no code location; a process for each run would take seconds to start.
        """
        repository = RemoteRepositoryOrigin(
            RegisteredCodeLocationOrigin(folder.CODE_LOCATION), SINGLETON_REPOSITORY_NAME
        )
        run = self._instance.create_run_for_job(
            job,
            run_config=QUIET,
            tags={**job.run_tags, **tags},
            remote_job_origin=RemoteJobOrigin(repository, job.name),
        )
        return execute_run(InMemoryJob(job), run, self._instance, self._raise_on_error)


def copy_newest_page() -> None:
    """Copy the newest page of reports to the demo's folder, unless it is there already."""
    newest = max((folder.BUCKETS / "transformation" / REPORTS).iterdir())
    if not folder.PAGE.exists() or folder.PAGE.stat().st_mtime < newest.stat().st_mtime:
        shutil.copy(newest, folder.PAGE)
