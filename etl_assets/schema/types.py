"""One mapping between Arrow, PostgreSQL and CSV: a new column type is one more entry here and nowhere else."""

import re
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

_SQL_TYPES = {
    pa.bool_(): "boolean",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "character varying",
    pa.date32(): "date",
    pa.time64("us"): "time without time zone",
    pa.timestamp("us"): "timestamp without time zone",
    pa.timestamp("ms"): "timestamp(3) without time zone",
}
_ARROW_TYPES = {sql: arrow for arrow, sql in _SQL_TYPES.items()} | {"text": pa.string()}


def sql_type(type_: pa.DataType) -> str:
    """Return the PostgreSQL type that holds an Arrow type without loss.

    Raises:
        KeyError: there is none.
    """
    if pa.types.is_decimal(type_):
        return f"numeric({type_.precision},{type_.scale})"
    return _SQL_TYPES[type_]


def arrow_type(sql: str, *, is_enum: bool) -> pa.DataType | None:
    """Return the Arrow type that holds a PostgreSQL type without loss, or None if there is none.

    `sql` is the type as PostgreSQL's `format_type` prints it.
    """
    if is_enum or re.fullmatch(r"character( varying)?\(\d+\)", sql):
        return pa.string()
    if numeric := re.fullmatch(r"numeric\((\d+),(\d+)\)", sql):
        return pa.decimal128(int(numeric[1]), int(numeric[2]))
    return _ARROW_TYPES.get(sql)


_WIDER = {pa.int16(): (pa.int32(), pa.int64()), pa.int32(): (pa.int64(),), pa.float32(): (pa.float64(),)}


def is_wider(new: pa.DataType, old: pa.DataType | None) -> bool:
    """Whether a type holds every value of another one, as the same number."""
    if old is not None and pa.types.is_decimal(new) and pa.types.is_decimal(old):
        more_integer_digits = (new.precision - new.scale) - (old.precision - old.scale)
        return new != old and new.scale >= old.scale and bool(more_integer_digits >= 0)
    return new in _WIDER.get(old, ())


def lenient_csv_type(type_: pa.DataType) -> pa.DataType:
    """Return a type that reads every value PostgreSQL can write into a column of this type.

    PostgreSQL has values that Arrow lacks: infinity, NaN as numeric, bytes that are not UTF-8 (SQL_ASCII).
    """
    if pa.types.is_string(type_):
        return pa.binary()
    return pa.string() if pa.types.is_temporal(type_) or pa.types.is_decimal(type_) else type_


def cast_exactly(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    """Return the column cast without loss, to values that Arrow and PostgreSQL share.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit.
        pyarrow.ArrowNotImplementedError: there is no cast between the two types.
    """
    cast = column.cast(type_)
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        earliest = pa.scalar(date.min, pa.date32()).cast(type_)
        if pc.any(pc.less(cast, earliest)).as_py():
            raise pa.ArrowInvalid("year 0 exists in Arrow only, not in PostgreSQL or Python")
    return cast
