"""`defs`: everything Dagster loads. Owner and group of the assets are set here, once."""

import os
import warnings

import dagster as dg
from dagster_aws.s3 import S3Resource

from etl_assets.adapters.logs import log_json_to_stdout, silent_console
from etl_assets.adapters.resources import BucketResource, DatabaseResource
from etl_assets.adapters.settings import Settings, Variable
from etl_assets.automation.alerts.hooks import ALERTS_TOPIC
from etl_assets.automation.alerts.monitor import alerts_sensor
from etl_assets.automation.alerts.sns import SnsTopicResource
from etl_assets.automation.jobs import capture_partitions, jobs
from etl_assets.automation.schedules import etl_schedules
from etl_assets.automation.sensors import job_sensors
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.ingestion.assets import ingestion_assets, totesys_assets
from etl_assets.ingestion.io_manager import ingestion_io_manager, source_io_manager
from etl_assets.reports.assets import report_assets
from etl_assets.reports.io_manager import page_io_manager, reports_io_manager
from etl_assets.reports.report import load_reports
from etl_assets.schema.table import Catalog, Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.assets import transformation_assets
from etl_assets.transformation.io_manager import pickle_io_manager, transformation_io_manager
from etl_assets.transformation.star_table import StarTable, join_dependencies, shared_columns, with_descriptions
from etl_assets.warehouse.assets import rules_asset, warehouse_assets
from etl_assets.warehouse.io_manager import warehouse_io_manager
from etl_assets.warehouse.rebuild_job import rebuild_job

_OWNER = "team:data-engineering"
_LAPTOP = Settings()
_S3 = S3Resource()  # region, endpoint and credentials as the AWS SDK finds them


def definitions(
    source_tables: tuple[Table, ...] = TOTESYS_TABLES,
    star_tables: tuple[StarTable, ...] = STAR_TABLES,
    settings: Settings = _LAPTOP,
    s3: S3Resource = _S3,
) -> dg.Definitions:
    """Build the platform over its declarations. Buckets on S3 are opened with the client of `s3`.

    Raises:
        EnvironmentVariableError: a cron expression is malformed.
    """
    partitions = capture_partitions(settings.partitions_start)
    catalog = with_descriptions(Catalog(source_tables, star_tables))
    reports, malformed_reports = load_reports()
    freshness = dg.FreshnessPolicy.time_window(warn_window=settings.freshness_warn, fail_window=settings.freshness_fail)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # backfill policies are beta in Dagster 1.13
        assets: list[dg.AssetSpec | dg.AssetsDefinition] = [
            *totesys_assets(source_tables),
            ingestion_assets(source_tables, join_dependencies(catalog), shared_columns(catalog), partitions),
            *transformation_assets(catalog, partitions),
            rules_asset(catalog, partitions),
            warehouse_assets(catalog, partitions, freshness),
            report_assets(reports, malformed_reports, catalog.stars, source_tables),
        ]
    on, off = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED
    status = on if settings.automated else off
    topic = settings.alerts_topic
    loaded = [dg.AssetKey([WAREHOUSE, star.name]) for star in catalog.stars]
    return dg.Definitions(
        assets=dg.map_asset_specs(
            lambda spec: spec.replace_attributes(owners=[_OWNER], group_name=spec.key.path[0]), assets
        ),
        resources={
            "totesys": DatabaseResource(variable=Variable.TOTESYS_DATABASE_URL),
            "warehouse_database": DatabaseResource(variable=Variable.WAREHOUSE_DATABASE_URL),
            "s3": s3,
            "ingestion_bucket": BucketResource(variable=Variable.INGESTION_URL, s3=s3),
            "transformation_bucket": BucketResource(variable=Variable.TRANSFORMATION_URL, s3=s3),
            "io_manager": pickle_io_manager,
            ALERTS_TOPIC: SnsTopicResource(topic_arn=topic or ""),
            "source_io_manager": source_io_manager(catalog),
            "ingestion_io_manager": ingestion_io_manager(catalog),
            "transformation_io_manager": transformation_io_manager(catalog),
            "warehouse_io_manager": warehouse_io_manager(catalog),
            "reports_io_manager": reports_io_manager(reports, malformed_reports),
            "page_io_manager": page_io_manager,
        },
        jobs=[*jobs(settings), rebuild_job(catalog)],
        schedules=etl_schedules(partitions, settings),
        sensors=[
            *job_sensors(catalog, partitions, status, settings),
            alerts_sensor(loaded, topic, on if topic else status),
        ],
        loggers={"console": silent_console} if settings.json_logs else None,
        # The steps are many and small: a process per step would take longer than the steps.
        executor=dg.in_process_executor,
    )


# The settings shape the definitions, so they are read when Dagster loads this module.
_SETTINGS = Settings.from_environment(os.environ)
if _SETTINGS.json_logs:
    log_json_to_stdout("etl_assets")
defs = definitions(settings=_SETTINGS)
