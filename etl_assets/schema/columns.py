"""Columns, declared as Arrow fields.

`columns(staff_id=pa.int32())` is NOT NULL; `optional(pa.string())` is nullable; `enum("SALE", "PURCHASE")` allows these
values only; `about("E-mail address.", personal(pa.string()))` documents a column and marks it as personal data.
`renamed_from("customer", pa.int32())` and `missing_as("GBP", pa.string())` say how to read what was captured before the
source renamed or added a column: docs/evolution.md.
"""

import json
from collections.abc import Iterable
from typing import TypeAlias

import pyarrow as pa

CAPTURED_AT = "captured_at"
"""The technical column of every captured row: the time of its capture, UTC by the source's clock."""

CAPTURED_AT_TYPE = pa.timestamp("us")

DELETED, VALID_FROM, VALID_TO = "deleted", "valid_from", "valid_to"
"""The columns of a version: whether its capture found the row gone, and from when until when it was valid."""

MONEY = pa.decimal128(10, 2)

_ENUM = b"enum"
_DESCRIPTION = b"description"
_PERSONAL = b"personal"
_EARLIER_NAME = b"earlier_name"
_MISSING_VALUE = b"missing_value"

AnyColumn: TypeAlias = pa.DataType | pa.Field  # a field without a name


def optional(type_: pa.DataType) -> pa.Field:
    """Declare a nullable column."""
    return pa.field("", type_, nullable=True)


def enum(*values: str) -> pa.Field:
    """Declare a text column that allows these values only."""
    return _with_metadata(pa.string(), _ENUM, json.dumps(values))


def about(description: str, column: AnyColumn) -> pa.Field:
    """Describe what a column holds."""
    return _with_metadata(column, _DESCRIPTION, description)


def personal(column: AnyColumn) -> pa.Field:
    """Mark a column as personal data: its values are masked in metadata, logs and alerts."""
    return _with_metadata(column, _PERSONAL, "")


def renamed_from(name: str, column: AnyColumn) -> pa.Field:
    """Declare the name that a column had before.

    Captures that were made then have a column of the source by that name; a column of a star table is renamed in the
    warehouse.
    """
    return _with_metadata(column, _EARLIER_NAME, name)


def missing_as(value: str, column: AnyColumn) -> pa.Field:
    """Declare what a NOT NULL column holds in captures that were made before the source had it, as text.

    Raises:
        ValueError: the value is not of the column's type.
    """
    pa.array([value]).cast(_field(column).type)
    return _with_metadata(column, _MISSING_VALUE, value)


def _with_metadata(column: AnyColumn, key: bytes, value: str) -> pa.Field:
    field = _field(column)
    return field.with_metadata({**(field.metadata or {}), key: value})


def _field(column: AnyColumn) -> pa.Field:
    return column if isinstance(column, pa.Field) else pa.field("", column, nullable=False)


def columns(**types: AnyColumn) -> pa.Schema:
    """Declare the columns of a table, in order. A column is NOT NULL unless it is `optional`."""
    return pa.schema(_field(column).with_name(name) for name, column in types.items())


def enum_values(column: pa.Field) -> tuple[str, ...]:
    """Return the values an enum column allows; empty for any other column."""
    return tuple(json.loads((column.metadata or {}).get(_ENUM, b"[]")))


def description_of(column: pa.Field) -> str:
    """Return the description of a column; empty if it has none."""
    return str((column.metadata or {}).get(_DESCRIPTION, b""), "utf-8")


def earlier_name(column: pa.Field) -> str | None:
    """Return the name that a column was `renamed_from`, if any."""
    name = (column.metadata or {}).get(_EARLIER_NAME)
    return None if name is None else str(name, "utf-8")


def missing_value(column: pa.Field) -> pa.Scalar | None:
    """Return what a column holds where it was not captured: null if it is nullable; None if it is not declared."""
    value = (column.metadata or {}).get(_MISSING_VALUE)
    if value is not None:
        return pa.array([str(value, "utf-8")]).cast(column.type)[0]
    return pa.scalar(None, column.type) if column.nullable else None


MASK = "•••"
"""Stands for a value that may be personal, wherever it would be shown."""


def is_personal(column: pa.Field) -> bool:
    """Whether a column is marked as personal data."""
    return _PERSONAL in (column.metadata or {})


def with_origins(column: pa.Field, origins: Iterable[pa.Field]) -> pa.Field:
    """Return a column that inherits from the columns it is derived from.

    It takes the description of its only origin if it has none, and is personal if any origin is.
    """
    origins = tuple(origins)
    metadata = dict(column.metadata or {})
    if _DESCRIPTION not in metadata and len(origins) == 1:
        metadata[_DESCRIPTION] = description_of(origins[0]).encode()
    if any(map(is_personal, origins)):
        metadata[_PERSONAL] = b""
    return column.with_metadata(metadata or None)
