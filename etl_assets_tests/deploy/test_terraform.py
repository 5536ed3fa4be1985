"""What Terraform makes of `deploy/terraform`, read back from AWS; and mistakes, planted there, that are found."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from etl_assets.environment import Variable
from etl_assets.metrics import ROWS_LOADED, SECONDS_FROM_CAPTURE_TO_LOAD
from etl_assets_tests.deploy import iam, terraform
from etl_assets_tests.deploy.calls import Call
from etl_assets_tests.deploy.conftest import (
    ACCOUNT,
    NAME,
    PARTS,
    REGION,
    REPOSITORY,
    SERVICES,
    STATES,
    Applied,
    by_github,
)
from etl_assets_tests.deploy.terraform import TerraformError

pytestmark = pytest.mark.deploy

TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:{NAME}-alerts"

FARGATE = {
    256: (512, 1024, 2048),
    512: range(1024, 4097, 1024),
    1024: range(2048, 8193, 1024),
    2048: range(4096, 16385, 1024),
    4096: range(8192, 30721, 1024),
}
"""The sizes of tasks: MB of memory by CPU units (Amazon ECS developer guide, “Task CPU and memory”)."""

WORKFLOWS = terraform.CONFIGURATION.parents[1] / ".github" / "workflows"
GITHUB = {does: f"totesys-etl-github-{does}" for does in ("plan", "deploy")}
TOKENS = "token.actions.githubusercontent.com"

FORGOTTEN = {
    "aws_vpc_security_group_egress_rule": {"description"},
    "aws_vpc_security_group_ingress_rule": {"description"},
    "aws_ecs_service": {"availability_zone_rebalancing"},
    "aws_db_parameter_group": {"parameter"},
}
"""What moto does not keep."""


def task_definitions() -> dict[str, dict[str, Any]]:
    """The task definitions, by part."""
    ecs = boto3.client("ecs")
    return {part: ecs.describe_task_definition(taskDefinition=f"{NAME}-{part}")["taskDefinition"] for part in PARTS}


def alarms() -> dict[str, dict[str, Any]]:
    """The alarms, by what they are called after the platform's name."""
    pages = boto3.client("cloudwatch").get_paginator("describe_alarms").paginate()
    return {alarm["AlarmName"].removeprefix(f"{NAME}-"): alarm for page in pages for alarm in page["MetricAlarms"]}


def buckets_keep_what_they_hold(applied: Applied) -> None:
    s3 = boto3.client("s3")
    for stage in ("ingestion", "transformation"):
        bucket = f"{NAME}-{stage}-{ACCOUNT}"
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
        [encrypted] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert encrypted["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        [cooler] = [rule["Transitions"] for rule in rules if "Transitions" in rule]
        assert {(move["Days"], move["StorageClass"]) for move in cooler} == {(60, "STANDARD_IA"), (180, "GLACIER_IR")}
        assert not any("Expiration" in rule or "NoncurrentVersionExpiration" in rule for rule in rules)


def buckets_refuse_plain_http_and_overwriting(applied: Applied) -> None:
    s3 = boto3.client("s3")
    for stage in ("ingestion", "transformation"):
        bucket = f"{NAME}-{stage}-{ACCOUNT}"
        policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
        told = {statement["Sid"]: statement for statement in policy["Statement"]}
        assert told["TlsOnly"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert told["WriteOnce"]["Action"] == "s3:PutObject"
        assert told["WriteOnce"]["Condition"] == {
            "Null": {"s3:if-none-match": "true"},
            "Bool": {"s3:ObjectCreationOperation": "true"},
        }
        for statement in told.values():
            assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")


def alerts_reach_someone(applied: Applied) -> None:
    [subscription] = [
        found
        for found in boto3.client("sns").list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"]
        if found["Protocol"] == "email"
    ]
    assert subscription["Endpoint"] == "data-engineering-dev@example.com"


def filters_count_what_the_platform_logs(applied: Applied) -> None:
    found = boto3.client("logs").describe_metric_filters()["metricFilters"]
    assert {(told["logGroupName"], told["filterPattern"]) for told in found} == {
        *((f"/{NAME}/{part}", '{ $.level = "CRITICAL" }') for part in PARTS),
        (f"/{NAME}/run", '{ ($.event = "STEP_FAILURE") && ($.step = "warehouse") }'),
    }


def alarms_watch_what_is_measured_and_tell(applied: Applied) -> None:
    counted = {
        (transformation["metricNamespace"], transformation["metricName"])
        for found in boto3.client("logs").describe_metric_filters()["metricFilters"]
        for transformation in found["metricTransformations"]
    }
    measured = counted | {
        (NAME, ROWS_LOADED),
        (NAME, SECONDS_FROM_CAPTURE_TO_LOAD),
        ("AWS/ApplicationELB", "HealthyHostCount"),
        ("ECS/ContainerInsights", "RunningTaskCount"),
        ("AWS/RDS", "FreeStorageSpace"),
    }
    for alarm in alarms().values():
        assert (alarm["Namespace"], alarm["MetricName"]) in measured
        assert (alarm["ActionsEnabled"], alarm["AlarmActions"], alarm["OKActions"]) == (True, [TOPIC], [TOPIC])


def what_is_absent_is_an_alarm(applied: Applied) -> None:
    dead = {"no-loads", "unhealthy-webserver", *(f"no-{service}" for service in SERVICES)}
    found = {name: alarm for name, alarm in alarms().items() if alarm["TreatMissingData"] == "breaching"}
    assert found.keys() == dead
    for alarm in found.values():
        assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert found["no-loads"]["MetricName"] == ROWS_LOADED
    dimensions = {dimension["Name"]: dimension["Value"] for dimension in found["no-daemon"]["Dimensions"]}
    assert dimensions == {"ClusterName": NAME, "ServiceName": "daemon"}


def containers_are_as_ecs_takes_them(applied: Applied) -> None:
    """Each has a command: a misspelt key of a container is dropped by the provider, in silence."""
    groups = {group["logGroupName"] for group in boto3.client("logs").describe_log_groups()["logGroups"]}
    for part, definition in task_definitions().items():
        [container] = definition["containerDefinitions"]
        assert int(definition["memory"]) in FARGATE[int(definition["cpu"])]
        assert (container["cpu"], container["memory"]) == (int(definition["cpu"]), int(definition["memory"]))
        assert container["command"]
        assert container["image"] == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{NAME}:v1"
        assert (container["readonlyRootFilesystem"], container["user"]) == (True, "1000:1000")
        assert [mount["containerPath"] for mount in container["mountPoints"]] == ["/tmp"]
        assert container["logConfiguration"]["options"]["awslogs-group"] in groups
        assert ("healthCheck" in container) == (part in SERVICES)
        assert container["stopTimeout"] == 120


def secrets_are_where_they_are_needed(applied: Applied) -> None:
    to_totesys_and_warehouse = {Variable.TOTESYS_DATABASE_URL, Variable.WAREHOUSE_DATABASE_URL}
    of_dagster = {"DAGSTER_POSTGRES_PASSWORD"}
    wanted = {
        "code-server": of_dagster | to_totesys_and_warehouse,  # its sensors look into both
        "daemon": of_dagster,
        "run": of_dagster | to_totesys_and_warehouse,
        "webserver": of_dagster,
    }
    known = {secret["ARN"] for secret in boto3.client("secretsmanager").list_secrets()["SecretList"]}
    for part, definition in task_definitions().items():
        [container] = definition["containerDefinitions"]
        assert {secret["name"] for secret in container["secrets"]} == wanted[part]
        assert {secret["valueFrom"] for secret in container["secrets"]} <= known
        plain = {variable["name"] for variable in container["environment"]}
        assert not plain & wanted["run"]
        assert plain >= {Variable.INGESTION_URL, Variable.TRANSFORMATION_URL, Variable.ALERTS_TOPIC_ARN}


def roles_are_for_tasks_and_name_what_they_may(applied: Applied) -> None:
    for part in PARTS:
        for role in (f"{NAME}-{part}", f"{NAME}-{part}-start"):
            made = boto3.client("iam").get_role(RoleName=role)["Role"]
            [trust] = made["AssumeRolePolicyDocument"]["Statement"]
            assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
            assert (
                made["PermissionsBoundary"]["PermissionsBoundaryArn"]
                == f"arn:aws:iam::{ACCOUNT}:policy/{NAME}-boundary"
            )
            for permission in iam.permissions(role):
                assert "*" not in permission.action
                assert "*" not in permission.resources or permission.action in {
                    "ecs:DescribeTaskDefinition",
                    "ec2:DescribeNetworkInterfaces",
                    "cloudwatch:PutMetricData",
                    "ecr:GetAuthorizationToken",
                }  # AWS knows no resource for them


def trusted(does: str) -> dict[str, dict[str, str]]:
    """The conditions on which a role is given to a workflow of GitHub's."""
    [trust] = boto3.client("iam").get_role(RoleName=GITHUB[does])["Role"]["AssumeRolePolicyDocument"]["Statement"]
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{TOKENS}"
    assert (trust["Action"], trust["Principal"]) == ("sts:AssumeRoleWithWebIdentity", {"Federated": provider})
    assert trust["Condition"].keys() == {"StringEquals"}
    return dict(trust["Condition"])


def only_two_jobs_of_the_repository_are_trusted(applied: Applied) -> None:
    deploy = yaml.safe_load((WORKFLOWS / "deploy.yml").read_text())["jobs"]["deploy"]
    subjects = {"plan": "pull_request", "deploy": f"environment:{deploy['environment']}"}
    for does, subject in subjects.items():
        assert trusted(does)["StringEquals"][f"{TOKENS}:sub"] == f"repo:{REPOSITORY}:{subject}"


def only_tokens_for_aws_are_trusted(applied: Applied) -> None:
    for does in GITHUB:
        assert trusted(does)["StringEquals"][f"{TOKENS}:aud"] == "sts.amazonaws.com"


def a_pull_request_reads_states_alone(applied: Applied) -> None:
    told = iam.permissions(GITHUB["plan"])
    assert {(permission.action, *permission.resources) for permission in told if not permission.denies} == {
        ("s3:ListBucket", f"arn:aws:s3:::{STATES}"),
        ("s3:GetObject", f"arn:aws:s3:::{STATES}/dev/*.tfstate"),
        ("ecr:DescribeImages", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{NAME}"),
        ("ec2:DescribeAvailabilityZones", "*"),
        ("secretsmanager:GetRandomPassword", "*"),
    }
    denied = {permission.action for permission in told if permission.denies}
    assert denied == {"secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue", "s3:*"}


def a_deployment_may_not(applied: Applied) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role"
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret"
    bucket = f"arn:aws:s3:::{NAME}-ingestion-{ACCOUNT}"
    to_tasks = frozenset({("iam:PassedToService", "ecs-tasks.amazonaws.com")})
    asked = {
        Call("deploy", action, resource, context)
        for action, resource, context in (
            ("iam:CreateRole", f"{role}/{NAME}-run", frozenset()),  # without its boundary
            ("iam:DeleteRolePermissionsBoundary", f"{role}/{NAME}-run", frozenset()),
            ("iam:PassRole", f"{role}/another", to_tasks),
            ("iam:PassRole", f"{role}/{NAME}-run", frozenset({("iam:PassedToService", "lambda.amazonaws.com")})),
            *(
                (f"iam:{action}", f"{role}/{name}", frozenset[tuple[str, str]]())
                for action in ("PutRolePolicy", "UpdateAssumeRolePolicy", "DeleteRole", "AttachRolePolicy")
                for name in (*GITHUB.values(), "another", f"{NAME}-another")
            ),
            *(
                (f"s3:{action}", resource, frozenset[tuple[str, str]]())
                for action in ("DeleteBucket", "PutBucketPolicy", "GetObject", "DeleteObject", "DeleteObjectVersion")
                for resource in (bucket, f"{bucket}/object", f"arn:aws:s3:::{STATES}/dev/permanent.tfstate.tflock")
            ),
            ("s3:PutObject", f"arn:aws:s3:::{STATES}/dev/permanent.tfstate", frozenset()),
            ("s3:GetObject", f"arn:aws:s3:::{STATES}/prod/platform.tfstate", frozenset()),
            ("secretsmanager:GetSecretValue", f"{secret}:{NAME}/totesys-database-url-AbCdEf", frozenset()),
            ("secretsmanager:DeleteSecret", f"{secret}:{NAME}-dagster-password-AbCdEf", frozenset()),
            ("rds:DeleteDBInstance", f"arn:aws:rds:{REGION}:{ACCOUNT}:db:{NAME}-dagster", frozenset()),
            ("ecr:PutImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/another", frozenset()),
            ("ec2:DeleteSubnet", f"arn:aws:ec2:{REGION}:{ACCOUNT}:subnet/subnet-1", frozenset()),
        )
    }
    assert asked - iam.refused(GITHUB["deploy"], asked) == set()
    policy = boto3.client("iam").get_role_policy(RoleName=GITHUB["deploy"], PolicyName="deploy")["PolicyDocument"]
    assert len(json.dumps(policy, separators=(",", ":"))) <= 10_240  # more AWS does not take, though moto does


def there_is_never_a_second_daemon(applied: Applied) -> None:
    services = {
        found["name"]: found
        for address, found in applied.roots["platform"].state().items()
        if ".aws_ecs_service." in address
    }  # moto does not tell of it
    assert services.keys() == {*SERVICES}
    for name, service in services.items():
        limits = (service["deployment_minimum_healthy_percent"], service["deployment_maximum_percent"])
        assert limits == ((0, 100) if name == "daemon" else (100, 200))
        assert service["deployment_circuit_breaker"] == [{"enable": True, "rollback": True}]


def the_ui_is_closed_to_the_world(applied: Applied) -> None:
    ec2 = boto3.client("ec2")
    rules = ec2.describe_security_group_rules()["SecurityGroupRules"]
    from_the_world = [rule for rule in rules if not rule["IsEgress"] and rule.get("CidrIpv4") == "0.0.0.0/0"]
    assert from_the_world == []
    [balancer] = boto3.client("elbv2").describe_load_balancers()["LoadBalancers"]
    [listener] = boto3.client("elbv2").describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    assert (listener["Protocol"], listener["Port"]) == ("HTTPS", 443)


def databases_are_private(applied: Applied) -> None:
    [storage] = boto3.client("rds").describe_db_instances()["DBInstances"]
    assert (storage["PubliclyAccessible"], storage["StorageEncrypted"]) == (False, True)
    assert storage["BackupRetentionPeriod"] == 7
    parameters = boto3.client("rds").describe_db_parameters(
        DBParameterGroupName=storage["DBParameterGroups"][0]["DBParameterGroupName"]
    )["Parameters"]
    assert {"rds.force_ssl": "1"}.items() <= {
        told["ParameterName"]: told["ParameterValue"] for told in parameters
    }.items()


CHECKS = (
    buckets_keep_what_they_hold,
    buckets_refuse_plain_http_and_overwriting,
    alerts_reach_someone,
    filters_count_what_the_platform_logs,
    alarms_watch_what_is_measured_and_tell,
    what_is_absent_is_an_alarm,
    containers_are_as_ecs_takes_them,
    secrets_are_where_they_are_needed,
    roles_are_for_tasks_and_name_what_they_may,
    only_two_jobs_of_the_repository_are_trusted,
    only_tokens_for_aws_are_trusted,
    a_pull_request_reads_states_alone,
    a_deployment_may_not,
    there_is_never_a_second_daemon,
    the_ui_is_closed_to_the_world,
    databases_are_private,
)

MISTAKES: dict[str, tuple[str, str, str, Callable[[Applied], None]]] = {
    "a bucket that takes public policies": (
        "modules/private_bucket/main.tf",
        "block_public_policy     = true",
        "block_public_policy     = false",
        buckets_keep_what_they_hold,
    ),
    "objects that can be overwritten": (
        "permanent/buckets.tf",
        "write_once        = true",
        "write_once        = false",
        buckets_refuse_plain_http_and_overwriting,
    ),
    "a misspelt field in a pattern": (
        "modules/alerting/main.tf",
        "$.level =",
        "$.levl =",
        filters_count_what_the_platform_logs,
    ),
    "an alarm on a metric that nobody makes": (
        "modules/alerting/main.tf",
        '"SecondsFromCaptureToLoad"',
        '"SecondsToLoad"',
        alarms_watch_what_is_measured_and_tell,
    ),
    "a dead-man's switch that takes silence for good": (
        "modules/alerting/main.tf",
        '        missing     = "breaching"\n      }\n      late-loads',
        '        missing     = "notBreaching"\n      }\n      late-loads',
        what_is_absent_is_an_alarm,
    ),
    "a misspelt key of a container": (
        "modules/services/tasks.tf",
        "command      = is.command",
        "comand       = is.command",
        containers_are_as_ecs_takes_them,
    ),
    "a misnamed secret": (
        "modules/services/parts.tf",
        "DAGSTER_POSTGRES_PASSWORD = var.storage.password_secret_arn",
        "DAGSTER_POSTGRES_PASWORD = var.storage.password_secret_arn",
        secrets_are_where_they_are_needed,
    ),
    "a role for another service": (
        "modules/services/roles.tf",
        '"ecs-tasks.amazonaws.com"]\n    }\n\n    dynamic',
        '"ecs.amazonaws.com"]\n    }\n\n    dynamic',
        roles_are_for_tasks_and_name_what_they_may,
    ),
    "a role for every job of the repository": (
        "modules/github/main.tf",
        "${var.repository}:${each.value}",
        "${var.repository}:*",
        only_two_jobs_of_the_repository_are_trusted,
    ),
    "a role for tokens that are for others": (
        "modules/github/main.tf",
        ':aud"',
        ':azp"',
        only_tokens_for_aws_are_trusted,
    ),
    "a pull request that reads every state": (
        "modules/github/permissions.tf",
        '["plan"]}/*.tfstate',
        '["plan"]}*',
        a_pull_request_reads_states_alone,
    ),
    "a deployment that passes any role": (
        "modules/github/permissions.tf",
        'actions = ["iam:PassRole"], resources = local.roles',
        'actions = ["iam:PassRole"], resources = ["*"]',
        a_deployment_may_not,
    ),
    "two daemons while one is replaced": (
        "modules/services/tasks.tf",
        '"daemon" ? 100 : 200',
        '"daemon" ? 200 : 200',
        there_is_never_a_second_daemon,
    ),
}
"""Each: where, what is there, what is planted, and what must find it."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_is_as_it_must_be(applied: Applied, check: Callable[[Applied], None]) -> None:
    check(applied)


@pytest.fixture(scope="module")
def spoiled(applied: Applied) -> Iterator[set[Callable[[Applied], None]]]:
    """The checks that fail once all mistakes are applied; afterwards they are mended."""
    configuration = applied.roots["platform"].folder.parent
    right = {path: (configuration / path).read_text() for path, *_ in MISTAKES.values()}

    def apply() -> None:
        applied.roots["state"].apply()
        applied.roots["permanent"].apply()
        by_github(applied.roots["platform"], "deploy").apply()

    for path, there, planted, _ in MISTAKES.values():
        text = (configuration / path).read_text()
        assert text.count(there) == 1, (path, there)
        (configuration / path).write_text(text.replace(there, planted))
    apply()
    failed: set[Callable[[Applied], None]] = set()
    for check in CHECKS:
        try:
            check(applied)
        except (AssertionError, KeyError, ClientError):
            failed.add(check)
    for path, text in right.items():
        (configuration / path).write_text(text)
    for found in boto3.client("logs").describe_metric_filters()["metricFilters"]:
        # to moto a filter that is changed is one more
        boto3.client("logs").delete_metric_filter(logGroupName=found["logGroupName"], filterName=found["filterName"])
    apply()
    yield failed


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(spoiled: set[Callable[[Applied], None]], mistake: str) -> None:
    *_, finds_it = MISTAKES[mistake]
    assert finds_it in spoiled


def test_what_is_right_stays_right_beside_mistakes(spoiled: set[Callable[[Applied], None]]) -> None:
    assert alerts_reach_someone not in spoiled
    assert databases_are_private not in spoiled


@pytest.mark.parametrize("root", terraform.ROOTS)
def test_a_second_plan_is_empty(applied: Applied, root: str) -> None:
    changed = terraform.changes(applied.roots[root].plan())
    assert {
        address: names
        for address, names in changed.items()
        if not names <= next((names for kind, names in FORGOTTEN.items() if f"{kind}." in address), set())
    } == {}


def test_a_deployment_may_do_what_terraform_asks_for(applied: Applied, spoiled: object) -> None:
    """To make the platform, and to change and mend it: `spoiled`."""
    assert refused_of("deploy", applied) == set()


def test_a_pull_request_may_do_what_terraform_asks_for(applied: Applied) -> None:
    told = re.search(r"terraform (plan .*) -no-color", (WORKFLOWS / "terraform-plan.yml").read_text())
    assert told
    for root in ("permanent", "platform"):
        by_github(applied.roots[root], "plan").run(*told[1].split(), *applied.roots[root].variables)
    assert refused_of("plan", applied) == set()


def refused_of(does: str, applied: Applied) -> set[Call]:
    """What a workflow of GitHub's has called, and its role does not allow."""
    calls = applied.recorder.of(GITHUB[does])
    assert calls
    # the states are in a bucket without a policy here: moto's answer to TlsOnly is to refuse all
    return iam.refused(
        GITHUB[does], {replace(call, resource=call.resource.replace(":::states", f":::{STATES}")) for call in calls}
    )


@pytest.mark.parametrize("root", ["state", "permanent"])
def test_what_must_last_cannot_be_destroyed(applied: Applied, root: str) -> None:
    with pytest.raises(TerraformError, match="prevent_destroy"):
        applied.roots[root].destroy()


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ('allowed_cidrs=["0.0.0.0/0"]', "Dagster's UI has no login of its own"),
        ("sizes={run={cpu=1024,memory=1024}}", "Fargate has no task of such a size"),
        ('settings={ETL_CORN="* * * * *"}', "Settings are"),
        ("network={nat_gateway=false}", "Without a NAT gateway"),
    ],
)
def test_a_value_that_cannot_be_is_refused(applied: Applied, variable: str, message: str) -> None:
    with pytest.raises(TerraformError, match=message):
        applied.roots["platform"].given(variable).plan()


def test_the_warehouse_may_be_made_here(applied: Applied) -> None:
    planned = terraform.planned(applied.roots["platform"].given("warehouse={standby=true}").plan())
    instance = planned["module.warehouse[0].aws_db_instance.this"]
    assert (instance["multi_az"], instance["deletion_protection"], instance["db_name"]) == (True, True, "warehouse")
    assert "password" not in {name for name, value in instance.items() if value}
    assert "module.warehouse[0].aws_secretsmanager_secret_version.url[0]" in planned
    assert f'module.alerting.aws_cloudwatch_metric_alarm.this["storage-of-{NAME}-warehouse"]' in planned


def test_a_network_that_is_there_may_be_used(applied: Applied) -> None:
    existing = (
        'existing={vpc_id="vpc-1",private_subnet_ids=["subnet-1","subnet-2"],public_subnet_ids=["subnet-3","subnet-4"]}'
    )
    planned = terraform.planned(applied.roots["platform"].given(f"network={{{existing}}}").plan())
    assert not [address for address in planned if "aws_vpc.this" in address or "aws_nat_gateway" in address]
    [daemon] = [planned[address] for address in planned if address.endswith('aws_ecs_service.part["daemon"]')]
    assert set(daemon["network_configuration"][0]["subnets"]) == {"subnet-1", "subnet-2"}


def test_a_login_may_stand_before_the_ui(applied: Applied) -> None:
    login = {
        **{name: f"https://login.example.com/{name}" for name in ("issuer", "token_endpoint", "user_info_endpoint")},
        "authorization_endpoint": "https://login.example.com/login",
        "client_id": "totesys-etl",
        "client_secret": "s3cret",
    }
    given = ",".join(f'{name}="{value}"' for name, value in login.items())
    open_to_all = applied.roots["platform"].given(f"login={{{given}}}", 'allowed_cidrs=["0.0.0.0/0"]')
    planned = terraform.planned(open_to_all.plan())
    actions = planned["module.services.aws_lb_listener.https"]["default_action"]
    assert [action["type"] for action in actions] == ["authenticate-oidc", "forward"]


def test_prod_is_other_values_of_the_same_configuration(applied: Applied) -> None:
    boto3.client("s3").copy_object(
        Bucket="states", Key="prod/permanent.tfstate", CopySource="states/dev/permanent.tfstate"
    )
    prod = replace(applied.roots["platform"], variables=("-var-file=prod.tfvars",))
    planned = terraform.planned(prod.given("image_tag=v1", "state_bucket=states").plan())
    databases = {name: planned[f"module.{name}.aws_db_instance.this"] for name in ("storage", "warehouse[0]")}
    assert all(database["deletion_protection"] for database in databases.values())
    assert databases["warehouse[0]"]["multi_az"]
    assert len([address for address in planned if "aws_vpc_endpoint.interface" in address]) == 8
    assert planned["module.services.aws_ecs_cluster.this"]["name"] == "totesys-etl-prod"
