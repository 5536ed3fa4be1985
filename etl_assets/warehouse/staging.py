"""The rows of a load in temporary tables: those that the warehouse can store, and the rejected ones."""

from dataclasses import dataclass
from functools import partial
from time import monotonic

import pyarrow as pa

from etl_assets.adapters import postgres
from etl_assets.adapters.postgres import Connection, StatementRefusedError, column_list
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.validation import Rejection, rejections
from etl_assets.transformation.parquet_files import StarFile
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse import quarantine
from etl_assets.warehouse.history import create_staged, staged

_BATCH_ROWS = 64 * 1024
_MAX_REFUSED_ROWS = 1_000


class RowsRefusedError(PermanentError):
    """The warehouse refuses too many rows of a table: its rule is wrong, not they."""

    def __init__(self, star: StarTable, refusal: StatementRefusedError) -> None:
        super().__init__(
            f"the warehouse refuses more than {_MAX_REFUSED_ROWS:,} rows of {star.name}: {refusal.summary}. Drop or "
            "correct the constraint or trigger. Nothing is lost: the captures are kept, and catch_up loads them"
        )


@dataclass
class StagedRows:
    """The staged rows of a star table in the current transaction: its temporary tables are created when it is made.

    read: the number of rows staged.
    has_rejected: whether there are rejected rows, or rows that the warehouse refuses, among them.
    refused: the number of rows that the warehouse refuses.
    seconds: what staging took.
    """

    connection: Connection
    star: StarTable
    read: int = 0
    has_rejected: bool = False
    seconds: float = 0
    refused: int = 0

    def __post_init__(self) -> None:
        self.connection.run(create_staged(self.star))
        quarantine.create_staged_rejected(self.connection, self.star)

    def add(self, file: StarFile) -> None:
        """Copy the rows of a file, and the rejected ones.

        Raises:
            RowsRefusedError: the warehouse cannot store many of the rows.
        """
        started = monotonic()
        quarantine.stage_rejected(self.connection, self.star, file.rejected)
        self.has_rejected |= bool(file.rejected.num_rows)
        self.read += self._copy(file)
        key = column_list((*self.star.primary_key, CAPTURED_AT))
        self.connection.run(f"ANALYZE {staged(self.star)} ({key})")
        self.seconds += monotonic() - started

    def count_refused(self, refusal: StatementRefusedError) -> None:
        """Count a row that the warehouse refuses.

        Raises:
            RowsRefusedError: there are many.
        """
        self.refused += 1
        self.has_rejected = True
        if self.refused > _MAX_REFUSED_ROWS:
            raise RowsRefusedError(self.star, refusal)

    def _copy(self, file: StarFile) -> int:
        """Copy the rows of a file that the warehouse can store, and return the number of all."""
        table, columns = staged(self.star), self.star.captured_columns.names
        batches = partial(file.rows.iter_batches, _BATCH_ROWS, columns=columns, use_threads=False)
        try:
            with postgres.savepoint(self.connection):
                return self.connection.copy_in(table, columns, postgres.csv_chunks(batches()))
        except StatementRefusedError as refusal:
            if not refusal.is_about_data:
                raise
            return sum(self._copy_storable(pa.Table.from_batches([batch])) for batch in batches())

    def _copy_storable(self, rows: pa.Table) -> int:
        """Copy the rows that the warehouse can store, and reject the others. Return the number of all."""
        columns = self.star.captured_columns.names
        try:
            with postgres.savepoint(self.connection):
                return self.connection.copy_in(staged(self.star), columns, postgres.csv_chunks(rows.to_batches()))
        except StatementRefusedError as refusal:
            if rows.num_rows > 1:
                half = rows.num_rows // 2
                return self._copy_storable(rows.slice(0, half)) + self._copy_storable(rows.slice(half))
            self.count_refused(refusal)
            rejection = Rejection(0, self._unstorable_column(rows), f"cannot be stored: {refusal.summary}")
            rejected = rejections(self.star.name, self.star.primary_key, rows, [rejection], first_position=0)
            quarantine.stage_rejected(self.connection, self.star, rejected, refused=True)
            return 1

    def _unstorable_column(self, row: pa.Table) -> str:
        """Return the column of a row whose value the warehouse cannot store."""
        for name, value in row.to_pylist()[0].items():
            try:
                with postgres.savepoint(self.connection):
                    self.connection.run("SELECT CAST(:value AS text)", value=None if value is None else str(value))
            except StatementRefusedError:
                return str(name)
        return self.star.primary_key[0]
