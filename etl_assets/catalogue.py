"""What Dagster's catalogue shows of a table: read off its declaration."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from etl_assets.databases import sql_type
from etl_assets.tables import Table


def table_metadata(table: Table, table_name: str | None = None) -> Mapping[str, Any]:
    """Give the definition metadata of an asset: its column schema, and its name where it is a database table."""
    unique = table.primary_key if len(table.primary_key) == 1 else ()
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=sql_type(column.type),
                description=f"key of {table.foreign_keys[column.name]}" if column.name in table.foreign_keys else None,
                constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=column.name in unique),
            )
            for column in table.columns
        ],
        constraints=dg.TableConstraints(other=[f"PRIMARY KEY ({', '.join(table.primary_key)})"]),
    )
    metadata: dict[str, Any] = {"dagster/column_schema": schema}
    if table_name:
        metadata["dagster/table_name"] = table_name
    return metadata
