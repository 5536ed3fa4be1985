"""Captured CSV files, read as declared."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.csv_files import (
    _CHUNK_BYTES,
    _SMALL_BYTES,
    CapturedRows,
    ColumnNotCapturedError,
    CorruptObjectError,
    whole_rows,
)
from etl_assets.ingestion.manifest import Capture, partition_folder
from etl_assets.schema.validation import ValidatedRows
from etl_assets_tests.harness import NOON, Platform, failure, write_capture
from etl_assets_tests.pipeline import SOURCE, captured_input, read_captured

HEADER = "design_id,created_at,design_name,file_location,file_name,last_updated\n"
STAMP = "2024-08-22 09:13:10.366"


def read(platform: Platform, table: str) -> Any:
    return read_captured(Bucket(platform.ingestion_url), SOURCE[table], platform.partition)


def currency_file(platform: Platform) -> Path:
    [key] = Bucket(platform.ingestion_url).objects(partition_folder("currency", platform.partition))
    return Path(f"{platform.ingestion_url.removeprefix('file://')}/{key}")


@pytest.mark.parametrize("size", range(1, 40))
def test_chunks_end_where_rows_end_for_any_block_size(size: int) -> None:
    text = b'1,"a\r\nb"\n2,"say ""hi""\n"\n3,plain\n4,"\n\n"\n5,""\n'
    chunks = list(whole_rows(pa.BufferReader(text), size))
    assert b"".join(chunks) == text
    assert all(chunk.endswith(b"\n") and chunk.count(b'"') % 2 == 0 for chunk in chunks)


def test_text_with_line_breaks_is_read_exactly_across_chunks(platform: Platform) -> None:
    with connect(platform.totesys_url) as connection:
        connection.run("ALTER TABLE sales_order DROP CONSTRAINT sales_order_design_id_fkey")
        connection.run("DELETE FROM design")
        connection.run(
            """INSERT INTO design (design_name, file_location, file_name, last_updated)
               SELECT repeat(E'x\r\n"', n % 70), E'\r', E'\n', now() FROM generate_series(1, 60000) AS n"""
        )
        platform.refresh("ingestion")
        expected = connection.run("SELECT design_name, file_location, file_name FROM design ORDER BY design_id")
    rows = read(platform, "design").rows
    assert rows.nbytes > _CHUNK_BYTES, "one chunk would prove nothing"
    texts = rows.sort_by("design_id").select(["design_name", "file_location", "file_name"])
    assert [list(row.values()) for row in texts.to_pylist()] == expected


def test_files_of_payment_and_payment_type_are_not_confused(platform: Platform) -> None:
    platform.totesys("UPDATE payment SET paid = true")
    platform.refresh("ingestion")
    for table in ("payment", "payment_type"):
        assert [[read(platform, table).rows.num_rows]] == platform.totesys(f"SELECT count(*) FROM {table}")


def test_a_table_without_changes_is_read_as_empty_typed_rows(platform: Platform) -> None:
    platform.refresh("ingestion")
    platform.next_window()
    platform.refresh("ingestion")
    assert read(platform, "sales_order").rows.equals(SOURCE["sales_order"].captured_columns.empty_table())


def test_a_tampered_object_fails_without_retry_and_is_named(platform: Platform) -> None:
    platform.refresh("ingestion")
    path = currency_file(platform)
    path.write_text(path.read_text().replace("GBP", "GBX"))
    with pytest.raises(CorruptObjectError, match="currency/"):
        read(platform, "currency")
    result = platform.run("transformation", raise_on_error=False)
    assert "rows that differ from the 3 captured" in failure(result)
    assert not [
        event for event in result.all_events if event.is_step_up_for_retry and "currency" in str(event.step_key)
    ]


def test_a_column_added_later_is_null_in_older_captures(platform: Platform) -> None:
    platform.refresh("ingestion")
    table = SOURCE["currency"]
    extended = replace(table, columns=table.columns.append(pa.field("symbol", pa.string())))
    rows = read_captured(Bucket(platform.ingestion_url), extended, platform.partition).rows
    assert rows.column("symbol").to_pylist() == [None] * 3


def test_a_missing_or_malformed_object_is_named(platform: Platform) -> None:
    platform.refresh("ingestion")
    path = currency_file(platform)
    path.write_text(path.read_text().replace("1,GBP", "one,GBP,more"))
    with pytest.raises(CorruptObjectError, match=r"currency/.* is not the CSV that was captured"):
        read(platform, "currency")
    path.unlink()
    with pytest.raises(CorruptObjectError, match=r"currency/.* is missing, although its manifest exists"):
        read(platform, "currency")


def design(id_: object, name: str = "x", stamp: str = STAMP) -> str:
    return f"{id_},{stamp},{name},/a,b,{STAMP}\n"


def write_designs(bucket: Bucket, *texts: str) -> list[Capture]:
    """Write a capture of designs for each text, a minute apart."""
    return [write_capture(bucket, NOON + timedelta(minutes=n), design=text) for n, text in enumerate(texts)]


def designs(bucket: Bucket) -> CapturedRows:
    return captured_input(bucket, SOURCE["design"], "")


def merged(parts: list[ValidatedRows]) -> tuple[list[Any], list[Any]]:
    """Return rows and rejections, without the positions of the latter."""
    return (
        [row for part in parts for row in part.rows.to_pylist()],
        [row for part in parts for row in part.rejected.drop_columns("position").to_pylist()],
    )


@pytest.mark.parametrize("store", ["bucket_url", "s3_bucket"])
def test_small_captures_are_read_together_as_each_alone(store: str, request: pytest.FixtureRequest) -> None:
    bucket = Bucket(request.getfixturevalue(store))
    texts = [
        *(HEADER + design(n, '"two\r\n""lines"""') + design(n + 100, '""') for n in range(20)),
        HEADER + design(20, "") + design(21),  # a null that is rejected
        *(HEADER.replace("\n", ",colour\n") + design(n).replace("\n", ',"a\nb"\n') for n in range(22, 30)),
        HEADER + design(30, stamp="infinity") + design(31),  # Arrow has no such value
        *(HEADER + design(n) for n in range(32, 40)),
    ]
    captures, rows = write_designs(bucket, *texts), designs(bucket)
    together = list(rows.read(captures))
    assert len(together) < 10
    assert merged(together) == merged([part for capture in captures for part in rows.read([capture])])
    read, rejected = merged(together)
    assert [row["captured_at"].minute for row in read[:4]] == [0, 0, 1, 1]
    assert [row["design_name"] for row in read[:2]] == ['two\r\n"lines"', ""]
    assert [(row["column"], row["captured_at"].minute) for row in rejected] == [("design_name", 20), ("created_at", 29)]


def test_equal_rejected_rows_of_captures_read_together_are_told_apart(bucket_url: str) -> None:
    captures = write_designs(Bucket(bucket_url), *[HEADER + design(1, "") * 2] * 3)
    [part] = designs(Bucket(bucket_url)).read(captures)
    assert part.rejected.group_by(["captured_at", "position"]).aggregate([]).num_rows == 6


def test_captures_are_read_in_order_whatever_their_sizes(bucket_url: str) -> None:
    many = design(1, "x" * 1000) * (_SMALL_BYTES // 1000)
    texts = [HEADER + (many if n % 3 == 2 else "") + design(2) for n in range(12)]
    captures = write_designs(Bucket(bucket_url), *texts)
    parts = list(designs(Bucket(bucket_url)).read(captures))
    times = pa.concat_tables(part.rows for part in parts).column("captured_at").to_pylist()
    assert times == [capture.captured_at for capture in captures for _ in range(capture.files["design"].rows)]
    assert len(parts) == 8


def test_captures_read_together_are_not_larger_than_a_chunk(bucket_url: str) -> None:
    captures = write_designs(Bucket(bucket_url), *[HEADER + design(1, "x" * 90_000) * 10] * 20)
    assert [part.rows.num_rows for part in designs(Bucket(bucket_url)).read(captures)] == [90, 90, 20]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (HEADER + design(9), "holds 1 rows that differ from the 1 captured"),
        (HEADER + design(5) * 2, "holds 2 rows that differ from the 1 captured"),
        (HEADER + design(5)[:-1], "holds 1 rows that differ from the 1 captured"),
        (HEADER + "5,more\n", "is not the CSV that was captured"),
        ("", "holds 0 rows that differ from the 1 captured"),
        (None, "is missing, although its manifest exists"),
    ],
)
def test_a_corrupt_object_among_small_ones_is_named_after_what_precedes_it(
    bucket_url: str, text: str | None, problem: str
) -> None:
    bucket = Bucket(bucket_url)
    captures = write_designs(bucket, *(HEADER + design(n) for n in range(10)))
    key = captures[5].files["design"].key
    path = Path(f"{bucket_url.removeprefix('file://')}/{key}")
    path.unlink() if text is None else path.write_text(text)
    read: list[ValidatedRows] = []
    with pytest.raises(CorruptObjectError, match=f"{key} {problem}"):
        read.extend(designs(bucket).read(captures))
    assert [row["design_id"] for row in merged(read)[0]][:5] == [0, 1, 2, 3, 4]


def test_a_manifest_with_another_number_of_rows_is_named(bucket_url: str) -> None:
    captures = write_designs(Bucket(bucket_url), *(HEADER + design(n) for n in range(10)))
    file = replace(captures[5].files["design"], rows=2)
    captures[5] = replace(captures[5], files={"design": file})
    with pytest.raises(CorruptObjectError, match=f"{file.key} holds 1 rows that differ from the 2 captured"):
        list(designs(Bucket(bucket_url)).read(captures))


def test_a_column_that_small_captures_lack_is_named_with_the_first_of_them(bucket_url: str) -> None:
    captures = write_designs(Bucket(bucket_url), *(HEADER + design(n) for n in range(10)))
    table = SOURCE["design"]
    extended = replace(table, columns=table.columns.append(pa.field("colour", pa.string(), nullable=False)))
    with pytest.raises(ColumnNotCapturedError, match=f"{captures[0].files['design'].key} has no column colour"):
        list(captured_input(Bucket(bucket_url), extended, "").read(captures))
