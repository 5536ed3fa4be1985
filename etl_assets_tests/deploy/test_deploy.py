"""The script `deploy/deploy`, on commands that only record how they are called; and the workflow that uses it."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from etl_assets_tests.harness import ROOT

pytestmark = pytest.mark.deploy

ACCOUNT = "111122223333"
CERTIFICATE = f"arn:aws:acm:eu-west-2:{ACCOUNT}:certificate/1"
RECORDED = ("aws", "docker", "gh", "git", "session-manager-plugin", "sleep", "terraform")

RECORDER = f"""#!{sys.executable}
import json, os, pathlib, re, sys
folder = pathlib.Path(os.environ["RECORDER"])
call = " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]])
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps([call, os.environ.get("TF_DATA_DIR", "")]) + "\\n")
answers = json.loads((folder / "answers").read_text())
for pattern in answers:
    if re.search(pattern, call):
        *earlier, last = answers[pattern]
        if earlier:
            answers[pattern] = answers[pattern][1:]
            (folder / "answers").write_text(json.dumps(answers))
        answer = earlier[0] if earlier else last
        sys.exit("no") if answer is None else print(answer)
        break
"""
"""A command that records its call, and prints the next answer to it, the last one again and again; none: it fails."""

FRESH: dict[str, list[str | None]] = {
    "sts get-caller-identity": [ACCOUNT],
    "rev-parse --short": ["0123456789ab"],
    "acm describe-certificate": ["ISSUED"],
    "get-service-quota": ["16.0"],
    "s3api head-bucket": [None],
    "ecr describe-images": [None],
    "ecr describe-repositories": [f"{ACCOUNT}.dkr.ecr.eu-west-2.amazonaws.com/totesys-etl-dev"],
    "describe-secret": ["{...}"],
    "describe-services": ["COMPLETED task:1"],
    "describe-task-definition": ["registry/totesys-etl:0123456789ab"],
    "output -json services": ['["code-server","daemon","webserver"]'],
    "run-task": ["arn:aws:ecs:eu-west-2:1:task/totesys-etl-dev/0a1b"],
    "get-log-events": ["failed  totesys tables  staff cannot be read\tok  warehouse load  can begin"],
    "exitCode": ["0"],
    "_network$": ["awsvpcConfiguration={subnets=[subnet-1],securityGroups=[sg-1]}"],
    "warehouse_host_name$": ["warehouse.example.com"],
    "list-subscriptions-by-topic": ["data@example.org"],
}
"""The answers of an account in which nothing is deployed, where nothing goes wrong."""


@dataclass
class Machine:
    """A machine with a copy of `deploy` whose values are filled in."""

    folder: Path
    answers: dict[str, list[str | None]] = field(default_factory=lambda: dict(FRESH))

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "calls").write_text("")
        (self.folder / "answers").write_text(json.dumps(self.answers))
        environment = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "RECORDER": str(self.folder),
            "YES": "1",
            **variables,
        }
        script = self.folder / "deploy" / "deploy"
        return subprocess.run(
            [script, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )

    @property
    def calls(self) -> list[tuple[str, str]]:
        """The calls since the last start of the script, each with the data directory of Terraform."""
        return [(call, folder) for call, folder in map(json.loads, (self.folder / "calls").read_text().splitlines())]

    def order(self, *patterns: str) -> list[int]:
        """Return the position of the first call that matches each pattern; -1 if none does."""
        calls = [call for call, _ in self.calls]
        return [next((n for n, call in enumerate(calls) if re.search(each, call)), -1) for each in patterns]

    def write(self, root: str, environment: str, old: str, new: str) -> None:
        path = self.folder / "deploy" / "terraform" / root / f"{environment}.tfvars"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in RECORDED:
        (commands / name).write_text(RECORDER)
        (commands / name).chmod(0o755)
    shutil.copytree(
        ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns(".terraform", "*.tfstate*", "modules")
    )
    machine = Machine(tmp_path)
    for values in (tmp_path / "deploy" / "terraform").glob("*/*.tfvars"):
        text = re.sub('arn:aws:acm:[^"]+', CERTIFICATE, values.read_text())
        values.write_text(text.replace("example.com", "totesys.test").replace("203.0.113", "10.0.0"))
    return machine


def test_a_first_deployment_takes_every_step_in_order(machine: Machine) -> None:
    completed = machine.run("dev")
    assert completed.returncode == 0, completed.stderr
    order = machine.order(
        "get-service-quota",
        "terraform/state apply",
        "terraform/permanent init",
        "terraform/permanent apply",
        "docker build",
        "docker push",
        "describe-secret",
        "terraform/platform init",
        "terraform/platform apply.*-var image_tag=0123456789ab",
        'run-task .*totesys-etl-dev-shell .*"python","-m","etl_assets","check"',
        "wait tasks-stopped",
        "describe-services",
    )
    assert -1 not in order
    assert order == sorted(order)
    assert "Not confirmed yet: data@example.org" in completed.stdout


def test_what_is_there_is_not_made_again(machine: Machine) -> None:
    machine.answers |= {"s3api head-bucket": [""], "ecr describe-images": ["{}"]}
    assert machine.run("dev").returncode == 0
    assert machine.order("terraform/state", "docker build", "docker push", "put-secret-value") == [-1] * 4


def test_github_can_be_let_in_from_another_machine_than_the_first(machine: Machine) -> None:
    machine.answers["s3api head-bucket"] = [""]
    assert machine.run("dev", "state", GITHUB_REPO="octocat/totesys-etl").returncode == 0
    imported, applied = machine.order("terraform/state import .* aws_s3_bucket.state", "terraform/state apply")
    assert -1 < imported < applied
    assert "github_repository=octocat/totesys-etl" in machine.calls[applied][0]


def test_no_environment_touches_the_state_of_another(machine: Machine) -> None:
    for environment in ("dev", "prod"):
        assert machine.run(environment).returncode == 0
        terraform = [(call, folder) for call, folder in machine.calls if call.startswith("terraform")]
        assert {folder for _, folder in terraform} == {f".terraform/{environment}"}
        keys = {key for call, _ in terraform for key in re.findall(r"-backend-config=key=(\S+)", call)}
        assert keys == {f"{environment}/{root}.tfstate" for root in ("permanent", "platform")}
        assert {name for call, _ in terraform for name in re.findall(r"(\w+)\.tfvars", call)} == {environment}
        assert not [call for call, _ in terraform if "migrate-state" in call]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"sts get-caller-identity": [None]}, "no AWS credentials"),
        ({"acm describe-certificate": [None]}, "does not exist in eu-west-2"),
        ({"acm describe-certificate": ["PENDING_VALIDATION"]}, "is PENDING_VALIDATION"),
        ({"get-service-quota": ["2.0"]}, "may use 2 vCPUs on Fargate, and needs 4"),
    ],
)
def test_nothing_is_applied_if_the_preflight_finds_that_it_would_fail(
    machine: Machine, answers: dict[str, list[str | None]], message: str
) -> None:
    machine.answers |= answers
    completed = machine.run("dev")
    assert completed.returncode == 1
    assert message in completed.stderr
    assert machine.order(" apply ") == [-1]


def test_a_quota_that_is_too_small_for_all_runs_is_mentioned(machine: Machine) -> None:
    machine.answers["get-service-quota"] = ["6.0"]
    assert "Only 3 runs at a time: the quota of Fargate is 6 vCPUs" in machine.run("prod", "preflight").stdout
    machine.answers["get-service-quota"] = ["5.0"]
    assert "Only 2 runs at a time" in machine.run("dev", "preflight").stdout


@pytest.mark.parametrize(("environment", "quota"), [("dev", "6.0"), ("small", "1.0")])
def test_the_quota_of_a_new_account_is_enough_for_few_runs(machine: Machine, environment: str, quota: str) -> None:
    machine.answers["get-service-quota"] = [quota]
    completed = machine.run(environment, "preflight")
    assert (completed.returncode, "Only" in completed.stdout) == (0, False), completed.stderr


def test_without_a_balancer_no_certificate_is_needed_and_a_tunnel_leads_to_the_ui(machine: Machine) -> None:
    machine.answers = {
        "acm describe-certificate": [None],
        "list-tasks .*--service-name daemon": ["arn:aws:ecs:eu-west-2:1:task/totesys-etl-small/da3e"],
        "privateIPv4Address": ["10.20.128.7"],
        "run-task": ["arn:aws:ecs:eu-west-2:1:task/totesys-etl-small/0a1b"],
        "managedAgents": ["RUNNING"],
        "runtimeId": ["0a1b-265927825"],
        "output -json services": ['["daemon"]'],
        **FRESH,
    }
    completed = machine.run("small")
    assert completed.returncode == 0, completed.stderr
    assert "The UI: deploy/deploy small tunnel ui" in completed.stdout
    assert machine.order("docker build .*--platform linux/arm64") != [-1]
    assert "http://127.0.0.1:3000" in machine.run("small", "tunnel", "ui").stdout
    [session] = [call for call, _ in machine.calls if "start-session" in call]
    assert session.endswith("--parameters host=10.20.128.7,portNumber=3000,localPortNumber=3000")
    assert machine.order("stop-task .*0a1b") != [-1]


def test_there_is_no_tunnel_to_a_ui_behind_a_balancer(machine: Machine) -> None:
    machine.answers["output -raw url"] = ["https://dagster.dev.totesys.test"]
    assert "the UI is at https://dagster.dev.totesys.test" in machine.run("dev", "tunnel", "ui").stderr
    assert machine.order("run-task") == [-1]


@pytest.mark.parametrize("example", ["dagster.example.com", "203.0.113.7"])
def test_values_that_are_examples_are_refused(machine: Machine, example: str) -> None:
    machine.write("platform", "dev", "10.0.0.0/24", example)
    completed = machine.run("dev")
    assert completed.returncode == 1
    assert "these values are examples" in completed.stderr
    assert example in completed.stdout


def test_values_of_another_environment_are_refused(machine: Machine) -> None:
    machine.write("permanent", "prod", '"prod"', '"dev"')
    completed = machine.run("prod")
    assert (completed.returncode, machine.calls) == (1, [])
    assert "is of another environment: dev" in completed.stderr


@pytest.mark.parametrize(
    ("environment", "given", "secrets"),
    [("dev", "", {"totesys-database-url"}), ("dev", "login = {}", {"totesys-database-url", "login-client-secret"})],
)
def test_the_platform_waits_for_secrets_that_are_set_by_hand(
    machine: Machine, environment: str, given: str, secrets: set[str]
) -> None:
    machine.write("platform", environment, "settings =", f"{given}\nsettings =")
    for secret in secrets:
        machine.answers = {secret: ["None"], **FRESH}
        completed = machine.run(environment)
        assert completed.returncode == 1
        assert f"the secret totesys-etl-{environment}/{secret} is empty" in completed.stderr
        assert machine.order("terraform/platform apply") == [-1]
    machine.answers = {"warehouse-database-url": ["None"], **FRESH}
    assert machine.run(environment).returncode == 0, "the platform sets that of a warehouse it creates"


def test_an_earlier_image_is_deployed_again_without_building_it(machine: Machine) -> None:
    machine.answers |= {"ecr describe-images": ["{}"], "describe-task-definition": ["registry/totesys-etl:v1"]}
    assert machine.run("dev", IMAGE_TAG="v1").returncode == 0
    [build, applied] = machine.order("docker build", "terraform/platform apply.*-var image_tag=v1")
    assert build == -1 < applied
    machine.answers["ecr describe-images"] = [None]
    assert "there is no image v1 in the registry" in machine.run("dev", IMAGE_TAG="v1").stderr


def test_changes_that_are_not_committed_are_not_built(machine: Machine) -> None:
    machine.answers["status --porcelain"] = [" M etl_assets/totesys.py"]
    assert "commit first" in machine.run("dev").stderr
    assert machine.order("docker build") == [-1]


def test_what_a_run_does_not_reach_is_shown_before_services_are_waited_for(machine: Machine) -> None:
    machine.answers["exitCode"] = ["1"]
    completed = machine.run("dev")
    assert completed.returncode == 1
    assert "failed  totesys tables  staff cannot be read\nok  warehouse load  can begin\n" in completed.stdout
    assert "not reached, or not allowed" in completed.stderr
    assert machine.order("--log-stream-name shell/run/0a1b", "describe-services")[1] == -1


def test_a_first_deployment_that_failed_is_started_again(machine: Machine) -> None:
    machine.answers["describe-services.*daemon"] = ["FAILED task:1", "IN_PROGRESS task:1", "COMPLETED task:1"]
    machine.answers = dict(reversed(machine.answers.items()))
    assert machine.run("dev", "wait").returncode == 0
    restarts = [call for call, _ in machine.calls if "update-service" in call]
    assert restarts == ["aws ecs update-service --cluster totesys-etl-dev --service daemon --force-new-deployment"]


@pytest.mark.parametrize("image", ["0123456789ab", "v0"])
def test_a_service_that_fails_or_is_rolled_back_is_not_deployed(machine: Machine, image: str) -> None:
    machine.answers |= {
        "describe-services": ["FAILED task:1" if image != "v0" else "COMPLETED task:0"],
        "describe-task-definition": [f"registry/totesys-etl:{image}"],
    }
    completed = machine.run("dev", "wait")
    assert completed.returncode == 1
    assert "code-server was not deployed" in completed.stderr


@pytest.mark.parametrize("tool", ["tunnel", "shell"])
def test_a_task_that_people_enter_is_stopped_when_they_leave(machine: Machine, tool: str) -> None:
    machine.answers |= {
        "run-task": ["arn:aws:ecs:eu-west-2:1:task/totesys-etl-dev/0a1b"],
        "managedAgents": ["PENDING", "RUNNING"],
        "runtimeId": ["0a1b-265927825"],
        "start-session|execute-command": [None],
    }
    machine.run("dev", tool)
    run, entered, stopped = machine.order(
        f"run-task .*totesys-etl-dev-{tool} .*--enable-execute-command",
        "--target ecs:totesys-etl-dev_0a1b_0a1b-265927825" if tool == "tunnel" else "execute-command .*--command bash",
        "stop-task --cluster totesys-etl-dev --task arn:aws:ecs:eu-west-2:1:task/totesys-etl-dev/0a1b",
    )
    assert -1 < run < entered < stopped


def test_there_is_no_tunnel_to_a_warehouse_that_is_elsewhere(machine: Machine) -> None:
    machine.answers["warehouse_host_name$"] = [""]
    assert "the warehouse was not created here" in machine.run("dev", "tunnel").stderr
    assert machine.order("run-task") == [-1]


PROTECTED = {
    "protection_rules": [{"type": "branch_policy"}, {"type": "required_reviewers", "reviewers": [{"type": "Team"}]}]
}
TAGS = {"total_count": 1, "branch_policies": [{"name": "v*", "type": "tag"}]}


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
@pytest.mark.parametrize(
    ("environment", "policies", "accepted"),
    [
        (PROTECTED, TAGS, True),
        (None, None, False),
        ({"protection_rules": []}, TAGS, False),
        ({"protection_rules": [{"type": "wait_timer"}]}, TAGS, False),
        ({"protection_rules": [{"type": "required_reviewers", "reviewers": []}]}, TAGS, False),
        (PROTECTED, {"total_count": 0, "branch_policies": []}, False),
        (PROTECTED, {"total_count": 1, "branch_policies": [{"name": "main", "type": "branch"}]}, False),
    ],
)
def test_the_workflow_deploys_to_a_protected_environment_only(
    tmp_path: Path, environment: object, policies: object, accepted: bool
) -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy.yml").read_text())["jobs"]
    assert "protected" in jobs["deploy"]["needs"]
    assert "environment" not in jobs["protected"], "it would be created"
    for name, answer in (("production", environment), ("deployment-branch-policies", policies)):
        if answer is not None:
            (tmp_path / name).write_text(json.dumps(answer))
    gh = tmp_path / "gh"
    gh.write_text(f'#!/bin/sh\njq --raw-output "$4" "{tmp_path}/${{2##*/}}"\n')
    gh.chmod(0o755)
    [step] = jobs["protected"]["steps"]
    completed = subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REPOSITORY": "octocat/totesys-etl"},
        capture_output=True,
        text=True,
    )
    assert (completed.returncode == 0) == accepted, completed.stderr


def test_the_image_that_was_scanned_is_the_one_that_is_deployed() -> None:
    workflows = {
        name: yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"]
        for name in ("deploy", "image")
    }
    built = [
        str(step.get("run")) for jobs in workflows.values() for job in jobs.values() for step in job.get("steps", [])
    ]
    assert len([command for command in built if "docker build" in command]) == 1
    [scan] = [step for step in workflows["image"]["scan"]["steps"] if step.get("id") == "scan"]
    assert scan["with"]["image"] == "totesys-etl:scanned"
    deploy = workflows["deploy"]["deploy"]
    assert "image" in deploy["needs"]
    [load] = [step for step in deploy["steps"] if step.get("name") == "Load the scanned image"]
    assert load["env"] == {"SCANNED": "${{ needs.image.outputs.id }}"}
    [push] = [step for step in deploy["steps"] if step.get("name") == "Push"]
    assert 'docker tag totesys-etl:scanned "$url:$IMAGE_TAG"' in push["run"]
