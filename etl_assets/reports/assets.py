"""The report assets: one op for all, because they are answered in one snapshot and lie on one page.

The page lies in the transformation bucket at `reports/<time written>.html`.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from time import monotonic
from typing import Any

import dagster as dg

from etl_assets.captures import captured_at_of, stamp
from etl_assets.databases import Connection, DatabaseResource, StatementRefusedError, transaction
from etl_assets.errors import PermanentError
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.reports.charts import draw
from etl_assets.reports.declare import Answer, Report, ReportError, label, parse, shown
from etl_assets.reports.page import page
from etl_assets.storage import BucketResource
from etl_assets.transformation.declare import StarTable
from etl_assets.warehouse.load import last_loaded
from etl_assets.warehouse.schema import WAREHOUSE

REPORTS = "reports"
PAGE = "page"

_SHOWN = 10


class NothingLoadedError(PermanentError):
    """The warehouse has nothing to report on."""

    def __init__(self) -> None:
        super().__init__("nothing is loaded into the warehouse yet: materialize warehouse/* first")


def declared() -> list[Report]:
    """Read the reports, by their names.

    Raises:
        ReportError: a file is no report.
    """
    here = sorted(files(__package__).iterdir(), key=lambda file: file.name)
    return [parse(file.name.removesuffix(".sql"), file.read_text()) for file in here if file.name.endswith(".sql")]


def answers(connection: Connection, reports: Sequence[Report]) -> tuple[list[Answer], dict[str, float]]:
    """Answer reports, all of one instant; give also how many seconds each took, by its name.

    Raises:
        NothingLoadedError: there is nothing to answer from.
        ReportError: the database refuses a query, or it gives other columns than the report is drawn from.
        DatabaseUnavailableError: the warehouse is down.
    """
    found, seconds = [], {}
    with transaction(connection, "ISOLATION LEVEL REPEATABLE READ READ ONLY"):
        loaded = last_loaded(connection)
        if loaded is None:
            raise NothingLoadedError
        for report in reports:
            started = monotonic()
            try:
                rows = connection.run(report.query)
            except StatementRefusedError as error:
                raise ReportError(report.name, str(error)) from error
            columns = [column["name"] for column in connection.columns]
            found.append(Answer(report=report, columns=columns, rows=rows, captured_at=captured_at_of(loaded)))
            seconds[report.name] = monotonic() - started
    return found, seconds


def report_assets(reports: Sequence[Report], star_tables: Sequence[StarTable]) -> dg.AssetsDefinition:
    """Make the report assets, and that of the page."""
    specs = [
        dg.AssetSpec(
            [REPORTS, report.name],
            deps=[[WAREHOUSE, star.name] for star in star_tables if f"{WAREHOUSE}.{star.name}" in report.query],
            description=f"{report.title}. {report.answers}\n\n```sql\n{report.query}\n```",
            kinds={"sql"},
        )
        for report in reports
    ]

    @dg.multi_asset(
        name=REPORTS,
        specs=[
            *specs,
            dg.AssetSpec(
                [REPORTS, PAGE],
                deps=specs,
                description="All reports on one page of HTML, which needs nothing beside it.",
                kinds={"html"},
            ),
        ],
        can_subset=False,
        retry_policy=RETRY_OUTAGES,
    )
    def answered(
        warehouse_database: DatabaseResource, transformation_bucket: BucketResource
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        with permanent_failures_not_retried():
            with warehouse_database.connect() as connection:
                found, seconds = answers(connection, reports)
            now = datetime.now(UTC)
            html = page(found, now).encode()
            bucket = transformation_bucket.open()
            with bucket.create(f"{REPORTS}/{stamp(now)}.html") as file:
                file.write(html)
        for answer in found:
            facts = _facts(answer) | {"seconds_read": seconds[answer.report.name]}
            yield dg.MaterializeResult(asset_key=[REPORTS, answer.report.name], metadata=facts)
        yield dg.MaterializeResult(
            asset_key=[REPORTS, PAGE],
            metadata={
                "dagster/uri": f"{bucket.url}/{REPORTS}/{stamp(now)}.html",
                "dagster/row_count": sum(len(answer.rows) for answer in found),
                "bytes": len(html),
            },
        )

    return answered


def _facts(answer: Answer) -> dict[str, Any]:
    """Give what the asset page of a report shows: its chart and its first rows."""
    schema = dg.TableSchema(
        [dg.TableColumn(name, description=answer.report.units.get(name)) for name in answer.columns]
    )
    first = [
        dg.TableRecord({name: shown(value) for name, value in zip(answer.columns, row, strict=True)})
        for row in answer.rows[:_SHOWN]
    ]
    facts: dict[str, Any] = {
        "dagster/row_count": len(answer.rows),
        "dagster/column_schema": schema,
        "captured_at": dg.MetadataValue.timestamp(answer.captured_at.replace(tzinfo=UTC)),
        "first_rows": dg.MetadataValue.table(first, schema),
    }
    if drawing := draw(answer):
        image = b64encode(drawing.encode()).decode()
        facts["chart"] = dg.MetadataValue.md(f"![{label(answer.report.name)}](data:image/svg+xml;base64,{image})")
    return facts
