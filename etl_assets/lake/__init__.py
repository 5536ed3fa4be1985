"""The star tables as the files in the buckets have them, without warehouse, database or Dagster.

    from etl_assets import lake

    orders = lake.current("fact_sales_order").to_pandas()  # or .to_arrow(), .to_reader(), .to_duckdb()
    designs = lake.history("dim_design").to_arrow()
    connection = lake.register()  # DuckDB, with the tables and views that the warehouse has

They have the rows of the views of the warehouse, but for this: rows that wait there for what they refer to
(`warehouse.pending`), or that a constraint there refuses, are here; captures whose manifests are lost are not; there
are no record ids. A table is as of its latest transformed capture (`as_of`), which may be a moment ahead of the
warehouse.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Optional

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.settings import Variable, open_bucket
from etl_assets.catalog.stages import TRANSFORMATION
from etl_assets.lake import duck
from etl_assets.lake.rows import LakeRows, Shape
from etl_assets.schema.table import Catalog
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.star_table import StarTable, with_descriptions

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, kw_only=True)
class Lake:
    """The star tables in two buckets: those that the environment names, unless others are given."""

    ingestion: Bucket = field(default_factory=lambda: open_bucket(Variable.INGESTION_URL))
    transformation: Bucket = field(default_factory=lambda: open_bucket(Variable.TRANSFORMATION_URL))
    catalog: Catalog[StarTable] = field(default_factory=lambda: with_descriptions(Catalog(TOTESYS_TABLES, STAR_TABLES)))

    def current(self, table: str) -> LakeRows:
        """Return the latest version of each row: of a fact those not deleted; of a dimension all, marked `deleted`.

        Raises:
            UnknownTableError: there is no star table of this name.
        """
        return self._rows(table, Shape.CURRENT)

    def history(self, table: str) -> LakeRows:
        """Return each version of a row once, but its deletion, with the period in which it was valid.

        Raises:
            UnknownTableError: there is no star table of this name.
        """
        return self._rows(table, Shape.HISTORY)

    def register(self, connection: Optional["DuckDBPyConnection"] = None, *tables: str) -> "DuckDBPyConnection":
        """Copy star tables, or all, into a DuckDB database, with the views that the warehouse has. Return it.

        That is a new database in memory, unless a connection is given. To have later rows, do it again.

        Raises:
            UnknownTableError: there is no star table of a name.
            DuckDBMissingError: DuckDB is not installed.
        """
        connection = connection or duck.connect()
        for name in tables or [star.name for star in self.catalog.stars]:
            versions = self._rows(name, Shape.VERSIONS)
            duck.create_table(connection, versions.star.versions.name, versions.schema(), versions.batches())
            duck.create_views(connection, versions.star)
        return connection

    def _rows(self, table: str, shape: Shape) -> LakeRows:
        star = self.catalog.star(table)
        source, *_ = star.inputs(self.catalog.stars)
        return LakeRows(
            asset=f"{TRANSFORMATION}/{table}",
            star=star,
            source=self.catalog[source],
            shape=shape,
            ingestion=self.ingestion,
            transformation=self.transformation,
        )


def current(table: str) -> LakeRows:
    """Return the latest version of each row of a star table, as `Lake.current`, from the buckets of the environment."""
    return Lake().current(table)


def history(table: str) -> LakeRows:
    """Return each version of a row of a star table, as `Lake.history`, from the buckets of the environment."""
    return Lake().history(table)


def register(connection: Optional["DuckDBPyConnection"] = None, *tables: str) -> "DuckDBPyConnection":
    """Copy star tables into a DuckDB database, as `Lake.register`, from the buckets of the environment."""
    return Lake().register(connection, *tables)
