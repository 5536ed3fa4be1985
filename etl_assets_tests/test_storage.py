"""Captured CSV and star Parquet, read back as declared."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_assets.buckets import Bucket
from etl_assets.captures import folder
from etl_assets.databases import connect
from etl_assets.storage import (
    _CHUNK_BYTES,
    CorruptObjectError,
    NotTransformedError,
    _whole_rows,
    open_star,
    read_captured,
    write_star,
)
from etl_assets.tables import REJECTED, Conformed, Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.platform import Platform, failure

SOURCE = {table.name: table for table in TOTESYS_TABLES}
STAR = {star.name: star for star in STAR_TABLES}


def read(platform: Platform, table: str) -> Any:
    return read_captured(Bucket(platform.ingestion_url), SOURCE[table], platform.partition)


@pytest.mark.parametrize("size", range(1, 40))
def test_chunks_end_where_rows_end_wherever_the_blocks_do(size: int) -> None:
    text = b'1,"a\r\nb"\n2,"say ""hi""\n"\n3,plain\n4,"\n\n"\n5,""\n'
    chunks = list(_whole_rows(pa.BufferReader(text), size))
    assert b"".join(chunks) == text
    assert all(chunk.endswith(b"\n") and chunk.count(b'"') % 2 == 0 for chunk in chunks)


def test_text_with_line_ends_survives_chunks_of_any_size(platform: Platform) -> None:
    with connect(platform.totesys_url) as connection:
        connection.run("ALTER TABLE sales_order DROP CONSTRAINT sales_order_design_id_fkey")
        connection.run("DELETE FROM design")
        connection.run(
            """INSERT INTO design (design_name, file_location, file_name, last_updated)
               SELECT repeat(E'x\r\n"', n % 70), E'\r', E'\n', now() FROM generate_series(1, 60000) AS n"""
        )
        platform.run("ingestion")
        expected = connection.run("SELECT design_name, file_location, file_name FROM design ORDER BY design_id")
    made = read(platform, "design").rows
    assert made.nbytes > _CHUNK_BYTES, "one chunk would prove nothing"
    columns = (
        made.sort_by("design_id").column(name).to_pylist() for name in ("design_name", "file_location", "file_name")
    )
    assert list(map(list, zip(*columns, strict=True))) == expected


def test_payment_is_not_payment_type(platform: Platform) -> None:
    platform.totesys("UPDATE payment SET paid = true")
    platform.run("ingestion")
    assert read(platform, "payment_type").rows.num_rows == 4
    assert read(platform, "payment").rows.num_rows == platform.totesys("SELECT count(*) FROM payment")[0][0]


def test_a_table_without_rows_is_read_as_an_empty_typed_frame(platform: Platform) -> None:
    platform.run("ingestion")
    platform.next_window()
    platform.run("ingestion")
    made = read(platform, "sales_order")
    assert made.rows.num_rows == 0
    assert made.rows.schema.equals(SOURCE["sales_order"].captured_columns)


def test_an_object_that_was_tampered_with_fails_at_once_by_name(platform: Platform) -> None:
    platform.run("ingestion")
    [key] = Bucket(platform.ingestion_url).objects(folder("currency", platform.partition))
    path = Path(f"{platform.ingestion_url.removeprefix('file://')}/{key}")
    path.write_text(path.read_text().replace("GBP", "GBX"))
    with pytest.raises(CorruptObjectError, match="currency/"):
        read(platform, "currency")
    result = platform.run("transformation", raise_on_error=False)
    assert "rows that differ from the 3 captured" in failure(result)
    assert not [
        event for event in result.all_events if event.is_step_up_for_retry and "currency" in str(event.step_key)
    ]


def test_a_column_declared_later_is_null_in_older_captures(platform: Platform) -> None:
    platform.run("ingestion")
    table = SOURCE["currency"]
    wider = Table(
        name="currency",
        description="",
        primary_key=table.primary_key,
        columns=table.columns.append(pa.field("symbol", pa.string())),
    )
    made = read_captured(Bucket(platform.ingestion_url), wider, platform.partition)
    assert made.rows.column("symbol").to_pylist() == [None] * 3


def test_star_files_are_never_overwritten_and_the_newest_counts(platform: Platform) -> None:
    platform.run("ingestion", "transformation")
    platform.totesys("UPDATE currency SET currency_code = 'JPY' WHERE currency_id = 1")
    platform.run("ingestion", "transformation")
    keys = Bucket(platform.transformation_url).objects(folder("dim_currency", platform.partition))
    assert len(keys) == 2
    sizes = [
        pq.ParquetFile(f"{platform.transformation_url.removeprefix('file://')}/{key}").metadata.num_rows for key in keys
    ]
    assert sizes == [3, 4]


def test_an_asset_of_ones_own_gets_frames_of_both_stages(platform: Platform) -> None:
    platform.run("ingestion", "transformation")
    seen: dict[str, pd.DataFrame] = {}

    @dg.asset(
        ins={"staff": dg.AssetIn(["ingestion", "staff"]), "dim_staff": dg.AssetIn(["transformation", "dim_staff"])},
        partitions_def=platform.definitions.resolve_job_def("etl").partitions_def,
    )
    def own(staff: pd.DataFrame, dim_staff: pd.DataFrame) -> None:
        seen.update(staff=staff, dim_staff=dim_staff)

    mine = dg.Definitions.merge(dg.Definitions([own]), platform.definitions)
    with dg.partition_loading_context(effective_dt=platform.now):
        mine.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[own.key], partition_key=platform.partition
        )
    assert seen["staff"]["department_id"].dtype == pd.ArrowDtype(pa.int32())
    assert len(seen["staff"]) == len(seen["dim_staff"]) == 20


def test_a_partition_not_transformed_is_refused_by_name(platform: Platform) -> None:
    platform.run("ingestion")
    message = failure(platform.run("warehouse", raise_on_error=False))
    assert f"has no partition {platform.partition}: materialize it first" in message


def test_an_object_that_is_missing_or_no_csv_any_more_fails_by_name(platform: Platform) -> None:
    platform.run("ingestion")
    [key] = Bucket(platform.ingestion_url).objects(folder("currency", platform.partition))
    path = Path(f"{platform.ingestion_url.removeprefix('file://')}/{key}")
    path.write_text(path.read_text().replace("1,GBP", "one,GBP,more"))
    with pytest.raises(CorruptObjectError, match=r"currency/.* is not the CSV that was captured"):
        read(platform, "currency")
    path.unlink()
    with pytest.raises(CorruptObjectError, match=r"currency/.* is missing, though its manifest is there"):
        read(platform, "currency")


def test_the_newest_file_made_from_all_of_the_captures_counts(bucket_url: str) -> None:
    bucket, partition, currency = Bucket(bucket_url), "2024-08-14-14:15", STAR["dim_currency"]
    none = REJECTED.empty_table()
    for captures in (["a", "b"], ["a", "b", "c"], ["a"]):
        rows = currency.captured_columns.empty_table()
        write_star(bucket, currency, partition, captures, [Conformed(rows, none)])
    for asked, found in ((set(), {"a"}), ({"a"}, {"a"}), ({"a", "b"}, {"a", "b", "c"})):
        with open_star(bucket, currency.name, partition, asked) as file:
            assert file.captures == found
    with (
        pytest.raises(NotTransformedError, match="dim_currency of partition 2024-08-14-14:15 lacks the captures d"),
        open_star(bucket, currency.name, partition, {"a", "d"}),
    ):
        pass
