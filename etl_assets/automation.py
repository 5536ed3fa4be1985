"""When things run: the job, and its schedule."""

from datetime import date

import dagster as dg

from etl_assets.captures import PARTITION_FORMAT
from etl_assets.ingestion import INGESTION
from etl_assets.transformation.assets import TRANSFORMATION
from etl_assets.warehouse import WAREHOUSE

JOB = "etl"
_EVERY_15_MINUTES = "*/15 * * * *"


def windows(start: str) -> dg.TimeWindowPartitionsDefinition:
    """Make the partitions: windows of 15 minutes from a date on, UTC, to the one that contains now.

    Raises:
        ValueError: the start is no date, as YYYY-MM-DD.
    """
    return dg.TimeWindowPartitionsDefinition(
        start=f"{date.fromisoformat(start):%Y-%m-%d}-00:00",
        fmt=PARTITION_FORMAT,
        cron_schedule=_EVERY_15_MINUTES,
        end_offset=1,
    )


def automation() -> dg.Definitions:
    """Make the job `etl`, from totesys to the warehouse, one partition a run, and its schedule, off until switched on.

    The schedule asks for the window that begins, every 15 minutes.
    """
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.groups(INGESTION, TRANSFORMATION, WAREHOUSE),
        description="Capture what changed in totesys, reshape it, load it into the warehouse.",
    )

    @dg.schedule(job=job, cron_schedule=_EVERY_15_MINUTES, default_status=dg.DefaultScheduleStatus.STOPPED)
    def etl_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        return dg.RunRequest(partition_key=f"{context.scheduled_execution_time:{PARTITION_FORMAT}}")

    return dg.Definitions(jobs=[job], schedules=[etl_schedule])
