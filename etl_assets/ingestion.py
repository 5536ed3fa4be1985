"""totesys → ingestion bucket: the capture. One row is a row of totesys as it stood when captured.

What has changed is told by PostgreSQL's own row versions (`xmin`), not by `last_updated`, which totesys does not
always touch: docs/adr/0001-row-versions-not-timestamps.md.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

import dagster as dg
from pg8000.native import literal

from etl_assets.buckets import Bucket, NewObject
from etl_assets.captures import Capture, CapturedFile, Source, folder, in_partition, newest, publish, stamp
from etl_assets.catalogue import table_metadata
from etl_assets.databases import (
    Connection,
    DatabaseResource,
    names,
    new_columns,
    quoted,
    transaction,
)
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.storage import BucketResource
from etl_assets.tables import Table

TOTESYS = "totesys"
INGESTION = "ingestion"
NO_NEW_COLUMNS = "no_new_columns"

_SCHEMA = "public"
_LOCK = "totesys ETL: capture"  # hashed by the server into the key of an advisory lock
_BLOCK_BYTES = 1024 * 1024
# Row versions are 32 bits wide: an age beyond half of that cannot be told from a negative one.
_OLDEST_HORIZON = 2**31 - 1


@dataclass(frozen=True)
class Join:
    """A star table joins `table` to `to` on `table.column`: their rows must be captured together."""

    table: str
    column: str
    to: str


@dataclass(frozen=True)
class CaptureResult:
    """A capture made, the columns of the source that nothing declares, and the seconds each table took."""

    capture: Capture
    undeclared: Mapping[str, Sequence[str]]
    seconds: Mapping[str, float]


def capture(
    connection: Connection,
    bucket: Bucket,
    tables: Sequence[Table],
    joins: Iterable[Join],
    partition: str,
    *,
    full: bool = False,
) -> CaptureResult:
    """Capture every row that may have changed since the newest capture, or all, into `partition`.

    All tables are read in one snapshot. Rows are streamed; the manifest is written last.

    Raises:
        SchemaMismatchError: a declared table or column is missing in the source, or retyped; nothing is written.
        StatementRefusedError: the source refused to be read, for want of a permission for example.
        DatabaseUnavailableError: the source is down.
    """
    # Two captures at once would follow the same predecessor. Held until the connection is closed.
    connection.run("SELECT pg_advisory_lock(hashtextextended(:lock, 0))", lock=_LOCK)
    previous = newest(bucket)
    by_name = {table.name: table for table in tables}
    with transaction(connection, "ISOLATION LEVEL REPEATABLE READ READ ONLY"):
        # Before the snapshot: a concurrent TRUNCATE or ALTER would not heed it (PostgreSQL manual, “Caveats” of MVCC).
        connection.run(f"LOCK TABLE {', '.join(_relation(table) for table in by_name)} IN ACCESS SHARE MODE")
        [[captured_at, xmin, xmax, *identity]] = connection.run(
            """SELECT now() AT TIME ZONE 'UTC',
                      pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                      pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
                      (SELECT system_identifier FROM pg_control_system()),
                      (SELECT timeline_id FROM pg_control_checkpoint()),
                      (SELECT oid FROM pg_database WHERE datname = current_database())"""
        )
        source = Source(*identity)
        if previous:
            # Versions are ordered by this time: a clock that was set back must not reorder them.
            captured_at = max(captured_at, previous.captured_at + timedelta(microseconds=1))
        full_because = "asked for" if full else _full_because(previous, source, xmin, xmax)
        undeclared = new_columns(connection, _SCHEMA, TOTESYS, {name: table.columns for name, table in by_name.items()})
        files: dict[str, CapturedFile] = {}
        seconds: dict[str, float] = {}
        horizon = None if full_because or not previous else previous.horizon
        for table in tables:
            started = monotonic()
            query = _query(table, by_name, tuple(joins), horizon)
            key = f"{folder(table.name, partition)}/{table.name}-{stamp(captured_at)}.csv"
            if file := _copy(connection, query, bucket, key):
                files[table.name] = file
            seconds[table.name] = monotonic() - started
    made = Capture(
        captured_at=captured_at,
        partition=partition,
        horizon=xmin,
        source=source,
        full_because=full_because,
        previous=previous.id if previous else None,
        files=files,
    )
    publish(bucket, made)
    return CaptureResult(made, undeclared, seconds)


def _full_because(previous: Capture | None, source: Source, xmin: int, xmax: int) -> str | None:
    """Say why the horizon of the previous capture tells nothing, if so."""
    if previous is None:
        return "it is the first capture"
    if source != previous.source:
        return f"the source is another cluster, timeline or database: {source}, before {previous.source}"
    if xmin < previous.horizon:
        return f"the source has gone back from transaction {previous.horizon} to {xmin}"
    if xmax - previous.horizon > _OLDEST_HORIZON:
        return f"the previous capture is {xmax - previous.horizon} transactions old"
    return None


def _relation(table: str) -> str:
    return f"{quoted(_SCHEMA)}.{quoted(table)}"


def _query(table: Table, tables: Mapping[str, Table], joins: Sequence[Join], horizon: int | None) -> str:
    """Compose the rows of a table to capture: all, or what changed since the horizon and what joins to it."""
    rows = f"SELECT {names(table.columns.names, 't')} FROM {_relation(table.name)} t"
    if horizon is None:
        return rows
    return f"{rows} WHERE {_wanted(table.name, tables, joins, horizon, 't')}"


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
    conditions = [f"age({alias}.xmin) <= age({literal(str(horizon))}::xid8::xid)"]
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
    """Passes blocks on to an object, and keeps their checksum."""

    def __init__(self, target: NewObject) -> None:
        super().__init__()
        self._target = target
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, block: Any) -> int:
        self.sha256.update(block)
        return self._target.write(block)


def _copy(connection: Connection, query: str, bucket: Bucket, key: str) -> CapturedFile | None:
    with bucket.create(key) as target:
        digest = _Digest(target)
        buffer = io.BufferedWriter(digest, _BLOCK_BYTES)
        rows = connection.copy_out(query, buffer)
        buffer.flush()
        if not rows:
            target.discard()
            return None
    return CapturedFile(key, rows, target.size, digest.sha256.hexdigest())


class CaptureConfig(dg.Config):
    """How to capture."""

    full_capture: bool = False


def totesys_assets(tables: Iterable[Table]) -> list[dg.AssetSpec]:
    """Make the external assets: the tables of totesys, which only totesys writes."""
    return [
        dg.AssetSpec(
            [TOTESYS, table.name],
            description=f"{table.description} The live table, read only.",
            metadata=table_metadata(table, f"{TOTESYS}.{_SCHEMA}.{table.name}"),
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
                description=f"{table.description} A row as it stood when captured.",
                metadata=table_metadata(table, versioned=True),
                kinds={"postgres", "csv"},
            ).with_io_manager_key("ingestion_io_manager")
            for table in tables
        ],
        check_specs=[
            dg.AssetCheckSpec(
                NO_NEW_COLUMNS,
                asset=[INGESTION, table.name],
                description="totesys has no column that is not declared, and so not captured.",
            )
            for table in tables
        ],
        partitions_def=partitions,
        can_subset=False,
        retry_policy=RETRY_OUTAGES,
    )
    def ingestion(
        context: dg.AssetExecutionContext,
        config: CaptureConfig,
        totesys: DatabaseResource,
        ingestion_bucket: BucketResource,
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        with permanent_failures_not_retried():
            bucket = ingestion_bucket.open()
        partition = context.partition_key
        if partition != partitions.get_last_partition_key():
            yield from _nothing_captured(tables, in_partition(bucket, partition))
            return
        with permanent_failures_not_retried(), totesys.connect() as connection:
            result = capture(connection, bucket, tables, joins, partition, full=config.full_capture)
        made = result.capture
        context.log.info(
            f"captured {sum(file.rows for file in made.files.values())} rows at {made.captured_at}"
            + (f", all, because {made.full_because}" if made.full else "")
        )
        yield from _materializations(tables, bucket, result)

    return ingestion


def _materializations(tables: Sequence[Table], bucket: Bucket, result: CaptureResult) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    made = result.capture
    for table in tables:
        file = made.files.get(table.name)
        metadata: dict[str, Any] = {
            "dagster/row_count": file.rows if file else 0,
            "bytes": file.bytes if file else 0,
            "captured_at": str(made.captured_at),
            "full": made.full_because or "no, what changed",
            "seconds": result.seconds[table.name],
        }
        if file:
            metadata["dagster/uri"] = f"{bucket.url}/{file.key}"
        yield _materialization(table, metadata, result.undeclared[table.name])


def _nothing_captured(tables: Sequence[Table], already: Sequence[Capture]) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
    """Tell that a partition that is not the present one gets no capture: the source has no memory."""
    for table in tables:
        rows = sum(made.files[table.name].rows for made in already if table.name in made.files)
        metadata = {
            "dagster/row_count": rows,
            "captured": "nothing: totesys has no memory, a capture is only made into the present partition. "
            f"The {len(already)} captures of this one are kept, and all downstream of them can be made again.",
        }
        yield _materialization(table, metadata, undeclared=())


def _materialization(table: Table, metadata: Mapping[str, Any], undeclared: Sequence[str]) -> dg.MaterializeResult:  # type: ignore[type-arg]
    key = [INGESTION, table.name]
    check = dg.AssetCheckResult(
        asset_key=key,
        check_name=NO_NEW_COLUMNS,
        passed=not undeclared,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"not declared": ", ".join(undeclared) or "none"},
    )
    return dg.MaterializeResult(asset_key=key, metadata=metadata, check_results=[check])
