"""The warehouse assets: one op for all, because a load is one transaction."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from etl_assets.adapters.metrics import publish_load
from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection
from etl_assets.adapters.resources import BucketResource, DatabaseResource
from etl_assets.catalog.metadata import asset_description, key_text, masked_rejection, preview, table_metadata
from etl_assets.catalog.partitions import ETL_POOL, MAX_PARTITIONS_PER_RUN
from etl_assets.catalog.retries import RETRY_OUTAGES, permanent_errors_not_retried
from etl_assets.catalog.stages import LOAD_OP, REBUILD, TOTESYS, TRANSFORMATION, WAREHOUSE
from etl_assets.ingestion.manifest import Capture, list_partition
from etl_assets.schema.columns import DELETED
from etl_assets.schema.rows import PREVIEW_ROWS
from etl_assets.schema.table import Catalog
from etl_assets.transformation.code_version import rule_versions
from etl_assets.transformation.parquet_files import StarFile, StarRows
from etl_assets.transformation.star_table import StarTable, shared_columns, source_lineage
from etl_assets.warehouse.audit import audit_tables
from etl_assets.warehouse.checks import MATCHES_SOURCE, NO_REJECTED_ROWS, LoadedTable, checks_of
from etl_assets.warehouse.loader import Load, TableLoad, load
from etl_assets.warehouse.quarantine import QuarantinedRow
from etl_assets.warehouse.reconciliation import Reconciliation
from etl_assets.warehouse.relations import as_of
from etl_assets.warehouse.views import as_was_joins, as_was_name

_MAX_ROWS_SHOWN = 20
_RULES = dg.AssetKey([WAREHOUSE, "rules"])
_TOGETHER = "Materialized with all tables of the warehouse only: a load writes them in one transaction."
# A backfill loads oldest first: a partition waits for the one before it, if that is in the backfill too.
_PREVIOUS_PARTITION = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)


def rules_asset(catalog: Catalog[StarTable], partitions: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    """Build the asset of the rules, on which all tables of the warehouse depend.

    Without it, Dagster 1.13 refuses to materialize a range of both stages. It wants equal ranges of all tables of one
    op, and takes that of a table with one way from the selected assets for another than that of a table with several.
    """
    columns = [dg.TableColumn("star_table", "text"), dg.TableColumn("rule", "text")]
    schema = dg.TableSchema(columns)

    @dg.asset(
        key=_RULES,
        description="The versions of the rules that make star tables. One row per `star_table`. A load takes files "
        "made by these only. Nothing is loaded into a table built by another rule until the job `rebuild` has run.",
        metadata={"dagster/column_schema": schema},
        kinds={"python"},
        io_manager_key="warehouse_io_manager",
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(MAX_PARTITIONS_PER_RUN),
    )
    def rules() -> dg.MaterializeResult[Any]:
        versions = [dg.TableRecord({"star_table": star, "rule": rule}) for star, rule in rule_versions(catalog).items()]
        metadata: dict[str, Any] = {
            "dagster/row_count": len(versions),
            "rules": dg.MetadataValue.table(versions, schema),
        }
        return dg.MaterializeResult(metadata=metadata)

    return rules


def warehouse_assets(
    catalog: Catalog[StarTable], partitions: dg.TimeWindowPartitionsDefinition, freshness: dg.FreshnessPolicy
) -> dg.AssetsDefinition:
    """Build the tables of the warehouse."""
    keys = {star.name: dg.AssetKey([WAREHOUSE, star.name]) for star in catalog.stars}
    rules = rule_versions(catalog)
    reconciled = {shared.star for shared in shared_columns(catalog)}
    checks = {star.name: checks_of(star, is_reconciled=star.name in reconciled) for star in catalog.stars}

    @dg.multi_asset(
        name=LOAD_OP,
        specs=[_spec(star, catalog, freshness) for star in catalog.stars],
        ins={star.name: dg.AssetIn(key=[TRANSFORMATION, star.name]) for star in catalog.stars},
        check_specs=[check.spec(keys[star.name]) for star in catalog.stars for check in checks[star.name]],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(MAX_PARTITIONS_PER_RUN),
        can_subset=False,
        retry_policy=RETRY_OUTAGES,
        pool=ETL_POOL,
    )
    def warehouse(
        context: dg.AssetExecutionContext,
        warehouse_database: DatabaseResource,
        ingestion_bucket: BucketResource,
        **star_rows: StarRows,
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        """Load the captures of each partition into all tables in one transaction, oldest first. It is idempotent."""
        loads: list[Mapping[str, TableLoad]] = []
        with permanent_errors_not_retried(), warehouse_database.connect() as connection:
            for partition in context.partition_keys:
                bucket = ingestion_bucket.open()
                captures = list_partition(bucket, partition)
                loaded = _load_partition(context, connection, bucket, catalog, rules, star_rows, partition, captures)
                loads.append(loaded.tables)
                _log_load(context, catalog, partition, captures, loaded)
            audits = audit_tables(connection, catalog, loaded.up_to_date)
        for star in catalog.stars:
            table = LoadedTable([tables[star.name] for tables in loads], audits[star.name])
            yield dg.MaterializeResult(asset_key=keys[star.name])
            metadata = {NO_REJECTED_ROWS: _quarantine_metadata(catalog, table), MATCHES_SOURCE: _differing(table)}
            for check in checks[star.name]:  # not as check_results: Dagster looks up the materialization twice then
                yield check.result(keys[star.name], check.count(table), metadata.get(check))

    return warehouse


def _spec(star: StarTable, catalog: Catalog[StarTable], freshness: dg.FreshnessPolicy) -> dg.AssetSpec:
    upstream = [TRANSFORMATION, star.name]
    source_columns = {
        column: [((TOTESYS, source.table), source.column) for source in sources]
        for column, sources in source_lineage(star, catalog).items()
    }
    return dg.AssetSpec(
        [WAREHOUSE, star.name],
        deps=[upstream, _RULES, dg.AssetDep([WAREHOUSE, star.name], partition_mapping=_PREVIOUS_PARTITION)],
        description=asset_description(
            star,
            f"One row per {'version of a ' if star.keeps_every_version else ''}{key_text(star)}.",
            f"```sql\n{example_query(star, catalog)}\n```",
            _views_text(star, catalog),
            f"What changed twice between two captures is seen once. {_TOGETHER}",
            origins=source_columns,
        ),
        metadata=table_metadata(
            star,
            origins={column: [(upstream, column)] for column in star.columns.names},
            table_name=f"{WAREHOUSE}.{star.name}",
            versioned=star.keeps_every_version,
        ),
        kinds={"postgres", "table"},
        freshness_policy=freshness,
    ).with_io_manager_key("warehouse_io_manager")


def _views_text(star: StarTable, catalog: Catalog[StarTable]) -> str:
    """Return which views show which versions of the table."""
    names = {f"{star.name}_history": "every version with its validity", as_of(star.name): "the table as of a moment"}
    if star.keeps_every_version:
        names[f"{star.name}_current"] = "the latest versions, which are its row count here"
    if as_was_joins(star, catalog.stars):
        names[as_was_name(star)] = "these, each with its dimensions as they were when it happened"
    return "\n".join(f"- `{name if '.' in name else f'{WAREHOUSE}.{name}'}`: {text}" for name, text in names.items())


def example_query(star: StarTable, catalog: Catalog[StarTable]) -> str:
    """Return a query to begin with: the rows of a dimension that a fact has most of, or the first rows of a table."""
    rows = f"{WAREHOUSE}.{star.name}_current" if star.keeps_every_version else f"{WAREHOUSE}.{star.name}"
    joins = as_was_joins(star, catalog.stars)
    if not joins:
        return f"SELECT * FROM {rows} WHERE NOT {DELETED} ORDER BY {', '.join(star.primary_key)} LIMIT 10;"
    dimension, [key] = joins[0].dimension.name, joins[0].dimension.primary_key
    return f"""SELECT {dimension}.*, count(*) AS facts
FROM {rows}
JOIN {WAREHOUSE}.{dimension} ON {dimension}.{key} = {star.name}_current.{joins[0].foreign_key}
GROUP BY {dimension}.{key} ORDER BY facts DESC LIMIT 10;"""


def _load_partition(
    context: dg.AssetExecutionContext,
    connection: Connection,
    ingestion: Bucket,
    catalog: Catalog[StarTable],
    rules: Mapping[str, str],
    star_rows: Mapping[str, StarRows],
    partition: str,
    captures: Sequence[Capture],
) -> Load:
    """Load a partition, and attach the metadata of each table."""
    ids = {capture.id for capture in captures}
    with ExitStack() as stack:
        files: dict[str, StarFile] = {
            name: stack.enter_context(rows.open(partition, ids)) for name, rows in star_rows.items() if captures
        }
        loaded = load(connection, ingestion, catalog, rules, captures, files)
        for star in catalog.stars:
            table = loaded.tables[star.name]
            first = (
                next(files[star.name].rows.iter_batches(PREVIEW_ROWS, use_threads=False), None) if captures else None
            )
            metadata: dict[str, Any] = {
                **load_metadata(table),
                "captures": len(captures),
                "preview": preview(star, first.to_pylist() if first else []),
            }
            if captures:
                metadata["captured_at"] = dg.MetadataValue.timestamp(captures[-1].captured_at.replace(tzinfo=UTC))
            context.add_asset_metadata(metadata, asset_key=[WAREHOUSE, star.name], partition_key=partition)
    return loaded


def load_metadata(table: TableLoad) -> dict[str, Any]:
    """Return what a load did to a table, and what the latest full capture said about it, as metadata.

    Dagster's UI shows `dagster/row_count` on top, as the rows of the table.
    """
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": table.changed,
        "rows_read": table.read,
        "deleted": table.deleted,
        "rejected": len(table.quarantined),
        "seconds_read": table.seconds_read,
        "seconds_write": table.seconds_write,
    }
    if table.rows is not None:
        metadata["dagster/row_count"] = table.rows
    if table.reconciliations:
        metadata |= _reconciliation_metadata(table.reconciliations[-1])
    return metadata


def _reconciliation_metadata(found: Reconciliation) -> Mapping[str, Any]:
    equal = {True: "yes", False: "no", None: "not compared"}[found.is_equal]
    return {
        "source_rows": found.source_rows,
        "warehouse_rows": found.warehouse_rows,
        "equal_to_source": equal,
        "source_checksum": found.source_checksum,
        "warehouse_checksum": found.warehouse_checksum,
    }


def _log_load(
    context: dg.AssetExecutionContext,
    catalog: Catalog[StarTable],
    partition: str,
    captures: Sequence[Capture],
    loaded: Load,
) -> None:
    """Log what was loaded and what was not, and publish the metrics of new captures."""
    rows = sum(table.changed for table in loaded.tables.values())
    context.log.info(f"loaded {len(loaded.new_captures)} captures, {rows} rows", extra={"rows": rows})
    if loaded.ungranted:
        context.log.warning(loaded.ungranted)
    if loaded.outdated:
        context.log.warning(
            f"nothing was loaded into {', '.join(loaded.outdated)}: the rule has changed, and history is of the rule "
            f"before; the job {REBUILD} builds it anew, with these captures"
        )
    for name, table in loaded.tables.items():
        if table.read or table.changed:
            context.log.info(
                f"loaded {table.changed} changed rows of {table.read} into {name}",
                extra={
                    "table": name,
                    "partition": partition,
                    "rows": table.changed,
                    "rows_read": table.read,
                    "deleted": table.deleted,
                    "rejected": len(table.quarantined),
                    "captures": [capture.id for capture in captures],
                },
            )
    log_quarantined(context.log, catalog, loaded)
    log_differing(context.log, loaded)
    if loaded.new_captures:
        now = datetime.now(UTC)
        ages = [(now - capture.captured_at.replace(tzinfo=UTC)).total_seconds() for capture in loaded.new_captures]
        publish_load(context, ages, rows)


def log_quarantined(log: logging.Logger, catalog: Catalog[StarTable], loaded: Load) -> None:
    """Log the first rows of each table that a load could not load, with personal data masked."""
    for table in loaded.tables.values():
        for row in _masked(catalog, table.quarantined):
            log.error(
                f"not loaded: {row.table} {row.key}, column {row.column}, value {row.value!r}: {row.reason}",
                extra=asdict(row),
            )


def log_differing(log: logging.Logger, loaded: Load) -> None:
    """Log each full capture that a table differs from, with the first keys."""
    for name, table in loaded.tables.items():
        for each in table.reconciliations:
            if each.is_equal is False:
                log.error(
                    f"{name} is not as {each.source_table} was in the full capture of {each.captured_at} UTC: "
                    f"{each.source_rows} rows there, {each.warehouse_rows} here, {each.keys_text or 'no keys'} differ",
                    extra={"table": name, "differing": each.differing},
                )


def _quarantine_metadata(catalog: Catalog[StarTable], table: LoadedTable) -> Mapping[str, Any]:
    rows = [row for load in table.loads for row in load.quarantined]
    return {
        "newly_quarantined": len(rows),
        "first": dg.MetadataValue.json([asdict(row) for row in _masked(catalog, rows)]),
    }


def _differing(table: LoadedTable) -> Mapping[str, Any]:
    """Return what full captures said about a table, and the latest one that differs. An alert has all of it."""
    found = [each for load in table.loads for each in load.reconciliations]
    metadata: dict[str, Any] = {
        "full_captures": len(found),
        "not_compared": sum(each.is_equal is None for each in found),
    }
    if different := [each for each in found if each.is_equal is False]:
        metadata |= {
            "captured_at": f"{different[-1].captured_at} UTC",
            "source_rows": different[-1].source_rows,
            "warehouse_rows": different[-1].warehouse_rows,
            "first_keys": different[-1].keys_text,
        }
    return metadata


def _masked(catalog: Catalog[StarTable], rows: Sequence[QuarantinedRow]) -> list[QuarantinedRow]:
    """Return the first rows, with personal data masked."""
    return [
        replace(row, **masked_rejection(catalog[row.table], row.key, row.column, row.value))
        for row in rows[:_MAX_ROWS_SHOWN]
    ]
