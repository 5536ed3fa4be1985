"""The first screens that a newcomer opens after the demo, while it lives on."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dotenv import dotenv_values

from etl_assets.adapters.postgres import connect
from etl_assets.adapters.settings import Variable
from etl_assets_tests.browser.pages import Browser, dagster_ui, needs_chromium
from etl_assets_tests.e2e.services import free_port
from etl_assets_tests.harness import until

pytestmark = pytest.mark.browser

_FACT = "warehouse/fact_sales_order"
_ROW_COUNT = r"^Row count$\s+^([\d,]+)$"
_CHANGED = r"^dagster/partition_row_count$\s+^.*[AP]M$\s+^(\d+)$"
_SHORT_DEMO = "from etl_assets.simulator.demo import demo; demo(years=1, days=1)"
_SIMULATOR = ("-m", "etl_assets.simulator")


@dataclass
class LivingDemo:
    """A demo that lives on in the UI at a URL, and its warehouse."""

    url: str
    warehouse_url: str

    def rows_after_each_load(self) -> list[int]:
        """Return how many sales orders the warehouse had after each load."""
        with connect(self.warehouse_url) as warehouse:
            counts = warehouse.run(
                """SELECT count(*) FROM warehouse.loads
                   JOIN warehouse.fact_sales_order_history ON valid_from <= loads.captured_at
                        AND (valid_to IS NULL OR valid_to > loads.captured_at)
                   GROUP BY loads.captured_at"""
            )
        return [rows for [rows] in counts]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingDemo]:
    needs_chromium()
    folder = tmp_path_factory.mktemp("demo")
    port = free_port()
    try:
        _run(folder, "-c", _SHORT_DEMO)
        with _dev(folder, port):
            warehouse_url = dotenv_values(folder / ".demo" / "env")[Variable.WAREHOUSE_DATABASE_URL]
            assert warehouse_url
            yield LivingDemo(f"http://127.0.0.1:{port}", warehouse_url)
    finally:
        _run(folder, *_SIMULATOR, "clean")


def _run(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _dev(folder: Path, port: int) -> Iterator[None]:
    """Let the demo live on, faster than a person would, and end it as a service manager does."""
    output = folder / "dev.out"
    with output.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, *_SIMULATOR, "dev", "--port", str(port), "--speed", "1000"], cwd=folder, stdout=written
        )
    try:
        until(lambda: "Ctrl-C ends everything" in output.read_text() or process.poll() is not None, seconds=300)
        assert process.poll() is None, output.read_text()
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture(scope="module")
def browser(demo: LivingDemo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with dagster_ui(tmp_path_factory.mktemp("profile"), demo.url) as opened:
        yield opened


def test_the_timeline_has_the_runs_of_the_demo_and_those_that_follow(browser: Browser) -> None:
    browser.open("/overview/activity/timeline", "^etl$", "^report$")
    assert "No runs in this time period" not in browser.text
    browser.page.get_by_role("button", name="1hr").click()
    browser.save_screenshot("timeline", {"x": 240, "y": 0, "width": 1160, "height": 275})


@pytest.mark.parametrize("job", ["etl", "report"])
def test_a_job_has_bars_of_its_latest_runs(browser: Browser, job: str) -> None:
    browser.open("/jobs", rf"^{job}$\s+^.* ago$")
    row = browser.page.locator(f'a[href$="/jobs/{job}"] + div')
    row.locator('[style*="--pez-color: var(--color-accent-green)"]').first.wait_for()


def test_no_partition_of_a_fact_is_missing(browser: Browser) -> None:
    missing = r"^Missing \([01]\)$"  # a window that has just begun
    browser.open_asset(_FACT, "partitions", r"^Materializ(ed|ing) \([1-9]\d*\)$", r"^Failed \(0\)$", missing)


def test_a_fact_says_first_what_it_is_what_a_row_is_and_how_to_query_it(browser: Browser) -> None:
    browser.open_asset(
        _FACT,
        "overview",
        r"^Description$(\s+^Show more$)?\s+^Sales orders: .*\. One row per version of a sales_order_id\.$"
        r"\s+^SELECT .*$\s+^FROM warehouse\.fact_sales_order_current$",
    )


def test_the_rows_of_a_fact_are_those_of_the_warehouse_and_what_a_load_changed_is_beside_them(
    browser: Browser, demo: LivingDemo
) -> None:
    browser.open_asset(_FACT, "overview", _ROW_COUNT, _CHANGED)
    shown, changed = (re.search(pattern, browser.text, re.M) for pattern in (_ROW_COUNT, _CHANGED))
    assert shown
    assert changed
    rows = int(shown[1].replace(",", ""))
    assert rows in demo.rows_after_each_load()
    assert int(changed[1]) < rows


def test_every_sensor_and_schedule_is_on_and_runs_are_launched(browser: Browser) -> None:
    browser.open(
        "/automation",
        *(rf"^{sensor}$\s+^Standard sensor$\s+^.* ago$" for sensor in ("source_activity", "reports_sensor")),
    )
    automations = browser.page.locator('a[href*="/sensors/"], a[href*="/schedules/"]')
    switches = browser.page.locator("label[class*=formatSwitch] input")
    until(lambda: switches.count() == automations.count())
    assert all(switch.is_checked() for switch in switches.all())


def test_a_sensor_says_what_it_does_and_shows_its_ticks(browser: Browser) -> None:
    browser.open(
        "/locations/etl_assets/sensors/source_activity",
        r"^Description\s+Capture totesys when it has changed",
        r"^Frequency\s+~30 sec",
        r"^1 run requested$",
    )


def test_a_report_says_what_it_answers_and_shows_its_query_and_rows(browser: Browser) -> None:
    browser.open_asset("reports/payments_due", "overview", r"^Row count$\s+^\d+$", "^reports_sensor$")
    browser.await_lines(r"^Description$(\s+^Show more$)?\s+^Payments due by outcome\. .*$\s+^WITH ")
    browser.open_asset("reports/payments_due", "events", "^first_rows", r"SALES_RECEIPT\s+GBP\s+never paid\s")


def test_the_runs_of_the_demo_and_of_the_sensors_are_listed(browser: Browser) -> None:
    browser.open(
        "/runs", "^etl$", "^report$", "^Success$", "^Manually launched$", "^source_activity$", "^reports_sensor$"
    )
    assert "Failure" not in browser.text
