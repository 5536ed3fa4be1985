"""`defs`: all that Dagster loads. Owner and group are stamped here, once."""

import os
import warnings

import dagster as dg

from etl_assets.alerts import alerts_sensor
from etl_assets.automation import automation, windows
from etl_assets.databases import DatabaseResource
from etl_assets.environment import Settings, Variable
from etl_assets.ingestion import ingestion_assets, totesys_assets
from etl_assets.logs import to_stdout
from etl_assets.reports.assets import declared, report_assets
from etl_assets.storage import BucketResource, captured_csv_io_manager, star_parquet_io_manager
from etl_assets.tables import Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.assets import joins, transformation_assets
from etl_assets.transformation.declare import StarTable, described
from etl_assets.warehouse.assets import warehouse_assets
from etl_assets.warehouse.schema import WAREHOUSE

_OWNER = "team:data-engineering"
_LAPTOP = Settings()


def definitions(
    source_tables: tuple[Table, ...] = TOTESYS_TABLES,
    star_tables: tuple[StarTable, ...] = STAR_TABLES,
    settings: Settings = _LAPTOP,
) -> dg.Definitions:
    """Build the platform over its declarations.

    Raises:
        EnvironmentVariableError: a setting is malformed.
    """
    partitions = windows(settings.partitions_start)
    tables: dict[str, Table] = {table.name: table for table in (*source_tables, *star_tables)}
    star_tables = tuple(described(star, tables) for star in star_tables)
    freshness = dg.FreshnessPolicy.time_window(warn_window=settings.late_warning, fail_window=settings.late_failure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill policies are, in Dagster 1.13
        assets: list[dg.AssetSpec | dg.AssetsDefinition] = [
            *totesys_assets(source_tables),
            ingestion_assets(source_tables, joins(star_tables, source_tables), partitions),
            *transformation_assets(star_tables, source_tables, partitions),
            warehouse_assets(star_tables, source_tables, partitions, freshness),
            report_assets(declared(), star_tables),
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
    loaded = [dg.AssetKey([WAREHOUSE, star.name]) for star in star_tables]
    return dg.Definitions.merge(
        own,
        automation(source_tables, partitions, settings),
        dg.Definitions(sensors=[alerts_sensor(loaded, automated=settings.automated)]),
    )


# The settings are part of the definitions' shape, so they are read when Dagster loads them.
_SETTINGS = Settings.from_environment(os.environ)
if _SETTINGS.json_logs:
    to_stdout("etl_assets")
defs = definitions(settings=_SETTINGS)
