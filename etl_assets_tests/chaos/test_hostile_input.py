"""Every value that PostgreSQL can store is loaded exactly, or quarantined with a reason."""

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from etl_assets.adapters.postgres import connect
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED
from etl_assets_tests.harness import Platform

pytestmark = pytest.mark.chaos

DATES = [
    "2024-02-29", "1900-01-01", "0001-01-01", "9999-12-31", "1677-09-20", "1677-09-21", "2262-04-11", "2262-04-12",
    "1582-10-10", "1970-01-01", "1969-12-31", "2000-02-29", "2038-01-19", "2100-02-28", "4712-01-01", "2024-12-31",
    "0000-00-00", "0000-01-01", "2024-02-30", "2023-02-29", "2100-02-29", "1900-02-29", "2024-00-10", "2024-13-01",
    "2024-01-00", "2024-01-32", "10000-01-01", "-0001-01-01", "+2024-01-01", "99999-12-31", "5874897-12-31",
    "tomorrow", "today", "now", "yesterday", "epoch", "infinity", "-infinity", "allballs", "null", "NULL", "None",
    "NaN", "NaT", "nat", "n/a", "-", "?", "0", "1", "20240101", "240101", "2024-1-1", "2024-01-1", "2024-1-01",
    "01-01-2024", "01/01/2024", "2024/01/01", "2024.01.01", "1 January 2024", "Jan 1, 2024", "2024-01-01T00:00:00",
    "2024-01-01 00:00:00", "2024-01-01Z", "2024-01-01+00", "2024-W01-1", "2024-001", "2024-01", "2024", "",
    " ", " 2024-01-01", "2024-01-01 ", "2024-01-01\n", "\t2024-01-01", "2024-01-01\u0001", "２０２４-０１-０１",
    "٢٠٢٤-٠١-٠١", "2024–01–01", "2024‑01‑01", "1704067200", "1e9", "0x7e8-01-01", "2024-01-01 BC", "0044-03-15 BC",
    "2024-01-01; DROP TABLE payment", "''", '"2024-01-01"', "2024-01-01,", "\ufeff2024-01-01", "2024-01-\u0661",
    "9" * 400,
]  # fmt: skip
TIMES = [
    "infinity", "-infinity", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999", "10000-01-01 00:00:00",
    "294276-12-31 23:59:59.999", "4713-01-01 00:00:00 BC", "0044-03-15 12:00:00 BC", "0001-12-31 00:00:00 BC",
    "1677-09-21 00:12:43.145", "1677-09-21 00:12:43.144", "2262-04-11 23:47:16.854", "2262-04-11 23:47:16.855",
    "1582-10-10 00:00:00", "1969-12-31 23:59:59.999", "1970-01-01 00:00:00.001", "2024-02-29 23:59:59.999",
    "2024-03-31 01:30:00", "2024-10-27 01:30:00", "2016-12-31 23:59:59.999", "2038-01-19 03:14:08",
]  # fmt: skip
AMOUNTS = [
    "NaN", "0.00", "-0.00", "0.01", "-0.01", "99999999.99", "-99999999.99", "0.10", "1.005", "33333333.33",
    "12345678.90", "0.3",
]  # fmt: skip
INTEGERS = ["0", "-1", "1", "2147483647", "-2147483648", "2147483646", "999999999"]
TEXTS = [
    *(chr(code) for code in range(1, 32)), "\x7f", "\u0080", "\u0085", "\u00a0", "\u00ad", "\u200b", "\u200d",
    "\u2028", "\u2029", "\u202e", "\ud7ff", "\ue000", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\U0001f45c",
    "\U0010ffff", "e\u0301", "é", "ﬀ", "İ", "ß", "𝒳",
    "👩‍👩‍👧‍👧", "ا" * 50, "", " ", "  two  ", "\\N", "\\.", "NULL", "null", "nan",
    "None", "true", "t", "007", "1e5", "0x10", "-0", "+1", "1,5", '"', '""', '"""', "'", "''", '","', '"\n"', "\r\n",
    "\n", "\r", "a\rb", "a\nb", 'a"\n"b', ",", ",,,", ";", "\t", "a\tb", "\\", "\\n", "\\x00", "#comment", "--", "/*",
    "=1+1", "@SUM(A1)", "%s", "{}", "${x}", "<b>", "&amp;", "[]", '{"a": null}', "x" * 1_000_000, '"' * 10_000,
    "\r\n" * 10_000, "é" * 300_000,
]  # fmt: skip


def test_every_value_is_loaded_exactly_or_quarantined_with_a_reason(
    platform: Platform, figures: Callable[..., None]
) -> None:
    platform.totesys("ALTER TABLE payment DROP CONSTRAINT payment_transaction_id_key")
    insert(platform, "payment", "payment_date", DATES, 10_000)
    insert(platform, "payment", "created_at", TIMES, 20_000)
    insert(platform, "payment", "last_updated", TIMES, 30_000)
    insert(platform, "payment", "payment_amount", AMOUNTS, 40_000)
    insert(platform, "sales_order", "agreed_delivery_date", DATES, 10_000)
    insert(platform, "sales_order", "units_sold", INTEGERS, 20_000)
    insert(platform, "design", "file_name", TEXTS, 10_000)
    insert(platform, "design", "last_updated", TIMES, 20_000)
    platform.run()
    rejected = {
        (table, next(iter(key.values())), column): (value, reason)
        for table, key, column, value, reason in platform.warehouse(
            'SELECT star_table, key, "column", value, reason FROM warehouse.rejected'
        )
    }
    loaded = quarantined = 0
    for star, key, column, values, first, expected in (
        ("fact_payment", "payment_id", "payment_date", DATES, 10_000, iso_date),
        ("fact_payment", "payment_id", "created_at", TIMES, 20_000, supported_time),
        ("fact_payment", "payment_id", "last_updated", TIMES, 30_000, supported_time),
        ("fact_payment", "payment_id", "payment_amount", AMOUNTS, 40_000, amount),
        ("fact_sales_order", "sales_order_id", "agreed_delivery_date", DATES, 10_000, iso_date),
        ("fact_sales_order", "sales_order_id", "units_sold", INTEGERS, 20_000, int),
        ("dim_design", "design_id", "file_name", TEXTS, 10_000, str),
        ("dim_design", "design_id", "last_updated", TIMES, 20_000, is_loaded),
    ):
        loaded_values = values_in_warehouse(platform, star, key, column)
        for number, value in enumerate(values, first):
            expected_value = expected(value)
            if expected_value is None:
                rejected_value, reason = rejected[star, number, column]
                assert number not in loaded_values, f"{star}.{column}: {value!r} was loaded"
                assert rejected_value == value_in_totesys(platform, star, key, column, number)
                assert reason
                quarantined += 1
            else:
                assert loaded_values[number] == expected_value, f"{star}.{column}: {value!r}"
                assert (star, number, column) not in rejected
                loaded += 1
    total = loaded + quarantined
    assert total >= 200
    assert len(rejected) == quarantined
    figures(faults_tried=total, faults_survived=total, loaded_exactly=loaded, quarantined=quarantined)


def insert(platform: Platform, table: str, column: str, values: list[str], first: int) -> None:
    """Insert a copy of row 1 for each value."""
    with connect(platform.totesys_url) as connection:
        for number, value in enumerate(values, first):
            connection.run(
                f"""INSERT INTO {table} SELECT (jsonb_populate_record({table}, jsonb_build_object(
                        '{table}_id', CAST(:number AS integer), '{column}', CAST(:value AS text)))).*
                    FROM {table} WHERE {table}_id = 1""",
                number=number,
                value=value,
            )


def values_in_warehouse(platform: Platform, star: str, key: str, column: str) -> dict[int, Any]:
    if column in ("created_at", "last_updated"):
        stem = column.removesuffix("_at")
        value = "true" if star == "dim_design" else f"({stem}_date + {stem}_time)::text"
    else:
        value = f"{column}::text" if column == "payment_date" or column.startswith("agreed") else column
    return dict(map(tuple, platform.warehouse(f"SELECT {key}, {value} FROM warehouse.{star}")))


def value_in_totesys(platform: Platform, star: str, key: str, column: str, number: int) -> str:
    table = star.partition("_")[2]
    return str(platform.totesys(f"SELECT {column}::text FROM {table} WHERE {key} = :n", n=number)[0][0])


def iso_date(text: str) -> str | None:
    """Return a date of the years 1 to 9999 written as yyyy-mm-dd; None for any other text."""
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return None
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return None


def supported_time(text: str) -> Any:
    if text.endswith("BC") or "infinity" in text or not re.match(r"[0-9]{4}-", text):
        return None
    return text


def is_loaded(text: str) -> bool | None:
    """Return True if the row of a dimension is loaded: the dimension does not have the time."""
    return True if supported_time(text) else None


def amount(text: str) -> Decimal | None:
    return None if text == "NaN" else round(Decimal(text) + Decimal("0.000001"), 2)


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "LATIN9"])
def test_text_of_another_encoding_is_loaded_as_the_same_characters(
    encoding: str, server: Server, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(totesys_in(encoding, server), warehouse_url, bucket_url, monkeypatch)
    text = bytes(range(0xC0, 0x100)).decode("latin-1")
    platform.totesys("UPDATE design SET file_name = :text WHERE design_id = 1", text=text)
    platform.run()
    assert platform.warehouse("SELECT file_name FROM warehouse.dim_design WHERE design_id = 1") == [[text]]


def test_bytes_that_are_not_text_are_quarantined_and_block_no_other_row(
    server: Server, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(totesys_in("SQL_ASCII", server), warehouse_url, bucket_url, monkeypatch)
    platform.totesys(
        "UPDATE design SET file_name = convert_from(:bytes, 'SQL_ASCII') WHERE design_id = 1", bytes=b"\xffA"
    )
    platform.totesys("UPDATE design SET file_name = 'é' WHERE design_id = 2")
    platform.run()
    assert platform.warehouse("SELECT file_name FROM warehouse.dim_design WHERE design_id = 2") == [["é"]]
    assert platform.warehouse('SELECT key, "column", value FROM warehouse.rejected') == [
        [{"design_id": 1}, "file_name", "\\xffA"]
    ]
    [[designs]] = platform.totesys("SELECT count(*) FROM design")
    assert platform.row_counts()["dim_design"] == designs - 1


def totesys_in(encoding: str, server: Server) -> str:
    """Create a database with a day of totesys in an encoding. Return its URL."""
    name = f"in_{encoding.lower()}"
    with connect(server.url()) as connection:
        connection.run(f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0")
    with connect(server.url(name)) as connection:
        create_schema(connection)
        Totesys(connection, seed=SEED).generate_history(date(2024, 8, 21), date(2024, 8, 22))
    return server.url(name)
