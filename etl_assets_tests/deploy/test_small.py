"""The smallest deployment: `small.tfvars`, applied to a simulated AWS, and its one task on a simulated ECS."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from etl_assets.adapters.postgres import connect, transaction
from etl_assets.simulator import postgres
from etl_assets_tests.deploy import iam, terraform, tls
from etl_assets_tests.deploy.calls import Recorder
from etl_assets_tests.deploy.cloudwatch import alarms, counted, messages, metric_filters
from etl_assets_tests.deploy.conftest import ACCOUNT, initialized_roots
from etl_assets_tests.deploy.ecs import Agent
from etl_assets_tests.deploy.parts import (
    create_dagster_home,
    create_database,
    dagster_settings,
    require_passwords,
    without_policy,
)
from etl_assets_tests.deploy.terraform import Root
from etl_assets_tests.e2e.services import Deployment, Server, create_totesys, free_port, subscribe_queue
from etl_assets_tests.harness import ROOT, until

pytestmark = pytest.mark.deploy

NAME = "totesys-etl-small"
REGION = "eu-west-1"  # not that of the other tests: moto gives every RDS instance of a region the same resource id
BALANCER = '{host="dagster.example.com",certificate_arn="arn:aws:acm:eu-west-1:123456789012:certificate/1"}'
TIMEOUT = 300  # seconds; other tests may run on the machine


@dataclass(frozen=True)
class Applied:
    """The applied configuration: its root `platform` and resources by address, and the AWS they are applied to."""

    platform: Root
    resources: dict[str, dict[str, Any]]
    endpoint: str
    recorder: Recorder


@dataclass
class Small:
    """The deployment on the simulated ECS, and the agent that runs it."""

    deployed: Deployment
    agent: Agent

    def await_task(self, *earlier: str) -> str:
        """Wait until the service has another task than the earlier ones, which is healthy. Return its ARN."""

        def find() -> str | None:
            tasks = [task for task in self.agent.tasks("service:daemon") if task not in earlier]
            return tasks[0] if tasks and self.agent.healthy(tasks[0]) else None

        return until(find, seconds=TIMEOUT) or ""

    def launch(self, job: str) -> str:
        [partition] = self.deployed.latest_partitions(1)
        return self.deployed.launch(job, {"dagster/partition": partition})

    def status(self, run_id: str) -> str:
        return str(next(run["status"] for run in self.deployed.runs() if run["runId"] == run_id))

    def await_status(self, run_id: str, *statuses: str) -> None:
        until(lambda: self.status(run_id) in statuses, seconds=TIMEOUT)


@pytest.fixture(scope="module")
def applied_small(simulated_aws: tuple[str, Recorder], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """The applied configuration, in a region of its own, which is that of the environment."""
    with pytest.MonkeyPatch.context() as environment:
        for variable in ("AWS_DEFAULT_REGION", "AWS_REGION"):
            environment.setenv(variable, REGION)
        roots = initialized_roots(tmp_path_factory.mktemp("terraform") / "configuration", "small", "states-of-small")
        roots["permanent"].with_variables(f"region={REGION}").apply()
        platform = roots["platform"].with_variables(
            f"region={REGION}", "image_tag=v1", "state_bucket=states-of-small", 'settings={AUTOMATION="off"}'
        )
        platform.apply()
        yield Applied(platform, platform.state(), *simulated_aws)


@pytest.fixture(scope="module")
def small(applied_small: Applied, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """The deployment over a week of totesys, whose task is healthy."""
    folder = tmp_path_factory.mktemp("small")
    certificate = tls.certificate(folder)
    server = Server(folder / "server")
    secrets = boto3.client("secretsmanager")
    [warehouse] = boto3.client("rds").describe_db_instances()["DBInstances"]
    password = secrets.get_secret_value(SecretId=f"{NAME}-warehouse-password")["SecretString"]
    with ExitStack() as stack:
        server.start()
        stack.callback(postgres.remove, server.home)
        stack.callback(server.stop)
        require_passwords(server)
        create_totesys(server)
        create_database(server, warehouse["DBName"], warehouse["MasterUsername"], password)
        for bucket in (f"{NAME}-{stage}-{ACCOUNT}" for stage in ("ingestion", "transformation", "compute-logs")):
            # moto ignores the conditions of a policy, so this one would deny everything
            stack.enter_context(without_policy(bucket))
        secrets.put_secret_value(
            SecretId=f"{NAME}/totesys-database-url",
            SecretString="postgresql://postgres:s3cret@totesys.example.com:5432/totesys"
            "?sslmode=verify-full&sslrootcert=/opt/certificates/rds.pem",
        )
        webserver_port = free_port()
        replacements = {
            warehouse["Endpoint"]["Address"]: tls.HOST,
            "totesys.example.com": tls.HOST,
            "5432": str(stack.enter_context(tls.proxy(server.port, certificate))),
            "0.0.0.0": "127.0.0.1",
            "3000": str(webserver_port),
            "4000": str(free_port()),
            "/opt/dagster/together": str(create_dagster_home(folder, "together")),
            "/opt/dagster/workspace.yaml": str(ROOT / "deploy" / "workspace.yaml"),
            "/opt/certificates/rds.pem": str(certificate),
        }
        environment = os.environ | {
            "TOTESYS_DATABASE_URL": server.url("totesys"),
            "WAREHOUSE_DATABASE_URL": server.url("warehouse"),
        }
        agent = Agent(applied_small.endpoint, REGION, folder / "tasks", replacements)
        queue = subscribe_queue(f"arn:aws:sns:{REGION}:{ACCOUNT}:{NAME}-alerts")
        with agent.run():
            running = Small(Deployment(folder, environment, server, server, queue, webserver_port), agent)
            running.await_task()
            yield running
        assert agent.errors == []


@pytest.fixture(scope="module")
def loaded(small: Small) -> str:
    """The id of a run of `etl` that has ended."""
    run_id = small.launch("etl")
    small.await_status(run_id, "SUCCESS", "FAILURE")
    return run_id


@pytest.fixture(scope="module")
def killed(small: Small, loaded: str) -> str:
    """The id of a run whose task was killed, after a change. The next task is healthy."""
    task = small.await_task()
    small.deployed.totesys("UPDATE sales_order SET units_sold = 1001 WHERE sales_order_id = 1")
    with connect(small.deployed.environment["TOTESYS_DATABASE_URL"]) as holder, transaction(holder):
        holder.run("LOCK TABLE department IN ACCESS EXCLUSIVE MODE")
        run_id = small.launch("etl")
        small.await_status(run_id, "STARTED")
        small.agent.interrupt(task, grace=0)
        until(lambda: task not in small.agent.tasks("service:daemon"), seconds=TIMEOUT)
    small.await_task(task)
    return run_id


def container_definitions(part: str) -> dict[str, dict[str, Any]]:
    """Return the containers of a part's task definition, by name."""
    definition = boto3.client("ecs").describe_task_definition(taskDefinition=f"{NAME}-{part}")["taskDefinition"]
    return {container["name"]: container for container in definition["containerDefinitions"]}


def test_the_services_are_the_containers_of_one_arm_task(applied_small: Applied) -> None:
    ecs = boto3.client("ecs")
    [arn] = ecs.list_services(cluster=NAME)["serviceArns"]
    [service] = ecs.describe_services(cluster=NAME, services=[arn])["services"]
    definition = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
    assert definition["runtimePlatform"]["cpuArchitecture"] == "ARM64"
    assert (definition["cpu"], definition["memory"]) == ("512", "2048")
    containers = {container["name"]: container for container in definition["containerDefinitions"]}
    assert {
        name: (container["essential"], {each["containerName"]: each["condition"] for each in container["dependsOn"]})
        if "dependsOn" in container
        else container["essential"]
        for name, container in containers.items()
    } == {
        "migrate": False,
        "code-server": (True, {"migrate": "SUCCESS"}),
        "daemon": (True, {"code-server": "HEALTHY"}),
        "webserver": (True, {"code-server": "HEALTHY"}),
    }
    assert all(container["readonlyRootFilesystem"] for container in containers.values())
    assert sum(container["memoryReservation"] for container in containers.values()) <= 2048
    assert not any("memory" in container for container in containers.values()), "one may use what others do not"


def test_nothing_is_between_the_task_and_the_internet_and_nobody_can_connect_to_it(applied_small: Applied) -> None:
    ec2 = boto3.client("ec2")
    assert ec2.describe_nat_gateways()["NatGateways"] == []
    assert boto3.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
    [endpoint] = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert endpoint["VpcEndpointType"] == "Gateway", "it is free"
    [service] = boto3.client("ecs").describe_services(cluster=NAME, services=["daemon"])["services"]
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    assert network["assignPublicIp"] == "ENABLED"
    routes = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": network["subnets"]}])
    assert any(route.get("GatewayId", "").startswith("igw-") for route in routes["RouteTables"][0]["Routes"])
    groups = {
        group["GroupId"]: group["GroupName"].removeprefix(f"{NAME}-")
        for group in ec2.describe_security_groups()["SecurityGroups"]
        if group["GroupName"].startswith(NAME)
    }
    rules = [
        rule
        for rule in ec2.describe_security_group_rules()["SecurityGroupRules"]
        if not rule["IsEgress"] and rule["GroupId"] in groups
    ]
    assert not [rule for rule in rules if "CidrIpv4" in rule or "CidrIpv6" in rule]
    assert {
        (groups[rule["ReferencedGroupInfo"]["GroupId"]], groups[rule["GroupId"]], rule["FromPort"]) for rule in rules
    } == {
        ("daemon", "endpoints", 443),
        ("tunnel", "endpoints", 443),
        ("daemon", "warehouse", 5432),
        ("tunnel", "warehouse", 5432),
        ("tunnel", "daemon", 3000),
    }
    assert groups.keys() >= {*network["securityGroups"]}


def test_the_storage_of_dagster_is_a_database_of_the_warehouses_instance(applied_small: Applied) -> None:
    [warehouse] = boto3.client("rds").describe_db_instances()["DBInstances"]
    assert (warehouse["DBInstanceIdentifier"], warehouse["PubliclyAccessible"]) == (f"{NAME}-warehouse", False)
    for container in container_definitions("daemon").values():
        values = {variable["name"]: variable["value"] for variable in container["environment"]}
        assert values["DAGSTER_POSTGRES_HOST"] == warehouse["Endpoint"]["Address"]
        assert values["DAGSTER_POSTGRES_DB"] == "dagster" != warehouse["DBName"]
        assert f":{NAME}-warehouse-password-" in {
            secret["name"]: secret["valueFrom"] for secret in container["secrets"]
        }["DAGSTER_POSTGRES_PASSWORD"].replace("secret:", ":")
        assert "RUN_TASK_DEFINITION" not in values


def test_what_costs_is_what_the_estimate_counts(applied_small: Applied) -> None:
    kinds = Counter(
        re.sub(r"(module\.\w+(\[.*?\])?\.)*", "", address).split(".")[0] for address in applied_small.resources
    )
    free = (
        "cloudwatch_event cloudwatch_log db_parameter_group db_subnet_group ecs_cluster ecs_task_definition iam_role "
        "internet_gateway route s3_bucket secretsmanager_secret_version security_group subnet vpc"
    )
    counted_kinds = {
        kind.removeprefix("aws_"): number
        for kind, number in kinds.items()
        if kind.startswith("aws_") and not kind.removeprefix("aws_").startswith(tuple(free.split()))
    }
    assert counted_kinds == {
        "cloudwatch_composite_alarm": 7,
        "cloudwatch_metric_alarm": 14,
        "db_instance": 1,
        "ecs_service": 1,
        "secretsmanager_secret": 1,  # and three in `permanent`
    }
    [instance] = [each for address, each in applied_small.resources.items() if ".aws_db_instance." in address]
    assert (instance["instance_class"], instance["allocated_storage"], instance["multi_az"]) == (
        "db.t4g.micro",
        20,
        False,
    )
    cluster = applied_small.resources["module.services.aws_ecs_cluster.this"]
    assert [(each["name"], each["value"]) for each in cluster["setting"]] == [("containerInsights", "disabled")]


def test_the_estimate_adds_up_to_less_than_fifty_dollars() -> None:
    _, section = (ROOT / "docs" / "deployment.md").read_text().split("### The smallest")
    *items, total = map(float, re.findall(r"^\|.*\| \**(\d+\.\d\d)\** \|$", section.split("\n## ")[0], re.MULTILINE))
    assert len(items) == 9
    assert sum(items) == pytest.approx(total)
    assert total <= 50


def test_a_stopped_task_and_a_silent_sensor_are_noticed_without_container_insights(applied_small: Applied) -> None:
    metric_alarms = alarms("MetricAlarm")
    stopped = metric_alarms[f"{NAME}-no-daemon"]
    assert (stopped["Namespace"], stopped["MetricName"], stopped["Statistic"]) == (
        "AWS/ECS",
        "CPUUtilization",
        "SampleCount",
    )
    assert (stopped["Threshold"], stopped["TreatMissingData"]) == (1, "breaching")
    assert {each["Name"]: each["Value"] for each in stopped["Dimensions"]} == {
        "ClusterName": NAME,
        "ServiceName": "daemon",
    }
    silent = f"{NAME}-alerts-silent"
    assert messages({f"{silent}-signal"}) == {silent}
    assert messages({f"{silent}-signal", f"{NAME}-no-daemon"}) == {f"{NAME}-no-daemon"}
    assert not [name for name in metric_alarms if "webserver" in name or "balancer" in name]


def test_failed_steps_are_counted_in_the_log_of_the_code_server(applied_small: Applied) -> None:
    line = '{"event": "STEP_FAILURE", "stage": "warehouse"}'
    assert counted("FailedWarehouseSteps", f"/{NAME}/code-server", [line])
    groups = {each["logGroupName"] for each in metric_filters()}
    assert groups == {f"/{NAME}/{container}" for container in ("code-server", "daemon", "webserver", "run")}


def test_it_grows_to_services_of_their_own_by_other_values_and_keeps_its_warehouse(applied_small: Applied) -> None:
    values = ("together=false", "storage={}", "network={}", "monitoring={}", f"balancer={BALANCER}")
    plan = applied_small.platform.with_variables(*values).plan()
    planned = terraform.planned(plan)
    services = [address for address in planned if ".aws_ecs_service." in address]
    assert len(services) == 3
    assert len([address for address in planned if ".aws_nat_gateway." in address]) == 1
    assert "module.storage[0].aws_db_instance.this" in planned
    assert "module.warehouse[0].aws_db_instance.this" in planned.keys() - terraform.changes(plan).keys()


def test_a_balancer_can_be_put_before_the_one_task(applied_small: Applied) -> None:
    planned = terraform.planned(applied_small.platform.with_variables(f"balancer={BALANCER}").plan())
    [balanced] = planned['module.services.aws_ecs_service.part["daemon"]']["load_balancer"]
    assert (balanced["container_name"], balanced["container_port"]) == ("webserver", 3000)
    assert f"{NAME}-unhealthy-webserver" in {
        alarm["alarm_name"] for address, alarm in planned.items() if ".aws_cloudwatch_composite_alarm." in address
    }


def test_the_homes_of_dagster_differ_in_how_many_runs_there_are_and_who_starts_them(tmp_path: Path) -> None:
    homes = dagster_settings(tmp_path)
    limits = {home: settings["concurrency"]["runs"].pop("max_concurrent_runs") for home, settings in homes.items()}
    assert limits == {"machine": 10, "ecs": 10, "ecs-few": 3, "together": 2}
    on_ecs = {name: homes["ecs"].pop(name) for name in ("run_launcher", "compute_logs")}
    assert homes["ecs-few"] == homes["ecs"] | on_ecs
    assert homes["together"] == homes["ecs"] | {"compute_logs": on_ecs["compute_logs"]}
    assert homes["machine"] == homes["ecs"]


def test_the_webserver_answers_and_shows_the_jobs(small: Small) -> None:
    repositories = small.deployed.graphql(
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { jobs { name } } } } }"
    )["repositoriesOrError"]["nodes"]
    assert {"name": "etl"} in repositories[0]["jobs"]


def test_a_run_is_a_process_of_the_task_and_loads_the_warehouse(small: Small, loaded: str) -> None:
    assert small.status(loaded) == "SUCCESS", small.deployed.events(loaded)
    assert small.deployed.warehouse("SELECT 1 FROM warehouse.fact_sales_order_current WHERE sales_order_id = 1")
    assert boto3.client("ecs").list_tasks(cluster=NAME, family=f"{NAME}-run")["taskArns"] == []
    log = boto3.client("logs").get_paginator("filter_log_events").paginate(logGroupName=f"/{NAME}/code-server")
    assert any(loaded in event["message"] for page in log for event in page["events"])


def test_a_run_whose_task_is_killed_is_ended_and_loads_the_change_in_the_next_task(small: Small, killed: str) -> None:
    assert small.status(killed) == "FAILURE"
    assert "The task in which it ran has ended." in small.deployed.events(killed)
    [retried] = until(lambda: small.deployed.runs("SUCCESS", parent_run_id=killed), seconds=TIMEOUT)
    if not small.deployed.is_of_the_latest_window(retried):
        small.await_status(small.launch("etl"), "SUCCESS")
    query = "SELECT units_sold FROM warehouse.fact_sales_order_current WHERE sales_order_id = 1"
    assert small.deployed.warehouse(query) == [[1001]]


def test_the_role_of_the_task_allows_exactly_its_calls(
    small: Small, applied_small: Applied, loaded: str, killed: str
) -> None:
    small.deployed.graphql("query ($key: [String!]!) { capturedLogs(logKey: $key) { stdout } }", key=[loaded, "x", "y"])
    calls = {role: applied_small.recorder.calls_of(role) for role in (f"{NAME}-daemon", f"{NAME}-daemon-start")}
    assert {role: denied for role in calls if (denied := iam.denied_calls(role, calls[role]))} == {}
    role = f"{NAME}-daemon"
    assert iam.unused_permissions(role, calls[role]) == {
        "WriteFiles: s3:AbortMultipartUpload",  # for an upload that fails: adapters/test_object_store.py
        "Alert: sns:Publish",  # nothing is to be alerted here
    }
