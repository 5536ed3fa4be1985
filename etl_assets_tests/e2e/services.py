"""The parts of a deployment: PostgreSQL, AWS (moto), the code server, webserver and daemon, and what they tell."""

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

from etl_assets.databases import connect
from etl_assets.ingestion import PARTITIONS_A_RUN
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets_tests.platform import dagster, until

ROOT = Path(__file__).parents[2]
_LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "etl_assets"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """A PostgreSQL server on a port, which can be stopped and started."""

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
    """All parts, and the ways in: SQL, GraphQL, SNS by a queue, CloudWatch, the logs."""

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

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Ask Dagster's GraphQL."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "errors" not in told, told
        return dict(told["data"])

    def switch_on(self, *sensors: str) -> None:
        for sensor in sensors:
            told = self.ask(
                "mutation ($at: SensorSelector!) { startSensor(sensorSelector: $at) { __typename } }",
                at=_LOCATION | {"sensorName": sensor},
            )
            assert told["startSensor"]["__typename"] == "Sensor", told

    @contextmanager
    def schedule_on(self, schedule: str) -> Iterator[None]:
        told = self.ask(
            """mutation ($at: ScheduleSelector!) { startSchedule(scheduleSelector: $at) {
                __typename ... on ScheduleStateResult { scheduleState { id } } } }""",
            at=_LOCATION | {"scheduleName": schedule},
        )["startSchedule"]
        assert told["__typename"] == "ScheduleStateResult", told
        try:
            yield
        finally:
            until(lambda: self._is_off(schedule, told["scheduleState"]["id"]))

    def _is_off(self, schedule: str, state: str) -> bool:
        """Switch a schedule off. A tick under way writes at its end that it is on: so after it, and looking again."""
        look = """query ($at: ScheduleSelector!) { scheduleOrError(scheduleSelector: $at) { ... on Schedule {
            scheduleState { status ticks(limit: 1) { status } } } } }"""
        stop = "mutation ($id: String!) { stopRunningSchedule(id: $id) { __typename } }"
        at = _LOCATION | {"scheduleName": schedule}
        [tick] = self.ask(look, at=at)["scheduleOrError"]["scheduleState"]["ticks"] or [{"status": "NONE"}]
        if tick["status"] == "STARTED":
            return False
        assert self.ask(stop, id=state)["stopRunningSchedule"]["__typename"] == "ScheduleStateResult"
        sleep(5)
        return bool(self.ask(look, at=at)["scheduleOrError"]["scheduleState"]["status"] == "STOPPED")

    def newest_partitions(self, number: int) -> list[str]:
        """The names of the newest partitions of `etl`, oldest first."""
        [etl] = self.ask(
            """query ($at: RepositorySelector!, $number: Int!) {
                partitionSetsOrError(repositorySelector: $at, pipelineName: "etl") { ... on PartitionSets {
                    results { partitionsOrError(limit: $number, reverse: true) { ... on Partitions {
                        results { name } } } } } } }""",
            at=_LOCATION,
            number=number,
        )["partitionSetsOrError"]["results"]
        return sorted(partition["name"] for partition in etl["partitionsOrError"]["results"])

    def launch(self, job: str, tags: Mapping[str, str]) -> str:
        """Launch a job; give the id of the run."""
        told = self.ask(
            """mutation ($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
                __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            params={
                "selector": _LOCATION | {"jobName": job},
                "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in tags.items()]},
            },
        )["launchPipelineExecution"]
        assert told["__typename"] == "LaunchRunSuccess", told
        return str(told["run"]["runId"])

    def backfill_in_pieces(self, *assets: str) -> list[dict[str, Any]]:
        """Backfill assets over a past of three runs' length, the last of one partition; give these, oldest first."""
        [*past, _] = self.newest_partitions(2 * PARTITIONS_A_RUN + 2)
        pieces = [past[at : at + PARTITIONS_A_RUN] for at in range(0, len(past), PARTITIONS_A_RUN)]
        backfill = self._backfill(past, assets)
        until(lambda: len(self.runs("SUCCESS", backfill=backfill)) == len(pieces), seconds=300)
        ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        runs = sorted(self.runs(backfill=backfill), key=lambda run: str(run["tags"][ends[0]]))
        assert [[run["tags"][end] for end in ends] for run in runs] == [[piece[0], piece[-1]] for piece in pieces]
        return runs

    def _backfill(self, partitions: Iterable[str], assets: Iterable[str]) -> str:
        """Launch a backfill, as the UI does for a range; give its id."""
        told = self.ask(
            """mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
                __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            params={
                "assetSelection": [{"path": asset.split("/")} for asset in assets],
                "partitionNames": list(partitions),
            },
        )["launchPartitionBackfill"]
        assert told["__typename"] == "LaunchBackfillSuccess", told
        return str(told["backfillId"])

    def runs(self, *statuses: str, **tags: str) -> list[dict[str, Any]]:
        """The runs, newest first, with their tags."""
        found = self.ask(
            """query ($filter: RunsFilter!) { runsOrError(filter: $filter) { ... on Runs {
                results { runId status jobName startTime endTime tags { key value } } } } }""",
            filter={
                "statuses": list(statuses),
                "tags": [{"key": f"dagster/{name}", "value": value} for name, value in tags.items()],
            },
        )["runsOrError"]["results"]
        return [run | {"tags": {tag["key"]: tag["value"] for tag in run["tags"]}} for run in found]

    def events(self, run: str) -> list[str]:
        """What was logged of a run."""
        told = self.ask(
            "query ($run: ID!) { logsForRun(runId: $run) { ... on EventConnection { events { ... on MessageEvent "
            "{ message } } } } }",
            run=run,
        )
        return [event.get("message") or "" for event in told["logsForRun"]["events"]]

    def alerts(self) -> list[str]:
        """The subjects of the alerts so far."""
        sqs = boto3.client("sqs")
        while found := sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                self.messages.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=self.queue, ReceiptHandle=message["ReceiptHandle"])
        return [message["Subject"].removeprefix("totesys ETL: ") for message in self.messages]

    def log(self, part: str) -> list[dict[str, Any]]:
        """The lines of stdout of a part, which must all be JSON."""
        return [json.loads(line) for line in (self.folder / f"{part}.stdout").read_text().splitlines()]


@contextmanager
def deployment(folder: Path, **settings: str) -> Iterator[Deployment]:
    """Run all parts of a deployment over a week of totesys; AWS must be in the environment (moto)."""
    sources, warehouse_server = Server(folder / "sources"), Server(folder / "warehouse")
    with ExitStack() as stack:
        for server in (sources, warehouse_server):
            server.start()
            stack.callback(postgres.remove, server.home)
            stack.callback(server.stop)
        totesys = a_week_of_totesys(sources)
        sources.create("dagster")
        arn = boto3.client("sns").create_topic(Name="deployment")["TopicArn"]
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
        made = Deployment(folder, environment, sources, warehouse_server, queue_of(arn), webserver_port)
        for command in ("instance migrate", "instance concurrency set etl 1"):
            prepare = [sys.executable, "-m", "dagster", *command.split()]
            subprocess.run(prepare, env=environment, check=True, capture_output=True)
        workspace = ["--workspace", str(ROOT / "deploy" / "workspace.yaml"), "--log-format", "json"]
        address = ["--host", "127.0.0.1", "--port"]
        api = ["dagster", "api", "grpc", *address, str(code_server_port), "--module-name", "etl_assets.definitions"]
        stack.enter_context(dagster(folder / "code-server", environment, *api, "--log-format", "json"))
        until(lambda: _listens(code_server_port), seconds=120)
        stack.enter_context(
            dagster(folder / "webserver", environment, "dagster_webserver", *address, str(webserver_port), *workspace)
        )
        stack.enter_context(dagster(folder / "daemon", environment, "dagster._daemon", "run", *workspace))
        until(lambda: _listens(webserver_port), seconds=120)
        yield made


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def a_week_of_totesys(server: Server) -> str:
    """Make a totesys with a past, and give its URL."""
    url = server.create("totesys")
    with connect(url) as connection:
        create_schema(connection)
        Totesys(connection, seed=4).past(date(2024, 8, 15), date(2024, 8, 22))
    return url


def overlapping(runs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a run began before an earlier one had ended."""
    spans = sorted((run["startTime"], run["endTime"]) for run in runs)
    return any(start < end for (_, end), (start, _) in pairwise(spans))


def queue_of(topic: str) -> str:
    """Make a queue that gets what is published to a topic, and give its URL."""
    sqs = boto3.client("sqs")
    queue = sqs.create_queue(QueueName="alerts")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return str(queue)


def _bucket(name: str) -> str:
    region = boto3.session.Session().region_name
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    return f"s3://{name}"
