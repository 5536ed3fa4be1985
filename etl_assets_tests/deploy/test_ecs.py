"""The platform on a pretended ECS: the applied task definitions, run as processes, with the image's own settings."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import SIGKILL
from typing import Any

import boto3
import pytest
import yaml

from etl_assets.databases import connect
from etl_assets.simulator import postgres
from etl_assets_tests.deploy import iam, tls
from etl_assets_tests.deploy.calls import Recorder
from etl_assets_tests.deploy.conftest import ACCOUNT, NAME, PARTS, REGION, SERVICES, Applied
from etl_assets_tests.deploy.ecs import Agent
from etl_assets_tests.e2e.services import ROOT, Deployment, Server, a_week_of_totesys, free_port, overlapping, queue_of
from etl_assets_tests.platform import until

pytestmark = pytest.mark.deploy

TOTESYS, WAREHOUSE = "totesys.example.com", "warehouse.example.com"
CAPTURES, LOADS, REFUSED = "captures", "loads", "no-such-password"
VERIFIED = "?sslmode=verify-full&sslrootcert=/opt/certificates/rds.pem"
LONG = 300  # other tests may keep the machine busy
Run = dict[str, Any]


@dataclass
class Platform:
    """The deployment on the pretended ECS, the agent that runs it, and what is asked of AWS."""

    deployed: Deployment
    agent: Agent
    recorder: Recorder

    def service(self, name: str) -> str:
        """The task of a service."""
        [task] = self.agent.tasks(f"service:{name}")
        return task

    def is_healthy(self, service: str) -> bool:
        tasks = self.agent.tasks(f"service:{service}")
        return bool(tasks) and self.agent.healthy(tasks[0])

    def launch(self, **tags: str) -> Run:
        """Launch `etl` in its newest partition, with tags `ecs/<name>`."""
        [partition] = self.deployed.newest_partitions(1)
        run = self.deployed.launch(
            "etl", {"dagster/partition": partition, **{f"ecs/{name}": value for name, value in tags.items()}}
        )
        return self.again({"runId": run})

    def runs(self, *statuses: str, **tags: str) -> list[Run]:
        return self.deployed.runs(*statuses, **tags)

    def again(self, run: Mapping[str, Any], *statuses: str) -> Run:
        """Look at a run again; {} if it has none of the statuses."""
        return next((found for found in self.runs(*statuses) if found["runId"] == run["runId"]), {})

    def await_end(self, run: Mapping[str, Any]) -> Run:
        return until(lambda: self.again(run, "SUCCESS", "FAILURE", "CANCELED"), seconds=LONG)

    def await_quiet(self) -> None:
        until(lambda: not self.runs("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"), seconds=LONG)

    def interrupted(self, grace: float, sold: int) -> Run:
        """Change an order, and take away the task of the run that captures it, with seconds of grace."""
        self.await_quiet()
        self.change(to=sold)
        return self.ended_by(lambda run: self.agent.interrupt(run["tags"]["ecs/task_arn"], grace))

    def ended_by(self, end: Callable[[Run], object]) -> Run:
        """End a run that has started; one that was quicker tells nothing, and there is another."""
        for _ in range(3):
            self.await_quiet()
            run = self.launch()
            run = until(lambda launched=run: self.again(launched, "STARTED", "SUCCESS"), seconds=LONG)  # type: ignore[misc]
            end(run)
            run = self.await_end(run)
            if run["status"] != "SUCCESS":
                break
        return run

    def change(self, to: int) -> None:
        """Change an order, as totesys does: `last_updated` is not touched."""
        self.deployed.totesys(f"UPDATE sales_order SET units_sold = {to} WHERE sales_order_id = 1")

    def is_loaded(self, sold: int) -> bool:
        """Whether a row of the order says so, now or in its history."""
        query = f"SELECT FROM warehouse.fact_sales_order WHERE sales_order_id = 1 AND units_sold = {sold}"
        return bool(self.deployed.warehouse(query))


def described(run: Run) -> dict[str, Any]:
    """What ECS tells of a run's task."""
    ecs = boto3.client("ecs")
    return dict(ecs.describe_tasks(cluster=run["tags"]["ecs/cluster"], tasks=[run["tags"]["ecs/task_arn"]])["tasks"][0])


def ended(run: Run) -> dict[str, Any]:
    """The same, once the task has ended."""
    until(lambda: described(run)["lastStatus"] == "STOPPED", seconds=LONG)
    return described(run)


def logged(part: str) -> list[str]:
    """The lines of a part in CloudWatch."""
    pages = boto3.client("logs").get_paginator("filter_log_events").paginate(logGroupName=f"/{NAME}/{part}")
    return [event["message"] for page in pages for event in page["events"]]


def matches(name: str, lines: list[str]) -> list[dict[str, Any]]:
    """The lines that a metric filter counts, by the names and values in its pattern."""
    [found] = boto3.client("logs").describe_metric_filters(filterNamePrefix=name)["metricFilters"]
    wanted = dict(re.findall(r'\$\.(\w+) = "(\w+)"', found["filterPattern"]))
    assert wanted, found
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    return [told for told in objects if wanted.items() <= told.items()]


@pytest.fixture(scope="module")
def platform(applied: Applied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A deployment over a week of totesys, which has come up."""
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
            ask_for_passwords(server)
        with connect(a_week_of_totesys(sources)) as connection:
            connection.run(f"CREATE ROLE capture LOGIN PASSWORD '{CAPTURES}' IN ROLE pg_read_all_data")
        create(
            sources,
            "dagster",
            storage["MasterUsername"],
            secrets.get_secret_value(SecretId=f"{NAME}-dagster-password")["SecretString"],
        )
        create(warehouse_server, "warehouse", "load", LOADS)
        for bucket in (f"{NAME}-{stage}-{ACCOUNT}" for stage in ("ingestion", "transformation", "compute-logs")):
            # moto looks at no condition of a policy: to it this one denies everything
            stack.enter_context(without_policy(bucket))
        web, code = free_port(), free_port()
        addresses = {
            storage["Endpoint"]["Address"]: tls.HOST,
            "5432": str(stack.enter_context(tls.proxy(sources.port, certificate))),
            TOTESYS: tls.HOST,
            f"{WAREHOUSE}:5432": f"{tls.HOST}:{stack.enter_context(tls.proxy(warehouse_server.port, certificate))}",
            f"code-server.{NAME}.internal": "127.0.0.1",
            "0.0.0.0": "127.0.0.1",
            "3000": str(web),
            "4000": str(code),
            "/opt/dagster/ecs": str(dagster_home(folder)),
            "/opt/dagster/workspace.yaml": str(ROOT / "deploy" / "workspace.yaml"),
            "/opt/certificates/rds.pem": str(certificate),
        }
        environment = os.environ | {
            "TOTESYS_DATABASE_URL": sources.url("totesys"),
            "WAREHOUSE_DATABASE_URL": warehouse_server.url("warehouse"),
        }
        agent = Agent(applied.endpoint, REGION, folder / "tasks", addresses)
        queue = queue_of(f"arn:aws:sns:{REGION}:{ACCOUNT}:{NAME}-alerts")
        deployed = Deployment(folder, environment, sources, warehouse_server, queue, web)
        set_url("totesys", f"postgresql://capture:{CAPTURES}@{TOTESYS}:5432/totesys{VERIFIED}")
        set_url("warehouse", f"postgresql://load:{LOADS}@{WAREHOUSE}:5432/warehouse{VERIFIED}")
        with agent.run():
            made = Platform(deployed, agent, applied.recorder)
            for service in SERVICES:
                until(partial(made.is_healthy, service), seconds=LONG)
            made.deployed.switch_on("catch_up", "alerts")
            yield made
        assert agent.errors == []


@contextmanager
def without_policy(bucket: str) -> Iterator[None]:
    s3 = boto3.client("s3")
    policy = s3.get_bucket_policy(Bucket=bucket)["Policy"]
    s3.delete_bucket_policy(Bucket=bucket)
    yield
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)


def ask_for_passwords(server: Server) -> None:
    with connect(server.url("postgres")) as connection:
        connection.run("ALTER ROLE postgres PASSWORD 's3cret'")
        settings = postgres.data_folder(server.home) / "data" / "pg_hba.conf"
        settings.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        connection.run("SELECT pg_reload_conf()")


def create(server: Server, database: str, owner: str, password: str) -> None:
    with connect(server.url("postgres")) as connection:
        connection.run(f"CREATE ROLE {owner} LOGIN PASSWORD '{password}'")
        connection.run(f"CREATE DATABASE {database} OWNER {owner}")


def dagster_home(folder: Path) -> Path:
    """Dagster's settings as the image has them, but that it looks more often."""
    home = folder / "dagster"
    home.mkdir()
    settings: dict[str, Any] = {}
    for name in ("dagster.yaml", "dagster.ecs.yaml"):
        settings |= yaml.safe_load((ROOT / "deploy" / name).read_text())
    settings["run_monitoring"] |= {"poll_interval_seconds": 2, "start_timeout_seconds": 30}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return home


def set_url(database: str, url: str) -> None:
    """Put the URL of a database in its secret."""
    boto3.client("secretsmanager").put_secret_value(SecretId=f"{NAME}/{database}-database-url", SecretString=url)


# What is done to it once, for the tests to look at.


@pytest.fixture(scope="module")
def scheduled(platform: Platform) -> Run:
    """The run of a tick of the schedule, after a change."""
    platform.await_quiet()
    platform.change(to=1_001)
    with platform.deployed.schedule_on("etl_schedule"):
        run = until(lambda: platform.runs(schedule_name="etl_schedule"), seconds=LONG)[0]
    return platform.await_end(run)


@pytest.fixture(scope="module")
def killed(platform: Platform) -> Run:
    """A run whose task was killed without a warning, after a change."""
    return platform.interrupted(grace=0, sold=2_001)


@pytest.fixture(scope="module")
def warned(platform: Platform) -> Run:
    """A run whose task was told to end, after a change."""
    return platform.interrupted(grace=30, sold=2_002)


@pytest.fixture(scope="module")
def never_started(platform: Platform) -> Run:
    """A run whose task never starts, after a change."""
    platform.await_quiet()
    platform.change(to=3_001)
    platform.agent.withhold()
    return platform.await_end(platform.launch())


@pytest.fixture(scope="module")
def terminated(platform: Platform) -> Run:
    """A run that a person has terminated in the UI."""
    terminate = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"
    return platform.ended_by(lambda run: platform.deployed.ask(terminate, id=run["runId"]))


@pytest.fixture(scope="module")
def refused(platform: Platform) -> Run:
    """A run with a password that the warehouse refuses; afterwards it has, and the secret, a new one."""
    platform.await_quiet()
    platform.change(to=4_001)
    set_url("warehouse", f"postgresql://load:{REFUSED}@{WAREHOUSE}:5432/warehouse{VERIFIED}")
    run = platform.await_end(platform.launch())
    with connect(platform.deployed.warehouse_server.url("postgres")) as connection:
        connection.run(f"ALTER ROLE load PASSWORD '{LOADS}-2'")
    set_url("warehouse", f"postgresql://load:{LOADS}-2@{WAREHOUSE}:5432/warehouse{VERIFIED}")
    return run


@pytest.fixture(scope="module")
def rotated(platform: Platform, refused: Run) -> tuple[Run, Mapping[str, Any]]:
    """The next run, larger than others, and how ECS was asked for its task."""
    platform.await_quiet()
    run = platform.await_end(platform.launch(cpu="2048", memory="8192"))
    tag = {"key": "dagster/run_id", "value": run["runId"]}
    return run, next(asked for asked in platform.recorder.tasks_run if tag in asked["tags"])


def test_every_service_is_healthy_by_its_own_check(platform: Platform) -> None:
    assert all(platform.is_healthy(service) for service in SERVICES)


def test_a_tick_goes_all_the_way_into_the_warehouse(platform: Platform, scheduled: Run) -> None:
    assert scheduled["status"] == "SUCCESS", platform.deployed.events(scheduled["runId"])
    task = ended(scheduled)
    assert task["stopCode"] == "EssentialContainerExited"
    assert [container["exitCode"] for container in task["containers"]] == [0]
    assert task["group"] == f"family:{NAME}-run"
    assert platform.is_loaded(1_001)


def test_runs_are_in_the_network_of_the_daemon(platform: Platform, scheduled: Run) -> None:
    [service] = boto3.client("ecs").describe_services(cluster=NAME, services=["daemon"])["services"]
    daemons = service["networkConfiguration"]["awsvpcConfiguration"]
    network = platform.recorder.tasks_run[-1]["networkConfiguration"]["awsvpcConfiguration"]
    assert set(network["subnets"]) <= set(daemons["subnets"])
    assert (network["securityGroups"], network["assignPublicIp"]) == (daemons["securityGroups"], "DISABLED")


def test_what_a_run_prints_is_in_cloudwatch_and_shown_by_the_webserver(platform: Platform, scheduled: Run) -> None:
    assert any(json.loads(line).get("run") == scheduled["runId"] for line in logged("run") if line.startswith("{"))
    events = platform.deployed.ask(
        """query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection {
            events { ... on LogsCapturedEvent { fileKey } } } } }""",
        run=scheduled["runId"],
    )["logsForRun"]["events"]
    key = next(event["fileKey"] for event in events if event.get("fileKey"))
    shown = platform.deployed.ask(
        "query ($key: [String!]!) { capturedLogs(logKey: $key) { stdout } }",
        key=[scheduled["runId"], "compute_logs", key],
    )["capturedLogs"]["stdout"]
    assert scheduled["runId"] in shown


def test_a_run_whose_task_is_killed_is_run_again_and_heals(platform: Platform, killed: Run) -> None:
    task = ended(killed)
    assert (killed["status"], task["stopCode"]) == ("FAILURE", "SpotInterruption")
    assert [container["exitCode"] for container in task["containers"]] == [128 + SIGKILL]
    [again] = until(lambda: platform.runs("SUCCESS", parent_run_id=killed["runId"]), seconds=LONG)
    assert again["tags"]["ecs/task_arn"] != task["taskArn"]
    assert platform.is_loaded(2_001)


def test_a_run_whose_task_is_told_to_end_is_run_again_and_heals(platform: Platform, warned: Run) -> None:
    assert (warned["status"], ended(warned)["stopCode"]) == ("FAILURE", "SpotInterruption")
    until(lambda: platform.runs("SUCCESS", parent_run_id=warned["runId"]), seconds=LONG)
    assert platform.is_loaded(2_002)


def test_a_task_that_never_starts_is_timed_out_and_run_again(platform: Platform, never_started: Run) -> None:
    assert never_started["status"] == "FAILURE"
    assert any("timed out" in event for event in platform.deployed.events(never_started["runId"]))
    until(lambda: platform.runs("SUCCESS", parent_run_id=never_started["runId"]), seconds=LONG)
    assert platform.is_loaded(3_001)
    platform.agent.release()
    ended(never_started)
    assert platform.again(never_started)["status"] == "FAILURE"
    assert platform.is_loaded(3_001)


def test_a_run_terminated_in_the_ui_ends_its_task(terminated: Run) -> None:
    assert terminated["status"] == "CANCELED"
    assert ended(terminated)["stopCode"] == "UserInitiated"


def test_a_refused_password_is_told_and_not_shown(platform: Platform, refused: Run) -> None:
    assert refused["status"] == "FAILURE"
    assert matches("FailedLoads-run", [line for line in logged("run") if refused["runId"] in line])
    assert not any(REFUSED in line for part in ("run", "code-server") for line in logged(part))
    until(lambda: "etl failed at warehouse" in platform.deployed.alerts(), seconds=LONG)
    assert matches("CriticalLines-code-server", logged("code-server"))


def test_a_rotated_secret_is_taken_by_the_next_run(platform: Platform, rotated: tuple[Run, Mapping[str, Any]]) -> None:
    run, _ = rotated
    assert run["status"] == "SUCCESS"
    assert platform.is_loaded(4_001)


def test_a_run_has_the_size_its_tags_ask_for(rotated: tuple[Run, Mapping[str, Any]]) -> None:
    _, asked = rotated
    [container] = asked["overrides"]["containerOverrides"]
    assert (asked["overrides"]["cpu"], asked["overrides"]["memory"]) == ("2048", "8192")
    assert (container["cpu"], container["memory"]) == (2048, 8192)
    assert len(json.dumps(asked["overrides"])) < 8192  # all that ECS takes


def test_a_backfill_fans_out_over_tasks(platform: Platform) -> None:
    platform.await_quiet()
    runs = platform.deployed.backfill_in_pieces("transformation/dim_staff")
    assert len({run["tags"]["ecs/task_arn"] for run in runs}) == len(runs)
    assert overlapping(runs)


def test_a_service_that_dies_is_started_again(platform: Platform) -> None:
    before = platform.service("code-server")
    platform.agent.interrupt(before, grace=0)
    until(lambda: platform.agent.tasks("service:code-server") not in ([], [before]))
    until(lambda: platform.is_healthy("code-server"), seconds=LONG)


def test_roles_are_allowed_what_the_platform_calls_and_nothing_else(
    platform: Platform, scheduled: Run, killed: Run, terminated: Run, refused: Run
) -> None:
    test_what_a_run_prints_is_in_cloudwatch_and_shown_by_the_webserver(platform, scheduled)
    until(lambda: "etl failed at warehouse" in platform.deployed.alerts(), seconds=LONG)
    called = {role: platform.recorder.of(role) for part in PARTS for role in (f"{NAME}-{part}", f"{NAME}-{part}-start")}
    assert {role: lacking for role, calls in called.items() if (lacking := iam.refused(role, calls))} == {}
    assert {role: sids for role, calls in called.items() if (sids := iam.unused(role, calls))} == {
        # of an upload that fails: test_buckets.py
        f"{NAME}-run": {"ReadAndWriteFiles: s3:AbortMultipartUpload"},
        # of the sensor source_activity, which is off here
        f"{NAME}-code-server": {"ReadCaptures: s3:GetObject"},
        # of a run that lasts for more than six hours
        f"{NAME}-daemon": {"WatchAndStopRuns: ecs:StopTask"},
        # the agent starts processes, not images
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
