"""IAM roles: their permissions, which calls these allow, and temporary keys."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import boto3

from etl_assets_tests.deploy.calls import Call


@dataclass(frozen=True)
class Permission:
    """An action that is allowed or denied on resources. `conditions` are keys with the values that each may have."""

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
    """Return the permissions of a role, read from AWS."""
    iam = boto3.client("iam")
    return [
        permission
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
        for permission in _read(iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"])
    ]


def boundary(role: str) -> list[Permission] | None:
    """Return the permissions boundary of a role, read from AWS; None if it has none."""
    iam = boto3.client("iam")
    if not (attached := iam.get_role(RoleName=role)["Role"].get("PermissionsBoundary")):
        return None
    policy = iam.get_policy(PolicyArn=attached["PermissionsBoundaryArn"])["Policy"]
    version = iam.get_policy_version(PolicyArn=policy["Arn"], VersionId=policy["DefaultVersionId"])["PolicyVersion"]
    return _read(version["Document"])


def denied_calls(role: str, calls: Iterable[Call]) -> set[Call]:
    """Return the calls that the permissions of a role, or its boundary, do not allow."""
    policies = [permissions(role), *filter(None, [boundary(role)])]
    return {
        call
        for call in calls
        if any(
            {permission.denies for permission in policy if permission.covers(call)} != {False} for policy in policies
        )
    }


def unused_permissions(role: str, calls: Iterable[Call]) -> set[str]:
    """Return the permissions of a role that no call needs, as `<sid>: <action>`."""
    needed = list(calls)
    return {
        f"{permission.sid}: {permission.action}"
        for permission in permissions(role)
        if not any(permission.covers(call) for call in needed)
    }


def assume(sts: Any, role_arn: str, session: str) -> dict[str, str]:
    """Return temporary keys of a role, as environment variables."""
    credentials = sts.assume_role(RoleArn=role_arn, RoleSessionName=session)["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }


def _read(document: dict[str, Any]) -> list[Permission]:
    return [
        Permission(
            statement["Sid"],
            statement["Effect"] == "Deny",
            action,
            tuple(_as_list(statement["Resource"])),
            tuple(
                (key, frozenset(_as_list(values)))
                for test, keys in statement.get("Condition", {}).items()
                for key, values in _conditions(test, keys)
            ),
        )
        for statement in document["Statement"]
        for action in _as_list(statement["Action"])
    ]


def _as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _conditions(test: str, keys: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    assert test in ("StringEquals", "ArnEquals"), test
    return keys.items()
