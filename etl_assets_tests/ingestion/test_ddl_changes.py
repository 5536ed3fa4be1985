"""Changes of the source's tables: what DDL does to rows is captured at once, without a full capture."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.ingestion.csv_files import ColumnNotCapturedError
from etl_assets.schema.columns import columns, enum, missing_as, optional, renamed_from
from etl_assets.schema.table import Table
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys, failed_counts
from etl_assets_tests.pipeline import CATALOG, SOURCE, Pipeline, read_captured

DESIGN = SOURCE["design"]


def with_columns(table: Table, **types: Any) -> Table:
    """Return a table with other declarations of some columns, or more columns."""
    declared = {column.name: column for column in table.columns} | {column.name: column for column in columns(**types)}
    return replace(table, columns=pa.schema(declared.values()))


def captured(platform: Platform, table: Table) -> list[dict[str, Any]]:
    rows = read_captured(Bucket(platform.ingestion_url), table, platform.partition).rows.to_pylist()
    return sorted(rows, key=lambda row: tuple(row[column] for column in table.primary_key))


def assert_nothing_was_missed(platform: Platform) -> None:
    assert_warehouse_equals_totesys(platform)
    platform.next_window()
    assert failed_counts(platform.refresh(full_capture=True), "no_missed_changes") == {}
    assert_warehouse_equals_totesys(platform)


IN_PLACE = """
    CREATE TABLE {0}_new (LIKE {0} INCLUDING ALL);
    INSERT INTO {0}_new SELECT * FROM {0};"""
SWAP = """
    BEGIN;
    ALTER TABLE {0} RENAME TO {0}_old;
    ALTER TABLE {0}_new RENAME TO {0};
    COMMIT"""


@pytest.mark.parametrize(
    ("before", "ddl", "table", "reason"),
    [
        ("", "ALTER TABLE design ADD stars integer NOT NULL DEFAULT 5", "design", "columns and stored defaults"),
        ("", "ALTER TABLE design ADD stars integer", "design", "columns"),
        ("ALTER TABLE design ADD stars integer", "ALTER TABLE design DROP stars", "design", "columns"),
        ("ALTER TABLE design ADD stars integer", "ALTER TABLE design RENAME stars TO likes", "design", "columns"),
        (
            "",
            """ALTER TABLE sales_order RENAME agreed_delivery_date TO swapped;
               ALTER TABLE sales_order RENAME agreed_payment_date TO agreed_delivery_date;
               ALTER TABLE sales_order RENAME swapped TO agreed_payment_date""",
            "sales_order",
            "columns",
        ),
        (
            "ALTER TABLE design ALTER design_name TYPE varchar(50)",
            "ALTER TABLE design ALTER design_name TYPE varchar(99)",
            "design",
            "columns",
        ),
        ("", "ALTER TABLE design ALTER design_name TYPE text USING upper(design_name)", "design", "storage"),
        (
            """CREATE TYPE mood AS ENUM ('good', 'bad');
               ALTER TABLE design ADD mood mood; UPDATE design SET mood = 'good'""",
            "ALTER TYPE mood RENAME VALUE 'good' TO 'fine'",
            "design",
            "enum labels",
        ),
        (
            "ALTER TABLE design ADD label text GENERATED ALWAYS AS (design_name || '!') STORED",
            "ALTER TABLE design ALTER label SET EXPRESSION AS (design_name || '?')",
            "design",
            "storage and generated columns",
        ),
        (
            "ALTER TABLE design ADD label text GENERATED ALWAYS AS (design_name || '!') VIRTUAL",
            "ALTER TABLE design ALTER label SET EXPRESSION AS (design_name || '?')",
            "design",
            "generated columns",
        ),
        (
            IN_PLACE.format("design") + "UPDATE design_new SET design_name = 'new ' || design_name",
            SWAP.format("design"),
            "design",
            "OID and storage",
        ),
        (
            "",
            """CREATE TABLE kept AS SELECT * FROM payment;
               TRUNCATE payment; INSERT INTO payment SELECT * FROM kept WHERE payment_id > 3""",
            "payment",
            "storage",
        ),
        ("", "VACUUM FULL design", "design", "storage"),
        ("", "CLUSTER payment USING payment_pkey", "payment", "storage"),
    ],
)
def test_a_table_that_is_no_longer_what_it_was_is_captured_whole(
    platform: Platform, before: str, ddl: str, table: str, reason: str
) -> None:
    for statement in filter(str.strip, before.split(";")):
        platform.totesys(statement)
    platform.refresh()
    platform.next_window()
    for statement in ddl.split(";"):
        platform.totesys(statement)
    platform.refresh()
    capture = platform.latest_capture
    assert capture.full_tables == {table: f"its {reason} changed"}
    assert capture.files.keys() == {table}
    assert [[capture.files[table].rows]] == platform.totesys(f"SELECT count(*) FROM {table}")
    assert_nothing_was_missed(platform)


def test_tables_that_join_are_captured_whole_together(loaded: Platform) -> None:
    loaded.totesys("ALTER TABLE department ADD floor integer DEFAULT 1")
    loaded.refresh()
    reason = "its columns and stored defaults changed"
    assert loaded.latest_capture.full_tables == {"department": reason, "staff": f"it joins to department: {reason}"}
    assert_nothing_was_missed(loaded)


def test_rewriting_a_table_doubles_nothing(loaded: Platform) -> None:
    before = loaded.contents()
    for statement in ("VACUUM FULL sales_order", "CLUSTER sales_order USING sales_order_pkey"):
        loaded.totesys(statement)
        loaded.refresh()
        assert "sales_order" in loaded.latest_capture.full_tables
        loaded.next_window()
    after = loaded.contents()
    assert {name for name in before if before[name] != after[name]} == {"loads"}


def test_rows_deleted_by_ddl_are_deleted_by_the_next_capture(loaded: Platform) -> None:
    loaded.totesys("CREATE TABLE kept AS SELECT * FROM payment WHERE payment_id > 3")
    loaded.totesys("TRUNCATE payment")
    loaded.totesys("INSERT INTO payment SELECT * FROM kept")
    loaded.refresh()
    deleted = loaded.warehouse("SELECT payment_id FROM warehouse.fact_payment WHERE deleted ORDER BY payment_id")
    assert deleted == [[1], [2], [3]]


@pytest.fixture
def partitioned(platform: Platform) -> Platform:
    """The platform after a load of payments in partitions, and of a table with rows that is about to be one."""
    platform.totesys("CREATE TABLE partitioned (LIKE payment) PARTITION BY RANGE (payment_id)")
    platform.totesys("CREATE TABLE payment_1 PARTITION OF partitioned FOR VALUES FROM (0) TO (1000000)")
    platform.totesys("INSERT INTO partitioned SELECT * FROM payment")
    platform.totesys("CREATE TABLE payment_2 (LIKE payment)")
    platform.totesys(
        """INSERT INTO payment_2 SELECT (jsonb_populate_record(payment, '{"payment_id": 1000001}')).*
           FROM payment WHERE payment_id = 1"""
    )
    platform.totesys("ALTER TABLE payment RENAME TO payment_before")
    platform.totesys("ALTER TABLE partitioned RENAME TO payment")
    platform.refresh()
    platform.next_window()
    return platform


def test_partitions_are_captured_when_attached_and_their_rows_deleted_when_detached(partitioned: Platform) -> None:
    attach = "ALTER TABLE payment ATTACH PARTITION payment_2 FOR VALUES FROM (1000000) TO (2000000)"
    history = "SELECT deleted FROM warehouse.fact_payment WHERE payment_id = 1000001 ORDER BY captured_at"
    for number, ddl in enumerate((attach, "ALTER TABLE payment DETACH PARTITION payment_2"), 1):
        partitioned.totesys(ddl)
        partitioned.refresh()
        assert partitioned.latest_capture.full_tables == {"payment": "its storage changed"}
        assert partitioned.warehouse(history) == [[False], [True]][:number]
        partitioned.next_window()
    assert_nothing_was_missed(partitioned)


def test_a_renamed_enum_label_is_loaded_once_it_is_declared(loaded: Platform) -> None:
    loaded.totesys("""ALTER TYPE "PaymentTypeName" RENAME VALUE 'SALES_REFUND' TO 'REFUND'""")
    labels = ("SALES_RECEIPT", "REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND")
    changed = loaded.declaring(with_columns(SOURCE["payment_type"], payment_type_name=enum(*labels)))
    changed.refresh()
    assert changed.latest_capture.full_tables == {"payment_type": "its enum labels changed"}
    changed.rebuild()
    assert_warehouse_equals_totesys(changed)


def test_a_column_that_is_not_declared_is_captured_and_reported_once(loaded: Platform) -> None:
    loaded.totesys("ALTER TABLE design ADD stars integer NOT NULL DEFAULT 5")
    loaded.totesys("UPDATE design SET stars = 7 WHERE design_id = 1")
    first = loaded.run("ingestion")
    warnings = [each for each in first.get_asset_check_evaluations() if not each.passed]
    assert [(each.asset_key.path[-1], each.metadata["first"].value) for each in warnings] == [
        ("design", "column stars is not declared: it is captured, and not used")
    ]
    declared = with_columns(DESIGN, stars=pa.int32())
    assert [row["stars"] for row in captured(loaded, declared)][:3] == [7, 5, 5]
    loaded.next_window()
    again = loaded.run("ingestion")
    assert all(evaluation.passed for evaluation in again.get_asset_check_evaluations())


def test_an_excluded_column_is_in_no_file_until_it_is_no_longer_excluded(loaded: Platform) -> None:
    loaded.totesys("ALTER TABLE design ADD secret text DEFAULT 'hidden'")
    excluding = loaded.declaring(replace(DESIGN, excluded=("secret",)))
    excluding.refresh()
    bucket = Bucket(excluding.ingestion_url)
    capture = excluding.latest_capture
    with bucket.open(capture.files["design"].key) as file:
        text = file.read()
    assert b"secret" not in text
    assert b"hidden" not in text
    assert "secret" not in str(capture)
    excluding.next_window()
    again = excluding.declaring(DESIGN)
    again.refresh()
    assert again.latest_capture.full_tables == {"design": "its captured columns changed"}


def test_a_column_declared_later_has_its_past_and_stands_for_what_was_not_captured(loaded: Platform) -> None:
    first = loaded.latest_capture.partition
    bucket = Bucket(loaded.ingestion_url)
    for stars, expected in ((optional(pa.int32()), None), (missing_as("3", pa.int32()), 3)):
        rows = read_captured(bucket, with_columns(DESIGN, stars=stars), first).rows
        assert set(rows.column("stars").to_pylist()) == {expected}
    with pytest.raises(ColumnNotCapturedError, match=r"has no column stars, .* stars=missing_as\("):
        read_captured(bucket, with_columns(DESIGN, stars=pa.int32()), first)


def test_a_renamed_column_is_read_by_its_earlier_name(loaded: Platform) -> None:
    renamed = [
        renamed_from("file_name", column).with_name("design_file") if column.name == "file_name" else column
        for column in DESIGN.columns
    ]
    declared = replace(DESIGN, columns=pa.schema(renamed))
    bucket = Bucket(loaded.ingestion_url)
    sources = tuple({**SOURCE, "design": declared}.values())
    pipeline = Pipeline(loaded.totesys_url, "", bucket, bucket, replace(CATALOG, sources=sources, stars=()))
    loaded.totesys("UPDATE design SET file_name = 'before' WHERE design_id = 1")
    [pending] = pipeline.capture(loaded.partition)  # the declaration is deployed before the source renames it
    assert pending.full_tables == {}
    assert [row["design_file"] for row in captured(loaded, declared)] == ["before"]
    loaded.next_window()
    loaded.totesys("ALTER TABLE design RENAME file_name TO design_file")
    [after] = pipeline.capture(loaded.partition)
    assert after.full_tables == {"design": "its columns changed"}
    assert captured(loaded, declared)[0]["design_file"] == "before"


def test_a_source_table_declared_later_is_captured_whole_in_its_first_capture(platform: Platform) -> None:
    platform.totesys("CREATE TABLE invoice (invoice_id integer PRIMARY KEY, total text)")
    platform.totesys("INSERT INTO invoice SELECT number, 'x' FROM generate_series(1, 500) AS number")
    platform.refresh()
    platform.next_window()
    invoice = Table(
        name="invoice",
        description="Invoices.",
        primary_key=("invoice_id",),
        columns=columns(invoice_id=pa.int32(), total=optional(pa.string())),
    )
    declared = platform.declaring(invoice)
    declared.refresh("ingestion")
    capture = declared.latest_capture
    assert (capture.full_tables, capture.files["invoice"].rows) == (
        {"invoice": "it is captured for the first time"},
        500,
    )


def test_names_of_columns_may_hold_anything(loaded: Platform) -> None:
    name = 'a "quoted", long\nname'
    quoted = name.replace('"', '""')
    loaded.totesys(f"ALTER TABLE design ADD \"{quoted}\" text DEFAULT 'there'")
    loaded.refresh()
    assert {row[name] for row in captured(loaded, with_columns(DESIGN, **{name: pa.string()}))} == {"there"}
    assert_nothing_was_missed(loaded)
