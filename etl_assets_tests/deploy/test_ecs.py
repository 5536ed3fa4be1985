"""The platform on a simulated ECS: the applied task definitions, run as processes, with the settings of the image."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any

import boto3
import pytest
import yaml

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect, transaction
from etl_assets.catalog.stages import REPLAY
from etl_assets.ingestion.manifest import list_after, partition_of
from etl_assets.simulator import postgres
from etl_assets.warehouse.ledger import latest_loaded
from etl_assets_tests import own_jobs
from etl_assets_tests.deploy import iam, tls
from etl_assets_tests.deploy.calls import Recorder
from etl_assets_tests.deploy.cloudwatch import counted
from etl_assets_tests.deploy.conftest import ACCOUNT, LOGS, NAME, PARTS, REGION, SERVICES, STAGES, Applied
from etl_assets_tests.deploy.ecs import Agent
from etl_assets_tests.deploy.parts import create_dagster_home, create_database, require_passwords, without_policy
from etl_assets_tests.e2e.services import Deployment, Server, create_totesys, free_port, overlapping, subscribe_queue
from etl_assets_tests.harness import ROOT, until

pytestmark = pytest.mark.deploy

TOTESYS, WAREHOUSE = "totesys.example.com", "warehouse.example.com"
TOTESYS_PASS, WAREHOUSE_PASS, ROTATED_PASS, WRONG_PASS = "captures", "loads", "loads-2", "no-such-password"
TLS = "?sslmode=verify-full&sslrootcert=/opt/certificates/rds.pem"
TIMEOUT = 300  # seconds; other tests may run on the machine
Run = dict[str, Any]


@dataclass
class EcsPlatform:
    """The deployment on the simulated ECS, the agent that runs it, and the recorder of its calls to AWS."""

    deployed: Deployment
    agent: Agent
    recorder: Recorder

    def task_of(self, name: str) -> str:
        """Return the ARN of the task of a service."""
        [task] = self.agent.tasks(f"service:{name}")
        return task

    def is_healthy(self, service: str) -> bool:
        tasks = self.agent.tasks(f"service:{service}")
        return bool(tasks) and self.agent.healthy(tasks[0])

    def launch(self, job: str = "etl", **tags: str) -> Run:
        """Launch a job in the latest partition, with tags `ecs/<name>`."""
        [partition] = self.deployed.latest_partitions(1)
        run_id = self.deployed.launch(
            job, {"dagster/partition": partition, **{f"ecs/{name}": value for name, value in tags.items()}}
        )
        return self.reload({"runId": run_id})

    def runs(self, *statuses: str, **tags: str) -> list[Run]:
        return self.deployed.runs(*statuses, **tags)

    def reload(self, run: Mapping[str, Any], *statuses: str) -> Run:
        """Return the present state of a run; {} if it has none of the statuses."""
        return next((each for each in self.runs(*statuses) if each["runId"] == run["runId"]), {})

    def await_end(self, run: Mapping[str, Any]) -> Run:
        return until(lambda: self.reload(run, "SUCCESS", "FAILURE", "CANCELED"), seconds=TIMEOUT)

    def await_idle(self) -> None:
        """Wait until nothing runs, and load what a run has captured that did not end: a later window needs it."""
        self._await_no_run()
        while pending := self._first_pending():
            run_id = self.deployed.launch(REPLAY, {"dagster/partition": partition_of(pending)})
            assert self.await_end({"runId": run_id})["status"] == "SUCCESS", self.deployed.events(run_id)
            self._await_no_run()

    def _await_no_run(self) -> None:
        until(lambda: not self.runs("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"), seconds=TIMEOUT)

    def _first_pending(self) -> str | None:
        with connect(self.deployed.warehouse_server.url("warehouse")) as connection:
            loaded = latest_loaded(connection)
        return next(list_after(Bucket(f"s3://{NAME}-ingestion-{ACCOUNT}"), loaded), None)

    def interrupt_run(self, grace: float, units: int) -> Run:
        """Change an order, and interrupt the task of the run that captures it. Return the run."""
        self.await_idle()
        self.set_units(units)
        return self.stop_run(lambda run: self.agent.interrupt(run["tags"]["ecs/task_arn"], grace))

    def stop_run(self, stop: Callable[[Run], object]) -> Run:
        """Launch a run, and stop it once it has started; again if it ended before. Return the run."""
        for _ in range(3):
            self.await_idle()
            run = self.launch()
            run = until(lambda launched=run: self.reload(launched, "STARTED", "SUCCESS"), seconds=TIMEOUT)  # type: ignore[misc]
            stop(run)
            run = self.await_end(run)
            if run["status"] != "SUCCESS":
                break
        return run

    def set_units(self, units: int) -> None:
        """Change an order without a new `last_updated`, as totesys does."""
        self.deployed.totesys(f"UPDATE sales_order SET units_sold = {units} WHERE sales_order_id = 1")

    def is_loaded(self, units: int) -> bool:
        """Whether any version of the order has these units."""
        query = f"SELECT 1 FROM warehouse.fact_sales_order WHERE sales_order_id = 1 AND units_sold = {units}"
        return bool(self.deployed.warehouse(query))

    def is_loaded_by(self, run: Run, units: int) -> bool:
        """Whether a run loaded these units, or the next one does if its window has ended."""
        if not self.deployed.is_of_the_latest_window(run):
            self.await_end(self.launch())
        return self.is_loaded(units)

    def stdout_in_ui(self, run: Run) -> str:
        """Return the stdout of a run as the webserver shows it."""
        events = self.deployed.graphql(
            """query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection {
                events { ... on LogsCapturedEvent { fileKey } } } } }""",
            run=run["runId"],
        )["logsForRun"]["events"]
        key = next(event["fileKey"] for event in events if event.get("fileKey"))
        logs = self.deployed.graphql(
            "query ($key: [String!]!) { capturedLogs(logKey: $key) { stdout } }",
            key=[run["runId"], "compute_logs", key],
        )
        return str(logs["capturedLogs"]["stdout"])


def describe_task(run: Run) -> dict[str, Any]:
    ecs = boto3.client("ecs")
    return dict(ecs.describe_tasks(cluster=run["tags"]["ecs/cluster"], tasks=[run["tags"]["ecs/task_arn"]])["tasks"][0])


def await_stopped_task(run: Run) -> dict[str, Any]:
    """Wait until the task of a run has stopped. Return its description."""
    until(lambda: describe_task(run)["lastStatus"] == "STOPPED", seconds=TIMEOUT)
    return describe_task(run)


def cloudwatch_lines(part: str) -> list[str]:
    pages = boto3.client("logs").get_paginator("filter_log_events").paginate(logGroupName=f"/{NAME}/{part}")
    return [event["message"] for page in pages for event in page["events"]]


def lines_of_container(part: str, code: str, **environment: str) -> list[str]:
    """Return what Python code writes to the log of a part, through the entry point of its container."""
    [container] = boto3.client("ecs").describe_task_definition(taskDefinition=f"{NAME}-{part}")["taskDefinition"][
        "containerDefinitions"
    ]
    _, *entry_point = container["entryPoint"]
    command = [sys.executable, *entry_point, sys.executable, "-c", code]
    completed = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert completed.stderr == ""
    return completed.stdout.splitlines()


@pytest.fixture(scope="module")
def platform(applied: Applied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EcsPlatform]:
    """A deployment over a week of totesys, whose services are healthy."""
    folder = tmp_path_factory.mktemp("ecs")
    certificate = tls.certificate(folder)
    sources, warehouse_server = Server(folder / "sources"), Server(folder / "warehouse")
    secrets = boto3.client("secretsmanager")
    [storage] = boto3.client("rds").describe_db_instances()["DBInstances"]
    with ExitStack() as stack:
        for server in (sources, warehouse_server):
            server.start()
            stack.callback(postgres.remove, server.home)
            stack.callback(server.stop)
            require_passwords(server)
        with connect(create_totesys(sources)) as connection:
            connection.run(f"CREATE ROLE capture LOGIN PASSWORD '{TOTESYS_PASS}' IN ROLE pg_read_all_data")
        create_database(
            sources,
            "dagster",
            storage["MasterUsername"],
            secrets.get_secret_value(SecretId=f"{NAME}-dagster-password")["SecretString"],
        )
        create_database(warehouse_server, "warehouse", "load", WAREHOUSE_PASS)
        for bucket in (f"{NAME}-{stage}-{ACCOUNT}" for stage in ("ingestion", "transformation", "compute-logs")):
            # moto ignores the conditions of a policy, so this one would deny everything
            stack.enter_context(without_policy(bucket))
        webserver_port, code_server_port = free_port(), free_port()
        replacements = {
            storage["Endpoint"]["Address"]: tls.HOST,
            "5432": str(stack.enter_context(tls.proxy(sources.port, certificate))),
            TOTESYS: tls.HOST,
            f"{WAREHOUSE}:5432": f"{tls.HOST}:{stack.enter_context(tls.proxy(warehouse_server.port, certificate))}",
            f"code-server.{NAME}.internal": "127.0.0.1",
            "0.0.0.0": "127.0.0.1",
            "3000": str(webserver_port),
            "4000": str(code_server_port),
            "/opt/dagster/ecs-few": str(create_dagster_home(folder, "ecs-few")),
            "/opt/dagster/workspace.yaml": str(ROOT / "deploy" / "workspace.yaml"),
            "/opt/certificates/rds.pem": str(certificate),
            "etl_assets.definitions": own_jobs.__name__,  # which are the platform's, and a job of a user
        }
        environment = os.environ | {
            "TOTESYS_DATABASE_URL": sources.url("totesys"),
            "WAREHOUSE_DATABASE_URL": warehouse_server.url("warehouse"),
        }
        agent = Agent(applied.endpoint, REGION, folder / "tasks", replacements)
        queue = subscribe_queue(f"arn:aws:sns:{REGION}:{ACCOUNT}:{NAME}-alerts")
        deployed = Deployment(folder, environment, sources, warehouse_server, queue, webserver_port)
        store_url("totesys", f"postgresql://capture:{TOTESYS_PASS}@{TOTESYS}:5432/totesys{TLS}")
        store_url("warehouse", f"postgresql://load:{WAREHOUSE_PASS}@{WAREHOUSE}:5432/warehouse{TLS}")
        with agent.run():
            running = EcsPlatform(deployed, agent, applied.recorder)
            for service in SERVICES:
                until(partial(running.is_healthy, service), seconds=TIMEOUT)
            yield running
        assert agent.errors == []


def store_url(database: str, url: str) -> None:
    """Store the URL of a database in its secret."""
    boto3.client("secretsmanager").put_secret_value(SecretId=f"{NAME}/{database}-database-url", SecretString=url)


@pytest.fixture(scope="module")
def staged(platform: EcsPlatform) -> dict[str, Run]:
    """The runs of the jobs of the stages, one after the other, after a change. `catch_up` is off until then.

    The sensor `alerts` is on, because there is a topic.
    """
    platform.await_idle()
    platform.set_units(1_002)
    runs = {stage: platform.await_end(platform.launch(stage)) for stage in STAGES}
    platform.deployed.start_sensors("catch_up")
    code_server = f"{NAME}-code-server"
    until(lambda: "s3:ListBucket" in {call.action for call in platform.recorder.calls_of(code_server)}, seconds=TIMEOUT)
    return runs


@pytest.fixture(scope="module")
def scheduled(platform: EcsPlatform, staged: dict[str, Run]) -> Run:
    """A run of the schedule, after a change."""
    platform.await_idle()
    platform.set_units(1_001)
    with platform.deployed.started_schedule("etl_schedule"):
        run = until(lambda: platform.runs(schedule_name="etl_schedule"), seconds=TIMEOUT)[0]
    return platform.await_end(run)


@pytest.fixture(scope="module")
def killed(platform: EcsPlatform) -> Run:
    """A run whose task was killed without warning, after a change."""
    return platform.interrupt_run(grace=0, units=2_001)


@pytest.fixture(scope="module")
def interrupted(platform: EcsPlatform) -> Run:
    """A run whose task was interrupted with a grace period, after a change."""
    return platform.interrupt_run(grace=30, units=2_002)


@pytest.fixture(scope="module")
def never_started(platform: EcsPlatform) -> Run:
    """A run whose task is never started, after a change."""
    platform.await_idle()
    platform.set_units(3_001)
    platform.agent.withhold_next_task()
    return platform.await_end(platform.launch())


@pytest.fixture(scope="module")
def terminated(platform: EcsPlatform) -> Run:
    """A run that was terminated in the UI."""
    terminate = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
    return platform.stop_run(lambda run: platform.deployed.graphql(terminate, id=run["runId"]))


@pytest.fixture(scope="module")
def hung(platform: EcsPlatform) -> Run:
    """A run with a limit of ten seconds that waits for a lock in totesys."""
    platform.await_idle()
    [partition] = platform.deployed.latest_partitions(1)
    limits = {"dagster/max_runtime": "10", "dagster/max_retries": "0"}
    with connect(platform.deployed.environment["TOTESYS_DATABASE_URL"]) as holder, transaction(holder):
        holder.run("LOCK TABLE department IN ACCESS EXCLUSIVE MODE")
        run_id = platform.deployed.launch("ingestion", {"dagster/partition": partition, **limits})
        return platform.await_end({"runId": run_id})


@pytest.fixture(scope="module")
def own(platform: EcsPlatform) -> Run:
    """A run of a user's own job."""
    return platform.await_end({"runId": platform.deployed.launch("price_list", {})})


@pytest.fixture(scope="module")
def refused(platform: EcsPlatform, staged: dict[str, Run]) -> Run:
    """A run with a wrong password of the warehouse. After it, the warehouse and the secret have a new password.

    The code server keeps the old one, with which `catch_up` has succeeded before.
    """
    platform.await_idle()
    platform.set_units(4_001)
    store_url("warehouse", f"postgresql://load:{WRONG_PASS}@{WAREHOUSE}:5432/warehouse{TLS}")
    run = platform.await_end(platform.launch())
    with connect(platform.deployed.warehouse_server.url("postgres")) as connection:
        connection.run(f"ALTER ROLE load PASSWORD '{ROTATED_PASS}'")
    store_url("warehouse", f"postgresql://load:{ROTATED_PASS}@{WAREHOUSE}:5432/warehouse{TLS}")
    return run


@pytest.fixture(scope="module")
def rotated(platform: EcsPlatform, refused: Run) -> tuple[Run, Mapping[str, Any]]:
    """The next run, with a larger task, and the call that started the task."""
    platform.await_idle()
    run = platform.await_end(platform.launch(cpu="2048", memory="8192"))
    tag = {"key": "dagster/run_id", "value": run["runId"]}
    return run, next(call for call in platform.recorder.tasks_run if tag in call["tags"])


def test_every_service_passes_its_health_check(platform: EcsPlatform) -> None:
    assert all(platform.is_healthy(service) for service in SERVICES)


def test_a_run_of_the_schedule_loads_a_change(platform: EcsPlatform, scheduled: Run) -> None:
    assert scheduled["status"] == "SUCCESS", platform.deployed.events(scheduled["runId"])
    task = await_stopped_task(scheduled)
    assert task["stopCode"] == "EssentialContainerExited"
    assert [container["exitCode"] for container in task["containers"]] == [0]
    assert task["group"] == f"family:{NAME}-run"
    assert platform.is_loaded(1_001)


def test_a_run_of_a_stage_is_a_task_of_its_own_definition(platform: EcsPlatform, staged: dict[str, Run]) -> None:
    for stage, run in staged.items():
        assert run["status"] == "SUCCESS", platform.deployed.events(run["runId"])
        assert await_stopped_task(run)["group"] == f"family:{NAME}-run-{stage}"
    assert platform.is_loaded(1_002)


def test_runs_start_in_the_network_of_the_daemon(platform: EcsPlatform, scheduled: Run) -> None:
    [service] = boto3.client("ecs").describe_services(cluster=NAME, services=["daemon"])["services"]
    expected = service["networkConfiguration"]["awsvpcConfiguration"]
    network = platform.recorder.tasks_run[-1]["networkConfiguration"]["awsvpcConfiguration"]
    assert set(network["subnets"]) <= set(expected["subnets"])
    assert (network["securityGroups"], network["assignPublicIp"]) == (expected["securityGroups"], "DISABLED")


def test_the_output_of_a_run_is_in_cloudwatch_and_in_the_ui(platform: EcsPlatform, scheduled: Run) -> None:
    assert any(json.loads(line).get("run") == scheduled["runId"] for line in cloudwatch_lines("run"))
    assert scheduled["runId"] in platform.stdout_in_ui(scheduled)


def test_a_run_whose_task_is_killed_is_retried_and_loads_the_change(platform: EcsPlatform, killed: Run) -> None:
    task = await_stopped_task(killed)
    assert (killed["status"], task["stopCode"]) == ("FAILURE", "SpotInterruption")
    assert [container["exitCode"] for container in task["containers"]] == [128 + SIGKILL]
    [retried] = until(lambda: platform.runs("SUCCESS", parent_run_id=killed["runId"]), seconds=TIMEOUT)
    assert retried["tags"]["ecs/task_arn"] != task["taskArn"]
    assert platform.is_loaded_by(retried, 2_001)


def test_a_run_whose_task_is_interrupted_is_retried_and_loads_the_change(
    platform: EcsPlatform, interrupted: Run
) -> None:
    assert (interrupted["status"], await_stopped_task(interrupted)["stopCode"]) == ("FAILURE", "SpotInterruption")
    [retried] = until(lambda: platform.runs("SUCCESS", parent_run_id=interrupted["runId"]), seconds=TIMEOUT)
    assert platform.is_loaded_by(retried, 2_002)


def test_a_run_whose_task_never_starts_times_out_and_is_retried(platform: EcsPlatform, never_started: Run) -> None:
    assert never_started["status"] == "FAILURE"
    assert any("timed out" in event for event in platform.deployed.events(never_started["runId"]))
    [retried] = until(lambda: platform.runs("SUCCESS", parent_run_id=never_started["runId"]), seconds=TIMEOUT)
    assert platform.is_loaded_by(retried, 3_001)
    platform.agent.start_withheld_tasks()
    await_stopped_task(never_started)
    assert platform.reload(never_started)["status"] == "FAILURE"
    assert platform.is_loaded(3_001)


def test_a_run_terminated_in_the_ui_stops_its_task(terminated: Run) -> None:
    assert terminated["status"] == "CANCELED"
    assert await_stopped_task(terminated)["stopCode"] == "UserInitiated"


def test_a_run_that_hangs_is_ended_by_its_limit_and_holds_the_pool_no_longer(platform: EcsPlatform, hung: Run) -> None:
    assert hung["status"] == "FAILURE"
    assert any("Exceeded maximum runtime of 10 seconds" in event for event in platform.deployed.events(hung["runId"]))
    assert await_stopped_task(hung)["stopCode"] == "UserInitiated"
    assert platform.await_end(platform.launch("ingestion"))["status"] == "SUCCESS"


def test_a_users_own_job_stores_values_in_s3_and_reports_to_sns_on_a_read_only_root(
    platform: EcsPlatform, own: Run
) -> None:
    assert own["status"] == "SUCCESS", platform.deployed.events(own["runId"])
    bucket = f"{NAME}-transformation-{ACCOUNT}"
    stored = boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix="pickles/")["Contents"]
    assert [each["Key"] for each in stored] == ["pickles/dearest", "pickles/prices"]
    until(lambda: "price_list succeeded at prices" in platform.deployed.alerts())
    if os.geteuid() != 0:
        pytest.skip("only root can mount the root of tasks read-only")
    mounts = platform.agent.mounts(platform.task_of("code-server"))
    options = {folder: options.split(",")[0] for _, folder, _, options, *_ in mounts}
    home = str(platform.deployed.folder / "dagster" / "ecs-few")
    assert (options["/"], options["/tmp"], options[home]) == ("ro", "rw", "ro")


def test_a_wrong_password_is_alerted_and_never_logged(platform: EcsPlatform, refused: Run) -> None:
    assert refused["status"] == "FAILURE"
    failures = counted("FailedWarehouseSteps", f"/{NAME}/run", cloudwatch_lines("run"))
    assert refused["runId"] in [line["run"] for line in failures]
    assert not any(WRONG_PASS in line for part in ("run", "code-server") for line in cloudwatch_lines(part))
    until(lambda: "etl failed at warehouse/load" in platform.deployed.alerts(), seconds=TIMEOUT)
    lines = cloudwatch_lines("code-server")
    assert any("etl failed at warehouse/load" in line and json.loads(line)["level"] == "CRITICAL" for line in lines)
    assert counted("CriticalLines", f"/{NAME}/code-server", lines) == []
    assert counted("DeliveredAlerts", f"/{NAME}/code-server", lines)


@pytest.mark.parametrize("part", LOGS)
def test_all_output_is_json_lines(platform: EcsPlatform, scheduled: Run, part: str) -> None:
    lines = [json.loads(line) for line in cloudwatch_lines(part)]
    assert lines
    assert all({"timestamp", "level", "logger", "message"} <= line.keys() for line in lines)
    assert {line["level"] for line in lines} <= {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}


@pytest.mark.parametrize(
    ("part", "logger"),
    [("code-server", "dagster.code_server"), ("daemon", "dagster.daemon"), ("webserver", "dagster-webserver")],
)
def test_critical_lines_of_dagsters_services_are_counted(applied: Applied, part: str, logger: str) -> None:
    lines = lines_of_container(
        part,
        f"""
import logging
from dagster._utils.log import configure_loggers
configure_loggers(formatter="json", log_level="INFO")
logging.getLogger("{logger}").info("all is well")
logging.getLogger("{logger}").critical("nothing is well")
""",
    )
    assert len(lines) == 2
    assert [line["message"] for line in counted("CriticalLines", f"/{NAME}/{part}", lines)] == ["nothing is well"]


def test_failed_steps_and_critical_lines_of_runs_are_counted(applied: Applied, tmp_path: Path) -> None:
    settings = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump({"python_logs": settings["python_logs"]}))
    stages = (*STAGES, "reports")
    lines = lines_of_container(
        "run",
        f"""
import dagster as dg
def failing(stage):
    @dg.op(name=stage + "__op")
    def op(context):
        context.log.critical(stage)
        raise ValueError(stage)
    return op
@dg.job(executor_def=dg.in_process_executor)
def job():
    for stage in {stages}:
        failing(stage)()
job.execute_in_process(instance=dg.DagsterInstance.get(), raise_on_error=False)
""",
        DAGSTER_HOME=str(tmp_path),
    )
    for stage in stages:
        failures = counted(f"Failed{stage.title()}Steps", f"/{NAME}/run", lines)
        assert [line["step"] for line in failures] == [f"{stage}__op"]
    assert {line["message"] for line in counted("CriticalLines", f"/{NAME}/run", lines)} == {*stages}


def test_a_rotated_secret_is_used_by_the_next_run(
    platform: EcsPlatform, rotated: tuple[Run, Mapping[str, Any]]
) -> None:
    run, _ = rotated
    assert run["status"] == "SUCCESS"
    assert platform.is_loaded(4_001)


def test_a_run_has_the_size_of_its_tags(rotated: tuple[Run, Mapping[str, Any]]) -> None:
    _, call = rotated
    overrides = call["overrides"]
    [container] = overrides["containerOverrides"]
    assert (overrides["cpu"], overrides["memory"]) == ("2048", "8192")
    assert (container["cpu"], container["memory"]) == (2048, 8192)
    assert len(json.dumps(overrides)) < 8192, "the limit of ECS"


def test_a_backfill_runs_in_parallel_tasks(platform: EcsPlatform) -> None:
    platform.await_idle()
    runs = platform.deployed.backfill("transformation/dim_staff")
    assert len({run["tags"]["ecs/task_arn"] for run in runs}) == len(runs)
    assert overlapping(runs)


def test_a_service_whose_task_is_killed_gets_a_new_one(platform: EcsPlatform) -> None:
    before = platform.task_of("code-server")
    platform.agent.interrupt(before, grace=0)
    until(lambda: platform.agent.tasks("service:code-server") not in ([], [before]))
    until(lambda: platform.is_healthy("code-server"), seconds=TIMEOUT)


def test_roles_allow_exactly_the_calls_of_the_platform(
    platform: EcsPlatform,
    scheduled: Run,
    staged: dict[str, Run],
    own: Run,
    killed: Run,
    terminated: Run,
    hung: Run,
    refused: Run,
) -> None:
    platform.stdout_in_ui(scheduled)
    until(lambda: "etl failed at warehouse/load" in platform.deployed.alerts(), seconds=TIMEOUT)
    calls = {
        role: platform.recorder.calls_of(role) for part in PARTS for role in (f"{NAME}-{part}", f"{NAME}-{part}-start")
    }
    assert {role: denied for role in calls if (denied := iam.denied_calls(role, calls[role]))} == {}
    assert {role: unused for role in calls if (unused := iam.unused_permissions(role, calls[role]))} == {
        # for an upload that fails: adapters/test_object_store.py
        f"{NAME}-run": {"WriteFiles: s3:AbortMultipartUpload"},
        f"{NAME}-run-ingestion": {"WriteFiles: s3:AbortMultipartUpload"},
        f"{NAME}-run-transformation": {"WriteFiles: s3:AbortMultipartUpload"},
        # for the sensor source_activity, which is off here
        f"{NAME}-code-server": {"ReadCaptures: s3:GetObject"},
        # the agent starts processes without pulling an image
        **{
            f"{NAME}-{part}-start": {
                "LogInToTheRegistry: ecr:GetAuthorizationToken",
                "PullTheImage: ecr:BatchCheckLayerAvailability",
                "PullTheImage: ecr:BatchGetImage",
                "PullTheImage: ecr:GetDownloadUrlForLayer",
            }
            for part in PARTS
        },
    }
