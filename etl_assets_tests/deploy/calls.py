"""The calls that roles make to a simulated AWS (moto), as IAM sees them."""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, unquote

from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

# moto stores the rule of a composite alarm, but does not know the call that puts one
CloudWatchResponse.put_composite_alarm = CloudWatchResponse.put_metric_alarm  # type: ignore[attr-defined]

_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")
_PREFIXES = {"monitoring": "cloudwatch"}
"""The name of a service in IAM, where it differs from that in signatures."""

_WITHOUT_RESOURCE = {"ecs:DescribeTaskDefinition", "ec2:DescribeNetworkInterfaces", "cloudwatch:PutMetricData"}
"""Actions that support no resource, only `*` (Service Authorization Reference)."""

_NOT_NARROWER = {"cloudwatch:PutCompositeAlarm"}
"""Actions on a resource that are refused unless they are allowed on `*` (CloudWatch API reference)."""

_RESOURCES = {
    "cloudwatch": {"AlarmName": "alarm:{}", "AlarmNames.member.1": "alarm:{}"},
    "ecs": {"cluster": "cluster/{}", "clusterName": "cluster/{}", "family": "task-definition/{}:1"},
    "elasticloadbalancing": {
        "CreateLoadBalancer Name": "loadbalancer/app/{}/id",
        "CreateTargetGroup Name": "targetgroup/{}/id",
        "ListenerArn": "{}",
        "LoadBalancerArn": "{}",
        "TargetGroupArn": "{}",
    },
    "events": {"Name": "rule/{}", "Rule": "rule/{}", "ResourceARN": "{}"},
    "iam": {"RoleName": "role/{}"},
    "logs": {"logGroupName": "log-group:{}"},
    "rds": {"DBInstanceIdentifier": "db:{}", "DBParameterGroupName": "pg:{}", "DBSubnetGroupName": "subgrp:{}"},
    "secretsmanager": {"CreateSecret Name": "secret:{}-AbCdEf", "SecretId": "{}"},
    "sns": {"TopicArn": "{}"},
}
"""By service: the parameters that name a resource, and the end of its ARN."""

_TAGS = {"elasticloadbalancing": "AddTags", "iam": "TagRole", "rds": "AddTagsToResource"}
"""The action that creating a resource with tags needs too, where it is not `TagResource`."""

_ID = re.compile(r"(eipalloc|igw|nat|rtb|sg|sgr|subnet|vpc|vpce)-[0-9a-f]+")
_KINDS = {"sg": "security-group", "sgr": "security-group-rule"}
_SUBRESOURCES = {
    "accelerate": "AccelerateConfiguration",
    "cors": "BucketCORS",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "object-lock": "BucketObjectLockConfiguration",
    "replication": "ReplicationConfiguration",
}


@dataclass(frozen=True)
class Call:
    """A call of a role: the action, the ARN of the resource, and the keys of its conditions, as IAM sees them."""

    role: str
    action: str
    resource: str
    context: frozenset[tuple[str, str]] = frozenset()


@dataclass
class Recorder:
    """Moto as a WSGI application that records the calls of roles."""

    calls: set[Call] = field(default_factory=set)
    tasks_run: list[Mapping[str, Any]] = field(default_factory=list)
    _moto: Callable[..., Iterable[bytes]] = field(
        default_factory=lambda: DomainDispatcherApplication(create_backend_app), repr=False
    )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        presigned = f"Credential={query.get('X-Amz-Credential')}"
        match = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION") or presigned)
        if match and (role := _role_of_key(match[1])):
            if match[3] == "s3":
                self.calls.add(_s3_call(role, environ, query))
            else:
                self.calls |= set(self._other_calls(role, environ, region=match[2], service=match[3]))
        return self._moto(environ, start_response)

    def calls_of(self, role: str) -> set[Call]:
        return {call for call in list(self.calls) if call.role == role}

    def _other_calls(self, role: str, environ: dict[str, Any], region: str, service: str) -> Iterator[Call]:
        body = _body(environ)
        prefix = _PREFIXES.get(service, service)
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2] or body["Action"]
        action = f"{prefix}:{operation}"
        arn = f"arn:aws:{prefix}:{region}:{DEFAULT_ACCOUNT_ID}"
        if action == "ecs:RunTask":
            self.tasks_run.append(body)
            yield from _run_task_calls(role, body, region)
        elif action == "cloudwatch:PutMetricData":
            yield Call(role, action, "*", frozenset({("cloudwatch:namespace", body["Namespace"])}))
        elif action in _WITHOUT_RESOURCE:
            yield Call(role, action, "*")
        elif action in ("ecs:DescribeTasks", "ecs:StopTask"):
            for task in body.get("tasks") or [body["task"]]:
                yield Call(role, action, task)
        elif action in ("ecs:CreateService", "ecs:UpdateService"):
            name = (body.get("serviceName") or body["service"]).rpartition("/")[2]
            yield Call(role, action, f"{arn}:service/{body['cluster'].rpartition('/')[2]}/{name}")
        elif "logStreamName" in body:
            yield Call(role, action, f"{arn}:log-group:{body['logGroupName']}:log-stream:{body['logStreamName']}")
        elif "DashboardName" in body:
            yield Call(role, action, f"{arn}:dashboard/{body['DashboardName']}".replace(region, ""))
        elif service == "ec2":
            yield from _ec2_calls(role, body, region)
        elif service != "sts":
            yield from _named_resource_calls(
                role, prefix, operation, body, arn.replace(region, "") if service == "iam" else arn
            )


@contextmanager
def moto_server(recorder: Recorder) -> Iterator[str]:
    """Serve moto in this process. Return its URL."""
    server = make_server("127.0.0.1", 0, recorder, threaded=True, request_handler=_SilentHandler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class _SilentHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...


def _role_of_key(key: str) -> str | None:
    """Return the name of the role that a temporary key belongs to; None for any other key."""
    for backend in list(sts_backends[DEFAULT_ACCOUNT_ID].values()):
        if assumed := backend.get_assumed_role_from_access_key(key):
            return str(assumed.role_arn.rpartition("/")[2])
    return None


def _body(environ: dict[str, Any]) -> Mapping[str, Any]:
    """Return the parsed body of a request, and make it readable again."""
    raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(raw)
    return json.loads(raw or b"{}") if "json" in environ["CONTENT_TYPE"] else dict(parse_qsl(raw.decode()))


def _s3_call(role: str, environ: Mapping[str, Any], query: Mapping[str, str]) -> Call:
    """Return a call of S3: Amazon S3 user guide, “Required permissions for Amazon S3 API operations”."""
    path = unquote(environ["PATH_INFO"]).strip("/")
    match environ["REQUEST_METHOD"], "/" in path:
        case "GET" | "HEAD", True:
            action = "GetObject"
        case ("GET", False) if "list-type" in query or "prefix" in query or not query:
            action = "ListBucket"
        case "HEAD", False:
            action = "ListBucket"
        case "PUT" | "POST", True:
            action = "PutObject"
        case ("DELETE", True) if "uploadId" in query:
            action = "AbortMultipartUpload"
        case "DELETE", True:
            action = "DeleteObject"
        case ("PUT", False) if not query:
            action = "CreateBucket"
        case (("GET" | "PUT") as method, False) if len(query) == 1:
            [name] = query
            action = method.capitalize() + _SUBRESOURCES.get(name, f"Bucket{name[0].upper()}{name[1:]}")
        case method, _:
            action = f"{method} {sorted(query)}"  # unknown: no policy allows it
    return Call(role, f"s3:{action}", f"arn:aws:s3:::{path}")


def _run_task_calls(role: str, body: Mapping[str, Any], region: str) -> Iterator[Call]:
    """Return the calls that starting a task needs: run it, tag it, pass its roles."""
    definition = ecs_backends[DEFAULT_ACCOUNT_ID][region].describe_task_definition(body["taskDefinition"])
    yield Call(role, "ecs:RunTask", definition.arn, frozenset({("ecs:cluster", body["cluster"])}))
    task = f"arn:aws:ecs:{region}:{DEFAULT_ACCOUNT_ID}:task/{body['cluster'].rpartition('/')[2]}/id"
    yield Call(role, "ecs:TagResource", task, frozenset({("ecs:CreateAction", "RunTask")}))
    for passed in (definition.task_role_arn, definition.execution_role_arn):
        yield _pass_role(role, passed)


def _pass_role(role: str, passed: str) -> Call:
    return Call(role, "iam:PassRole", passed, frozenset({("iam:PassedToService", "ecs-tasks.amazonaws.com")}))


def _named_resource_calls(role: str, prefix: str, operation: str, body: Mapping[str, Any], arn: str) -> Iterator[Call]:
    """Return a call on each resource that parameters name, and the calls that tag it and pass its roles."""
    names = _RESOURCES.get(prefix, {})
    ends = {key: names.get(key) or names.get(f"{operation} {key}") for key in body}
    resources = [
        body[key] if body[key].startswith("arn:") else f"{arn}:{end.format(body[key])}"
        for key, end in ends.items()
        if end
    ]
    is_tagged = operation.startswith(("Create", "Put", "Register")) and any(
        key.lower().startswith("tags") for key in body
    )
    for resource in resources or ["*"]:
        action = f"{prefix}:{operation}"
        named = "*" if action in _NOT_NARROWER else resource
        yield Call(role, action, named, _boundary_context(body) if prefix == "iam" else frozenset())
        if is_tagged:
            yield Call(role, f"{prefix}:{_TAGS.get(prefix, 'TagResource')}", resource)
    for passed in (body[key] for key in ("taskRoleArn", "executionRoleArn") if key in body):
        yield _pass_role(role, passed)


def _boundary_context(body: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return the permissions boundary of the role that is created or changed, as a condition key."""
    roles = list(iam_backends[DEFAULT_ACCOUNT_ID]["aws"].roles.values())
    existing = (role.permissions_boundary_arn for role in roles if role.name == body["RoleName"])
    boundary = body.get("PermissionsBoundary") or next(existing, None)
    return frozenset({("iam:PermissionsBoundary", boundary)} if boundary else ())


def _ec2_calls(role: str, body: Mapping[str, Any], region: str) -> Iterator[Call]:
    """Return a call on each resource that has an ID, with its tags, and the call that tags a new resource."""
    action = f"ec2:{body['Action']}"
    ids = [match for value in body.values() if (match := _ID.fullmatch(value))]
    for match in ids:
        tags = ec2_backends[DEFAULT_ACCOUNT_ID][region].tags.get(match[0], {})
        resource = f"arn:aws:ec2:{region}:{DEFAULT_ACCOUNT_ID}:{_KINDS.get(match[1], match[1])}/{match[0]}"
        yield Call(role, action, resource, frozenset((f"aws:ResourceTag/{key}", tags[key]) for key in list(tags)))
    if not ids:
        yield Call(role, action, "*")
    if "TagSpecification.1.ResourceType" in body:
        yield Call(role, "ec2:CreateTags", "*", frozenset({("ec2:CreateAction", body["Action"])}))
