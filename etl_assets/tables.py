"""The schema vocabulary: what a table is, in Arrow types, and the one boundary where rows are made to fit.

A column is an Arrow field: `columns(staff_id=pa.int32())` may not be null, `optional(pa.string())` may,
`enum("SALE", "PURCHASE")` is one of these texts, `about("Their e-mail address.", personal(pa.string()))` says what it
holds and that it tells of a person.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from graphlib import TopologicalSorter
from typing import TypeAlias, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.errors import PermanentError

CAPTURED_AT = "captured_at"
"""The technical column of every captured row: when its capture was made, UTC by the source's clock."""

CAPTURED_AT_TYPE = pa.timestamp("us")

MONEY = pa.decimal128(10, 2)

_ENUM = b"enum"
_DESCRIPTION = b"description"
_PERSONAL = b"personal"


@dataclass(frozen=True)
class _Column:
    type: pa.DataType
    nullable: bool = False
    values: tuple[str, ...] = ()
    description: str = ""
    personal: bool = False


AnyColumn: TypeAlias = pa.DataType | _Column


def optional(type_: pa.DataType) -> _Column:
    """Declare that a column of this type may be null."""
    return _Column(type_, nullable=True)


def enum(*values: str) -> _Column:
    """Declare that a column is text, one of these values."""
    return _Column(pa.string(), values=values)


def about(description: str, column: AnyColumn) -> _Column:
    """Say what a column holds."""
    return replace(_column(column), description=description)


def personal(column: AnyColumn) -> _Column:
    """Declare that a column tells of a person: its values are shown to nobody who does not ask for them."""
    return replace(_column(column), personal=True)


def _column(declared: AnyColumn) -> _Column:
    return declared if isinstance(declared, _Column) else _Column(declared)


def columns(**types: AnyColumn) -> pa.Schema:
    """Declare the columns of a table, in order; none may be null unless `optional`."""
    return pa.schema(_field(name, _column(type_)) for name, type_ in types.items())


def _field(name: str, column: _Column) -> pa.Field:
    metadata: dict[bytes, str] = {}
    if column.values:
        metadata[_ENUM] = json.dumps(column.values)
    if column.description:
        metadata[_DESCRIPTION] = column.description
    if column.personal:
        metadata[_PERSONAL] = ""
    return pa.field(name, column.type, column.nullable, metadata or None)


def enum_values(column: pa.Field) -> tuple[str, ...]:
    """Give the values that a column was declared to have; none if it is no enum."""
    return tuple(json.loads((column.metadata or {}).get(_ENUM, b"[]")))


def description_of(column: pa.Field) -> str:
    """Give what a column was declared to hold; empty if that was not said."""
    return str((column.metadata or {}).get(_DESCRIPTION, b""), "utf-8")


def is_personal(column: pa.Field) -> bool:
    """Tell whether a column was declared to tell of a person."""
    return _PERSONAL in (column.metadata or {})


def inherited(column: pa.Field, origins: Iterable[pa.Field]) -> pa.Field:
    """Give a column with the description of the one it is made of, if it has none, and personal if any of them is."""
    origins = tuple(origins)
    noted = dict(column.metadata or {})
    if _DESCRIPTION not in noted and len(origins) == 1:
        noted[_DESCRIPTION] = description_of(origins[0]).encode()
    if any(map(is_personal, origins)):
        noted[_PERSONAL] = b""
    return column.with_metadata(noted or None)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, declared once. Casts, DDL, catalogue and checks are all read off it.

    `foreign_keys` maps a column to the table whose (single-column) primary key it holds.
    """

    name: str
    description: str
    primary_key: tuple[str, ...]
    columns: pa.Schema
    foreign_keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = {*self.primary_key, *self.foreign_keys} - set(self.columns.names)
        if unknown or not self.primary_key:
            raise ValueError(f"{self.name}: keys name no column: {sorted(unknown)}")

    @property
    def captured_columns(self) -> pa.Schema:
        """Its columns, and `captured_at` at the end."""
        return self.columns.append(
            _field(CAPTURED_AT, about("When its capture was made, UTC by the source's clock.", CAPTURED_AT_TYPE))
        )


AnyTable = TypeVar("AnyTable", bound=Table)


def referenced_first(tables: Iterable[AnyTable]) -> list[AnyTable]:
    """Put every table after those that its foreign keys refer to."""
    by_name = {table.name: table for table in tables}
    order = TopologicalSorter({name: {*table.foreign_keys.values()} - {name} for name, table in by_name.items()})
    return [by_name[name] for name in order.static_order()]


class SchemaMismatchError(PermanentError):
    """Tables are not as declared. `problems` holds one line for each table and column."""

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        super().__init__(f"{where} is not as declared: {'; '.join(self.problems)}")


IS_NULL = "is null, and may not be"
"""Why a row was rejected."""

REJECTED = pa.schema(
    [
        pa.field(CAPTURED_AT, CAPTURED_AT_TYPE),
        pa.field("table", pa.string()),
        pa.field("key", pa.string()),  # JSON object of the primary key
        pa.field("column", pa.string()),
        pa.field("value", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("row", pa.string()),  # JSON object of the whole row, without captured_at
    ]
)


@dataclass(frozen=True)
class Conformed:
    """Rows that fit a declaration, and the cells for which other rows were set apart (schema `REJECTED`)."""

    rows: pa.Table
    rejected: pa.Table


def concat(parts: Iterable[Conformed], table: Table) -> Conformed:
    """Join the parts of one table; no part gives no rows, typed."""
    parts = tuple(parts)
    return Conformed(
        pa.concat_tables([table.captured_columns.empty_table(), *(part.rows for part in parts)]),
        pa.concat_tables([REJECTED.empty_table(), *(part.rejected for part in parts)]),
    )


def frame(rows: pa.Table) -> pd.DataFrame:
    """Give rows as a pandas frame of the same Arrow types."""
    converted: pd.DataFrame = rows.to_pandas(types_mapper=pd.ArrowDtype, use_threads=False)
    return converted


def conform(table: Table, rows: pa.Table) -> Conformed:
    """Cast rows to the declared columns and `captured_at`; set apart those that cannot be.

    A row is rejected when a value cannot be cast without loss, or is null where none may be.
    Columns beyond the declared ones are left out.

    Raises:
        SchemaMismatchError: a declared column is not among the rows', or is of a type that never casts.
    """
    schema = table.captured_columns
    missing = [name for name in schema.names if name not in rows.column_names]
    if missing:
        raise SchemaMismatchError(table.name, (f"column {name} is missing" for name in missing))
    rows = rows.select(schema.names)
    cast_columns: list[pa.ChunkedArray] = []
    rejections: list[tuple[int, str, str]] = []
    for declared in schema:
        column, faulty = _cast(table, rows.column(declared.name), declared)
        cast_columns.append(column)
        rejections += [(index, declared.name, f"cannot be read as {declared.type}") for index in faulty]
        if not declared.nullable and column.null_count > len(faulty):
            nulls = pc.indices_nonzero(pc.is_null(column)).to_pylist()
            rejections += [(i, declared.name, IS_NULL) for i in sorted({*nulls} - {*faulty})]
    if not rejections:
        return Conformed(pa.table(cast_columns, schema=schema), REJECTED.empty_table())
    rejected_rows = {index for index, _, _ in rejections}
    kept = pa.array([i for i in range(rows.num_rows) if i not in rejected_rows], pa.int64())
    good = pa.table([column.take(kept) for column in cast_columns], schema=schema)
    return Conformed(good, _rejected(table, rows, rejections))


def _cast(table: Table, column: pa.ChunkedArray, declared: pa.Field) -> tuple[pa.ChunkedArray, list[int]]:
    """Cast a column; give also the indices that would not cast, which are null in the result."""
    try:
        return _exactly(column, declared.type), []
    except pa.ArrowNotImplementedError as error:
        problem = f"column {declared.name} is {column.type}, declared {declared.type}"
        raise SchemaMismatchError(table.name, [problem]) from error
    except pa.ArrowInvalid:
        faulty = list(_faulty(column, declared.type, 0))
        is_faulty = pc.is_in(pa.array(range(len(column)), pa.int64()), pa.array(faulty, pa.int64()))
        return pc.if_else(is_faulty, pa.scalar(None, column.type), column).cast(declared.type), faulty


def _exactly(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    cast = column.cast(type_)
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        earliest = pa.scalar(date.min, pa.date32()).cast(type_)
        if pc.any(pc.less(cast, earliest)).as_py():
            raise pa.ArrowInvalid("there is no year 0")  # Arrow has one, PostgreSQL and Python have not
    return cast


def _faulty(column: pa.ChunkedArray, type_: pa.DataType, offset: int) -> Iterator[int]:
    """Find the values that do not cast, by halving what does not."""
    try:
        _exactly(column, type_)
    except pa.ArrowInvalid:
        if len(column) == 1:
            yield offset
        else:
            half = len(column) // 2
            yield from _faulty(column.slice(0, half), type_, offset)
            yield from _faulty(column.slice(half), type_, offset + half)


def _rejected(table: Table, rows: pa.Table, rejections: list[tuple[int, str, str]]) -> pa.Table:
    records = []
    for index, column, reason in sorted(rejections):
        row = rows.slice(index, 1).to_pylist()[0]
        records.append(
            {
                CAPTURED_AT: row.pop(CAPTURED_AT),
                "table": table.name,
                "key": json.dumps({name: row[name] for name in table.primary_key}, default=str),
                "column": column,
                "value": None if row[column] is None else str(row[column]),
                "reason": reason,
                "row": json.dumps(row, default=str, ensure_ascii=False),
            }
        )
    return pa.Table.from_pylist(records, schema=REJECTED)
