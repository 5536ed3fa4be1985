"""Captured rows as inputs of assets. The capture stores them itself (docs/adr/0010)."""

import dagster as dg

from etl_assets.catalog.io_manager import RowsIOManager, input_partitions
from etl_assets.ingestion.csv_files import CapturedRows
from etl_assets.schema.table import AnyTable, Catalog


def ingestion_io_manager(catalog: Catalog[AnyTable]) -> dg.IOManagerDefinition:
    """Build the IO manager of the ingestion bucket."""

    @dg.io_manager(required_resource_keys={"ingestion_bucket"})
    def io_manager(init: dg.InitResourceContext) -> RowsIOManager:
        def load(context: dg.InputContext) -> CapturedRows:
            return CapturedRows(
                asset=context.asset_key.to_user_string(),
                partitions=input_partitions(context),
                table=catalog[context.asset_key.path[-1]],
                open_bucket=init.resources.ingestion_bucket.open,
            )

        return RowsIOManager(load)

    return io_manager
