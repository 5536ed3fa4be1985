"""The schedules of the job `etl`."""

import dagster as dg

from etl_assets.adapters.settings import EnvironmentVariableError, Settings, Variable
from etl_assets.automation.jobs import is_etl_queued, request_current_partition
from etl_assets.catalog.metadata import docstring_text
from etl_assets.catalog.partitions import WINDOW_CRON
from etl_assets.catalog.stages import CAPTURE_OP, ETL


def etl_schedules(partitions: dg.TimeWindowPartitionsDefinition, settings: Settings) -> list[dg.ScheduleDefinition]:
    """Build the schedules of ordinary and of full captures.

    Raises:
        EnvironmentVariableError: a cron expression is malformed.
    """

    def etl_schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Capture changes into the current partition, unless a run is already queued."""
        if is_etl_queued(context.instance):
            return dg.SkipReason("a run is already queued")
        return request_current_partition(partitions)

    def etl_full_capture(_: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        """Capture every row, to find deleted rows and changes that earlier captures missed."""
        return request_current_partition(partitions, {"ops": {CAPTURE_OP: {"config": {"full_capture": True}}}})

    status = dg.DefaultScheduleStatus.RUNNING if settings.automated else dg.DefaultScheduleStatus.STOPPED
    schedules = []
    for request, cron, variable in (
        (etl_schedule, settings.etl_cron, Variable.ETL_CRON),
        (etl_full_capture, settings.full_capture_cron, Variable.FULL_CAPTURE_CRON),
    ):
        schedule = dg.schedule(cron, job_name=ETL, description=docstring_text(request), default_status=status)
        try:
            schedules.append(schedule(request))
        except dg.DagsterInvalidDefinitionError:
            problem = f"must be a cron expression such as {WINDOW_CRON}, not {cron!r}"
            raise EnvironmentVariableError(variable, problem) from None
    return schedules
