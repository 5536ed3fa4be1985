"""What a message says about a run: read from Dagster's records, by the sensor and by the hooks."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from etl_assets.adapters.settings import Variable

_CAUSE_LENGTH = 500
_DAGSTER_ERROR = re.compile(r"Dagster\w+|(Sensor|Schedule)ExecutionError|RetryRequestedFromPolicy")


def partition_range(run: dg.DagsterRun) -> tuple[str, str]:
    """Return the first and the last partition of a run; empty for a run without partitions."""
    single = run.tags.get("dagster/partition", "")
    return (
        run.tags.get("dagster/asset_partition_range_start", single),
        run.tags.get("dagster/asset_partition_range_end", single),
    )


def partitions_of(run: dg.DagsterRun) -> str:
    """Return the partition of a run, or its range."""
    first, last = partition_range(run)
    return first if first == last else f"{first} to {last}"


def job_of(run: dg.DagsterRun) -> str:
    """Return what to call a run: its job, or `manual run` if assets were materialized without one."""
    return "manual run" if run.job_name.startswith("__") else run.job_name


def title_of(step: str) -> str:
    """Return what to call a step: `warehouse/load` for `warehouse__load`."""
    return step.replace("__", "/")


def run_details(run: dg.DagsterRun) -> Mapping[str, str]:
    """Return the job, the partitions and the link of a run."""
    return {"job": job_of(run), "partition": partitions_of(run), "run": link(f"runs/{run.run_id}")}


def events_of(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> Iterator[dg.DagsterEvent]:
    """Yield the events of a kind in the log of a run."""
    for record in instance.get_records_for_run(run_id, of_type=kind).records:
        yield record.event_log_entry.get_dagster_event()


def cause_of_check(check: dg.AssetCheckEvaluation) -> str:
    """Return the description of a failed check, or the counts in its metadata: no values of rows."""
    values = ((name, value.value) for name, value in check.metadata.items())
    scalars = ", ".join(f"{name} {value}" for name, value in values if isinstance(value, int | float | str))
    return first_line(check.description or scalars)


def cause_of_step(event: dg.DagsterEvent) -> str:
    """Return the first line of the error that failed a step."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return first_line(data.user_failure_data.description)
    return cause_of_error(data.error)


def cause_of_error(error: Any) -> str:
    """Return the first line of a serialized error, or of what caused it if it is one of Dagster's own."""
    if error is None:
        return "unknown"
    while error.cause and _DAGSTER_ERROR.fullmatch(error.cls_name or ""):
        error = error.cause
    _, _, message = error.message.partition(": ")
    return first_line(f"{error.cls_name}: {message}")


def first_line(text: str) -> str:
    """Return the first line of a text, truncated to 500 characters."""
    return next(iter(text.strip().splitlines()), "")[:_CAUSE_LENGTH]


def link(path: str) -> str:
    """Return the URL of a page of the Dagster UI, or only its path if DAGSTER_URL is not set."""
    return f"{os.environ.get(Variable.DAGSTER_URL, '').rstrip('/')}/{path}"
