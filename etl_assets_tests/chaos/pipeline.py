"""The stages without Dagster, for attempts that need thousands of steps. What they call is what the assets call."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from graphlib import TopologicalSorter

from etl_assets.buckets import Bucket
from etl_assets.captures import Capture, in_partition
from etl_assets.databases import connect
from etl_assets.ingestion import capture
from etl_assets.storage import StarFile, open_star
from etl_assets.tables import Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.assets import joins, make
from etl_assets.transformation.declare import StarTable
from etl_assets.warehouse.load import load

SOURCE: Mapping[str, Table] = {table.name: table for table in TOTESYS_TABLES}
STAR: Mapping[str, StarTable] = {star.name: star for star in STAR_TABLES}


@dataclass(frozen=True)
class Pipeline:
    totesys_url: str
    warehouse_url: str
    lake: Bucket

    def capture(self, partition: str, *, full: bool = False, lake: Bucket | None = None) -> list[Capture]:
        with connect(self.totesys_url) as connection:
            stars = joins(STAR_TABLES, TOTESYS_TABLES)
            return list(capture(connection, lake or self.lake, TOTESYS_TABLES, stars, partition, full=full).captures)

    def transform(self, partition: str) -> None:
        tables: Mapping[str, Table] = {**SOURCE, **STAR}
        needed = {star.name: star.inputs(STAR_TABLES) for star in STAR_TABLES}
        for name in TopologicalSorter(needed).static_order():
            if name in STAR:
                make(STAR[name], [tables[each] for each in needed[name]], self.lake, self.lake, partition)

    def load(self, partition: str, files: Mapping[str, StarFile] | None = None) -> None:
        with ExitStack() as stack, connect(self.warehouse_url) as connection:
            captures = in_partition(self.lake, partition)
            ids = {capture.id for capture in captures}
            opened = {
                star.name: stack.enter_context(open_star(self.lake, star.name, partition, ids)) for star in STAR_TABLES
            }
            load(connection, STAR_TABLES, captures, opened | dict(files or {}))
