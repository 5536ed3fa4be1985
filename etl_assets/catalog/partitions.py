"""The capture windows, and how runs over them are grouped and limited.

Manifests use the key format, so this module does not import Dagster; `automation/jobs.py` makes the partitions
definition. The limits of concurrent runs are in `deploy/dagster.yaml`.
"""

WINDOW_MINUTES = 15
"""How long a window is: a divisor of an hour."""

WINDOW_CRON = f"*/{WINDOW_MINUTES} * * * *"
"""When a window begins, UTC. A capture belongs to the window it was made in."""

PARTITION_KEY_FORMAT = "%Y-%m-%d-%H:%M"
"""A partition key: the start of its window, UTC."""

MAX_PARTITIONS_PER_RUN = 96
"""The partitions per run of a backfill: one day. Dagster wants the same number for all assets of a job."""

ETL_POOL = "etl"
"""The pool of the ops that capture or load: `deploy/dagster.yaml` lets one of them run at a time."""
