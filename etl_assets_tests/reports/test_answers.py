"""The results of the reports, compared with totesys without SQL."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from html import unescape
from typing import Any

import dagster as dg
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import DatabaseUnavailableError, connect
from etl_assets.catalog.stages import REPORT
from etl_assets.reports.answers import NothingLoadedError, answer_reports
from etl_assets.reports.assets import report_assets
from etl_assets.reports.charts import draw
from etl_assets.reports.report import Chart, Report, ReportError, format_time, load_reports
from etl_assets.simulator.activity import Totesys
from etl_assets.simulator.postgres import Server
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.harness import Platform, failure, snapshot_of

Row = dict[str, Any]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
REPORTS = {report.name: report for report in load_reports()[0]}


def fetched(url: str, sql: str) -> list[Row]:
    with connect(url) as connection:
        rows = connection.run(sql)
        names = [column["name"] for column in connection.columns]
    assert len(set(names)) == len(names), "duplicate column names"
    return [dict(zip(names, row, strict=True)) for row in rows]


def report(platform: Platform, name: str) -> list[Row]:
    return fetched(platform.warehouse_url, REPORTS[name].query)


def table(platform: Platform, name: str) -> dict[int, Row]:
    """The rows of a source table by key."""
    return {row[f"{name}_id"]: row for row in fetched(platform.totesys_url, f"SELECT * FROM {name}")}


def value(order: Row) -> Decimal:
    return Decimal(order["units_sold"] * order["unit_price"])


def percent(part: Decimal | int, whole: Decimal | int, digits: str) -> Decimal:
    return (100 * Decimal(part) / Decimal(whole)).quantize(Decimal(digits), "ROUND_HALF_UP")


@pytest.fixture(params=["simulated", "real"])
def platform(
    request: pytest.FixtureRequest, server: Server, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> Platform:
    """The platform after a capture of a totesys in which every payment that is ever paid has been paid."""
    platform = Platform(snapshot_of(request.param, server, request), warehouse_url, bucket_url, monkeypatch)
    [[newest]] = platform.totesys("SELECT max(created_at)::date FROM payment")
    with connect(platform.totesys_url) as connection:
        for day in (newest + timedelta(days=number) for number in range(1, 8)):
            if day.isoweekday() <= 5:
                Totesys(connection).run_payments(datetime.combine(day, time(7, 55, 10)))
    platform.refresh()
    return platform


def edit(platform: Platform) -> None:
    """Change orders with and without a new last_updated, and pay late; then capture and load."""
    with connect(platform.totesys_url) as connection:
        totesys = Totesys(connection, seed=3)
        for _ in range(30):
            totesys.edit_silently("sales_order")
            totesys.edit_silently("purchase_order")
        connection.run(
            """UPDATE sales_order SET units_sold = 2 * units_sold, last_updated = last_updated + interval '1 day'
               WHERE sales_order_id BETWEEN 40 AND 44"""
        )
        connection.run(
            """UPDATE payment SET paid = true, last_updated = CAST(payment_date AS date) + interval '3 days 9 hours'
               WHERE NOT paid AND payment_id < 60"""
        )
        connection.run("UPDATE payment SET paid = true WHERE NOT paid AND payment_id BETWEEN 60 AND 80")
    platform.next_window()
    platform.refresh()


def test_every_report_is_ordered_and_bounded_with_one_value_per_point(platform: Platform) -> None:
    edit(platform)
    with connect(platform.warehouse_url) as connection:
        answers, faults = answer_reports(connection, list(REPORTS.values()))
    assert [str(fault) for fault in faults] == []
    for answer in answers:
        name, chart = answer.report.name, answer.report.chart
        assert 0 < len(answer.rows) <= 250, name
        assert chart, name
        points = Counter(zip(*(answer.column(column) for column in chart.columns if column != chart.y), strict=True))
        assert max(points.values()) == 1, f"{name}: two values for one point"
        assert draw(answer), name
        money = [column for column, unit in answer.report.units.items() if "currency" in unit]
        assert not money or "currency" in answer.columns, f"{name}: amounts without a currency column"
        if name != "platform":
            assert [dict(zip(answer.columns, row, strict=True)) for row in answer.rows] == report(platform, name), name


def test_sales_match_the_source(platform: Platform) -> None:
    edit(platform)
    orders, codes = table(platform, "sales_order").values(), table(platform, "currency")
    newest = max(order["created_at"] for order in orders).date()
    by_month: dict[Any, list[Row]] = defaultdict(list)
    by_design: dict[Any, list[Row]] = defaultdict(list)
    for order in orders:
        currency = codes[order["currency_id"]]["currency_code"]
        by_month[order["created_at"].date().replace(day=1), currency].append(order)
        if order["created_at"].date() > newest.replace(year=newest.year - 1):
            by_design[currency, order["design_id"]].append(order)
    assert [
        (row["month"], row["currency"], row["orders"], row["units"], row["revenue"])
        for row in report(platform, "revenue_by_month")
    ] == [
        (*group, len(sold), sum(order["units_sold"] for order in sold), sum(map(value, sold)))
        for group, sold in sorted(by_month.items())
    ]
    names = table(platform, "design")
    best = sorted((currency, -sum(map(value, sold)), design) for (currency, design), sold in by_design.items())
    assert [(row["currency"], row["design"], row["revenue"]) for row in report(platform, "top_designs")] == [
        (currency, f"{names[design]['design_name']} #{design}", -revenue)
        for rank, (currency, revenue, design) in enumerate(best)
        if rank < 10 or best[rank - 10][0] != currency
    ]
    classes = report(platform, "order_value_distribution")
    assert counted(classes, "currency", "orders") == Counter(
        codes[order["currency_id"]]["currency_code"] for order in orders
    )
    for row in classes:
        within = [
            order
            for order in orders
            if codes[order["currency_id"]]["currency_code"] == row["currency"]
            and row["value_from"] <= value(order) < (row["value_to"] or Decimal("Infinity"))
        ]
        assert row["orders"] == len(within), row


def outcomes(platform: Platform, late: Collection[int] = (), unknown: Collection[int] = ()) -> Counter[str]:
    """The payments due by outcome; the simulator and the real totesys mark them as paid on the due date or never."""
    return Counter(
        "paid late"
        if payment["payment_id"] in late
        else "paid, day unknown"
        if payment["payment_id"] in unknown
        else "paid on the day"
        if payment["paid"]
        else "never paid"
        for payment in table(platform, "payment").values()
        if payment["payment_date"] < f"{platform.latest_capture.captured_at:%Y-%m-%d}"
    )


def counted(rows: list[Row], by: str, count: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row[by]] += row[count]
    return counts


def test_unpaid_payments_are_due_on_weekends_or_on_their_day_of_creation(platform: Platform) -> None:
    unpaid = {key for key, payment in table(platform, "payment").items() if not payment["paid"]}
    expected = outcomes(platform)
    assert counted(report(platform, "payments_due"), "outcome", "payments") == expected
    assert 0.35 < expected["never paid"] / expected.total() < 0.45
    patterns = report(platform, "never_paid")
    assert sum(row["never_paid"] for row in patterns) == expected["never paid"]
    unpaid_days = [row for row in patterns if row["weekday"] in {"Saturday", "Sunday"} or row["made"].startswith("on")]
    assert {row["never_paid_percent"] for row in unpaid_days} == {Decimal("100.0")}
    assert sum(row["never_paid"] for row in unpaid_days) > 0.95 * expected["never paid"]

    edit(platform)
    late, unknown = {key for key in unpaid if key < 60}, {key for key in unpaid if 60 <= key <= 80}
    assert late
    assert unknown
    due = report(platform, "payments_due")
    assert counted(due, "outcome", "payments") == outcomes(platform, late, unknown)
    assert {row["mean_days_late"] for row in due if row["outcome"] == "paid late"} == {Decimal("3.0")}
    for row in due:
        group = [other for other in due if (other["kind"], other["currency"]) == (row["kind"], row["currency"])]
        assert row["percent_of_payments"] == percent(row["payments"], sum(other["payments"] for other in group), "0.1")


def change(old: Any, new: Any, column: str) -> Decimal | None:
    if column.endswith("_id"):
        return None
    if isinstance(new, str):
        return Decimal(abs(date.fromisoformat(new) - date.fromisoformat(old)) / timedelta(days=1))
    return Decimal(100) * abs(Decimal(new) - Decimal(old)) / Decimal(old)


def test_order_changes_match_the_edits(platform: Platform) -> None:
    assert report(platform, "order_changes") == []
    edited: dict[tuple[str, str], list[tuple[bool, Decimal | None]]] = defaultdict(list)
    before = {name: table(platform, name) for name in ("sales_order", "purchase_order")}
    edit(platform)
    for name, orders in before.items():
        for key, new in table(platform, name).items():
            old = orders[key]
            silent = old["last_updated"] == new["last_updated"]
            for column in set(new) - {"last_updated"}:
                if old[column] != new[column]:
                    size = change(old[column], new[column], column)
                    edited[name.removesuffix("_order"), column].append((silent, size))
    rows = {(row["orders_of"], row["edited_column"]): row for row in report(platform, "order_changes")}
    assert set(rows) == set(edited)
    assert rows["sales", "units_sold"]["silent_edits"] < rows["sales", "units_sold"]["edits"]
    for order_column, edits in edited.items():
        row, sizes = rows[order_column], [size for _, size in edits if size is not None]
        assert (row["edits"], row["silent_edits"]) == (len(edits), sum(silent for silent, _ in edits)), order_column
        assert row["orders"] == len(edits)
        if sizes:
            assert abs(row["mean_change"] - sum(sizes) / len(sizes)) <= Decimal("0.05"), order_column
            assert abs(row["largest_change"] - max(sizes)) <= Decimal("0.05"), order_column
        else:
            assert row["mean_change"] is row["largest_change"] is row["change_unit"] is None


def test_the_platform_report_has_every_star_table_with_its_loads(platform: Platform) -> None:
    edit(platform)
    rows = {row["star_table"]: row for row in report(platform, "platform")}
    assert set(rows) == {star.name for star in STAR_TABLES}
    versions = platform.row_counts()
    for star in STAR_TABLES:
        row = rows[star.name]
        assert row["loaded_today"] <= row["loaded_last_7_days"] == row["loaded"] >= versions[star.name], star.name
        assert not star.keeps_every_version or row["loaded"] == versions[star.name]
        assert row["kilobytes"] > 0
        assert 0 <= row["newest_load_age"] <= row["newest_capture_age"] < 10


def test_reports_are_refused_before_the_first_load(warehouse_url: str) -> None:
    with connect(warehouse_url) as connection, pytest.raises(NothingLoadedError, match="materialize warehouse"):
        answer_reports(connection, list(REPORTS.values()))


def test_each_broken_report_fails_by_itself_and_the_page_and_one_failure_name_all_of_them(platform: Platform) -> None:
    secret = "s3cret"
    queries = {
        "refused": "SELECT no_column FROM warehouse.dim_date",
        "divided": f"SELECT CAST(design_name || '{secret}' AS integer) FROM warehouse.dim_design",
        "slow": "SELECT pg_sleep(30)",
        "writing": "DELETE FROM warehouse.dim_date RETURNING date_id",
        "unfit": f"SELECT 1 AS day, '{secret}' AS orders",
        "whole": "SELECT 1 AS day, 2 AS orders",
    }
    chart = Chart(kind="line", x="day", y="orders")
    reports = [
        Report(name=name, title=name.title(), description="", chart=chart, units={}, query=query)
        for name, query in queries.items()
    ]
    malformed = [ReportError("untold", "answers: missing in the header", title="Untold story")]
    platform.environment.setenv("WAREHOUSE_DATABASE_URL", f"{platform.warehouse_url}&statement_timeout=2")
    definitions = dg.Definitions(
        assets=[report_assets(reports, malformed, STAR_TABLES)], resources=platform.definitions.resources
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(run_config=QUIET, raise_on_error=False)

    names = ["divided", "refused", "slow", "unfit", "untold", "writing"]
    [event] = result.get_step_failure_events()
    assert not [each for each in result.all_events if each.is_step_up_for_retry]
    failed = event.step_failure_data.user_failure_data
    assert failed
    cause = str(failed.description)
    assert cause.startswith(f"6 of 7 reports are missing: {', '.join(names)}. divided.sql: invalid input syntax")
    problems = (
        'refused.sql: column "no_column" does not exist',
        "slow.sql: canceling statement due to statement timeout",
        "unfit.sql: chart: y=orders is not a numeric column",
        "untold.sql: answers: missing in the header",
        "writing.sql: cannot execute DELETE in a read-only transaction",
    )
    assert all(problem in cause for problem in problems)
    assert "\n" not in cause

    materialized = {each.asset_key.path[-1]: each for each in result.asset_materializations_for_node("reports")}
    assert materialized.keys() == {"whole", "page"}
    checks = {each.asset_key.path[-1]: each for each in result.get_asset_check_evaluations()}
    assert {name for name, check in checks.items() if not check.passed} == {*names}
    assert {check.severity for check in checks.values()} == {dg.AssetCheckSeverity.WARN}, "the failed run alerts once"
    assert checks["untold"].metadata["fault"].value == "untold.sql: answers: missing in the header"

    [page] = Bucket(platform.transformation_url).objects("reports")
    with Bucket(platform.transformation_url).open(page) as file:
        html = unescape(file.read().decode())
    assert '<table data-name="whole">' in html
    assert all(f"This report is missing. {problem}" in html for problem in problems)
    assert '<a href="#untold">Untold story</a> is missing' in html


def test_an_outage_while_reports_are_answered_is_no_fault_of_theirs(platform: Platform) -> None:
    killed = replace(REPORTS["platform"], query="SELECT pg_terminate_backend(pg_backend_pid())")
    with connect(platform.warehouse_url) as connection, pytest.raises(DatabaseUnavailableError):
        answer_reports(connection, [killed, REPORTS["platform"]])


def test_a_run_materializes_each_report_and_writes_another_page(platform: Platform) -> None:
    with dg.instance_for_test() as instance:
        for _ in range(2):
            job = platform.definitions.resolve_job_def(REPORT)
            result = job.execute_in_process(instance=instance, run_config=QUIET)
    pages = Bucket(platform.transformation_url).objects("reports")
    assert len(pages) == 2
    metadata: dict[str, dict[str, Any]] = {
        event.asset_key.path[-1]: {name: value.value for name, value in event.metadata.items()}
        for event in result.asset_materializations_for_node("reports")
    }
    page = metadata.pop("page")
    assert list(metadata) == list(REPORTS)
    for materialized in metadata.values():
        assert materialized["chart"].startswith("![")
        assert materialized["dagster/column_schema"].columns
        assert materialized["dagster/row_count"] >= len(materialized["first_rows"].records)
    assert page["dagster/uri"] == f"{platform.transformation_url}/{pages[-1]}"
    with Bucket(platform.transformation_url).open(pages[-1]) as file:
        html = file.read().decode()
    assert all(f'<h2 id="{name}-title">{report.title}</h2>' in html for name, report in REPORTS.items())


def test_reports_as_of_a_moment_are_as_they_were_drawn_then(platform: Platform) -> None:
    def draw_page(**config: str) -> tuple[str, dict[str, Any]]:
        job = platform.definitions.resolve_job_def(REPORT)
        result = job.execute_in_process(run_config=QUIET | {"ops": {"reports": {"config": config}}})
        [page] = [
            each for each in result.asset_materializations_for_node("reports") if each.asset_key.path[-1] == "page"
        ]
        bucket = Bucket(platform.transformation_url)
        with bucket.open(str(page.metadata["dagster/uri"].value).removeprefix(f"{bucket.url}/")) as file:
            return file.read().decode(), dict(page.metadata)

    def tables(html: str) -> dict[str, str]:
        parts = re.findall(r'<table data-name="(\w+)">(.*?)</table>', html, re.DOTALL)
        return {name: part for name, part in parts if name in REPORTS and name != "platform"}

    before_at = platform.latest_capture.captured_at
    [[name]] = platform.totesys("SELECT design_name FROM design WHERE design_id = 1")
    before, _ = draw_page()
    platform.totesys("UPDATE design SET design_name = 'Renamed' WHERE design_name = :name", name=name)
    platform.totesys("DELETE FROM payment WHERE payment_id < 50")
    edit(platform)
    after, _ = draw_page()
    elsewhere = before_at.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=2)))
    as_of_before, metadata = draw_page(as_of=elsewhere.isoformat())
    assert metadata["as_of"].value == before_at.replace(tzinfo=UTC).timestamp()

    assert tables(as_of_before) == tables(before)
    assert tables(after).keys() == tables(before).keys()
    changed = {name for name, part in tables(after).items() if part != tables(before)[name]}
    assert {"order_changes", "revenue_by_month", "top_designs"} <= changed
    assert f"<h1>Reports as of {format_time(before_at)}</h1>" in as_of_before
    assert "<h1>Reports</h1>" in after


def test_a_moment_before_the_first_capture_and_a_malformed_one_are_refused(platform: Platform) -> None:
    job = platform.definitions.resolve_job_def(REPORT)
    for text, message in (("2000-01-01", "no capture up to 2000-01-01 00:00:00 UTC"), ("noon", "'noon' is no time")):
        config = QUIET | {"ops": {"reports": {"config": {"as_of": text}}}}
        result = job.execute_in_process(run_config=config, raise_on_error=False)
        assert message in failure(result)
