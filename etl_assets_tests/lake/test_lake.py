"""The star tables as the files have them, compared with the warehouse."""

import re
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets import lake
from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import column_list
from etl_assets.ingestion.manifest import list_after, partition_of
from etl_assets.lake.duck import DuckDBMissingError
from etl_assets.lake.files import LakeBehindWarning, NoFileError
from etl_assets.lake.rows import OtherColumnsError
from etl_assets.schema.table import UnknownTableError
from etl_assets_tests.changed_rules import IN_CAPITALS, WITH_TOTAL
from etl_assets_tests.harness import (
    ROOT,
    VALIDITY,
    Platform,
    current_view,
    in_lake,
    in_order,
    make_history,
    version_rows,
)
from etl_assets_tests.pipeline import STAR

ORDERS, PAYMENTS, DESIGNS = STAR["fact_sales_order"], STAR["fact_payment"], STAR["dim_design"]


def with_reruns(platform: Platform) -> None:
    """Make a history with replays, a rebuild of some tables, and re-runs and captures after that."""
    make_history(platform)
    partitions = [*dict.fromkeys(map(partition_of, list_after(Bucket(platform.ingestion_url), None)))]
    for partition in partitions[:3]:
        platform.refresh("transformation", "warehouse", partition=partition)
    platform.rebuild("fact_payment", "dim_staff", "dim_date")
    platform.refresh("transformation", partition=partitions[2])
    platform.totesys("UPDATE sales_order SET units_sold = 4 WHERE sales_order_id = 1")
    platform.totesys("DELETE FROM payment WHERE payment_id = 5")
    platform.refresh()
    platform.refresh("transformation")


def test_of_files_of_reruns_and_rebuilds_what_the_warehouse_shows_is_read(platform: Platform) -> None:
    with_reruns(platform)
    pending = platform.warehouse("SELECT (key->>'sales_order_id')::int, captured_at FROM warehouse.pending")
    for name, star in STAR.items():
        waiting = {key for key, _ in pending} if star is ORDERS else set()
        for rows, view, more in ((lake.current, current_view(star), ""), (lake.history, f"{name}_history", VALIDITY)):
            found, expected = in_lake(rows(name)), version_rows(platform.warehouse, star, view, more)
            assert expected
            assert [row for row in found if row[0] not in waiting] == [row for row in expected if row[0] not in waiting]

    versions = lake.history(ORDERS.name).to_arrow().select(["sales_order_id", "captured_at"]).to_pydict()
    loaded = platform.warehouse("SELECT sales_order_id, captured_at FROM warehouse.fact_sales_order")
    assert {*zip(*versions.values(), strict=True)} - {*map(tuple, loaded)} == {*map(tuple, pending)} != set()

    columns = column_list(PAYMENTS.columns.names)
    found, rows_of_files = query_of_the_page(platform, columns)
    assert in_order(found) == in_order(platform.warehouse(f"SELECT {columns} FROM warehouse.fact_payment_current"))
    assert rows_of_files > 2 * len(found), "the files have many rows that do not count"


def query_of_the_page(platform: Platform, columns: str) -> tuple[list[Any], int]:
    """Return what the query of docs/buckets.md finds, and how many rows are in the files that it looks at."""
    page = (ROOT / "docs" / "buckets.md").read_text()
    query = next(text for text in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) if "fact_payment" in text)
    for folder in ("ingestion", "transformation"):
        query = query.replace(f"'{folder}/", f"'{platform.buckets_url.removeprefix('file://')}/{folder}/")
    set_files, query = query.split(";\n")
    connection = duckdb.connect()
    connection.execute(set_files)
    [[rows]] = connection.execute("SELECT count(*) FROM read_parquet(getvariable('files'))").fetchall()
    return connection.execute(f"SELECT {columns} FROM ({query})").fetchall(), rows


def test_duckdb_has_the_tables_and_views_of_the_warehouse(loaded: Platform) -> None:
    loaded.totesys("UPDATE payment SET paid = NOT paid WHERE payment_id < 9")
    loaded.totesys("INSERT INTO staff VALUES (101, 'Ada', 'x', 1, 'x', now(), now())")
    loaded.refresh()
    loaded.next_window()
    loaded.totesys("DELETE FROM payment WHERE payment_id = 1")
    loaded.totesys("DELETE FROM staff WHERE staff_id = 101")
    loaded.refresh(full_capture=True)
    names = ["fact_payment", "dim_staff"]
    connection = lake.register(None, *names)

    def shown(sql: str) -> list[Any]:
        return connection.execute(sql).fetchall()

    for star in (STAR[name] for name in names):
        for view, more in ((star.versions.name, ""), (current_view(star), ""), (f"{star.name}_history", VALIDITY)):
            expected = version_rows(loaded.warehouse, star, view, more)
            assert version_rows(shown, star, view, more, schema="main") == expected
    valid = lake.history("dim_staff").to_duckdb(connection).filter("valid_from < now() AND now() < valid_to")
    assert len(valid) == len(shown("FROM dim_staff WHERE NOT deleted"))


def test_a_table_whose_rule_has_changed_is_as_before_until_it_is_rebuilt(loaded: Platform) -> None:
    deployed = loaded.declaring(IN_CAPITALS, WITH_TOTAL)
    deployed.totesys("UPDATE design SET design_name = 'Renamed' WHERE design_id = 1")
    deployed.refresh()
    here = lake.Lake(catalog=deployed.pipeline.catalog)
    latest = deployed.latest_capture.id
    before = version_rows(deployed.warehouse, DESIGNS, "dim_design")
    with pytest.warns(
        LakeBehindWarning, match=f"dim_design is shown as of .*: no file by its rule has capture {latest}"
    ):
        assert in_lake(here.current("dim_design")) == before
    with pytest.warns(LakeBehindWarning), pytest.raises(OtherColumnsError, match=r"with here \(total_amount\)"):
        here.current("fact_sales_order").to_arrow()
    deployed.rebuild()
    after = version_rows(deployed.warehouse, DESIGNS, "dim_design")
    assert in_lake(here.current("dim_design")) == after != before


def test_captures_after_one_that_is_not_transformed_do_not_count(loaded: Platform) -> None:
    before = loaded.latest_capture
    loaded.totesys("UPDATE design SET design_name = 'Renamed' WHERE design_id = 1")
    loaded.refresh("ingestion")
    skipped = loaded.latest_capture
    assert lake.current("dim_design").as_of() == before.captured_at
    loaded.next_window()
    loaded.totesys("UPDATE design SET design_name = 'Renamed again' WHERE design_id = 1")
    loaded.refresh("ingestion", "transformation")
    with pytest.warns(LakeBehindWarning, match=f"capture {skipped.id}: materialize transformation/dim_design of part"):
        assert lake.current("dim_design").as_of() == before.captured_at
    loaded.refresh("transformation", partition=skipped.partition)
    assert lake.current("dim_design").as_of() == loaded.latest_capture.captured_at
    assert lake.history("dim_design").to_pandas()["design_name"].str.startswith("Renamed").sum() == 2


def test_rows_say_in_a_notebook_how_to_read_them(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path.as_uri())
    rows = lake.Lake(ingestion=bucket, transformation=bucket).current("dim_staff")
    assert repr(rows) == "<current rows of dim_staff, read by .to_pandas(), .to_arrow(), .to_reader(), .to_duckdb()>"


def test_what_is_missing_is_named(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoFileError, match="dim_design has no rows: nothing is captured yet: launch the job etl"):
        lake.current("dim_design").to_arrow()
    platform.refresh("ingestion")
    with pytest.raises(NoFileError, match=f"no file by its rule has capture {platform.latest_capture.id}: materialize"):
        lake.register(None, "dim_design")
    with pytest.raises(UnknownTableError, match="design is no star table: the star tables are dim_counterparty,"):
        lake.history("design")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(DuckDBMissingError, match=re.escape("pip install 'etl-assets[duckdb]'")):
        lake.register()
