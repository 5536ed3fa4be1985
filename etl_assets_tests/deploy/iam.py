"""Roles: their policies, whether a call is allowed by them, their keys."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import boto3

from etl_assets_tests.deploy.calls import Call


@dataclass(frozen=True)
class Permission:
    """An action that is allowed, or denied, on resources, under conditions on keys: of each, the values it may have."""

    sid: str
    denies: bool
    action: str
    resources: tuple[str, ...]
    conditions: tuple[tuple[str, frozenset[str]], ...]

    def covers(self, call: Call) -> bool:
        return (
            fnmatchcase(call.action, self.action)
            and any(fnmatchcase(call.resource, pattern) for pattern in self.resources)
            and all(any((key, value) in call.context for value in values) for key, values in self.conditions)
        )


def permissions(role: str) -> list[Permission]:
    """Read the permissions of a role back from AWS."""
    iam = boto3.client("iam")
    return [
        permission
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
        for permission in _read(iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"])
    ]


def boundary(role: str) -> list[Permission] | None:
    """Read the permissions that bound a role back from AWS; None: nothing does."""
    iam = boto3.client("iam")
    if not (told := iam.get_role(RoleName=role)["Role"].get("PermissionsBoundary")):
        return None
    policy = iam.get_policy(PolicyArn=told["PermissionsBoundaryArn"])["Policy"]
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]
    return _read(version["Document"])


def refused(role: str, calls: Iterable[Call]) -> set[Call]:
    """The calls that the permissions of a role, or its boundary, do not allow."""
    asked = [permissions(role), *filter(None, [boundary(role)])]
    return {
        call
        for call in calls
        if any({permission.denies for permission in told if permission.covers(call)} != {False} for told in asked)
    }


def unused(role: str, calls: Iterable[Call]) -> set[str]:
    """The permissions of a role that no call needs, as `<sid>: <action>`."""
    made = list(calls)
    return {
        f"{permission.sid}: {permission.action}"
        for permission in permissions(role)
        if not any(permission.covers(call) for call in made)
    }


def assume(sts: Any, role_arn: str, session: str) -> dict[str, str]:
    """Temporary keys of a role, as environment variables."""
    given = sts.assume_role(RoleArn=role_arn, RoleSessionName=session)["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


def _read(document: dict[str, Any]) -> list[Permission]:
    return [
        Permission(
            statement["Sid"],
            statement["Effect"] == "Deny",
            action,
            tuple(_several(statement["Resource"])),
            tuple(
                (key, frozenset(_several(values)))
                for test, keys in statement.get("Condition", {}).items()
                for key, values in _conditions(test, keys)
            ),
        )
        for statement in document["Statement"]
        for action in _several(statement["Action"])
    ]


def _several(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _conditions(test: str, keys: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    assert test in ("StringEquals", "ArnEquals"), test
    return keys.items()
