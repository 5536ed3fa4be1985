"""`python -m etl_assets check`: what it looks at, what it says is missing, and that its remedies are enough."""

import json
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest
from botocore.exceptions import NoCredentialsError

from etl_assets.__main__ import main
from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.catalog.partitions import ETL_POOL
from etl_assets.preflight.buckets import KEY, check_bucket
from etl_assets.preflight.checks import Outcome, Preflight
from etl_assets.preflight.databases import check_source, check_warehouse
from etl_assets.preflight.services import check_variables
from etl_assets.simulator import postgres
from etl_assets_tests.harness import Platform, unique_numbers
from etl_assets_tests.pipeline import CATALOG, RULES

SECRET = "hunter2"
DOWN = f"postgresql://etl:{SECRET}@127.0.0.1:1/etl"
TOPIC = "arn:aws:sns:eu-west-2:123456789012"

Checks = dict[str, tuple[str, str]]
Check = Callable[..., tuple[Any, Checks]]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """A function that runs the command. It returns the exit code, and how each check ended and what it found."""

    def run(*options: str) -> tuple[Any, Checks]:
        with pytest.raises(SystemExit) as exited:
            main(["check", "--json", *options])
        printed = "".join(capsys.readouterr())
        assert SECRET not in printed
        made = json.loads(printed)["checks"]
        return exited.value.code, {each["name"]: (each["outcome"], each["found"]) for each in made}

    return run


def failures(checks: Checks) -> dict[str, str]:
    return {name: found for name, (outcome, found) in checks.items() if outcome == Outcome.FAILED}


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Dagster storage whose pool is set up."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        instance.event_log_storage.set_concurrency_slots(ETL_POOL, 1)
    return tmp_path


@pytest.fixture
def role(server: postgres.Server, platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A role that may read totesys and create schemas in the warehouse, and no more; the platform uses it."""
    name = f"etl_{next(unique_numbers)}"
    platform.totesys(f"CREATE ROLE {name} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    platform.warehouse(f"GRANT CREATE ON DATABASE {platform.warehouse_url.split('/')[3].split('?')[0]} TO {name}")
    for variable in ("TOTESYS_DATABASE_URL", "WAREHOUSE_DATABASE_URL"):
        monkeypatch.setenv(variable, platform.variables[variable].replace("postgres@", f"{name}@"))
    yield name
    for run in (platform.totesys, platform.warehouse):
        run(f"DROP OWNED BY {name}")
    platform.totesys(f"DROP ROLE {name}")


@pytest.mark.usefixtures("dagster_home", "role")
def test_what_suffices_passes_and_only_two_objects_are_written(platform: Platform, check: Check) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.event_log_storage.set_concurrency_slots(ETL_POOL, 2)
        found = failures(check()[1])
        assert found == {"dagster pool": "the pool etl has the limit 2: run dagster instance concurrency set etl 1"}
        instance.event_log_storage.set_concurrency_slots(ETL_POOL, 1)
    code, checks = check()
    assert failures(checks) == {}
    assert code == 0
    assert {outcome for outcome, _ in checks.values()} == {Outcome.OK, Outcome.NOT_SET}
    assert [name for name, (outcome, _) in checks.items() if outcome == Outcome.NOT_SET][-2:] == ["alerts", "metrics"]
    assert platform.warehouse("SELECT FROM pg_namespace WHERE nspname IN ('warehouse', 'as_of')") == []
    folders = [Path(url.removeprefix("file://")) for url in (platform.ingestion_url, platform.transformation_url)]
    assert [[str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] for folder in folders] == [
        [KEY]
    ] * 2


# By database: what takes a right away, the check that fails then, and what it says.
RIGHTS = {
    "totesys": [
        ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "totesys tables", "cannot be read"),
        ("REVOKE SELECT ON payment, staff FROM {role}", "totesys tables", "payment, staff cannot be read"),
        ("ALTER TABLE staff ENABLE ROW LEVEL SECURITY", "totesys row security", '"staff"'),
    ],
    "new warehouse": [
        ("REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC", "warehouse rights", "GRANT TEMPORARY"),
        ("REVOKE CREATE ON DATABASE {database} FROM {role}", "warehouse load", "lacks a schema"),
    ],
    "loaded warehouse": [
        ("ALTER SCHEMA warehouse OWNER TO postgres", "warehouse rights", "GRANT USAGE, CREATE ON SCHEMA warehouse"),
        ("ALTER TABLE warehouse.loads OWNER TO postgres", "warehouse rights", "ALTER TABLE warehouse.loads OWNER"),
        (
            "ALTER SCHEMA warehouse OWNER TO pg_monitor; ALTER TABLE warehouse.loads OWNER TO pg_monitor",
            "warehouse rights",
            "GRANT pg_monitor TO",
        ),
    ],
}


@pytest.mark.parametrize("database", RIGHTS)
def test_a_right_that_is_missing_is_named_with_what_gives_it(platform: Platform, role: str, database: str) -> None:
    run = platform.totesys if database == "totesys" else platform.warehouse

    def failed() -> dict[str, str]:
        preflight = Preflight()
        if database == "totesys":
            check_source(preflight, partial(connect, os.environ["TOTESYS_DATABASE_URL"]), CATALOG.sources)
        else:
            check_warehouse(preflight, partial(connect, os.environ["WAREHOUSE_DATABASE_URL"]), CATALOG, RULES)
        return {made.name: made.found for made in preflight.checks if made.outcome == Outcome.FAILED}

    if database == "loaded warehouse":
        platform.refresh()
        platform.next_window()
    [[current]] = run("SELECT current_database()::text")
    for broken, name, says in RIGHTS[database]:
        run(broken.format(role=role, database=current))
        found = failed()
        assert (*found,) == (name,), broken
        assert says in found[name]
        [remedy] = re.findall(r"run (.*)", found[name])
        run(remedy)
        assert failed() == {}, remedy
    platform.refresh(full_capture=True)


def test_all_that_is_missing_is_named_at_once(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    connections = ["TOTESYS_DATABASE_URL", "WAREHOUSE_DATABASE_URL", "INGESTION_URL", "TRANSFORMATION_URL"]
    for variable in (*connections, "DAGSTER_HOME"):
        monkeypatch.delenv(variable, raising=False)
    malformed = {
        "PARTITIONS_START": "2999-01-01",
        "AUTOMATION": "maybe",
        "ETL_CRON": "often",
        "FULL_CAPTURE_CRON": "seldom",
        "ALERTS_TOPIC_ARN": "foo",
        "FRESHNESS_FAIL_MINUTES": "5",
    }
    for variable, value in malformed.items():
        monkeypatch.setenv(variable, value)
    code, checks = check("--publish")
    assert code == 1
    assert failures(checks)["alerts"].startswith("ALERTS_TOPIC_ARN must be")
    named = failures(checks)["variables"]
    assert [name for name in (*connections, *malformed) if name not in named] == []
    assert failures(checks)["totesys connection"].startswith("TOTESYS_DATABASE_URL is not set")
    assert failures(checks)["dagster storage"].startswith("DAGSTER_HOME is not set")
    assert checks["totesys tables"] == (Outcome.NOT_CHECKED, "needs totesys connection")


@pytest.mark.usefixtures("dagster_home")
def test_what_is_down_hides_nothing_else(
    server: postgres.Server, platform: Platform, check: Check, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    [[settings]] = platform.totesys("SHOW hba_file")
    platform.totesys(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'")
    hba = Path(settings)
    allowed = hba.read_text()
    hba.write_text(f"local all guarded scram-sha-256\n{allowed}")
    platform.totesys("SELECT pg_reload_conf()")
    monkeypatch.setenv("TOTESYS_DATABASE_URL", platform.totesys_url.replace("postgres@", f"guarded:{SECRET}2@"))
    monkeypatch.setenv("WAREHOUSE_DATABASE_URL", DOWN)
    monkeypatch.setenv("INGESTION_URL", "s3://nowhere")
    monkeypatch.setenv("TRANSFORMATION_URL", s3_bucket)
    monkeypatch.setenv("ALERTS_TOPIC_ARN", f"{TOPIC}:nobody")
    monkeypatch.setenv("METRICS_NAMESPACE", "totesys")
    _, checks = check("--publish")
    hba.write_text(allowed)
    found = failures(checks)
    assert found.keys() == {"totesys connection", "warehouse connection", "ingestion bucket", "alerts"}
    assert "password authentication failed" in found["totesys connection"]
    assert "no connection to PostgreSQL at 127.0.0.1:1" in found["warehouse connection"]
    assert "bucket nowhere: " in found["ingestion bucket"]
    assert found["ingestion bucket"].endswith("(create it, or correct the URL)")
    assert "does not exist" in found["alerts"]
    boto3.client("sns").create_topic(Name="nobody")
    assert check("--publish")[1]["alerts"][0] == Outcome.OK
    assert check()[1]["alerts"] == (Outcome.NOT_CHECKED, f"{TOPIC}:nobody: --publish tries it")
    [written] = boto3.client("s3").list_objects_v2(Bucket=s3_bucket.removeprefix("s3://"))["Contents"]
    assert written["Key"] == KEY


def test_a_store_that_overwrites_is_refused(bucket_url: str) -> None:
    class Overwriting(Bucket):
        def create(self, key: str) -> Any:
            return super().create(f"{key}-{next(unique_numbers)}")

    preflight = Preflight()
    check_bucket(preflight, "ingestion", lambda: Overwriting(bucket_url))
    outcomes = {made.name: made.outcome for made in preflight.checks}
    assert outcomes == {
        "ingestion bucket": Outcome.OK,
        "ingestion write-once": Outcome.FAILED,
        "ingestion read": Outcome.NOT_CHECKED,
    }


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(13, "Permission denied", "/etc/ingestion"), "let this user read and write there"),
        (NoCredentialsError(), "give them as to any AWS SDK"),
    ],
)
def test_a_bucket_that_may_not_be_used_is_named_with_the_remedy(error: Exception, remedy: str) -> None:
    def refused() -> Bucket:
        raise error

    preflight = Preflight()
    check_bucket(preflight, "ingestion", refused)
    assert preflight.checks[0].found.startswith(f"{error}: {remedy}")


def test_buckets_at_one_place_are_refused() -> None:
    urls = {"INGESTION_URL": "file:///data/", "TRANSFORMATION_URL": "file:///data"}
    databases = dict.fromkeys(("TOTESYS_DATABASE_URL", "WAREHOUSE_DATABASE_URL"), "postgresql://u@h/d")
    preflight = Preflight()
    check_variables(preflight, urls | databases)
    [made] = preflight.checks
    assert made.found.startswith("TRANSFORMATION_URL must be another place than INGESTION_URL")


def test_the_text_has_a_line_per_check() -> None:
    preflight = Preflight()
    preflight.check("versions", lambda: "Python 3.13")
    preflight.check("ingestion bucket", lambda: open_nothing("two\nlines"))
    preflight.check("ingestion read", lambda: "never seen", "ingestion bucket")
    assert preflight.as_text().splitlines() == [
        "ok           versions          Python 3.13",
        "failed       ingestion bucket  two lines",
        "not checked  ingestion read    needs ingestion bucket",
    ]


def open_nothing(reason: str) -> str:
    raise OSError(reason)
