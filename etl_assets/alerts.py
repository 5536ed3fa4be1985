"""What a person must act on is told once, and again when it is well: to SNS if there is a topic, and in the log.

A problem has a key, the same while it lasts. Dagster's own storage is asked each time what has become of runs, checks,
freshness and ticks; the sensor's cursor holds which problems are open and which messages SNS has not taken yet.
docs/operations.md says what each alert means and what to do.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import dagster as dg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from etl_assets.environment import Variable, alerts_topic
from etl_assets.ingestion import INGESTION
from etl_assets.transformation.assets import TRANSFORMATION
from etl_assets.warehouse.schema import WAREHOUSE

CRITICAL = "CRITICAL"
WARNING = "WARNING"

_LOOKS_EVERY_SECONDS = 30
# A run that ends may become visible late, after others that ended later: finished runs are listed again for so long.
_OVERLAP = timedelta(minutes=10)
_SETTLES = timedelta(minutes=5)
_FAILED_TICKS = {"SENSOR": 3, "SCHEDULE": 1}
_FINISHED_TICKS = {"SUCCESS", "SKIPPED", "FAILURE"}
_LATE = {"WARN": WARNING, "FAIL": CRITICAL}
_BY_HAND = " by hand of "
_EVER = "~"  # sorts after every partition
_SUBJECT_LENGTH = 100  # Amazon SNS API reference, Publish
_CAUSE_LENGTH = 500
_OF_DAGSTER = re.compile(r"Dagster\w+|(Sensor|Schedule)ExecutionError|RetryRequestedFromPolicy")
# Asked once, and patiently: a message whose answer is not waited for is told twice. The next look asks again.
_SNS_CONFIG = Config(connect_timeout=3, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 1})
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong.

    key: names it, the same while it lasts.
    summary: one line that a person reads first.
    facts: what else there is to say, by name.
    severity: `CRITICAL` for what a person must act on, `WARNING` for what may become so.
    partitions: those it was seen in and that are not well yet; it ends with the last of them.
    """

    key: str
    summary: str
    facts: Mapping[str, str] = field(default_factory=dict)
    severity: str = CRITICAL
    partitions: Sequence[str] = ("",)


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent: that a problem is there, or (`recovered`) that it is no more."""

    problem: Problem
    recovered: bool
    at: str

    @property
    def subject(self) -> str:
        """One line of at most 100 printable ASCII characters, as SNS demands."""
        line = f"totesys ETL: {'recovered: ' if self.recovered else ''}{self.problem.summary}"
        printable = " ".join(line.split()).encode("ascii", "replace").decode()
        return printable if len(printable) <= _SUBJECT_LENGTH else f"{printable[: _SUBJECT_LENGTH - 3]}..."

    @property
    def body(self) -> str:
        """A few short lines."""
        head = f"{'Recovered: ' if self.recovered else ''}{self.problem.summary}"
        return "\n".join([head, *(f"{name}: {value}" for name, value in self.problem.facts.items()), f"at: {self.at}"])

    @property
    def for_machines(self) -> str:
        """The same as JSON."""
        return json.dumps(
            {
                "state": "recovered" if self.recovered else "open",
                "problem": self.problem.key,
                "severity": self.problem.severity,
                "summary": self.problem.summary,
                "at": self.at,
                **self.problem.facts,
            }
        )


@dataclass
class Watch:
    """What is remembered from one look to the next.

    began: what was before the first look is not told.
    since: the last look; finished runs are listed from some minutes before it on.
    told: the runs among those that have been seen to.
    open: the problems that are there, by key.
    unsent: messages that SNS has not taken.
    """

    began: datetime
    since: datetime
    told: list[str] = field(default_factory=list)
    open: dict[str, Problem] = field(default_factory=dict)
    unsent: list[Message] = field(default_factory=list)

    def to_json(self) -> str:
        """Write the cursor."""
        return json.dumps(asdict(self), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str) -> "Watch":
        """Read the cursor."""
        noted = json.loads(text)
        return cls(
            began=datetime.fromisoformat(noted["began"]),
            since=datetime.fromisoformat(noted["since"]),
            told=noted["told"],
            open={key: Problem(**problem) for key, problem in noted["open"].items()},
            unsent=[Message(**message | {"problem": Problem(**message["problem"])}) for message in noted["unsent"]],
        )

    def found(self, problem: Problem, now: datetime) -> None:
        """Note a problem; it is told if it is new, or has become worse."""
        known = self.open.get(problem.key)
        bad = sorted({*problem.partitions, *(known.partitions if known else ())})
        self.open[problem.key] = replace(problem, partitions=bad)
        if known is None or (known.severity, problem.severity) == (WARNING, CRITICAL):
            self._tell(problem, recovered=False, now=now)

    def well(self, key: str, now: datetime, first: str = "", last: str = _EVER) -> None:
        """Note that a problem, if it was there, is no more in the partitions from the first to the last."""
        if problem := self.open.get(key):
            bad = [partition for partition in problem.partitions if not first <= partition <= last]
            self.open[key] = replace(problem, partitions=bad)
            if not bad:
                self._tell(self.open.pop(key), recovered=True, now=now)

    def _tell(self, problem: Problem, *, recovered: bool, now: datetime) -> None:
        message = Message(problem=problem, recovered=recovered, at=f"{now:%Y-%m-%d %H:%M:%S} UTC")
        self.unsent.append(message)
        level = logging.INFO if recovered else logging.getLevelName(problem.severity)
        _LOG.log(level, f"totesys ETL: {message.body}", extra={"alert": json.loads(message.for_machines)})


def alerts_sensor(watched: Sequence[dg.AssetKey], *, automated: bool) -> dg.SensorDefinition:
    """Make the sensor that tells what is wrong; `watched` are the assets whose freshness counts."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=_LOOKS_EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if automated else dg.DefaultSensorStatus.STOPPED,
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Tell once of each failed run, failed check, late table and failing sensor or schedule, and of its recovery.

        To the SNS topic that ALERTS_TOPIC_ARN names, if it is set; always as a line in the log. What SNS does not take
        is tried again at the next look.
        """
        now = datetime.now(UTC)
        try:
            watch = Watch.from_json(context.cursor) if context.cursor else Watch(began=now, since=now)
            topic = alerts_topic()
            look(context.instance, watched, watch, now)
        except Exception:
            _LOG.critical("totesys ETL: alerts cannot be told", exc_info=True)
            raise
        watch.unsent = _send(topic, watch.unsent) if topic else []
        context.update_cursor(watch.to_json())
        return dg.SkipReason(f"{len(watch.open)} problems are open, {len(watch.unsent)} messages are not sent yet")

    return alerts


def _send(topic: str, messages: list[Message]) -> list[Message]:
    """Publish messages in their order; give those from the first on that SNS did not take."""
    # arn:aws:sns:<region>:<account>:<name>
    sns = boto3.client("sns", region_name=topic.split(":")[3], config=_SNS_CONFIG)
    for index, message in enumerate(messages):
        try:
            sns.publish(
                TopicArn=topic,
                Subject=message.subject,
                Message=message.body,
                MessageAttributes={"json": {"DataType": "String", "StringValue": message.for_machines}},
            )
        except (BotoCoreError, ClientError) as error:
            _LOG.error("SNS did not take an alert; it is sent again: %s", error)
            return messages[index:]
    return []


def look(instance: dg.DagsterInstance, watched: Sequence[dg.AssetKey], watch: Watch, now: datetime) -> None:
    """Note in `watch` what is wrong and what is well again, with the messages that tell of it."""
    _look_at_runs(instance, watch, now)
    _look_at_freshness(instance, watched, watch, now)
    _look_at_ticks(instance, watch, now)


def _look_at_runs(instance: dg.DagsterInstance, watch: Watch, now: datetime) -> None:
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    since = max(watch.began, watch.since - _OVERLAP)
    records = instance.get_run_records(dg.RunsFilter(statuses=ended, updated_after=since))
    told = []
    for record in sorted(records, key=lambda record: record.end_time or 0):
        run = record.dagster_run
        if run.run_id not in watch.told:
            retried = _is_retried(instance, run)
            if retried is None and now - record.update_timestamp.replace(tzinfo=UTC) < _SETTLES:
                continue
            _look_at_run(instance, run, watch, now, retried=bool(retried))
        told.append(run.run_id)
    watch.told = told
    watch.since = now


def _is_retried(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool | None:
    """Tell whether Dagster has launched a failed run again; None if it is about to decide, or to launch it."""
    if run.status != dg.DagsterRunStatus.FAILURE or not instance.run_retries_enabled:
        return False
    if run.tags.get("dagster/will_retry") == "false":
        return False
    return True if "dagster/auto_retry_run_id" in run.tags else None


@dataclass(frozen=True)
class _Partitions:
    """The partitions of a run, first and last; both empty if it has none."""

    first: str
    last: str

    @classmethod
    def of(cls, run: dg.DagsterRun) -> "_Partitions":
        one = run.tags.get("dagster/partition", "")
        return cls(
            run.tags.get("dagster/asset_partition_range_start", one),
            run.tags.get("dagster/asset_partition_range_end", one),
        )

    def __str__(self) -> str:
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


def _look_at_run(
    instance: dg.DagsterInstance, run: dg.DagsterRun, watch: Watch, now: datetime, *, retried: bool
) -> None:
    partitions = _Partitions.of(run)
    # What schedules and sensors ask for, they ask for again; what a person asks for is a matter of its own.
    by_hand = not {"dagster/schedule_name", "dagster/sensor_name"} & run.tags.keys()
    of = f"{_BY_HAND}{partitions}" if by_hand else ""
    job = "a run by hand" if run.job_name.startswith("__") else run.job_name
    where = {"job": run.job_name, "partition": str(partitions), "run": _link(f"runs/{run.run_id}")}

    def found(key: str, summary: str, facts: Mapping[str, str]) -> None:
        facts = {name: value for name, value in {**facts, **where}.items() if value}
        bad = [partitions.first, partitions.last]
        watch.found(Problem(key=key, summary=summary, facts=facts, partitions=bad), now)

    def well(*keys: str) -> None:
        for key in keys:
            watch.well(key, now, partitions.first, partitions.last)

    for event in _events(instance, run, dg.DagsterEventType.STEP_SUCCESS):
        well(f"step {event.step_key}", f"step {event.step_key}{of}")
        for key in _made_well(str(event.step_key), watch.open):
            watch.well(key, now, last=partitions.last)
    blocked = set()
    for event in _events(instance, run, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        check = event.asset_check_evaluation_data
        name = f"{check.asset_key.to_user_string()}: {check.check_name}"
        if check.passed:
            well(f"check {name}")
        elif check.severity == dg.AssetCheckSeverity.ERROR:
            if check.blocking:
                blocked.add(event.step_key)
            facts = {"asset": check.asset_key.to_user_string(), "check": check.check_name, "cause": _shown(check)}
            found(f"check {name}", f"check failed: {name}", facts)
    if run.status == dg.DagsterRunStatus.SUCCESS:
        well(f"job {run.job_name}", f"job {run.job_name}{of}")
        return
    if retried:
        return
    failed = [event for event in _events(instance, run, dg.DagsterEventType.STEP_FAILURE) if event.step_key]
    for event in failed:
        if event.step_key not in blocked:
            facts = {"step": str(event.step_key), "cause": _cause_of_step(event)}
            found(f"step {event.step_key}{of}", f"{job} failed at {event.step_key}", facts)
    if not failed:
        causes = [event.message for event in _events(instance, run, dg.DagsterEventType.RUN_FAILURE)]
        facts = {"cause": _first_line(causes[-1] or "") if causes else "unknown"}
        found(f"job {run.job_name}{of}", f"{job} failed", facts)


def _made_well(step: str, problems: Iterable[str]) -> list[str]:
    """Give the problems that a step ends in earlier partitions too.

    A capture takes all that happened since the one before; no capture is loaded before the one it follows.
    """
    if step == INGESTION:
        return [f"step {INGESTION}"]
    if step == WAREHOUSE:
        ended = ("step ", "job ", f"check {TRANSFORMATION}/")
        return [key for key in problems if key.startswith(ended) and _BY_HAND not in key]
    return []


def _events(instance: dg.DagsterInstance, run: dg.DagsterRun, kind: dg.DagsterEventType) -> Iterator[dg.DagsterEvent]:
    for record in instance.get_records_for_run(run.run_id, of_type=kind).records:
        yield record.event_log_entry.get_dagster_event()


def _shown(check: dg.AssetCheckEvaluation) -> str:
    values = ((name, value.value) for name, value in check.metadata.items())
    told = ", ".join(f"{name} {value}" for name, value in values if isinstance(value, int | float | str))
    return _first_line(check.description or told)


def _cause_of_step(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return _first_line(data.user_failure_data.description)
    return _cause(data.error)


def _cause(error: Any) -> str:
    """Give the first line of the error, as Dagster keeps it, that Dagster's own were caused by."""
    if error is None:
        return "unknown"
    while error.cause and _OF_DAGSTER.fullmatch(error.cls_name or ""):
        error = error.cause
    _, _, told = error.message.partition(": ")
    return _first_line(f"{error.cls_name}: {told}")


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")[:_CAUSE_LENGTH]


def _link(path: str) -> str:
    """Give the address of a page of the Dagster UI, or its last part if that is not known."""
    return f"{os.environ.get(Variable.DAGSTER_URL, '').rstrip('/')}/{path}"


def _look_at_freshness(
    instance: dg.DagsterInstance, watched: Sequence[dg.AssetKey], watch: Watch, now: datetime
) -> None:
    states = {
        key.to_user_string(): record.freshness_state.value
        for key, record in instance.get_freshness_state_records(watched).items()
    }
    for state, severity in reversed(_LATE.items()):
        late = [name for name, found in states.items() if found == state]
        if late:
            facts = {"tables": ", ".join(late), "link": _link("assets")}
            summary = "data is late" if severity == WARNING else "data is very late"
            watch.found(Problem(key="freshness", summary=summary, facts=facts, severity=severity), now)
            return
    if states and all(state == "PASS" for state in states.values()):
        watch.well("freshness", now)


def _look_at_ticks(instance: dg.DagsterInstance, watch: Watch, now: datetime) -> None:
    for state in instance.all_instigator_state():
        kind = state.instigator_type.value
        key = f"{kind.lower()} {state.name}"
        if kind not in _FAILED_TICKS:
            continue
        if state.status.value == "STOPPED":
            watch.open.pop(key, None)  # whoever stopped it knows
            continue
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=_FAILED_TICKS[kind] + 1)
        ended = [tick for tick in ticks if tick.status.value in _FINISHED_TICKS][: _FAILED_TICKS[kind]]
        if len(ended) == _FAILED_TICKS[kind] and all(tick.status.value == "FAILURE" for tick in ended):
            facts = {"cause": _cause(ended[0].error), "link": _link("automation")}
            watch.found(Problem(key=key, summary=f"{key} keeps failing", facts=facts), now)
        elif ended and ended[0].status.value != "FAILURE":
            watch.well(key, now)
