"""What Dagster's catalog shows of assets: columns, lineage, materializations and checks."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.catalog.metadata import preview
from etl_assets.definitions import defs
from etl_assets.schema.columns import CAPTURED_AT, MONEY, columns, is_personal, personal
from etl_assets.schema.table import Catalog, Table
from etl_assets.schema.validation import REJECTED, ValidatedRows, to_pandas
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.checks import checks_of
from etl_assets.transformation.star_table import StarTable, lineage, star_table, with_descriptions
from etl_assets.transformation.transform import TransformStats
from etl_assets_tests.harness import (
    Platform,
    assert_warehouse_equals_totesys,
    captured_rows,
    failed_checks,
    failed_counts,
    failure,
)
from etl_assets_tests.pipeline import CATALOG, SOURCE, STAR

SPECS = {
    spec.key.to_user_string(): spec
    for spec in defs.resolve_all_asset_specs()
    if spec.key.path[0] != "reports"  # the columns of a report are known when its query has run
    and spec.key.path[1] != "rules"
}
CHECKS = {
    "ingestion": {"schema_matches"},
    "transformation": {"no_rejected_rows", "keys_unique_per_capture", "not_null", "rows_match_capture"},
    "warehouse": {
        "no_rejected_rows",
        "matches_source",
        "rule_is_current",
        "no_missed_changes",
        "keys_unique",
        "foreign_keys_resolve",
        "current_unique",
        "rows_match_capture",
    },
}
FACT_CHECKS = {"rows_match_capture", "foreign_keys_resolve", "current_unique"}
NOT_CHECKED = {"dim_date": {"matches_source"}}


def origins(asset: str) -> dict[str, list[str]]:
    """Return by column of an asset the columns it is derived from."""
    return {
        column: [f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps]
        for column, deps in SPECS[asset].metadata["dagster/column_lineage"].deps_by_column.items()
    }


def test_every_column_of_every_asset_is_described() -> None:
    for name, spec in SPECS.items():
        for column in spec.metadata["dagster/column_schema"].columns:
            assert column.description, f"{name}.{column.name}"


def test_table_names_types_and_constraints_are_shown() -> None:
    metadata = SPECS["warehouse/fact_payment"].metadata
    assert metadata["dagster/table_name"] == "warehouse.fact_payment"
    schema = metadata["dagster/column_schema"]
    assert "UNIQUE (payment_id, captured_at)" in schema.constraints.other
    assert "FOREIGN KEY (currency_id) REFERENCES dim_currency" in schema.constraints.other
    by_name = {column.name: column for column in schema.columns}
    assert by_name["payment_amount"].type == "numeric(10,2)"
    assert not by_name["payment_amount"].constraints.nullable
    assert by_name["currency_id"].description == "Currency of the amount. References dim_currency."


def test_each_column_has_lineage_from_the_warehouse_to_totesys() -> None:
    assert origins("warehouse/fact_sales_order")["sales_staff_id"] == ["transformation/fact_sales_order.sales_staff_id"]
    assert origins("transformation/fact_sales_order")["sales_staff_id"] == ["ingestion/sales_order.staff_id"]
    assert origins("ingestion/sales_order")["staff_id"] == ["totesys/sales_order.staff_id"]
    assert origins("transformation/dim_counterparty")["counterparty_legal_city"] == ["ingestion/address.city"]
    assert "transformation/fact_payment.payment_date" in origins("transformation/dim_date")["quarter"]
    for asset, origin in (("transformation", "ingestion/address.city"), ("warehouse", "totesys/address.city")):
        description = SPECS[f"{asset}/dim_counterparty"].description or ""
        assert f"| counterparty_legal_city | {origin} |" in description
    assert "totesys/payment.payment_date" in (SPECS["warehouse/dim_date"].description or "")


def test_every_column_named_in_lineage_exists() -> None:
    declared = {
        f"{name}.{column.name}"
        for name, spec in SPECS.items()
        for column in spec.metadata["dagster/column_schema"].columns
    }
    for name in SPECS:
        if not name.startswith("totesys/"):
            for columns_of in origins(name).values():
                assert set(columns_of) <= declared


VALUES: Mapping[pa.DataType, tuple[Any, Any]] = {
    pa.string(): ("2024-01-02", "2031-05-06"),
    pa.int32(): (1, 77),
    pa.bool_(): (False, True),
    MONEY: (Decimal("1.00"), Decimal("123.45")),
    pa.timestamp("ms"): (datetime(2024, 1, 2, 3, 4, 5), datetime(2031, 5, 6, 7, 8, 9)),
}
"""By type: a value, and a different one."""


def values_of(column: pa.Field) -> tuple[Any, Any]:
    return ("GBP", "USD") if column.name == "currency_code" else VALUES[column.type]


def one_row(table: Table) -> dict[str, Any]:
    return {column.name: values_of(column)[0] for column in table.columns}


def transformed(star: StarTable, inputs: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a star table that is derived from one row of each input."""
    result = star(**{name: to_pandas(captured_rows(name, row)) for name, row in inputs.items()})
    [row] = result[[*star.columns.names]].to_dict("records")
    return {str(name): value for name, value in row.items()}


@pytest.mark.parametrize("star", [star for star in STAR_TABLES if star.name != "dim_date"], ids=lambda star: star.name)
def test_a_changed_source_column_changes_exactly_the_columns_derived_from_it(star: StarTable) -> None:
    inputs = {name: one_row(SOURCE[name]) for name in star.inputs(STAR_TABLES)}
    before = transformed(star, inputs)
    joined = {("staff", "department_id"), ("department", "department_id")}
    joined |= {("counterparty", "legal_address_id"), ("address", "address_id")} if len(inputs) > 1 else set()
    for name, row in inputs.items():
        for column in SOURCE[name].columns:
            if (name, column.name) in joined:
                continue
            _, value = values_of(column)
            after = transformed(star, inputs | {name: row | {column.name: value}})
            expected = {to for to, of in lineage(star, CATALOG).items() if (name, column.name) in of}
            assert {to for to in before if before[to] != after[to]} == expected, f"{name}.{column.name}"


def test_a_column_without_an_origin_raises_an_error_that_names_it() -> None:
    @star_table(primary_key=("design_id",), columns=columns(design_id=pa.int32(), colour=pa.string()))
    def dim_colour(design: pd.DataFrame) -> pd.DataFrame:
        """Colours."""
        return design

    with pytest.raises(ValueError, match=r"dim_colour\.colour: declare what it is derived_from"):
        with_descriptions(Catalog(TOTESYS_TABLES, (*STAR_TABLES, dim_colour)))


def test_personal_data_is_marked_in_every_table_and_masked_in_previews() -> None:
    assert {
        f"{star.name}.{column.name}"
        for star in with_descriptions(CATALOG).stars
        for column in star.columns
        if is_personal(column)
    } == {
        "dim_staff.first_name",
        "dim_staff.last_name",
        "dim_staff.email_address",
        "dim_location.phone",
        "dim_counterparty.counterparty_legal_phone_number",
    }
    table = Table(
        name="person", description="", primary_key=("id",), columns=columns(id=pa.int32(), email=personal(pa.string()))
    )
    masked = preview(table, [{"id": number, "email": "ada@x.com"} for number in range(9)])
    assert [record.data for record in masked.records] == [{"id": str(n), "email": "•••"} for n in range(5)]


def metadata(result: dg.ExecuteInProcessResult, asset: str, partition: str | None = None) -> dict[str, Any]:
    [event] = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key
        and event.asset_key.to_user_string() == asset
        and (partition is None or event.partition == partition)
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_a_description_says_first_what_a_row_is_and_how_to_read_it_and_last_what_it_is_made_of(
    loaded: Platform,
) -> None:
    examples: Counter[str] = Counter()
    partition = loaded.latest_capture.partition
    tables: dict[str, Table] = {**SOURCE, **STAR}
    for name, spec in SPECS.items():
        table = tables[spec.key.path[1]]
        head, _, rest = (spec.description or "").partition("One row per ")
        assert head == f"{table.description} ", name
        _, example, *_ = rest.split("```") if "```" in rest else ("", "")
        language, _, code = example.partition("\n")
        examples[language] += 1
        if language == "sql":
            assert 0 < len(loaded.warehouse(code)) <= 10, name
        elif name in ("ingestion/staff", "transformation/dim_staff"):
            *lines, load = code.splitlines()
            values: dict[str, Any] = {"partition": partition}
            exec("\n".join([*lines, f"rows = {load}"]), values)
            assert len(values["rows"]) == loaded.totesys("SELECT count(*) FROM staff")[0][0]
        assert not spec.metadata.get("dagster/column_lineage") or rest.rpartition("\n\n")[2].startswith("| column |")
    assert examples == {"sql": len(STAR), "python": len(SOURCE) + len(STAR), "": len(SOURCE)}


def test_a_materialization_shows_rows_bytes_times_and_a_preview(platform: Platform) -> None:
    result = platform.run()
    by_stage = {
        stage: metadata(result, f"{stage}/{name}")
        for stage, name in (("ingestion", "staff"), ("transformation", "dim_staff"), ("warehouse", "dim_staff"))
    }
    [[staff]] = platform.totesys("SELECT count(*) FROM staff")
    for stage, values in by_stage.items():
        assert values["dagster/partition_row_count"] == staff, stage
        assert values.get("dagster/row_count") == (staff if stage == "warehouse" else None), stage
        seconds = [value for name, value in values.items() if name.startswith("seconds_")]
        assert seconds
        assert all(isinstance(value, float) and value > 0 for value in seconds)
    assert {"seconds_read", "seconds_transform", "seconds_write"} <= by_stage["transformation"].keys()
    for stage in ("ingestion", "transformation"):
        assert by_stage[stage]["bytes"] > 0
        assert by_stage[stage]["dagster/uri"].startswith("file://")
    for stage in ("ingestion", "warehouse"):
        assert isinstance(by_stage[stage]["captured_at"], float)
    for stage in ("transformation", "warehouse"):
        assert by_stage[stage]["rejected"] == 0
    [email] = platform.totesys("SELECT email_address FROM staff ORDER BY staff_id LIMIT 1")[0]
    for event in result.get_asset_materialization_events():
        assert email not in str(event.materialization.metadata), event.asset_key
    for stage in by_stage:
        first = next(
            event.materialization.metadata["preview"]
            for event in result.get_asset_materialization_events()
            if event.asset_key and event.asset_key.path == [stage, "staff" if stage == "ingestion" else "dim_staff"]
        )
        assert isinstance(first, dg.TableMetadataValue)
        assert len(first.records) == 5
        assert first.records[0].data["email_address"] == "•••"
        assert str(first.records[0].data["staff_id"]).isdigit()


def test_every_table_has_its_checks_and_they_pass(platform: Platform) -> None:
    result = platform.run()
    evaluated: dict[tuple[str, str], set[str]] = {}
    for evaluation in result.get_asset_check_evaluations():
        assert evaluation.passed, evaluation
        stage, name = evaluation.asset_key.path
        evaluated.setdefault((stage, name), set()).add(evaluation.check_name)
    tables = {"ingestion": SOURCE, "transformation": STAR, "warehouse": STAR}
    assert evaluated == {
        (stage, name): CHECKS[stage]
        - (set() if name.startswith("fact_") else FACT_CHECKS)
        - NOT_CHECKED.get(name, set())
        for stage, names in tables.items()
        for name in names
    } | {("ingestion", next(iter(SOURCE))): {"schema_matches", "horizon_advances"}}


def test_missing_rows_fail_a_blocking_check_with_their_keys() -> None:
    star, none = STAR["fact_payment"], REJECTED.empty_table()
    payments = captured_rows("payment", *(one_row(SOURCE["payment"]) | {"payment_id": n} for n in (1, 2)))
    inputs = {"payment": ValidatedRows(payments, none)}
    row = dict.fromkeys(star.columns.names) | {"payment_id": 1, CAPTURED_AT: payments.column(CAPTURED_AT)[0].as_py()}
    nullable = pa.schema(column.with_nullable(True) for column in star.captured_columns)
    both = ValidatedRows(pa.Table.from_pylist([row, row | {"payment_id": 2}], nullable), none)
    for made, missing in ((both.rows, []), (both.rows.slice(1), [{"payment_id": 1}])):
        stats = TransformStats(star)
        stats.observe(inputs, ValidatedRows(made, none))
        assert [check.count(stats) for check in checks_of(star) if check.blocking] == [len(missing)]
        assert stats.lost_keys == missing


def test_a_failed_blocking_check_stops_the_load(platform: Platform) -> None:
    @star_table(
        record_id="record_id", primary_key=("payment_id",), columns=columns(payment_id=pa.int32(), paid=pa.bool_())
    )
    def fact_twice(payment: pd.DataFrame) -> pd.DataFrame:
        """Every payment twice."""
        return pd.concat([payment, payment])

    result = platform.declaring(fact_twice).run(raise_on_error=False)
    assert "transformation/fact_twice: rows_match_capture" in failure(result)
    assert platform.warehouse("SELECT to_regclass('warehouse.loads')") == [[None]]
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_warehouse_checks_find_errors_if_a_constraint_is_missing(platform: Platform) -> None:
    platform.refresh()
    platform.warehouse(
        "ALTER TABLE warehouse.fact_payment DROP CONSTRAINT fact_payment_currency_id_fkey, "
        "DROP CONSTRAINT fact_payment_payment_id_captured_at_key"
    )
    platform.warehouse(
        """INSERT INTO warehouse.fact_payment SELECT (record).* FROM (
               SELECT jsonb_populate_record(p, '{"payment_record_id": 999999}') record
               FROM warehouse.fact_payment p ORDER BY payment_id LIMIT 1) twin"""
    )
    platform.warehouse("UPDATE warehouse.fact_payment SET currency_id = 99 WHERE payment_record_id = 999999")
    platform.warehouse("CREATE OR REPLACE VIEW warehouse.fact_payment_current AS SELECT * FROM warehouse.fact_payment")
    platform.next_window()
    result = platform.refresh()
    for check in ("keys_unique", "foreign_keys_resolve", "current_unique"):
        assert failed_counts(result, check) == {"fact_payment": 1}


def test_warehouse_checks_find_facts_missing_from_the_current_view(platform: Platform) -> None:
    platform.refresh()
    platform.next_window()
    platform.warehouse(
        "CREATE OR REPLACE VIEW warehouse.fact_payment_current AS "
        "SELECT * FROM warehouse.fact_payment WHERE payment_id > 3"
    )
    result = platform.run(full_capture=True)
    assert failed_checks(result, "warehouse", "current_unique") == {"fact_payment": {"wrong": 3}}
    assert failed_checks(result, "warehouse", "rows_match_capture") == {"fact_payment": {"difference": 3}}


def test_rejected_personal_data_is_masked_in_logs_and_checks(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    @star_table(
        primary_key=("staff_id",),
        columns=columns(staff_id=pa.int32(), number=pa.int32()),
        derived_from={"number": "staff.email_address"},
    )
    def dim_number(staff: pd.DataFrame) -> pd.DataFrame:
        """E-mail addresses as numbers: all are rejected."""
        return staff.assign(number=staff["email_address"])

    with dg.instance_for_test() as instance:
        result = platform.declaring(dim_number).run(instance=instance)
        logged = "\n".join(str(record) for record in instance.all_logs(result.run_id))
    [email] = platform.totesys("SELECT email_address FROM staff ORDER BY staff_id LIMIT 1")[0]
    for stage in ("transformation", "warehouse"):
        assert "•••" in str(failed_checks(result, stage, "no_rejected_rows")["dim_number"]["first"])
    assert "not loaded: staff" in logged or "not loaded: dim_number" in logged
    assert email not in logged
    assert email not in str(result.get_asset_check_evaluations())
    assert platform.warehouse("SELECT 1 FROM warehouse.rejected WHERE value = :email", email=email), "it is stored"


def test_a_null_in_a_required_column_fails_a_check_and_blocks_no_other_row(platform: Platform) -> None:
    platform.totesys("UPDATE currency SET currency_code = 'XQX' WHERE currency_id = 1")
    result = platform.run()
    assert failed_checks(result, "transformation", "not_null") == {"dim_currency": {"nulls": 1}}
    assert platform.warehouse("SELECT count(*) FROM warehouse.dim_currency") == [[2]]


def test_a_range_is_replayed_in_order_with_metadata_of_each_partition(platform: Platform) -> None:
    platform.now -= timedelta(hours=1)
    partitions = []
    for units in (1, 2, 3):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        platform.refresh("ingestion")
        partitions.append(platform.partition)
        platform.next_window()
    result = platform.replay(partitions[0], partitions[-1], "transformation", "warehouse")
    history = platform.warehouse(
        "SELECT units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"
    )
    assert history == [[1], [2], [3]]
    assert_warehouse_equals_totesys(platform)
    total = platform.totesys("SELECT count(*) FROM sales_order")[0][0]
    for stage in ("transformation", "warehouse"):
        rows = [metadata(result, f"{stage}/fact_sales_order", key)["dagster/partition_row_count"] for key in partitions]
        assert rows == [total, 1, 1], stage
    again = platform.replay(partitions[0], partitions[-1], "transformation", "warehouse")
    of_loads = [metadata(again, "warehouse/fact_sales_order", key) for key in partitions]
    assert [each["dagster/partition_row_count"] for each in of_loads] == [0, 0, 0]
    assert [each["dagster/row_count"] for each in of_loads] == [total, total, total]


def test_a_window_without_captures_is_loaded_as_empty_whether_it_was_transformed_or_not(platform: Platform) -> None:
    platform.refresh()
    platform.next_window()
    result = platform.run("warehouse")
    assert all(evaluation.passed for evaluation in result.get_asset_check_evaluations())
    loaded = metadata(result, "warehouse/dim_staff")
    [[staff]] = platform.totesys("SELECT count(*) FROM staff")
    assert (loaded["dagster/partition_row_count"], loaded["dagster/row_count"]) == (0, staff)
    assert all(isinstance(value, float) for name, value in loaded.items() if name.startswith("seconds_"))


def test_a_range_of_ingestion_captures_into_the_current_partition_only(platform: Platform) -> None:
    earlier = platform.partition
    platform.next_window()
    result = platform.replay(earlier, platform.partition, "ingestion")
    assert "a capture reads the source as it is now" in metadata(result, "ingestion/staff", earlier)["captured"]
    [[staff]] = platform.totesys("SELECT count(*) FROM staff")
    assert metadata(result, "ingestion/staff", platform.partition)["dagster/partition_row_count"] == staff


def test_one_asset_of_one_partition_can_be_materialized_again(platform: Platform) -> None:
    platform.refresh()
    result = platform.run("transformation/dim_staff")
    assert [event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key] == [
        "dim_staff"
    ]
