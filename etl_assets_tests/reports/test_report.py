"""The header of a report, and the columns its answer must have."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from etl_assets.reports.report import Chart, ReportError, Value, format_time, format_value, load_reports, parse
from etl_assets_tests.reports.examples import make_answer

REVENUE = """-- title: Revenue by month
-- answers: Sales revenue of each month.
-- chart: bar x=month y=revenue series=currency stacked=yes
-- units: revenue: order currency: GBP or USD
-- units: orders: sales orders

-- A comment of the query.
SELECT 1;
"""
TABLE = "title: Orders\nanswers: All orders.\nchart: table"
LINE = "title: Orders\nanswers: Number of orders.\nchart: line x=day y=orders"


def test_a_report_is_parsed_from_its_file() -> None:
    report = parse("revenue", REVENUE)
    texts = (report.name, report.title, report.description)
    assert texts == ("revenue", "Revenue by month", "Sales revenue of each month.")
    assert report.chart == Chart(kind="bar", x="month", y="revenue", series="currency", stacked=True)
    assert report.units == {"revenue": "order currency: GBP or USD", "orders": "sales orders"}
    assert report.query == "-- A comment of the query.\nSELECT 1;"
    assert parse("revenue", REVENUE.replace("bar x=month y=revenue series=currency stacked=yes", "table")).chart is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("-- title: Revenue by month\n", "", "title: missing in the header"),
        ("-- title: ", "-- titel: ", "'-- titel: Revenue by month' is not a header line: write `-- key: text`"),
        ("-- answers:", "-- title: Again\n-- answers:", "title: declared twice"),
        ("units: orders:", "units: revenue:", "revenue: declared twice"),
        ("units: orders: sales orders", "units: sales orders", "units: 'sales orders' must be `column: unit`"),
        ("chart: bar", "chart: pie", "must be table alone, or line or bar with options"),
        ("chart: bar", "chart: table", "must be table alone, or line or bar with options"),
        ("x=month ", "", "chart: x= missing"),
        ("y=revenue ", "", "chart: y= missing"),
        (
            "stacked=yes",
            "stacked=no",
            "'stacked=no' is not an option of a bar chart; it has x=, y=, series=, facet=, stacked=yes",
        ),
        ("chart: bar", "chart: line", "'stacked=yes' is not an option of a line chart; it has x=, y=, series=, facet="),
        ("series=", "colour=", "chart: 'colour=currency' is not an option of a bar chart"),
        ("-- A comment of the query.\nSELECT 1;", "", "there is no query below the header"),
    ],
)
def test_a_malformed_header_is_refused_with_file_and_key(old: str, new: str, problem: str) -> None:
    assert old in REVENUE
    with pytest.raises(ReportError) as error:
        parse("revenue", REVENUE.replace(old, new))
    assert str(error.value).startswith("revenue.sql: ")
    assert problem in str(error.value)


def test_every_fault_of_a_header_is_named_at_once() -> None:
    with pytest.raises(ReportError) as error:
        parse("revenue", "-- title: Revenue\n-- answer: All.\n-- chart: bar x=month")
    assert error.value.title == "Revenue"
    assert error.value.problem == (
        "'-- answer: All.' is not a header line: write `-- key: text`; the keys are title, answers, chart, units; "
        "answers: missing in the header; chart: y= missing; there is no query below the header"
    )


def test_malformed_files_are_faults_beside_the_reports(tmp_path: Path) -> None:
    (tmp_path / "revenue.sql").write_text(REVENUE)
    (tmp_path / "untitled.sql").write_text("SELECT 1")
    (tmp_path / "latin.sql").write_bytes(REVENUE.replace("Revenue", "Pr\xe4mie").encode("latin-1"))
    reports, faults = load_reports(tmp_path)
    assert [report.name for report in reports] == ["revenue"]
    assert {fault.name: fault.problem for fault in faults} == {
        "latin": "is not UTF-8 text: save it as UTF-8",
        "untitled": "title, answers, chart: missing in the header",
    }


def test_no_report_of_the_platform_is_malformed() -> None:
    reports, faults = load_reports()
    assert reports
    assert [str(fault) for fault in faults] == []


def test_an_answer_must_have_the_columns_its_header_names() -> None:
    with pytest.raises(ReportError, match=r"example\.sql: chart: the query returns no column day, orders, only a, b"):
        make_answer(LINE, "a b")
    with pytest.raises(ReportError, match=r"example\.sql: units: the query returns no column cost, only day"):
        make_answer(f"{TABLE}\nunits: cost: GBP", "day")
    with pytest.raises(ReportError, match=r"example\.sql: chart: y=orders is not a numeric column"):
        make_answer(LINE, "day orders", ("Monday", None), ("Tuesday", "many"))
    with pytest.raises(
        ReportError, match=r"several columns named day: name each differently with AS; chart: the query"
    ):
        make_answer(LINE, "day day")
    with pytest.raises(ReportError, match="the query returns no columns"):
        make_answer(TABLE, "")


@pytest.mark.parametrize(
    ("value", "has_unit", "expected"),
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
def test_values_are_formatted_for_readers(value: Value, has_unit: bool, expected: str) -> None:
    assert format_value(value, has_unit=has_unit) == expected


def test_times_are_shown_in_utc() -> None:
    assert format_time(datetime(2024, 8, 2, 12, 5, tzinfo=UTC)) == "2 August 2024, 12:05 UTC"
