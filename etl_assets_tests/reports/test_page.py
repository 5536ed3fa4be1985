"""Charts of answers, and the page that shows them all."""

import re
from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest

from etl_assets.reports.charts import alt_text, draw, draw_answers
from etl_assets.reports.page import render_page
from etl_assets.reports.report import Answer, ReportError, Value
from etl_assets_tests.reports.examples import HOSTILE, NOON, example_answers, make_answer, make_page

ANSWERS = {answer.report.name: answer for answer in example_answers()}
DRAWN = [name for name, answer in ANSWERS.items() if answer.report.chart]
SVG = "{http://www.w3.org/2000/svg}"
BARS = "title: Orders\nanswers: Number of orders.\nchart: bar x=who y=orders"


def draw_svg(answer: Answer, *, dark: bool = False) -> str:
    svg = draw(answer, dark=dark)
    assert svg
    return svg


def texts(svg: str) -> list[str]:
    """Return the text elements of a drawing."""
    elements = ET.fromstring(svg).iter()
    return [part.text for part in elements if part.tag in (f"{SVG}text", f"{SVG}tspan") and part.text]


def marks(svg: str, kind: str) -> list[str]:
    """Return the paths of the marks of a drawing; `kind` is `rect` (bars), `line` or `symbol` (points)."""
    groups = ET.fromstring(svg).iter(f"{SVG}g")
    return [
        mark.get("d", "") for group in groups if f"mark-{kind} role-mark" in group.get("class", "") for mark in group
    ]


class Tags(HTMLParser):
    """The tags, attributes and text of a page."""

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
def test_every_chart_is_drawn_deterministically_with_its_title_and_data_time(name: str, dark: bool) -> None:
    answer = ANSWERS[name]
    svg = draw_svg(answer, dark=dark)
    assert svg == draw_svg(answer, dark=dark)
    assert {answer.report.title, "Data as of 22 August 2024, 12:00 UTC"} <= {*texts(svg)}
    assert 600 < float(ET.fromstring(svg).attrib["width"]) <= 700


def test_a_table_is_not_drawn() -> None:
    assert draw(ANSWERS["payments_due"]) is None


def test_axes_have_units_and_thousands_separators() -> None:
    lines = texts(draw_svg(ANSWERS["revenue_by_month"]))
    assert {"month", "revenue (order currency)", "100,000", "GBP", "USD", "EUR"} <= {*lines}


@pytest.mark.parametrize(("rows", "text"), [([], "No rows"), ([("Ada", None), (None, None)], "No values")])
def test_an_answer_without_points_says_so(rows: list[tuple[Value, ...]], text: str) -> None:
    assert text in texts(draw_svg(make_answer(BARS, "who orders", *rows)))


def test_a_line_of_one_point_is_visible_and_a_line_with_a_gap_is_broken() -> None:
    assert len(marks(draw_svg(ANSWERS["freshness"]), "symbol")) == 1
    lag = draw_svg(ANSWERS["payment_lag"])
    assert len(marks(lag, "symbol")) == 33
    assert [line.count("M") for line in marks(lag, "line")] == [2]


def test_a_missing_number_does_not_make_a_time_axis() -> None:
    header = "title: Orders\nanswers: Number of orders.\nchart: line x=units y=orders"
    lines = texts(draw_svg(make_answer(header, "units orders", (1_000, 5), (2_000, 7), (None, 3))))
    assert {"1,000", "2,000", "Rows without units, not shown: 1"} <= {*lines}


def test_negative_and_missing_values_are_drawn() -> None:
    svg = draw_svg(
        make_answer(BARS, "who orders", ("Ada", -3), ("Bob", Decimal("2.5")), (None, 1), ("Cy", float("nan")))
    )
    assert {"Ada", "Bob", "\N{EN DASH}", "\N{MINUS SIGN}2"} <= {*texts(svg)}
    assert len(marks(svg, "rect")) >= 3


@pytest.mark.parametrize("stacked", [True, False])
def test_only_the_largest_series_are_drawn_and_only_stacked_bars_sum_the_others(stacked: bool) -> None:
    rows = [(day, f"staff {number}", number) for day in ("Mon", "Tue") for number in range(1, 21)]
    header = f"{BARS} series=staff{' stacked=yes' if stacked else ''}"
    lines = texts(draw_svg(make_answer(header, "who staff orders", *rows)))
    assert "Largest 6 of 20 values of staff" in lines
    assert [text for text in lines if text.startswith("staff ")] == [f"staff {number}" for number in range(15, 21)]
    assert ("all others" in lines) is stacked


def test_only_the_first_bars_and_facets_are_drawn() -> None:
    rows = [(f"firm {number}", number, f"part {number % 9}") for number in range(90)]
    assert "First 30 of 90 values of who" in texts(draw_svg(make_answer(BARS, "who orders part", *rows)))
    lines = texts(draw_svg(make_answer(f"{BARS} facet=part", "who orders part", *rows)))
    assert "First 6 of 9 values of part" in lines
    assert "part 5" in lines
    assert "part 6" not in lines
    assert "part 0" in texts(draw_svg(make_answer(f"{BARS} facet=part", "who orders part", rows[0])))


def test_rows_without_an_x_value_are_counted() -> None:
    header = "title: Orders\nanswers: Number of orders.\nchart: line x=day y=orders"
    rows = [(date(2024, 8, 1) + timedelta(days=day), day) for day in range(3)]
    assert "Rows without day, not shown: 1" in texts(draw_svg(make_answer(header, "day orders", *rows, (None, 5))))


def test_a_chart_of_text_that_xml_cannot_hold_is_drawn_with_a_sign_in_its_place() -> None:
    assert "a\N{REPLACEMENT CHARACTER}b" in texts(draw_svg(make_answer(BARS, "who orders", ("a\x01b", 1))))


def test_a_chart_that_cannot_be_drawn_is_a_fault_of_its_report_alone() -> None:
    undrawable = make_answer(f"{BARS}\nunits: orders: bags", "who orders", ("Secret", 10**400), name="too_many")
    drawn, [fault] = draw_answers([undrawable, ANSWERS["payment_lag"]])
    assert [each.answer for each in drawn] == [ANSWERS["payment_lag"]]
    assert str(fault).startswith("too_many.sql: chart: it cannot be drawn (OverflowError)")


def test_the_page_begins_with_the_reports_that_are_missing_and_says_why() -> None:
    drawn, _ = draw_answers([ANSWERS["payment_lag"]])
    html = render_page(drawn, [ReportError("staff_league", "y= missing", HOSTILE, title="Staff")], NOON)
    tags = Tags(html)
    assert tags.text.index("Staff is missing") < tags.text.index("Payment lag")
    assert f"This report is missing. staff_league.sql: y= missing; {HOSTILE}" in tags.text
    assert {("href", "#staff_league"), ("id", "staff_league")} <= {*tags.attributes}
    assert (tags.names.count("section"), tags.names.count("table")) == (2, 1)


def hostile() -> Answer:
    columns = f"who orders {HOSTILE.replace(' ', '_')}"
    header = f"title: {HOSTILE}\nanswers: {HOSTILE}\nchart: bar x=who y=orders series=who\nunits: orders: {HOSTILE}"
    return make_answer(header, columns, (HOSTILE, 1, "=HYPERLINK(1)"), ("$x^2$ 店", 2, '"'))


def test_hostile_text_is_escaped_everywhere() -> None:
    ET.fromstring(draw_svg(hostile()))
    tags = Tags(make_page([hostile()]))
    assert tags.names.count("script") == 1
    assert "img" not in tags.names
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert tags.text.count(HOSTILE) >= 4


def test_the_page_makes_no_requests_and_its_policy_allows_none() -> None:
    html = make_page(ANSWERS.values())
    tags = Tags(html)
    linked = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href", "action", "srcset")]
    assert {value for value in linked if value and not value.startswith("#")} == {"data:,"}
    assert {*re.findall(r"\w+://[^\"'\s<]+", html)} == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"url\(|@import", html)
    assert not [name for name, _ in tags.attributes if name == "style"], "the policy blocks inline styles"
    policy = dict(tags.attributes)["content"] and next(
        value for _, value in tags.attributes if value and "src" in value
    )
    assert policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_page_shows_each_report_with_its_texts_and_all_rows() -> None:
    tags = Tags(make_page(ANSWERS.values()))
    assert dict(tags.attributes)["lang"] == "en"
    for answer in ANSWERS.values():
        assert {("href", f"#{answer.report.name}"), ("id", answer.report.name)} <= {*tags.attributes}
        for text in (answer.report.title, answer.report.description, *answer.report.units.values()):
            assert text in tags.text
    assert tags.text.count("Data as of 22 August 2024, 12:00 UTC") == len(ANSWERS)
    assert tags.names.count("tr") == sum(len(answer.rows) + 1 for answer in ANSWERS.values())
    assert tags.names.count("svg") == 2 * len(DRAWN)
    assert {alt_text(answer.report.chart) for answer in ANSWERS.values() if answer.report.chart} <= {
        value for name, value in tags.attributes if name == "aria-label"
    }


def test_cells_keep_the_machine_readable_value() -> None:
    html = make_page([make_answer(BARS, "who orders", ("Ada", Decimal("1234567.50")))])
    assert re.search(r'data-value="1234567\.50">1,234,567\.50</td>', html)
