"""Terraform on a copy of `deploy/terraform`."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etl_assets_tests.harness import ROOT

ROOTS = ("state", "permanent", "platform")
_PLUGIN_DIRS = (
    os.environ.get("TERRAFORM_PLUGIN_DIR", "/nowhere"),
    "~/.terraform.d/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt",
)


class TerraformError(Exception):
    """A command of Terraform failed. The message is its output."""


@dataclass(frozen=True)
class Root:
    """A root module: its folder, environment and variables."""

    folder: Path
    environment: Mapping[str, str]
    variables: tuple[str, ...] = ()

    def with_variables(self, *variables: str) -> "Root":
        """Return the root with more variables, as `name=value`, which override earlier ones."""
        return replace(self, variables=(*self.variables, *(f"-var={variable}" for variable in variables)))

    def run(self, *command: str) -> str:
        """Run a command of Terraform. Return its output.

        Raises:
            TerraformError: the command failed.
        """
        completed = subprocess.run(
            ["terraform", f"-chdir={self.folder}", *command], env=self.environment, capture_output=True, text=True
        )
        if completed.returncode:
            raise TerraformError(re.sub(r"[╷│╵]|\s+", " ", completed.stderr + completed.stdout))
        return completed.stdout

    def init(self, *settings: str) -> None:
        plugins = _plugin_dir()
        self.run(
            "init",
            "-input=false",
            "-lockfile=readonly",
            *(f"-backend-config={setting}" for setting in settings),
            *([f"-plugin-dir={plugins}"] if plugins else []),
        )

    def apply(self) -> None:
        self.run("apply", "-input=false", "-auto-approve", "-parallelism=20", *self.variables)

    def plan(self, refresh: bool = False) -> dict[str, Any]:
        """Return the plan, as `terraform show -json` prints it. Unless refreshed, it compares with the state only.

        It takes no lock, which the role of pull requests may not.
        """
        refreshed = f"-refresh={str(refresh).lower()}"
        self.run("plan", "-input=false", "-lock=false", refreshed, f"-out={self.folder / 'plan'}", *self.variables)
        return dict(json.loads(self.run("show", "-json", str(self.folder / "plan"))))

    def destroy(self) -> None:
        self.run("destroy", "-input=false", "-auto-approve", "-parallelism=20", *self.variables)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the applied resources by address."""
        return _resources(json.loads(self.run("show", "-json"))["values"]["root_module"])

    def dependencies(self) -> dict[str, set[str]]:
        """Return by address of the resources: the resources that are created before it."""
        graph = re.findall(r'"([^"]+)" -> "([^"]+)"', self.run("graph"))
        direct = {resource: {after for before, after in graph if before == resource} for resource, _ in graph}

        def reachable(resource: str) -> set[str]:
            return direct.get(resource, set()).union(*map(reachable, direct.get(resource, set())))

        return {resource: reachable(resource) for resource in direct}


def changes(plan: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return by address of the resources that a plan changes: the changed attributes, or actions like `create`."""
    changed = {}
    for resource in plan["resource_changes"]:
        before, after = resource["change"]["before"] or {}, resource["change"]["after"] or {}
        if resource["mode"] == "managed" and resource["change"]["actions"] != ["no-op"]:
            names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            actions = resource["change"]["actions"]
            changed[resource["address"]] = names if actions == ["update"] else set(actions)
    return changed


def planned(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the resources after a plan, by address."""
    return _resources(plan["planned_values"]["root_module"])


def _resources(module: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    resources = {resource["address"]: resource.get("values", {}) for resource in module.get("resources", [])}
    for child in module.get("child_modules", []):
        resources |= _resources(child)
    return resources


def copy(folder: Path, environment: Mapping[str, str]) -> dict[str, Root]:
    """Copy the configuration from the repository. Return its roots by name."""
    shutil.copytree(ROOT / "deploy" / "terraform", folder, ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    settings = {"TF_IN_AUTOMATION": "1", "TF_CLI_ARGS": "-no-color", "CHECKPOINT_DISABLE": "1"}
    variables = {name: value for name, value in environment.items() if name != "TF_CLI_CONFIG_FILE"} | settings
    return {name: Root(folder / name, variables) for name in ROOTS}


def _plugin_dir() -> Path | None:
    """Return the folder of installed providers; None if Terraform must download them."""
    for folder in map(Path.expanduser, map(Path, _PLUGIN_DIRS)):
        for provider in folder.glob("**/registry.terraform.io/hashicorp/aws"):
            return provider.parents[2]
    return None
