"""Alerts: one message when a problem opens, and one when it is resolved."""

import json
import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
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

from etl_assets.adapters.settings import Settings
from etl_assets.automation.alerts.hooks import sns_on_failure, sns_on_success
from etl_assets.automation.alerts.monitor import alerts_sensor, evaluate
from etl_assets.automation.alerts.sns import SnsTopicResource
from etl_assets.automation.alerts.state import AlertState, Message, MessageState, Problem, ProblemKey, ProblemKind
from etl_assets.catalog.stages import LOAD_OP
from etl_assets.definitions import definitions

WINDOWS = dg.StaticPartitionsDefinition(["10:00", "10:15", "10:30"])
TABLE = dg.AssetKey(["warehouse", "fact_payment"])
STAR = dg.AssetKey(["transformation", "fact_payment"])
SUCCEED: dict[str, Any] = {"cause": "", "rows": 0}


class Config(dg.Config):
    cause: str
    rows: int


def fail_if_configured(config: Config) -> None:
    if config.cause:
        try:
            raise OSError("refused")
        except OSError as error:
            raise ConnectionError(config.cause) from error


@dg.asset(
    key=STAR,
    partitions_def=WINDOWS,
    check_specs=[dg.AssetCheckSpec("keys_unique_per_capture", asset=STAR, blocking=True)],
)
def star(config: Config) -> dg.MaterializeResult:  # type: ignore[type-arg]
    fail_if_configured(config)
    return dg.MaterializeResult(
        check_results=[dg.AssetCheckResult(check_name="keys_unique_per_capture", passed=not config.rows)]
    )


@dg.multi_asset(
    name=LOAD_OP,
    specs=[dg.AssetSpec(TABLE, deps=[STAR])],
    partitions_def=WINDOWS,
    check_specs=[dg.AssetCheckSpec("no_rejected_rows", asset=TABLE), dg.AssetCheckSpec("schema_matches", asset=TABLE)],
)
def warehouse(config: Config) -> dg.MaterializeResult:  # type: ignore[type-arg]
    fail_if_configured(config)
    metadata: dict[str, Any] = {"outstanding": config.rows, "first": dg.MetadataValue.json([{"value": "ada@x.com"}])}
    checks = [
        dg.AssetCheckResult(check_name="no_rejected_rows", passed=not config.rows, metadata=metadata),
        dg.AssetCheckResult(check_name="schema_matches", passed=False, severity=dg.AssetCheckSeverity.WARN),
    ]
    return dg.MaterializeResult(asset_key=TABLE, check_results=checks)


@dg.op
def reports(config: Config) -> None:
    fail_if_configured(config)


@dg.job
def report() -> None:
    reports()


ETL = dg.Definitions(
    [star, warehouse], jobs=[dg.define_asset_job("etl")], executor=dg.in_process_executor
).resolve_job_def("etl")
STEPS = ("transformation__fact_payment", LOAD_OP)


def run_config(at: str, **values: Any) -> dict[str, Any]:
    return {"ops": {step: {"config": SUCCEED | (values if step == at else {})} for step in STEPS}}


class Monitored:
    """A Dagster instance, events in it, and the messages that they cause."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.state = AlertState()
        self.first_subjects = self.subjects()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def run(self, partition: str = "10:00", *, at: str = LOAD_OP, manual: bool = False, **values: Any) -> dg.DagsterRun:
        result = ETL.execute_in_process(
            instance=self.instance,
            partition_key=partition,
            run_config=run_config(at, **values),
            raise_on_error=False,
            tags={} if manual else {"dagster/schedule_name": "etl_schedule"},
        )
        return result.dagster_run

    def subjects(self) -> list[str]:
        """The subjects of the messages since the last call."""
        return [message.subject.removeprefix("totesys ETL: ") for message in self.messages()]

    def messages(self) -> Sequence[Message]:
        if self.state.evaluated_until:
            self.state = AlertState.from_json(self.state.to_json())
        evaluate(self.instance, [TABLE], self.state, self.now())
        messages, self.state.unsent = self.state.unsent, []
        return messages

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
        schedule = ScheduleInstigatorData("1 3 * * *") if kind == InstigatorType.SCHEDULE else None
        state = InstigatorState(RemoteInstigatorOrigin(location, name), kind, InstigatorStatus.RUNNING, schedule)
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
def monitored() -> Iterator[Monitored]:
    with dg.instance_for_test() as instance:
        yield Monitored(instance)


def test_a_failed_run_is_reported_once_with_its_cause_and_link(
    monitored: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_URL", "https://dagster.example/")
    run = monitored.run("10:00", cause="no connection to PostgreSQL\nand more")
    monitored.run("10:15", cause="no connection to PostgreSQL")
    [message] = monitored.messages()
    assert message.subject == "totesys ETL: etl failed at warehouse/load"
    assert message.body.splitlines()[:-1] == [
        "etl failed at warehouse/load",
        "step: warehouse__load",
        "cause: ConnectionError: no connection to PostgreSQL",
        "job: etl",
        "partition: 10:00",
        f"run: https://dagster.example/runs/{run.run_id}",
    ]
    fields = json.loads(message.as_json)
    assert (fields["state"], fields["problem"], fields["severity"]) == ("open", "step warehouse__load", "CRITICAL")
    assert fields["partition"] == "10:00"
    assert monitored.subjects() == []


def test_the_recovery_of_a_failed_run_is_reported_once(monitored: Monitored) -> None:
    monitored.run("10:00", cause="down")
    monitored.run("10:15", cause="down")
    assert monitored.subjects() == ["etl failed at warehouse/load"]
    monitored.run("10:00")
    assert monitored.subjects() == [], "10:15 still fails"
    monitored.run("10:15")
    assert monitored.subjects() == ["recovered: etl failed at warehouse/load"]
    monitored.run("10:30")
    assert monitored.subjects() == []
    monitored.run("10:30", cause="down")
    assert monitored.subjects() == ["etl failed at warehouse/load"], "again"


def test_a_failure_and_a_recovery_between_two_evaluations_are_both_reported(monitored: Monitored) -> None:
    monitored.run("10:00", cause="down")
    monitored.run("10:15")
    assert monitored.subjects() == ["etl failed at warehouse/load", "recovered: etl failed at warehouse/load"]


def test_a_failed_manual_run_is_a_problem_of_its_own(monitored: Monitored) -> None:
    monitored.run("10:00", cause="down", manual=True)
    monitored.run("10:15")
    [message] = monitored.messages()
    assert json.loads(message.as_json)["problem"] == "step warehouse__load, manual run 10:00"
    monitored.run("10:00", manual=True)
    assert monitored.subjects() == ["recovered: etl failed at warehouse/load"]


def test_a_partition_that_blocks_later_ones_is_one_problem_until_it_is_loaded(monitored: Monitored) -> None:
    for _ in range(2):
        monitored.run("10:00", at="transformation__fact_payment", rows=1)
        monitored.run("10:15", cause="10:00 is not loaded")
    assert monitored.subjects() == [
        "check failed: transformation/fact_payment: keys_unique_per_capture",
        "etl failed at warehouse/load",
    ]
    monitored.run("10:00")
    assert monitored.subjects() == ["recovered: check failed: transformation/fact_payment: keys_unique_per_capture"]
    monitored.run("10:15")
    assert monitored.subjects() == ["recovered: etl failed at warehouse/load"]


def test_a_load_resolves_problems_in_earlier_partitions(monitored: Monitored) -> None:
    monitored.run("10:00", at="transformation__fact_payment", cause="no memory")
    monitored.run("10:15", cause="down")
    assert len(monitored.subjects()) == 2
    monitored.run("10:30")
    assert len(monitored.subjects()) == 2
    assert monitored.state.problems == {}


def test_a_load_does_not_resolve_a_failed_report(monitored: Monitored) -> None:
    def run_report(cause: str) -> None:
        config = {"ops": {"reports": {"config": SUCCEED | {"cause": cause}}}}
        tags = {"dagster/sensor_name": "reports_sensor"}
        report.execute_in_process(instance=monitored.instance, run_config=config, raise_on_error=False, tags=tags)

    run_report("division by zero")
    assert monitored.subjects() == ["report failed at reports"]
    monitored.run("10:00")
    assert monitored.subjects() == []
    run_report("")
    assert monitored.subjects() == ["recovered: report failed at reports"]


def test_what_failed_before_the_first_evaluation_and_is_not_resolved_is_reported(
    monitored: Monitored, caplog: pytest.LogCaptureFixture
) -> None:
    monitored.run("10:00", cause="down")
    monitored.run("10:00")
    monitored.run("10:15", rows=2)
    first = Monitored(monitored.instance)
    assert first.first_subjects == ["check failed: warehouse/fact_payment: no_rejected_rows"]
    assert [record.levelname for record in caplog.records if record.name == "etl_assets.alerts"] == ["CRITICAL"]
    assert first.subjects() == []


def test_a_failed_check_is_reported_and_a_warning_is_not(monitored: Monitored) -> None:
    monitored.run(rows=3)
    [message] = monitored.messages()
    assert message.subject == "totesys ETL: check failed: warehouse/fact_payment: no_rejected_rows"
    assert "cause: outstanding 3\n" in message.body, "values of rows are not in the message"
    monitored.run(rows=2)
    assert monitored.subjects() == []
    monitored.run(rows=0)
    assert monitored.subjects() == ["recovered: check failed: warehouse/fact_payment: no_rejected_rows"]


def test_rejected_rows_that_are_corrected_in_a_later_window_are_reported_as_recovered(monitored: Monitored) -> None:
    monitored.run("10:00", rows=3)
    monitored.run("10:15", rows=3)
    assert monitored.subjects() == ["check failed: warehouse/fact_payment: no_rejected_rows"]
    monitored.run("10:30", rows=0)
    assert monitored.subjects() == ["recovered: check failed: warehouse/fact_payment: no_rejected_rows"]


def test_a_blocking_check_that_fails_its_run_is_one_problem(monitored: Monitored) -> None:
    run = monitored.run(at="transformation__fact_payment", rows=1)
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert monitored.subjects() == ["check failed: transformation/fact_payment: keys_unique_per_capture"]
    monitored.run()
    assert monitored.subjects() == ["recovered: check failed: transformation/fact_payment: keys_unique_per_capture"]


def run_with_dead_worker(monitored: Monitored) -> dg.DagsterRun:
    """A run that failed because its worker died."""
    run = monitored.instance.create_run_for_job(
        ETL,
        run_config=run_config(LOAD_OP),
        tags={"dagster/schedule_name": "etl_schedule", "dagster/partition": "10:00"},
        status=dg.DagsterRunStatus.STARTED,
    )
    monitored.instance.report_run_failed(run, "the process was terminated by signal 9\nand more")
    return run


def test_a_run_that_fails_without_a_failed_step_is_reported_by_job(monitored: Monitored) -> None:
    run_with_dead_worker(monitored)
    [message] = monitored.messages()
    assert message.subject == "totesys ETL: etl failed"
    assert "cause: the process was terminated by signal 9\n" in message.body
    monitored.run("10:15")
    assert monitored.subjects() == ["recovered: etl failed"]


@pytest.fixture
def retrying() -> Iterator[Monitored]:
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True, "max_retries": 1}}) as instance:
        yield Monitored(instance)


def test_a_run_that_dagster_retries_is_not_reported(retrying: Monitored) -> None:
    run = run_with_dead_worker(retrying)
    assert retrying.subjects() == [], "not retried yet"
    retrying.instance.add_run_tags(run.run_id, {"dagster/auto_retry_run_id": "another"})
    assert retrying.subjects() == [], "retried"
    assert retrying.state.seen_run_ids == [run.run_id]


def test_a_run_that_dagster_does_not_retry_is_reported(retrying: Monitored) -> None:
    run = run_with_dead_worker(retrying)
    assert retrying.subjects() == []
    retrying.instance.add_run_tags(run.run_id, {"dagster/will_retry": "false"})
    assert retrying.subjects() == ["etl failed"]


def test_a_failed_run_is_reported_if_dagster_has_not_retried_it_after_five_minutes(retrying: Monitored) -> None:
    run_with_dead_worker(retrying)
    evaluate(retrying.instance, [TABLE], retrying.state, retrying.now() + timedelta(minutes=6))
    assert [message.problem.summary for message in retrying.state.unsent] == ["etl failed"]


def test_late_data_is_reported_when_late_and_when_very_late(monitored: Monitored) -> None:
    monitored.freshness("PASS")
    assert monitored.subjects() == []
    monitored.freshness("WARN")
    [late] = monitored.messages()
    assert (late.subject, late.problem.severity) == ("totesys ETL: data is late", "WARNING")
    assert "tables: warehouse/fact_payment" in late.body
    monitored.freshness("FAIL")
    [very_late] = monitored.messages()
    assert (very_late.subject, very_late.problem.severity) == ("totesys ETL: data is very late", "CRITICAL")
    assert monitored.subjects() == []
    monitored.freshness("PASS")
    assert monitored.subjects() == ["recovered: data is very late"]


def test_a_sensor_that_fails_three_times_in_a_row_is_reported_with_its_cause(monitored: Monitored) -> None:
    for _ in range(2):
        monitored.tick(InstigatorType.SENSOR, "catch_up", TickStatus.FAILURE)
    assert monitored.subjects() == [], "one or two failures may be an outage"
    monitored.tick(InstigatorType.SENSOR, "catch_up", TickStatus.FAILURE)
    [message] = monitored.messages()
    assert message.subject == "totesys ETL: sensor catch_up keeps failing"
    assert "cause: CatchUpFailedError: partition 10:00\n" in message.body
    monitored.tick(InstigatorType.SENSOR, "catch_up", TickStatus.STARTED)
    assert monitored.subjects() == []
    monitored.tick(InstigatorType.SENSOR, "catch_up", TickStatus.SKIPPED)
    assert monitored.subjects() == ["recovered: sensor catch_up keeps failing"]


def test_a_stopped_sensor_is_no_problem_and_sends_no_message(monitored: Monitored) -> None:
    for _ in range(3):
        monitored.tick(InstigatorType.SENSOR, "catch_up", TickStatus.FAILURE)
    assert len(monitored.subjects()) == 1
    [instigator] = monitored.instance.all_instigator_state()
    monitored.instance.update_instigator_state(instigator.with_status(InstigatorStatus.STOPPED))
    assert monitored.subjects() == []
    assert monitored.state.problems == {}


def test_a_failed_schedule_is_reported_at_once(monitored: Monitored) -> None:
    monitored.tick(InstigatorType.SCHEDULE, "etl_full_capture", TickStatus.FAILURE)
    assert monitored.subjects() == ["schedule etl_full_capture keeps failing"]


def test_a_subject_is_short_printable_ascii() -> None:
    message = Message(problem=Problem(key=ProblemKey(ProblemKind.JOB), summary="café\n" * 60), state=MessageState.OPEN)
    assert len(message.subject) <= 100
    assert message.subject.isascii()
    assert message.subject.isprintable()


def new_topic(name: str) -> tuple[str, str]:
    """Create an SNS topic. Return its ARN, and the URL of a queue that receives its messages."""
    arn = boto3.client("sns").create_topic(Name=name)["TopicArn"]
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    queue_arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
    return arn, queue


@pytest.fixture
def topic(s3_bucket: str) -> tuple[str, str]:
    return new_topic(s3_bucket.removeprefix("s3://"))


def received(queue: str) -> list[dict[str, Any]]:
    response = boto3.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
    return [json.loads(message["Body"]) for message in response.get("Messages", [])]


def evaluate_sensor(instance: dg.DagsterInstance, cursor: str | None, topic: str | None = None) -> Any:
    sensor = alerts_sensor([TABLE], topic, dg.DefaultSensorStatus.RUNNING)
    return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))


def test_messages_are_published_to_sns(monitored: Monitored, topic: tuple[str, str]) -> None:
    first = evaluate_sensor(monitored.instance, None, topic[0])
    monitored.run(cause="down")
    second = evaluate_sensor(monitored.instance, first.cursor, topic[0])
    [published] = received(topic[1])
    assert published["Subject"] == "totesys ETL: etl failed at warehouse/load"
    assert "cause: ConnectionError: down" in published["Message"]
    assert json.loads(published["MessageAttributes"]["json"]["Value"])["job"] == "etl"
    evaluate_sensor(monitored.instance, second.cursor, topic[0])
    assert received(topic[1]) == []


def delivered(caplog: pytest.LogCaptureFixture) -> int:
    return sum(getattr(record, "event", None) == "ALERTS_DELIVERED" for record in caplog.records)


def test_messages_that_sns_does_not_accept_are_sent_in_order_by_the_next_evaluation(
    monitored: Monitored, topic: tuple[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "etl_assets.alerts")
    first = evaluate_sensor(monitored.instance, None, topic[0])
    monitored.run(cause="down")
    monitored.run()
    assert delivered(caplog) == 1
    with monkeypatch.context() as outage:
        outage.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        second = evaluate_sensor(monitored.instance, first.cursor, topic[0])
    assert second.skip_message == "0 open problems, 2 unsent messages"
    assert caplog.text.count("SNS did not accept an alert") == 1, "the second message is not tried"
    assert delivered(caplog) == 1, "alarms speak while this line is missing"
    third = evaluate_sensor(monitored.instance, second.cursor, topic[0])
    assert delivered(caplog) == 2
    assert third.skip_message == "0 open problems, 0 unsent messages"
    assert [published["Subject"] for published in received(topic[1])] == [
        "totesys ETL: etl failed at warehouse/load",
        "totesys ETL: recovered: etl failed at warehouse/load",
    ]


@pytest.mark.parametrize("automated", [True, False])
@pytest.mark.parametrize("arn", ["arn:aws:sns:eu-west-2:123456789012:alerts", None])
def test_the_sensor_is_on_with_a_topic_or_with_automation(arn: str | None, automated: bool) -> None:
    settings = Settings(alerts_topic=arn, automated=automated)
    sensors = definitions(settings=settings).get_repository_def().sensor_defs
    running = {sensor.name for sensor in sensors if sensor.default_status == dg.DefaultSensorStatus.RUNNING}
    assert running == ({each.name for each in sensors} if automated else {"alerts"} if arn else set())


def test_alerts_are_logged_without_a_topic(monitored: Monitored, caplog: pytest.LogCaptureFixture) -> None:
    first = evaluate_sensor(monitored.instance, None)
    monitored.run(cause="down")
    with caplog.at_level(logging.INFO, "etl_assets.alerts"):
        second = evaluate_sensor(monitored.instance, first.cursor)
        monitored.run()
        evaluate_sensor(monitored.instance, second.cursor)
    failed, recovered = [record for record in caplog.records if record.name == "etl_assets.alerts"]
    assert (failed.levelname, recovered.levelname) == ("CRITICAL", "INFO")
    assert failed.getMessage().startswith("totesys ETL: etl failed at warehouse/load\nstep: warehouse__load\ncause: ")
    assert recovered.getMessage().startswith("totesys ETL: Recovered: etl failed at warehouse/load\n")


def test_a_failed_evaluation_is_logged_as_critical(monitored: Monitored, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError):
        evaluate_sensor(monitored.instance, "{}")
    assert [record.levelname for record in caplog.records if record.name == "etl_assets.alerts"] == ["CRITICAL"]


def test_the_cursor_does_not_grow_with_the_number_of_runs(monitored: Monitored) -> None:
    monitored.run()
    monitored.subjects()
    assert len(monitored.state.seen_run_ids) == 1
    evaluate(monitored.instance, [TABLE], monitored.state, monitored.now() + timedelta(hours=1))
    evaluate(monitored.instance, [TABLE], monitored.state, monitored.now() + timedelta(hours=1))
    assert monitored.state.seen_run_ids == []


def test_a_cursor_of_an_older_version_keeps_its_times_and_runs(monitored: Monitored) -> None:
    seen, failed = monitored.run(cause="down"), monitored.run(cause="down")
    assert monitored.state.evaluated_until
    began = monitored.state.evaluated_until.isoformat()
    problem = {
        "key": "step warehouse__load",
        "summary": "etl failed at warehouse/load",
        "facts": {},
        "severity": "CRITICAL",
    }
    message = {"problem": problem, "recovered": False, "at": "2026-11-23 10:00:00 UTC"}
    cursor = {"began": began, "since": began, "told": [seen.run_id], "open": {problem["key"]: problem}}
    state = AlertState.from_json(json.dumps(cursor | {"unsent": [message]}))
    assert (state.seen_run_ids, state.problems, state.unsent) == ([seen.run_id], {}, [])
    evaluate(monitored.instance, [TABLE], state, monitored.now())
    [persisting] = state.unsent
    assert persisting.problem.details["run"].endswith(failed.run_id), "a problem that persists is reported again"


def test_a_cursor_of_version_0_1_0_keeps_its_problems_and_unsent_messages(monitored: Monitored) -> None:
    monitored.run(cause="down")
    evaluate(monitored.instance, [TABLE], monitored.state, monitored.now())
    cursor = json.loads(monitored.state.to_json())
    cursor["started_at"] = cursor["evaluated_until"]
    for message in cursor["unsent"]:
        message["recovered"] = message.pop("state") == "recovered"
    assert AlertState.from_json(json.dumps(cursor)) == monitored.state


def test_hooks_report_to_the_topic_of_their_job_in_the_form_of_the_sensor(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_URL", "https://dagster.example")
    topics = {team: new_topic(f"{s3_bucket.removeprefix('s3://')}-{team}") for team in ("sales", "stock")}

    @dg.op
    def succeeds() -> None: ...

    @dg.op(ins={"start": dg.In(dg.Nothing)}, retry_policy=dg.RetryPolicy(max_retries=1))
    def fails() -> None:
        raise ConnectionError("nobody answers\nat all")

    def job(team: str) -> dg.JobDefinition:
        @dg.job(
            name=team,
            hooks={sns_on_failure(), sns_on_success()},
            resource_defs={"alerts_topic": SnsTopicResource(topic_arn=topics[team][0])},
            executor_def=dg.in_process_executor,
        )
        def both() -> None:
            fails(start=succeeds())

        return both

    with dg.instance_for_test() as instance:
        for team in topics:
            run = job(team).execute_in_process(instance=instance, raise_on_error=False)
            succeeded, failed = received(topics[team][1])
            assert succeeded["Subject"] == f"totesys ETL: {team} succeeded at succeeds"
            assert json.loads(succeeded["MessageAttributes"]["json"]["Value"])["state"] == "succeeded"
            assert failed["Subject"] == f"totesys ETL: {team} failed at fails"
            assert failed["Message"].splitlines()[:-1] == [
                f"{team} failed at fails",
                "step: fails",
                "cause: ConnectionError: nobody answers",
                f"job: {team}",
                f"run: https://dagster.example/runs/{run.run_id}",
            ]
            fields = json.loads(failed["MessageAttributes"]["json"]["Value"])
            assert (fields["state"], fields["severity"], fields["job"]) == ("open", "CRITICAL", team)


def test_a_hook_of_an_asset_reports_to_its_topic(topic: tuple[str, str]) -> None:
    @dg.asset(hooks={sns_on_success("sales_topic")})
    def forecast() -> list[int]:
        return [1]

    with dg.instance_for_test() as instance:
        resources = {"sales_topic": SnsTopicResource(topic_arn=topic[0])}
        assert dg.materialize([forecast], instance=instance, resources=resources).success
    [message] = received(topic[1])
    assert message["Subject"] == "totesys ETL: manual run succeeded at forecast"
    assert "job: manual run" in message["Message"].splitlines()


def test_the_alert_test_fails_on_purpose_and_can_be_resolved(monitored: Monitored) -> None:
    job = definitions().resolve_job_def("alert_test")
    job.execute_in_process(instance=monitored.instance, raise_on_error=False)
    [message] = monitored.messages()
    assert message.subject == "totesys ETL: alert_test failed at fail_on_purpose"
    assert "cause: this is a test: alerts arrive" in message.body
    job.execute_in_process(
        instance=monitored.instance, run_config={"ops": {"fail_on_purpose": {"config": {"fail": False}}}}
    )
    assert monitored.subjects() == ["recovered: alert_test failed at fail_on_purpose"]
