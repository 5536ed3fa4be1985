"""The report page, opened from a file in a browser."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page

from etl_assets_tests.browser.pages import Browser, chromium, needs_chromium
from etl_assets_tests.harness import ROOT
from etl_assets_tests.reports.examples import FORMULA, HOSTILE, example_answers, make_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    file: Path = tmp_path_factory.mktemp("page") / "reports.html"
    file.write_text(make_page(example_answers()), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    needs_chromium()
    with chromium(
        tmp_path_factory.mktemp("profile"),
        viewport={"width": 1280, "height": 900},
        permissions=["clipboard-read", "clipboard-write"],
    ) as context:
        yield context.pages[0]


@pytest.fixture
def page(tab: Page, url: str) -> Iterator[Page]:
    """The opened page. No test may cause a request or an error."""
    requests: list[str] = []
    errors: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(url)
    yield tab
    assert {request for request in requests if not request.startswith("blob:")} == {url}
    assert errors == []


def column_texts(table: Locator, number: int) -> list[str]:
    return table.locator(f"tbody td:nth-child({number})").all_inner_texts()


def test_a_table_is_sorted_by_mouse_and_keyboard(page: Page) -> None:
    table = page.locator("#payments_due table")
    header = table.locator("th", has_text="amount")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    amounts = [float(text.replace(",", "")) for text in column_texts(table, 5)]
    assert amounts == sorted(amounts)
    assert amounts[0] < 0
    due = table.locator("th", has_text="due")
    due.get_by_role("button").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert due.get_attribute("aria-sort") == "descending"
    assert header.get_attribute("aria-sort") is None
    assert column_texts(table, 6) == sorted(column_texts(table, 6), reverse=True)
    disputed = table.locator("th", has_text="disputed").get_by_role("button")
    for _ in range(2):
        disputed.click()
        assert column_texts(table, 8)[-1] == "\N{EN DASH}", "nulls come last"


def test_a_table_is_copied_and_saved_as_machine_readable_text(page: Page) -> None:
    section = page.locator("#revenue_by_month")
    section.get_by_role("button", name="Copy table").click()
    section.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert copied[0] == "month\tcurrency\torders\trevenue"
    assert all(line.split("\t")[3].replace(".", "").isdigit() for line in copied[1:])
    with page.expect_download() as download:
        page.locator("#payments_due").get_by_role("button", name="Save as CSV").click()
    assert download.value.suggested_filename == "payments_due.csv"
    with download.value.path().open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 45
    assert {HOSTILE, f"'{FORMULA}"} < {row["counterparty"] for row in rows}, "a spreadsheet would evaluate the formula"
    assert min(float(row["amount"]) for row in rows) < 0


def test_the_page_runs_no_script_but_its_own(tab: Page, url: str) -> None:
    tab.goto(url)
    with tab.expect_console_message(lambda message: "Content Security Policy" in message.text):
        tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<p id=added onclick=\"alert(1)\">Added</p>')")
        tab.locator("#added").click()


def test_the_page_follows_the_dark_mode_on_screen_and_prints_light(page: Page, url: str) -> None:
    def colours() -> tuple[str, str]:
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        chart = page.locator("#freshness svg").locator("visible=true")
        assert chart.count() == 1
        return background, str(chart.locator("rect").first.get_attribute("fill"))

    assert colours() == ("rgb(255, 255, 255)", "#ffffff")
    page.emulate_media(color_scheme="dark")
    assert colours() == ("rgb(22, 25, 29)", "#16191d")
    page.emulate_media(color_scheme="dark", media="print")
    assert colours() == ("rgb(255, 255, 255)", "#ffffff")
    page.emulate_media(color_scheme="light", media="screen")


def test_the_page_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.set_viewport_size({"width": 1280, "height": 900})
    Browser(page, "", ROOT / "docs" / "images").save_screenshot("reports")
