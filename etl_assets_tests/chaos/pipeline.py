"""The stages without Dagster, for tests of thousands of steps: the functions that the assets call."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from graphlib import TopologicalSorter

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.capture import capture
from etl_assets.ingestion.manifest import Capture, list_partition
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.parquet_files import StarFile
from etl_assets.transformation.star_table import join_dependencies
from etl_assets.warehouse.loader import load
from etl_assets_tests.harness import CATALOG, STAR, materialize_star, star_input


@dataclass(frozen=True)
class Pipeline:
    totesys_url: str
    warehouse_url: str
    bucket: Bucket

    def capture(self, partition: str, *, full: bool = False, bucket: Bucket | None = None) -> list[Capture]:
        dependencies = join_dependencies(CATALOG)
        with connect(self.totesys_url) as connection:
            result = capture(connection, bucket or self.bucket, TOTESYS_TABLES, dependencies, partition, full=full)
        return list(result.captures)

    def transform(self, partition: str) -> None:
        inputs = {star.name: star.inputs(STAR_TABLES) for star in STAR_TABLES}
        for name in TopologicalSorter(inputs).static_order():
            if name in STAR:
                materialize_star(STAR[name], self.bucket, self.bucket, partition)

    def load(self, partition: str, files: Mapping[str, StarFile] | None = None) -> None:
        """Load the captures of a partition, with some files replaced."""
        captures = list_partition(self.bucket, partition)
        ids = {capture.id for capture in captures}
        with ExitStack() as stack, connect(self.warehouse_url) as connection:
            opened = {
                star.name: stack.enter_context(star_input(self.bucket, star, partition).open(partition, ids))
                for star in STAR_TABLES
            }
            load(connection, CATALOG, captures, opened | dict(files or {}))
