"""Rows against a declaration."""

from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from etl_assets.schema.columns import MONEY, columns, enum, enum_values, optional
from etl_assets.schema.errors import SchemaMismatchError
from etl_assets.schema.table import Table, referenced_first
from etl_assets.schema.validation import validate

NOON = datetime(2024, 8, 22, 12)
ORDER = Table(
    name="order",
    description="An order.",
    primary_key=("order_id",),
    columns=columns(order_id=pa.int32(), price=MONEY, due=pa.date32(), note=optional(pa.string())),
)


def order_rows(**values: list[object]) -> pa.Table:
    valid = {"order_id": [1, 2, 3], "price": ["1.00"] * 3, "due": ["2024-08-22"] * 3, "note": ["a", "", None]}
    return pa.table(valid | values | {"captured_at": pa.array([NOON] * 3, pa.timestamp("us"))})


def test_valid_rows_are_cast_to_the_declared_types() -> None:
    validated = validate(ORDER, order_rows())
    assert validated.rows.schema == ORDER.captured_columns
    assert validated.rows.column("price").to_pylist() == [Decimal("1.00")] * 3
    assert validated.rows.column("note").to_pylist() == ["a", "", None]
    assert validated.rejected.num_rows == 0


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("due", "tomorrow", "cannot be cast to date32[day]"),
        ("due", "2024-02-30", "cannot be cast to date32[day]"),
        ("due", "", "cannot be cast to date32[day]"),
        ("due", None, "is null, but the column is NOT NULL"),
        ("price", "1.001", "cannot be cast to decimal128(10, 2)"),
        ("price", "123456789.00", "cannot be cast to decimal128(10, 2)"),
        ("price", "NaN", "cannot be cast to decimal128(10, 2)"),
    ],
)
def test_an_invalid_row_is_rejected_with_table_key_column_value_and_reason(
    column: str, value: str | None, reason: str
) -> None:
    first, _, third = order_rows().column(column).to_pylist()
    validated = validate(ORDER, order_rows(**{column: [first, value, third]}))
    assert validated.rows.column("order_id").to_pylist() == [1, 3]
    [rejected] = validated.rejected.to_pylist()
    assert rejected["table"] == "order"
    assert rejected["key"] == '{"order_id": 2}'
    assert (rejected["column"], rejected["value"], rejected["reason"]) == (column, value, reason)
    assert rejected["captured_at"] == NOON


def test_a_row_with_two_invalid_values_is_rejected_once_for_each() -> None:
    validated = validate(ORDER, order_rows(due=["2024-08-22", "soon", "2024-08-22"], price=["1.00", None, "1.00"]))
    assert validated.rows.num_rows == 2
    assert sorted(validated.rejected.column("column").to_pylist()) == ["due", "price"]


def test_all_rows_can_be_rejected() -> None:
    validated = validate(ORDER, order_rows(due=["a", "b", "c"]))
    assert validated.rows.num_rows == 0
    assert validated.rejected.num_rows == 3


def test_a_missing_column_raises_an_error_that_names_it() -> None:
    with pytest.raises(SchemaMismatchError, match="order does not match its declaration: column due is missing"):
        validate(ORDER, order_rows().drop_columns("due"))


def test_a_column_whose_type_can_never_be_cast_raises_an_error_that_names_it() -> None:
    with pytest.raises(SchemaMismatchError, match=r"column due is list.*, declared date32"):
        validate(ORDER, order_rows(due=[[1], [2], [3]]))
    with pytest.raises(SchemaMismatchError, match=r"column price is int64, declared decimal128\(10, 2\)"):
        validate(ORDER, order_rows(price=[1, 2, 3]))


def test_a_primary_key_that_is_not_a_column_raises_an_error() -> None:
    with pytest.raises(ValueError, match="order_no"):
        Table(name="x", description="", primary_key=("order_no",), columns=columns(order_id=pa.int32()))


def test_tables_are_ordered_after_those_they_reference() -> None:
    line = Table(
        name="line",
        description="",
        primary_key=("line_id",),
        columns=columns(line_id=pa.int32(), order_id=pa.int32()),
        foreign_keys={"order_id": "order"},
    )
    assert [table.name for table in referenced_first([line, ORDER])] == ["order", "line"]


def test_the_year_0_is_rejected_because_postgresql_does_not_have_it() -> None:
    table = Table(name="t", description="", primary_key=("id",), columns=columns(id=pa.int32(), due=pa.date32()))
    dates = ["0000-01-01", "0001-01-01"]
    validated = validate(
        table, pa.table({"id": [1, 2], "due": dates, "captured_at": pa.array([0, 0], pa.timestamp("us"))})
    )
    assert validated.rows.column("id").to_pylist() == [2]
    assert validated.rejected.column("value").to_pylist() == ["0000-01-01"]


def test_an_enum_is_a_string_column_with_its_values() -> None:
    schema = columns(kind=enum("SALE", "PURCHASE"), name=pa.string())
    assert [enum_values(column) for column in schema] == [("SALE", "PURCHASE"), ()]
    assert schema.field("kind").type == pa.string()
