"""The job `rebuild`: star tables are computed again from all captured files."""

from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from etl_assets.adapters.metrics import publish_load
from etl_assets.adapters.resources import BucketResource, DatabaseResource
from etl_assets.catalog.retries import RETRY_OUTAGES, permanent_errors_not_retried
from etl_assets.catalog.stages import REBUILD, WAREHOUSE
from etl_assets.schema.table import Catalog
from etl_assets.transformation.code_version import rule_versions
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.assets import load_metadata, log_differing, log_quarantined
from etl_assets.warehouse.rebuild import Rebuild, Stores, rebuild


class RebuildConfig(dg.Config):
    """The configuration of the job `rebuild`."""

    tables: list[str] = Field(
        default_factory=list, description="Star tables to compute again, beside those whose rule has changed."
    )
    keep_history: bool = Field(
        default=False,
        description="Compute nothing again: keep what is loaded, and load on by the rules of now. For captures that "
        "are lost.",
    )


def rebuild_job(catalog: Catalog[StarTable]) -> dg.JobDefinition:
    """Build the job."""
    rules = rule_versions(catalog)

    @dg.op(name=f"{REBUILD}__tables", retry_policy=RETRY_OUTAGES)
    def rebuild_tables(
        context: dg.OpExecutionContext,
        config: RebuildConfig,
        warehouse_database: DatabaseResource,
        ingestion_bucket: BucketResource,
        transformation_bucket: BucketResource,
    ) -> None:
        """Compute star tables again from all captured files, and load captures that are not loaded.

        The tables are those that were built by another version of their rule, and those of the configuration. Captures
        and loads of other tables go on meanwhile.
        """
        with permanent_errors_not_retried():
            stores = Stores(ingestion_bucket.open(), transformation_bucket.open(), warehouse_database.connect)
            done = rebuild(stores, catalog, rules, config.tables, keep_history=config.keep_history, log=context.log)
        _log_rebuild(context, done)
        log_quarantined(context.log, catalog, done.load)
        log_differing(context.log, done.load)

    @dg.job(
        name=REBUILD,
        description="Compute star tables again from all captured files: those whose rule has changed, and those of the "
        "configuration. Load captures that are not loaded.",
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        rebuild_tables()

    return job


def _log_rebuild(context: dg.OpExecutionContext, done: Rebuild) -> None:
    """Log what was rebuilt, and attach it to the tables."""
    new_captures = done.load.new_captures
    for name, table in done.load.tables.items():
        metadata = load_metadata(table)
        if name in done.tables:
            context.log.info(
                f"rebuilt {name}: {table.changed} rows changed, of {table.read} in {done.captures} captures",
                extra={"table": name, "rows": table.changed, "rows_read": table.read, "captures": done.captures},
            )
            context.log_event(dg.AssetObservation([WAREHOUSE, name], description="rebuilt", metadata=metadata))
        if new_captures:
            partition = new_captures[-1].partition
            context.log_event(dg.AssetMaterialization([WAREHOUSE, name], partition=partition, metadata=metadata))
    if new_captures:
        age = datetime.now(UTC) - new_captures[-1].captured_at.replace(tzinfo=UTC)
        publish_load(context, [age.total_seconds()], sum(table.changed for table in done.load.tables.values()))
