"""What a person is told, and when: once, and once more when it is well."""

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any

import boto3
import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster_shared.error import SerializableErrorInfo

from etl_assets.alerts import Message, Problem, Watch, look
from etl_assets.definitions import defs
from etl_assets.environment import EnvironmentVariableError

WINDOWS = dg.StaticPartitionsDefinition(["10:00", "10:15", "10:30"])
TABLE = dg.AssetKey(["warehouse", "fact_payment"])
STAR = dg.AssetKey(["transformation", "fact_payment"])
WELL: dict[str, Any] = {"cause": "", "rows": 0}


class Config(dg.Config):
    cause: str
    rows: int


def do(config: Config) -> None:
    if config.cause:
        try:
            raise OSError("refused")
        except OSError as error:
            raise ConnectionError(config.cause) from error


@dg.asset(key=STAR, partitions_def=WINDOWS, check_specs=[dg.AssetCheckSpec("keys_unique", asset=STAR, blocking=True)])
def star(config: Config) -> dg.MaterializeResult:  # type: ignore[type-arg]
    do(config)
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="keys_unique", passed=not config.rows)])


@dg.multi_asset(
    name="warehouse",
    specs=[dg.AssetSpec(TABLE, deps=[STAR])],
    partitions_def=WINDOWS,
    check_specs=[dg.AssetCheckSpec("nothing_rejected", asset=TABLE), dg.AssetCheckSpec("as_declared", asset=TABLE)],
)
def warehouse(config: Config) -> dg.MaterializeResult:  # type: ignore[type-arg]
    do(config)
    told: dict[str, Any] = {"outstanding": config.rows, "first": dg.MetadataValue.json([{"value": "ada@x.com"}])}
    checks = [
        dg.AssetCheckResult(check_name="nothing_rejected", passed=not config.rows, metadata=told),
        dg.AssetCheckResult(check_name="as_declared", passed=False, severity=dg.AssetCheckSeverity.WARN),
    ]
    return dg.MaterializeResult(asset_key=TABLE, check_results=checks)


ETL = dg.Definitions(
    [star, warehouse], jobs=[dg.define_asset_job("etl")], executor=dg.in_process_executor
).resolve_job_def("etl")
STEPS = ("transformation__fact_payment", "warehouse")


def config(at: str, **values: Any) -> dict[str, Any]:
    return {"ops": {step: {"config": WELL | (values if step == at else {})} for step in STEPS}}


class Pager:
    """A Dagster instance, what happens in it, and what is told of it."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.watch = Watch(began=self.now(), since=self.now())
        self.told()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def run(
        self, partition: str = "10:00", *, at: str = "warehouse", by_hand: bool = False, **values: Any
    ) -> dg.DagsterRun:
        done = ETL.execute_in_process(
            instance=self.instance,
            partition_key=partition,
            run_config=config(at, **values),
            raise_on_error=False,
            tags={} if by_hand else {"dagster/schedule_name": "etl_schedule"},
        )
        return done.dagster_run

    def told(self) -> list[str]:
        """What there is to tell since last time."""
        return [message.subject.removeprefix("totesys ETL: ") for message in self.messages()]

    def messages(self) -> Sequence[Message]:
        self.watch = Watch.from_json(self.watch.to_json())
        look(self.instance, [TABLE], self.watch, self.now())
        found, self.watch.unsent = self.watch.unsent, []
        return found

    def freshness(self, state: str) -> None:
        change = FreshnessStateChange(
            key=TABLE,
            new_state=FreshnessState(state),
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=self.now().timestamp(),
        )
        self.instance._report_runless_asset_event(change)

    def tick(self, kind: InstigatorType, name: str, status: TickStatus) -> None:
        location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("etl_assets"), "__repository__")
        kept = ScheduleInstigatorData("1 3 * * *") if kind == InstigatorType.SCHEDULE else None
        state = InstigatorState(RemoteInstigatorOrigin(location, name), kind, InstigatorStatus.RUNNING, kept)
        if not self.instance.get_instigator_state(state.instigator_origin_id, state.selector_id):
            self.instance.add_instigator_state(state)
        cause = SerializableErrorInfo("CatchUpFailedError: partition 10:00\n", [], "CatchUpFailedError")
        error = SerializableErrorInfo("Error occurred\n", [], "SensorExecutionError", cause=cause)
        data = TickData(
            state.instigator_origin_id,
            name,
            kind,
            status,
            self.now().timestamp(),
            selector_id=state.selector_id,
            error=error if status == TickStatus.FAILURE else None,
        )
        self.instance.create_tick(data)


@pytest.fixture
def pager() -> Iterator[Pager]:
    with dg.instance_for_test() as instance:
        yield Pager(instance)


def test_a_failed_run_is_told_once_with_all_that_a_person_needs(pager: Pager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_URL", "https://dagster.example/")
    run = pager.run("10:00", cause="no connection to PostgreSQL\nand more")
    pager.run("10:15", cause="no connection to PostgreSQL")
    [message] = pager.messages()
    assert message.subject == "totesys ETL: etl failed at warehouse"
    assert message.body.splitlines()[:-1] == [
        "etl failed at warehouse",
        "step: warehouse",
        "cause: ConnectionError: no connection to PostgreSQL",
        "job: etl",
        "partition: 10:00",
        f"run: https://dagster.example/runs/{run.run_id}",
    ]
    told = json.loads(message.for_machines)
    assert (told["state"], told["severity"], told["partition"]) == ("open", "CRITICAL", "10:00")
    assert pager.told() == []


def test_its_recovery_is_told_once(pager: Pager) -> None:
    pager.run("10:00", cause="down")
    pager.run("10:15", cause="down")
    assert pager.told() == ["etl failed at warehouse"]
    pager.run("10:00")
    assert pager.told() == [], "an older partition that is well says nothing of the newest"
    pager.run("10:15")
    assert pager.told() == ["recovered: etl failed at warehouse"]
    pager.run("10:30")
    assert pager.told() == []
    pager.run("10:30", cause="down")
    assert pager.told() == ["etl failed at warehouse"], "again"


def test_what_failed_and_recovered_between_two_looks_is_told_both(pager: Pager) -> None:
    pager.run("10:00", cause="down")
    pager.run("10:15")
    assert pager.told() == [
        "etl failed at warehouse",
        "recovered: etl failed at warehouse",
    ]


def test_what_a_person_ran_is_a_matter_of_its_own(pager: Pager) -> None:
    pager.run("10:00", cause="down", by_hand=True)
    pager.run("10:15")
    assert pager.told() == ["etl failed at warehouse"]
    pager.run("10:00", by_hand=True)
    assert pager.told() == ["recovered: etl failed at warehouse"]


def test_a_partition_that_cannot_be_made_is_one_problem_until_it_is_loaded_whatever_later_ones_do(pager: Pager) -> None:
    for _ in range(2):
        pager.run("10:00", at="transformation__fact_payment", rows=1)
        pager.run("10:15", cause="10:00 is not loaded")
    assert pager.told() == [
        "check failed: transformation/fact_payment: keys_unique",
        "etl failed at warehouse",
    ]
    pager.run("10:00")
    assert pager.told() == ["recovered: check failed: transformation/fact_payment: keys_unique"]
    pager.run("10:15")
    assert pager.told() == ["recovered: etl failed at warehouse"]


def test_a_load_ends_what_was_wrong_in_partitions_before_it(pager: Pager) -> None:
    pager.run("10:00", at="transformation__fact_payment", cause="no memory")
    pager.run("10:15", cause="down")
    assert len(pager.told()) == 2
    pager.run("10:30")
    assert len(pager.told()) == 2
    assert pager.watch.open == {}


def test_nothing_is_told_of_what_was_before_the_first_look(pager: Pager) -> None:
    pager.run(cause="down")
    sleep(0.01)
    assert Pager(pager.instance).told() == []


def test_a_failed_check_of_severity_error_is_told_and_a_warning_is_not(pager: Pager) -> None:
    pager.run(rows=3)
    [message] = pager.messages()
    assert message.subject == "totesys ETL: check failed: warehouse/fact_payment: nothing_rejected"
    assert "cause: outstanding 3\n" in message.body, "what is in rows stays in Dagster"
    pager.run(rows=2)
    assert pager.told() == []
    pager.run(rows=0)
    assert pager.told() == ["recovered: check failed: warehouse/fact_payment: nothing_rejected"]


def test_a_blocking_check_that_fails_a_run_is_told_as_one_problem(pager: Pager) -> None:
    run = pager.run(at="transformation__fact_payment", rows=1)
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert pager.told() == ["check failed: transformation/fact_payment: keys_unique"]
    pager.run()
    assert pager.told() == ["recovered: check failed: transformation/fact_payment: keys_unique"]


def died(pager: Pager) -> dg.DagsterRun:
    """A run whose worker died."""
    run = pager.instance.create_run_for_job(
        ETL,
        run_config=config("warehouse"),
        tags={"dagster/schedule_name": "etl_schedule", "dagster/partition": "10:00"},
        status=dg.DagsterRunStatus.STARTED,
    )
    pager.instance.report_run_failed(run, "the process was terminated by signal 9\nand more")
    return run


def test_a_run_without_a_failed_step_is_told_by_its_job(pager: Pager) -> None:
    died(pager)
    [message] = pager.messages()
    assert message.subject == "totesys ETL: etl failed"
    assert "cause: the process was terminated by signal 9\n" in message.body
    pager.run("10:15")
    assert pager.told() == ["recovered: etl failed"]


@pytest.fixture
def retrying() -> Iterator[Pager]:
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True, "max_retries": 1}}) as instance:
        yield Pager(instance)


def test_a_run_that_dagster_runs_again_is_not_told(retrying: Pager) -> None:
    run = died(retrying)
    assert retrying.told() == [], "it will be"
    retrying.instance.add_run_tags(run.run_id, {"dagster/auto_retry_run_id": "another"})
    assert retrying.told() == [], "it is"
    assert retrying.watch.told == [run.run_id]


def test_a_run_that_dagster_could_not_run_again_is_told(retrying: Pager) -> None:
    run = died(retrying)
    assert retrying.told() == []
    retrying.instance.add_run_tags(run.run_id, {"dagster/will_retry": "false"})
    assert retrying.told() == ["etl failed"]


def test_a_run_that_dagster_forgot_to_run_again_is_told_after_some_minutes(retrying: Pager) -> None:
    died(retrying)
    look(retrying.instance, [TABLE], retrying.watch, retrying.now() + timedelta(minutes=6))
    assert [message.problem.summary for message in retrying.watch.unsent] == ["etl failed"]


def test_late_data_is_told_when_it_is_late_and_when_it_is_very_late(pager: Pager) -> None:
    pager.freshness("PASS")
    assert pager.told() == []
    pager.freshness("WARN")
    [late] = pager.messages()
    assert (late.subject, late.problem.severity) == ("totesys ETL: data is late", "WARNING")
    assert "tables: warehouse/fact_payment" in late.body
    pager.freshness("FAIL")
    [very_late] = pager.messages()
    assert (very_late.subject, very_late.problem.severity) == ("totesys ETL: data is very late", "CRITICAL")
    assert pager.told() == []
    pager.freshness("PASS")
    assert pager.told() == ["recovered: data is very late"]


def test_a_sensor_that_keeps_failing_is_told_with_its_cause(pager: Pager) -> None:
    for _ in range(2):
        pager.tick(InstigatorType.SENSOR, "catch_up", TickStatus.FAILURE)
    assert pager.told() == [], "once or twice is an outage"
    pager.tick(InstigatorType.SENSOR, "catch_up", TickStatus.FAILURE)
    [message] = pager.messages()
    assert message.subject == "totesys ETL: sensor catch_up keeps failing"
    assert "cause: CatchUpFailedError: partition 10:00\n" in message.body
    pager.tick(InstigatorType.SENSOR, "catch_up", TickStatus.STARTED)
    assert pager.told() == []
    pager.tick(InstigatorType.SENSOR, "catch_up", TickStatus.SKIPPED)
    assert pager.told() == ["recovered: sensor catch_up keeps failing"]


def test_a_sensor_that_was_stopped_is_a_problem_no_more_and_nothing_is_told(pager: Pager) -> None:
    for _ in range(3):
        pager.tick(InstigatorType.SENSOR, "catch_up", TickStatus.FAILURE)
    assert len(pager.told()) == 1
    [state] = pager.instance.all_instigator_state()
    pager.instance.update_instigator_state(state.with_status(InstigatorStatus.STOPPED))
    assert pager.told() == []
    assert pager.watch.open == {}


def test_a_schedule_that_failed_is_told_at_once(pager: Pager) -> None:
    pager.tick(InstigatorType.SCHEDULE, "etl_full_capture", TickStatus.FAILURE)
    assert pager.told() == ["schedule etl_full_capture keeps failing"]


def test_a_subject_is_short_and_printable_whatever_the_problem() -> None:
    message = Message(problem=Problem(key="x", summary="café\n" * 60), recovered=False, at="now")
    assert len(message.subject) <= 100
    assert message.subject.isascii()
    assert message.subject.isprintable()


@pytest.fixture
def topic(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A new SNS topic, which ALERTS_TOPIC_ARN names, and the URL of a queue that gets what is published."""
    name = s3_bucket.removeprefix("s3://")
    arn = boto3.client("sns").create_topic(Name=name)["TopicArn"]
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
    monkeypatch.setenv("ALERTS_TOPIC_ARN", arn)
    return arn, queue


def received(queue: str) -> list[dict[str, Any]]:
    answer = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


def evaluate(instance: dg.DagsterInstance, cursor: str | None) -> Any:
    repository = defs.get_repository_def()
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=repository)
    return repository.get_sensor_def("alerts").evaluate_tick(context)


def test_sns_gets_what_there_is_to_tell(pager: Pager, topic: tuple[str, str]) -> None:
    first = evaluate(pager.instance, None)
    pager.run(cause="down")
    second = evaluate(pager.instance, first.cursor)
    [got] = received(topic[1])
    assert got["Subject"] == "totesys ETL: etl failed at warehouse"
    assert "cause: ConnectionError: down" in got["Message"]
    assert json.loads(got["MessageAttributes"]["json"]["Value"])["job"] == "etl"
    evaluate(pager.instance, second.cursor)
    assert received(topic[1]) == []


def test_what_sns_does_not_take_is_logged_and_sent_in_order_at_the_next_look(
    pager: Pager, topic: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = evaluate(pager.instance, None)
    pager.run(cause="down")
    pager.run()
    with monkeypatch.context() as outage:
        outage.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        second = evaluate(pager.instance, first.cursor)
    assert second.skip_message == "0 problems are open, 2 messages are not sent yet"
    assert caplog.text.count("SNS did not take an alert; it is sent again") == 1, "the second would only wait as well"
    third = evaluate(pager.instance, second.cursor)
    assert third.skip_message == "0 problems are open, 0 messages are not sent yet"
    assert [got["Subject"] for got in received(topic[1])] == [
        "totesys ETL: etl failed at warehouse",
        "totesys ETL: recovered: etl failed at warehouse",
    ]


def test_a_malformed_topic_is_one_line_that_names_it(pager: Pager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS_TOPIC_ARN", "alerts")
    with pytest.raises(EnvironmentVariableError, match=r"^ALERTS_TOPIC_ARN must look like arn:aws:sns:"):
        evaluate(pager.instance, None)


def test_without_a_topic_the_log_tells(pager: Pager, caplog: pytest.LogCaptureFixture) -> None:
    first = evaluate(pager.instance, None)
    pager.run(cause="down")
    with caplog.at_level(logging.INFO, "etl_assets.alerts"):
        second = evaluate(pager.instance, first.cursor)
        pager.run()
        evaluate(pager.instance, second.cursor)
    failed, recovered = [record for record in caplog.records if record.name == "etl_assets.alerts"]
    assert (failed.levelname, recovered.levelname) == ("CRITICAL", "INFO")
    assert failed.getMessage().startswith("totesys ETL: etl failed at warehouse\nstep: warehouse\ncause: ")
    assert recovered.getMessage().startswith("totesys ETL: Recovered: etl failed at warehouse\n")


def test_a_look_that_fails_is_critical_itself(pager: Pager, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError):
        evaluate(pager.instance, "{}")
    assert [record.levelname for record in caplog.records if record.name == "etl_assets.alerts"] == ["CRITICAL"]


def test_the_cursor_does_not_grow_with_runs_that_ended_long_ago(pager: Pager) -> None:
    pager.run()
    pager.told()
    assert len(pager.watch.told) == 1
    look(pager.instance, [TABLE], pager.watch, pager.now() + timedelta(hours=1))
    look(pager.instance, [TABLE], pager.watch, pager.now() + timedelta(hours=1))
    assert pager.watch.told == []
