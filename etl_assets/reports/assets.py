"""The report assets: one op, because all reports come from one snapshot and share one page.

The page is written to the transformation bucket as `reports/<time>.html`. A report that fails does not stop the others:
these are materialized, the page says what is missing, and then the step fails with all faults.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from etl_assets.adapters.resources import BucketResource, DatabaseResource
from etl_assets.catalog.checks import Check
from etl_assets.catalog.retries import RETRY_OUTAGES, permanent_errors_not_retried
from etl_assets.catalog.stages import REPORTS, WAREHOUSE
from etl_assets.ingestion.manifest import key_timestamp
from etl_assets.reports.answers import answer_reports
from etl_assets.reports.charts import DrawnAnswer, draw_answers
from etl_assets.reports.page import render_page
from etl_assets.reports.report import Report, ReportError, format_value, in_utc, label
from etl_assets.reports.status import read_status, status_answers
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.table import Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation.star_table import StarTable

_PREVIEW_ROWS = 10

IS_ANSWERED: Check[Sequence[ReportError]] = Check(
    name="is_answered",
    description="The query of the report runs, its result fits the header, and the chart can be drawn. If not, the run "
    "fails too, and that alerts.",
    metadata_key="faults",
    count=len,
    severity=dg.AssetCheckSeverity.WARN,
)


class ReportConfig(dg.Config):
    """The configuration of reports: `as_of` is the moment that they show, in ISO 8601, UTC unless it has an offset.

    Without it, they show the latest state, with that of the platform.
    """

    as_of: str | None = None

    def moment(self) -> datetime | None:
        """Return the moment (UTC, naive).

        Raises:
            MalformedMomentError: it is no time in ISO 8601.
        """
        if self.as_of is None:
            return None
        try:
            return in_utc(datetime.fromisoformat(self.as_of))
        except ValueError:
            raise MalformedMomentError(self.as_of) from None


class ReportsMissingError(PermanentError):
    """Some reports are missing. The message has what is wrong with each."""

    def __init__(self, faults: Sequence[ReportError], reports: int) -> None:
        names = ", ".join(fault.name for fault in faults)
        super().__init__(f"{len(faults)} of {reports} reports are missing: {names}. {'. '.join(map(str, faults))}")


class MalformedMomentError(PermanentError):
    """The moment that reports are to show is malformed."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"as_of: {text!r} is no time: write it in ISO 8601, UTC unless it has an offset, such as "
            "2024-08-22T10:00 or 2024-08-22T12:00+02:00"
        )


def report_assets(
    reports: Sequence[Report],
    malformed: Sequence[ReportError],
    star_tables: Sequence[StarTable],
    source_tables: Sequence[Table] = TOTESYS_TABLES,
) -> dg.AssetsDefinition:
    """Build the report assets, and the asset of their page, which also shows the state of the platform.

    A malformed report is an asset that always fails.
    """
    specs = [
        dg.AssetSpec(
            [REPORTS, report.name],
            deps=[[WAREHOUSE, star.name] for star in star_tables if f"{WAREHOUSE}.{star.name}" in report.query],
            description=f"{report.title}. {report.description}\n\n```sql\n{report.query}\n```",
            kinds={"sql"},
        )
        for report in reports
    ]
    specs += [
        dg.AssetSpec([REPORTS, fault.name], description=f"{fault.title}. It is malformed: {fault}", kinds={"sql"})
        for fault in malformed
    ]
    specs = [spec.with_io_manager_key("reports_io_manager") for spec in specs]
    description = "All reports, and the state of the platform, on one self-contained HTML page."
    page = dg.AssetSpec([REPORTS, "page"], deps=specs, description=description, kinds={"html"})
    page = page.with_io_manager_key("page_io_manager")

    @dg.multi_asset(
        name=REPORTS,
        specs=[*specs, page],
        check_specs=[IS_ANSWERED.spec(spec.key) for spec in specs],
        retry_policy=RETRY_OUTAGES,
    )
    def reports_and_page(
        config: ReportConfig,
        totesys: DatabaseResource,
        warehouse_database: DatabaseResource,
        ingestion_bucket: BucketResource,
        transformation_bucket: BucketResource,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        """Answer all reports from one snapshot of the warehouse, and write them to one HTML page."""
        with permanent_errors_not_retried():
            as_of = config.moment()
            with warehouse_database.connect() as connection:
                answers, unanswered = answer_reports(connection, reports, as_of)
            drawn, undrawn = draw_answers(answers)
            faults = sorted([*malformed, *unanswered, *undrawn], key=lambda fault: fault.name)
            on_page = list(drawn)
            if as_of is None:
                status = read_status(
                    [table.name for table in source_tables],
                    [star.name for star in star_tables],
                    ingestion_bucket.open,
                    totesys.connect,
                    warehouse_database.connect,
                )
                on_page += draw_answers(status_answers(status))[0]
            now = datetime.now(UTC)
            bucket = transformation_bucket.open()
            key = f"{REPORTS}/{key_timestamp(now)}.html"
            with bucket.create(key) as file:
                file.write(render_page(on_page, faults, now, as_of).encode())
        for each in drawn:
            asset = dg.AssetKey([REPORTS, each.answer.report.name])
            yield dg.MaterializeResult(asset_key=asset, metadata=_metadata(each))
            yield IS_ANSWERED.result(asset, 0)
        for fault in faults:
            yield IS_ANSWERED.result(dg.AssetKey([REPORTS, fault.name]), 1, {"fault": str(fault)})
        rows = sum(len(each.answer.rows) for each in drawn)
        metadata: dict[str, Any] = {"dagster/uri": f"{bucket.url}/{key}", "dagster/row_count": rows, "bytes": file.size}
        if faults:
            metadata["missing"] = ", ".join(fault.name for fault in faults)
        if as_of:
            metadata["as_of"] = dg.MetadataValue.timestamp(as_of.replace(tzinfo=UTC))
        yield dg.MaterializeResult(asset_key=page.key, metadata=metadata)
        if faults:
            with permanent_errors_not_retried():
                raise ReportsMissingError(faults, len(specs))

    return reports_and_page


def _metadata(drawn: DrawnAnswer) -> dict[str, Any]:
    """Return what Dagster's UI shows of an answer: its chart, first rows, columns and time."""
    answer = drawn.answer
    units = answer.report.units
    schema = dg.TableSchema([dg.TableColumn(name, description=units.get(name)) for name in answer.columns])
    records = [
        dg.TableRecord(dict(zip(answer.columns, map(format_value, row), strict=True)))
        for row in answer.rows[:_PREVIEW_ROWS]
    ]
    metadata: dict[str, Any] = {
        "dagster/row_count": len(answer.rows),
        "dagster/column_schema": schema,
        "captured_at": dg.MetadataValue.timestamp(answer.captured_at.replace(tzinfo=UTC)),
        "first_rows": dg.MetadataValue.table(records, schema),
        "seconds_read": answer.seconds,
    }
    if drawn.chart:
        image = b64encode(drawn.chart.encode()).decode()
        metadata["chart"] = dg.MetadataValue.md(f"![{label(answer.report.name)}](data:image/svg+xml;base64,{image})")
    return metadata
