"""Source tables and captured rows as inputs of assets. The capture stores them itself (docs/adr/0010)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from tempfile import TemporaryFile

import dagster as dg
import pyarrow as pa

from etl_assets.adapters.postgres import Connection, column_list, transaction
from etl_assets.catalog.io_manager import RowsIOManager, input_partitions
from etl_assets.ingestion.capture import matching_tables
from etl_assets.ingestion.changes import relation
from etl_assets.ingestion.csv_files import CapturedRows, parse_csv, whole_rows
from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE
from etl_assets.schema.rows import Rows
from etl_assets.schema.table import AnyTable, Catalog, Table
from etl_assets.schema.validation import validate


@dataclass(frozen=True, kw_only=True)
class LiveRows(Rows):
    """The rows of a source table as they are now, as a full capture would have them, whatever the partition.

    Rows that do not fit the declaration are left out.
    """

    table: Table
    connect: Callable[[], AbstractContextManager[Connection]]

    def schema(self) -> pa.Schema:
        """Return the declared columns and `captured_at`."""
        return self.table.captured_columns

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, as of one snapshot.

        Raises:
            SchemaMismatchError: the table does not match its declaration.
            DatabaseUnavailableError: the source is down.
        """
        with TemporaryFile() as file, self.connect() as connection:
            with transaction(connection, snapshot=True):
                live, _ = matching_tables(connection, [self.table])
                columns = column_list(live[self.table.name].names)
                [[now]] = connection.run("SELECT now() AT TIME ZONE 'UTC'")
                connection.copy_out(f"SELECT {columns} FROM {relation(self.table.name)}", file)
            file.seek(0)
            for rows in parse_csv(whole_rows(file), self.table.columns):
                times = pa.repeat(pa.scalar(now, CAPTURED_AT_TYPE), rows.num_rows)
                yield validate(self.table, rows.append_column(CAPTURED_AT, times)).rows


def source_io_manager(catalog: Catalog[AnyTable]) -> dg.IOManagerDefinition:
    """Build the IO manager of the source."""

    @dg.io_manager(required_resource_keys={"totesys"})
    def io_manager(init: dg.InitResourceContext) -> RowsIOManager:
        def load(context: dg.InputContext) -> LiveRows:
            return LiveRows(
                asset=context.asset_key.to_user_string(),
                table=catalog[context.asset_key.path[-1]],
                connect=init.resources.totesys.connect,
            )

        return RowsIOManager(load)

    return io_manager


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
