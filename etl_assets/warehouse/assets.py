"""The warehouse assets: one op for all, because a load is one transaction."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict

import dagster as dg

from etl_assets.captures import in_partition
from etl_assets.catalogue import table_metadata
from etl_assets.databases import DatabaseResource
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.storage import BucketResource, open_star
from etl_assets.transformation.assets import TRANSFORMATION
from etl_assets.transformation.declare import StarTable
from etl_assets.warehouse.load import TableLoad, load
from etl_assets.warehouse.schema import WAREHOUSE

NOTHING_REJECTED = "nothing_rejected"
NOTHING_REPAIRED = "repaired_rows"

_SHOWN = 20


_CHECKS = {
    NOTHING_REJECTED: "Every row is here as it now is in totesys. One that is not is told of once, under `first`, and "
    "stays in warehouse.rejected or warehouse.waiting until it is mended there.",
    NOTHING_REPAIRED: "A full capture found nothing that those before had missed.",
}


def warehouse_assets(
    star_tables: Sequence[StarTable], partitions: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    """Make the warehouse assets."""

    @dg.multi_asset(
        name=WAREHOUSE,
        specs=[
            dg.AssetSpec(
                [WAREHOUSE, star.name],
                deps=[[TRANSFORMATION, star.name]],
                description=star.description,
                metadata=table_metadata(star, f"{WAREHOUSE}.{star.name}", versioned=bool(star.record_id)),
                kinds={"postgres", "table"},
            )
            for star in star_tables
        ],
        check_specs=[
            dg.AssetCheckSpec(name, asset=[WAREHOUSE, star.name], description=description)
            for star in star_tables
            for name, description in _CHECKS.items()
        ],
        partitions_def=partitions,
        can_subset=False,
        retry_policy=RETRY_OUTAGES,
    )
    def warehouse(
        context: dg.AssetExecutionContext,
        warehouse_database: DatabaseResource,
        ingestion_bucket: BucketResource,
        transformation_bucket: BucketResource,
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        partition = context.partition_key
        with permanent_failures_not_retried(), ExitStack() as stack:
            captures = in_partition(ingestion_bucket.open(), partition)
            bucket = transformation_bucket.open()
            ids = {capture.id for capture in captures}
            files = {
                star.name: stack.enter_context(open_star(bucket, star.name, partition, ids)) for star in star_tables
            }
            connection = stack.enter_context(warehouse_database.connect())
            done = load(connection, star_tables, captures, files)
        context.log.info(f"loaded {len(captures)} captures, {sum(table.changed for table in done.values())} rows")
        for name, table in done.items():
            for row in table.set_apart[:_SHOWN]:
                context.log.error(
                    f"not loaded: {row.table} {row.key}, column {row.column}, value {row.value!r}: {row.reason}"
                )
            yield dg.MaterializeResult(
                asset_key=[WAREHOUSE, name],
                metadata={
                    "dagster/row_count": table.changed,
                    "rows read": table.read,
                    "deleted": table.deleted,
                    "captures": len(captures),
                    "seconds": table.seconds,
                },
                check_results=_checks(name, table),
            )

    return warehouse


def _checks(name: str, table: TableLoad) -> list[dg.AssetCheckResult]:
    """Tell what a person must see to."""
    return [
        dg.AssetCheckResult(
            asset_key=[WAREHOUSE, name],
            check_name=NOTHING_REJECTED,
            passed=not table.outstanding,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={
                "outstanding": table.outstanding,
                "new": len(table.set_apart),
                "first": dg.MetadataValue.json([asdict(row) for row in table.set_apart[:_SHOWN]]),
            },
        ),
        dg.AssetCheckResult(
            asset_key=[WAREHOUSE, name],
            check_name=NOTHING_REPAIRED,
            passed=not table.repaired,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"repaired_rows": table.repaired},
        ),
    ]
