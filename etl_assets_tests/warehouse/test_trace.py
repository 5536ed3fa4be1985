"""The trace of a row: where each of its versions came from, line by line, and what the source has now."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_assets.__main__ import main
from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.csv_lines import find_line
from etl_assets.schema.columns import MONEY, columns, optional, personal, renamed_from
from etl_assets.schema.table import Table
from etl_assets.transformation.star_table import star_table
from etl_assets.warehouse.rebuild import Stores
from etl_assets.warehouse.trace import Trace, as_text, trace
from etl_assets_tests.harness import Platform
from etl_assets_tests.pipeline import SOURCE

INDENT = " " * 23
HIDDEN = "hunter2"
DOWN = f"postgresql://etl:{HIDDEN}@127.0.0.1:1/etl"

Tracer = Callable[..., str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Tracer:
    """A function that runs the command with arguments, and returns what was printed."""

    def run(*arguments: str) -> str:
        main(["trace", *arguments])
        text = capsys.readouterr().out
        assert max(len(line) for line in text.splitlines() if "://" not in line) <= 120
        return text

    return run


@pytest.fixture
def refused() -> Tracer:
    """A function that runs the command with arguments, and returns the line that it fails with."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as exited:
            main(["trace", *arguments])
        message = str(exited.value.code)
        assert "\n" not in message
        return message

    return run


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def captured_lines(platform: Platform, table: str, text: str) -> list[bytes]:
    """Return the line of each CSV object of a table that a trace names."""
    folder = Path(platform.ingestion_url.removeprefix("file://"))
    places = re.findall(rf"^   {table} +(\S+\.csv), line ([\d,]+)$", text, re.MULTILINE)
    return [(folder / key).read_bytes().split(b"\n")[int(line.replace(",", "")) - 1] for key, line in places]


def parquet_rows(platform: Platform, text: str) -> list[dict[str, object]]:
    """Return the row of each Parquet object that a trace names."""
    folder = Path(platform.transformation_url.removeprefix("file://"))
    places = re.findall(r"(\S+\.parquet), row ([\d,]+)", text)
    return [pq.ParquetFile(folder / key).read().to_pylist()[int(row.replace(",", "")) - 1] for key, row in places]


def edit(platform: Platform, sql: str, *stages: str, full_capture: bool = False) -> None:
    platform.totesys(sql)
    platform.refresh(*stages, full_capture=full_capture)
    platform.next_window()


def test_every_version_names_its_capture_line_and_parquet_row(loaded: Platform, printed: Tracer) -> None:
    first = loaded.latest_capture
    units = [row[0] for row in loaded.totesys("SELECT units_sold FROM sales_order WHERE sales_order_id = 11")]
    for _ in range(2):
        edit(loaded, "UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id = 11")
    last = loaded.latest_capture
    text = printed("fact_sales_order", "11")
    assert f"capture             {first.id}\n{INDENT}every row, it is the first capture; loaded " in text
    assert f"capture             {last.id}\n{INDENT}changed rows; loaded " in text
    assert [line.split(b",")[0] for line in captured_lines(loaded, "sales_order", text)] == [b"11"] * 3
    assert [(row["sales_order_id"], row["units_sold"]) for row in parquet_rows(loaded, text)] == [
        (11, units[0] + number) for number in range(3)
    ]
    ids = loaded.warehouse(
        "SELECT sales_record_id, captured_at FROM warehouse.fact_sales_order WHERE sales_order_id = 11 ORDER BY 2"
    )
    times = [captured_at for _, captured_at in ids]
    for number, (record_id, captured_at) in enumerate(ids, 1):
        until = "now" if captured_at == times[-1] else f"{times[number]} UTC"
        assert f"\n{number}. {captured_at} UTC until {until}, sales_record_id {record_id}\n" in text
    assert f"changed             units_sold {units[0]} → {units[0] + 1}\n" in text
    assert re.search(r"made by +etl_assets\.transformation\.facts:\d+ fact_sales_order, rule [0-9a-f]{16}\n", text)
    written = f"not written since the latest capture, {last.id}\n"
    assert text.endswith(f"totesys             as in the latest version here\n{INDENT}{written}")


def test_line_ends_within_values_count(platform: Platform, printed: Tracer) -> None:
    platform.totesys("UPDATE design SET design_name = E'two\\nlines\\rand \"more\"\\r\\n' WHERE design_id IN (1, 2)")
    platform.refresh()
    for design in ("1", "2", "3"):
        [line] = captured_lines(platform, "design", printed("dim_design", design))
        assert line.startswith(f"{design},".encode())
    assert '"two\\nlines\\rand \\"more\\"\\r\\n"' in printed("dim_design", "1")


def test_a_dimension_of_two_source_tables_names_the_row_of_each(loaded: Platform, printed: Tracer) -> None:
    [[department]] = loaded.totesys("SELECT department_id FROM staff WHERE staff_id = 3")
    edit(loaded, f"UPDATE department SET location = 'Moved' WHERE department_id = {department}")
    text = printed("dim_staff", "3")
    assert [line.split(b",")[0] for line in captured_lines(loaded, "staff", text)] == [b"3", b"3"]
    departments = captured_lines(loaded, "department", text)
    assert [line.split(b",")[0] for line in departments] == [str(department).encode()] * 2
    assert b"Moved" in departments[1]
    assert "→ Moved" in text


@pytest.mark.parametrize(
    ("full_capture", "found_by"), [(False, "changed rows, and the keys of all rows, because "), (True, "")]
)
def test_a_deleted_row_names_the_capture_that_found_it_gone(
    full_capture: bool, found_by: str, loaded: Platform, printed: Tracer
) -> None:
    loaded.totesys("DELETE FROM payment WHERE payment_id = 3")
    assert printed("fact_payment", "3").endswith("totesys             gone, which no loaded capture has found yet\n")
    loaded.refresh(full_capture=full_capture)
    text = printed("fact_payment", "3")
    *_, tombstone, source = text.split("\n\n")
    [time] = loaded.warehouse("SELECT captured_at FROM warehouse.fact_payment WHERE deleted")
    [capture] = loaded.warehouse("SELECT capture FROM warehouse.loads WHERE captured_at = :time", time=time[0])
    assert "deleted, the capture found the row gone\n" in tombstone
    assert f"capture             {capture[0]}\n{INDENT}{found_by}" in tombstone
    assert ".csv, without the row" in tombstone
    assert ".parquet" not in tombstone
    assert source.endswith("totesys             gone, and deleted here\n")


def test_versions_that_are_not_loaded_say_why(loaded: Platform, printed: Tracer) -> None:
    edit(loaded, "INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
    edit(loaded, "UPDATE sales_order SET currency_id = 9 WHERE sales_order_id = 11")
    edit(loaded, "UPDATE sales_order SET agreed_payment_date = 'tomorrow' WHERE sales_order_id = 11")
    edit(loaded, "UPDATE sales_order SET currency_id = 1 WHERE sales_order_id = 11", "ingestion")
    loaded.totesys("UPDATE sales_order SET agreed_payment_date = '2024-09-09' WHERE sales_order_id = 11")
    text = printed("fact_sales_order", "11")
    _, _, pending, rejected, waiting, source = text.split("\n\n")
    assert re.match(r"2\. .* UTC, pending: currency_id 9 is not in dim_currency\n", pending)
    assert re.match(r"3\. .* UTC, rejected: agreed_payment_date tomorrow cannot be cast to date32\[day\]\n", rejected)
    assert re.match(r"4\. .* UTC, captured, to be loaded\n", waiting)
    assert [line.split(b",")[0] for line in captured_lines(loaded, "sales_order", text)] == [b"11"] * 4
    assert "differs from the latest version here: " in source
    assert "→ 2024-09-09" in source
    assert f"written since the latest capture, {loaded.latest_capture.id}: the next one has it" in in_one_line(source)


def test_a_row_that_does_not_fit_is_compared_with_its_reason(loaded: Platform, printed: Tracer) -> None:
    loaded.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
    assert "does not fit: currency_name null is null, but the column is NOT NULL" in printed("dim_currency", "9")
    loaded.refresh()
    assert "rejected: currency_name null is null, but the column is NOT NULL\n" in printed("dim_currency", "9")


def test_what_is_captured_and_not_loaded_is_not_called_written_since(loaded: Platform, printed: Tracer) -> None:
    edit(loaded, "UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 11", "ingestion")
    assert f"captured by {loaded.latest_capture.id}, to be loaded\n" in printed("fact_sales_order", "11")


def test_what_others_changed_in_the_warehouse_differs(loaded: Platform, printed: Tracer) -> None:
    loaded.warehouse("UPDATE warehouse.fact_sales_order SET units_sold = -1 WHERE sales_order_id = 11")
    text = printed("fact_sales_order", "11")
    assert "differs from the latest version here: units_sold -1 → " in text
    assert "not written since the latest capture" in text


def test_a_table_of_latest_versions_that_others_changed_differs_from_them(loaded: Platform, printed: Tracer) -> None:
    [[name]] = loaded.totesys("SELECT design_name FROM design WHERE design_id = 1")
    assert "changed by others" not in printed("dim_design", "1")
    loaded.warehouse("UPDATE warehouse.dim_design SET design_name = 'wrong' WHERE design_id = 1")
    differs = f"changed by others   dim_design differs from the latest version: design_name {name} → wrong\n"
    assert differs in printed("dim_design", "1")
    loaded.warehouse("ALTER TABLE warehouse.fact_sales_order DROP CONSTRAINT fact_sales_order_design_id_fkey")
    loaded.warehouse("DELETE FROM warehouse.dim_design WHERE design_id = 1")
    assert "changed by others   dim_design lacks the row\n" in printed("dim_design", "1")


def test_after_a_rebuild_its_parquet_object_is_named(loaded: Platform, printed: Tracer) -> None:
    edit(loaded, "UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 11")
    loaded.rebuild("fact_sales_order")
    shutil.rmtree(Path(loaded.transformation_url.removeprefix("file://")) / "fact_sales_order")
    text = printed("fact_sales_order", "11")
    assert len(re.findall(r"rebuilds/fact_sales_order/\S+\.parquet, row", text)) == 2
    assert [row["sales_order_id"] for row in parquet_rows(loaded, text)] == [11, 11]
    assert parquet_rows(loaded, text)[1]["units_sold"] == 1


def test_a_calendar_day_is_made_from_facts(loaded: Platform, printed: Tracer) -> None:
    text = printed("dim_date", "2024-08-01")
    assert "fact_payment        a star table: trace its rows\n" in text
    assert "day_name Thursday" in text
    assert [str(row["date_id"]) for row in parquet_rows(loaded, text)] == ["2024-08-01"]


def test_personal_values_are_masked_unless_they_are_asked_for(loaded: Platform, printed: Tracer) -> None:
    loaded.totesys("UPDATE staff SET first_name = 'Zaphod' WHERE staff_id = 3")
    loaded.refresh()
    loaded.totesys("UPDATE staff SET first_name = 'Zaphod Beeblebrox' WHERE staff_id = 3")
    text = printed("dim_staff", "3")
    assert "Zaphod" not in text
    assert text.count("first_name ••• → •••") == 2
    assert "first_name Zaphod → Zaphod Beeblebrox" in printed("dim_staff", "3", "--show-personal")


def test_what_does_not_exist_is_refused_in_one_line_with_what_does(loaded: Platform, refused: Tracer) -> None:
    stars = "the star tables are dim_counterparty, dim_currency, dim_date"
    assert refused("fact_order", "1").startswith(f"fact_order is no star table: {stars}, ")
    assert refused("fact_payment", "1", "2") == "the key of fact_payment is payment_id (int32): give 1, not 2 values"
    assert refused("fact_payment", "x") == "the key of fact_payment is payment_id (int32): 'x' is no int32"
    assert refused("dim_date", "x") == "the key of dim_date is date_id (date32[day]): 'x' is no date32[day]"
    [[highest]] = loaded.totesys("SELECT max(payment_id) FROM payment")
    unknown = f"fact_payment has no row 99999, nor has totesys: payment_id is between 1 and {highest}"
    assert refused("fact_payment", "99999") == unknown


def test_before_the_first_load_the_source_and_the_captures_are_shown(
    platform: Platform, printed: Tracer, refused: Tracer
) -> None:
    assert "has the row, of which no version is loaded\n" in printed("fact_payment", "1")
    assert "nothing is captured yet\n" in printed("fact_payment", "1")
    assert refused("fact_payment", "99999").endswith("nor has totesys: nothing is loaded yet")
    platform.refresh("ingestion")
    assert captured_lines(platform, "payment", printed("fact_payment", "1"))[0].startswith(b"1,")


def test_without_the_source_the_rest_is_shown(
    loaded: Platform, printed: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    *known, _ = printed("fact_payment", "1").split("\n\n")
    monkeypatch.setenv("TOTESYS_DATABASE_URL", DOWN)
    *shown, source = printed("fact_payment", "1").split("\n\n")
    assert shown == known
    assert "totesys             cannot be read: no connection to PostgreSQL at 127.0.0.1:1: " in source
    assert HIDDEN not in source


@pytest.mark.parametrize(
    ("variable", "url", "problem"),
    [
        ("WAREHOUSE_DATABASE_URL", DOWN, "no connection to PostgreSQL at 127.0.0.1:1: "),
        ("WAREHOUSE_DATABASE_URL", "mysql://h/d", "WAREHOUSE_DATABASE_URL must look like postgresql://"),
        ("INGESTION_URL", "s3://nowhere/x", "bucket nowhere: "),
        ("INGESTION_URL", "nowhere", "INGESTION_URL must look like file:///path"),
        ("TRANSFORMATION_URL", "s3://nowhere/x", "bucket nowhere: "),
        ("TRANSFORMATION_URL", "", "TRANSFORMATION_URL is not set"),
    ],
)
@pytest.mark.usefixtures("s3_bucket")
def test_a_store_that_is_down_is_named_in_one_line(
    variable: str, url: str, problem: str, loaded: Platform, refused: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, url)
    assert refused("fact_payment", "1").startswith(problem)


def test_objects_that_are_lost_are_named(loaded: Platform, printed: Tracer) -> None:
    file = loaded.latest_capture.files["payment"].key
    (Path(loaded.ingestion_url.removeprefix("file://")) / file).unlink()
    assert f"{file}, which is not in the bucket\n" in printed("fact_payment", "1")
    for url in (loaded.ingestion_url, loaded.transformation_url):
        shutil.rmtree(url.removeprefix("file://"))
    text = printed("fact_payment", "1")
    assert f"{INDENT}its manifest is not in the ingestion bucket; loaded " in text
    assert "nothing is captured yet\n" in text


PLACE = Table(
    name="place",
    description="Places.",
    primary_key=("town", "number"),
    columns=columns(town=personal(pa.string()), number=pa.int32(), size=optional(MONEY)),
)


@star_table(
    primary_key=("city", "number"),
    columns=columns(city=pa.string(), number=pa.int32(), size=optional(MONEY)),
    derived_from={"city": "place.town"},
)
def dim_place(place: pd.DataFrame) -> pd.DataFrame:
    """Places."""
    return place.rename(columns={"town": "city"})


def traced(platform: Platform, *arguments: str) -> Trace:
    pipeline = platform.pipeline
    stores = Stores(pipeline.ingestion, pipeline.transformation, lambda: connect(pipeline.warehouse_url))
    name, *key = arguments
    return trace(stores, lambda: connect(pipeline.totesys_url), pipeline.catalog, pipeline.rules, name, key)


def test_a_key_may_have_several_columns_under_other_names(platform: Platform) -> None:
    platform.totesys("CREATE TABLE place (town text, number int, size numeric(10,2), PRIMARY KEY (town, number))")
    platform.totesys("INSERT INTO place VALUES ('Ulm', 1, 1.50), ('Ulm', 2, NULL), ('St. Ives', 2, 0)")
    extended = platform.declaring(PLACE, dim_place)
    extended.refresh()
    found = traced(extended, "dim_place", "Ulm", "2")
    assert [str(place).split(", ")[1] for place in found.versions[0].places] == ["line 3", "row 2"]
    assert "city •••, number 2, size null" in as_text(found)
    assert found.source[0] == "as in the latest version here"


def test_columns_are_found_by_their_earlier_names_and_values_by_their_other_texts(bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    with bucket.create("x.csv") as new:
        new.write(b'"a\nb",size,number\n"x\n",1.5,1\n\xff,2.0,2\n,3,3\n')
    declared = columns(number=pa.int32(), area=renamed_from("size", MONEY))
    table = replace(SOURCE["design"], name="x", primary_key=("number",), columns=declared)
    expected = {1: 3, 2: 5, 3: 6}
    for number, line in expected.items():
        found = find_line(bucket, "x.csv", table, {"number": number})
        assert found
        assert found[0] == line
        assert find_line(bucket, "x.csv", table, {"area": pa.scalar(["", "1.5", "2", "3"][number]).cast(MONEY).as_py()})
    assert find_line(bucket, "x.csv", table, {"number": 4}) is None
