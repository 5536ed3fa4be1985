from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from etl_assets.tables import (
    MONEY,
    SchemaMismatchError,
    Table,
    columns,
    conform,
    enum,
    enum_values,
    optional,
    referenced_first,
)

NOON = datetime(2024, 8, 22, 12)
ORDER = Table(
    name="order",
    description="An order.",
    primary_key=("order_id",),
    columns=columns(order_id=pa.int32(), price=MONEY, due=pa.date32(), note=optional(pa.string())),
)


def order_rows(**values: list[object]) -> pa.Table:
    given = {"order_id": [1, 2, 3], "price": ["1.00"] * 3, "due": ["2024-08-22"] * 3, "note": ["a", "", None]}
    return pa.table(given | values | {"captured_at": pa.array([NOON] * 3, pa.timestamp("us"))})


def test_rows_that_fit_are_cast_to_the_declared_types_and_nothing_is_rejected() -> None:
    made = conform(ORDER, order_rows())
    assert made.rows.schema == ORDER.captured_columns
    assert made.rows.column("price").to_pylist() == [Decimal("1.00")] * 3
    assert made.rows.column("note").to_pylist() == ["a", "", None]
    assert made.rejected.num_rows == 0


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("due", "tomorrow", "cannot be read as date32[day]"),
        ("due", "2024-02-30", "cannot be read as date32[day]"),
        ("due", "", "cannot be read as date32[day]"),
        ("due", None, "is null, and may not be"),
        ("price", "1.001", "cannot be read as decimal128(10, 2)"),
        ("price", "123456789.00", "cannot be read as decimal128(10, 2)"),
        ("price", "NaN", "cannot be read as decimal128(10, 2)"),
    ],
)
def test_a_row_that_does_not_fit_is_set_apart_with_table_key_column_value_and_reason(
    column: str, value: str | None, reason: str
) -> None:
    good = order_rows().column(column).to_pylist()
    made = conform(ORDER, order_rows(**{column: [good[0], value, good[2]]}))
    assert made.rows.column("order_id").to_pylist() == [1, 3]
    [rejected] = made.rejected.to_pylist()
    assert rejected["table"] == "order"
    assert rejected["key"] == '{"order_id": 2}'
    assert (rejected["column"], rejected["value"], rejected["reason"]) == (column, value, reason)
    assert rejected["captured_at"] == NOON


def test_a_row_with_two_faults_is_rejected_once_for_each() -> None:
    made = conform(ORDER, order_rows(due=["2024-08-22", "soon", "2024-08-22"], price=["1.00", None, "1.00"]))
    assert made.rows.num_rows == 2
    assert sorted(made.rejected.column("column").to_pylist()) == ["due", "price"]


def test_every_row_may_be_rejected() -> None:
    made = conform(ORDER, order_rows(due=["a", "b", "c"]))
    assert made.rows.num_rows == 0
    assert made.rejected.num_rows == 3


def test_a_missing_column_is_named() -> None:
    with pytest.raises(SchemaMismatchError, match="order is not as declared: column due is missing"):
        conform(ORDER, order_rows().drop_columns("due"))


def test_a_column_of_a_type_that_never_casts_is_named() -> None:
    with pytest.raises(SchemaMismatchError, match=r"column due is list.*, declared date32"):
        conform(ORDER, order_rows(due=[[1], [2], [3]]))


def test_a_key_that_names_no_column_is_refused() -> None:
    with pytest.raises(ValueError, match="order_no"):
        Table(name="x", description="", primary_key=("order_no",), columns=columns(order_id=pa.int32()))


def test_tables_are_ordered_after_those_they_refer_to() -> None:
    line = Table(
        name="line",
        description="",
        primary_key=("line_id",),
        columns=columns(line_id=pa.int32(), order_id=pa.int32()),
        foreign_keys={"order_id": "order"},
    )
    assert [table.name for table in referenced_first([line, ORDER])] == ["order", "line"]


def test_the_year_0_is_rejected_because_postgresql_has_none() -> None:
    table = Table(name="t", description="", primary_key=("id",), columns=columns(id=pa.int32(), due=pa.date32()))
    given = pa.table(
        {"id": [1, 2], "due": ["0000-01-01", "0001-01-01"], "captured_at": pa.array([0, 0], pa.timestamp("us"))}
    )
    made = conform(table, given)
    assert made.rows.column("id").to_pylist() == [2]
    assert made.rejected.column("value").to_pylist() == ["0000-01-01"]


def test_an_enum_keeps_its_values_with_the_column() -> None:
    schema = columns(kind=enum("SALE", "PURCHASE"), name=pa.string())
    assert [enum_values(column) for column in schema] == [("SALE", "PURCHASE"), ()]
    assert schema.field("kind").type == pa.string()
