"""What Terraform creates from `deploy/terraform`, read from AWS; and planted mistakes, which the checks must find."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from etl_assets.adapters.metrics import ROWS_LOADED, SECONDS_FROM_CAPTURE_TO_LOAD
from etl_assets.adapters.settings import Variable
from etl_assets_tests.deploy import iam, terraform
from etl_assets_tests.deploy.calls import Call
from etl_assets_tests.deploy.cloudwatch import alarms, counted, messages, metric_filters
from etl_assets_tests.deploy.conftest import (
    ACCOUNT,
    LOGS,
    NAME,
    PARTS,
    REGION,
    REPOSITORY,
    RUNS,
    SERVICES,
    STAGES,
    STATES,
    Applied,
    as_github,
)
from etl_assets_tests.deploy.terraform import TerraformError
from etl_assets_tests.harness import ROOT

pytestmark = pytest.mark.deploy

TOOLS = ("shell", "tunnel")
"""What people start, to get in."""

TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:{NAME}-alerts"

FARGATE = {
    256: (512, 1024, 2048),
    512: range(1024, 4097, 1024),
    1024: range(2048, 8193, 1024),
    2048: range(4096, 16385, 1024),
    4096: range(8192, 30721, 1024),
}
"""The sizes of tasks: MB of memory by CPU units (Amazon ECS developer guide, “Task CPU and memory”)."""

WORKFLOWS = ROOT / ".github" / "workflows"
GITHUB_ROLES = {workflow: f"totesys-etl-github-{workflow}" for workflow in ("plan", "deploy")}
TOKEN_ISSUER = "token.actions.githubusercontent.com"

NOT_IN_MOTO = {
    "aws_vpc_security_group_egress_rule": {"description"},
    "aws_vpc_security_group_ingress_rule": {"description"},
    "aws_ecs_service": {"availability_zone_rebalancing"},
    "aws_db_parameter_group": {"parameter"},
}
"""Attributes that moto does not store, by type of resource."""


def task_definitions(parts: Iterable[str] = PARTS) -> dict[str, dict[str, Any]]:
    """Return the task definitions by part."""
    ecs = boto3.client("ecs")
    return {part: ecs.describe_task_definition(taskDefinition=f"{NAME}-{part}")["taskDefinition"] for part in parts}


def prefixed(*names: str) -> set[str]:
    return {f"{NAME}-{name}" for name in names}


def bucket_statements(stage: str) -> dict[str, dict[str, Any]]:
    """Return the statements of the policy of a bucket, by Sid."""
    policy = json.loads(boto3.client("s3").get_bucket_policy(Bucket=f"{NAME}-{stage}-{ACCOUNT}")["Policy"])
    return {statement["Sid"]: statement for statement in policy["Statement"]}


def buckets_are_private_and_never_delete_objects(applied: Applied) -> None:
    s3 = boto3.client("s3")
    for stage in ("ingestion", "transformation"):
        bucket = f"{NAME}-{stage}-{ACCOUNT}"
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        assert all(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values())
        [encrypted] = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert encrypted["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
        rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        [transitions] = [rule["Transitions"] for rule in rules if "Transitions" in rule]
        assert {(each["Days"], each["StorageClass"]) for each in transitions} == {
            (60, "STANDARD_IA"),
            (180, "GLACIER_IR"),
        }
        assert not any("Expiration" in rule or "NoncurrentVersionExpiration" in rule for rule in rules)


def buckets_refuse_plain_http_and_overwriting(applied: Applied) -> None:
    for stage in ("ingestion", "transformation"):
        statements = bucket_statements(stage)
        assert statements["TlsOnly"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert statements["WriteOnce"]["Action"] == "s3:PutObject"
        assert statements["WriteOnce"]["Condition"] == {
            "Null": {"s3:if-none-match": "true"},
            "Bool": {"s3:ObjectCreationOperation": "true"},
        }
        for statement in statements.values():
            assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")


def only_pickles_can_be_overwritten(applied: Applied) -> None:
    scopes = {
        stage: {key: value for key, value in bucket_statements(stage)["WriteOnce"].items() if key.endswith("Resource")}
        for stage in ("ingestion", "transformation")
    }
    assert scopes == {
        "ingestion": {"Resource": f"arn:aws:s3:::{NAME}-ingestion-{ACCOUNT}/*"},
        "transformation": {"NotResource": f"arn:aws:s3:::{NAME}-transformation-{ACCOUNT}/pickles/*"},
    }


def alerts_have_a_recipient(applied: Applied) -> None:
    subscriptions = boto3.client("sns").list_subscriptions_by_topic(TopicArn=TOPIC)["Subscriptions"]
    addresses = [each["Endpoint"] for each in subscriptions if each["Protocol"] == "email"]
    assert addresses == ["data-engineering-dev@example.com"]


def a_failed_deployment_of_a_service_is_reported(applied: Applied) -> None:
    events = boto3.client("events")
    rule = events.describe_rule(Name=f"{NAME}-failed-deployment")
    assert rule["State"] == "ENABLED"
    assert json.loads(rule["EventPattern"]) == {
        "source": ["aws.ecs"],
        "detail-type": ["ECS Deployment State Change"],
        "resources": [{"prefix": f"arn:aws:ecs:{REGION}:{ACCOUNT}:service/{NAME}/"}],
        "detail": {"eventName": ["SERVICE_DEPLOYMENT_FAILED"]},
    }
    [target] = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Arn"] == TOPIC
    template = target["InputTransformer"]["InputTemplate"]
    assert set(re.findall(r"<(\w+)>", template)) == target["InputTransformer"]["InputPathsMap"].keys()
    assert json.loads(re.sub(r"<\w+>", "…", template)), "a JSON text"


def aws_may_publish_alerts_of_this_account(applied: Applied) -> None:
    attributes = boto3.client("sns").get_topic_attributes(TopicArn=TOPIC)["Attributes"]
    statements = {statement["Sid"]: statement for statement in json.loads(attributes["Policy"])["Statement"]}
    allowed = {
        statement["Principal"]["Service"]: statement.get("Condition")
        for statement in statements.values()
        if statement["Effect"] == "Allow"
    }
    assert allowed == {
        "cloudwatch.amazonaws.com": {"StringEquals": {"aws:SourceAccount": ACCOUNT}},
        "events.amazonaws.com": None,  # EventBridge refuses conditions in policies of topics
    }


# The filters count real lines of every service in test_ecs.py.
def critical_lines_are_counted_unless_the_sensor_sent_them(applied: Applied) -> None:
    line = {"level": "CRITICAL", "logger": "dagster.daemon", "message": "…"}
    others = [line | {"level": "ERROR"}, line | {"logger": "etl_assets.alerts"}]
    for part in LOGS:
        assert counted("CriticalLines", f"/{NAME}/{part}", map(json.dumps, [line, *others])) == [line]


def failed_steps_are_counted_by_stage(applied: Applied) -> None:
    lines = [
        {"event": event, "stage": stage}
        for event in ("STEP_FAILURE", "STEP_UP_FOR_RETRY")
        for stage in (*STAGES, "reports", "of_a_user")
    ]
    for line in lines[:4]:
        metric = f"Failed{line['stage'].title()}Steps"
        assert counted(metric, f"/{NAME}/run", map(json.dumps, lines)) == [line]


def deliveries_of_alerts_are_counted(applied: Applied) -> None:
    line = {"event": "ALERTS_DELIVERED", "logger": "etl_assets.alerts"}
    lines = map(json.dumps, [line, {"logger": "etl_assets.alerts"}])
    assert counted("DeliveredAlerts", f"/{NAME}/code-server", lines) == [line]


def alarms_are_on_existing_metrics_and_notify_the_topic(applied: Applied) -> None:
    counted = {
        (transformation["metricNamespace"], transformation["metricName"])
        for metric_filter in metric_filters()
        for transformation in metric_filter["metricTransformations"]
    }
    existing = counted | {
        (NAME, ROWS_LOADED),
        (NAME, SECONDS_FROM_CAPTURE_TO_LOAD),
        ("ECS/ContainerInsights", "RunningTaskCount"),
        *(
            ("AWS/ApplicationELB", name)
            for name in ("HealthyHostCount", "HTTPCode_ELB_5XX_Count", "HTTPCode_Target_5XX_Count")
        ),
        *(
            ("AWS/RDS", name)
            for name in (
                "CPUCreditBalance",
                "CPUUtilization",
                "DatabaseConnections",
                "FreeStorageSpace",
                "FreeableMemory",
            )
        ),
    }
    metric_alarms, composite_alarms = alarms("MetricAlarm"), alarms("CompositeAlarm")
    assert {f"{name}-signal" for name in composite_alarms} <= metric_alarms.keys()
    assert {(alarm["Namespace"], alarm["MetricName"]) for alarm in metric_alarms.values()} == existing
    for name, alarm in (metric_alarms | composite_alarms).items():
        topics = [] if name.endswith("-signal") else [TOPIC]
        assert (alarm["AlarmActions"], alarm["OKActions"]) == (topics, topics)
    silent = {name for name, alarm in (metric_alarms | composite_alarms).items() if not alarm["ActionsEnabled"]}
    assert silent == prefixed("no-loads"), "automation is off"


def the_dashboard_shows_every_alarm_that_speaks_and_existing_metrics(applied: Applied) -> None:
    body = json.loads(boto3.client("cloudwatch").get_dashboard(DashboardName=NAME)["DashboardBody"])
    shown, *graphs = (widget["properties"] for widget in body["widgets"])
    named = alarms("MetricAlarm") | alarms("CompositeAlarm")
    assert {arn.rpartition(":")[2] for arn in shown["alarms"]} == {
        name for name in named if not name.endswith("-signal")
    }
    metrics = {(alarm["Namespace"], alarm["MetricName"]) for alarm in alarms("MetricAlarm").values()}
    metrics |= {("AWS/ApplicationELB", "RequestCount")}
    assert {tuple(metric[:2]) for graph in graphs for metric in graph["metrics"]} <= metrics


def missing_data_raises_alarms(applied: Applied) -> None:
    signals = (f"{name}-signal" for name in ("alerts-silent", "no-loads", "unhealthy-webserver"))
    metric_alarms = alarms("MetricAlarm")
    breaching = {name for name, alarm in metric_alarms.items() if alarm["TreatMissingData"] == "breaching"}
    assert breaching == prefixed(*signals, *(f"no-{service}" for service in SERVICES))
    for name in breaching:
        alarm = metric_alarms[name]
        assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert metric_alarms[f"{NAME}-no-loads-signal"]["MetricName"] == ROWS_LOADED
    daemon = metric_alarms[f"{NAME}-no-daemon"]["Dimensions"]
    assert {each["Name"]: each["Value"] for each in daemon} == {"ClusterName": NAME, "ServiceName": "daemon"}


def alarms_are_quiet_while_the_sensor_delivers_alerts(applied: Applied) -> None:
    reported = ("no-loads", "late-loads", *(f"failed-{stage}" for stage in (*STAGES, "reports")))
    for name in reported:
        assert messages(prefixed(f"{name}-signal")) == set()
        assert messages(prefixed(f"{name}-signal", "alerts-silent-signal")) == prefixed(name, "alerts-silent")


def one_cause_sends_one_message(applied: Applied) -> None:
    consequences = {
        "no-daemon": "alerts-silent",
        "no-code-server": "alerts-silent",
        "no-webserver": "unhealthy-webserver",
    }
    for cause, consequence in consequences.items():
        assert messages(prefixed(cause, f"{consequence}-signal")) == prefixed(cause)
        assert messages(prefixed(f"{consequence}-signal")) == prefixed(consequence)
    for consequence in ("errors-of-balancer", "errors-of-webserver"):
        assert messages(prefixed("unhealthy-webserver-signal", f"{consequence}-signal")) == prefixed(
            "unhealthy-webserver"
        )
        assert messages(prefixed(f"{consequence}-signal")) == prefixed(consequence)
    for name in ("critical", f"storage-of-{NAME}-dagster"):
        assert messages(prefixed(name, "alerts-silent-signal")) == prefixed(name, "alerts-silent")


def silence_is_noticed_after_its_cause_and_before_failures_are_forgotten(applied: Applied) -> None:
    def minutes(name: str, count: str) -> float:
        alarm = alarms("MetricAlarm")[f"{NAME}-{name}"]
        return float(alarm[count] * alarm["Period"] / 60)

    silence = minutes("alerts-silent-signal", "DatapointsToAlarm")
    for service in ("daemon", "code-server"):
        absence, window = (minutes(f"no-{service}", count) for count in ("DatapointsToAlarm", "EvaluationPeriods"))
        assert absence < silence
        assert window - absence >= 5, "the sensor is back before the alarm on the service ends"
    for stage in (*STAGES, "reports"):
        failure = f"failed-{stage}-signal"
        assert minutes(failure, "DatapointsToAlarm") == 5
        assert minutes(failure, "EvaluationPeriods") >= silence + 10, "CloudWatch may be some minutes late"


def container_definitions_are_valid(applied: Applied) -> None:
    """The provider ignores misspelt keys, for example of the command."""
    groups = {group["logGroupName"] for group in boto3.client("logs").describe_log_groups()["logGroups"]}
    for part, definition in task_definitions().items():
        [container] = definition["containerDefinitions"]
        assert int(definition["memory"]) in FARGATE[int(definition["cpu"])]
        assert (container["cpu"], container["memory"]) == (int(definition["cpu"]), int(definition["memory"]))
        assert container["name"] == ("run" if part in RUNS else part)
        assert container["entryPoint"] == ["python", "-m", "etl_assets.adapters.json_lines"]
        assert container["command"]
        variables = {variable["name"]: variable["value"] for variable in container["environment"]}
        assert variables["DAGSTER_HOME"] == "/opt/dagster/ecs-few", "as dev.tfvars says"
        assert container["image"] == f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{NAME}:v1"
        assert (container["readonlyRootFilesystem"], container["user"]) == (True, "1000:1000")
        assert [mount["containerPath"] for mount in container["mountPoints"]] == ["/tmp"]
        options = container["logConfiguration"]["options"]
        assert options["awslogs-group"] in groups
        assert (options["mode"], options["max-buffer-size"]) == ("non-blocking", "25m"), (
            "the default depends on the account"
        )
        assert ("healthCheck" in container) == (part in SERVICES)
        assert container["stopTimeout"] == 120


def secrets_are_given_to_the_parts_that_need_them(applied: Applied) -> None:
    dagster = {"DAGSTER_POSTGRES_PASSWORD"}
    all_databases = {*dagster, Variable.TOTESYS_DATABASE_URL, Variable.WAREHOUSE_DATABASE_URL}
    expected = {
        "code-server": all_databases,  # its sensors query totesys and the warehouse
        "daemon": dagster,
        "webserver": dagster,
        "run": all_databases,
        "run-ingestion": {*dagster, Variable.TOTESYS_DATABASE_URL},
        "run-transformation": dagster,
        "run-warehouse": {*dagster, Variable.WAREHOUSE_DATABASE_URL},
    }
    existing = {secret["ARN"] for secret in boto3.client("secretsmanager").list_secrets()["SecretList"]}
    for part, definition in task_definitions().items():
        [container] = definition["containerDefinitions"]
        assert {secret["name"] for secret in container["secrets"]} == expected[part]
        assert {secret["valueFrom"] for secret in container["secrets"]} <= existing
        plain = {variable["name"] for variable in container["environment"]}
        assert not plain & all_databases
        assert plain >= {Variable.INGESTION_URL, Variable.TRANSFORMATION_URL, Variable.ALERTS_TOPIC_ARN}


def runs_of_a_stage_cannot_connect_to_the_database_of_another(applied: Applied) -> None:
    """Neither is its URL in the environment, nor may ECS read it for the task."""
    own = {"run-ingestion": {"totesys"}, "run-transformation": set(), "run-warehouse": {"warehouse"}}
    for part, databases in own.items():
        [container] = task_definitions()[part]["containerDefinitions"]
        given = {secret["valueFrom"] for secret in container["secrets"]}
        permissions = iam.permissions(f"{NAME}-{part}-start")
        [readable] = [each.resources for each in permissions if each.action == "secretsmanager:GetSecretValue"]
        assert set(readable) == given
        urls = [re.search(rf":{NAME}/(\w+)-database-url", arn) for arn in given]
        assert {url[1] for url in urls if url} == databases


def runs_of_a_stage_cannot_write_the_files_of_another(applied: Applied) -> None:
    buckets = {stage: f"arn:aws:s3:::{NAME}-{stage}-{ACCOUNT}" for stage in ("ingestion", "transformation")}
    allowed = {
        "run-ingestion": {"GetObject": {"ingestion"}, "PutObject": {"ingestion"}},
        "run-transformation": {"GetObject": {"ingestion", "transformation"}, "PutObject": {"transformation"}},
        "run-warehouse": {"GetObject": {"ingestion", "transformation"}, "PutObject": set()},
    }
    for part, stages_by_action in allowed.items():
        for action, stages in stages_by_action.items():
            calls = {Call(part, f"s3:{action}", f"{bucket}/object"): stage for stage, bucket in buckets.items()}
            denied = iam.denied_calls(f"{NAME}-{part}", calls)
            assert {stage for call, stage in calls.items() if call not in denied} == stages, (part, action)


def tools_can_be_entered_and_end_by_themselves(applied: Applied) -> None:
    for part, definition in task_definitions(TOOLS).items():
        [container] = definition["containerDefinitions"]
        assert (container.get("entryPoint", []), container["command"]) == ([], ["sleep", "14400"])
        assert container["readonlyRootFilesystem"] is False, "ECS Exec needs a writable one"
        assert container["linuxParameters"]["initProcessEnabled"]
        actions = {permission.action for permission in iam.permissions(f"{NAME}-{part}")}
        assert {action for action in actions if action.startswith("ssmmessages:")} == {
            f"ssmmessages:{verb}{channel}Channel" for verb in ("Create", "Open") for channel in ("Control", "Data")
        }


def the_tunnel_knows_no_secret_and_reads_nothing(applied: Applied) -> None:
    [container] = task_definitions(["tunnel"])["tunnel"]["containerDefinitions"]
    assert container.get("secrets", []) == []
    assert {permission.action.split(":")[0] for permission in iam.permissions(f"{NAME}-tunnel")} == {"ssmmessages"}
    starts = {permission.action for permission in iam.permissions(f"{NAME}-tunnel-start")}
    assert "secretsmanager:GetSecretValue" not in starts


def the_shell_may_what_a_run_may(applied: Applied) -> None:
    run, shell = ({*iam.permissions(f"{NAME}-{part}")} for part in ("run", "shell"))
    assert run < shell
    assert {permission.sid for permission in shell - run} == {"OpenSessions"}


def roles_trust_tasks_only_and_have_no_wildcards(applied: Applied) -> None:
    for part in (*PARTS, *TOOLS):
        for role in (f"{NAME}-{part}", f"{NAME}-{part}-start"):
            definition = boto3.client("iam").get_role(RoleName=role)["Role"]
            [trust] = definition["AssumeRolePolicyDocument"]["Statement"]
            assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
            assert (
                definition["PermissionsBoundary"]["PermissionsBoundaryArn"]
                == f"arn:aws:iam::{ACCOUNT}:policy/{NAME}-boundary"
            )
            for permission in iam.permissions(role):
                assert "*" not in permission.action
                assert (
                    "*" not in permission.resources
                    or permission.action.startswith("ssmmessages:")
                    or permission.action
                    in {
                        "ecs:DescribeTaskDefinition",
                        "ec2:DescribeNetworkInterfaces",
                        "cloudwatch:PutMetricData",
                        "ecr:GetAuthorizationToken",
                    }
                ), "actions without resources"


def trust_conditions(workflow: str) -> dict[str, str]:
    """Return the conditions on tokens of GitHub under which a workflow can assume its role."""
    [trust] = boto3.client("iam").get_role(RoleName=GITHUB_ROLES[workflow])["Role"]["AssumeRolePolicyDocument"][
        "Statement"
    ]
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{TOKEN_ISSUER}"
    assert (trust["Action"], trust["Principal"]) == ("sts:AssumeRoleWithWebIdentity", {"Federated": provider})
    assert trust["Condition"].keys() == {"StringEquals"}
    return dict(trust["Condition"]["StringEquals"])


def only_two_jobs_of_the_repository_are_trusted(applied: Applied) -> None:
    deploy = yaml.safe_load((WORKFLOWS / "deploy.yml").read_text())["jobs"]["deploy"]
    subjects = {"plan": "pull_request", "deploy": f"environment:{deploy['environment']}"}
    for workflow, subject in subjects.items():
        assert trust_conditions(workflow)[f"{TOKEN_ISSUER}:sub"] == f"repo:{REPOSITORY}:{subject}"


def only_tokens_for_aws_are_trusted(applied: Applied) -> None:
    for workflow in GITHUB_ROLES:
        assert trust_conditions(workflow)[f"{TOKEN_ISSUER}:aud"] == "sts.amazonaws.com"


def a_pull_request_reads_only_states(applied: Applied) -> None:
    permissions = iam.permissions(GITHUB_ROLES["plan"])
    assert {(permission.action, *permission.resources) for permission in permissions if not permission.denies} == {
        ("s3:ListBucket", f"arn:aws:s3:::{STATES}"),
        ("s3:GetObject", f"arn:aws:s3:::{STATES}/dev/*.tfstate"),
        ("ecr:DescribeImages", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{NAME}"),
        # which is in the state too
        (
            "secretsmanager:GetSecretValue",
            f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{NAME}/login-client-secret-*",
        ),
        ("ec2:DescribeAvailabilityZones", "*"),
        ("secretsmanager:GetRandomPassword", "*"),
    }
    assert {permission.action for permission in permissions if permission.denies} == {"s3:*"}


def a_deployment_changes_no_security_group_but_its_own(applied: Applied) -> None:
    """Nor can it make another one its own, by tags."""
    group = f"arn:aws:ec2:{REGION}:{ACCOUNT}:security-group/sg-1"
    actions = ("AuthorizeSecurityGroupIngress", "RevokeSecurityGroupEgress", "ModifySecurityGroupRules", "CreateTags")
    own = {"application": "totesys-etl", "environment": "dev"}
    for tags in (own, own | {"environment": "prod"}, own | {"application": "another"}, {}):
        context = frozenset((f"aws:ResourceTag/{key}", value) for key, value in tags.items())
        calls = {Call("deploy", f"ec2:{action}", group, context) for action in actions}
        assert iam.denied_calls(GITHUB_ROLES["deploy"], calls) == (set() if tags == own else calls), tags


def a_deployment_lets_nobody_use_a_role_of_a_part(applied: Applied) -> None:
    """It neither creates roles, which name whom they trust, nor changes whom they trust, nor assumes them."""
    boundary = frozenset({("iam:PermissionsBoundary", f"arn:aws:iam::{ACCOUNT}:policy/{NAME}-boundary")})
    actions = ("iam:CreateRole", "iam:UpdateAssumeRolePolicy", "iam:DeleteRole", "sts:AssumeRole")
    calls = {
        Call("deploy", action, f"arn:aws:iam::{ACCOUNT}:role/{NAME}-{part}", context)
        for action in actions
        for part in (*PARTS, *TOOLS, "run-own")
        for context in (boundary, frozenset[tuple[str, str]]())
    }
    assert iam.denied_calls(GITHUB_ROLES["deploy"], calls) == calls


def a_deployment_cannot_exceed_its_permissions(applied: Applied) -> None:
    role = f"arn:aws:iam::{ACCOUNT}:role"
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret"
    bucket = f"arn:aws:s3:::{NAME}-ingestion-{ACCOUNT}"
    to_tasks = frozenset({("iam:PassedToService", "ecs-tasks.amazonaws.com")})
    calls = {
        Call("deploy", action, resource, context)
        for action, resource, context in (
            ("iam:PutRolePolicy", f"{role}/{NAME}-run", frozenset()),  # without its boundary
            ("iam:DeleteRolePermissionsBoundary", f"{role}/{NAME}-run", frozenset()),
            ("iam:PassRole", f"{role}/another", to_tasks),
            ("iam:PassRole", f"{role}/{NAME}-run", frozenset({("iam:PassedToService", "lambda.amazonaws.com")})),
            *(
                (f"iam:{action}", f"{role}/{name}", frozenset[tuple[str, str]]())
                for action in ("PutRolePolicy", "UpdateAssumeRolePolicy", "DeleteRole", "AttachRolePolicy")
                for name in (*GITHUB_ROLES.values(), "another", f"{NAME}-another")
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
            # of which it can tag any
            (
                "servicediscovery:DeleteService",
                f"arn:aws:servicediscovery:{REGION}:{ACCOUNT}:service/srv-1",
                frozenset({("aws:ResourceTag/application", "totesys-etl"), ("aws:ResourceTag/environment", "dev")}),
            ),
        )
    }
    assert calls - iam.denied_calls(GITHUB_ROLES["deploy"], calls) == set()
    policy = boto3.client("iam").get_role_policy(RoleName=GITHUB_ROLES["deploy"], PolicyName="deploy")["PolicyDocument"]
    assert len(json.dumps(policy, separators=(",", ":"))) <= 10_240, "the limit of AWS, which moto does not check"


def there_is_never_a_second_daemon(applied: Applied) -> None:
    # read from the state, because moto does not return these attributes
    services = {
        resource["name"]: resource
        for address, resource in applied.roots["platform"].state().items()
        if ".aws_ecs_service." in address
    }
    assert services.keys() == {*SERVICES}
    for name, service in services.items():
        limits = (service["deployment_minimum_healthy_percent"], service["deployment_maximum_percent"])
        assert limits == ((0, 100) if name == "daemon" else (100, 200))
        assert service["deployment_circuit_breaker"] == [{"enable": True, "rollback": True}]


def the_ui_is_not_reachable_from_the_internet(applied: Applied) -> None:
    ec2 = boto3.client("ec2")
    rules = ec2.describe_security_group_rules()["SecurityGroupRules"]
    assert [rule for rule in rules if not rule["IsEgress"] and rule.get("CidrIpv4") == "0.0.0.0/0"] == []
    [balancer] = boto3.client("elbv2").describe_load_balancers()["LoadBalancers"]
    listeners = boto3.client("elbv2").describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    actions = {(each["Protocol"], each["Port"]): each["DefaultActions"] for each in listeners}
    assert actions.keys() == {("HTTP", 80), ("HTTPS", 443)}
    [redirect] = actions["HTTP", 80]
    assert redirect["Type"] == "redirect"
    assert (redirect["RedirectConfig"]["Protocol"], redirect["RedirectConfig"]["Port"]) == ("HTTPS", "443")


def databases_are_private(applied: Applied) -> None:
    [storage] = boto3.client("rds").describe_db_instances()["DBInstances"]
    assert (storage["PubliclyAccessible"], storage["StorageEncrypted"]) == (False, True)
    assert storage["BackupRetentionPeriod"] == 7
    parameters = boto3.client("rds").describe_db_parameters(
        DBParameterGroupName=storage["DBParameterGroups"][0]["DBParameterGroupName"]
    )["Parameters"]
    assert ("rds.force_ssl", "1") in {(each["ParameterName"], each["ParameterValue"]) for each in parameters}


def logs_of_databases_are_not_kept_for_ever(applied: Applied) -> None:
    groups = boto3.client("logs").describe_log_groups(logGroupNamePrefix="/aws/rds/instance/")["logGroups"]
    assert {group["logGroupName"]: group["retentionInDays"] for group in groups} == {
        f"/aws/rds/instance/{NAME}-dagster/{log}": 90 for log in ("postgresql", "upgrade")
    }


def only_availability_zones_are_used(applied: Applied) -> None:
    """Local Zones have neither RDS nor NAT gateways."""
    zones = applied.roots["platform"].state()["module.network.data.aws_availability_zones.this[0]"]
    assert [(each["name"], each["values"]) for each in zones["filter"]] == [("zone-type", ["availability-zone"])]


CHECKS = (
    buckets_are_private_and_never_delete_objects,
    buckets_refuse_plain_http_and_overwriting,
    only_pickles_can_be_overwritten,
    alerts_have_a_recipient,
    a_failed_deployment_of_a_service_is_reported,
    aws_may_publish_alerts_of_this_account,
    critical_lines_are_counted_unless_the_sensor_sent_them,
    failed_steps_are_counted_by_stage,
    deliveries_of_alerts_are_counted,
    alarms_are_on_existing_metrics_and_notify_the_topic,
    the_dashboard_shows_every_alarm_that_speaks_and_existing_metrics,
    missing_data_raises_alarms,
    alarms_are_quiet_while_the_sensor_delivers_alerts,
    one_cause_sends_one_message,
    silence_is_noticed_after_its_cause_and_before_failures_are_forgotten,
    container_definitions_are_valid,
    secrets_are_given_to_the_parts_that_need_them,
    runs_of_a_stage_cannot_connect_to_the_database_of_another,
    runs_of_a_stage_cannot_write_the_files_of_another,
    tools_can_be_entered_and_end_by_themselves,
    the_tunnel_knows_no_secret_and_reads_nothing,
    the_shell_may_what_a_run_may,
    roles_trust_tasks_only_and_have_no_wildcards,
    only_two_jobs_of_the_repository_are_trusted,
    only_tokens_for_aws_are_trusted,
    a_pull_request_reads_only_states,
    a_deployment_cannot_exceed_its_permissions,
    a_deployment_changes_no_security_group_but_its_own,
    a_deployment_lets_nobody_use_a_role_of_a_part,
    there_is_never_a_second_daemon,
    the_ui_is_not_reachable_from_the_internet,
    databases_are_private,
    logs_of_databases_are_not_kept_for_ever,
    only_availability_zones_are_used,
)

MISTAKES: dict[str, tuple[str, str, str, Callable[[Applied], None]]] = {
    "a bucket that allows public policies": (
        "modules/private_bucket/main.tf",
        "block_public_policy     = true",
        "block_public_policy     = false",
        buckets_are_private_and_never_delete_objects,
    ),
    "objects that can be overwritten": (
        "modules/private_bucket/main.tf",
        '"s3:if-none-match"',
        '"s3:if-match"',
        buckets_refuse_plain_http_and_overwriting,
    ),
    "a whole bucket whose objects can be overwritten": (
        "modules/private_bucket/main.tf",
        "${var.overwritable}/*",
        "*",
        only_pickles_can_be_overwritten,
    ),
    "a misspelt event": (
        "modules/alerting/deployments.tf",
        '["SERVICE_DEPLOYMENT_FAILED"]',
        '["SERVICE_DEPLOYMENT_FAILURE"]',
        a_failed_deployment_of_a_service_is_reported,
    ),
    "a topic that refuses events": (
        "permanent/alerts.tf",
        '"events.amazonaws.com"',
        '"event.amazonaws.com"',
        aws_may_publish_alerts_of_this_account,
    ),
    "a misspelt field in a filter pattern": (
        "modules/alerting/main.tf",
        "$.level =",
        "$.levl =",
        critical_lines_are_counted_unless_the_sensor_sent_them,
    ),
    "a misspelt field in the filter pattern of a stage": (
        "modules/alerting/main.tf",
        "$.stage =",
        "$.step =",
        failed_steps_are_counted_by_stage,
    ),
    "deliveries counted in the log of another part": (
        "modules/alerting/main.tf",
        'metric = "DeliveredAlerts", part = "code-server"',
        'metric = "DeliveredAlerts", part = "daemon"',
        deliveries_of_alerts_are_counted,
    ),
    "an alarm on a metric that does not exist": (
        "modules/alerting/main.tf",
        '"SecondsFromCaptureToLoad"',
        '"SecondsToLoad"',
        alarms_are_on_existing_metrics_and_notify_the_topic,
    ),
    "a dead-man's switch that ignores missing data": (
        "modules/alerting/main.tf",
        'missing     = "breaching"\n        with ',
        'missing     = "notBreaching"\n        with ',
        missing_data_raises_alarms,
    ),
    "an alarm that speaks beside the sensor": (
        "modules/alerting/main.tf",
        '\n      with        = ["alerts-silent"]',
        '\n      without     = ["no-daemon"]',
        alarms_are_quiet_while_the_sensor_delivers_alerts,
    ),
    "an alarm that speaks beside that of its cause": (
        "modules/alerting/main.tf",
        '[local.absence["daemon"], local.absence["code-server"]]',
        '[local.absence["daemon"]]',
        one_cause_sends_one_message,
    ),
    "failures forgotten before silence is noticed": (
        "modules/alerting/main.tf",
        "periods     = 6",
        "periods     = 1",
        silence_is_noticed_after_its_cause_and_before_failures_are_forgotten,
    ),
    "a misspelt key of a container definition": (
        "modules/services/tasks.tf",
        "command      = is.command",
        "comand       = is.command",
        container_definitions_are_valid,
    ),
    "a misspelt name of a secret": (
        "modules/services/parts.tf",
        "DAGSTER_POSTGRES_PASSWORD = var.storage.password_secret_arn",
        "DAGSTER_POSTGRES_PASWORD = var.storage.password_secret_arn",
        secrets_are_given_to_the_parts_that_need_them,
    ),
    "a stage with the secret of another": (
        "modules/services/parts.tf",
        'run-ingestion      = { databases = ["totesys"]',
        'run-ingestion      = { databases = ["totesys", "warehouse"]',
        runs_of_a_stage_cannot_connect_to_the_database_of_another,
    ),
    "a stage that writes the files of another": (
        "modules/services/parts.tf",
        'databases = ["warehouse"], reads = ["ingestion", "transformation"], writes = []',
        'databases = ["warehouse"], reads = ["ingestion"], writes = ["transformation"]',
        runs_of_a_stage_cannot_write_the_files_of_another,
    ),
    "a tool that cannot be entered": (
        "modules/services/tasks.tf",
        "readonlyRootFilesystem = false",
        "readonlyRootFilesystem = true",
        tools_can_be_entered_and_end_by_themselves,
    ),
    "a tunnel that knows secrets": (
        "modules/services/parts.tf",
        "databases = [], secrets = {}",
        'databases = ["warehouse"], secrets = {}',
        the_tunnel_knows_no_secret_and_reads_nothing,
    ),
    "a role for another service": (
        "permanent/roles.tf",
        '"ecs-tasks.amazonaws.com"',
        '"ecs.amazonaws.com"',
        roles_trust_tasks_only_and_have_no_wildcards,
    ),
    "a role for every job of the repository": (
        "modules/github/main.tf",
        "${var.repository}:${each.value}",
        "${var.repository}:*",
        only_two_jobs_of_the_repository_are_trusted,
    ),
    "a role for tokens of any audience": ("modules/github/main.tf", ':aud"', ':azp"', only_tokens_for_aws_are_trusted),
    "a pull request that reads every state": (
        "modules/github/permissions.tf",
        '["plan"]}/*.tfstate',
        '["plan"]}*',
        a_pull_request_reads_only_states,
    ),
    "a deployment that can pass any role": (
        "modules/github/permissions.tf",
        'actions = ["iam:PassRole"], resources = local.roles',
        'actions = ["iam:PassRole"], resources = ["*"]',
        a_deployment_cannot_exceed_its_permissions,
    ),
    "a deployment that changes what is of another environment": (
        "modules/github/permissions.tf",
        '"aws:ResourceTag/environment" = [var.environments.deploy]',
        '"aws:ResourceTag/environment" = ["dev", "prod"]',
        a_deployment_changes_no_security_group_but_its_own,
    ),
    "a deployment that changes whom a role trusts": (
        "modules/github/permissions.tf",
        '"iam:DeleteRolePolicy", ',
        '"iam:DeleteRolePolicy", "iam:UpdateAssumeRolePolicy", ',
        a_deployment_lets_nobody_use_a_role_of_a_part,
    ),
    "two daemons during a deployment": (
        "modules/services/tasks.tf",
        '"daemon" ? 100 : 200',
        '"daemon" ? 200 : 200',
        there_is_never_a_second_daemon,
    ),
    "logs of a database that are kept too long": (
        "modules/database/main.tf",
        "retention_in_days = var.log_retention_days",
        "retention_in_days = 3653",
        logs_of_databases_are_not_kept_for_ever,
    ),
    "a zone without databases": (
        "modules/network/main.tf",
        'values = ["availability-zone"]',
        'values = ["availability-zone", "local-zone"]',
        only_availability_zones_are_used,
    ),
}
"""By mistake: the file, the text, what replaces it, and the check that must find it."""


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_applied_configuration_passes_each_check(applied: Applied, check: Callable[[Applied], None]) -> None:
    check(applied)


@pytest.fixture(scope="module")
def failed_checks(applied: Applied) -> Iterator[set[Callable[[Applied], None]]]:
    """The checks that fail with all mistakes applied. Then the correct configuration is applied again."""
    configuration = applied.roots["platform"].folder.parent
    correct = {path: (configuration / path).read_text() for path, *_ in MISTAKES.values()}

    def apply() -> None:
        for each in metric_filters():  # moto keeps the old filter when one is changed
            boto3.client("logs").delete_metric_filter(logGroupName=each["logGroupName"], filterName=each["filterName"])
        applied.roots["state"].apply()
        applied.roots["permanent"].apply()
        as_github(applied.roots["platform"], "deploy").apply()

    for path, original, mistake, _ in MISTAKES.values():
        text = (configuration / path).read_text()
        assert text.count(original) == 1, (path, original)
        (configuration / path).write_text(text.replace(original, mistake))
    apply()
    failed: set[Callable[[Applied], None]] = set()
    for check in CHECKS:
        try:
            check(applied)
        except (AssertionError, KeyError, ClientError):
            failed.add(check)
    for path, text in correct.items():
        (configuration / path).write_text(text)
    apply()
    yield failed


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(failed_checks: set[Callable[[Applied], None]], mistake: str) -> None:
    *_, check = MISTAKES[mistake]
    assert check in failed_checks


def test_mistakes_fail_no_unrelated_check(failed_checks: set[Callable[[Applied], None]]) -> None:
    assert alerts_have_a_recipient not in failed_checks
    assert databases_are_private not in failed_checks


@pytest.mark.parametrize("root", terraform.ROOTS)
def test_a_second_plan_is_empty(applied: Applied, root: str) -> None:
    changed = terraform.changes(applied.roots[root].plan(refresh=True))
    assert {
        address: names
        for address, names in changed.items()
        if not names <= next((names for kind, names in NOT_IN_MOTO.items() if f"{kind}." in address), set())
    } == {}


def test_the_role_of_deployments_allows_all_calls_of_terraform(applied: Applied, failed_checks: object) -> None:
    """The calls that create the platform, and those that change it: `failed_checks`."""
    assert denied_calls("deploy", applied) == set()


def test_the_role_of_pull_requests_allows_all_calls_of_terraform(applied: Applied) -> None:
    plan = re.search(r"terraform (plan .*) -no-color", (WORKFLOWS / "terraform-plan.yml").read_text())
    assert plan
    for root in ("permanent", "platform"):
        as_github(applied.roots[root], "plan").run(*plan[1].split(), *applied.roots[root].variables)
    assert denied_calls("plan", applied) == set()


def denied_calls(workflow: str, applied: Applied) -> set[Call]:
    """Return the calls of a workflow of GitHub that its role does not allow."""
    role = GITHUB_ROLES[workflow]
    calls = applied.recorder.calls_of(role)
    assert calls
    # the states are in another bucket here, without a policy: moto would refuse everything because of TlsOnly
    return iam.denied_calls(
        role, {replace(call, resource=call.resource.replace(":::states", f":::{STATES}")) for call in calls}
    )


@pytest.mark.parametrize("root", ["state", "permanent"])
def test_a_root_with_data_cannot_be_destroyed(applied: Applied, root: str) -> None:
    with pytest.raises(TerraformError, match="prevent_destroy"):
        applied.roots[root].destroy()


TOMORROW = datetime.now(UTC).date() + timedelta(days=1)


@pytest.mark.parametrize(
    ("root", "variable", "message"),
    [
        ("platform", 'allowed_cidrs=["0.0.0.0/0"]', "Dagster's UI has no login of its own"),
        ("platform", 'allowed_cidrs=["0.0.0.0/1","128.0.0.0/1"]', "Dagster's UI has no login of its own"),
        ("platform", "sizes={run={cpu=1024,memory=1024}}", "Fargate has no task of such a size"),
        ("platform", 'settings={ETL_CORN="* * * * *"}', "Settings are"),
        ("platform", f'settings={{PARTITIONS_START="{TOMORROW}"}}', "not in the future"),
        ("platform", 'settings={PARTITIONS_START="2026-11-31"}', "PARTITIONS_START must be a date"),
        ("platform", 'network={nat_gateway=false,interface_endpoints=["ecs"]}', "Without a NAT gateway"),
        ("platform", "balancer=null", "Without a balancer, allowed_cidrs and login let nobody in"),
        ("platform", "storage=null", "Without storage, Dagster's database is in the warehouse"),
        ("platform", 'network={routes={"10.1.0.0/16"="eni-1"}}', "Routes lead to"),
        ("platform", 'readers={cidrs=["0.0.0.0/0"]}', "The warehouse is for known readers"),
        ("platform", 'readers={cidrs=["::/0"]}', "The warehouse is for known readers"),
        ("permanent", "environment=development", "2 to 10"),
        ("permanent", "cooler_after_days=29", "before it is 30 days old"),
        ("permanent", f"copy_region={REGION}", "in another region"),
    ],
)
def test_an_invalid_value_is_refused(applied: Applied, root: str, variable: str, message: str) -> None:
    with pytest.raises(TerraformError, match=message):
        applied.roots[root].with_variables(variable).plan()


def test_partitions_may_start_today(applied: Applied) -> None:
    today = datetime.now(UTC).date()
    applied.roots["platform"].with_variables(f'settings={{PARTITIONS_START="{today}"}}').plan()


def test_a_recipient_of_alerts_can_be_replaced(applied: Applied) -> None:
    permanent = applied.roots["permanent"].with_variables('alert_emails=["another@example.com"]')
    assert terraform.changes(permanent.plan()) == {
        'aws_sns_topic_subscription.email["another@example.com"]': {"create"},
        'aws_sns_topic_subscription.email["data-engineering-dev@example.com"]': {"delete"},
    }


def test_the_warehouse_can_be_created_by_the_platform(applied: Applied) -> None:
    planned = terraform.planned(applied.roots["platform"].with_variables("warehouse={standby=true}").plan())
    instance = planned["module.warehouse[0].aws_db_instance.this"]
    assert (instance["multi_az"], instance["deletion_protection"], instance["db_name"]) == (True, True, "warehouse")
    assert instance["engine_lifecycle_support"] == "open-source-rds-extended-support-disabled"
    assert "password" not in {name for name, value in instance.items() if value}
    assert "module.warehouse[0].aws_secretsmanager_secret_version.url[0]" in planned
    assert f'module.alerting.aws_cloudwatch_metric_alarm.this["storage-of-{NAME}-warehouse"]' in planned


def test_services_and_runs_wait_for_the_url_of_a_warehouse_that_is_created(applied: Applied) -> None:
    dependencies = applied.roots["platform"].dependencies()
    for resource in ("aws_ecs_service.part", "aws_ecs_task_definition.part"):
        waits_for = dependencies[f"module.services.{resource}"]
        assert "module.warehouse.aws_secretsmanager_secret_version.url" in waits_for


def test_readers_and_the_tunnel_reach_a_warehouse_that_is_created_and_no_other_database(applied: Applied) -> None:
    readers = 'readers={security_group_ids=["sg-1"],cidrs=["10.1.0.0/16"]}'
    rules = {
        address.removeprefix("module.network.aws_vpc_security_group_ingress_rule."): rule
        for address, rule in terraform.planned(
            applied.roots["platform"].with_variables("warehouse={}", readers).plan()
        ).items()
        if "aws_vpc_security_group_ingress_rule" in address
    }
    assert rules['reader_cidr["10.1.0.0/16"]']["cidr_ipv4"] == "10.1.0.0/16"
    assert rules['reader_group["sg-1"]']["referenced_security_group_id"] == "sg-1"
    assert rules['connection["tunnel to warehouse"]']["from_port"] == 5432
    to_databases = {name for name in rules if name.endswith((' to database"]', ' to warehouse"]'))}
    assert to_databases == {
        *(f'connection["{part} to database"]' for part in SERVICES),
        *(f'connection["{part} to warehouse"]' for part in ("code-server", "daemon", "tunnel")),
    }


def test_nobody_can_be_let_in_to_a_warehouse_that_is_elsewhere(applied: Applied) -> None:
    planned = terraform.planned(applied.roots["platform"].with_variables('readers={cidrs=["10.1.0.0/16"]}').plan())
    assert not [address for address in planned if "reader" in address or "tunnel to" in address]


def test_a_private_source_can_be_reached_by_a_route(applied: Applied) -> None:
    network = 'network={routes={"10.1.0.0/16"="pcx-1","10.2.0.0/16"="tgw-1"}}'
    planned = terraform.planned(applied.roots["platform"].with_variables(network).plan())
    routes = {address: route for address, route in planned.items() if "aws_route.to_another_network" in address}
    assert {
        (route["destination_cidr_block"], route["vpc_peering_connection_id"], route["transit_gateway_id"])
        for route in routes.values()
    } == {("10.1.0.0/16", "pcx-1", None), ("10.2.0.0/16", None, "tgw-1")}


def test_the_alarm_on_missing_loads_speaks_while_automation_is_on(applied: Applied) -> None:
    planned = terraform.planned(applied.roots["platform"].with_variables('settings={AUTOMATION="on"}').plan())
    alarm = planned['module.alerting.aws_cloudwatch_composite_alarm.this["no-loads"]']
    assert alarm["actions_enabled"]


def test_the_buckets_can_be_copied_to_another_region(applied: Applied) -> None:
    planned = terraform.planned(applied.roots["permanent"].with_variables("copy_region=eu-west-1").plan())
    for stage in ("ingestion", "transformation"):
        assert planned[f'aws_s3_bucket.copy["{stage}"]']["bucket"] == f"{NAME}-copy-{stage}-{ACCOUNT}"
        versioning = planned[f'module.private_copy["{stage}"].aws_s3_bucket_versioning.this']
        assert versioning["versioning_configuration"][0]["status"] == "Enabled"
        [rule] = planned[f'aws_s3_bucket_replication_configuration.this["{stage}"]']["rule"]
        assert rule["status"] == "Enabled"
        assert rule["delete_marker_replication"] == [{"status": "Disabled"}]


def test_an_existing_network_can_be_used(applied: Applied) -> None:
    existing = (
        'existing={vpc_id="vpc-1",private_subnet_ids=["subnet-1","subnet-2"],public_subnet_ids=["subnet-3","subnet-4"]}'
    )
    planned = terraform.planned(applied.roots["platform"].with_variables(f"network={{{existing}}}").plan())
    assert not [address for address in planned if "aws_vpc.this" in address or "aws_nat_gateway" in address]
    [daemon] = [planned[address] for address in planned if address.endswith('aws_ecs_service.part["daemon"]')]
    assert set(daemon["network_configuration"][0]["subnets"]) == {"subnet-1", "subnet-2"}


def test_a_login_whose_secret_is_in_secrets_manager_can_be_required_for_the_ui(applied: Applied) -> None:
    secret = {"SecretId": f"{NAME}/login-client-secret", "SecretString": "s3cret"}
    boto3.client("secretsmanager").put_secret_value(**secret)
    login = {
        **{name: f"https://login.example.com/{name}" for name in ("issuer", "token_endpoint", "user_info_endpoint")},
        "authorization_endpoint": "https://login.example.com/login",
        "client_id": "totesys-etl",
    }
    settings = ",".join(f'{name}="{value}"' for name, value in login.items())
    public = applied.roots["platform"].with_variables(f"login={{{settings}}}", 'allowed_cidrs=["0.0.0.0/0"]')
    for workflow in GITHUB_ROLES:
        plan = as_github(public, workflow).plan()
        [login_action, forward] = terraform.planned(plan)["module.services.aws_lb_listener.https[0]"]["default_action"]
        assert (login_action["type"], forward["type"]) == ("authenticate-oidc", "forward")
        assert login_action["authenticate_oidc"][0]["client_secret"] == "s3cret"
        reads = {call for call in applied.recorder.calls_of(GITHUB_ROLES[workflow]) if "GetSecretValue" in call.action}
        assert [call for call in reads if "login-client-secret" in call.resource]
        assert iam.denied_calls(GITHUB_ROLES[workflow], reads) == set()


def test_prod_is_the_same_configuration_with_other_values(applied: Applied) -> None:
    boto3.client("s3").copy_object(
        Bucket="states", Key="prod/permanent.tfstate", CopySource="states/dev/permanent.tfstate"
    )
    prod = replace(applied.roots["platform"], variables=("-var-file=prod.tfvars",))
    planned = terraform.planned(prod.with_variables("image_tag=v1", "state_bucket=states").plan())
    databases = {name: planned[f"module.{name}.aws_db_instance.this"] for name in ("storage[0]", "warehouse[0]")}
    assert all(database["deletion_protection"] for database in databases.values())
    assert databases["warehouse[0]"]["multi_az"]
    assert len([address for address in planned if "aws_nat_gateway" in address]) == 1
    assert not [address for address in planned if "aws_vpc_endpoint.interface" in address], "they would cost twice"
    assert planned["module.services.aws_ecs_cluster.this"]["name"] == "totesys-etl-prod"
