"""The one boundary where rows are cast to their declaration, or rejected with a reason."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE
from etl_assets.schema.errors import SchemaMismatchError
from etl_assets.schema.table import Table
from etl_assets.schema.types import cast_exactly

IS_NULL = "is null, but the column is NOT NULL"
"""The reason of a row rejected for a null."""

REJECTED = pa.schema(
    [
        pa.field(CAPTURED_AT, CAPTURED_AT_TYPE),
        pa.field("table", pa.string()),
        pa.field("key", pa.string()),  # JSON object of the primary key
        pa.field("column", pa.string()),
        pa.field("value", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("row", pa.string()),  # JSON object of the whole row, without captured_at
        pa.field("position", pa.int64()),  # of the row among those read or made of its table: tells equal rows apart
    ]
)
"""The schema of rejections: one row per cell that does not fit its column."""


@dataclass(frozen=True, order=True)
class Rejection:
    """The index of a row, the column at fault and the reason."""

    index: int
    column: str
    reason: str


@dataclass(frozen=True)
class ValidatedRows:
    """Rows that fit their declaration, and the rejections (schema `REJECTED`) of those that do not."""

    rows: pa.Table
    rejected: pa.Table


def concat(parts: Iterable[ValidatedRows], table: Table) -> ValidatedRows:
    """Return the parts of one table as one. No parts give no rows, with the declared types."""
    parts = tuple(parts)
    return ValidatedRows(
        pa.concat_tables([table.captured_columns.empty_table(), *(part.rows for part in parts)]),
        pa.concat_tables([REJECTED.empty_table(), *(part.rejected for part in parts)]),
    )


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """Return rows as a frame with the same Arrow types (`pandas.ArrowDtype`)."""
    frame: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype, use_threads=False)
    return frame


def validate(table: Table, rows: pa.Table, first_position: int = 0) -> ValidatedRows:
    """Cast rows to the declared columns and `captured_at`, and reject those that do not fit.

    A row is rejected if a value cannot be cast without loss, or is null in a NOT NULL column. Columns that are not
    declared are dropped. `first_position` is the number of rows before these.

    Raises:
        SchemaMismatchError: a declared column is missing, or has a type that never casts.
    """
    schema = table.captured_columns
    missing = [name for name in schema.names if name not in rows.column_names]
    if missing:
        raise SchemaMismatchError(table.name, (f"column {name} is missing" for name in missing))
    rows = rows.select(schema.names)
    cast_columns: list[pa.ChunkedArray] = []
    found: list[Rejection] = []
    for declared in schema:
        column, invalid = _cast(table, rows.column(declared.name), declared)
        cast_columns.append(column)
        found += [Rejection(index, declared.name, f"cannot be cast to {declared.type}") for index in invalid]
        if not declared.nullable and column.null_count > len(invalid):
            nulls = pc.indices_nonzero(pc.is_null(column)).to_pylist()
            found += [Rejection(index, declared.name, IS_NULL) for index in sorted({*nulls} - {*invalid})]
    if not found:
        return ValidatedRows(pa.table(cast_columns, schema=schema), REJECTED.empty_table())
    is_rejected = is_at(rows.num_rows, {rejection.index for rejection in found})
    valid_rows = pa.table(cast_columns, schema=schema).filter(pc.invert(is_rejected))
    return ValidatedRows(valid_rows, rejections(table.name, table.primary_key, rows, found, first_position))


def _cast(table: Table, column: pa.ChunkedArray, declared: pa.Field) -> tuple[pa.ChunkedArray, list[int]]:
    """Return the column cast, and the indices of the values that do not cast, which are null in it."""
    try:
        cast_exactly(pa.chunked_array([pa.nulls(1, column.type)]), declared.type)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        problem = f"column {declared.name} is {column.type}, declared {declared.type}"
        raise SchemaMismatchError(table.name, [problem]) from error
    try:
        return cast_exactly(column, declared.type), []
    except pa.ArrowInvalid:
        invalid = list(_invalid_indices(column, declared.type, 0))
        return pc.if_else(is_at(len(column), invalid), pa.scalar(None, column.type), column).cast(
            declared.type
        ), invalid


def _invalid_indices(column: pa.ChunkedArray, type_: pa.DataType, offset: int) -> Iterator[int]:
    """Bisect a column for the values that do not cast; yield their indices, plus `offset`."""
    try:
        cast_exactly(column, type_)
    except pa.ArrowInvalid:
        if len(column) == 1:
            yield offset
        else:
            half = len(column) // 2
            yield from _invalid_indices(column.slice(0, half), type_, offset)
            yield from _invalid_indices(column.slice(half), type_, offset + half)


def is_at(length: int, indices: Iterable[int]) -> pa.Array:
    """Return for each position below `length` whether it is one of the indices."""
    return pc.is_in(pa.array(range(length), pa.int64()), pa.array(indices, pa.int64()))


def rejections(
    table: str, key: Iterable[str], rows: pa.Table, found: Iterable[Rejection], first_position: int
) -> pa.Table:
    """Return the rejections of rows of a table (schema `REJECTED`), which are identified by the columns of `key`."""
    key = tuple(key)
    found = sorted(found)
    records = []
    rows_at_fault = rows.take(pa.array([rejection.index for rejection in found], pa.int64())).to_pylist()
    for rejection, row in zip(found, rows_at_fault, strict=True):
        row = {name: _text(value) if isinstance(value, bytes) else value for name, value in row.items()}
        records.append(
            {
                CAPTURED_AT: row.pop(CAPTURED_AT),
                "table": table,
                "key": json.dumps({name: row[name] for name in key}, default=str),
                "column": rejection.column,
                "value": None if row[rejection.column] is None else str(row[rejection.column]),
                "reason": rejection.reason,
                "row": json.dumps(row, default=str, ensure_ascii=False),
                "position": first_position + rejection.index,
            }
        )
    return pa.Table.from_pylist(records, schema=REJECTED)


def _text(value: bytes) -> str:
    """Return bytes of any encoding as text: of a SQL_ASCII database, or of columns read leniently."""
    return value.decode(errors="backslashreplace")
