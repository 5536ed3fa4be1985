"""What tests share: a PostgreSQL server, an S3 server, fresh databases and buckets, and the platform over them."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from etl_assets.databases import Connection, connect
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets_tests.chaos import SEED
from etl_assets_tests.platform import Platform

_REGION = "eu-west-2"
_FIGURE = "figure: "
_numbers = itertools.count()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests noted, by test and in all."""
    shown: list[tuple[str, dict[str, int]]] = []
    for report in terminalreporter.getreports("passed"):
        noted = {name.removeprefix(_FIGURE): value for name, value in report.user_properties if _FIGURE in name}
        if report.when == "call" and noted:
            shown.append((report.nodeid.partition("::")[2], noted))
    if not shown:
        return
    terminalreporter.section("figures")
    total: Counter[str] = Counter()
    for test, noted in sorted(shown):
        terminalreporter.line(f"{test}: {', '.join(f'{value:,} {name}' for name, value in noted.items())}")
        total.update(noted)
    terminalreporter.line(f"seed: {SEED}")
    terminalreporter.line(f"in all: {', '.join(f'{value:,} {name}' for name, value in total.items())}")


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Note figures for the report."""

    def note(**values: int) -> None:
        for name, value in values.items():
            record_property(_FIGURE + name.replace("_", " "), value)

    return note


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Server]:
    home = tmp_path_factory.mktemp("postgres")
    with postgres.serve(home, max_connections="100") as running:
        yield running
    postgres.remove(home)


@pytest.fixture(scope="session")
def empty_totesys(server: postgres.Server) -> str:
    """The name of a database with the tables of totesys and no rows."""
    with connect(server.create_database("empty_totesys")) as connection:
        create_schema(connection)
    return "empty_totesys"


@pytest.fixture(scope="session")
def busy_totesys(server: postgres.Server, empty_totesys: str) -> str:
    """The name of a database with a month of totesys."""
    with connect(server.create_database("busy_totesys", empty_totesys)) as connection:
        Totesys(connection, seed=1).past(date(2024, 7, 22), date(2024, 8, 22))
    return "busy_totesys"


def fresh(server: postgres.Server, template: str = "template1") -> str:
    return server.create_database(f"test_{next(_numbers)}", template)


@pytest.fixture
def totesys_url(server: postgres.Server, busy_totesys: str) -> str:
    return fresh(server, busy_totesys)


@pytest.fixture
def totesys(totesys_url: str) -> Iterator[Connection]:
    with connect(totesys_url) as connection:
        yield connection


@pytest.fixture
def warehouse_url(server: postgres.Server) -> str:
    return fresh(server)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


def _aws(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": _REGION,
    }


@pytest.fixture(scope="module")
def aws(s3_endpoint: str) -> Iterator[None]:
    """An AWS for all tests of a module."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in _aws(s3_endpoint).items():
            environment.setenv(name, value)
        yield


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket."""
    for name, value in _aws(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{next(_numbers)}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": _REGION})
    return f"s3://{name}"


@pytest.fixture
def bucket_url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/buckets"


@pytest.fixture
def platform(totesys_url: str, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform over a month of totesys, with buckets in files."""
    return Platform(totesys_url, warehouse_url, bucket_url, monkeypatch)
