"""The star tables as pure functions, and their transformation in batches."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.ingestion.csv_files import CapturedRows
from etl_assets.ingestion.manifest import Capture, key_timestamp
from etl_assets.schema.columns import columns
from etl_assets.schema.rows import Rows
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
    transform,
    transform_captures,
    transform_partition,
)
from etl_assets_tests.harness import NOON, STAMPS, captured_rows, write_capture
from etl_assets_tests.pipeline import CATALOG, SOURCE, STAR, captured_input, star_input

ONE = datetime(2024, 8, 22, 13)
PARTITION = "2024-08-22-12:00"
NOON_ID, ONE_ID = (f"{PARTITION}/{key_timestamp(time)}" for time in (NOON, ONE))

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
    id_ = f"{partition}/2024-08-22_12.00.00.000000"
    write_star(bucket, star.name, partition, StarBatches(star.captured_columns, frozenset({id_}), results))
    with star_input(bucket, star, partition).open(partition, {id_}) as file:
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
        ({"a": pa.date32()}, [(date.max,), (date.min,), (date(1970, 1, 1),), (date(1969, 12, 31),)]),
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


def order(id_: int, **values: Any) -> dict[str, Any]:
    return ORDER | {"sales_order_id": id_} | values


def write_orders(bucket: Bucket, ids: set[str], *orders: dict[str, Any], folder: str = "fact_sales_order") -> None:
    """Write a file of orders, each row group of one."""
    star, none = STAR["fact_sales_order"], REJECTED.empty_table()
    batches = [
        transform(star, {"sales_order": ValidatedRows(captured_rows("sales_order", each), none)}) for each in orders
    ]
    partition = None if "/" in folder else PARTITION
    write_star(bucket, folder, partition, StarBatches(star.captured_columns, frozenset(ids), batches))


def test_a_star_table_is_made_from_the_captures_that_all_its_inputs_have(bucket_url: str) -> None:
    bucket, star = Bucket(bucket_url), STAR["fact_sales_order"]
    write_orders(bucket, {NOON_ID}, order(1), folder="fact_sales_order")
    write_orders(bucket, {NOON_ID, ONE_ID}, order(1), order(2, captured_at=ONE), folder="other_fact")
    other = replace(star, name="other_fact")
    inputs = {each.name: star_input(bucket, each, PARTITION) for each in (star, other)}
    batches = transform_partition(STAR["dim_date"], inputs, PARTITION, lambda _: None)
    assert batches.captures == {NOON_ID}
    times = {time for batch in batches.batches for time in batch.rows.column("captured_at").to_pylist()}
    assert times == {NOON}


def test_each_key_of_a_star_table_is_read_once_for_each_capture(bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    days = ["2025-01-02", "2025-01-03", "2025-01-04"]
    orders = [order(n, agreed_payment_date=days[n % 3], captured_at=(NOON, ONE)[n % 2]) for n in range(12)]
    write_orders(bucket, {NOON_ID, ONE_ID}, *orders, order(12, agreed_delivery_date="2024-08-26"))
    keys = ["agreed_payment_date", "agreed_delivery_date"]
    with star_input(bucket, STAR["fact_sales_order"], PARTITION).open(PARTITION) as file:
        read = read_distinct(file, keys, [NOON, ONE]).to_pylist()
        assert {name: {(row["captured_at"], str(row[name])) for row in read} for name in keys} == {
            "agreed_payment_date": {(time, day) for time in (NOON, ONE) for day in days},
            "agreed_delivery_date": {(NOON, "2024-08-25"), (NOON, "2024-08-26"), (ONE, "2024-08-25")},
        }
        assert len(read) == 6
        assert {row["captured_at"] for row in read_distinct(file, keys, [ONE]).to_pylist()} == {ONE}
        assert read_distinct(file, keys, []).num_rows == 0
        assert read_distinct(file, keys, [NOON + timedelta(minutes=1)]).num_rows == 0


CSV = {
    "staff": "staff_id,first_name,last_name,department_id,email_address,created_at,last_updated\n",
    "department": "department_id,department_name,location,manager,created_at,last_updated\n",
    "design": "design_id,created_at,design_name,file_location,file_name,last_updated\n",
}
STAMP = "2024-08-22 09:13:10.366"


@dataclass(frozen=True)
class Made:
    """The rows and rejections of a star table, and what was observed of its chunks."""

    rows: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    stats: list[TransformStats]


def rebuild(bucket: Bucket, star: StarTable, captures: Sequence[Capture]) -> Made:
    """Write a star table of captures to its folder of rebuilds."""
    inputs: dict[str, Rows] = {}
    for name in star.inputs(STAR_TABLES):
        inputs[name] = (
            replace(star_input(bucket, STAR[name], PARTITION), folder=f"rebuilds/{name}")
            if name in STAR
            else captured_input(bucket, SOURCE[name], PARTITION)
        )
    stats: list[TransformStats] = []
    write_star(
        bucket, f"rebuilds/{star.name}", None, transform_captures(star, inputs, captures, stats.append, rule="v")
    )
    with replace(star_input(bucket, star, PARTITION), folder=f"rebuilds/{star.name}").open(
        None, {capture.id for capture in captures}
    ) as file:
        assert file.rule == "v"
        return Made(file.rows.read(use_threads=False).to_pylist(), file.rejected.to_pylist(), stats)


def write_staff(bucket: Bucket, captures: int) -> list[Capture]:
    """Write captures, one a window, in which a department changes its name, and one in three is without staff."""
    return [
        write_capture(
            bucket,
            NOON + timedelta(minutes=15 * n),
            department=f"{CSV['department']}1,Sales {n},,Roma,{STAMP},{STAMP}\n",
            **({} if n % 3 == 0 else {"staff": f"{CSV['staff']}{n},Ada,Byron,1,a@b.com,{STAMP},{STAMP}\n"}),
        )
        for n in range(captures)
    ]


def write_design_captures(bucket: Bucket, *names: Sequence[str]) -> list[Capture]:
    """Write captures of designs with ids that count from 0."""
    return [
        write_capture(
            bucket,
            NOON + timedelta(minutes=15 * number),
            design=CSV["design"] + "".join(f"{n},{STAMP},{name},/a,b,{STAMP}\n" for n, name in enumerate(of_capture)),
        )
        for number, of_capture in enumerate(names)
    ]


@pytest.fixture(params=[1, 3, 200_000])
def chunk_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many rows are transformed together at most."""
    rows = int(request.param)
    monkeypatch.setattr("etl_assets.transformation.transform._MAX_CHUNK_ROWS", rows)
    return rows


def test_many_captures_are_transformed_as_each_partition_alone(bucket_url: str, chunk_rows: int) -> None:
    bucket = Bucket(bucket_url)
    captures = write_staff(bucket, 12)
    made = rebuild(bucket, STAR["dim_staff"], captures)
    alone = []
    for capture in captures:
        inputs = {name: captured_input(bucket, SOURCE[name], capture.partition) for name in ("staff", "department")}
        batches = transform_partition(STAR["dim_staff"], inputs, capture.partition, lambda _: None)
        alone += [row for batch in batches.batches for row in batch.rows.to_pylist()]
    assert made.rows == alone
    assert [row["department_name"] for row in made.rows] == [f"Sales {n}" for n in range(12) if n % 3]
    assert made.rejected == []
    assert len(made.stats) == {1: 12, 3: 8, 200_000: 1}[chunk_rows]
    assert sum(stats.rows for stats in made.stats) == len(made.rows)


def test_no_captures_give_no_rows(bucket_url: str) -> None:
    assert rebuild(Bucket(bucket_url), STAR["dim_staff"], []).rows == []


def test_keys_are_repeated_within_a_capture_of_many_only(bucket_url: str, chunk_rows: int) -> None:
    bucket = Bucket(bucket_url)
    captures = write_design_captures(bucket, *[("a", "b", "c")] * 6)
    for number in (1, 4):
        again = f"{CSV['design']}7,{STAMP},x,/a,b,{STAMP}\n7,{STAMP},y,/a,b,{STAMP}\n8,{STAMP},z,/a,b,{STAMP}\n"
        captures[number] = write_capture(bucket, captures[number].captured_at + timedelta(seconds=1), design=again)
    made = rebuild(bucket, STAR["dim_design"], captures)
    assert [row["design_id"] for row in made.rows] == [0, 1, 2, 8, 0, 1, 2, 0, 1, 2, 8, 0, 1, 2]
    assert [(row["key"], row["reason"]) for row in made.rejected] == [('{"design_id": 7}', REPEATED)] * 4
    assert {row["captured_at"] for row in made.rejected} == {captures[number].captured_at for number in (1, 4)}
    # each capture is observed once, although the stream was started over
    assert len(made.stats) == {1: 6, 3: 6, 200_000: 1}[chunk_rows]
    assert sum(stats.rows for stats in made.stats) == len(made.rows)
    assert sum(stats.input_rows for stats in made.stats) == 18
    assert sum(stats.rejected_rows for stats in made.stats) == 4


def test_a_star_table_of_star_tables_is_made_from_their_files_of_all_captures(bucket_url: str, chunk_rows: int) -> None:
    bucket = Bucket(bucket_url)
    captures = write_design_captures(bucket, *[("a",)] * 5)
    ids = {capture.id for capture in captures}
    orders = [
        order(n, captured_at=capture.captured_at, agreed_payment_date=f"{2025 + n % 2}-01-02")
        for capture in captures
        for n in range(capture.captured_at.minute // 15 + 1)
    ]
    for name in {*STAR["dim_date"].inputs(STAR.values())} - {"fact_sales_order"}:
        empty = StarBatches(STAR[name].captured_columns, frozenset(ids), [])
        write_star(bucket, f"rebuilds/{name}", None, empty)
    write_orders(bucket, ids, *orders, folder="rebuilds/fact_sales_order")
    made = rebuild(bucket, STAR["dim_date"], captures)
    years = sorted({(row["captured_at"], row["year"]) for row in made.rows})
    assert years == sorted(
        {(each["captured_at"], year) for each in orders for year in (2024, int(each["agreed_payment_date"][:4]))}
    )
    assert len(made.rows) == sum(366 if year == 2024 else 365 for _, year in years)
    assert len(made.stats) == (5 if chunk_rows < 1000 else 1)


def test_a_star_table_may_be_made_from_the_rows_of_another(bucket_url: str, chunk_rows: int) -> None:
    @star_table(primary_key=("design_id",), columns=columns(design_id=pa.int32(), design_name=pa.string()))
    def dim_name(dim_design: pd.DataFrame) -> pd.DataFrame:
        """Names of designs."""
        return dim_design

    bucket = Bucket(bucket_url)
    captures = write_design_captures(bucket, "ab", "c", "def")
    rebuild(bucket, STAR["dim_design"], captures)
    made = rebuild(bucket, dim_name, captures)
    assert [(row["captured_at"], row["design_name"]) for row in made.rows] == [
        (capture.captured_at, name)
        for capture, names in zip(captures, ("ab", "c", "def"), strict=True)
        for name in names
    ]
    assert len(made.stats) == (3 if chunk_rows < 1000 else 1)
