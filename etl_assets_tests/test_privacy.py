"""Personal values are in the buckets and the tables, and in nothing else that the platform writes."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.adapters.postgres import connect
from etl_assets.reports.answers import answer_reports
from etl_assets.reports.report import Report
from etl_assets.schema.columns import columns, is_personal
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation.star_table import star_table
from etl_assets_tests.harness import Platform, failed_checks, failure

PLANTED = "Zaphod"


@star_table(
    primary_key=("email_address",),
    columns=columns(email_address=pa.string(), number=pa.int32()),
    derived_from={"number": "staff.last_name"},
)
def dim_number(staff: pd.DataFrame) -> pd.DataFrame:
    """Names as numbers, by e-mail address: all are rejected."""
    return staff.assign(number=staff["last_name"])


@star_table(primary_key=("staff_id",), columns=columns(staff_id=pa.int32(), first_name=pa.string()))
def dim_short(staff: pd.DataFrame) -> pd.DataFrame:
    """Fails for the planted name, and quotes it."""
    for name in staff["first_name"]:
        if PLANTED in name:
            raise ValueError(f"cannot shorten {name}")
    return staff


@pytest.fixture
def planted(platform: Platform) -> Platform:
    """The platform after a first load; a row of each table with personal columns has recognizable values in them."""
    personal = [
        (table.name, column.name) for table in TOTESYS_TABLES for column in table.columns if is_personal(column)
    ]
    assert {table for table, _ in personal} >= {"address", "counterparty", "department", "staff"}
    for table, column in personal:
        platform.totesys(f"UPDATE {table} SET {column} = '{PLANTED} {column}' WHERE {table}_id = 1")
    platform.refresh()
    platform.next_window()
    declaring = platform.declaring(dim_number, dim_short)
    declaring.rebuild()
    return declaring


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance whose storage is in files."""
    folder = tmp_path / "instance"
    folder.mkdir()
    with dg.instance_for_test(temp_dir=str(folder)) as running:
        yield running


def everything_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> bytes:
    """Return what was printed and logged, and what Dagster stores: events, metadata, checks, output of runs."""
    output = capsys.readouterr()
    stored = [path.read_bytes() for path in (folder / "instance").rglob("*") if path.is_file()]
    return b"".join([output.out.encode(), output.err.encode(), *stored])


def test_personal_values_are_in_no_message_event_or_log_whatever_fails(
    planted: Platform, instance: dg.DagsterInstance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.warehouse("ALTER TABLE warehouse.dim_location ADD CHECK (phone !~ 'Zaphod') NOT VALID")
    planted.warehouse("CREATE UNIQUE INDEX ON warehouse.dim_staff (left(first_name, 2)) WHERE first_name ~ 'Zaphod'")
    planted.warehouse(
        """CREATE FUNCTION warehouse.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           RAISE 'no %', new USING DETAIL = new, HINT = new, ERRCODE = 'ZZ999'; END $$"""
    )
    planted.warehouse(
        """CREATE TRIGGER refuse BEFORE INSERT ON warehouse.dim_counterparty
           FOR EACH ROW EXECUTE FUNCTION warehouse.refuse()"""
    )
    for table in ("address", "counterparty", "staff"):
        planted.totesys(f"UPDATE {table} SET last_updated = now() WHERE {table}_id = 1")
    planted.totesys("UPDATE counterparty SET legal_address_id = 1 WHERE counterparty_id = 1")
    planted.totesys(f"UPDATE address SET phone = '{PLANTED} again' WHERE address_id = 1")
    planted.totesys(f"UPDATE staff SET first_name = '{PLANTED} again' WHERE staff_id IN (1, 2)")
    refused = planted.run(instance=instance)
    rejected = failed_checks(refused, "warehouse", "no_rejected_rows")
    assert rejected.keys() == {"dim_location", "dim_counterparty", "dim_staff", "dim_number", "dim_short"}
    assert planted.warehouse('SELECT 1 FROM warehouse.rejected WHERE "row" LIKE :planted', planted=f"%{PLANTED}%")

    planted.warehouse("DROP TABLE warehouse.dim_staff CASCADE")
    planted.warehouse("CREATE TABLE warehouse.dim_staff (staff_id integer)")
    assert "does not match its declaration" in failure(planted.run(instance=instance, raise_on_error=False))

    *_, captured = sorted(Path(planted.ingestion_url.removeprefix("file://")).glob("staff/*/*/*/*/staff-*.csv"))
    captured.write_text(captured.read_text().replace(f"{PLANTED} last_name", f"{PLANTED} last_name,x"))
    corrupt = planted.run("transformation", instance=instance, raise_on_error=False)
    assert "is not the CSV that was captured" in failure(corrupt)

    written = everything_written(tmp_path, capsys)
    assert b"is refused by the warehouse" in written
    assert b"dim_short raises ValueError" in written
    position = written.find(PLANTED.encode())
    assert position < 0, written[max(position - 2000, 0) : position + 200].decode(errors="replace")


def test_a_report_that_fails_for_a_value_does_not_quote_it(planted: Platform) -> None:
    query = "SELECT CAST(first_name AS integer) FROM warehouse.dim_staff WHERE staff_id = 1"
    report = Report(name="ages", title="", description="", chart=None, units={}, query=query)
    with connect(planted.warehouse_url) as connection:
        _, [fault] = answer_reports(connection, [report])
    assert "invalid input syntax for type integer" in str(fault)
    assert PLANTED not in "".join(traceback.format_exception(fault))
