"""Fixtures of all tests: a PostgreSQL server, an S3 server, new databases and buckets, and the platform over them."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from etl_assets.adapters.postgres import Connection, connect
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets_tests.chaos import SEED
from etl_assets_tests.harness import Platform, fill_empty_tables, new_database, unique_numbers

_REGION = "eu-west-2"
_FIGURE = "figure: "


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures that tests recorded, by test and in total."""
    by_test: list[tuple[str, dict[str, int]]] = []
    for report in terminalreporter.getreports("passed"):
        recorded = {name.removeprefix(_FIGURE): value for name, value in report.user_properties if _FIGURE in name}
        if report.when == "call" and recorded:
            by_test.append((report.nodeid.partition("::")[2], recorded))
    if not by_test:
        return
    terminalreporter.section("figures")
    total: Counter[str] = Counter()
    for test, recorded in sorted(by_test):
        terminalreporter.line(f"{test}: {', '.join(f'{value:,} {name}' for name, value in recorded.items())}")
        total.update(recorded)
    terminalreporter.line(f"seed: {SEED}")
    terminalreporter.line(f"total: {', '.join(f'{value:,} {name}' for name, value in total.items())}")


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """A function that records figures for the summary."""

    def record(**values: int) -> None:
        for name, value in values.items():
            record_property(_FIGURE + name.replace("_", " "), value)

    return record


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Server]:
    home = tmp_path_factory.mktemp("postgres")
    with postgres.serve(home, max_connections="100", max_prepared_transactions="2") as running:
        yield running
    postgres.remove(home)


@pytest.fixture(scope="session")
def empty_totesys(server: postgres.Server) -> str:
    """The name of a database with the tables of totesys, without rows."""
    with connect(server.create_database("empty_totesys")) as connection:
        create_schema(connection)
    return "empty_totesys"


@pytest.fixture(scope="session")
def busy_totesys(server: postgres.Server, empty_totesys: str) -> str:
    """The name of a database with a month of totesys."""
    with connect(server.create_database("busy_totesys", empty_totesys)) as connection:
        Totesys(connection, seed=1).generate_history(date(2024, 7, 22), date(2024, 8, 22))
        fill_empty_tables(connection)
    return "busy_totesys"


@pytest.fixture
def totesys_url(server: postgres.Server, busy_totesys: str) -> str:
    return new_database(server, busy_totesys)


@pytest.fixture
def totesys(totesys_url: str) -> Iterator[Connection]:
    with connect(totesys_url) as connection:
        yield connection


@pytest.fixture
def warehouse_url(server: postgres.Server) -> str:
    return new_database(server)


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
    """The simulated AWS, in the environment of all tests of a module."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in _aws(s3_endpoint).items():
            environment.setenv(name, value)
        yield


@pytest.fixture
def s3_bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket."""
    for name, value in _aws(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{next(unique_numbers)}"
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": _REGION})
    return f"s3://{name}"


@pytest.fixture
def bucket_url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/buckets"


@pytest.fixture
def platform(totesys_url: str, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform over a month of totesys, with buckets in local folders."""
    return Platform(totesys_url, warehouse_url, bucket_url, monkeypatch)


@pytest.fixture
def loaded(platform: Platform) -> Platform:
    """The platform after a first load, in the next window."""
    platform.refresh()
    platform.next_window()
    return platform
