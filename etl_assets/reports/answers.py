"""Runs the queries of reports against the warehouse."""

from collections.abc import Sequence
from time import monotonic

from etl_assets.adapters.postgres import Connection, StatementRefusedError, transaction
from etl_assets.ingestion.manifest import captured_at_of
from etl_assets.reports.report import Answer, Report, ReportError
from etl_assets.schema.errors import PermanentError
from etl_assets.warehouse.ledger import latest_loaded


class NothingLoadedError(PermanentError):
    """Nothing is loaded into the warehouse yet."""


def answer_reports(connection: Connection, reports: Sequence[Report]) -> tuple[list[Answer], dict[str, float]]:
    """Return the answers to reports, all from one snapshot, and the seconds each took by report name.

    Raises:
        NothingLoadedError: the warehouse is empty.
        ReportError: the database refuses a query, or the result does not fit the header of the report.
        DatabaseUnavailableError: the warehouse is down.
    """
    answers, seconds = [], {}
    with transaction(connection, snapshot=True):
        loaded = latest_loaded(connection)
        if loaded is None:
            raise NothingLoadedError("nothing is loaded into the warehouse yet: materialize warehouse/* first")
        for report in reports:
            started = monotonic()
            try:
                rows = connection.run(report.query)
            except StatementRefusedError as error:
                raise ReportError(report.name, str(error)) from error
            columns = [column["name"] for column in connection.columns]
            answers.append(Answer(report=report, columns=columns, rows=rows, captured_at=captured_at_of(loaded)))
            seconds[report.name] = monotonic() - started
    return answers, seconds
