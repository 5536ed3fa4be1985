"""The warehouse assets: one op for all, because a load is one transaction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from etl_assets.buckets import Bucket
from etl_assets.captures import Capture, in_partition
from etl_assets.catalogue import PREVIEWED, described, masked, preview, table_metadata
from etl_assets.databases import Connection, DatabaseResource
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.ingestion import CAPTURE_TO_LOAD, PARTITIONS_A_RUN, TOTESYS
from etl_assets.metrics import publish_load
from etl_assets.storage import BucketResource, StarFile, open_star
from etl_assets.tables import Table
from etl_assets.transformation.assets import TRANSFORMATION
from etl_assets.transformation.declare import StarTable, sources
from etl_assets.warehouse.audit import Audit, audit
from etl_assets.warehouse.load import Load, TableLoad, load
from etl_assets.warehouse.quarantine import SetApart
from etl_assets.warehouse.schema import WAREHOUSE

_SHOWN = 20
# A backfill loads oldest first, a run after the other: none before the partition that precedes it, if that is in it.
_PREDECESSOR = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)


@dataclass(frozen=True, kw_only=True)
class _Check:
    """What must be true of a table of the warehouse: that there are no rows of which `count` counts."""

    name: str
    description: str
    counted: str
    count: Callable[[Sequence[TableLoad], Audit], int]
    facts_only: bool = False


NOTHING_REJECTED = _Check(
    name="nothing_rejected",
    description="Every row is here as it now is in totesys. One that is not is told of once, under `first`, and "
    "stays in warehouse.rejected or warehouse.waiting until it is mended there.",
    counted="outstanding",
    count=lambda _, audited: audited.outstanding,
)

_CHECKS = (
    NOTHING_REJECTED,
    _Check(
        name="repaired_rows",
        description="A full capture found nothing that those before had missed.",
        counted="repaired_rows",
        count=lambda loads, _: sum(loaded.repaired for loaded in loads),
    ),
    _Check(
        name="keys_unique",
        description="No two rows have one key.",
        counted="duplicates",
        count=lambda _, audited: audited.duplicates,
    ),
    _Check(
        name="foreign_keys_resolve",
        description="Every row that a row refers to is here.",
        counted="dangling",
        count=lambda _, audited: audited.dangling,
        facts_only=True,
    ),
    _Check(
        name="current_unique",
        description="The view of the present has each of the newest facts once, and none that was deleted.",
        counted="not once",
        count=lambda _, audited: audited.not_current,
        facts_only=True,
    ),
    _Check(
        name="rows_match_capture",
        description="The load brought as many rows as the capture's manifest tells of, and after a full capture as "
        "many are present; those set apart are told by `nothing_rejected`.",
        counted="rows too many or too few",
        count=lambda loads, _: sum(loaded.unmatched for loaded in loads),
        facts_only=True,
    ),
)


def warehouse_assets(
    star_tables: Sequence[StarTable],
    source_tables: Sequence[Table],
    partitions: dg.TimeWindowPartitionsDefinition,
    freshness: dg.FreshnessPolicy,
) -> dg.AssetsDefinition:
    """Make the warehouse assets."""
    tables: dict[str, Table] = {table.name: table for table in (*source_tables, *star_tables)}

    @dg.multi_asset(
        name=WAREHOUSE,
        specs=[_spec(star, tables, freshness) for star in star_tables],
        check_specs=[
            dg.AssetCheckSpec(check.name, asset=[WAREHOUSE, star.name], description=check.description)
            for star in star_tables
            for check in _checks(star)
        ],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_A_RUN),
        can_subset=False,
        retry_policy=RETRY_OUTAGES,
        pool=CAPTURE_TO_LOAD,
    )
    def warehouse(
        context: dg.AssetExecutionContext,
        warehouse_database: DatabaseResource,
        ingestion_bucket: BucketResource,
        transformation_bucket: BucketResource,
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        loads: list[Mapping[str, TableLoad]] = []
        by_name = {star.name: star for star in star_tables}
        with permanent_failures_not_retried(), warehouse_database.connect() as connection:
            bucket = transformation_bucket.open()
            for partition in context.partition_keys:
                captures = in_partition(ingestion_bucket.open(), partition)
                loaded = _load(context, connection, star_tables, bucket, partition, captures)
                loads.append(loaded.tables)
                _tell(context, tables, loaded)
            audits = {
                star.name: audit(connection, star, {column: by_name[to] for column, to in star.foreign_keys.items()})
                for star in star_tables
            }
        for star in star_tables:
            of_star = [loaded[star.name] for loaded in loads]
            yield dg.MaterializeResult(
                asset_key=[WAREHOUSE, star.name],
                check_results=[_evaluated(check, star, tables, of_star, audits[star.name]) for check in _checks(star)],
            )

    return warehouse


def _spec(star: StarTable, tables: Mapping[str, Table], freshness: dg.FreshnessPolicy) -> dg.AssetSpec:
    upstream = [TRANSFORMATION, star.name]
    origins = {column: [(upstream, column)] for column in star.columns.names}
    in_the_end = {
        column: [((TOTESYS, source.table), source.column) for source in made_of]
        for column, made_of in sources(star, tables).items()
    }
    return dg.AssetSpec(
        [WAREHOUSE, star.name],
        deps=[upstream, dg.AssetDep([WAREHOUSE, star.name], partition_mapping=_PREDECESSOR)],
        description=described(star.description, in_the_end),
        metadata=table_metadata(
            star, origins=origins, table_name=f"{WAREHOUSE}.{star.name}", versioned=bool(star.record_id)
        ),
        kinds={"postgres", "table"},
        freshness_policy=freshness,
    )


def _load(
    context: dg.AssetExecutionContext,
    connection: Connection,
    star_tables: Sequence[StarTable],
    bucket: Bucket,
    partition: str,
    captures: Sequence[Capture],
) -> Load:
    """Load a partition, and note what is to be shown of it."""
    ids = {capture.id for capture in captures}
    with ExitStack() as stack:
        files: dict[str, StarFile] = {
            star.name: stack.enter_context(open_star(bucket, star.name, partition, ids)) for star in star_tables
        }
        loaded = load(connection, star_tables, captures, files)
        for star in star_tables:
            table = loaded.tables[star.name]
            first = next(files[star.name].rows.iter_batches(PREVIEWED, use_threads=False), None)
            facts: dict[str, Any] = {
                "dagster/row_count": table.changed,
                "rows_read": table.read,
                "deleted": table.deleted,
                "rejected": len(table.set_apart),
                "captures": len(captures),
                "seconds_read": table.seconds_read,
                "seconds_write": table.seconds_write,
                "preview": preview(star, first.to_pylist() if first else []),
            }
            if captures:
                facts["captured_at"] = dg.MetadataValue.timestamp(captures[-1].captured_at.replace(tzinfo=UTC))
            context.add_asset_metadata(facts, asset_key=[WAREHOUSE, star.name], partition_key=partition)
    return loaded


def _tell(context: dg.AssetExecutionContext, tables: Mapping[str, Table], loaded: Load) -> None:
    """Tell the log what was loaded, and CloudWatch that there was a load."""
    rows = sum(table.changed for table in loaded.tables.values())
    context.log.info(f"loaded {len(loaded.taken)} captures, {rows} rows", extra={"rows": rows})
    for table in loaded.tables.values():
        for row in _shown(tables, table.set_apart):
            context.log.error(
                f"not loaded: {row.table} {row.key}, column {row.column}, value {row.value!r}: {row.reason}",
                extra=asdict(row),
            )
    if loaded.taken:
        now = datetime.now(UTC)
        ages = [(now - capture.captured_at.replace(tzinfo=UTC)).total_seconds() for capture in loaded.taken]
        publish_load(context, ages, rows)


def _shown(tables: Mapping[str, Table], rows: Sequence[SetApart]) -> list[SetApart]:
    """Give the first rows as they may be shown."""
    return [replace(row, value=masked(tables[row.table], row.column, row.value)) for row in rows[:_SHOWN]]


def _checks(star: StarTable) -> list[_Check]:
    return [check for check in _CHECKS if star.record_id or not check.facts_only]


def _evaluated(
    check: _Check, star: StarTable, tables: Mapping[str, Table], loads: Sequence[TableLoad], audited: Audit
) -> dg.AssetCheckResult:
    count = check.count(loads, audited)
    metadata: dict[str, Any] = {check.counted: count}
    if check is NOTHING_REJECTED:
        new = [row for loaded in loads for row in loaded.set_apart]
        metadata |= {"new": len(new), "first": dg.MetadataValue.json([asdict(row) for row in _shown(tables, new)])}
    return dg.AssetCheckResult(
        asset_key=[WAREHOUSE, star.name],
        check_name=check.name,
        passed=not count,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )
