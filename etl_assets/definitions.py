"""`defs`: all that Dagster loads. Owner and group are stamped here, once."""

import os

import dagster as dg

from etl_assets.automation import automation, windows
from etl_assets.databases import DatabaseResource
from etl_assets.environment import EnvironmentVariableError, Variable
from etl_assets.ingestion import ingestion_assets, totesys_assets
from etl_assets.storage import BucketResource, captured_csv_io_manager, star_parquet_io_manager
from etl_assets.tables import Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.assets import joins, transformation_assets
from etl_assets.transformation.declare import StarTable
from etl_assets.warehouse.assets import warehouse_assets

_OWNER = "team:data-engineering"
_DEFAULT_START = "2026-11-01"


def definitions(
    source_tables: tuple[Table, ...] = TOTESYS_TABLES,
    star_tables: tuple[StarTable, ...] = STAR_TABLES,
    partitions_start: str = _DEFAULT_START,
) -> dg.Definitions:
    """Build the platform over its declarations.

    Raises:
        EnvironmentVariableError: the start of the partitions is no date.
    """
    try:
        partitions = windows(partitions_start)
    except ValueError:
        raise EnvironmentVariableError(
            Variable.PARTITIONS_START, f"must be a date such as 2026-11-01, not {partitions_start!r}"
        ) from None
    assets: list[dg.AssetSpec | dg.AssetsDefinition] = [
        *totesys_assets(source_tables),
        ingestion_assets(source_tables, joins(star_tables, source_tables), partitions),
        *transformation_assets(star_tables, partitions),
        warehouse_assets(star_tables, partitions),
    ]
    own = dg.Definitions(
        assets=dg.map_asset_specs(
            lambda spec: spec.replace_attributes(owners=[_OWNER], group_name=spec.key.path[0]), assets
        ),
        resources={
            "totesys": DatabaseResource(variable=Variable.TOTESYS_DATABASE_URL),
            "warehouse_database": DatabaseResource(variable=Variable.WAREHOUSE_DATABASE_URL),
            "ingestion_bucket": BucketResource(variable=Variable.INGESTION_URL),
            "transformation_bucket": BucketResource(variable=Variable.TRANSFORMATION_URL),
            "ingestion_io_manager": captured_csv_io_manager(source_tables),
            "transformation_io_manager": star_parquet_io_manager,
        },
        # The steps are many and small: a process for each would take longer than all of them.
        executor=dg.in_process_executor,
    )
    return dg.Definitions.merge(own, automation(partitions))


# The start of the partitions is part of the definitions' shape, so it is read when Dagster loads them.
defs = definitions(partitions_start=os.environ.get(Variable.PARTITIONS_START) or _DEFAULT_START)
