"""Terraform, run on a copy of `deploy/terraform`."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "terraform"
ROOTS = ("state", "permanent", "platform")
_PLUGIN_DIRS = (
    os.environ.get("TERRAFORM_PLUGIN_DIR", "/nowhere"),
    "~/.terraform.d/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt",
)


class TerraformError(Exception):
    """Terraform refused; its message is what it printed."""


@dataclass(frozen=True)
class Root:
    """A root of the configuration: where it is, and what it is given."""

    folder: Path
    environment: Mapping[str, str]
    variables: tuple[str, ...] = ()

    def given(self, *variables: str) -> "Root":
        """The same root with more variables, as `name=value`; the last of a name counts."""
        return replace(self, variables=(*self.variables, *(f"-var={variable}" for variable in variables)))

    def run(self, *command: str) -> str:
        """Run a command of Terraform's, and give what it prints.

        Raises:
            TerraformError: it ended with an error.
        """
        done = subprocess.run(
            ["terraform", f"-chdir={self.folder}", *command], env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise TerraformError(re.sub(r"[╷│╵]|\s+", " ", done.stderr + done.stdout))
        return done.stdout

    def init(self, *settings: str) -> None:
        plugins = _plugin_dir()
        self.run(
            "init",
            "-input=false",
            *(f"-backend-config={setting}" for setting in settings),
            *([f"-plugin-dir={plugins}"] if plugins else []),
        )

    def apply(self) -> None:
        self.run("apply", "-input=false", "-auto-approve", "-parallelism=20", *self.variables)

    def plan(self) -> dict[str, Any]:
        """What `apply` would do, as `terraform show -json` says."""
        self.run("plan", "-input=false", f"-out={self.folder / 'plan'}", *self.variables)
        return dict(json.loads(self.run("show", "-json", str(self.folder / "plan"))))

    def destroy(self) -> None:
        self.run("destroy", "-input=false", "-auto-approve", "-parallelism=20", *self.variables)

    def state(self) -> dict[str, dict[str, Any]]:
        """The resources as they were applied, by address."""
        return _resources(json.loads(self.run("show", "-json"))["values"]["root_module"])


def changes(plan: Mapping[str, Any]) -> dict[str, set[str]]:
    """The resources a plan changes, each with the names of the attributes that change; of new ones, `create`."""
    found = {}
    for resource in plan["resource_changes"]:
        before, after = resource["change"]["before"] or {}, resource["change"]["after"] or {}
        if resource["mode"] == "managed" and resource["change"]["actions"] != ["no-op"]:
            names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
            found[resource["address"]] = names if resource["change"]["actions"] == ["update"] else {
                *resource["change"]["actions"]
            }  # fmt: skip
    return found


def planned(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The resources as a plan leaves them, by address."""
    return _resources(plan["planned_values"]["root_module"])


def _resources(module: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {resource["address"]: resource.get("values", {}) for resource in module.get("resources", [])}
    for child in module.get("child_modules", []):
        found |= _resources(child)
    return found


def copy(folder: Path, environment: Mapping[str, str]) -> dict[str, Root]:
    """Copy the configuration, as it is in the repository, and give its roots by name."""
    shutil.copytree(CONFIGURATION, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    given = dict(environment)
    given.pop("TF_CLI_CONFIG_FILE", None)
    given |= {"TF_IN_AUTOMATION": "1", "TF_CLI_ARGS": "-no-color", "CHECKPOINT_DISABLE": "1"}
    return {name: Root(folder / name, given) for name in ROOTS}


def _plugin_dir() -> Path | None:
    """Where providers lie on this machine; None: Terraform fetches them."""
    for folder in map(Path.expanduser, map(Path, _PLUGIN_DIRS)):
        for found in folder.glob("**/registry.terraform.io/hashicorp/aws"):
            return found.parents[2]
    return None
