"""The sensor `alerts`: one message when a problem opens, and one when it is resolved.

Each evaluation reads runs, checks, freshness and ticks from Dagster's storage. The sensor's cursor holds the open
problems and the messages that SNS has not accepted. docs/operations.md explains each alert and what to do about it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg

from etl_assets.automation.alerts.records import (
    cause_of_check,
    cause_of_error,
    cause_of_step,
    events_of,
    first_line,
    job_of,
    link,
    partition_range,
    partitions_of,
    run_details,
    title_of,
)
from etl_assets.automation.alerts.sns import send
from etl_assets.automation.alerts.state import (
    CRITICAL,
    LOGGER,
    WARNING,
    AlertState,
    MessageState,
    Problem,
    ProblemKey,
    ProblemKind,
)
from etl_assets.catalog.checks import NO_REJECTED_ROWS
from etl_assets.catalog.stages import CAPTURE_OP, LOAD_OP, TRANSFORMATION, WAREHOUSE

# A finished run may become visible late, after runs that finished later: each evaluation lists some runs again.
_OVERLAP = timedelta(minutes=10)
_RETRY_DECISION_TIMEOUT = timedelta(minutes=5)
_CONSECUTIVE_FAILURES = {ProblemKind.SENSOR: 3, ProblemKind.SCHEDULE: 1}
# The first evaluation looks back, so that what failed before it is reported too. Its time is bounded.
_FIRST_LOOK_BACK = timedelta(days=7)
_FIRST_RUNS = 500


def alerts_sensor(
    watched_assets: Sequence[dg.AssetKey], topic: str | None, status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Build the sensor. It reports stale data for the watched assets, everything else for the whole deployment.

    Messages go to the SNS topic, if there is one, and always to the log. Messages that SNS does not accept are sent
    again by the next evaluation. A line with the event `ALERTS_DELIVERED` follows each evaluation that left none: the
    alarms in CloudWatch are silent while these lines arrive.
    """

    @dg.sensor(
        minimum_interval_seconds=30,
        default_status=status,
        description="Report failed runs and checks, late tables, failing sensors and schedules, and their recovery.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        try:
            state = AlertState.from_json(context.cursor) if context.cursor else AlertState()
            evaluate(context.instance, watched_assets, state, datetime.now(UTC))
        except Exception:
            LOGGER.critical("totesys ETL: alerts could not be evaluated", exc_info=True)
            raise
        state.unsent = send(topic, state.unsent) if topic else []
        context.update_cursor(state.to_json())
        if topic and not state.unsent:
            LOGGER.info("alerts are evaluated and delivered", extra={"event": "ALERTS_DELIVERED"})
        return dg.SkipReason(f"{len(state.problems)} open problems, {len(state.unsent)} unsent messages")

    return alerts


def evaluate(
    instance: dg.DagsterInstance, watched_assets: Sequence[dg.AssetKey], state: AlertState, now: datetime
) -> None:
    """Open and resolve the problems in `state`, add the messages about them, and log these.

    The first evaluation adds no message about a problem that is resolved already.
    """
    unsent, first, state.unsent = state.unsent, state.evaluated_until is None, []
    _evaluate_runs(instance, state, now)
    _evaluate_freshness(instance, watched_assets, state)
    _evaluate_ticks(instance, state)
    if first:
        opened = {each.problem.key: each for each in state.unsent if each.state == MessageState.OPEN}
        state.unsent = [message for key, message in opened.items() if key in state.problems]
    for message in state.unsent:
        message.log()
    state.unsent = [*unsent, *state.unsent]
    state.evaluated_until = now


def _evaluate_runs(instance: dg.DagsterInstance, state: AlertState, now: datetime) -> None:
    finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    until = state.evaluated_until
    updated_after = until - _OVERLAP if until else now - _FIRST_LOOK_BACK
    records = instance.get_run_records(
        dg.RunsFilter(statuses=finished, updated_after=updated_after),
        limit=None if until else _FIRST_RUNS,
        order_by="update_timestamp",
        ascending=False,
    )
    seen_run_ids = []
    for record in sorted(records, key=lambda record: record.end_time or 0):
        run = record.dagster_run
        if run.run_id not in state.seen_run_ids:
            retried = _is_retried(instance, run)
            if retried is None and now - record.update_timestamp.replace(tzinfo=UTC) < _RETRY_DECISION_TIMEOUT:
                continue
            _evaluate_run(instance, run, state, retried=bool(retried))
        seen_run_ids.append(run.run_id)
    state.seen_run_ids = seen_run_ids


def _is_retried(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool | None:
    """Whether Dagster has launched a failed run again; None if it has not decided, or not launched it yet."""
    is_final = not instance.run_retries_enabled or run.tags.get("dagster/will_retry") == "false"
    if run.status != dg.DagsterRunStatus.FAILURE or is_final:
        return False
    return True if "dagster/auto_retry_run_id" in run.tags else None


def _evaluate_run(instance: dg.DagsterInstance, run: dg.DagsterRun, state: AlertState, *, retried: bool) -> None:
    first, last = partition_range(run)
    # Schedules and sensors launch a failed partition again. What a person launched is a problem of its own.
    automated = run.tags.keys() & {"dagster/schedule_name", "dagster/sensor_name"}
    own_key = partial(ProblemKey, manual_partitions=None if automated else partitions_of(run))
    resolve = partial(state.resolve, first=first, last=last)

    def open_problem(key: ProblemKey, summary: str, **details: str) -> None:
        problem = Problem(key=key, summary=summary, details={**details, **run_details(run)}, partitions=[first, last])
        state.open_problem(problem)

    for event in events_of(instance, run.run_id, dg.DagsterEventType.STEP_SUCCESS):
        step = str(event.step_key)
        resolve(ProblemKey(ProblemKind.STEP, step))
        resolve(own_key(ProblemKind.STEP, step))
        for problem in list(state.problems.values()):
            if _resolved_in_earlier_partitions(problem, step):
                state.resolve(problem.key, last=last)
    blocking_steps = set()
    for event in events_of(instance, run.run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        check = event.asset_check_evaluation_data
        asset = check.asset_key.to_user_string()
        name = f"{asset}: {check.check_name}"
        key = ProblemKey(ProblemKind.CHECK, name, stage=check.asset_key.path[0])
        if check.passed:
            about_all_rows = key.stage == WAREHOUSE and check.check_name == NO_REJECTED_ROWS
            state.resolve(key, first="" if about_all_rows else first, last=last)
        elif check.severity == dg.AssetCheckSeverity.ERROR:
            if check.blocking:
                blocking_steps.add(event.step_key)
            open_problem(key, f"check failed: {name}", asset=asset, check=check.check_name, cause=cause_of_check(check))
    if run.status == dg.DagsterRunStatus.SUCCESS:
        resolve(ProblemKey(ProblemKind.JOB, run.job_name))
        resolve(own_key(ProblemKind.JOB, run.job_name))
        return
    if retried:
        return
    failures = [event for event in events_of(instance, run.run_id, dg.DagsterEventType.STEP_FAILURE) if event.step_key]
    for event in failures:
        if event.step_key not in blocking_steps:
            step = str(event.step_key)
            key = own_key(ProblemKind.STEP, step)
            open_problem(key, f"{job_of(run)} failed at {title_of(step)}", step=step, cause=cause_of_step(event))
    if not failures:
        causes = [event.message for event in events_of(instance, run.run_id, dg.DagsterEventType.RUN_FAILURE)]
        cause = first_line(causes[-1] or "") if causes else "unknown"
        open_problem(own_key(ProblemKind.JOB, run.job_name), f"{job_of(run)} failed", cause=cause)


def _resolved_in_earlier_partitions(problem: Problem, step: str) -> bool:
    """Whether a step that succeeds in a partition resolves a problem in all earlier partitions too.

    A capture contains all changes since the previous one, and captures are loaded in order. A problem without
    partitions, such as a failed report, has nothing to do with either.
    """
    key = problem.key
    if step == CAPTURE_OP:
        return key == ProblemKey(ProblemKind.STEP, CAPTURE_OP)
    before_load = key.kind in (ProblemKind.STEP, ProblemKind.JOB) or key.stage == TRANSFORMATION
    return step == LOAD_OP and before_load and key.manual_partitions is None and "" not in problem.partitions


def _evaluate_freshness(instance: dg.DagsterInstance, watched_assets: Sequence[dg.AssetKey], state: AlertState) -> None:
    records = instance.get_freshness_state_records(watched_assets)
    freshness = {key.to_user_string(): record.freshness_state.value for key, record in records.items()}
    key = ProblemKey(ProblemKind.FRESHNESS)
    for stale, severity, summary in (("FAIL", CRITICAL, "data is very late"), ("WARN", WARNING, "data is late")):
        if tables := [table for table, value in freshness.items() if value == stale]:
            details = {"tables": ", ".join(tables), "link": link("assets")}
            state.open_problem(Problem(key=key, summary=summary, details=details, severity=severity))
            return
    if freshness and all(value == "PASS" for value in freshness.values()):
        state.resolve(key)


def _evaluate_ticks(instance: dg.DagsterInstance, state: AlertState) -> None:
    for instigator in instance.all_instigator_state():
        kind = instigator.instigator_type.value.lower()
        if kind not in _CONSECUTIVE_FAILURES:
            continue
        key = ProblemKey(ProblemKind(kind), instigator.name)
        if instigator.status.value == "STOPPED":
            state.problems.pop(key, None)  # no message: someone stopped it on purpose
            continue
        limit = _CONSECUTIVE_FAILURES[key.kind]
        ticks = instance.get_ticks(instigator.instigator_origin_id, instigator.selector_id, limit=limit + 1)
        finished = [tick for tick in ticks if tick.status.value != "STARTED"][:limit]
        if len(finished) == limit and all(tick.status.value == "FAILURE" for tick in finished):
            details = {"cause": cause_of_error(finished[0].error), "link": link("automation")}
            state.open_problem(Problem(key=key, summary=f"{key} keeps failing", details=details))
        elif finished and finished[0].status.value != "FAILURE":
            state.resolve(key)
