"""The star tables as pure functions, and their transformation in batches."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.ingestion.csv_files import CapturedRows
from etl_assets.ingestion.manifest import Capture
from etl_assets.schema.columns import columns
from etl_assets.schema.table import Table
from etl_assets.schema.validation import IS_NULL, REJECTED, ValidatedRows, to_pandas, validate
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.checks import checks_of
from etl_assets.transformation.dimensions import dim_counterparty, dim_currency, dim_date, dim_staff, dim_transaction
from etl_assets.transformation.facts import fact_payment, fact_sales_order
from etl_assets.transformation.parquet_files import StarBatches, read_distinct, write_star
from etl_assets.transformation.repeated_keys import REPEATED, SeenKeys
from etl_assets.transformation.star_table import ColumnOf, StarTable, join_dependencies, star_table
from etl_assets.transformation.transform import (
    TransformFailedError,
    TransformStats,
    align,
    transform,
    transform_partition,
)
from etl_assets_tests.harness import NOON, STAMPS, captured_rows
from etl_assets_tests.pipeline import CATALOG, SOURCE, STAR, star_input

ONE = datetime(2024, 8, 22, 13)

ADA = {"staff_id": 7, "first_name": "Ada", "last_name": "Byron", "department_id": 1, "email_address": "ada@x.com"}
SALES = {"department_id": 1, "department_name": "Sales", "location": None, "manager": "Roma"}
ORDER = {
    "sales_order_id": 1, "design_id": 2, "staff_id": 7, "counterparty_id": 4, "units_sold": 5, "unit_price": 3,
    "currency_id": 1, "agreed_delivery_date": "2024-08-25", "agreed_payment_date": "2025-01-02",
    "agreed_delivery_location_id": 9,
}  # fmt: skip


def captured(table: str, *rows: dict[str, Any]) -> pd.DataFrame:
    return to_pandas(captured_rows(table, *rows))


def rows(name: str, frame: pd.DataFrame) -> list[dict[str, Any]]:
    validated = validate(STAR[name], pa.Table.from_pandas(frame, preserve_index=False))
    assert validated.rejected.num_rows == 0
    return list(validated.rows.drop_columns("captured_at").to_pylist())


def test_dim_staff_joins_staff_with_their_department() -> None:
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


def test_rows_are_joined_within_one_capture() -> None:
    staff = captured("staff", ADA, ADA | {"captured_at": ONE})
    department = captured("department", SALES, SALES | {"department_name": "Vending", "captured_at": ONE})
    assert [row["department_name"] for row in rows("dim_staff", dim_staff(staff, department))] == ["Sales", "Vending"]


def test_dim_counterparty_joins_counterparties_with_their_legal_address() -> None:
    company = {"counterparty_id": 3, "counterparty_legal_name": "A, B and Co", "legal_address_id": 9}
    address = {
        "address_id": 9, "address_line_1": "1 Way", "address_line_2": "", "city": "Leeds", "postal_code": "00123",
        "country": "UK", "phone": "0113",
    }  # fmt: skip
    frame = dim_counterparty(captured("counterparty", company), captured("address", address))
    assert rows("dim_counterparty", frame) == [
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


def test_dim_currency_has_iso_4217_names_and_rejects_unknown_codes() -> None:
    codes = ("GBP", "USD", "EUR", "XQX")
    currencies = captured("currency", *({"currency_id": n, "currency_code": code} for n, code in enumerate(codes)))
    validated = validate(dim_currency, pa.Table.from_pandas(dim_currency(currencies)))
    assert validated.rows.column("currency_name").to_pylist() == ["Pound Sterling", "US Dollar", "Euro"]
    assert validated.rejected.column("column").to_pylist() == ["currency_name"]
    assert "XQX" in validated.rejected.column("row")[0].as_py()


def test_dim_transaction_keeps_null_order_ids_as_null_integers() -> None:
    sale = {"transaction_id": 1, "transaction_type": "SALE", "sales_order_id": 11}
    validated = validate(dim_transaction, pa.Table.from_pandas(dim_transaction(captured("transaction", sale))))
    assert validated.rows.schema.field("purchase_order_id").type == pa.int32()
    assert validated.rows.column("purchase_order_id").to_pylist() == [None]


def test_dim_date_has_every_day_of_each_referenced_year_with_iso_weekdays() -> None:
    fact = pa.Table.from_pandas(fact_sales_order(captured("sales_order", ORDER)), preserve_index=False)
    dates = rows("dim_date", dim_date(fact_sales_order=to_pandas(validate(STAR["fact_sales_order"], fact).rows)))
    assert len(dates) == 366 + 365
    assert {row["year"] for row in dates} == {2024, 2025}
    assert all(row["date_id"].isoweekday() == row["day_of_week"] for row in dates)
    leap_day = next(row for row in dates if row["date_id"] == date(2024, 2, 29))
    assert leap_day == {
        "date_id": date(2024, 2, 29), "year": 2024, "month": 2, "day": 29, "day_of_week": 4,
        "day_name": "Thursday", "month_name": "February", "quarter": 1,
    }  # fmt: skip


@pytest.mark.parametrize("year", [1, 9999])
def test_dim_date_has_no_fixed_first_or_last_year(year: int) -> None:
    fact = to_pandas(pa.table({"captured_at": pa.array([NOON], pa.timestamp("us")), "due": [date(year, 6, 1)]}))
    assert len(rows("dim_date", dim_date(fact=fact))) == 365


def test_facts_split_timestamps_to_the_millisecond_and_rename_staff() -> None:
    [row] = rows("fact_sales_order", fact_sales_order(captured("sales_order", ORDER)))
    assert (row["created_date"], row["created_time"]) == (date(2024, 8, 22), time(9, 13, 10, 366_000))
    assert (row["last_updated_date"], row["last_updated_time"]) == (date(2024, 8, 23), time(0))
    assert row["sales_staff_id"] == 7
    assert row["agreed_payment_date"] == date(2025, 1, 2)


def test_account_numbers_are_not_in_the_star() -> None:
    assert "company_ac_number" in SOURCE["payment"].columns.names
    assert not [name for name in fact_payment.columns.names if "ac_number" in name]


@pytest.mark.parametrize("star", STAR_TABLES, ids=lambda star: star.name)
def test_no_function_changes_its_input_and_empty_inputs_give_no_rows(star: Any) -> None:
    inputs = {name: to_pandas(CATALOG[name].captured_columns.empty_table()) for name in star.inputs(STAR_TABLES)}
    before = {name: frame.copy() for name, frame in inputs.items()}
    assert rows(star.name, star(**inputs)) == []
    for name, frame in before.items():
        pd.testing.assert_frame_equal(inputs[name], frame)


def test_joined_tables_are_captured_together() -> None:
    assert {(join.table, join.column, join.to) for join in join_dependencies(CATALOG)} == {
        ("staff", "department_id", "department"),
        ("counterparty", "legal_address_id", "address"),
    }


def test_a_capture_that_is_not_in_all_inputs_is_left_to_the_next_run() -> None:
    first, second = f"2024-08-22-12:00/{NOON:%Y-%m-%d_%H.%M.%S.%f}", f"2024-08-22-13:00/{ONE:%Y-%m-%d_%H.%M.%S.%f}"
    none = REJECTED.empty_table()
    staff = ValidatedRows(captured_rows("staff", ADA), none)
    department = ValidatedRows(captured_rows("department", SALES, SALES | {"captured_at": ONE}), none)
    captures, inputs = align(
        {"staff": (frozenset({first}), staff), "department": (frozenset({first, second}), department)}
    )
    assert transform(dim_staff, inputs).rows.num_rows == 1
    assert captures == {first}


def test_batches_are_transformed_to_the_same_rows_as_a_whole(bucket_url: str) -> None:
    star, none = STAR["fact_sales_order"], REJECTED.empty_table()
    orders = captured_rows(
        "sales_order",
        *(
            ORDER | {"sales_order_id": n, "agreed_payment_date": "soon" if n % 5 == 0 else "2025-01-02"}
            for n in range(9)
        ),
    )
    stats, results = TransformStats(star), []
    for start, size in ((0, 4), (4, 1), (5, 4)):
        batch = {"sales_order": ValidatedRows(orders.slice(start, size), none)}
        results.append(transform(star, batch, first_position=start))
        stats.observe(batch, results[-1])
    whole = transform(star, {"sales_order": ValidatedRows(orders, none)})
    bucket, partition = Bucket(bucket_url), "2024-08-22-12:00"
    write_star(bucket, star.name, partition, StarBatches(star.captured_columns, frozenset({"a"}), results))
    with star_input(bucket, star, partition).open(partition, {"a"}) as file:
        assert file.rows.read(use_threads=False).equals(whole.rows)
        assert file.rejected.equals(whole.rejected)
    assert (stats.rows, stats.input_rows, stats.rejected_rows, len(stats.first_rows)) == (7, 9, 2, 5)
    blocking = [check for check in checks_of(star) if check.blocking]
    assert [check.name for check in blocking] == ["rows_match_capture"]
    assert [check.count(stats) for check in blocking] == [0]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ({"a": pa.int32()}, [(1,), (2,), (-1,), (2**31 - 1,)]),
        ({"a": pa.int64()}, [(2**63 - 1,), (-(2**63),), (0,), (-1,)]),
        ({"a": pa.string()}, [("x",), ("X",), ("",), ("y",)]),
        ({"a": pa.int32(), "b": pa.date32()}, [(1, date.min), (1, date.max), (2, date.min), (2, date.max)]),
    ],
)
def test_a_key_is_repeated_within_its_capture_only(key: dict[str, pa.DataType], values: list[tuple[Any, ...]]) -> None:
    @star_table(primary_key=tuple(key), columns=columns(**key))
    def keys() -> pd.DataFrame:
        """Keys only."""
        raise NotImplementedError

    seen = SeenKeys(keys)

    def add(*rows: tuple[tuple[Any, ...], datetime]) -> None:
        records = [{**dict(zip(key, value, strict=True)), "captured_at": captured_at} for value, captured_at in rows]
        seen.add(pa.Table.from_pylist(records, keys.captured_columns))

    add(*((value, captured_at) for captured_at in (NOON, ONE) for value in values[:3]))
    add((values[3], NOON))
    assert seen.repeated == set()
    add((values[3], NOON), (values[3], ONE), (values[0], ONE))
    assert seen.repeated == {(NOON, values[3]), (ONE, values[0])}
    add((values[1], ONE))
    assert seen.repeated == {(NOON, values[3]), (ONE, values[0]), (ONE, values[1])}


@dataclass(frozen=True, kw_only=True)
class Batches(CapturedRows):
    """Captured rows in small batches."""

    parts: Sequence[ValidatedRows]

    def captures(self, _: str) -> list[Capture]:
        return []

    def read(self, _: Iterable[Capture]) -> Iterator[ValidatedRows]:
        yield from self.parts


def captured_batches(table: Table, *parts: ValidatedRows) -> Batches:
    return Batches(asset="", partitions=(), table=table, open_bucket=lambda: Bucket("file:///nowhere"), parts=parts)


def write(bucket: Bucket, star: StarTable, **inputs: CapturedRows) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write a star table. Return its rows and rejections."""
    partition, observed = "2024-08-22-12:00", list[TransformStats]()
    write_star(bucket, star.name, partition, transform_partition(star, inputs, partition, observed.append))
    [stats] = observed
    assert all(check.count(stats) == 0 for check in checks_of(star) if check.blocking)
    with star_input(bucket, star, partition).open(partition) as file:
        return file.rows.read(use_threads=False).to_pylist(), file.rejected.to_pylist()


def test_all_rows_of_a_repeated_key_are_rejected_from_whichever_batches(bucket_url: str) -> None:
    def batch(*rows: dict[str, Any]) -> ValidatedRows:
        texts = [{"captured_at": NOON, **STAMPS, **ORDER, "unit_price": "3.00", **row} for row in rows]
        return validate(SOURCE["sales_order"], pa.Table.from_pylist(texts))

    orders = captured_batches(
        SOURCE["sales_order"],
        batch({"sales_order_id": 1}, {"sales_order_id": 2}, {"sales_order_id": 3}),
        batch({"sales_order_id": 4}, {"sales_order_id": 1, "units_sold": 6}, {"sales_order_id": 1}),
        batch({"sales_order_id": 4, "unit_price": "dear"}, {"sales_order_id": 5}),
    )
    rows, rejected = write(Bucket(bucket_url), STAR["fact_sales_order"], sales_order=orders)
    assert [row["sales_order_id"] for row in rows] == [2, 3, 5]
    assert [(row["table"], row["key"], row["value"], row["reason"]) for row in rejected] == [
        ("fact_sales_order", '{"sales_order_id": 1}', "1", REPEATED),
        ("fact_sales_order", '{"sales_order_id": 4}', "4", REPEATED),
        ("fact_sales_order", '{"sales_order_id": 1}', "1", REPEATED),
        ("fact_sales_order", '{"sales_order_id": 1}', "1", REPEATED),
        ("sales_order", '{"sales_order_id": 4}', "dear", "cannot be cast to decimal128(10, 2)"),
    ]
    assert [json.loads(row["row"])["units_sold"] for row in rejected] == [5, 5, 6, 5, 5]


def test_all_rows_of_a_repeated_composite_key_are_rejected(bucket_url: str) -> None:
    shelf = Table(
        name="shelf", description="", primary_key=("room", "shelf"), columns=columns(room=pa.string(), shelf=pa.int32())
    )

    @star_table(primary_key=("room", "number"), columns=columns(room=pa.string(), number=pa.int32()))
    def dim_shelf(shelf: pd.DataFrame) -> pd.DataFrame:
        """Shelves."""
        return shelf.rename(columns={"shelf": "number"})

    places = [{"room": room, "shelf": number, "captured_at": NOON} for room, number in ("A1", "A2", "B1", "A1")]
    whole = validate(shelf, pa.Table.from_pylist(places).set_column(1, "shelf", [["1", "2", "1", "1"]]))
    rows, rejected = write(Bucket(bucket_url), dim_shelf, shelf=captured_batches(shelf, whole))
    assert [(row["room"], row["number"]) for row in rows] == [("A", 2), ("B", 1)]
    assert [row["key"] for row in rejected] == ['{"room": "A", "number": 1}'] * 2


def test_a_repeated_key_of_a_lookup_rejects_its_rows_and_those_that_join_to_them(bucket_url: str) -> None:
    none = REJECTED.empty_table()
    staff = [ADA, ADA | {"staff_id": 8, "department_id": 2}]
    department = [SALES, SALES | {"department_name": "Vending"}, SALES | {"department_id": 2}]
    rows, rejected = write(
        Bucket(bucket_url),
        STAR["dim_staff"],
        staff=captured_batches(SOURCE["staff"], ValidatedRows(captured_rows("staff", *staff), none)),
        department=captured_batches(
            SOURCE["department"], ValidatedRows(captured_rows("department", *department), none)
        ),
    )
    assert [row["staff_id"] for row in rows] == [8]
    assert [(row["table"], row["key"], row["reason"]) for row in rejected] == [
        ("department", '{"department_id": 1}', REPEATED),
        ("department", '{"department_id": 1}', REPEATED),
        ("dim_staff", '{"staff_id": 7}', IS_NULL),
    ]


@star_table(primary_key=("number",), record_id="record_id", columns=columns(number=pa.int32(), name=pa.string()))
def fact_design(design: pd.DataFrame) -> pd.DataFrame:
    """Fails for names of many words."""
    for name in design["design_name"]:
        _, _ = name.split(" ")
    return design.rename(columns={"design_id": "number", "design_name": "name"})


def designs(*names: str) -> Batches:
    design = [{"design_id": number, "design_name": name} for number, name in enumerate(names)]
    return captured_batches(SOURCE["design"], ValidatedRows(captured_rows("design", *design), REJECTED.empty_table()))


def test_rows_for_which_the_function_fails_are_rejected_without_the_text_of_the_exception(bucket_url: str) -> None:
    table = replace(fact_design, primary_key=("number",), derived_from={"number": (ColumnOf("design", "design_id"),)})
    rows, rejected = write(Bucket(bucket_url), table, design=designs("A b", "B c d", "C d", "D e", "E"))
    assert [row["name"] for row in rows] == ["A b", "C d", "D e"]
    assert [row["key"] for row in rejected] == ['{"number": 1}', '{"number": 4}']
    reasons = {row["reason"] for row in rejected}
    assert len(reasons) == 1
    assert re.fullmatch(r"fact_design raises ValueError in line \d+ of test_star_tables.py", *reasons)


def test_a_function_that_fails_for_many_rows_fails_the_step(bucket_url: str) -> None:
    table = replace(fact_design, derived_from={"number": (ColumnOf("design", "design_id"),)})
    with pytest.raises(TransformFailedError, match=r"fact_design raises ValueError in line .* correct fact_design"):
        write(Bucket(bucket_url), table, design=designs(*"A" * 300))


def test_dim_date_reads_each_date_of_a_fact_once(bucket_url: str) -> None:
    bucket, partition, star = Bucket(bucket_url), "2024-08-22-12:00", STAR["fact_sales_order"]
    orders = captured_rows("sales_order", *(ORDER | {"sales_order_id": n} for n in range(9)))
    batch = transform(star, {"sales_order": ValidatedRows(orders, REJECTED.empty_table())})
    write_star(bucket, star.name, partition, StarBatches(star.captured_columns, frozenset({"a"}), [batch]))
    with star_input(bucket, star, partition).open(partition) as file:
        assert read_distinct(file, ["agreed_payment_date", "captured_at"]).to_pylist() == [
            {"agreed_payment_date": date(2025, 1, 2), "captured_at": NOON}
        ]
