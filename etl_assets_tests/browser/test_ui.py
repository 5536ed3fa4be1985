"""What a data engineer sees and does in the UI, in a real browser over a real deployment."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from etl_assets.buckets import Bucket
from etl_assets.captures import in_partition
from etl_assets_tests.browser.pages import Browser, chromium, needs_chromium
from etl_assets_tests.e2e.services import ROOT, Deployment, deployment

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def deployed(aws: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    needs_chromium()
    with deployment(tmp_path_factory.mktemp("deployment")) as made:
        yield made


@pytest.fixture(scope="module")
def browser(deployed: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(
        tmp_path_factory.mktemp("profile"),
        viewport={"width": 1400, "height": 900},
        timezone_id="UTC",
        locale="en-US",
    ) as context:
        context.set_default_timeout(90_000)
        yield Browser(context.pages[0], deployed.url, ROOT / "docs" / "images")


@pytest.fixture(scope="module")
def partition(browser: Browser, deployed: Deployment) -> str:
    """The partition of a run of `etl` launched from its page."""
    browser.open("/locations/etl_assets/jobs/etl", "^ *etl")
    run = browser.materialize("Materialize all")
    [found] = [each for each in deployed.runs("SUCCESS") if each["runId"] == run]
    assert deployed.warehouse("SELECT count(*) FROM warehouse.loads") == [[1]]
    return str(found["tags"]["dagster/partition"])


def test_the_lineage_goes_through_all_stages(browser: Browser, partition: str) -> None:
    names = ("^fact_sales_order$", "^sales_order$")
    browser.open_lineage('+key:"warehouse/fact_sales_order"', *names, r"^Materialize all \(3\)", "Passed$")
    assert len(re.findall("^fact_sales_order$", browser.text, re.M)) == 2
    browser.keep("lineage", {"x": 240, "y": 290, "width": 1150, "height": 320})


@pytest.mark.parametrize(
    ("asset", "kind", "column"),
    [
        ("totesys/sales_order", "Postgres", "units_sold"),
        ("ingestion/sales_order", "Postgres", "units_sold"),
        ("transformation/fact_sales_order", "pandas", "sales_staff_id"),
        ("warehouse/fact_sales_order", "Postgres", "sales_staff_id"),
    ],
)
def test_an_asset_of_each_stage_shows_what_it_is(
    browser: Browser, partition: str, asset: str, kind: str, column: str
) -> None:
    browser.open_asset(asset, "overview", "^Description$", "^Owners$", "^data-engineering$", f"^{kind}$", "^Columns$")
    browser.shows(f"^{column}", "Who sold|How many bags", "^integer$")
    if asset.startswith("warehouse"):
        browser.shows("^Row count$", r"warehouse\.fact_sales_order")
        browser.keep("asset")


def test_its_partitions_show_which_are_there(browser: Browser, partition: str) -> None:
    browser.open_asset("warehouse/fact_sales_order", "partitions", r"^Materialized \(1\)", "^Missing")


def test_its_checks_have_passed(browser: Browser, partition: str) -> None:
    names = ("nothing_rejected", "repaired_rows", "keys_unique", "foreign_keys_resolve", "current_unique")
    browser.open_asset(
        "warehouse/fact_sales_order", "checks", *(f"^{name}$" for name in names), "^Evaluation result\\s+Passed$"
    )
    browser.keep("checks")


def test_one_asset_is_materialized_and_its_result_read(browser: Browser, deployed: Deployment, partition: str) -> None:
    browser.open_asset("transformation/dim_staff", "overview", "^Description$")
    run = browser.materialize("Materialize", partition)
    captures = in_partition(Bucket(deployed.environment["INGESTION_URL"]), partition)
    staff = sum(capture.files["staff"].rows for capture in captures if "staff" in capture.files)
    browser.open_asset(
        "transformation/dim_staff",
        "events",
        f"^Partition {partition} materialized in run {run[:8]}",
        rf"^dagster/row_count\s+{staff}",
        r"^rejected\s+0",
        r"^seconds_transform\s+0?\.\d+",
    )


def test_a_full_capture_is_launched_from_the_launchpad(browser: Browser, deployed: Deployment, partition: str) -> None:
    before = deployed.warehouse("SELECT count(*) FROM warehouse.loads WHERE full_capture")
    browser.open("/locations/etl_assets/jobs/etl", "^ *etl")
    present = datetime.now(UTC)
    run = browser.launch(
        "Materialize all", f"{present.replace(minute=present.minute // 15 * 15):%Y-%m-%d-%H:%M}", "false", "true"
    )
    assert deployed.warehouse("SELECT count(*) FROM warehouse.loads WHERE full_capture") == [[before[0][0] + 1]]
    browser.open_asset("ingestion/staff", "events", f"materialized in run {run[:8]}", r"^full\s+asked for")


def test_a_person_is_not_shown_in_a_preview(browser: Browser, deployed: Deployment, partition: str) -> None:
    [[email]] = deployed.totesys("SELECT email_address FROM staff ORDER BY staff_id LIMIT 1")
    browser.open_asset("transformation/dim_staff", "events", "^preview")
    browser.shows("•••", "department_name")
    assert email not in browser.text


def test_a_report_shows_its_chart_and_its_first_rows(browser: Browser, partition: str) -> None:
    browser.open("/locations/etl_assets/jobs/report", "^ *report")
    browser.materialize_unpartitioned("Materialize all")
    browser.open_asset("reports/revenue_by_month", "events", "^first_rows", r"^dagster/row_count\s+[1-9]")
    browser.page.get_by_text("[Show Markdown]").first.click()  # so Dagster shows what has over 1,000 letters
    chart = browser.page.locator('img[src^="data:image/svg+xml"]').first
    chart.wait_for()
    assert chart.evaluate("image => image.complete && image.naturalWidth") >= 600
    browser.keep("report")


def test_nothing_is_asked_of_the_world_outside(browser: Browser, deployed: Deployment) -> None:
    asked: list[str] = []
    browser.page.on("request", lambda request: asked.append(request.url))
    browser.open_asset("warehouse/dim_date", "overview", "^Description$")
    assert asked
    assert [url for url in asked if not url.startswith((deployed.url, "data:", "blob:", "ws"))] == []


def test_a_schedule_waits_to_be_switched_on(browser: Browser) -> None:
    browser.open("/automation", "etl_schedule", "source_activity", "catch_up", "alerts", "etl_full_capture")
