"""Simulated ECS: the services and tasks of moto, run as processes.

Moto only keeps records. The agent polls them in this process, keeps one task of each service running, runs the command
of each container with its environment, secrets, role, log stream and metadata endpoint, and records in moto how tasks
end. A container starts when those it depends on have started, ended or are healthy; a task ends with an essential
container. It uses internals of moto (`moto.ecs.models`), whose version uv.lock pins.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ecs.models import ecs_backends
from moto.moto_api import state_manager

from etl_assets_tests.deploy import iam

_POLL_SECONDS = 0.2
_STOP_TIMEOUT = 30
_LINES_PER_CALL = 1_000
# As root: a mount namespace in which everything but /tmp is read-only, as the task definitions say, and the folder with
# Dagster's settings too, which the tests have in /tmp.
_MOUNTS = """
mount --bind /tmp /tmp && mount -o remount,bind,ro / &&
mount --bind "$DAGSTER_HOME" "$DAGSTER_HOME" && mount -o remount,bind,ro "$DAGSTER_HOME" && cd "$TMPDIR" && exec "$@"
"""
_READ_ONLY_ROOT = (
    ("unshare", "--mount", "sh", "-c", _MOUNTS, "sh") if os.geteuid() == 0 and shutil.which("unshare") else ()
)
_PRINCIPAL = "ecs-tasks.amazonaws.com"


class TaskNotStartedError(Exception):
    """A task cannot be started. The message is the reason as ECS gives it."""


@dataclass
class _Container:
    """A container of a task: its definition, and its process once it has started."""

    definition: Mapping[str, Any]
    command: Sequence[str]
    health_check: Sequence[str]
    environment: Mapping[str, str]
    output: Path
    log: Callable[[list[str]], None]
    process: subprocess.Popen[bytes] | None = None
    logged: int = 0
    kill_at: float | None = None
    _check: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.environment["TMPDIR"],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """Return the exit code of the container: 128 plus the signal, if a signal ended it."""
        code = self.process.poll() if self.process else None
        return 128 - code if code is not None and code < 0 else code

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.exit_code is None

    @property
    def dependencies(self) -> dict[str, str]:
        """Return the condition on each container that this one depends on."""
        return {each["containerName"]: each["condition"] for each in self.definition.get("dependsOn", [])}

    def is_(self, condition: str) -> bool:
        """Whether the container meets a condition of `dependsOn`."""
        match condition:
            case "START":
                return self.process is not None
            case "SUCCESS":
                return self.exit_code == 0
            case "HEALTHY":
                return self.is_running and self._is_healthy()
        raise AssertionError(condition)

    def _is_healthy(self) -> bool:
        """Whether the health check that was started earlier has succeeded."""
        if self._check is None or self._check.poll():
            self._check = subprocess.Popen(
                self.health_check, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        return self._check.poll() == 0

    def stop(self, grace: float) -> None:
        """Send SIGTERM once; SIGKILL after the grace period."""
        assert self.process
        if self.kill_at is None:
            self.kill_at = monotonic() + grace
            self.process.terminate()
        elif monotonic() > self.kill_at:
            self.kill()

    def kill(self) -> None:
        """Kill the process and all its children, as ECS does when a container ends."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def send_logs(self) -> None:
        """Send new output to CloudWatch; while it runs, whole lines only."""
        if self.process is None:
            return
        ended = self.exit_code is not None
        with self.output.open("rb") as output:
            output.seek(self.logged)
            text = output.read()
        if not ended:
            text = text[: text.rfind(b"\n") + 1]
        self.logged += len(text)
        lines = [line for line in text.decode(errors="replace").split("\n") if line.strip()]
        for start in range(0, len(lines), _LINES_PER_CALL):
            self.log(lines[start : start + _LINES_PER_CALL])


@dataclass
class _Running:
    """A running task: its record in moto, its containers by name, and why it is stopped (code and reason)."""

    task: Any
    containers: Mapping[str, _Container]
    stop: tuple[str, str] | None = None
    grace: float | None = None

    @property
    def running(self) -> list[_Container]:
        return [container for container in self.containers.values() if container.is_running]

    def start_containers(self) -> None:
        """Start each container whose dependencies are as it wants them."""
        for container in self.containers.values():
            if container.process is None and all(
                self.containers[name].is_(condition) for name, condition in container.dependencies.items()
            ):
                container.start()

    def why_to_end(self) -> tuple[str, str] | None:
        """Return why the task must end by itself; None if it need not."""
        for name, container in self.containers.items():
            if container.exit_code is not None and container.definition["essential"]:
                return "EssentialContainerExited", "Essential container in task exited"
            if container.exit_code and "SUCCESS" in (each.dependencies.get(name) for each in self.containers.values()):
                return "TaskFailedToStart", f"dependency container {name} failed"
        return None

    def stop_containers(self) -> None:
        """Stop the containers that no running one depends on: first those that started last, as ECS does."""
        needed = {name for container in self.running for name in container.dependencies}
        for name, container in self.containers.items():
            if container.is_running and self.grace == 0:
                container.kill()
            elif container.is_running and name not in needed:
                timeout = container.definition.get("stopTimeout", _STOP_TIMEOUT)
                container.stop(timeout if self.grace is None else self.grace)


@dataclass
class Agent:
    """Runs the tasks of moto's ECS.

    replacements: words in environments, secrets and commands, and what to replace each with.
    """

    endpoint: str
    region: str
    folder: Path
    replacements: Mapping[str, str]
    errors: list[Exception] = field(default_factory=list)
    _running: dict[str, _Running] = field(default_factory=dict)
    _withheld: set[str] = field(default_factory=set)
    _to_withhold: int = 0
    _metadata: str = ""
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def run(self) -> Iterator["Agent"]:
        """Run tasks during the block, and stop them all after it."""
        self.folder.mkdir(parents=True)
        # otherwise moto ends tasks itself when they are described
        state_manager.set_transition("ecs::task", {"progression": "manual", "times": sys.maxsize})
        # background processes ignore SIGINT by default, but Dagster stops on SIGTERM as on SIGINT
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        closing = Event()
        polling = Thread(target=self._poll, args=(closing,), daemon=True)
        with self._metadata_endpoint():
            polling.start()
            try:
                yield self
            finally:
                closing.set()
                polling.join()
                self._stop_all()
                signal.signal(signal.SIGINT, handler)
                state_manager.unset_transition("ecs::task")

    def withhold_next_task(self) -> None:
        """Do not start the next task that is not of a service, as if there were no capacity."""
        with self._lock:
            self._to_withhold += 1

    def start_withheld_tasks(self) -> None:
        with self._lock:
            self._withheld.clear()

    def interrupt(self, task: str, grace: float) -> None:
        """Interrupt a running task as Fargate Spot does: SIGTERM, and SIGKILL after the seconds of grace."""
        with self._lock:
            if running := self._running.get(task):
                self._stop(running, "SpotInterruption", "Your Spot Task was interrupted.", grace)

    def tasks(self, group: str) -> list[str]:
        """Return the ARNs of the running tasks of `service:<name>` or `family:<name>`, oldest first."""
        with self._lock:
            return [arn for arn, running in self._running.items() if running.task.group == group]

    def healthy(self, task: str) -> bool:
        """Whether all containers of the task have started, and their own health checks succeed."""
        containers = self._running[task].containers.values()
        return all(container.process for container in containers) and all(
            subprocess.run(container.health_check, env=container.environment, capture_output=True).returncode == 0
            for container in containers
            if container.health_check
        )

    def mounts(self, task: str) -> list[list[str]]:
        """Return the mounts of the container of a running task, as `/proc/<pid>/mounts` lists them."""
        [container] = self._running[task].containers.values()
        assert container.process
        return [line.split() for line in Path(f"/proc/{container.process.pid}/mounts").read_text().splitlines()]

    @property
    def _ecs(self) -> Any:
        return ecs_backends[DEFAULT_ACCOUNT_ID][self.region]

    @contextmanager
    def _metadata_endpoint(self) -> Iterator[None]:
        """Serve each task's metadata: Amazon ECS developer guide, “Task metadata endpoint version 4”."""
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                task = agent._running[self.path.removeprefix("/").removesuffix("/task")].task
                body = json.dumps({"Cluster": task.cluster_arn, "TaskARN": task.task_arn}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self._metadata = f"http://127.0.0.1:{server.server_port}"
            Thread(target=server.serve_forever, daemon=True).start()
            yield
            server.shutdown()

    def _poll(self, closing: Event) -> None:
        while not closing.wait(_POLL_SECONDS):
            try:
                with self._lock:
                    for service in list(self._ecs.services.values()):
                        self._update_service(service)
                    for tasks in list(self._ecs.tasks.values()):
                        for task in list(tasks.values()):
                            self._update_task(task)
            except Exception as error:  # noqa: BLE001 - the tests assert that there is none
                self.errors.append(error)

    def _update_service(self, service: Any) -> None:
        """Run one task of a service. A task of an older deployment is stopped before a new one starts."""
        definition = self._ecs.describe_task_definition(service.task_definition)
        deployment = service.deployments[0]["id"]
        running = [
            task
            for task in list(self._ecs.tasks.get(service.cluster_name, {}).values())
            if task.group == f"service:{service.name}" and not hasattr(task, "stopped_at")
        ]
        for task in running:
            if service.desired_count == 0 or (task.task_definition_arn, task.started_by) != (
                definition.arn,
                deployment,
            ):
                task.desired_status, task.stopped_reason = "STOPPED", "Scaling activity initiated by deployment"
                task.stop_code = "ServiceSchedulerInitiated"
        if len(running) < service.desired_count:
            self._ecs.run_task(
                service.cluster_name,
                definition.arn,
                1,
                None,
                deployment,
                None,
                "FARGATE",
                service.network_configuration,
                group=f"service:{service.name}",
            )
        service.running_count = sum(task.last_status == "RUNNING" for task in running)

    def _update_task(self, task: Any) -> None:
        if hasattr(task, "stopped_at") or task.task_arn in self._withheld:
            return
        running = self._running.get(task.task_arn)
        if running is None:
            if self._to_withhold and not task.group.startswith("service:"):
                self._to_withhold -= 1
                self._withheld.add(task.task_arn)
                task.last_status = "PROVISIONING"
                return
            try:
                running = self._running[task.task_arn] = self._start(task)
            except (TaskNotStartedError, ClientError) as error:
                _record_stopped(task, {}, "TaskFailedToStart", f"ResourceInitializationError: {error}")
                return
        if task.desired_status == "STOPPED" and running.stop is None:
            self._stop(
                running, getattr(task, "stop_code", None) or "UserInitiated", task.stopped_reason or "Stopped by user"
            )
        self._update_running(running)

    def _update_running(self, running: _Running) -> None:
        """Start and stop the containers of a task, and record in moto whether it is running or has ended."""
        if running.stop is None:
            running.start_containers()
            running.stop = running.why_to_end()
        if running.stop:
            running.stop_containers()
        for container in running.containers.values():
            if container.process and not container.is_running:
                container.kill()  # its children
            container.send_logs()
        if running.running or running.stop is None:
            running.task.last_status = "DEACTIVATING" if running.stop else "RUNNING"
            return
        del self._running[running.task.task_arn]
        exit_codes = {name: container.exit_code for name, container in running.containers.items()}
        _record_stopped(running.task, exit_codes, *running.stop)

    def _stop(self, running: _Running, code: str, reason: str, grace: float | None = None) -> None:
        running.stop, running.grace = (code, reason), grace
        running.task.desired_status = "STOPPED"
        running.stop_containers()

    def _stop_all(self) -> None:
        for running in self._running.values():
            self._stop(running, "UserInitiated", "the agent stops", grace=30)
        while self._running:
            for running in list(self._running.values()):
                self._update_running(running)
            time.sleep(_POLL_SECONDS)
        for service in self._ecs.services.values():
            service.running_count = 0

    def _start(self, task: Any) -> _Running:
        """Prepare a task as ECS does: assume its roles, read its secrets, create the log stream of each container.

        Raises:
            TaskNotStartedError, ClientError: one of these fails.
        """
        definition = self._ecs.describe_task_definition(task.task_definition_arn)
        overrides = {each["name"]: each for each in task.overrides.get("containerOverrides", [])}
        if unknown := overrides.keys() - {each["name"] for each in definition.container_definitions}:
            raise TaskNotStartedError(f"Invalid container overrides: {', '.join(unknown)}")
        role = self._assume(definition.task_role_arn, task)
        execution = self._assume(definition.execution_role_arn, task)
        temporary = self.folder / task.id
        temporary.mkdir()
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "ECS_CONTAINER_METADATA_URI_V4": f"{self._metadata}/{task.task_arn}",
            **role,
        }
        containers = {}
        for container in definition.container_definitions:
            name = container["name"]
            command = overrides.get(name, {}).get("command") or container.get("command")
            if not command:
                raise TaskNotStartedError(f"container {name} has no command, nor has the image")
            containers[name] = self._create_container(container, command, task.id, environment, execution)
        return _Running(task, containers)

    def _create_container(
        self,
        container: Mapping[str, Any],
        command: Sequence[str],
        task_id: str,
        environment: Mapping[str, str],
        execution: Mapping[str, str],
    ) -> _Container:
        kind, *check = container.get("healthCheck", {}).get("command", ["CMD"])
        assert kind == "CMD"
        secrets = self._client("secretsmanager", execution)
        values = {each["name"]: each["value"] for each in container["environment"]} | {
            each["name"]: secrets.get_secret_value(SecretId=each["valueFrom"])["SecretString"]
            for each in container.get("secrets", [])
        }
        return _Container(
            container,
            [
                *(_READ_ONLY_ROOT if container["readonlyRootFilesystem"] else ()),
                *(self._replace_words(word) for word in (*container.get("entryPoint", []), *command)),
            ],
            [self._replace_words(word) for word in check],
            {**environment, **{name: self._replace_words(value) for name, value in values.items()}},
            self.folder / f"{container['name']}-{task_id}.log",
            self._create_log_stream(container, task_id, execution),
        )

    def _replace_words(self, value: str) -> str:
        words = "|".join(re.escape(word) for word in sorted(self.replacements, key=len, reverse=True))
        return re.sub(rf"(?<![\w.-])({words})(?![\w-])", lambda match: self.replacements[match[1]], value)

    def _assume(self, role: str, task: Any) -> dict[str, str]:
        """Return credentials of a role for an ECS task.

        Raises:
            TaskNotStartedError: the role does not trust ECS tasks.
        """
        trust = self._client("iam").get_role(RoleName=role.rpartition("/")[2])["Role"]["AssumeRolePolicyDocument"]
        if not any(
            (statement["Effect"], statement["Action"], statement["Principal"])
            == ("Allow", "sts:AssumeRole", {"Service": _PRINCIPAL})
            for statement in trust["Statement"]
        ):
            raise TaskNotStartedError(f"ECS was unable to assume the role {role}")
        return iam.assume(self._client("sts"), role, task.id)

    def _client(self, service: str, credentials: Mapping[str, str] | None = None) -> Any:
        keys = credentials or {"AWS_ACCESS_KEY_ID": "ecs", "AWS_SECRET_ACCESS_KEY": "ecs"}
        session = boto3.session.Session(
            keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], keys.get("AWS_SESSION_TOKEN"), self.region
        )
        return session.client(service, endpoint_url=self.endpoint)

    def _create_log_stream(
        self, container: Mapping[str, Any], task_id: str, execution: Mapping[str, str]
    ) -> Callable[[list[str]], None]:
        """Create the log stream of a task. Return a function that writes to it."""
        assert container["logConfiguration"]["logDriver"] == "awslogs"
        options = container["logConfiguration"]["options"]
        client = self._client("logs", execution)
        stream = {
            "logGroupName": options["awslogs-group"],
            "logStreamName": f"{options['awslogs-stream-prefix']}/{container['name']}/{task_id}",
        }
        client.create_log_stream(**stream)

        def write(lines: list[str]) -> None:
            now = int(time.time() * 1_000)
            client.put_log_events(**stream, logEvents=[{"timestamp": now, "message": line} for line in lines])

        return write


def _record_stopped(task: Any, exit_codes: Mapping[str, int | None], code: str, reason: str) -> None:
    """Record in moto that a task has ended."""
    for container in task.containers:
        container.last_status, container.exitCode = "STOPPED", exit_codes.get(container.name)
    task.desired_status = task.last_status = "STOPPED"
    task.stop_code, task.stopped_reason, task.stopped_at = code, reason, time.time()
