"""Runs the queries of reports against the warehouse."""

import re
from collections.abc import Sequence
from datetime import datetime
from time import monotonic

from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, StatementEndedError, StatementRefusedError, savepoint, transaction
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.ingestion.manifest import captured_at_of
from etl_assets.reports.report import Answer, Report, ReportError
from etl_assets.schema.errors import PermanentError
from etl_assets.warehouse.ledger import latest_loaded
from etl_assets.warehouse.relations import AS_OF, AS_OF_SETTING

# Of all queries. Each may take half of what is left, so that one that hangs leaves time for the others: the run of all
# ends after 45 minutes (`automation/jobs.py`), and draws them in that time too.
_SECONDS = 1800


class NothingLoadedError(PermanentError):
    """Nothing is loaded into the warehouse yet, or nothing was captured by then."""


def answer_reports(
    connection: Connection, reports: Sequence[Report], as_of: datetime | None = None
) -> tuple[list[Answer], list[ReportError]]:
    """Return the answers to reports, all from one snapshot, and why others cannot be answered.

    They are of the latest state, or as of a time (UTC, naive). A report cannot be answered if the database refuses its
    query, or ends it because it takes too long, or if the result does not fit the header.

    Raises:
        NothingLoadedError: the warehouse is empty, or was by then.
        DatabaseUnavailableError: the warehouse is down.
    """
    answers, faults = [], []
    give_up_at = monotonic() + _SECONDS
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
            limit = min(connection.timeouts["statement_timeout"], max(1, round((give_up_at - started) / 2)))
            try:
                with savepoint(connection):
                    connection.run(f"SET LOCAL statement_timeout = '{limit}s'")
                    rows = connection.run(_as_of(report.query) if as_of else report.query)
                    columns = [column["name"] for column in connection.columns or ()]
                answers.append(
                    Answer(
                        report=report,
                        columns=columns,
                        rows=rows,
                        captured_at=captured_at_of(loaded),
                        seconds=monotonic() - started,
                    )
                )
            except (StatementRefusedError, StatementEndedError) as error:
                problem = f"{error} (after {monotonic() - started:.0f} s)"
                faults.append(ReportError(report.name, problem, title=report.title))
            except ReportError as fault:
                faults.append(fault)
    return answers, faults


def _as_of(query: str) -> str:
    """Return a query over the star as it was at the moment of the session's setting."""
    return re.sub(rf"\b{WAREHOUSE}\.", f"{AS_OF}.", query)
