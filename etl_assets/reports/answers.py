"""Runs the queries of reports against the warehouse."""

import re
from collections.abc import Sequence
from datetime import datetime
from time import monotonic

from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, StatementRefusedError, transaction
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.ingestion.manifest import captured_at_of
from etl_assets.reports.report import Answer, Report, ReportError
from etl_assets.schema.errors import PermanentError
from etl_assets.warehouse.ledger import latest_loaded
from etl_assets.warehouse.relations import AS_OF, AS_OF_SETTING


class NothingLoadedError(PermanentError):
    """Nothing is loaded into the warehouse yet, or nothing was captured by then."""


def answer_reports(
    connection: Connection, reports: Sequence[Report], as_of: datetime | None = None
) -> tuple[list[Answer], dict[str, float]]:
    """Return the answers to reports, all from one snapshot, and the seconds each took by report name.

    They are of the latest state, or as of a time (UTC, naive).

    Raises:
        NothingLoadedError: the warehouse is empty, or was by then.
        ReportError: the database refuses a query, or the result does not fit the header of the report.
        DatabaseUnavailableError: the warehouse is down.
    """
    answers, seconds = [], {}
    with transaction(connection, snapshot=True):
        loaded = latest_loaded(connection, until=as_of)
        if loaded is None and as_of:
            raise NothingLoadedError(f"the warehouse has no capture up to {as_of} UTC: name a later time")
        if loaded is None:
            raise NothingLoadedError("nothing is loaded into the warehouse yet: materialize warehouse/* first")
        if as_of:
            connection.run(f"SET LOCAL {AS_OF_SETTING} = {literal(as_of.isoformat())}")
        for report in reports:
            started = monotonic()
            try:
                rows = connection.run(_as_of(report.query) if as_of else report.query)
            except StatementRefusedError as error:
                raise ReportError(report.name, str(error)) from error
            columns = [column["name"] for column in connection.columns]
            answers.append(Answer(report=report, columns=columns, rows=rows, captured_at=captured_at_of(loaded)))
            seconds[report.name] = monotonic() - started
    return answers, seconds


def _as_of(query: str) -> str:
    """Return a query over the star as it was at the moment of the session's setting."""
    return re.sub(rf"\b{WAREHOUSE}\.", f"{AS_OF}.", query)
