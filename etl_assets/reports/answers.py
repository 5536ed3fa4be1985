"""Runs the queries of reports against the warehouse."""

import decimal
import re
from collections.abc import Sequence
from datetime import datetime
from time import monotonic

import pyarrow as pa
from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, StatementEndedError, StatementRefusedError, savepoint, transaction
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.ingestion.manifest import captured_at_of
from etl_assets.reports.report import Answer, Report, ReportError, Value
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.types import arrow_type
from etl_assets.warehouse.ledger import latest_loaded
from etl_assets.warehouse.relations import AS_OF, AS_OF_SETTING

# Of all queries. Each may take half of what is left, so that one that hangs leaves time for the others: the run of all
# ends after 45 minutes (`automation/jobs.py`), and draws them in that time too.
_SECONDS = 1800

# The types of results that no stored column has: sum, avg and round return a `numeric` of no declared precision.
_NUMERIC = pa.decimal128(38, 18)
_RESULT_TYPES = {"numeric": _NUMERIC, "name": pa.string(), "timestamp with time zone": pa.timestamp("us", "UTC")}
_PRECISION_OF_TIME = re.compile(r"^(time|timestamp)\(\d\)")


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
                    columns = connection.columns or ()
                answers.append(
                    Answer(
                        report=report,
                        columns=[column["name"] for column in columns],
                        types=[(column["type_oid"], column["type_modifier"]) for column in columns],
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


def answer_table(connection: Connection, report: Report) -> pa.Table:
    """Return the answer to a report from the latest state, with the Arrow types of its columns in PostgreSQL.

    Raises:
        NothingLoadedError: the warehouse is empty.
        ReportError: it cannot be answered, or Arrow has no type for a column, or no value for one in it.
        DatabaseUnavailableError: the warehouse is down.
    """
    answers, faults = answer_reports(connection, [report])
    for fault in faults:
        raise fault
    [answer] = answers
    types = _arrow_types(connection, answer)
    columns = [_array(report, name, type_, answer.column(name)) for name, type_ in types.items()]
    return pa.table(columns, pa.schema(types.items()))


def _arrow_types(connection: Connection, answer: Answer) -> dict[str, pa.DataType]:
    """Return the type of each column of an answer."""
    types: dict[str, pa.DataType] = {}
    problems = []
    for name, (oid, modifier) in zip(answer.columns, answer.types, strict=True):
        [[sql, is_enum]] = connection.run(
            "SELECT format_type(oid, CAST(:modifier AS integer)), typtype = 'e' FROM pg_type WHERE oid = :oid",
            oid=oid,
            modifier=modifier,
        )
        sql = _PRECISION_OF_TIME.sub(r"\1", sql)
        type_ = _RESULT_TYPES.get(sql) or arrow_type(sql, is_enum=is_enum)
        if type_ is None:
            problems.append(f"column {name} is {sql}, for which there is no Arrow type: CAST it AS text in the query")
        types[name] = type_
    if problems:
        raise ReportError(answer.report.name, *problems, title=answer.report.title)
    return types


def _array(report: Report, name: str, type_: pa.DataType, values: Sequence[Value]) -> pa.Array:
    """Return the values of a column as an array. Decimal places beyond those of its type are rounded."""
    try:
        if type_ == _NUMERIC:
            with decimal.localcontext(prec=_NUMERIC.precision):
                unit = decimal.Decimal(1).scaleb(-_NUMERIC.scale)
                values = [value.quantize(unit) if isinstance(value, decimal.Decimal) else value for value in values]
        return pa.array(values, type_)
    except (pa.ArrowException, decimal.InvalidOperation):
        problem = f"column {name} has a value that no Arrow {type_} holds: CAST it AS text in the query"
        raise ReportError(report.name, problem, title=report.title) from None


def _as_of(query: str) -> str:
    """Return a query over the star as it was at the moment of the session's setting."""
    return re.sub(rf"\b{WAREHOUSE}\.", f"{AS_OF}.", query)
