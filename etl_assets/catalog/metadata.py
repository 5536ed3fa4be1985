"""The metadata of a table in Dagster's catalog, derived from its declaration."""

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import dagster as dg
import pyarrow as pa

from etl_assets.schema.columns import CAPTURED_AT, MASK, description_of, is_personal
from etl_assets.schema.rows import PREVIEW_ROWS
from etl_assets.schema.table import Table
from etl_assets.schema.types import sql_type

Origins = Mapping[str, Sequence[tuple[Sequence[str], str]]]
"""By column, the columns it is derived from: the key of the asset, and the name of the column."""

_MAX_LENGTH = 200


def table_metadata(
    table: Table, *, origins: Origins | None = None, table_name: str | None = None, versioned: bool = False
) -> Mapping[str, Any]:
    """Return the definition metadata of an asset: column schema, column lineage, and the name of a database table.

    `versioned` tables have a row per key and capture, others a row per key.
    """
    metadata: dict[str, Any] = {"dagster/column_schema": _schema(table, versioned=versioned)}
    if table_name:
        metadata["dagster/table_name"] = table_name
    if origins:
        metadata["dagster/column_lineage"] = dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(dg.AssetKey(key), name) for key, name in upstream]
                for column, upstream in origins.items()
            }
        )
    return metadata


def _schema(table: Table, *, versioned: bool) -> dg.TableSchema:
    key = ", ".join(table.primary_key)
    references = [f"FOREIGN KEY ({column}) REFERENCES {to}" for column, to in table.foreign_keys.items()]
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=sql_type(column.type),
                description=_column_description(table, column),
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, unique=not versioned and table.primary_key == (column.name,)
                ),
                tags={"personal": ""} if is_personal(column) else {},
            )
            for column in (table.captured_columns if versioned else table.columns)
        ],
        constraints=dg.TableConstraints(
            other=[f"UNIQUE ({key}, {CAPTURED_AT})" if versioned else f"PRIMARY KEY ({key})", *references]
        ),
    )


def _column_description(table: Table, column: pa.Field) -> str:
    to = table.foreign_keys.get(column.name)
    return " ".join(filter(None, [description_of(column), f"References {to}." if to else ""]))


def asset_description(table: Table, grain: str, *paragraphs: str, origins: Origins) -> str:
    """Return the description of an asset: what the table is, what a row is, how to read it, and its column lineage.

    The lineage is a table at the end: the open-source UI shows no other.
    """
    lines = [f"| {column} | {', '.join(map(_qualified, upstream))} |" for column, upstream in origins.items()]
    lineage = "\n".join(["| column | derived from |", "|---|---|", *lines])
    return "\n\n".join([f"{table.description} {grain}", *paragraphs, lineage])


def key_text(table: Table) -> str:
    """Return the columns of the primary key of a table, for a sentence that says what a row is."""
    return ", ".join(f"`{column}`" for column in table.primary_key)


def partition_example(key: Sequence[str]) -> str:
    """Return how the rows of an asset in a partition are read in Python."""
    path = ", ".join(f'"{part}"' for part in key)
    return f"""```python
import pandas
from etl_assets.definitions import defs
defs.load_asset_value([{path}], partition_key=partition, python_type=pandas.DataFrame)
```"""


def docstring_text(function: Callable[..., Any]) -> str:
    """Return the docstring of a function as a description, without the exceptions it raises."""
    text, _, _ = (inspect.getdoc(function) or "").partition("\n\nRaises:")
    return text


def _qualified(origin: tuple[Sequence[str], str]) -> str:
    key, column = origin
    return f"{'/'.join(key)}.{column}"


def preview(table: Table, rows: Iterable[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Return the first rows of a table as metadata, with personal data masked."""
    records = [
        dg.TableRecord({name: masked(table, name, value) for name, value in row.items()})
        for row in islice(rows, PREVIEW_ROWS)
    ]
    schema = dg.TableSchema([dg.TableColumn(name) for name in table.captured_columns.names])
    return dg.MetadataValue.table(records, schema)


def masked_rejection(table: Table, key: str, column: str, value: Any) -> dict[str, Any]:
    """Return the `key` (a JSON object by column) and the `value` of a rejected row, with personal data masked."""
    shown = json.dumps(masked_values(table, json.loads(key)), ensure_ascii=False)
    return {"key": shown, "value": masked(table, column, value)}


def masked_values(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by column, with personal data masked."""
    return {column: MASK if _is_personal(table, column) else value for column, value in values.items()}


def masked(table: Table, column: str, value: Any) -> str | None:
    """Return a value as text that may be shown: truncated to 200 characters, masked if it is personal data."""
    if value is None:
        return None
    if _is_personal(table, column):
        return MASK
    text = str(value)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}…"


def _is_personal(table: Table, column: str) -> bool:
    return column in table.columns.names and is_personal(table.columns.field(column))
