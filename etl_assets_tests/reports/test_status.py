"""The state of the platform, by `python -m etl_assets status` and on the page of reports."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import boto3
import pytest

from etl_assets.__main__ import main
from etl_assets.adapters.object_store import Bucket
from etl_assets.catalog.stages import REPORT
from etl_assets.ingestion.manifest import Capture, CapturedFile, Source, publish
from etl_assets.simulator.postgres import Server
from etl_assets_tests.harness import COPIED, Platform, new_database
from etl_assets_tests.pipeline import SOURCE, STAR

RECONCILED = {name: copied.table for name, copied in COPIED.items()}

SECRET = "hunter2"
DOWN = f"postgresql://etl:{SECRET}@127.0.0.1:1/etl"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}

Status = Callable[..., tuple[Any, str]]


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str]) -> Status:
    """A function that runs the command with options. It returns the exit code and what was printed."""

    def run(*options: str) -> tuple[Any, str]:
        with pytest.raises(SystemExit) as exited:
            main(["status", *options])
        return exited.value.code, "".join(capsys.readouterr())

    return run


def as_json(status: Status) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(status("--json")[1])
    return state


def minute(time: str) -> str:
    return time[:16].replace("T", " ")


def utc(time: datetime) -> str:
    return f"{time.isoformat(timespec='microseconds')}Z"


def line(text: str, start: str) -> str:
    found, *_ = (line for line in text.splitlines() if line.startswith(f"{start} "))
    return found.removeprefix(start).strip()


def edit_order(platform: Platform) -> None:
    platform.totesys("UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id = 1")
    platform.next_window()


@dataclass(frozen=True)
class Edited:
    """A platform after two captures, both loaded: of everything, and of one changed order. Tests do not change it."""

    platform: Platform
    first: Capture
    second: Capture


@pytest.fixture(scope="module")
def edited(server: Server, busy_totesys: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edited]:
    with pytest.MonkeyPatch.context() as environment:
        buckets = tmp_path_factory.mktemp("buckets").as_uri()
        platform = Platform(new_database(server, busy_totesys), new_database(server), buckets, environment)
        platform.refresh()
        first = platform.latest_capture
        edit_order(platform)
        platform.refresh()
        yield Edited(platform, first, platform.latest_capture)


def test_each_table_has_the_latest_capture_and_load_with_rows_of_it(edited: Edited, status: Status) -> None:
    first, second = edited.first, edited.second
    state = as_json(status)
    captures, loads = state["captures"], state["warehouse"]["tables"]
    assert {name: table["capture"] for name, table in captures["tables"].items()} == {
        name: (second if name in second.files else first).id for name in SOURCE
    }
    file = first.files["staff"]
    assert captures["tables"]["staff"] == {
        "capture": first.id,
        "captured_at": utc(first.captured_at),
        "rows": 20,
        "bytes": file.bytes,
        "uri": f"{edited.platform.ingestion_url}/{file.key}",
    }
    assert captures["tables"]["sales_order"]["rows"] == 1
    assert loads.keys() == STAR.keys()
    for star, rows, capture in (("fact_sales_order", 1, second), ("dim_staff", 20, first)):
        load = loads[star]["latest_load"]
        assert (load["rows"], load["captured_at"]) == (rows, utc(capture.captured_at))
        assert load["captured_at"] < load["loaded_at"] < state["time"]
    assert captures["source"] == asdict(second.source)
    for fact in ("partition", "full_because", "snapshot", "horizon"):
        assert captures[fact] == getattr(second, fact)
    assert captures["capture"] == second.id
    assert state["warehouse"]["latest_loaded"] == second.id
    assert state["latest_capture_loaded"] is True
    assert all(abs(clock["seconds_ahead"]) < 5 for clock in state["clocks"].values())
    assert (*state["clocks"],) == ("totesys", "warehouse")


def test_json_and_text_state_the_same_facts(edited: Edited, status: Status) -> None:
    state = as_json(status)
    code, text = status()
    assert code == 0
    assert max(map(len, text.splitlines())) <= 120
    captures = state["captures"]
    for name, table in captures["tables"].items():
        key = table["uri"].removeprefix(f"{captures['url']}/")
        assert line(text, name).split() == [*minute(table["captured_at"]).split(), f"{table['rows']:,}", key]
    for name, star in state["warehouse"]["tables"].items():
        load = star["latest_load"]
        cells = [*minute(load["captured_at"]).split(), *minute(load["loaded_at"]).split(), f"{load['rows']:,}"]
        assert line(text, name).split() == [*cells, str(star["pending_rows"]), str(star["rejected_rows"])]
    latest = f"{minute(captures['captured_at'])} UTC"
    assert line(text, "latest capture") == f"{latest}, partition {captures['partition']}, changed rows"
    assert line(text, "latest load") == f"the capture of {latest}, which is the latest"
    *identity, started_at = captures["source"].values()
    for number in (*identity, captures["horizon"]):
        assert str(number) in line(text, "position in totesys")
    assert line(text, "totesys started") == started_at
    assert all(line(text, f"clock of {name}").endswith(" s") for name in state["clocks"])


def test_rows_that_are_not_loaded_are_counted_and_so_is_a_capture(platform: Platform, status: Status) -> None:
    platform.refresh()
    platform.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
    for _ in range(2):  # two versions of three rows
        platform.totesys(
            "UPDATE sales_order SET currency_id = 9, units_sold = units_sold + 1 WHERE sales_order_id IN (1, 2, 3)"
        )
        platform.next_window()
        platform.refresh()
    tables = as_json(status)["warehouse"]["tables"]
    not_loaded = {name: (star["pending_rows"], star["rejected_rows"]) for name, star in tables.items()}
    assert not_loaded == dict.fromkeys(STAR, (0, 0)) | {"fact_sales_order": (3, 0), "dim_currency": (0, 1)}
    edit_order(platform)
    platform.refresh("ingestion")
    assert as_json(status)["latest_capture_loaded"] is False
    assert line(status()[1], "latest load").endswith("; the latest is not loaded")


def section(text: str, title: str) -> list[list[str]]:
    """Return the cells of the rows of a table, by its title."""
    _, _, rest = text.partition(f"{title}\n")
    _, _, *rows = rest.partition("\n\n")[0].splitlines()
    return [re.split("  +", row) for row in rows]


def test_the_latest_reconciliation_of_each_table_is_shown(platform: Platform, status: Status) -> None:
    platform.refresh()
    platform.next_window()
    platform.totesys("UPDATE sales_order SET agreed_payment_date = 'tomorrow' WHERE sales_order_id = 1")
    platform.warehouse("UPDATE warehouse.fact_payment SET paid = NOT paid WHERE payment_id IN (1, 2)")
    platform.refresh(full_capture=True)
    captured = minute(utc(platform.latest_capture.captured_at))
    shown = {row[0]: row[1:] for row in section(status()[1], "Latest reconciliation of each star table")}
    assert shown.keys() == STAR.keys() - {"dim_date"}
    for name, cells in shown.items():
        repaired, apart = ("2" if name == "fact_payment" else "0"), ("1" if name == "fact_sales_order" else "0")
        count = f"{platform.totesys(f'SELECT count(*) FROM {RECONCILED[name]}')[0][0]:,}"
        assert cells == [captured, count, count, repaired, apart, "equal"]
    platform.warehouse(
        """UPDATE warehouse.reconciliations SET differing = 2, first_keys = '[{"payment_id": 7}, {"payment_id": 8}]'
           WHERE star_table = 'fact_payment'"""
    )
    platform.warehouse("UPDATE warehouse.reconciliations SET differing = NULL WHERE star_table = 'dim_staff'")
    platform.warehouse(
        """UPDATE warehouse.reconciliations SET differing = NULL, source_checksum = NULL
           WHERE star_table = 'dim_design'"""
    )
    shown = {row[0]: row[1:] for row in section(status()[1], "Latest reconciliation of each star table")}
    results = {name: cells[-1] for name, cells in shown.items() if cells[-1] != "equal"}
    assert results == {
        "fact_payment": "2 rows differ, first 7",
        "dim_staff": "the checksums differ",
        "dim_design": "not compared",
    }
    found = as_json(status)["warehouse"]["tables"]["fact_payment"]["reconciliation"]
    assert (found["source_table"], found["repaired"], found["differing"]) == ("payment", 2, 2)


def test_a_manifest_of_an_older_release_leaves_earlier_rows_unknown(platform: Platform, status: Status) -> None:
    platform.refresh("ingestion")
    first = platform.latest_capture
    edit_order(platform)
    platform.refresh("ingestion")
    path = max(Path(platform.ingestion_url.removeprefix("file://")).glob("captures/*/*/*/*/*.json"))
    manifest = json.loads(path.read_text())
    del manifest["earlier_files"], manifest["files_unknown_until"]
    path.write_text(json.dumps(manifest))
    unknown = f"no rows since {minute(first.captured_at.isoformat(' '))}; before that, not recorded"
    for full_capture in (False, True):
        captures = as_json(status)["captures"]
        assert {name for name, table in captures["tables"].items() if table} == {*manifest["files"]}
        assert captures["unknown_until"] == utc(first.captured_at)
        assert line(status()[1], "staff").endswith(unknown)
        platform.next_window()
        platform.refresh("ingestion", full_capture=full_capture)
    assert all(as_json(status)["captures"]["tables"].values())


def test_an_empty_platform_is_a_normal_answer(platform: Platform, status: Status) -> None:
    state = as_json(status)
    assert (state["captures"], state["latest_capture_loaded"], state["errors"]) == (None, None, {})
    empty = {"latest_load": None, "pending_rows": 0, "rejected_rows": 0, "reconciliation": None}
    assert state["warehouse"] == {"latest_loaded": None, "tables": dict.fromkeys(STAR, empty)}
    code, text = status()
    assert (code, line(text, "latest capture")) == (0, "nothing is captured yet")
    assert line(text, "latest load") == "nothing is loaded yet"


def test_a_table_that_never_had_rows_is_named(platform: Platform, status: Status) -> None:
    platform.totesys("TRUNCATE payment")
    platform.refresh("ingestion")
    assert line(status()[1], "payment").endswith("no rows yet")


@pytest.mark.parametrize(
    ("part", "variable", "url", "problem"),
    [
        ("totesys", "TOTESYS_DATABASE_URL", DOWN, "no connection to PostgreSQL at 127.0.0.1:1: "),
        ("warehouse", "WAREHOUSE_DATABASE_URL", DOWN, "no connection to PostgreSQL at 127.0.0.1:1: "),
        (
            "warehouse",
            "WAREHOUSE_DATABASE_URL",
            f"mysql://etl:{SECRET}@h/d",
            "WAREHOUSE_DATABASE_URL must look like postgresql://",
        ),
        ("ingestion", "INGESTION_URL", "s3://nowhere/x", "bucket nowhere: "),
    ],
)
@pytest.mark.usefixtures("edited", "s3_bucket")
def test_a_part_that_is_down_is_named_without_secrets_and_hides_nothing_else(
    part: str, variable: str, url: str, problem: str, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = as_json(status)
    monkeypatch.setenv(variable, url)
    state = as_json(status)
    code, text = status()
    assert code == 1
    assert line(text, f"{part} cannot be read").startswith(problem)
    assert (*state["errors"],) == (part,)
    assert (state["captures"] == known["captures"]) is (part != "ingestion")
    assert (state["warehouse"] == known["warehouse"]) is (part != "warehouse")
    assert {*state["clocks"]} == {"totesys", "warehouse"} - {part}
    assert SECRET not in text + json.dumps(state)


def test_a_missing_variable_is_named_in_one_line(
    platform: Platform, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INGESTION_URL")
    assert status() == ("INGESTION_URL is not set (see docs/configuration.md)", "")


@pytest.fixture
def s3_requests() -> Iterator[list[str]]:
    """The requests that new S3 clients send."""
    requests: list[str] = []
    boto3.setup_default_session()
    boto3.DEFAULT_SESSION.events.register("before-send.s3", lambda request, **_: requests.append(request.url))
    yield requests
    boto3.setup_default_session()


def test_ten_requests_to_s3_suffice_however_long_the_history(
    platform: Platform, s3_bucket: str, status: Status, s3_requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(s3_bucket)
    start = datetime(2024, 8, 14, 14, 15)
    files = {"staff": CapturedFile("staff/2024/08/14/14-15/staff-2024-08-14_14.15.00.000000.csv", 3, 120, "ab")}
    for days in (0, 1, 40, 400, 800):
        for minutes in range(0, 60, 5):
            time = start + timedelta(days=days, minutes=minutes)
            partition = f"{time.replace(minute=minutes // 15 * 15):%Y-%m-%d-%H:%M}"
            publish(bucket, Capture(time, partition, "5:5:", Source(1, 1, 1), None, None, {}, files))
    monkeypatch.setenv("INGESTION_URL", s3_bucket)
    s3_requests.clear()
    staff = as_json(status)["captures"]["tables"]["staff"]
    assert staff["uri"] == f"{s3_bucket}/{files['staff'].key}"
    assert staff["captured_at"] == utc(start)
    assert 0 < len(s3_requests) <= 10


def test_the_page_of_reports_shows_the_same_and_needs_no_source(
    edited: Edited, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOTESYS_DATABASE_URL", DOWN)
    edited.platform.definitions.resolve_job_def(REPORT).execute_in_process(run_config=QUIET)
    bucket = Bucket(edited.platform.transformation_url)
    with bucket.open(max(bucket.objects("reports"))) as file:
        page = unescape(file.read().decode())
    facts, *tables = status()[1].split("\n\n")
    for fact in facts.splitlines():
        name, text = fact.split("  ", 1)
        assert f">{name}</td>" in page
        assert name.startswith("clock") or f">{text.strip()}</td>" in page
    for table in tables:
        title, _, _, *rows = table.splitlines()
        assert f">{title}</h2>" in page
        assert all(f">{cell.strip()}</td>" in page for row in rows for cell in row.split("  ") if cell)
    assert SECRET not in page
