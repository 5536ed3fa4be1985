"""The work of a data engineer in the UI of a deployment, in a real browser."""

import re
from collections.abc import Iterator
from time import time

import pytest
from playwright.sync_api import ViewportSize

from etl_assets.adapters.object_store import Bucket
from etl_assets.catalog.partitions import WINDOW_MINUTES
from etl_assets.ingestion.manifest import list_partition
from etl_assets_tests.browser.pages import Browser, dagster_ui, needs_chromium
from etl_assets_tests.e2e.services import Deployment, deployment
from etl_assets_tests.harness import until

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def deployed(aws: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    needs_chromium()
    with deployment(tmp_path_factory.mktemp("deployment")) as running:
        yield running


@pytest.fixture(scope="module")
def browser(deployed: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with dagster_ui(tmp_path_factory.mktemp("profile"), deployed.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def partition(browser: Browser, deployed: Deployment) -> str:
    """The partition of an `etl` run that was launched in the UI."""
    await_early_in_window()
    browser.open("/locations/etl_assets/jobs/etl", "^ *etl")
    run = browser.materialize("Materialize all")
    [finished] = [each for each in deployed.runs("SUCCESS") if each["runId"] == run]
    assert deployed.warehouse("SELECT count(*) FROM warehouse.loads") == [[1]]
    return str(finished["tags"]["dagster/partition"])


def await_early_in_window() -> None:
    """Wait for the next window if this one ends soon: a run that starts after its window cannot capture."""
    window = WINDOW_MINUTES * 60
    until(lambda: time() % window < window - 120, seconds=150)


def test_lineage_is_shown_across_all_stages(browser: Browser, partition: str) -> None:
    names = ("^fact_sales_order$", "^sales_order$")
    browser.open_lineage('+key:"warehouse/fact_sales_order"', *names, r"^Materialize all \(4\)", "Passed$")
    assert len(re.findall("^fact_sales_order$", browser.text, re.M)) == 2
    browser.save_screenshot("lineage", {"x": 240, "y": 180, "width": 1110, "height": 545})


@pytest.mark.parametrize(
    ("asset", "kind", "column"),
    [
        ("totesys/sales_order", "Postgres", "units_sold"),
        ("ingestion/sales_order", "Postgres", "units_sold"),
        ("transformation/fact_sales_order", "pandas", "sales_staff_id"),
        ("warehouse/fact_sales_order", "Postgres", "sales_staff_id"),
    ],
)
def test_an_asset_of_each_stage_shows_its_metadata(
    browser: Browser, deployed: Deployment, partition: str, asset: str, kind: str, column: str
) -> None:
    browser.open_asset(asset, "overview", "^Description$", "^Owners$", "^data-engineering$", f"^{kind}$", "^Columns$")
    browser.await_lines(f"^{column}", "Member of staff who made the sale|Number of bags sold", "^integer$")
    if asset.startswith("warehouse"):
        [[rows]] = deployed.warehouse("SELECT count(*) FROM warehouse.fact_sales_order_current")
        browser.await_lines(rf"^Row count$\s+^{rows:,}$", r"warehouse\.fact_sales_order")
        browser.await_lines("^Sales orders: .* One row per version of a sales_order_id", "^SELECT dim_staff")
        wide: ViewportSize = {"width": 1900, "height": 900}  # in a narrower one, tags of the status overlap
        browser.save_screenshot("asset", {"x": 236, "y": 0, "width": 1166, "height": 900}, wide)


def test_an_asset_shows_which_partitions_are_materialized(browser: Browser, partition: str) -> None:
    browser.open_asset("warehouse/fact_sales_order", "partitions", r"^Materialized \([1-9]\d*\)", "^Missing")


def test_an_asset_shows_its_passed_checks(browser: Browser, partition: str) -> None:
    names = ("no_rejected_rows", "no_missed_changes", "keys_unique", "foreign_keys_resolve", "current_unique")
    browser.open_asset(
        "warehouse/fact_sales_order", "checks", *(f"^{name}$" for name in names), "^Evaluation result\\s+Passed$"
    )
    browser.save_screenshot("checks")


def test_an_asset_is_materialized_and_shows_its_metadata(
    browser: Browser, deployed: Deployment, partition: str
) -> None:
    browser.open_asset("transformation/dim_staff", "overview", "^Description$")
    run = browser.materialize("Materialize", partition)
    captures = list_partition(Bucket(deployed.environment["INGESTION_URL"]), partition)
    staff = sum(capture.files["staff"].rows for capture in captures if "staff" in capture.files)
    browser.open_asset(
        "transformation/dim_staff",
        "events",
        f"^Partition {partition} materialized in run {run[:8]}",
        rf"^dagster/partition_row_count\s+{staff}",
        r"^rejected\s+0",
        r"^seconds_transform\s+0?\.\d+",
    )


def test_all_assets_are_materialized_in_a_range_with_one_click(
    browser: Browser, deployed: Deployment, partition: str
) -> None:
    first, *_, last, _ = deployed.latest_partitions(4)
    loads = deployed.warehouse("SELECT * FROM warehouse.loads")
    browser.open("/asset-groups", r"^Materialize all \(\d+\)")
    backfill = browser.backfill("Materialize all", first, last)
    status = (
        "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
    )
    finished = {"partitionBackfillOrError": {"status": "COMPLETED_SUCCESS"}}
    until(lambda: deployed.graphql(status, id=backfill) == finished, seconds=300)
    assert deployed.warehouse("SELECT * FROM warehouse.loads") == loads, "nothing is captured into past windows"
    browser.open_asset("warehouse/fact_sales_order", "partitions", r"^Materialized \([34]\)")


def test_a_full_capture_is_launched_from_the_launchpad(browser: Browser, deployed: Deployment, partition: str) -> None:
    [[before]] = deployed.warehouse("SELECT count(*) FROM warehouse.loads WHERE full_capture")
    await_early_in_window()
    browser.open("/locations/etl_assets/jobs/etl", "^ *etl")
    [current] = deployed.latest_partitions(1)
    run = browser.launch("Materialize all", current, "false", "true")
    assert deployed.warehouse("SELECT count(*) FROM warehouse.loads WHERE full_capture") == [[before + 1]]
    browser.open_asset("ingestion/staff", "events", f"materialized in run {run[:8]}", r"^full\s+asked for")


def test_personal_data_is_masked_in_a_preview(browser: Browser, deployed: Deployment, partition: str) -> None:
    [[email]] = deployed.totesys("SELECT email_address FROM staff ORDER BY staff_id LIMIT 1")
    browser.open_asset("transformation/dim_staff", "events", "^preview")
    browser.await_lines("•••", "department_name")
    assert email not in browser.text


def test_a_report_shows_its_chart_and_first_rows(browser: Browser, partition: str) -> None:
    browser.open("/locations/etl_assets/jobs/report", "^ *report")
    browser.materialize_unpartitioned("Materialize all")
    browser.open_asset("reports/revenue_by_month", "events", "^first_rows", r"^dagster/row_count\s+[1-9]")
    browser.page.get_by_text("[Show Markdown]").first.click()  # Dagster collapses values of over 1,000 characters
    chart = browser.page.locator('img[src^="data:image/svg+xml"]').first
    chart.wait_for()
    assert chart.evaluate("image => image.complete && image.naturalWidth") >= 600
    browser.save_screenshot("report")


def test_the_ui_makes_no_external_requests(browser: Browser, deployed: Deployment) -> None:
    requests: list[str] = []
    browser.page.on("request", lambda request: requests.append(request.url))
    browser.open_asset("warehouse/dim_date", "overview", "^Description$")
    assert requests
    assert [url for url in requests if not url.startswith((deployed.url, "data:", "blob:", "ws"))] == []


def test_schedules_and_sensors_are_listed(browser: Browser) -> None:
    browser.open("/automation", "etl_schedule", "source_activity", "catch_up", "alerts", "etl_full_capture")
    browser.open("/locations/etl_assets/sensors/source_activity", r"^Description\s+Capture totesys when it has changed")
