"""The state of the platform at a glance: what is captured, loaded and not loaded, and what the clocks say.

It reads the latest manifest, the ledger and the quarantine of the warehouse, and the clocks of both databases. What
cannot be read is named with the error; the rest is shown.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection, DatabaseUnavailableError, transaction
from etl_assets.catalog.stages import INGESTION, TOTESYS, WAREHOUSE
from etl_assets.ingestion.manifest import Source, capture_id_of, captured_at_of, latest
from etl_assets.reports.report import Answer, Report, Value, label, text_table
from etl_assets.schema.errors import PermanentError
from etl_assets.warehouse.ledger import LatestLoad, latest_loaded, latest_loads
from etl_assets.warehouse.quarantine import row_counts
from etl_assets.warehouse.reconciliation import Reconciliation, latest_reconciliations

_Part = TypeVar("_Part")

UNREADABLE = (DatabaseUnavailableError, PermanentError, BotoCoreError, ClientError, OSError, ValueError)
"""What a part of the platform raises that cannot be read: an outage, a refusal, a malformed URL, a damaged manifest."""


@dataclass(frozen=True)
class TableCapture:
    """The latest capture that has rows of a source table, and their object."""

    capture: str
    captured_at: datetime
    rows: int
    bytes: int
    uri: str


@dataclass(frozen=True)
class CaptureStatus:
    """The latest capture, its position in the source, and what the latest rows of each source table are.

    url: of the ingestion bucket.
    tables: None if no capture is known that has rows of the table.
    unknown_until: captures up to this time are not known to `tables`: an older release wrote their successor.
    """

    url: str
    capture: str
    captured_at: datetime
    partition: str
    full_because: str | None
    source: Source
    snapshot: str
    horizon: int
    tables: Mapping[str, TableCapture | None]
    unknown_until: datetime | None


@dataclass(frozen=True)
class StarStatus:
    """The latest load that changed a star table, its rows that are not loaded, and its latest reconciliation."""

    latest_load: LatestLoad | None
    pending_rows: int
    rejected_rows: int
    reconciliation: Reconciliation | None


@dataclass(frozen=True)
class WarehouseStatus:
    """The latest loaded capture, and the state of each star table."""

    latest_loaded: str | None
    tables: Mapping[str, StarStatus]


@dataclass(frozen=True)
class Clock:
    """The time of a database server, UTC, and how far it is ahead of this machine's."""

    time: datetime
    seconds_ahead: float


@dataclass(frozen=True)
class Status:
    """The state of the platform. All times are UTC, without time zone.

    time: by the clock of this machine.
    captures: None if nothing is captured, or the ingestion bucket is in `errors`.
    latest_capture_loaded: None if there is none, or it is not known.
    clocks: by database.
    errors: what could not be read (`ingestion`, `totesys` or `warehouse`), and why.
    """

    time: datetime
    captures: CaptureStatus | None
    warehouse: WarehouseStatus | None
    latest_capture_loaded: bool | None
    clocks: Mapping[str, Clock]
    errors: Mapping[str, str]

    def to_json(self) -> str:
        """Return it as JSON, times in ISO 8601."""
        return json.dumps(asdict(self), indent=1, default=lambda time: f"{time.isoformat(timespec='microseconds')}Z")


def read_status(
    source_tables: Iterable[str],
    star_tables: Iterable[str],
    open_bucket: Callable[[], Bucket],
    connect_source: Callable[[], AbstractContextManager[Connection]],
    connect_warehouse: Callable[[], AbstractContextManager[Connection]],
) -> Status:
    """Return the state of the platform over an ingestion bucket, a source and a warehouse."""
    time = _now()
    clocks: dict[str, Clock] = {}
    errors: dict[str, str] = {}

    def attempt(part: str, read: Callable[[], _Part]) -> _Part | None:
        try:
            return read()
        except UNREADABLE as error:
            errors[part] = " ".join(str(error).split())
            return None

    def read_source() -> None:
        with connect_source() as connection:
            clocks[TOTESYS] = read_clock(connection)

    def read_warehouse() -> WarehouseStatus:
        with connect_warehouse() as connection:
            clocks[WAREHOUSE] = read_clock(connection)
            return _warehouse(connection, star_tables)

    captures = attempt(INGESTION, lambda: _captures(open_bucket(), source_tables))
    attempt(TOTESYS, read_source)
    warehouse = attempt(WAREHOUSE, read_warehouse)
    is_loaded = None
    if captures and warehouse:  # a capture after the reading of the bucket may be loaded already
        loaded = warehouse.latest_loaded
        is_loaded = loaded is not None and captured_at_of(loaded) >= captures.captured_at
    return Status(time, captures, warehouse, is_loaded, clocks, errors)


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _captures(bucket: Bucket, source_tables: Iterable[str]) -> CaptureStatus | None:
    capture = latest(bucket)
    if not capture:
        return None
    tables: dict[str, TableCapture | None] = dict.fromkeys(source_tables)
    for table in tables.keys() & capture.latest_files.keys():
        file = capture.latest_files[table]
        id_ = capture_id_of(table, file.key)
        tables[table] = TableCapture(id_, captured_at_of(id_), file.rows, file.bytes, f"{bucket.url}/{file.key}")
    return CaptureStatus(
        url=bucket.url,
        capture=capture.id,
        captured_at=capture.captured_at,
        partition=capture.partition,
        full_because=capture.full_because,
        source=capture.source,
        snapshot=capture.snapshot,
        horizon=capture.horizon,
        tables=tables,
        unknown_until=captured_at_of(capture.files_unknown_until) if capture.files_unknown_until else None,
    )


def _warehouse(connection: Connection, star_tables: Iterable[str]) -> WarehouseStatus:
    with transaction(connection, snapshot=True):
        loaded = latest_loaded(connection)
        loads = latest_loads(connection) if loaded else {}
        counts = row_counts(connection) if loaded else {}
        reconciled = latest_reconciliations(connection)
    tables = {
        star: StarStatus(loads.get(star), *counts.get(star, (0, 0)), reconciled.get(star)) for star in star_tables
    }
    return WarehouseStatus(loaded, tables)


def read_clock(connection: Connection) -> Clock:
    """Return the time of a database server."""
    before = _now()
    [[time]] = connection.run("SELECT clock_timestamp() AT TIME ZONE 'UTC'")
    asked = before + (_now() - before) / 2
    return Clock(time, round((time - asked).total_seconds(), 3))


def status_answers(status: Status) -> list[Answer]:
    """Return the state as sections of the page of reports: the platform, then its source tables and star tables."""

    def answer(
        name: str, texts: tuple[str, str], units: Mapping[str, str], rows: Iterable[tuple[Value, ...]]
    ) -> Answer:
        title, text = texts
        named = {column: unit for column, unit in units.items() if unit}
        report = Report(name=name, title=title, description=text, chart=None, units=named, query="")
        return Answer(report=report, columns=list(units), rows=list(rows), captured_at=status.time)

    texts = (
        "State of the platform",
        "The latest capture and load, and the clocks of this machine and of both databases.",
    )
    answers = [answer("status", texts, {"fact": "", "state": ""}, _facts(status))]
    if captures := status.captures:
        texts = "Latest capture of each source table", "The latest capture that has rows of it, and its object."
        units = {"source_table": "", "captured": "UTC", "rows": "in the object", "object": "in the ingestion bucket"}
        rows = (_capture_row(name, table, captures) for name, table in captures.tables.items())
        answers.append(answer("status_of_captures", texts, units, rows))
    if status.warehouse:
        texts = "Latest load of each star table", "The latest load that changed it, and its rows that are not loaded."
        units = {"star_table": "", "captured": "UTC", "loaded": "UTC", "changed_rows": ""}
        units |= {"pending": "rows that refer to a missing row", "rejected": "rows that do not fit their declaration"}
        rows = (_star_row(name, star) for name, star in status.warehouse.tables.items())
        answers.append(answer("status_of_loads", texts, units, rows))
        texts = (
            "Latest reconciliation of each star table",
            "The rows of the source table as of the latest full capture, compared with those here in every column "
            "that is copied from it.",
        )
        units = {"star_table": "", "captured": "UTC", "source_rows": "", "rows_here": "", "repaired": "rows"}
        units |= {"set_apart": "rejected or pending rows", "result": ""}
        found = [star.reconciliation for star in status.warehouse.tables.values() if star.reconciliation]
        if found:
            answers.append(answer("status_of_reconciliations", texts, units, map(_reconciliation_row, found)))
    return answers


def as_text(status: Status) -> str:
    """Return the state as aligned text."""
    facts, *tables = status_answers(status)
    width = max(len(str(fact)) for fact, _ in facts.rows)
    blocks = ["\n".join(f"{fact:<{width}}  {state}" for fact, state in facts.rows)]
    blocks += [f"{table.report.title}\n{text_table(list(map(label, table.columns)), table.rows)}" for table in tables]
    return "\n\n".join(blocks)


def _facts(status: Status) -> Iterator[tuple[str, str]]:
    if captures := status.captures:
        scope = f"every row ({captures.full_because})" if captures.full_because else "changed rows"
        yield "latest capture", f"{_minute(captures.captured_at)} UTC, partition {captures.partition}, {scope}"
        system, timeline, database, started_at = astuple(captures.source)
        position = f"system {system}, timeline {timeline}, database {database}, transaction {captures.horizon}"
        yield "position in totesys", position
        yield "totesys started", started_at or "not recorded"
        yield "ingestion bucket", captures.url
    elif INGESTION not in status.errors:
        yield "latest capture", "nothing is captured yet"
    if status.warehouse:
        loaded = status.warehouse.latest_loaded
        is_latest = {True: ", which is the latest", False: "; the latest is not loaded", None: ""}
        of = loaded and f"the capture of {_minute(captured_at_of(loaded))} UTC{is_latest[status.latest_capture_loaded]}"
        yield "latest load", of or "nothing is loaded yet"
    yield "clock of this machine", f"{status.time:%Y-%m-%d %H:%M:%S} UTC"
    for database, clock in status.clocks.items():
        yield f"clock of {database}", f"{clock.time:%Y-%m-%d %H:%M:%S} UTC, {clock.seconds_ahead:+z.1f} s"
    for part, error in status.errors.items():
        yield f"{part} cannot be read", error


def _capture_row(name: str, table: TableCapture | None, captures: CaptureStatus) -> tuple[Value, ...]:
    if table:
        return name, _minute(table.captured_at), table.rows, table.uri.removeprefix(f"{captures.url}/")
    since = captures.unknown_until
    return name, None, None, f"no rows since {_minute(since)}; before that, not recorded" if since else "no rows yet"


def _star_row(name: str, star: StarStatus) -> tuple[Value, ...]:
    load = star.latest_load
    times = (_minute(load.captured_at), _minute(load.loaded_at), load.rows) if load else (None, None, None)
    return name, *times, star.pending_rows, star.rejected_rows


def _reconciliation_row(found: Reconciliation) -> tuple[Value, ...]:
    result = {True: "equal", None: "not compared"}.get(found.is_equal) or _difference(found)
    counts = found.source_rows, found.warehouse_rows, found.repaired, found.set_apart
    return found.star_table, _minute(found.captured_at), *counts, result


def _difference(found: Reconciliation) -> str:
    rows = "the checksums differ" if found.differing is None else f"{found.differing:,} rows differ"
    first, _, _ = found.keys_text.partition("; ")
    return f"{rows}, first {first}" if first else rows


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"
