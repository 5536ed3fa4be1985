"""How answers are drawn, and the page that shows them all."""

import re
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from etl_assets.reports.charts import described, draw, png
from etl_assets.reports.declare import Answer, Value
from etl_assets.reports.page import page
from etl_assets_tests.reports import HOSTILE, NOON, answer, answers

ANSWERS = {made.report.name: made for made in answers()}
DRAWN = [name for name, made in ANSWERS.items() if made.report.chart]
SVG = "{http://www.w3.org/2000/svg}"
BARS = "title: Orders\nanswers: How many?\nchart: bar x=who y=orders"


def drawing(made: Answer, *, dark: bool = False) -> str:
    drawn = draw(made, dark=dark)
    assert drawn
    return drawn


def texts(drawn: str) -> list[str]:
    """Give the lines of text of a drawing."""
    found = ET.fromstring(drawn).iter()
    return [part.text for part in found if part.tag in (f"{SVG}text", f"{SVG}tspan") and part.text]


def marks(drawn: str, kind: str) -> list[str]:
    """Give the outlines of the marks of a drawing: its bars, its lines, the points of its lines."""
    groups = ET.fromstring(drawn).iter(f"{SVG}g")
    return [
        mark.get("d", "") for group in groups if f"mark-{kind} role-mark" in group.get("class", "") for mark in group
    ]


class Tags(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", DRAWN)
def test_every_kind_is_drawn_the_same_each_time_with_its_title_and_the_instant_of_its_data(
    name: str, dark: bool
) -> None:
    made = ANSWERS[name]
    drawn = drawing(made, dark=dark)
    assert drawn == drawing(made, dark=dark)
    assert {made.report.title, "Data of 22 August 2024, 12:00 UTC"} <= {*texts(drawn)}
    assert 600 < float(ET.fromstring(drawn).attrib["width"]) <= 700
    assert png(drawn).startswith(b"\x89PNG")
    assert described(made)


def test_a_table_is_not_drawn() -> None:
    assert draw(ANSWERS["payments_due"]) is None


def test_axes_say_what_is_measured_and_thousands_are_apart() -> None:
    said = texts(drawing(ANSWERS["revenue_by_month"]))
    assert {"month", "revenue (money in the currency of the order)", "100,000", "GBP", "USD", "EUR"} <= {*said}


@pytest.mark.parametrize(("rows", "said"), [([], "No rows"), ([("Ada", None), (None, None)], "No values")])
def test_an_answer_without_anything_to_draw_says_so(rows: list[tuple[Value, ...]], said: str) -> None:
    assert said in texts(drawing(answer(BARS, "who orders", *rows)))


def test_a_line_of_one_point_is_seen_and_one_with_a_gap_is_broken() -> None:
    assert len(marks(drawing(ANSWERS["freshness"]), "symbol")) == 1
    lag = drawing(ANSWERS["payment_lag"])
    assert len(marks(lag, "symbol")) == 33
    assert [line.count("M") for line in marks(lag, "line")] == [2]


def test_below_zero_and_nothing_are_drawn() -> None:
    drawn = drawing(answer(BARS, "who orders", ("Ada", -3), ("Bob", Decimal("2.5")), (None, 1), ("Cy", float("nan"))))
    assert {"Ada", "Bob", "\N{EN DASH}", "\N{MINUS SIGN}2"} <= {*texts(drawn)}
    assert len(marks(drawn, "rect")) >= 3


@pytest.mark.parametrize("stacked", [True, False])
def test_of_many_series_the_largest_are_drawn_and_only_what_adds_up_is_added_up(stacked: bool) -> None:
    rows = [(day, f"staff {number}", number) for day in ("Mon", "Tue") for number in range(1, 21)]
    header = f"{BARS} series=staff{' stacked=yes' if stacked else ''}"
    said = texts(drawing(answer(header, "who staff orders", *rows)))
    assert "The 6 largest of 20 values of staff" in said
    assert [text for text in said if text.startswith("staff ")] == [f"staff {number}" for number in range(15, 21)]
    assert ("all others" in said) is stacked


def test_of_many_bars_and_facets_the_first_are_drawn() -> None:
    rows = [(f"firm {number}", number, f"part {number % 9}") for number in range(90)]
    assert "The first 30 of 90 values of who" in texts(drawing(answer(BARS, "who orders part", *rows)))
    said = texts(drawing(answer(f"{BARS} facet=part", "who orders part", *rows)))
    assert "The first 6 of 9 values of part" in said
    assert "part 5" in said
    assert "part 6" not in said
    assert "part 0" in texts(drawing(answer(f"{BARS} facet=part", "who orders part", rows[0])))


def test_a_point_without_a_place_is_counted() -> None:
    header = "title: Orders\nanswers: How many?\nchart: line x=day y=orders"
    rows = [(date(2024, 8, 1) + timedelta(days=day), day) for day in range(3)]
    assert "Rows without day, not drawn: 1" in texts(drawing(answer(header, "day orders", *rows, (None, 5))))


def hostile() -> Answer:
    columns = f"who orders {HOSTILE.replace(' ', '_')}"
    header = f"title: {HOSTILE}\nanswers: {HOSTILE}\nchart: bar x=who y=orders series=who\nunits: orders: {HOSTILE}"
    return answer(header, columns, (HOSTILE, 1, "=HYPERLINK(1)"), ("$x^2$ 店", 2, '"'))


def test_hostile_text_is_text_wherever_it_stands() -> None:
    ET.fromstring(drawing(hostile()))
    tags = Tags(page([hostile()], NOON))
    assert tags.names.count("script") == 1
    assert "img" not in tags.names
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert tags.text.count(HOSTILE) >= 4


def test_the_page_asks_for_nothing_and_may_not() -> None:
    html = page(ANSWERS.values(), NOON)
    tags = Tags(html)
    linked = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href", "action", "srcset")]
    assert {value for value in linked if value and not value.startswith("#")} == {"data:,"}
    assert {*re.findall(r"\w+://[^\"'\s<]+", html)} == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"url\(|@import", html)
    assert not [name for name, _ in tags.attributes if name == "style"], "its policy would not let it apply"
    policy = dict(tags.attributes)["content"] and next(
        value for _, value in tags.attributes if value and "src" in value
    )
    assert policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_page_shows_each_report_with_what_it_answers_and_all_its_rows() -> None:
    tags = Tags(page(ANSWERS.values(), NOON))
    assert dict(tags.attributes)["lang"] == "en"
    for made in ANSWERS.values():
        assert {("href", f"#{made.report.name}"), ("id", made.report.name)} <= {*tags.attributes}
        for said in (made.report.title, made.report.answers, *made.report.units.values()):
            assert said in tags.text
    assert tags.text.count("Data of 22 August 2024, 12:00 UTC") == len(ANSWERS)
    assert tags.names.count("tr") == sum(len(made.rows) + 1 for made in ANSWERS.values())
    assert tags.names.count("svg") == 2 * len(DRAWN)
    assert {described(ANSWERS[name]) for name in DRAWN} <= {
        value for name, value in tags.attributes if name == "aria-label"
    }


def test_values_are_kept_beside_what_is_shown() -> None:
    html = page([answer(BARS, "who orders", ("Ada", Decimal("1234567.50")))], NOON)
    assert re.search(r'data-value="1234567\.50">1,234,567\.50</td>', html)
