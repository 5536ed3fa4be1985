"""Policies of roles, and whether a call is allowed by them."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import boto3

from etl_assets_tests.deploy.calls import Call


@dataclass(frozen=True)
class Permission:
    """An action that a role is allowed on resources, under conditions on keys: of each, the values it may have."""

    sid: str
    action: str
    resources: tuple[str, ...]
    conditions: frozenset[tuple[str, str]]

    def allows(self, call: Call) -> bool:
        return (
            call.action == self.action
            and any(fnmatchcase(call.resource, pattern) for pattern in self.resources)
            and self.conditions <= call.context
        )


def permissions(role: str) -> list[Permission]:
    """Read the permissions of a role back from AWS."""
    iam = boto3.client("iam")
    return [
        Permission(
            statement["Sid"],
            action,
            tuple(_several(statement["Resource"])),
            frozenset(
                (key, value)
                for test, keys in statement.get("Condition", {}).items()
                for key, value in _conditions(test, keys)
            ),
        )
        for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]
        for statement in iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]["Statement"]
        for action in _several(statement["Action"])
    ]


def refused(role: str, calls: Iterable[Call]) -> set[Call]:
    """The calls that the permissions of a role do not allow."""
    granted = permissions(role)
    return {call for call in calls if not any(permission.allows(call) for permission in granted)}


def unused(role: str, calls: Iterable[Call]) -> set[str]:
    """The permissions of a role that no call needs, as `<sid>: <action>`."""
    made = list(calls)
    return {
        f"{permission.sid}: {permission.action}"
        for permission in permissions(role)
        if not any(permission.allows(call) for call in made)
    }


def _several(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _conditions(test: str, keys: dict[str, Any]) -> Iterable[tuple[str, str]]:
    assert test in ("StringEquals", "ArnEquals"), test
    for key, value in keys.items():
        [one] = _several(value)
        yield key, one
