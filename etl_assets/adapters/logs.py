"""Logs as one JSON object per line, which CloudWatch filters by field: `{ $.level = "CRITICAL" }`.

`deploy/dagster.yaml` sets the formatter for runs; `log_json_to_stdout` sets it for what sensors log outside of runs.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

_STANDARD_ATTRIBUTES = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Fields: timestamp (UTC, ISO 8601), level, logger, message; in a run also run, job, partition, step and stage; event
    and asset of an event of Dagster; `traceback` of an error; and each `extra` by its own name.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without a line break."""
        fields = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_run_fields(record),
        }
        for name, value in record.__dict__.items():
            if name not in _STANDARD_ATTRIBUTES and not name.startswith("dagster_"):
                fields.setdefault(name, value)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        try:
            return json.dumps(fields, default=str, allow_nan=False)
        except (TypeError, ValueError):  # JSON has no NaN, for example: keep the line, with all values as text
            return json.dumps({name: str(value) for name, value in fields.items()})


def _run_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields that Dagster attaches to the records of a run."""
    metadata: Mapping[str, Any] = getattr(record, "dagster_meta", None) or {}
    tags = metadata.get("job_tags") or {}
    step = metadata.get("step_key")
    fields = {
        "message": metadata.get("orig_message"),
        "run": metadata.get("run_id"),
        "job": metadata.get("job_name"),
        # A run over several partitions logs which one it is about.
        "partition": getattr(record, "partition", None)
        or tags.get("dagster/partition")
        or tags.get("dagster/asset_partition_range_start"),
        "step": step,
        "stage": step.partition("__")[0] if step else None,
    }
    event: dg.DagsterEvent | None = metadata.get("dagster_event")
    if event:
        fields["event"] = event.event_type_value
        fields["asset"] = event.asset_key.to_user_string() if event.asset_key else None
        error = getattr(event.event_specific_data, "error", None)
        fields["traceback"] = error.to_string() if error else None
    return {name: value for name, value in fields.items() if value is not None}


@dg.logger
def silent_console(_: dg.InitLoggerContext) -> logging.Logger:
    """Build a console logger of runs that writes nothing, where `deploy/dagster.yaml` writes the same lines as JSON."""
    logger = logging.Logger("silent")
    logger.addHandler(logging.NullHandler())
    return logger


def log_json_to_stdout(name: str) -> None:
    """Write the records of a logger and its children to stdout, as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(name)
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
