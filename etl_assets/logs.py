"""Logs: one JSON object a line, so that CloudWatch can filter on fields such as `{ $.level = "CRITICAL" }`.

`deploy/dagster.yaml` gives the formatter to Dagster, for what happens in runs; `to_stdout` gives it to what the
platform logs outside of runs, in its sensors.
"""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

_OF_EVERY_RECORD = logging.makeLogRecord({}).__dict__.keys() | {"message", "asctime", "taskName"}
_OF_DAGSTER = "dagster_"


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON.

    Fields: timestamp (UTC, ISO 8601), level, logger, message; in a run also run, job, partition, step and, where it is
    known, asset; `traceback` of an error; and every fact given as `extra`, under its own name.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Give the line, without its end."""
        fields = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **dict(_in_run(record)),
        }
        for name, value in record.__dict__.items():
            if name not in _OF_EVERY_RECORD and not name.startswith(_OF_DAGSTER):
                fields.setdefault(name, value)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        try:
            return json.dumps(fields, default=str, allow_nan=False)
        except (TypeError, ValueError):  # a fact that JSON has not, such as NaN, must not cost the line
            return json.dumps({name: str(value) for name, value in fields.items()})


def _in_run(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """Give what Dagster notes on the records of a run."""
    noted = getattr(record, "dagster_meta", None)
    if not noted:
        return
    if "orig_message" in noted:
        yield "message", noted["orig_message"]
    tags = noted.get("job_tags") or {}
    event: dg.DagsterEvent | None = noted.get("dagster_event")
    step = noted.get("step_key")
    found = {
        "run": noted.get("run_id"),
        "job": noted.get("job_name"),
        "partition": tags.get("dagster/partition") or tags.get("dagster/asset_partition_range_start"),
        "step": step,
        # an asset's op has the asset's key for a name, its parts joined so
        "asset": step.replace("__", "/") if step and "__" in step else None,
    }
    if event:
        found["event"] = event.event_type_value
        found["asset"] = event.asset_key.to_user_string() if event.asset_key else found["asset"]
        error = getattr(event.event_specific_data, "error", None)
        found["traceback"] = error.to_string() if error else None
    yield from ((name, value) for name, value in found.items() if value)


def to_stdout(logger: str) -> None:
    """Write what a logger, or one below it, is told to stdout as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    named = logging.getLogger(logger)
    named.handlers = [handler]
    named.setLevel(logging.INFO)
    named.propagate = False
