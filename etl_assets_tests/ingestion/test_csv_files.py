"""Captured CSV files, read as declared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.csv_files import _CHUNK_BYTES, CorruptObjectError, whole_rows
from etl_assets.ingestion.manifest import partition_folder
from etl_assets_tests.harness import Platform, failure
from etl_assets_tests.pipeline import SOURCE, read_captured


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
