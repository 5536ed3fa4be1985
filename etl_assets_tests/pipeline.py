"""The stages without Dagster: the functions that the assets call, on the inputs that the IO managers load."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from graphlib import TopologicalSorter

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.capture import capture
from etl_assets.ingestion.csv_files import CapturedRows
from etl_assets.ingestion.manifest import Capture, list_partition
from etl_assets.schema.rows import Rows
from etl_assets.schema.table import Catalog, Table
from etl_assets.schema.validation import ValidatedRows, concat
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.code_version import rule_versions
from etl_assets.transformation.parquet_files import StarFile, StarRows, write_star
from etl_assets.transformation.star_table import StarTable, join_dependencies, shared_columns, with_descriptions
from etl_assets.transformation.transform import TransformStats, transform_partition
from etl_assets.warehouse.audit import audit_tables
from etl_assets.warehouse.checks import LoadedTable
from etl_assets.warehouse.loader import load
from etl_assets.warehouse.rebuild import Rebuild, Stores, rebuild

CATALOG = with_descriptions(Catalog(TOTESYS_TABLES, STAR_TABLES))
RULES = rule_versions(CATALOG)
SOURCE: Mapping[str, Table] = {table.name: table for table in TOTESYS_TABLES}
STAR: Mapping[str, StarTable] = {star.name: star for star in STAR_TABLES}
FACTS = [star for star in STAR_TABLES if star.keeps_every_version]


def captured_input(bucket: Bucket, table: Table, partition: str) -> CapturedRows:
    """Return what the IO manager of the ingestion bucket loads."""
    return CapturedRows(
        asset=f"ingestion/{table.name}", partitions=(partition,), table=table, open_bucket=lambda: bucket
    )


def star_input(bucket: Bucket, star: StarTable, partition: str) -> StarRows:
    """Return what the IO manager of the transformation bucket loads."""
    asset = f"transformation/{star.name}"
    return StarRows(asset=asset, partitions=(partition,), folder=star.name, table=star, open_bucket=lambda: bucket)


def read_captured(bucket: Bucket, table: Table, partition: str) -> ValidatedRows:
    rows = captured_input(bucket, table, partition)
    return concat(rows.read(rows.captures(partition)), table)


def materialize_star(
    star: StarTable,
    ingestion: Bucket,
    transformation: Bucket,
    partition: str,
    catalog: Catalog[StarTable] = CATALOG,
    rules: Mapping[str, str] = RULES,
) -> TransformStats:
    """Write the file of a star table as its asset does."""
    declared = {each.name: each for each in (*catalog.sources, *catalog.stars)}
    inputs: dict[str, Rows] = {}
    for name in star.inputs(catalog.stars):
        table = declared[name]
        inputs[name] = (
            star_input(transformation, table, partition)
            if isinstance(table, StarTable)
            else captured_input(ingestion, table, partition)
        )
    observed: list[TransformStats] = []
    batches = transform_partition(star, inputs, partition, observed.append, rule=rules[star.name])
    write_star(transformation, star.name, partition, batches)
    [stats] = observed
    return stats


@dataclass(frozen=True)
class Pipeline:
    """The stages over a source, a warehouse, buckets and the declared tables."""

    totesys_url: str
    warehouse_url: str
    ingestion: Bucket
    transformation: Bucket
    catalog: Catalog[StarTable] = CATALOG

    @cached_property
    def rules(self) -> dict[str, str]:
        return rule_versions(self.catalog)

    def capture(self, partition: str, *, full: bool = False, bucket: Bucket | None = None) -> list[Capture]:
        dependencies = join_dependencies(self.catalog)
        with connect(self.totesys_url) as connection:
            bucket = bucket or self.ingestion
            shared = shared_columns(self.catalog)
            result = capture(
                connection, bucket, self.catalog.sources, dependencies, partition, full=full, shared=shared
            )
        return list(result.captures)

    def transform(self, partition: str) -> None:
        stars = {star.name: star for star in self.catalog.stars}
        inputs = {name: star.inputs(self.catalog.stars) for name, star in stars.items()}
        for name in TopologicalSorter(inputs).static_order():
            if name in stars:
                materialize_star(stars[name], self.ingestion, self.transformation, partition, self.catalog, self.rules)

    def rebuild(self, *tables: str, keep_history: bool = False) -> Rebuild:
        stores = Stores(self.ingestion, self.transformation, partial(connect, self.warehouse_url))
        return rebuild(stores, self.catalog, self.rules, tables, keep_history=keep_history)

    def load(self, partition: str, files: Mapping[str, StarFile] | None = None) -> dict[str, LoadedTable]:
        """Load the captures of a partition, with some files replaced. Return by table what its checks look at."""
        captures = list_partition(self.ingestion, partition)
        ids = {capture.id for capture in captures}
        with ExitStack() as stack, connect(self.warehouse_url) as connection:
            opened = {
                star.name: stack.enter_context(star_input(self.transformation, star, partition).open(partition, ids))
                for star in self.catalog.stars
                if captures
            }
            loaded = load(connection, self.ingestion, self.catalog, self.rules, captures, opened | dict(files or {}))
            audits = audit_tables(connection, self.catalog, loaded.up_to_date)
            return {name: LoadedTable([loaded.tables[name]], audits[name]) for name in audits}
