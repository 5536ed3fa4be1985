"""A deployment: PostgreSQL, AWS (moto), code server, webserver and daemon."""

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from pathlib import Path
from time import sleep
from typing import Any

import boto3

from etl_assets.adapters.postgres import connect
from etl_assets.catalog.partitions import MAX_PARTITIONS_PER_RUN
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets_tests.harness import ROOT, dagster_service, until

_LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "etl_assets"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A PostgreSQL server on a TCP port, which can be stopped and started again."""

    home: Path
    port: int = field(default_factory=free_port)
    _running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        settings = {"listen_addresses": "127.0.0.1", "port": str(self.port), "max_connections": "200"}
        self._running.enter_context(postgres.serve(self.home, **settings))

    def stop(self) -> None:
        self._running.close()

    def url(self, database: str) -> str:
        return f"postgresql://postgres:s3cret@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def create(self, database: str) -> str:
        with connect(self.url("postgres")) as connection:
            connection.run(f"CREATE DATABASE {database}")
        return self.url(database)


@dataclass
class Deployment:
    """The parts of a deployment, and access to them: SQL, GraphQL, alerts from a queue, logs."""

    folder: Path
    environment: Mapping[str, str]
    sources: Server
    warehouse_server: Server
    queue: str
    webserver_port: int
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.webserver_port}"

    def totesys(self, sql: str) -> list[list[Any]]:
        with connect(self.environment["TOTESYS_DATABASE_URL"]) as connection:
            return connection.run(sql)

    def warehouse(self, sql: str) -> list[list[Any]]:
        with connect(self.environment["WAREHOUSE_DATABASE_URL"]) as connection:
            return connection.run(sql)

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a query of Dagster's GraphQL API."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            result = json.load(response)
        assert "errors" not in result, result
        return dict(result["data"])

    def start_sensors(self, *sensors: str) -> None:
        for sensor in sensors:
            result = self.graphql(
                "mutation ($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename } }",
                sensor=_LOCATION | {"sensorName": sensor},
            )
            assert result["startSensor"]["__typename"] == "Sensor", result

    @contextmanager
    def started_schedule(self, schedule: str) -> Iterator[None]:
        """Start a schedule, and stop it after the block."""
        result = self.graphql(
            """mutation ($schedule: ScheduleSelector!) { startSchedule(scheduleSelector: $schedule) {
                __typename ... on ScheduleStateResult { scheduleState { id } } } }""",
            schedule=_LOCATION | {"scheduleName": schedule},
        )["startSchedule"]
        assert result["__typename"] == "ScheduleStateResult", result
        try:
            yield
        finally:
            until(lambda: self._stop_schedule(schedule, result["scheduleState"]["id"]))

    def _stop_schedule(self, schedule: str, state_id: str) -> bool:
        """Stop a schedule between two ticks: one in progress starts it again at its end. Return whether it stopped."""
        state = """query ($schedule: ScheduleSelector!) { scheduleOrError(scheduleSelector: $schedule) {
            ... on Schedule { scheduleState { status ticks(limit: 1) { status } } } } }"""
        stop = "mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
        selector = _LOCATION | {"scheduleName": schedule}
        ticks = self.graphql(state, schedule=selector)["scheduleOrError"]["scheduleState"]["ticks"]
        if any(tick["status"] == "STARTED" for tick in ticks):
            return False
        assert self.graphql(stop, id=state_id)["stopRunningSchedule"]["__typename"] == "ScheduleStateResult"
        sleep(5)
        after = self.graphql(state, schedule=selector)["scheduleOrError"]["scheduleState"]
        return bool(after["status"] == "STOPPED")

    def is_of_the_latest_window(self, run: Mapping[str, Any]) -> bool:
        """Whether the window of a run has not ended yet: after it, a run cannot capture."""
        return [run["tags"]["dagster/partition"]] == self.latest_partitions(1)

    def latest_partitions(self, number: int) -> list[str]:
        """Return the keys of the latest partitions of `etl`, oldest first."""
        [etl] = self.graphql(
            """query ($repository: RepositorySelector!, $number: Int!) {
                partitionSetsOrError(repositorySelector: $repository, pipelineName: "etl") { ... on PartitionSets {
                    results { partitionsOrError(limit: $number, reverse: true) { ... on Partitions {
                        results { name } } } } } } }""",
            repository=_LOCATION,
            number=number,
        )["partitionSetsOrError"]["results"]
        return sorted(partition["name"] for partition in etl["partitionsOrError"]["results"])

    def launch(self, job: str, tags: Mapping[str, str]) -> str:
        """Launch a job. Return the id of the run."""
        result = self.graphql(
            """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
                __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            params={
                "selector": _LOCATION | {"jobName": job},
                "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
            },
        )["launchPipelineExecution"]
        assert result["__typename"] == "LaunchRunSuccess", result
        return str(result["run"]["runId"])

    def backfill(self, *assets: str) -> list[dict[str, Any]]:
        """Backfill assets over one partition more than a run takes. Return the runs, oldest partitions first."""
        [*past, _] = self.latest_partitions(MAX_PARTITIONS_PER_RUN + 2)
        ranges = [past[start : start + MAX_PARTITIONS_PER_RUN] for start in range(0, len(past), MAX_PARTITIONS_PER_RUN)]
        backfill = self._launch_backfill(past, assets)
        until(lambda: len(self.runs("SUCCESS", backfill=backfill)) == len(ranges), seconds=900)
        ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        runs = sorted(self.runs(backfill=backfill), key=lambda run: str(run["tags"][ends[0]]))
        assert [[run["tags"][end] for end in ends] for run in runs] == [[keys[0], keys[-1]] for keys in ranges]
        return runs

    def _launch_backfill(self, partitions: Iterable[str], assets: Iterable[str]) -> str:
        """Launch a backfill, as the UI does for a range. Return its id."""
        result = self.graphql(
            """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
                __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            params={
                "assetSelection": [{"path": asset.split("/")} for asset in assets],
                "partitionNames": list(partitions),
            },
        )["launchPartitionBackfill"]
        assert result["__typename"] == "LaunchBackfillSuccess", result
        return str(result["backfillId"])

    def runs(self, *statuses: str, **tags: str) -> list[dict[str, Any]]:
        """Return the runs with one of the statuses and with the tags `dagster/<name>`, latest first."""
        runs = self.graphql(
            """query ($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs {
                results { runId status jobName startTime endTime tags { key value } } } } }""",
            filter={
                "statuses": list(statuses),
                "tags": [{"key": f"dagster/{name}", "value": value} for name, value in tags.items()],
            },
        )["runsOrError"]["results"]
        return [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in runs]

    def events(self, run: str) -> list[str]:
        """Return the messages in the log of a run."""
        result = self.graphql(
            "query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events { ... on MessageEvent "
            "{ message } } } } }",
            run=run,
        )
        return [event.get("message") or "" for event in result["logsForRun"]["events"]]

    def alerts(self) -> list[str]:
        """Return the subjects of all alerts so far."""
        sqs = boto3.client("sqs")
        while received := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in received:
                self.messages.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return [message["Subject"].removeprefix("totesys ETL: ") for message in self.messages]

    def log(self, part: str) -> list[dict[str, Any]]:
        """Return the lines on stdout of a part. Raise an error if one is not JSON."""
        return [json.loads(line) for line in (self.folder / f"{part}.stdout").read_text().splitlines()]


@contextmanager
def deployment(folder: Path, **settings: str) -> Iterator[Deployment]:
    """Run a deployment over a week of totesys. The environment must have an AWS (moto)."""
    sources, warehouse_server = Server(folder / "sources"), Server(folder / "warehouse")
    with ExitStack() as stack:
        for server in (sources, warehouse_server):
            server.start()
            stack.callback(postgres.remove, server.home)
            stack.callback(server.stop)
        totesys = create_totesys(sources)
        sources.create("dagster")
        arn = boto3.client("sns").create_topic(Name="deployment")["TopicArn"]
        queue = subscribe_queue(arn)
        home = folder / "dagster"
        home.mkdir()
        shutil.copy(ROOT / "deploy" / "dagster.yaml", home)
        webserver_port, code_server_port = free_port(), free_port()
        environment = os.environ | {
            "TOTESYS_DATABASE_URL": totesys,
            "WAREHOUSE_DATABASE_URL": warehouse_server.create("warehouse"),
            "INGESTION_URL": _bucket("ingestion"),
            "TRANSFORMATION_URL": _bucket("transformation"),
            "ALERTS_TOPIC_ARN": arn,
            "METRICS_NAMESPACE": "totesys-etl",
            "DAGSTER_URL": f"http://127.0.0.1:{webserver_port}",
            "LOG_FORMAT": "json",
            "DAGSTER_HOME": str(home),
            "DAGSTER_POSTGRES_HOST": "127.0.0.1",
            "DAGSTER_POSTGRES_PORT": str(sources.port),
            "DAGSTER_POSTGRES_USER": "postgres",
            "DAGSTER_POSTGRES_PASSWORD": "s3cret",
            "DAGSTER_POSTGRES_DB": "dagster",
            "CODE_SERVER_HOST": "127.0.0.1",
            "CODE_SERVER_PORT": str(code_server_port),
            **settings,
        }
        for command in ("instance migrate", "instance concurrency set etl 1"):
            prepare = [sys.executable, "-m", "dagster", *command.split()]
            subprocess.run(prepare, env=environment, check=True, capture_output=True)
        workspace = ["--workspace", str(ROOT / "deploy" / "workspace.yaml"), "--log-format", "json"]
        address = ["--host", "127.0.0.1", "--port"]
        api = ["dagster", "api", "grpc", *address, str(code_server_port), "--module-name", "etl_assets.definitions"]
        stack.enter_context(dagster_service(folder / "code-server", environment, *api, "--log-format", "json"))
        until(lambda: _listens(code_server_port), seconds=120)
        stack.enter_context(
            dagster_service(
                folder / "webserver", environment, "dagster_webserver", *address, str(webserver_port), *workspace
            )
        )
        stack.enter_context(dagster_service(folder / "daemon", environment, "dagster._daemon", "run", *workspace))
        until(lambda: _listens(webserver_port), seconds=120)
        yield Deployment(folder, environment, sources, warehouse_server, queue, webserver_port)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def create_totesys(server: Server) -> str:
    """Create a database with a week of totesys. Return its URL."""
    url = server.create("totesys")
    with connect(url) as connection:
        create_schema(connection)
        Totesys(connection, seed=4).generate_history(date(2024, 8, 15), date(2024, 8, 22))
    return url


def overlapping(runs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a run started before an earlier one had ended."""
    spans = sorted((run["startTime"], run["endTime"]) for run in runs)
    return any(start < end for (_, end), (start, _) in pairwise(spans))


def subscribe_queue(topic: str) -> str:
    """Create a queue that receives the messages of a topic. Return its URL."""
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return str(queue)


def _bucket(name: str) -> str:
    region = boto3.session.Session().region_name
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    return f"s3://{name}"
