"""The assets of the source (`totesys/*`, external) and of ingestion."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from typing import Any

import dagster as dg

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.resources import BucketResource, DatabaseResource
from etl_assets.catalog.checks import Check
from etl_assets.catalog.metadata import Origins, asset_description, key_text, partition_example, preview, table_metadata
from etl_assets.catalog.objects import WrittenObject, objects_metadata
from etl_assets.catalog.partitions import ETL_POOL, MAX_PARTITIONS_PER_RUN
from etl_assets.catalog.retries import RETRY_OUTAGES, permanent_errors_not_retried
from etl_assets.catalog.stages import CAPTURE_OP, INGESTION, TOTESYS
from etl_assets.ingestion.capture import CaptureResult, capture
from etl_assets.ingestion.changes import SOURCE_SCHEMA, HeldBackHorizon
from etl_assets.ingestion.manifest import Capture, list_partition
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.table import JoinDependency, SharedColumns, Table

SCHEMA_MATCHES: Check[Sequence[str]] = Check(
    name="schema_matches",
    description="Every live column is declared, and no declared optional column is NOT NULL. A column that is not "
    "declared is captured, and reported once. Any other difference fails the capture.",
    metadata_key="differences",
    count=len,
    severity=dg.AssetCheckSeverity.WARN,
)


HORIZON_ADVANCES: Check[HeldBackHorizon | None] = Check(
    name="horizon_advances",
    description="No transaction of the source has been open since the previous capture. While one is, in any database "
    "of the cluster, every capture reads again what has changed since it began. It is about the whole capture; a "
    "session that is idle in a transaction or a forgotten prepared transaction is ended by a DBA.",
    metadata_key="transactions_since",
    count=lambda held_back: held_back.transactions if held_back else 0,
    severity=dg.AssetCheckSeverity.WARN,
)

_TOGETHER = "Materialized with all tables of ingestion only: a capture reads them from one snapshot."


class CaptureConfig(dg.Config):
    """The configuration of a capture. `full_capture` captures every row."""

    full_capture: bool = False


class PartitionEndedError(PermanentError):
    """A full capture was requested for a partition that has ended."""

    def __init__(self, partition: str) -> None:
        super().__init__(
            f"partition {partition} has ended, and a capture can only be made now: "
            "launch the full capture for the current partition"
        )


def totesys_assets(tables: Iterable[Table]) -> list[dg.AssetSpec]:
    """Build the external assets: the live tables of the source."""
    return [
        dg.AssetSpec(
            [TOTESYS, table.name],
            description=f"{table.description} One row per {key_text(table)}. The live table, read only.",
            metadata=table_metadata(table, table_name=f"{TOTESYS}.{SOURCE_SCHEMA}.{table.name}"),
            kinds={"postgres", "table"},
        ).with_io_manager_key("source_io_manager")
        for table in tables
    ]


def ingestion_assets(
    tables: Sequence[Table],
    join_dependencies: Sequence[JoinDependency],
    shared: Sequence[SharedColumns],
    partitions: dg.TimeWindowPartitionsDefinition,
) -> dg.AssetsDefinition:
    """Build the ingestion assets: one op that cannot be subset, because all tables share a snapshot."""
    keys = {table.name: dg.AssetKey([INGESTION, table.name]) for table in tables}
    first = next(iter(keys.values()))

    @dg.multi_asset(
        name=CAPTURE_OP,
        specs=[
            dg.AssetSpec(
                keys[table.name],
                deps=[[TOTESYS, table.name]],
                description=asset_description(
                    table,
                    f"One row per {key_text(table)} and capture.",
                    partition_example(keys[table.name].path),
                    _TOGETHER,
                    origins=_origins(table),
                ),
                metadata=table_metadata(table, origins=_origins(table), versioned=True),
                kinds={"postgres", "csv"},
            ).with_io_manager_key("ingestion_io_manager")
            for table in tables
        ],
        check_specs=[*(SCHEMA_MATCHES.spec(key) for key in keys.values()), HORIZON_ADVANCES.spec(first)],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(MAX_PARTITIONS_PER_RUN),
        can_subset=False,
        retry_policy=RETRY_OUTAGES,
        pool=ETL_POOL,
    )
    def ingestion(
        context: dg.AssetExecutionContext,
        config: CaptureConfig,
        totesys: DatabaseResource,
        ingestion_bucket: BucketResource,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        """Capture what has changed in totesys since the latest capture, all tables from one snapshot.

        It goes to the present partition. In others nothing is captured: what they have is kept.
        """
        current = str(partitions.get_last_partition_key())
        result = None
        with permanent_errors_not_retried():
            bucket = ingestion_bucket.open()
            for partition in context.partition_keys:
                if partition != current:
                    if config.full_capture:
                        raise PartitionEndedError(partition)
                    _log_no_capture(context, tables, bucket, partition)
            if current in context.partition_keys:
                with totesys.connect() as connection:
                    result = capture(
                        connection, bucket, tables, join_dependencies, current, full=config.full_capture, shared=shared
                    )
                _log_captures(context, tables, bucket, result)
        for table in tables:
            warnings = result.schema_warnings[table.name] if result else ()
            yield dg.MaterializeResult(asset_key=keys[table.name])
            metadata = {"first": "; ".join(warnings)} if warnings else None
            yield SCHEMA_MATCHES.result(keys[table.name], len(warnings), metadata)
        held_back = result.held_back if result else None
        held_by = {"held_by": held_back.held_by} if held_back else None
        yield HORIZON_ADVANCES.result(first, HORIZON_ADVANCES.count(held_back), held_by)

    return ingestion


def _origins(table: Table) -> Origins:
    return {column: [((TOTESYS, table.name), column)] for column in table.columns.names}


def _log_captures(
    context: dg.AssetExecutionContext, tables: Iterable[Table], bucket: Bucket, result: CaptureResult
) -> None:
    """Log the captures, and attach the metadata of each table."""
    for each in result.captures:
        rows = sum(file.rows for file in each.files.values())
        context.log.info(
            f"captured {rows} rows at {each.captured_at}"
            + (f", every row because {each.full_because}" if each.full else ""),
            extra={"capture": each.id, "captured_at": each.captured_at.isoformat(), "rows": rows},
        )
        for name, reason in each.full_tables.items():
            context.log.info(f"captured every row of {name}: {reason}", extra={"table": name, "capture": each.id})
        for name, reason in each.key_reasons.items():
            keys = each.key_files[name].rows
            context.log.info(
                f"captured the keys of all {keys} rows of {name}, to find those that went: {reason}",
                extra={"table": name, "capture": each.id, "keys": keys},
            )
    last = result.captures[-1]
    for table in tables:
        objects = [
            WrittenObject(
                table=table.name,
                partition=each.partition,
                uri=f"{bucket.url}/{file.key}",
                rows=file.rows,
                bytes=file.bytes,
                sha256=file.sha256,
                captures=[each.id],
            )
            for each in result.captures
            if (file := each.files.get(table.name))
        ]
        for written in objects:
            written.log(context.log)
        metadata: dict[str, Any] = {
            "dagster/partition_row_count": sum(written.rows for written in objects),
            **objects_metadata(objects),
            "captured_at": dg.MetadataValue.timestamp(last.captured_at.replace(tzinfo=UTC)),
            "full": last.full_because or last.full_tables.get(table.name, "no, changes only"),
            **_keys_metadata(bucket, table.name, result.captures),
            "seconds_read_and_write": result.seconds[table.name],
            "preview": preview(table, result.first_rows[table.name]),
        }
        context.add_asset_metadata(metadata, asset_key=[INGESTION, table.name], partition_key=last.partition)


def _keys_metadata(bucket: Bucket, table: str, captures: Iterable[Capture]) -> dict[str, Any]:
    """Return metadata of the keys that were captured to find deleted rows; nothing if none were."""
    for each in captures:
        if each.has_keys(table):
            file = each.key_files[table]
            return {
                "keys": file.rows,
                "keys_because": each.key_reasons[table],
                "keys_uri": f"{bucket.url}/{file.key}",
                "keys_bytes": file.bytes,
            }
    return {}


def _log_no_capture(context: dg.AssetExecutionContext, tables: Iterable[Table], bucket: Bucket, partition: str) -> None:
    """Attach metadata that explain why a partition that has ended gets no capture."""
    captures = list_partition(bucket, partition)
    for table in tables:
        metadata = {
            "dagster/partition_row_count": sum(
                each.files[table.name].rows for each in captures if table.name in each.files
            ),
            "captured": "nothing: a capture reads the source as it is now, into the current partition. The "
            f"{len(captures)} captures of this partition are kept, and everything downstream can be recomputed.",
        }
        context.add_asset_metadata(metadata, asset_key=[INGESTION, table.name], partition_key=partition)
