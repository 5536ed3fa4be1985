"""totesys → ingestion bucket: the capture. One row is a row of totesys as it stood when captured.

What has changed is told by PostgreSQL's own row versions (`xmin`), not by `last_updated`, which totesys does not
always touch: docs/adr/0001-row-versions-not-timestamps.md.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import dagster as dg
from pg8000.native import literal

from etl_assets.buckets import Bucket, NewObject
from etl_assets.captures import (
    ASKED_FOR,
    Capture,
    CapturedFile,
    Source,
    folder,
    in_partition,
    newest,
    publish,
    stamp,
)
from etl_assets.catalogue import Origins, described, preview, table_metadata
from etl_assets.databases import (
    Connection,
    DatabaseResource,
    deviations,
    names,
    quoted,
    transaction,
)
from etl_assets.errors import PermanentError
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.storage import BucketResource
from etl_assets.tables import Table

TOTESYS = "totesys"
INGESTION = "ingestion"
AS_DECLARED = "as_declared"
CAPTURE_TO_LOAD = "etl"
"""The pool of the ops that capture and load: of all runs that have one of them, one is under way at a time."""
PARTITIONS_A_RUN = 96
"""How many partitions of a backfill a run takes, a day of them: as many in all stages, as Dagster wants it of a job."""

_SCHEMA = "public"
_LOCK = "totesys ETL: capture"  # hashed by the server into the key of an advisory lock
_BLOCK_BYTES = 1024 * 1024
_HEAD_BYTES = 16 * 1024
_TICK = timedelta(microseconds=1)
# Row versions are 32 bits wide: an age beyond half of that cannot be told from a negative one.
_OLDEST_HORIZON = 2**31 - 1


@dataclass(frozen=True)
class Join:
    """A star table joins `table` to `to` on `table.column`: their rows must be captured together."""

    table: str
    column: str
    to: str


class LaterWindowCapturedError(Exception):
    """A capture of a later window is there: another run was faster, or Dagster's clock has gone back."""

    def __init__(self, partition: str, newest_partition: str) -> None:
        self.partition = partition
        self.newest_partition = newest_partition
        super().__init__(
            f"nothing is captured into partition {partition}: one is there of {newest_partition}, which is later "
            "(if that is in the future, Dagster's clock was wrong then)"
        )


@dataclass(frozen=True)
class CaptureResult:
    """The captures made, and by table where the source deviates harmlessly, the seconds it took and its first rows."""

    captures: Sequence[Capture]
    deviations: Mapping[str, Sequence[str]]
    seconds: Mapping[str, float]
    first_rows: Mapping[str, Sequence[Mapping[str, str]]]


def capture(
    connection: Connection,
    bucket: Bucket,
    tables: Sequence[Table],
    joins: Sequence[Join],
    partition: str,
    *,
    full: bool = False,
) -> CaptureResult:
    """Capture every row that may have changed since the newest capture into `partition`.

    All tables are read in one snapshot. Rows are streamed; the manifest is written last. `full` adds a second capture
    from the same snapshot, of every row: what that one brings, the first had missed.

    Raises:
        SchemaMismatchError: the source is not as declared; nothing is written.
        StatementRefusedError: the source refused to be read.
        DatabaseUnavailableError: the source is down.
        LaterWindowCapturedError: the newest capture is of a later partition.
    """
    # Two captures at once would follow the same predecessor. Held until the connection is closed.
    connection.run("SELECT pg_advisory_lock(hashtextextended(:lock, 0))", lock=_LOCK)
    # Such a database holds bytes of any encoding: as they are, they can be set apart row by row; converted, COPY fails.
    connection.run(
        """SELECT set_config('client_encoding', 'SQL_ASCII', false)
           WHERE current_setting('server_encoding') = 'SQL_ASCII'"""
    )
    previous = newest(bucket)
    if previous and previous.partition > partition:
        raise LaterWindowCapturedError(partition, previous.partition)
    by_name = {table.name: table for table in tables}
    declared = {name: table.columns for name, table in by_name.items()}
    deviations(connection, _SCHEMA, TOTESYS, declared)  # the lock would tell less of a table that is missing
    made: list[Capture] = []
    seconds = dict.fromkeys(by_name, 0.0)
    heads = dict.fromkeys(by_name, b"")
    with transaction(connection, "ISOLATION LEVEL REPEATABLE READ READ ONLY"):
        # Before the snapshot: a concurrent TRUNCATE or ALTER would not heed it (PostgreSQL manual, “Caveats” of MVCC).
        connection.run(f"LOCK TABLE {', '.join(_relation(table) for table in by_name)} IN ACCESS SHARE MODE")
        [[now, snapshot, *identity]] = connection.run(
            """SELECT now() AT TIME ZONE 'UTC',
                      pg_current_snapshot()::text,
                      (SELECT system_identifier FROM pg_control_system()),
                      (SELECT timeline_id FROM pg_control_checkpoint()),
                      (SELECT oid FROM pg_database WHERE datname = current_database())"""
        )
        source = Source(*identity)
        deviating = deviations(connection, _SCHEMA, TOTESYS, declared)
        unavoidable = _full_because(previous, source, snapshot)
        reasons = [unavoidable, ASKED_FOR] if full and not unavoidable else [unavoidable]
        for full_because in reasons:
            before = made[-1] if made else previous
            # Versions are ordered by this time: a clock that was set back must not reorder them.
            captured_at = max(now, before.captured_at + _TICK) if before else now
            files: dict[str, CapturedFile] = {}
            horizon = None if full_because or not previous else previous.horizon
            for table in _worth_reading(connection, by_name, joins, horizon):
                started = monotonic()
                query = _query(table, by_name, joins, horizon)
                key = f"{folder(table.name, partition)}/{table.name}-{stamp(captured_at)}.csv"
                if copied := _copy(connection, query, bucket, key):
                    files[table.name], heads[table.name] = copied
                seconds[table.name] += monotonic() - started
            made.append(
                Capture(
                    captured_at=captured_at,
                    partition=partition,
                    snapshot=snapshot,
                    source=source,
                    full_because=full_because,
                    previous=before.id if before else None,
                    files=files,
                )
            )
    for each in made:
        publish(bucket, each)
    return CaptureResult(made, deviating, seconds, {name: _first_rows(head) for name, head in heads.items()})


def activity(connection: Connection, tables: Sequence[Table]) -> tuple[int, datetime]:
    """Give a number that differs when rows of the tables were written, and the time by the source's clock, UTC (naive).

    It is the sum of the writes that PostgreSQL's cumulative statistics have counted, some seconds late (PostgreSQL
    manual, “The Cumulative Statistics System”).
    """
    [[writes, now]] = connection.run(
        """SELECT CAST(coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) AS bigint),
                  clock_timestamp() AT TIME ZONE 'UTC'
           FROM pg_stat_user_tables WHERE schemaname = :schema AND relname = ANY(:tables)""",
        schema=_SCHEMA,
        tables=[table.name for table in tables],
    )
    return writes, now


def _full_because(previous: Capture | None, source: Source, snapshot: str) -> str | None:
    """Say why the horizon of the previous capture tells nothing, if so."""
    xmin, xmax, _ = snapshot.split(":")
    if previous is None:
        return "it is the first capture"
    if source != previous.source:
        return f"the source is another cluster, timeline or database: {source}, before {previous.source}"
    if int(xmin) < previous.horizon:
        return f"the source has gone back from transaction {previous.horizon} to {xmin}"
    age = int(xmax) - previous.horizon
    if age > _OLDEST_HORIZON:
        return f"the previous capture is {age} transactions old"
    return None


def _relation(table: str) -> str:
    return f"{quoted(_SCHEMA)}.{quoted(table)}"


def _query(table: Table, tables: Mapping[str, Table], joins: Sequence[Join], horizon: int | None) -> str:
    """Compose the rows of a table to capture: all, or what changed since the horizon and what joins to it."""
    rows = f"SELECT {names(table.columns.names, 't')} FROM {_relation(table.name)} t"
    if horizon is None:
        return rows
    return f"{rows} WHERE {_wanted(table.name, tables, joins, horizon, 't')}"


def _worth_reading(
    connection: Connection, tables: Mapping[str, Table], joins: Sequence[Join], horizon: int | None
) -> list[Table]:
    """Give the tables to read: of those that are joined, only where one of them has changed.

    To find that out takes one look at each; to find nothing with the joins would take several.
    """
    joined = {name for join in joins for name in (join.table, join.to)}
    unchanged = {name for name in joined if horizon is not None and not _changed(connection, name, horizon)}
    return [table for table in tables.values() if not _joined(table.name, joins) <= unchanged]


def _joined(table: str, joins: Sequence[Join]) -> set[str]:
    """Give a table and those that joins lead to from it, directly or not."""
    together = {table}
    while (
        more := {name for join in joins if together & {join.table, join.to} for name in (join.table, join.to)}
        - together
    ):
        together |= more
    return together


def _changed(connection: Connection, table: str, horizon: int) -> bool:
    [[changed]] = connection.run(f"SELECT EXISTS (SELECT FROM {_relation(table)} t WHERE {_has_changed('t', horizon)})")
    return bool(changed)


def _has_changed(alias: str, horizon: int) -> str:
    """Compose the condition that a row was written since a horizon."""
    return f"age({alias}.xmin) <= age({literal(str(horizon))}::xid8::xid)"


def _wanted(table: str, tables: Mapping[str, Table], joins: Sequence[Join], horizon: int, alias: str) -> str:
    """Compose the condition that a row has changed, or that a changed row needs it for a join."""
    conditions = [_affected(table, tables, joins, horizon, alias)]
    for join in joins:
        if join.to == table:
            inner = f"{alias}_"
            needed = _wanted(join.table, tables, joins, horizon, inner)
            conditions.append(
                f"{names(tables[table].primary_key, alias)} IN (SELECT {names([join.column], inner)} "
                f"FROM {_relation(join.table)} {inner} WHERE {needed})"
            )
    return " OR ".join(conditions)


def _affected(table: str, tables: Mapping[str, Table], joins: Sequence[Join], horizon: int, alias: str) -> str:
    """Compose the condition that a row has changed, or a row it joins to has."""
    conditions = [_has_changed(alias, horizon)]
    for join in joins:
        if join.table == table:
            inner = f"{alias}_"
            changed = _affected(join.to, tables, joins, horizon, inner)
            conditions.append(
                f"{names([join.column], alias)} IN (SELECT {names(tables[join.to].primary_key, inner)} "
                f"FROM {_relation(join.to)} {inner} WHERE {changed})"
            )
    return " OR ".join(conditions)


class _Digest(io.RawIOBase):
    """Passes blocks on to an object, and keeps their checksum, and the first bytes."""

    def __init__(self, target: NewObject) -> None:
        super().__init__()
        self._target = target
        self.sha256 = hashlib.sha256()
        self.head = b""

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self.sha256.update(block)
        if not self.head:
            self.head = bytes(block[:_HEAD_BYTES])
        return self._target.write(block)


def _copy(connection: Connection, query: str, bucket: Bucket, key: str) -> tuple[CapturedFile, bytes] | None:
    with bucket.create(key) as target:
        digest = _Digest(target)
        buffer = io.BufferedWriter(digest, _BLOCK_BYTES)
        rows = connection.copy_out(query, buffer)
        buffer.flush()
        if not rows:
            target.discard()
            return None
    return CapturedFile(key, rows, target.size, digest.sha256.hexdigest()), digest.head


def _first_rows(head: bytes) -> list[dict[str, str]]:
    """Read the first rows off the first bytes of CSV; the last row, which may be cut, is left out if it may be."""
    rows = list(csv.DictReader(io.StringIO(head.decode(errors="replace"), newline="")))
    return rows if len(head) < _HEAD_BYTES else rows[:-1]


class CaptureConfig(dg.Config):
    """How to capture."""

    full_capture: bool = False


class NotThePresentPartitionError(PermanentError):
    """A full capture was asked for into a partition that is over."""

    def __init__(self, partition: str) -> None:
        self.partition = partition
        super().__init__(f"a full capture can only be made now, not into partition {partition}, which is over")


def totesys_assets(tables: Iterable[Table]) -> list[dg.AssetSpec]:
    """Make the external assets: the tables of totesys, which only totesys writes."""
    return [
        dg.AssetSpec(
            [TOTESYS, table.name],
            description=f"{table.description} The live table, read only.",
            metadata=table_metadata(table, table_name=f"{TOTESYS}.{_SCHEMA}.{table.name}"),
            kinds={"postgres", "table"},
        )
        for table in tables
    ]


def ingestion_assets(
    tables: Sequence[Table], joins: Sequence[Join], partitions: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    """Make the ingestion assets: one op for all, not subsettable, because they share a snapshot."""

    @dg.multi_asset(
        name=INGESTION,
        specs=[
            dg.AssetSpec(
                [INGESTION, table.name],
                deps=[[TOTESYS, table.name]],
                description=described(f"{table.description} A row as it stood when captured.", _origins(table)),
                metadata=table_metadata(table, origins=_origins(table), versioned=True),
                kinds={"postgres", "csv"},
            ).with_io_manager_key("ingestion_io_manager")
            for table in tables
        ],
        check_specs=[
            dg.AssetCheckSpec(
                AS_DECLARED,
                asset=[INGESTION, table.name],
                description="totesys has no column that is not declared, and so not captured; none is never null "
                "that may be. Any other deviation fails the capture.",
            )
            for table in tables
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_A_RUN),
        can_subset=False,
        retry_policy=RETRY_OUTAGES,
        pool=CAPTURE_TO_LOAD,
    )
    def ingestion(
        context: dg.AssetExecutionContext,
        config: CaptureConfig,
        totesys: DatabaseResource,
        ingestion_bucket: BucketResource,
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        present = str(partitions.get_last_partition_key())
        with permanent_failures_not_retried():
            bucket = ingestion_bucket.open()
            for partition in context.partition_keys:
                if partition != present:
                    if config.full_capture:
                        raise NotThePresentPartitionError(partition)
                    _tell_nothing_captured(context, tables, partition, in_partition(bucket, partition))
            result = None
            if present in context.partition_keys:
                with totesys.connect() as connection:
                    result = capture(connection, bucket, tables, joins, present, full=config.full_capture)
                _tell(context, tables, bucket, result)
        for table in tables:
            deviations = result.deviations[table.name] if result else ()
            yield dg.MaterializeResult(
                asset_key=[INGESTION, table.name], check_results=[_as_declared(table, deviations)]
            )

    return ingestion


def _origins(table: Table) -> Origins:
    return {column: [((TOTESYS, table.name), column)] for column in table.columns.names}


def _tell(context: dg.AssetExecutionContext, tables: Iterable[Table], bucket: Bucket, result: CaptureResult) -> None:
    """Tell what was captured: to the log, and for each table to the catalogue."""
    for made in result.captures:
        rows = sum(file.rows for file in made.files.values())
        context.log.info(
            f"captured {rows} rows at {made.captured_at}"
            + (f", all, because {made.full_because}" if made.full else ""),
            extra={"capture": made.id, "captured_at": made.captured_at.isoformat(), "rows": rows},
        )
    made = result.captures[-1]
    for table in tables:
        files = [capture.files[table.name] for capture in result.captures if table.name in capture.files]
        facts: dict[str, Any] = {
            "dagster/row_count": sum(file.rows for file in files),
            "bytes": sum(file.bytes for file in files),
            "captured_at": dg.MetadataValue.timestamp(made.captured_at.replace(tzinfo=UTC)),
            "full": made.full_because or "no, what changed",
            "seconds_read_and_write": result.seconds[table.name],
            "preview": preview(table, result.first_rows[table.name]),
        }
        if files:
            facts["dagster/uri"] = f"{bucket.url}/{files[-1].key}"
        context.add_asset_metadata(facts, asset_key=[INGESTION, table.name], partition_key=made.partition)


def _tell_nothing_captured(
    context: dg.AssetExecutionContext, tables: Iterable[Table], partition: str, already: Sequence[Capture]
) -> None:
    """Tell that a partition that is not the present one gets no capture: the source has no memory."""
    for table in tables:
        facts = {
            "dagster/row_count": sum(made.files[table.name].rows for made in already if table.name in made.files),
            "captured": "nothing: totesys has no memory, a capture is only made into the present partition. "
            f"The {len(already)} captures of this one are kept, and all downstream of them can be made again.",
        }
        context.add_asset_metadata(facts, asset_key=[INGESTION, table.name], partition_key=partition)


def _as_declared(table: Table, deviations: Sequence[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=[INGESTION, table.name],
        check_name=AS_DECLARED,
        passed=not deviations,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"deviations": "; ".join(deviations) or "none"},
    )
