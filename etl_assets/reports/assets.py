"""The report assets: one op, because all reports come from one snapshot and share one page.

The page is written to the transformation bucket as `reports/<time>.html`.
"""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from etl_assets.adapters.resources import BucketResource, DatabaseResource
from etl_assets.catalog.retries import RETRY_OUTAGES, permanent_errors_not_retried
from etl_assets.catalog.stages import REPORTS, WAREHOUSE
from etl_assets.ingestion.manifest import key_timestamp
from etl_assets.reports.answers import answer_reports
from etl_assets.reports.charts import draw
from etl_assets.reports.page import render_page
from etl_assets.reports.report import Answer, Report, format_value, in_utc, label
from etl_assets.reports.status import read_status, status_answers
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.table import Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation.star_table import StarTable

_PREVIEW_ROWS = 10


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


class MalformedMomentError(PermanentError):
    """The moment that reports are to show is malformed."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"as_of: {text!r} is no time: write it in ISO 8601, UTC unless it has an offset, such as "
            "2024-08-22T10:00 or 2024-08-22T12:00+02:00"
        )


def report_assets(
    reports: Sequence[Report], star_tables: Sequence[StarTable], source_tables: Sequence[Table] = TOTESYS_TABLES
) -> dg.AssetsDefinition:
    """Return the report assets, and the asset of their page, which also shows the state of the platform."""
    specs = [
        dg.AssetSpec(
            [REPORTS, report.name],
            deps=[[WAREHOUSE, star.name] for star in star_tables if f"{WAREHOUSE}.{star.name}" in report.query],
            description=f"{report.title}. {report.description}\n\n```sql\n{report.query}\n```",
            kinds={"sql"},
        )
        for report in reports
    ]
    description = "All reports, and the state of the platform, on one self-contained HTML page."
    page = dg.AssetSpec([REPORTS, "page"], deps=specs, description=description, kinds={"html"})

    @dg.multi_asset(name=REPORTS, specs=[*specs, page], retry_policy=RETRY_OUTAGES)
    def reports_and_page(
        config: ReportConfig,
        totesys: DatabaseResource,
        warehouse_database: DatabaseResource,
        ingestion_bucket: BucketResource,
        transformation_bucket: BucketResource,
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        with permanent_errors_not_retried():
            as_of = config.moment()
            with warehouse_database.connect() as connection:
                answers, seconds = answer_reports(connection, reports, as_of)
            on_page = list(answers)
            if as_of is None:
                status = read_status(
                    [table.name for table in source_tables],
                    [star.name for star in star_tables],
                    ingestion_bucket.open,
                    totesys.connect,
                    warehouse_database.connect,
                )
                on_page += status_answers(status)
            now = datetime.now(UTC)
            bucket = transformation_bucket.open()
            key = f"{REPORTS}/{key_timestamp(now)}.html"
            with bucket.create(key) as file:
                file.write(render_page(on_page, now, as_of).encode())
        for answer in answers:
            metadata = _metadata(answer) | {"seconds_read": seconds[answer.report.name]}
            yield dg.MaterializeResult(asset_key=[REPORTS, answer.report.name], metadata=metadata)
        rows = sum(len(answer.rows) for answer in answers)
        metadata = {"dagster/uri": f"{bucket.url}/{key}", "dagster/row_count": rows, "bytes": file.size}
        if as_of:
            metadata["as_of"] = dg.MetadataValue.timestamp(as_of.replace(tzinfo=UTC))
        yield dg.MaterializeResult(asset_key=page.key, metadata=metadata)

    return reports_and_page


def _metadata(answer: Answer) -> dict[str, Any]:
    """Return what Dagster's UI shows of an answer: its chart, first rows, columns and time."""
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
    }
    if drawing := draw(answer):
        image = b64encode(drawing.encode()).decode()
        metadata["chart"] = dg.MetadataValue.md(f"![{label(answer.report.name)}](data:image/svg+xml;base64,{image})")
    return metadata
