"""The page of reports as its reader has it: a file, opened in a browser that it asks for nothing."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page

from etl_assets.reports.page import page as made_page
from etl_assets_tests.browser.pages import Browser, chromium, needs_chromium
from etl_assets_tests.e2e.services import ROOT
from etl_assets_tests.reports import FORMULA, HOSTILE, NOON, answers

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    file: Path = tmp_path_factory.mktemp("page") / "reports.html"
    file.write_text(made_page(answers(), NOON), encoding="utf-8")
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
    """The page, opened; whatever a test does there, it asks for nothing and breaks nothing."""
    asked: list[str] = []
    wrong: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(url)
    yield tab
    assert {address for address in asked if not address.startswith("blob:")} == {url}
    assert wrong == []


def column(table: Locator, number: int) -> list[str]:
    return table.locator(f"tbody td:nth-child({number})").all_inner_texts()


def test_a_table_is_sorted_by_clicking_and_by_the_keyboard(page: Page) -> None:
    table = page.locator("#payments_due table")
    header = table.locator("th", has_text="amount")
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    amounts = [float(text.replace(",", "")) for text in column(table, 5)]
    assert amounts == sorted(amounts)
    assert amounts[0] < 0
    due = table.locator("th", has_text="due")
    due.get_by_role("button").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert due.get_attribute("aria-sort") == "descending"
    assert header.get_attribute("aria-sort") is None
    assert column(table, 6) == sorted(column(table, 6), reverse=True)
    disputed = table.locator("th", has_text="disputed").get_by_role("button")
    for _ in range(2):
        disputed.click()
        assert column(table, 8)[-1] == "\N{EN DASH}", "what is not known comes last"


def test_a_table_is_copied_and_saved_as_other_programs_read_it(page: Page) -> None:
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
    assert {HOSTILE, f"'{FORMULA}"} < {row["counterparty"] for row in rows}, "a spreadsheet would compute the other"
    assert min(float(row["amount"]) for row in rows) < 0


def test_it_runs_no_script_but_its_own(tab: Page, url: str) -> None:
    tab.goto(url)
    with tab.expect_console_message(lambda message: "Content Security Policy" in message.text):
        tab.evaluate("document.body.insertAdjacentHTML('beforeend', '<p id=added onclick=\"alert(1)\">Added</p>')")
        tab.locator("#added").click()


def test_it_is_dark_where_the_reader_s_screen_is_and_light_on_paper(page: Page, url: str) -> None:
    def seen() -> tuple[str, str]:
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shown = page.locator("#freshness svg").locator("visible=true")
        assert shown.count() == 1
        return paper, str(shown.locator("rect").first.get_attribute("fill"))

    assert seen() == ("rgb(255, 255, 255)", "#ffffff")
    page.emulate_media(color_scheme="dark")
    assert seen() == ("rgb(22, 25, 29)", "#16191d")
    page.emulate_media(color_scheme="dark", media="print")
    assert seen() == ("rgb(255, 255, 255)", "#ffffff")
    page.emulate_media(color_scheme="light", media="screen")


def test_it_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.set_viewport_size({"width": 1280, "height": 900})
    Browser(page, "", ROOT / "docs" / "images").keep("reports")
