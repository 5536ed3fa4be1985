"""What the roles of a pretended AWS ask of it, in the words of IAM."""

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, unquote

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.ecs.models import ecs_backends
from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.sts.models import sts_backends
from werkzeug.serving import make_server

_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/aws4_request")
_PREFIXES = {"monitoring": "cloudwatch"}
"""IAM's name of a service, where it is not that of its signatures."""

_ON_EVERYTHING = {"ecs:DescribeTaskDefinition", "ec2:DescribeNetworkInterfaces", "cloudwatch:PutMetricData"}
"""Actions that IAM grants on `*` only (Service Authorization Reference)."""

_NAMED = {
    "cloudwatch": {"AlarmName": "alarm:{}"},
    "ecs": {"cluster": "cluster/{}", "clusterName": "cluster/{}", "family": "task-definition/{}:1"},
    "elasticloadbalancing": {
        "CreateLoadBalancer Name": "loadbalancer/app/{}/id",
        "CreateTargetGroup Name": "targetgroup/{}/id",
        "ListenerArn": "{}",
        "LoadBalancerArn": "{}",
        "TargetGroupArn": "{}",
    },
    "iam": {"RoleName": "role/{}"},
    "logs": {"logGroupName": "log-group:{}"},
    "rds": {"DBInstanceIdentifier": "db:{}", "DBParameterGroupName": "pg:{}", "DBSubnetGroupName": "subgrp:{}"},
    "secretsmanager": {"CreateSecret Name": "secret:{}-AbCdEf", "SecretId": "{}"},
    "sns": {"TopicArn": "{}"},
}
"""By service: the parameters that name a resource, and how its ARN ends."""

_TAGS = {"elasticloadbalancing": "AddTags", "iam": "TagRole", "rds": "AddTagsToResource"}
"""What is asked for, beside a call that makes something with tags; elsewhere TagResource."""

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
    """Moto as a WSGI application; what roles call is kept."""

    calls: set[Call] = field(default_factory=set)
    tasks_run: list[Mapping[str, Any]] = field(default_factory=list)
    _moto: Callable[..., Iterable[bytes]] = field(
        default_factory=lambda: DomainDispatcherApplication(create_backend_app), repr=False
    )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        signed = f"Credential={query.get('X-Amz-Credential')}"  # of a URL that was signed
        if (found := _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION") or signed)) and (role := _role(found[1])):
            if found[3] == "s3":
                self.calls.add(_of_s3(role, environ, query))
            else:
                self.calls |= set(self._of_others(role, environ, region=found[2], service=found[3]))
        return self._moto(environ, start_response)

    def of(self, role: str) -> set[Call]:
        return {call for call in list(self.calls) if call.role == role}

    def _of_others(self, role: str, environ: dict[str, Any], region: str, service: str) -> Iterator[Call]:
        body = _body(environ)
        prefix = _PREFIXES.get(service, service)
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2] or body["Action"]
        action = f"{prefix}:{operation}"
        arn = f"arn:aws:{prefix}:{region}:{DEFAULT_ACCOUNT_ID}"
        if action == "ecs:RunTask":
            self.tasks_run.append(body)
            yield from _of_run_task(role, body, region)
        elif action == "cloudwatch:PutMetricData":
            yield Call(role, action, "*", frozenset({("cloudwatch:namespace", body["Namespace"])}))
        elif action in _ON_EVERYTHING:
            yield Call(role, action, "*")
        elif action in ("ecs:DescribeTasks", "ecs:StopTask"):
            for task in body.get("tasks") or [body["task"]]:
                yield Call(role, action, task)
        elif action in ("ecs:CreateService", "ecs:UpdateService"):
            name = (body.get("serviceName") or body["service"]).rpartition("/")[2]
            yield Call(role, action, f"{arn}:service/{body['cluster'].rpartition('/')[2]}/{name}")
        elif "logStreamName" in body:
            yield Call(role, action, f"{arn}:log-group:{body['logGroupName']}:log-stream:{body['logStreamName']}")
        elif service == "ec2":
            yield from _of_ec2(role, body, region)
        elif service != "sts":
            yield from _of_named(role, prefix, operation, body, arn.replace(region, "") if service == "iam" else arn)


@contextmanager
def moto_server(recorder: Recorder) -> Iterator[str]:
    """Serve moto in this process, and give its URL."""
    server = make_server("127.0.0.1", 0, recorder, threaded=True, request_handler=_Quiet)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class _Quiet(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...


def _role(key: str) -> str | None:
    """The name of the role whose temporary key it is; None: it is nobody's."""
    for backend in list(sts_backends[DEFAULT_ACCOUNT_ID].values()):
        if assumed := backend.get_assumed_role_from_access_key(key):
            return str(assumed.role_arn.rpartition("/")[2])
    return None


def _body(environ: dict[str, Any]) -> Mapping[str, Any]:
    """Read what was sent, and put it back."""
    raw = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(raw)
    return json.loads(raw or b"{}") if "json" in environ["CONTENT_TYPE"] else dict(parse_qsl(raw.decode()))


def _of_s3(role: str, environ: Mapping[str, Any], query: Mapping[str, str]) -> Call:
    """Amazon S3 user guide, “Required permissions for Amazon S3 API operations”."""
    path = unquote(environ["PATH_INFO"]).strip("/")
    match environ["REQUEST_METHOD"], "/" in path:
        case "GET" | "HEAD", True:
            action = "GetObject"
        case ("GET", False) if "list-type" in query or not query:
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
            action = f"{method} {sorted(query)}"  # no policy allows it
    return Call(role, f"s3:{action}", f"arn:aws:s3:::{path}")


def _of_run_task(role: str, body: Mapping[str, Any], region: str) -> Iterator[Call]:
    """What AWS asks for when a task is run: that it may be, may be tagged, and may be given its roles."""
    definition = ecs_backends[DEFAULT_ACCOUNT_ID][region].describe_task_definition(body["taskDefinition"])
    yield Call(role, "ecs:RunTask", definition.arn, frozenset({("ecs:cluster", body["cluster"])}))
    task = f"arn:aws:ecs:{region}:{DEFAULT_ACCOUNT_ID}:task/{body['cluster'].rpartition('/')[2]}/id"
    yield Call(role, "ecs:TagResource", task, frozenset({("ecs:CreateAction", "RunTask")}))
    for passed in (definition.task_role_arn, definition.execution_role_arn):
        yield _pass(role, passed)


def _pass(role: str, passed: str) -> Call:
    return Call(role, "iam:PassRole", passed, frozenset({("iam:PassedToService", "ecs-tasks.amazonaws.com")}))


def _of_named(role: str, prefix: str, operation: str, body: Mapping[str, Any], arn: str) -> Iterator[Call]:
    """A call on each resource that is named; and that what is made may be tagged, and be given its roles."""
    named = _NAMED.get(prefix, {})
    ends = {key: named.get(key) or named.get(f"{operation} {key}") for key in body}
    resources = [
        body[key] if body[key].startswith("arn:") else f"{arn}:{end.format(body[key])}"
        for key, end in ends.items()
        if end
    ]
    made_with_tags = operation.startswith(("Create", "Put", "Register")) and any(
        key.lower().startswith("tags") for key in body
    )
    for resource in resources or ["*"]:
        yield Call(role, f"{prefix}:{operation}", resource, _boundary(body) if prefix == "iam" else frozenset())
        if made_with_tags:
            yield Call(role, f"{prefix}:{_TAGS.get(prefix, 'TagResource')}", resource)
    for passed in (body[key] for key in ("taskRoleArn", "executionRoleArn") if key in body):
        yield _pass(role, passed)


def _boundary(body: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """What bounds the role that is made or changed."""
    roles = list(iam_backends[DEFAULT_ACCOUNT_ID]["aws"].roles.values())
    there = (role.permissions_boundary_arn for role in roles if role.name == body["RoleName"])
    bound = body.get("PermissionsBoundary") or next(there, None)
    return frozenset({("iam:PermissionsBoundary", bound)} if bound else ())


def _of_ec2(role: str, body: Mapping[str, Any], region: str) -> Iterator[Call]:
    """A call on each resource with an ID, which has tags; and that what is made may be tagged."""
    action = f"ec2:{body['Action']}"
    found = [match for value in body.values() if (match := _ID.fullmatch(value))]
    for match in found:
        tags = ec2_backends[DEFAULT_ACCOUNT_ID][region].tags.get(match[0], {})
        resource = f"arn:aws:ec2:{region}:{DEFAULT_ACCOUNT_ID}:{_KINDS.get(match[1], match[1])}/{match[0]}"
        yield Call(role, action, resource, frozenset((f"aws:ResourceTag/{key}", tags[key]) for key in list(tags)))
    if not found:
        yield Call(role, action, "*")
    if "TagSpecification.1.ResourceType" in body:
        yield Call(role, "ec2:CreateTags", "*", frozenset({("ec2:CreateAction", body["Action"])}))
