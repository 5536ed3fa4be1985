"""The pure functions: rows in, rows out."""

from datetime import date, datetime, time
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.buckets import Bucket
from etl_assets.storage import captures_of, open_star, read_distinct, read_star, with_captures, write_star
from etl_assets.tables import REJECTED, Conformed, columns, conform, frame
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.assets import Made, _checks, joins, same_captures, transform
from etl_assets.transformation.declare import star_table
from etl_assets.transformation.dimensions import dim_counterparty, dim_currency, dim_date, dim_staff, dim_transaction
from etl_assets.transformation.facts import fact_payment, fact_sales_order

NOON, ONE = datetime(2024, 8, 22, 12), datetime(2024, 8, 22, 13)
SOURCE = {table.name: table for table in TOTESYS_TABLES}
STAR = {star.name: star for star in STAR_TABLES}
STAMPS = {"created_at": datetime(2024, 8, 22, 9, 13, 10, 366_000), "last_updated": datetime(2024, 8, 23)}

ADA = {"staff_id": 7, "first_name": "Ada", "last_name": "Byron", "department_id": 1, "email_address": "ada@x.com"}
SALES = {"department_id": 1, "department_name": "Sales", "location": None, "manager": "Roma"}
ORDER = {
    "sales_order_id": 1, "design_id": 2, "staff_id": 7, "counterparty_id": 4, "units_sold": 5, "unit_price": 3,
    "currency_id": 1, "agreed_delivery_date": "2024-08-25", "agreed_payment_date": "2025-01-02",
    "agreed_delivery_location_id": 9,
}  # fmt: skip


def captured_rows(table: str, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"captured_at": NOON} | STAMPS | row for row in rows], schema=SOURCE[table].captured_columns
    )


def captured(table: str, *rows: dict[str, Any]) -> pd.DataFrame:
    return frame(captured_rows(table, *rows))


def rows(name: str, made: pd.DataFrame) -> list[dict[str, Any]]:
    conformed = conform(STAR[name], pa.Table.from_pandas(made, preserve_index=False))
    assert conformed.rejected.num_rows == 0
    return list(conformed.rows.drop_columns("captured_at").to_pylist())


def test_dim_staff_gives_each_member_of_staff_their_department() -> None:
    assert rows("dim_staff", dim_staff(captured("staff", ADA), captured("department", SALES))) == [
        {
            "staff_id": 7,
            "first_name": "Ada",
            "last_name": "Byron",
            "department_name": "Sales",
            "location": None,
            "email_address": "ada@x.com",
        }
    ]


def test_rows_join_within_one_capture() -> None:
    staff = captured("staff", ADA, ADA | {"captured_at": ONE})
    department = captured("department", SALES, SALES | {"department_name": "Vending", "captured_at": ONE})
    assert [row["department_name"] for row in rows("dim_staff", dim_staff(staff, department))] == ["Sales", "Vending"]


def test_dim_counterparty_gives_each_company_its_legal_address() -> None:
    company = {"counterparty_id": 3, "counterparty_legal_name": "A, B and Co", "legal_address_id": 9}
    address = {
        "address_id": 9, "address_line_1": "1 Way", "address_line_2": "", "city": "Leeds", "postal_code": "00123",
        "country": "UK", "phone": "0113",
    }  # fmt: skip
    made = rows("dim_counterparty", dim_counterparty(captured("counterparty", company), captured("address", address)))
    assert made == [
        {
            "counterparty_id": 3,
            "counterparty_legal_name": "A, B and Co",
            "counterparty_legal_address_line_1": "1 Way",
            "counterparty_legal_address_line_2": "",
            "counterparty_legal_district": None,
            "counterparty_legal_city": "Leeds",
            "counterparty_legal_postal_code": "00123",
            "counterparty_legal_country": "UK",
            "counterparty_legal_phone_number": "0113",
        }
    ]


def test_dim_currency_names_currencies_by_iso_4217_and_rejects_what_is_none() -> None:
    codes = ("GBP", "USD", "EUR", "XQX")
    currencies = captured("currency", *({"currency_id": n, "currency_code": code} for n, code in enumerate(codes)))
    made = conform(dim_currency, pa.Table.from_pandas(dim_currency(currencies)))
    assert made.rows.column("currency_name").to_pylist() == ["Pound Sterling", "US Dollar", "Euro"]
    assert made.rejected.column("column").to_pylist() == ["currency_name"]
    assert "XQX" in made.rejected.column("row")[0].as_py()


def test_dim_transaction_keeps_null_order_ids_as_null_integers() -> None:
    sale = {"transaction_id": 1, "transaction_type": "SALE", "sales_order_id": 11}
    made = conform(dim_transaction, pa.Table.from_pandas(dim_transaction(captured("transaction", sale))))
    assert made.rows.schema.field("purchase_order_id").type == pa.int32()
    assert made.rows.column("purchase_order_id").to_pylist() == [None]


def test_dim_date_has_every_day_of_each_year_touched_and_iso_weekdays() -> None:
    facts = captured("sales_order", ORDER)
    fact = pa.Table.from_pandas(fact_sales_order(facts), preserve_index=False)
    made = rows("dim_date", dim_date(fact_sales_order=frame(conform(STAR["fact_sales_order"], fact).rows)))
    assert len(made) == 366 + 365
    assert {row["year"] for row in made} == {2024, 2025}
    assert all(row["date_id"].isoweekday() == row["day_of_week"] for row in made)
    leap_day = next(row for row in made if row["date_id"] == date(2024, 2, 29))
    assert leap_day == {
        "date_id": date(2024, 2, 29), "year": 2024, "month": 2, "day": 29, "day_of_week": 4,
        "day_name": "Thursday", "month_name": "February", "quarter": 1,
    }  # fmt: skip


@pytest.mark.parametrize("year", [1, 9999])
def test_dim_date_has_no_fixed_beginning_or_end(year: int) -> None:
    far = frame(pa.table({"captured_at": pa.array([NOON], pa.timestamp("us")), "due": [date(year, 6, 1)]}))
    assert len(rows("dim_date", dim_date(fact=far))) == 365


def test_facts_split_stamps_to_the_millisecond_and_rename_staff() -> None:
    [made] = rows("fact_sales_order", fact_sales_order(captured("sales_order", ORDER)))
    assert (made["created_date"], made["created_time"]) == (date(2024, 8, 22), time(9, 13, 10, 366_000))
    assert (made["last_updated_date"], made["last_updated_time"]) == (date(2024, 8, 23), time(0))
    assert made["sales_staff_id"] == 7
    assert made["agreed_payment_date"] == date(2025, 1, 2)


def test_account_numbers_stay_in_totesys() -> None:
    assert "company_ac_number" in SOURCE["payment"].columns.names
    assert not [name for name in fact_payment.columns.names if "ac_number" in name]


@pytest.mark.parametrize("star", STAR_TABLES, ids=lambda star: star.name)
def test_no_function_changes_its_input_and_no_rows_give_no_rows(star: Any) -> None:
    schemas = SOURCE | STAR
    given = {name: frame(schemas[name].captured_columns.empty_table()) for name in star.inputs(STAR_TABLES)}
    before = {name: rows_.copy() for name, rows_ in given.items()}
    assert rows(star.name, star(**given)) == []
    for name, unchanged in before.items():
        pd.testing.assert_frame_equal(given[name], unchanged)


def test_tables_are_captured_together_where_a_star_table_joins_them() -> None:
    assert {(join.table, join.column, join.to) for join in joins(STAR_TABLES, TOTESYS_TABLES)} == {
        ("staff", "department_id", "department"),
        ("counterparty", "legal_address_id", "address"),
    }


def test_a_capture_that_came_while_inputs_were_read_waits_for_its_own_run() -> None:
    first, second = f"2024-08-22-12:00/{NOON:%Y-%m-%d_%H.%M.%S.%f}", f"2024-08-22-13:00/{ONE:%Y-%m-%d_%H.%M.%S.%f}"
    none = REJECTED.empty_table()
    staff = with_captures(captured_rows("staff", ADA), [first])
    department = with_captures(captured_rows("department", SALES, SALES | {"captured_at": ONE}), [first, second])
    inputs = same_captures({"staff": Conformed(staff, none), "department": Conformed(department, none)})
    assert transform(dim_staff, inputs).rows.num_rows == 1
    assert {captures_of(given.rows.schema) for given in inputs.values()} == {frozenset({first})}


def test_what_is_made_in_batches_is_as_if_made_at_once(bucket_url: str) -> None:
    star, none = STAR["fact_sales_order"], REJECTED.empty_table()
    orders = captured_rows(
        "sales_order",
        *(
            ORDER | {"sales_order_id": n, "agreed_payment_date": "soon" if n % 5 == 0 else "2025-01-02"}
            for n in range(9)
        ),
    )
    inputs = [{"sales_order": Conformed(orders.slice(start, size), none)} for start, size in ((0, 4), (4, 1), (5, 4))]
    made = Made(star)
    results = [transform(star, given) for given in inputs]
    for given, result in zip(inputs, results, strict=True):
        made.note(given, result)
    whole = transform(star, {"sales_order": Conformed(orders, none)})
    bucket, partition = Bucket(bucket_url), "2024-08-22-12:00"
    write_star(bucket, star, partition, ["a"], results)
    with open_star(bucket, star.name, partition, {"a"}) as file:
        assert read_star(file).equals(whole.rows)
        assert file.rejected.equals(whole.rejected)
    assert (made.rows, made.given, made.set_apart, len(made.first_rows)) == (7, 9, 2, 5)
    assert {check.name: check.count(made) for check in _checks(star) if check.blocking} == {
        "keys_unique": 0,
        "rows_match_capture": 0,
    }
    made.note(inputs[0], results[2])  # three keys that are there
    assert [check.count(made) for check in _checks(star) if check.blocking] == [3, 0]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ({"a": pa.int32()}, [(1,), (2,), (-1,), (2**31 - 1,)]),
        ({"a": pa.int64()}, [(2**63 - 1,), (-(2**63),), (0,), (-1,)]),
        ({"a": pa.string()}, [("x",), ("X",), ("",), ("y",)]),
        ({"a": pa.int32(), "b": pa.date32()}, [(1, date.min), (1, date.max), (2, date.min), (2, date.max)]),
    ],
)
def test_a_key_is_a_duplicate_within_its_capture_alone(
    key: dict[str, pa.DataType], values: list[tuple[Any, ...]]
) -> None:
    @star_table(primary_key=tuple(key), columns=columns(**key))
    def few() -> pd.DataFrame:
        """Few."""
        raise NotImplementedError

    made = Made(few)

    def note(*rows: tuple[tuple[Any, ...], datetime]) -> None:
        given = [{**dict(zip(key, value, strict=True)), "captured_at": at} for value, at in rows]
        batch = Conformed(pa.Table.from_pylist(given, few.captured_columns), REJECTED.empty_table())
        made.note({"few": batch}, batch)

    note(*((value, at) for at in (NOON, ONE) for value in values[:3]))
    note((values[3], NOON))
    assert made.duplicates == 0
    note((values[3], NOON), (values[3], ONE), (values[0], ONE))
    assert made.duplicates == 2


def test_dim_date_needs_of_a_fact_each_date_once(bucket_url: str) -> None:
    bucket, partition, star = Bucket(bucket_url), "2024-08-22-12:00", STAR["fact_sales_order"]
    orders = captured_rows("sales_order", *(ORDER | {"sales_order_id": n} for n in range(9)))
    write_star(
        bucket, star, partition, ["a"], [transform(star, {"sales_order": Conformed(orders, REJECTED.empty_table())})]
    )
    with open_star(bucket, star.name, partition) as file:
        assert read_distinct(file, ["agreed_payment_date", "captured_at"]).to_pylist() == [
            {"agreed_payment_date": date(2025, 1, 2), "captured_at": NOON}
        ]
