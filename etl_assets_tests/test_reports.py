"""What a report may declare, and what its answer must have."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from etl_assets.reports.declare import Chart, ReportError, Value, instant, parse, shown
from etl_assets_tests.reports import answer

REVENUE = """-- title: Revenue by month
-- answers: What did we sell each month?
-- chart: bar x=month y=revenue series=currency stacked=yes
-- units: revenue: money: of the order
-- units: orders: sales orders

-- A comment of the query.
SELECT 1;
"""
TABLE = "title: Orders\nanswers: Which?\nchart: table"
LINE = "title: Orders\nanswers: How many?\nchart: line x=day y=orders"


def test_a_report_is_read_from_its_file() -> None:
    report = parse("revenue", REVENUE)
    assert (report.name, report.title, report.answers) == (
        "revenue",
        "Revenue by month",
        "What did we sell each month?",
    )
    assert report.chart == Chart(kind="bar", x="month", y="revenue", series="currency", stacked=True)
    assert report.units == {"revenue": "money: of the order", "orders": "sales orders"}
    assert report.query == "-- A comment of the query.\nSELECT 1;"
    assert parse("revenue", REVENUE.replace("bar x=month y=revenue series=currency stacked=yes", "table")).chart is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("-- title: Revenue by month\n", "", "title: missing in the header"),
        ("-- title: ", "-- titel: ", "'-- titel: Revenue by month' is not of the header: its keys are title, answers"),
        ("-- answers:", "-- title: Again\n-- answers:", "title: said twice"),
        ("units: orders:", "units: revenue:", "revenue: said twice"),
        ("units: orders: sales orders", "units: sales orders", "units: 'sales orders' is not followed by a colon"),
        ("chart: bar", "chart: pie", "is none of line, bar with options, or table alone"),
        ("chart: bar", "chart: table", "is none of line, bar with options, or table alone"),
        ("x=month ", "", "chart: x= is missing"),
        ("y=revenue ", "", "chart: y= is missing"),
        (
            "stacked=yes",
            "stacked=no",
            "chart: 'stacked=no' is not of a bar, which has x=, y=, series=, facet=, stacked",
        ),
        ("chart: bar", "chart: line", "chart: 'stacked=yes' is not of a line, which has x=, y=, series=, facet="),
        ("series=", "colour=", "chart: 'colour=currency' is not of a bar"),
        ("-- A comment of the query.\nSELECT 1;", "", "there is no query under the header"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused_by_file_and_key(old: str, new: str, problem: str) -> None:
    assert old in REVENUE
    with pytest.raises(ReportError) as refused:
        parse("revenue", REVENUE.replace(old, new))
    assert str(refused.value).startswith("revenue.sql: ")
    assert problem in str(refused.value)


def test_an_answer_must_have_the_columns_that_it_is_drawn_from() -> None:
    with pytest.raises(ReportError, match=r"asked\.sql: chart: day, orders is no column of the answer, which has a, b"):
        answer(LINE, "a b")
    with pytest.raises(ReportError, match=r"asked\.sql: units: cost is no column of the answer"):
        answer(f"{TABLE}\nunits: cost: GBP", "day")
    with pytest.raises(ReportError, match=r"asked\.sql: chart: y=orders is not a column of numbers"):
        answer(LINE, "day orders", ("Monday", None), ("Tuesday", "many"))


@pytest.mark.parametrize(
    ("value", "measured", "expected"),
    [
        (2024, False, "2024"),
        (1234567, True, "1,234,567"),
        (Decimal("-1234.50"), True, "-1,234.50"),
        (Decimal("1E+3"), True, "1,000"),
        (Decimal("1234.50"), False, "1,234.50"),
        (0.5, False, "0.5"),
        (True, True, "yes"),
        (None, True, "\N{EN DASH}"),
        (date(2024, 8, 22), True, "2024-08-22"),
        (datetime(2024, 8, 22, 14, tzinfo=timezone(timedelta(hours=2))), True, "2024-08-22 12:00:00"),
        ("1234", True, "1234"),
    ],
)
def test_a_value_is_shown_as_it_is_read(value: Value, measured: bool, expected: str) -> None:
    assert shown(value, measured=measured) == expected


def test_an_instant_is_shown_in_utc() -> None:
    assert instant(datetime(2024, 8, 2, 12, 5, tzinfo=UTC)) == "2 August 2024, 12:05 UTC"
