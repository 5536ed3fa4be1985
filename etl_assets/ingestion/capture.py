"""The capture: one snapshot of the source, streamed to CSV, and the manifest that publishes it."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any

from etl_assets.adapters.object_store import Bucket, NewObject
from etl_assets.adapters.postgres import (
    Connection,
    DatabaseUnavailableError,
    StatementRefusedError,
    column_list,
    server_encoding,
    transaction,
)
from etl_assets.adapters.schema_drift import Drift, schema_drift
from etl_assets.catalog.stages import TOTESYS
from etl_assets.ingestion import manifest
from etl_assets.ingestion.changes import (
    SOURCE_SCHEMA,
    ChangeQueries,
    HeldBackHorizon,
    Position,
    end_of_record,
    full_capture_reason,
    held_back_horizon,
    relation,
)
from etl_assets.ingestion.checksums import source_checksums
from etl_assets.ingestion.deletions import count_reason, count_rows, deletion_statistics, statistics_reason
from etl_assets.ingestion.live_tables import as_live, full_table_reasons, live_name, live_tables
from etl_assets.ingestion.manifest import Capture, CapturedFile, DeletionStatistics, LiveTable, RowCount, Source, bounds
from etl_assets.schema.table import JoinDependency, SharedColumns, Table

_LOCK = "totesys ETL: capture"  # the server hashes it into the key of an advisory lock
_POLL_SECONDS = 0.2
_FLUSH_POLL_SECONDS = 0.02
_WAL_WRITER_DELAYS = 3
_MAX_TRANSACTIONS = 10_000
_BLOCK_BYTES = 1024 * 1024
_HEAD_BYTES = 16 * 1024
_TICK = timedelta(microseconds=1)


class LaterWindowCapturedError(Exception):
    """A later window has a capture already: another run was faster, or Dagster's clock was set back."""

    def __init__(self, partition: str, latest_partition: str) -> None:
        super().__init__(
            f"nothing was captured into partition {partition}: the latest capture is in {latest_partition}, which is "
            "later (if that is in the future, Dagster's clock was wrong then)"
        )


@dataclass(frozen=True)
class CaptureResult:
    """The captures made; and by table the warnings about its schema, the seconds it took and its first rows."""

    captures: Sequence[Capture]
    held_back: HeldBackHorizon | None
    schema_warnings: Mapping[str, Sequence[str]]
    seconds: Mapping[str, float]
    first_rows: Mapping[str, Sequence[Mapping[str, str]]]


def capture(
    connection: Connection,
    bucket: Bucket,
    tables: Sequence[Table],
    join_dependencies: Sequence[JoinDependency],
    partition: str,
    *,
    full: bool = False,
    shared: Sequence[SharedColumns] = (),
) -> CaptureResult:
    """Capture every row that may have changed since the latest capture into `partition`.

    All tables are read from one snapshot and streamed; the manifest is written last. `full` adds a second capture of
    every row, from the same snapshot: whatever is new in it, the first one missed. A capture of every row has the
    checksums of the `shared` columns.

    Raises:
        SchemaMismatchError: the source does not match its declaration; nothing is written.
        SourceBehindError: the source is a standby that has not replayed yet what the latest capture saw.
        StatementRefusedError: the source refuses a statement.
        DatabaseUnavailableError: the source is down.
        LaterWindowCapturedError: the latest capture is in a later partition.
    """
    give_up_at = monotonic() + connection.timeouts["lock_timeout"]
    while True:
        previous = manifest.latest(bucket)
        if previous and previous.partition > partition:
            raise LaterWindowCapturedError(partition, previous.partition)
        server = _server(connection)
        statistics = deletion_statistics(connection, tables)
        try:
            with transaction(connection, snapshot=True):
                started = _start(connection, tables, server, statistics)
                # A capture published since `previous` was read may have seen more than this snapshot does.
                if started and manifest.latest(bucket) == previous:
                    return _capture(
                        connection,
                        bucket,
                        tables,
                        join_dependencies,
                        partition,
                        previous,
                        started,
                        full=full,
                        shared=shared,
                    )
        except StatementRefusedError:
            matching_tables(connection, tables)  # says more about a missing table than LOCK TABLE does
            raise
        if not started:
            if monotonic() > give_up_at:
                raise DatabaseUnavailableError(
                    f"another capture has not ended in {connection.timeouts['lock_timeout']} seconds: "
                    "its session holds an advisory lock of totesys (pg_locks)"
                )
            sleep(_POLL_SECONDS)


def rehearse(connection: Connection, tables: Sequence[Table]) -> Source:
    """Begin a capture and read no rows. Return which server it is.

    Raises:
        StatementRefusedError: the source refuses what a capture begins with.
        DatabaseUnavailableError: the source is down, or another capture is in progress.
    """
    server = _server(connection)
    with transaction(connection, snapshot=True):
        started = _start(connection, tables, server, {})
    if not started:
        raise DatabaseUnavailableError("another capture is in progress: check again when it has ended")
    return started.source


def schema_warnings(connection: Connection, tables: Sequence[Table]) -> list[str]:
    """Return how the source differs harmlessly from its declaration.

    Raises:
        SchemaMismatchError: it differs in another way, or cannot be read; a capture would fail.
    """
    _, drift = matching_tables(connection, tables)
    return [f"{table.name}: {warning}" for table in tables for warning in _warnings(drift[table.name], table, None)]


@dataclass(frozen=True)
class _Start:
    """Where a capture starts: the source's time (UTC, naive), and the server and its position.

    wal_position: of all that the snapshot saw; None if the server does not tell.
    durable_at: when it is sure that all of it is flushed, by the client's monotonic clock.
    statistics: by table, read before the snapshot.
    """

    now: datetime
    source: Source
    position: Position
    wal_position: int | None
    durable_at: float
    statistics: Mapping[str, DeletionStatistics]


@dataclass(frozen=True)
class _Server:
    """When a server started, whether it is a standby, and the WAL position that it had replayed before the snapshot."""

    started_at: str
    is_standby: bool
    replayed: int | None


def _server(connection: Connection) -> _Server:
    """Return the server. Read before a snapshot is taken, which then has all that was replayed."""
    [server] = connection.run(
        """SELECT pg_postmaster_start_time()::text, pg_is_in_recovery(),
                  pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END, '0/0')::bigint"""
    )
    return _Server(*server)


def _start(
    connection: Connection, tables: Sequence[Table], server: _Server, statistics: Mapping[str, DeletionStatistics]
) -> _Start | None:
    """Lock the tables, take the snapshot and the lock of captures. Return None if another capture holds that lock.

    The lock ends with the transaction: a pooler may give the session to someone else after it.
    """
    # An SQL_ASCII database holds bytes of any encoding: converted, COPY fails; as they are, single rows are rejected.
    if server_encoding(connection) == "SQL_ASCII":
        connection.run("SET LOCAL client_encoding = 'SQL_ASCII'")
    # Before the snapshot: concurrent TRUNCATE and ALTER TABLE ignore it (PostgreSQL manual, “Caveats” of MVCC).
    connection.run(f"LOCK TABLE {', '.join(relation(table.name) for table in tables)} IN ACCESS SHARE MODE")
    [[locked, now, snapshot, delay, wal_position, started_at, *identity]] = connection.run(  # it takes the snapshot
        """SELECT pg_try_advisory_xact_lock(hashtextextended(:lock, 0)),
                  now() AT TIME ZONE 'UTC',
                  pg_current_snapshot()::text,
                  extract(epoch FROM current_setting('wal_writer_delay')::interval)::float8,
                  pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                  ELSE pg_current_wal_insert_lsn() END, '0/0')::bigint,
                  pg_postmaster_start_time()::text,
                  (SELECT system_identifier FROM pg_control_system()),
                  CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
                       ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END,
                  (SELECT oid FROM pg_database WHERE datname = current_database())""",
        lock=_LOCK,
    )
    durable_at = monotonic() + _WAL_WRITER_DELAYS * delay
    if started_at != server.started_at:
        raise DatabaseUnavailableError("the source was another server a moment ago: it fails over, or a pooler moves")
    if not locked:
        return None
    system_identifier, timeline_id, database_oid = identity
    source = Source(system_identifier, timeline_id, database_oid, started_at)
    position = Position(snapshot, server.is_standby, server.replayed)
    end = None if wal_position is None else end_of_record(wal_position)
    return _Start(now, source, position, end, durable_at, statistics)


def _capture(
    connection: Connection,
    bucket: Bucket,
    tables: Sequence[Table],
    join_dependencies: Sequence[JoinDependency],
    partition: str,
    previous: Capture | None,
    start: _Start,
    *,
    full: bool,
    shared: Sequence[SharedColumns],
) -> CaptureResult:
    """Copy the tables and publish the manifests, which the next capture sees when the transaction ends."""
    live, drift = matching_tables(connection, tables)
    by_name = {table.name: as_live(table, live[table.name]) for table in tables}
    joins = [_join_as_live(join, tables, live) for join in join_dependencies]
    captures: list[Capture] = []
    seconds = dict.fromkeys(by_name, 0.0)
    heads = dict.fromkeys(by_name, b"")
    unavoidable = full_capture_reason(previous, start.source, start.position)
    for full_because in [unavoidable, manifest.REQUESTED] if full and not unavoidable else [unavoidable]:
        before = captures[-1] if captures else previous
        # Versions are ordered by this time: a clock that was set back must not reorder them.
        captured_at = max(start.now, before.captured_at + _TICK) if before else start.now
        files: dict[str, CapturedFile] = {}
        full_tables = full_table_reasons(previous.tables, live, joins) if previous and not full_because else {}
        queries = ChangeQueries(by_name, joins, None if full_because else previous, full_tables.keys())
        for table in queries.tables_to_query(connection):
            started = monotonic()
            key = manifest.file_key(table.name, partition, captured_at)
            query = queries.rows(table.name, live[table.name].names)
            if copied := _copy(connection, query, bucket, key):
                files[table.name], heads[table.name] = copied
            seconds[table.name] += monotonic() - started
        earlier_files = before.latest_files if before else {}
        changes = Capture(
            captured_at=captured_at,
            partition=partition,
            snapshot=start.position.snapshot,
            source=start.source,
            full_because=full_because,
            previous=before.id if before else None,
            files=files,
            earlier_files={name: file for name, file in earlier_files.items() if name not in files},
            files_unknown_until=before.files_unknown_until if before else None,
            captured_transactions=_captured_transactions(connection, queries, files, start.position.snapshot),
            tables=live,
            full_tables=full_tables,
            deletion_statistics=start.statistics,
            checksums=source_checksums(connection, tables, live, shared) if full_because else {},
        )
        captures.append(_with_keys(connection, bucket, by_name.values(), changes, previous, seconds))
    wal_position = _await_flush(connection, start)
    captures = [replace(each, wal_position=wal_position) for each in captures]
    for each in captures:
        manifest.publish(bucket, each)
    held_back = held_back_horizon(connection, previous, start.position.snapshot)
    known = previous.tables if previous else {}
    warnings = {name: tuple(_warnings(drift[name], table, known.get(name))) for name, table in by_name.items()}
    return CaptureResult(
        captures, held_back, warnings, seconds, {name: _first_rows(head) for name, head in heads.items()}
    )


def _with_keys(
    connection: Connection,
    bucket: Bucket,
    tables: Collection[Table],
    capture: Capture,
    previous: Capture | None,
    seconds: dict[str, float],
) -> Capture:
    """Return a capture with the keys of the tables of which rows may have gone since the previous one."""
    files: dict[str, CapturedFile] = {}
    reasons: dict[str, str] = {}
    row_counts: dict[str, RowCount] = {}
    for table in tables:
        started = monotonic()
        name = table.name
        since = None if capture.is_full(name) else previous
        if statistics := capture.deletion_statistics.get(name):
            reason = statistics_reason(since.deletion_statistics.get(name), statistics) if since else None
        else:
            before = since.row_counts.get(name) if since else None
            row_counts[name], remaining = count_rows(connection, table, capture.tables[name], before)
            reason = count_reason(before, remaining) if since else None
        if reason:
            query = f"SELECT {column_list(table.primary_key)} FROM {relation(name)}"
            key = manifest.key_file_key(name, capture.partition, capture.captured_at)
            copied = _copy(connection, query, bucket, key, keep_empty=True)
            assert copied
            files[name], _ = copied
            reasons[name] = reason
        seconds[name] += monotonic() - started
    columns = {table.name: table.primary_key for table in tables if table.name in files}
    return replace(capture, key_files=files, key_columns=columns, key_reasons=reasons, row_counts=row_counts)


def matching_tables(connection: Connection, tables: Sequence[Table]) -> tuple[dict[str, LiveTable], dict[str, Drift]]:
    """Return what the tables are now, and how they differ from their declarations.

    Raises:
        SchemaMismatchError: in a way that is not harmless.
    """
    live = live_tables(connection, SOURCE_SCHEMA, tables)
    expected = {
        table.name: as_live(table, live[table.name]).columns if table.name in live else table.columns
        for table in tables
    }
    return live, schema_drift(connection, SOURCE_SCHEMA, TOTESYS, expected)


def _join_as_live(join: JoinDependency, tables: Sequence[Table], live: Mapping[str, LiveTable]) -> JoinDependency:
    [columns] = [table.columns for table in tables if table.name == join.table]
    return replace(join, column=live_name(columns.field(join.column), live[join.table].names))


def _warnings(drift: Drift, table: Table, before: LiveTable | None) -> Iterator[str]:
    """Yield the warnings about the schema of a table. A column that is not declared is reported once."""
    for name in drift.undeclared:
        if name not in table.excluded and not (before and name in before.names):
            yield f"column {name} is not declared: it is captured, and not used"
    for name in drift.stricter:
        yield f"column {name} is NOT NULL, declared nullable"


def _captured_transactions(
    connection: Connection, queries: ChangeQueries, tables: Iterable[str], snapshot: str
) -> tuple[int, ...]:
    """Return the transactions whose rows the next capture need not have again, if the horizon has not moved."""
    horizon, _ = bounds(snapshot)
    if not queries.since or queries.since.horizon != horizon:
        return ()
    found = {*queries.since.captured_transactions}
    for table in tables:
        found |= queries.transactions(connection, table)
    return tuple(sorted(found)[-_MAX_TRANSACTIONS:])


def _await_flush(connection: Connection, start: _Start) -> int | None:
    """Wait until the source cannot lose what was captured: without synchronous_commit, a crash would take it back.

    Return the WAL position of all that was captured. The log is not flushed to its end if no commit asks for it, but
    commits are within three times wal_writer_delay (PostgreSQL manual, “Asynchronous Commit”).
    """
    if start.position.is_standby or start.wal_position is None:
        return start.wal_position
    while True:
        is_durable = monotonic() > start.durable_at
        [[flushed]] = connection.run("SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint")
        if is_durable or flushed >= start.wal_position:
            return min(start.wal_position, end_of_record(flushed))
        sleep(_FLUSH_POLL_SECONDS)


class _HeadWriter(io.RawIOBase):
    """Writes blocks through to an object, and keeps the first bytes."""

    def __init__(self, target: NewObject) -> None:
        super().__init__()
        self._target = target
        self.head = b""

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        if not self.head:
            self.head = bytes(block[:_HEAD_BYTES])
        return self._target.write(block)


def _copy(
    connection: Connection, query: str, bucket: Bucket, key: str, *, keep_empty: bool = False
) -> tuple[CapturedFile, bytes] | None:
    """Copy the rows of a query to an object, and return it with its first bytes.

    Without rows, there is no object and the result is None, unless it is kept: then it has the header only.
    """
    with bucket.create(key) as target:
        writer = _HeadWriter(target)
        buffer = io.BufferedWriter(writer, _BLOCK_BYTES)
        rows = connection.copy_out(query, buffer)
        buffer.flush()
        if not rows and not keep_empty:
            target.discard()
            return None
    return CapturedFile(key, rows, target.size, target.sha256.hexdigest()), writer.head


def _first_rows(head: bytes) -> list[dict[str, str]]:
    """Return the rows in the first bytes of a CSV object, without the last one if it may be cut off."""
    rows = list(csv.DictReader(io.StringIO(head.decode(errors="replace"), newline="")))
    return rows if len(head) < _HEAD_BYTES else rows[:-1]
