"""Warehouse tables as inputs of assets. The load writes them itself (docs/adr/0010)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from tempfile import TemporaryFile

import dagster as dg
import pyarrow as pa

from etl_assets.adapters.postgres import UNDEFINED_TABLE, Connection, StatementRefusedError, column_list
from etl_assets.catalog.io_manager import IOManagerError, RowsIOManager
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.ingestion.csv_files import parse_csv, whole_rows
from etl_assets.schema.columns import CAPTURED_AT_TYPE, VALID_FROM, VALID_TO
from etl_assets.schema.rows import Rows
from etl_assets.schema.table import Catalog
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.relations import history, latest_versions


@dataclass(frozen=True, kw_only=True)
class WarehouseRows(Rows):
    """The rows of a warehouse table as it is now, whatever the partition.

    with_history: whether every version is read, with `valid_from` (null: from the beginning of time) and `valid_to`
        (null: still valid).
    """

    star: StarTable
    connect: Callable[[], AbstractContextManager[Connection]]
    with_history: bool = False

    def schema(self) -> pa.Schema:
        """Return the declared columns and `captured_at`."""
        columns = self.star.captured_columns
        if self.with_history:
            validity = {VALID_FROM: not self.star.keeps_every_version, VALID_TO: True}
            for name, nullable in validity.items():
                columns = columns.append(pa.field(name, CAPTURED_AT_TYPE, nullable=nullable))
        return columns

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, as of one snapshot.

        Raises:
            IOManagerError: the table does not exist yet.
            DatabaseUnavailableError: the warehouse is down.
        """
        schema = self.schema()
        with TemporaryFile() as file, self.connect() as connection:
            try:
                connection.copy_out(self._query(), file)
            except StatementRefusedError as error:
                if error.sqlstate != UNDEFINED_TABLE:
                    raise
                raise IOManagerError(f"{self.asset} does not exist yet: materialize {WAREHOUSE}/* first") from None
            file.seek(0)
            for batch in parse_csv(whole_rows(file), schema):
                yield batch.cast(schema)

    def _query(self) -> str:
        columns = column_list(self.star.captured_columns.names)
        if self.with_history:
            validity = f"""nullif({VALID_FROM}, '-infinity') AS {VALID_FROM},
                           nullif({VALID_TO}, 'infinity') AS {VALID_TO}"""
            return f"SELECT {columns}, {validity} FROM {history(self.star)}"
        return f"SELECT {columns} FROM {latest_versions(self.star)}"


def warehouse_io_manager(catalog: Catalog[StarTable]) -> dg.IOManagerDefinition:
    """Build the IO manager of the warehouse."""

    @dg.io_manager(required_resource_keys={"warehouse_database"})
    def io_manager(init: dg.InitResourceContext) -> RowsIOManager:
        def load(context: dg.InputContext) -> WarehouseRows:
            star = catalog.star(context.asset_key.path[-1])
            return WarehouseRows(
                asset=context.asset_key.to_user_string(),
                star=star,
                connect=init.resources.warehouse_database.connect,
                with_history=bool((context.definition_metadata or {}).get("history")),
            )

        return RowsIOManager(load)

    return io_manager
