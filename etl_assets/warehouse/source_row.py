"""The live rows that a row of a star table is made of, and what its function makes of them now."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, column_list, quote_identifier, server_encoding
from etl_assets.ingestion.changes import SOURCE_SCHEMA, ChangeQueries, relation
from etl_assets.ingestion.csv_files import parse_csv
from etl_assets.ingestion.live_tables import as_live, live_tables
from etl_assets.ingestion.manifest import Capture
from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE
from etl_assets.schema.table import Catalog, Table
from etl_assets.schema.validation import REJECTED, ValidatedRows, validate
from etl_assets.transformation.star_table import StarTable
from etl_assets.transformation.transform import transform


def joined_key(catalog: Catalog[StarTable], table: Table, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the key of the row of a table that rows of other tables refer to; empty if none does."""
    for name, row in found.items():
        for column, to in catalog[name].foreign_keys.items():
            if to == table.name and row.get(column) not in (None, ""):
                return {table.primary_key[0]: row[column]}
    return {}


@dataclass
class SourceRow:
    """The row of a star table's first input, with those that it is joined to, in the current transaction.

    rows: by input, in the order of the function's parameters.
    """

    connection: Connection
    catalog: Catalog[StarTable]
    star: StarTable
    key: Mapping[str, Any]
    rows: dict[str, ValidatedRows] = field(init=False)
    _keys: dict[str, Mapping[str, Any]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if server_encoding(self.connection) == "SQL_ASCII":
            self.connection.run("SET LOCAL client_encoding = 'SQL_ASCII'")
        self.rows = {}
        tables = [self.catalog[name] for name in self.star.inputs(self.catalog.stars)]
        self._live = live_tables(self.connection, SOURCE_SCHEMA, tables)
        found: dict[str, Mapping[str, Any]] = {}
        for table in tables:
            self._keys[table.name] = joined_key(self.catalog, table, found) if found or self.rows else self.key
            self.rows[table.name] = self._read(table)
            for row in self.rows[table.name].rows.to_pylist():
                found[table.name] = row

    @property
    def exists(self) -> bool:
        """Whether the first input has the row."""
        first = next(iter(self.rows.values()))
        return bool(first.rows.num_rows or first.rejected.num_rows)

    def transformed(self) -> ValidatedRows:
        """Return what the function of the star table makes of it."""
        return transform(self.star, self.rows)

    def is_written_since(self, capture: Capture) -> bool:
        """Whether the row, or one that it is joined to, was written by a transaction that a capture did not see."""
        return any(self._exists_since(self.catalog[name], capture) for name in self.rows if self._keys[name])

    def _exists_since(self, table: Table, capture: Capture) -> bool:
        live = as_live(table, self._live[table.name])
        query = ChangeQueries({table.name: live}, (), capture).rows(table.name, live.primary_key)
        exists = f"SELECT EXISTS (SELECT FROM ({query}) t WHERE {self._condition(table)})"
        [[written]] = self.connection.run(exists)
        return bool(written)

    def _condition(self, table: Table) -> str:
        live = as_live(table, self._live[table.name])
        names = dict(zip(table.columns.names, live.columns.names, strict=True))
        return " AND ".join(
            f"t.{quote_identifier(names[name])} = {literal(value)}" for name, value in self._keys[table.name].items()
        )

    def _read(self, table: Table) -> ValidatedRows:
        csv = io.BytesIO()
        columns = column_list(self._live[table.name].names, "t")
        if self._keys[table.name] and self.connection.copy_out(
            f"SELECT {columns} FROM {relation(table.name)} t WHERE {self._condition(table)}", csv
        ):
            [rows] = parse_csv([csv.getvalue()], table.columns)
            times = pa.repeat(pa.scalar(datetime.min, CAPTURED_AT_TYPE), rows.num_rows)
            return validate(table, rows.append_column(CAPTURED_AT, times))
        return ValidatedRows(table.captured_columns.empty_table(), REJECTED.empty_table())
