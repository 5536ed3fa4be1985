"""What Dagster's catalogue shows of a table: read off its declaration."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from etl_assets.databases import sql_type
from etl_assets.tables import CAPTURED_AT, Table


def table_metadata(table: Table, table_name: str | None = None, *, versioned: bool = False) -> Mapping[str, Any]:
    """Give the definition metadata of an asset: its column schema, and its name where it is a database table.

    `versioned` says that its rows are told apart by key and capture, not by key alone.
    """
    key = ", ".join(table.primary_key)
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=sql_type(column.type),
                description=f"key of {table.foreign_keys[column.name]}" if column.name in table.foreign_keys else None,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in (table.captured_columns if versioned else table.columns)
        ],
        constraints=dg.TableConstraints(
            other=[f"UNIQUE ({key}, {CAPTURED_AT})" if versioned else f"PRIMARY KEY ({key})"]
        ),
    )
    return {"dagster/column_schema": schema} | ({"dagster/table_name": table_name} if table_name else {})
