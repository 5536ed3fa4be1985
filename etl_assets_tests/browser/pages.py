"""Chromium, and actions on the pages of Dagster's UI."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, FloatRect, Locator, Page, ViewportSize, sync_playwright

from etl_assets.catalog.stages import INGESTION, TOTESYS, TRANSFORMATION, WAREHOUSE
from etl_assets_tests.harness import ROOT, until

_COLOURS = 256
_VIEWPORT: ViewportSize = {"width": 1400, "height": 900}
_CHROMIUM = Path("/usr/bin/chromium")
_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def needs_chromium() -> None:
    """Skip the test if Chromium is not installed."""
    if not _CHROMIUM.exists():
        pytest.skip(f"{_CHROMIUM} is missing; on Debian: apt-get install chromium")


@contextmanager
def chromium(profile: Path, **options: Any) -> Iterator[BrowserContext]:
    """Run Chromium with a profile and a light colour scheme."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=_CHROMIUM, headless=True, args=_FLAGS, color_scheme="light", **options
        )
        yield context
        context.close()


class Browser:
    """A page of the UI at a URL. Screenshots are saved to a folder with few colours."""

    def __init__(self, page: Page, url: str, screenshots: Path) -> None:
        self.page = page
        self._url = url
        self._screenshots = screenshots

    def open(self, path: str, *expected: str) -> None:
        """Open a page, and wait until lines of it match the patterns."""
        self.page.goto(f"{self._url}{path}", wait_until="domcontentloaded")
        self.await_lines(*expected)

    def await_lines(self, *expected: str, seconds: float = 90) -> None:
        """Wait until lines of the page match the patterns."""

        def missing() -> list[str]:
            return [line for line in expected if not re.search(line, self.text, re.M)]

        try:
            until(lambda: not missing(), seconds)
        except AssertionError:
            raise AssertionError(f"{missing()} not on the page:\n{self.text}") from None

    @property
    def text(self) -> str:
        return self.page.inner_text("body")

    def open_lineage(self, selection: str, *expected: str) -> None:
        """Open the graph of an asset selection with all groups expanded and the sidebar closed."""
        expanded = "%2C".join(f"global%40global%3A{group}" for group in (TOTESYS, INGESTION, TRANSFORMATION, WAREHOUSE))
        self.open(f"/asset-groups?expanded={expanded}", r"^Materialize all \(\d+\)", "^sales_order$")
        self.page.locator('button:has([aria-label="panel_show_right"])').last.click()
        self.page.locator(".CodeMirror").first.click()  # only a typed selection zooms the graph
        self.page.keyboard.type(selection)
        self.page.wait_for_timeout(500)
        self.page.keyboard.press("Escape")  # closes the completions
        self.page.keyboard.press("Enter")
        self.await_lines(*expected)

    def open_asset(self, key: str, view: str = "overview", *expected: str) -> None:
        """Open a tab of an asset."""
        self.open(f"/assets/{key}?view={view}", *expected)

    def materialize(self, button: str, partition: str | None = None) -> str:
        """Materialize the page's assets in a partition (default: the latest). Return the id of the finished run."""
        self._choose_partitions(button, partition)
        return self._launch(self.page.get_by_role("button", name="Launch 1 run", exact=True))

    def backfill(self, button: str, first: str, last: str) -> str:
        """Materialize the page's assets in a range of partitions. Return the id of the backfill."""
        self._choose_partitions(button, f"[{first}...{last}]")
        with self.page.expect_response(lambda each: "op=LaunchPartitionBackfill" in each.url) as response:
            self.page.get_by_role("button", name="Launch backfill", exact=True).click()
        launched = response.value.json()["data"]["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def _choose_partitions(self, button: str, partitions: str | None) -> None:
        self.page.get_by_role("button", name=button).first.click()
        self.page.get_by_text(re.compile("^Launch runs to materialize")).wait_for()
        self.page.get_by_role("button", name="Latest", exact=True).click()
        if partitions:
            partition_input = self.page.get_by_placeholder(re.compile("^ex: "))
            partition_input.fill(partitions)
            partition_input.press("Enter")

    def materialize_unpartitioned(self, button: str) -> str:
        """Materialize the page's assets, which have no partitions. Return the id of the finished run."""
        return self._launch(self.page.get_by_role("button", name=button).first)

    def launch(self, button: str, partition: str, old: str, new: str) -> str:
        """Launch from the launchpad with a word of the configuration replaced. Return the id of the finished run."""
        self.page.get_by_role("button", name=button).first.locator("xpath=following::button[1]").click()
        self.page.get_by_text("Open launchpad").click()
        self.page.get_by_text(old, exact=True).dblclick()
        self.page.keyboard.type(new)
        partition_input = self.page.get_by_placeholder("Partition")
        partition_input.fill(partition)
        partition_input.press("Enter")
        return self._launch(self.page.get_by_role("button", name="Materialize").last)

    def _launch(self, button: Locator) -> str:
        with self.page.expect_response(lambda each: "op=LaunchPipelineExecution" in each.url) as response:
            button.click()
        run = str(response.value.json()["data"]["launchPipelineExecution"]["run"]["id"])
        self.open(f"/runs/{run}")
        self.await_lines("^(Success|Failure)$", seconds=300)
        self.await_lines("^Success$", seconds=1)
        return run

    def save_screenshot(self, name: str, clip: FloatRect | None = None, viewport: ViewportSize | None = None) -> None:
        """Save a screenshot of the page, or of a part of it, as it is in this or another viewport."""
        before = self.page.viewport_size
        if viewport:
            self.page.set_viewport_size(viewport)
        self.page.mouse.move(1, 1)
        self.page.wait_for_timeout(1_500)  # lets animations end
        picture = Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")
        self._screenshots.mkdir(exist_ok=True)
        picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(self._screenshots / f"{name}.png", optimize=True)
        if viewport and before:
            self.page.set_viewport_size(before)


@contextmanager
def dagster_ui(profile: Path, url: str) -> Iterator[Browser]:
    """Open Dagster's UI in Chromium. Screenshots are those of the docs."""
    with chromium(profile, viewport=_VIEWPORT, timezone_id="UTC", locale="en-US") as context:
        context.set_default_timeout(90_000)
        yield Browser(context.pages[0], url, ROOT / "docs" / "images")
