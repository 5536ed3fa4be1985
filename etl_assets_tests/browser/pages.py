"""The pages of Dagster's UI, as a person reads and clicks them."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, FloatRect, Locator, Page, sync_playwright

from etl_assets_tests.platform import until

_GROUPS = ("totesys", "ingestion", "transformation", "warehouse")
_COLOURS = 256
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
    """Skip the test where there is no Chromium, and say so."""
    if not _CHROMIUM.exists():
        pytest.skip(f"{_CHROMIUM} is not there: on Debian, apt-get install chromium")


@contextmanager
def chromium(profile: Path, **options: Any) -> Iterator[BrowserContext]:
    """Run Debian's Chromium with a profile, in light colours."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=_CHROMIUM, headless=True, args=_FLAGS, color_scheme="light", **options
        )
        yield context
        context.close()


class Browser:
    """A page of the UI at a URL; screenshots go to a folder, small."""

    def __init__(self, page: Page, url: str, screenshots: Path) -> None:
        self.page = page
        self._url = url
        self._screenshots = screenshots

    def open(self, path: str, *expected: str) -> None:
        """Open a page, and wait until it shows lines that match."""
        self.page.goto(f"{self._url}{path}", wait_until="domcontentloaded")
        self.shows(*expected)

    def shows(self, *expected: str, seconds: float = 90) -> None:
        """Wait until the page shows lines that match."""
        until(lambda: all(re.search(line, self.text, re.M) for line in expected), seconds)

    @property
    def text(self) -> str:
        return self.page.inner_text("body")

    def open_lineage(self, selection: str, *expected: str) -> None:
        """Open the graph of some assets, all groups unfolded, the list beside it closed."""
        expanded = "%2C".join(f"global%40global%3A{group}" for group in _GROUPS)
        self.open(f"/asset-groups?expanded={expanded}", r"^Materialize all \(\d+\)", "^sales_order$")
        self.page.locator('button:has([aria-label="panel_show_right"])').last.click()
        self.page.locator(".CodeMirror").first.click()  # the graph fits itself to what is typed, not to the address
        self.page.keyboard.type(selection)
        self.page.wait_for_timeout(500)
        self.page.keyboard.press("Escape")  # the completions
        self.page.keyboard.press("Enter")
        self.shows(*expected)

    def open_asset(self, key: str, view: str = "overview", *expected: str) -> None:
        """Open a tab of an asset."""
        self.open(f"/assets/{key}?view={view}", *expected)

    def materialize(self, button: str, partition: str | None = None) -> str:
        """Materialize what the page is about, in a partition (the present one), to its end; give the run's id."""
        self.page.get_by_role("button", name=button).first.click()
        self.page.get_by_text(re.compile("^Launch runs to materialize")).wait_for()
        self.page.get_by_role("button", name="Latest", exact=True).click()
        if partition:
            chosen = self.page.get_by_placeholder(re.compile("^ex: "))
            chosen.fill(partition)
            chosen.press("Enter")
        return self._launch(self.page.get_by_role("button", name="Launch 1 run", exact=True))

    def materialize_unpartitioned(self, button: str) -> str:
        """Materialize what the page is about, which has no partitions, to its end; give the run's id."""
        return self._launch(self.page.get_by_role("button", name=button).first)

    def launch(self, button: str, partition: str, old: str, new: str) -> str:
        """Launch what the page is about from the launchpad, a word of its configuration changed; give the run's id."""
        self.page.get_by_role("button", name=button).first.locator("xpath=following::button[1]").click()
        self.page.get_by_text("Open launchpad").click()
        self.page.get_by_text(old, exact=True).dblclick()
        self.page.keyboard.type(new)
        chosen = self.page.get_by_placeholder("Partition")
        chosen.fill(partition)
        chosen.press("Enter")
        return self._launch(self.page.get_by_role("button", name="Materialize").last)

    def _launch(self, button: Locator) -> str:
        with self.page.expect_response(lambda answer: "op=LaunchPipelineExecution" in answer.url) as launched:
            button.click()
        run = str(launched.value.json()["data"]["launchPipelineExecution"]["run"]["id"])
        self.open(f"/runs/{run}")
        self.shows("^(Success|Failure)$", seconds=300)
        self.shows("^Success$", seconds=1)
        return run

    def keep(self, name: str, clip: FloatRect | None = None) -> None:
        """Keep a screenshot, of a part of the page if that is given."""
        self.page.mouse.move(1, 1)
        self.page.wait_for_timeout(1_500)  # for what slides and fades
        picture = Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")
        self._screenshots.mkdir(exist_ok=True)
        picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(self._screenshots / f"{name}.png", optimize=True)
