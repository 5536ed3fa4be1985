"""What the UI shows: columns, lineage, metadata, previews, checks; and what materializing from it does."""

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.catalogue import preview
from etl_assets.definitions import defs
from etl_assets.tables import CAPTURED_AT, REJECTED, Conformed, Table, about, columns, frame, is_personal, personal
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.assets import Made, _checks
from etl_assets.transformation.declare import StarTable, described, lineage, star_table
from etl_assets_tests.platform import Platform, failed_checks, failure
from etl_assets_tests.test_etl import assert_warehouse_equals_totesys
from etl_assets_tests.test_transformation import captured_rows

SPECS = {
    spec.key.to_user_string(): spec
    for spec in defs.resolve_all_asset_specs()
    if spec.key.path[0] != "reports"  # what columns a report has is known when it is answered
}
SOURCE = {table.name: table for table in TOTESYS_TABLES}
STAR = {star.name: star for star in STAR_TABLES}
TABLES: dict[str, Table] = SOURCE | STAR
REASONS = {
    "ingestion": {"as_declared"},
    "transformation": {"nothing_rejected", "keys_unique", "not_null", "rows_match_capture"},
    "warehouse": {
        "nothing_rejected",
        "repaired_rows",
        "keys_unique",
        "foreign_keys_resolve",
        "current_unique",
        "rows_match_capture",
    },
}
OF_FACTS = {"rows_match_capture", "foreign_keys_resolve", "current_unique"}


def origins(asset: str) -> dict[str, list[str]]:
    made_of = SPECS[asset].metadata["dagster/column_lineage"].deps_by_column
    return {
        column: [f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps]
        for column, deps in made_of.items()
    }


def test_every_column_of_every_asset_is_described() -> None:
    for name, spec in SPECS.items():
        for column in spec.metadata["dagster/column_schema"].columns:
            assert column.description, f"{name}.{column.name}"


def test_constraints_and_places_are_shown() -> None:
    metadata = SPECS["warehouse/fact_payment"].metadata
    assert metadata["dagster/table_name"] == "warehouse.fact_payment"
    schema = metadata["dagster/column_schema"]
    assert "UNIQUE (payment_id, captured_at)" in schema.constraints.other
    assert "FOREIGN KEY (currency_id) REFERENCES dim_currency" in schema.constraints.other
    by_name = {column.name: column for column in schema.columns}
    assert by_name["payment_amount"].type == "numeric(10,2)"
    assert not by_name["payment_amount"].constraints.nullable
    assert by_name["currency_id"].description == "Currency of the amount. Key of dim_currency."


def test_lineage_goes_from_the_warehouse_to_totesys_column_by_column() -> None:
    assert origins("warehouse/fact_sales_order")["sales_staff_id"] == ["transformation/fact_sales_order.sales_staff_id"]
    assert origins("transformation/fact_sales_order")["sales_staff_id"] == ["ingestion/sales_order.staff_id"]
    assert origins("ingestion/sales_order")["staff_id"] == ["totesys/sales_order.staff_id"]
    assert origins("transformation/dim_counterparty")["counterparty_legal_city"] == ["ingestion/address.city"]
    assert "transformation/fact_payment.payment_date" in origins("transformation/dim_date")["quarter"]
    for asset, origin in (("transformation", "ingestion/address.city"), ("warehouse", "totesys/address.city")):
        description = SPECS[f"{asset}/dim_counterparty"].description or ""
        assert f"| counterparty_legal_city | {origin} |" in description
    assert "totesys/payment.payment_date" in (SPECS["warehouse/dim_date"].description or "")


def test_every_column_of_lineage_exists() -> None:
    shown = {
        f"{name}.{column.name}"
        for name, spec in SPECS.items()
        for column in spec.metadata["dagster/column_schema"].columns
    }
    for name in SPECS:
        if not name.startswith("totesys/"):
            for made_of in origins(name).values():
                assert set(made_of) <= shown


OTHER: Mapping[pa.DataType, Any] = {pa.string(): "2031-05-06", pa.int32(): 77, pa.bool_(): True}


def other(column: pa.Field) -> Any:
    """A value that is not in the rows of `captured`."""
    if pa.types.is_timestamp(column.type):
        return pd.Timestamp("2031-05-06 07:08:09").to_pydatetime()
    if pa.types.is_decimal(column.type):
        return Decimal("123.45")
    return OTHER[column.type]


def one_row(table: Table) -> pa.Table:
    values = {pa.string(): "2024-01-02", pa.int32(): 1, pa.bool_(): False}
    row = {
        column.name: pd.Timestamp("2024-01-02 03:04:05").to_pydatetime()
        if pa.types.is_timestamp(column.type)
        else values.get(column.type, Decimal("1.00"))
        for column in table.columns
    }
    row |= {"currency_code": "GBP"} if table.name == "currency" else {}
    return captured_rows(table.name, row)


def made(star: StarTable, inputs: Mapping[str, pa.Table]) -> dict[str, Any]:
    result = star(**{name: frame(rows) for name, rows in inputs.items()})
    [row] = result[[*star.columns.names]].to_dict("records")
    return {str(name): value for name, value in row.items()}


@pytest.mark.parametrize("star", [star for star in STAR_TABLES if star.name != "dim_date"], ids=lambda star: star.name)
def test_a_change_of_a_source_column_changes_exactly_the_columns_made_of_it(star: StarTable) -> None:
    inputs = {name: one_row(SOURCE[name]) for name in star.inputs(STAR_TABLES)}
    before = made(star, inputs)
    joined = {("staff", "department_id"), ("department", "department_id")}
    joined |= {("counterparty", "legal_address_id"), ("address", "address_id")} if len(inputs) > 1 else set()
    for name, rows in inputs.items():
        for column in SOURCE[name].columns:
            if (name, column.name) in joined:
                continue
            value = "USD" if column.name == "currency_code" else other(column)
            row = rows.to_pylist()[0] | {column.name: value}
            after = made(star, inputs | {name: captured_rows(name, row)})
            expected = {to for to, of in lineage(star, TABLES).items() if (name, column.name) in of}
            assert {to for to in before if before[to] != after[to]} == expected, f"{name}.{column.name}"


def test_a_column_without_an_origin_is_refused_by_name() -> None:
    @star_table(primary_key=("design_id",), columns=columns(design_id=pa.int32(), colour=pa.string()))
    def dim_colour(design: pd.DataFrame) -> pd.DataFrame:
        """Nothing."""
        return design

    with pytest.raises(ValueError, match=r"dim_colour\.colour: declare what it is derived_from"):
        described(dim_colour, TABLES | {"dim_colour": dim_colour})


def test_what_tells_of_a_person_is_masked_and_marked_wherever_it_goes() -> None:
    marked = {
        f"{star.name}.{column.name}"
        for star in (described(star, TABLES) for star in STAR_TABLES)
        for column in star.columns
        if is_personal(column)
    }
    assert marked == {
        "dim_staff.first_name",
        "dim_staff.last_name",
        "dim_staff.email_address",
        "dim_location.phone",
        "dim_counterparty.counterparty_legal_phone_number",
    }
    table = Table(
        name="person",
        description="",
        primary_key=("id",),
        columns=columns(id=pa.int32(), email=personal(about("Theirs.", pa.string()))),
    )
    shown = preview(table, [{"id": number, "email": "ada@x.com"} for number in range(9)])
    assert [record.data for record in shown.records] == [{"id": str(n), "email": "•••"} for n in range(5)]


def metadata(result: dg.ExecuteInProcessResult, asset: str, partition: str | None = None) -> dict[str, Any]:
    [event] = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key
        and event.asset_key.to_user_string() == asset
        and (partition is None or event.partition == partition)
    ]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def test_every_materialization_shows_rows_bytes_times_and_the_first_rows(platform: Platform) -> None:
    result = platform.run()
    shown = {
        stage: metadata(result, f"{stage}/{name}")
        for stage, name in (("ingestion", "staff"), ("transformation", "dim_staff"), ("warehouse", "dim_staff"))
    }
    for stage, facts in shown.items():
        assert facts["dagster/row_count"] == 20, stage
        seconds = {name for name in facts if name.startswith("seconds_")}
        assert seconds
        assert all(isinstance(facts[name], float) and facts[name] > 0 for name in seconds)
    assert {"seconds_read", "seconds_transform", "seconds_write"} <= shown["transformation"].keys()
    for stage in ("ingestion", "transformation"):
        assert shown[stage]["bytes"] > 0
        assert shown[stage]["dagster/uri"].startswith("file://")
    for stage in ("ingestion", "warehouse"):
        assert isinstance(shown[stage]["captured_at"], float)
    for stage in ("transformation", "warehouse"):
        assert shown[stage]["rejected"] == 0
    [email] = platform.totesys("SELECT email_address FROM staff ORDER BY staff_id LIMIT 1")[0]
    for result_event in result.get_asset_materialization_events():
        assert email not in str(result_event.materialization.metadata), result_event.asset_key
    for stage in shown:
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
    found: dict[tuple[str, str], set[str]] = {}
    for evaluation in result.get_asset_check_evaluations():
        assert evaluation.passed, evaluation
        stage, name = evaluation.asset_key.path
        found.setdefault((stage, name), set()).add(evaluation.check_name)
    for (stage, name), checks in found.items():
        facts_only = OF_FACTS if not name.startswith("fact_") else set()
        assert checks == REASONS[stage] - facts_only, (stage, name)
    assert len(found) == 33


def evaluated(star: StarTable, inputs: Mapping[str, Conformed], result: Conformed) -> dict[str, bool]:
    made = Made(star)
    made.note(inputs, result)
    return {check.name: not check.count(made) for check in _checks(star) if check.blocking}


def test_what_must_not_be_loaded_fails_a_blocking_check() -> None:
    star, none = STAR["fact_payment"], REJECTED.empty_table()
    payments = captured_rows(
        "payment", *(one_row(SOURCE["payment"]).to_pylist()[0] | {"payment_id": n} for n in (1, 2))
    )
    inputs = {"payment": Conformed(payments, none)}
    row = dict.fromkeys(star.columns.names) | {"payment_id": 1, CAPTURED_AT: payments.column(CAPTURED_AT)[0].as_py()}
    nullable = pa.schema(column.with_nullable(True) for column in star.captured_columns)
    twice = pa.Table.from_pylist([row, row], nullable)
    assert evaluated(star, inputs, Conformed(twice, none)) == {
        "keys_unique": False,
        "rows_match_capture": True,
    }
    assert not evaluated(star, inputs, Conformed(twice.slice(1), none))["rows_match_capture"]


def test_a_blocking_check_that_fails_stops_the_load(platform: Platform) -> None:
    @star_table(
        record_id="record_id",
        primary_key=("payment_id",),
        columns=columns(payment_id=pa.int32(), paid=pa.bool_()),
    )
    def fact_twice(payment: pd.DataFrame) -> pd.DataFrame:
        """Every payment twice."""
        return pd.concat([payment, payment])

    wider = Platform(
        platform.totesys_url,
        platform.warehouse_url,
        platform.buckets_url,
        platform.environment,
        star_tables=(*STAR_TABLES, fact_twice),
    )
    result = wider.run(raise_on_error=False)
    assert "transformation/fact_twice: keys_unique,rows_match_capture" in failure(result)
    assert wider.warehouse("SELECT to_regclass('warehouse.loads')") == [[None]]
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


def test_the_warehouse_is_audited_where_a_constraint_is_gone(platform: Platform) -> None:
    platform.run()
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
    result = platform.run()
    assert failed_checks(result, "warehouse", "keys_unique") == {"fact_payment": {"duplicates": 1}}
    assert failed_checks(result, "warehouse", "foreign_keys_resolve") == {"fact_payment": {"dangling": 1}}
    assert failed_checks(result, "warehouse", "current_unique") == {"fact_payment": {"not once": 1}}


def test_a_view_of_the_present_that_leaves_out_facts_is_found(platform: Platform) -> None:
    platform.run()
    platform.next_window()
    platform.warehouse(
        "CREATE OR REPLACE VIEW warehouse.fact_payment_current AS "
        "SELECT * FROM warehouse.fact_payment WHERE payment_id > 3"
    )
    result = platform.run(full_capture=True)
    assert failed_checks(result, "warehouse", "current_unique") == {"fact_payment": {"not once": 3}}
    assert failed_checks(result, "warehouse", "rows_match_capture") == {"fact_payment": {"rows too many or too few": 3}}


def test_what_is_rejected_of_a_person_is_masked_everywhere_it_is_shown(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    @star_table(
        primary_key=("staff_id",),
        columns=columns(staff_id=pa.int32(), number=pa.int32()),
        derived_from={"number": "staff.email_address"},
    )
    def dim_number(staff: pd.DataFrame) -> pd.DataFrame:
        """An e-mail address is no number."""
        return staff.assign(number=staff["email_address"])

    wider = Platform(
        platform.totesys_url,
        platform.warehouse_url,
        platform.buckets_url,
        platform.environment,
        star_tables=(*STAR_TABLES, dim_number),
    )
    with dg.instance_for_test() as instance:
        result = wider.run(instance=instance)
        logged = "\n".join(str(record) for record in instance.all_logs(result.run_id))
    [email] = wider.totesys("SELECT email_address FROM staff ORDER BY staff_id LIMIT 1")[0]
    assert "•••" in str(failed_checks(result, "warehouse", "nothing_rejected")["dim_number"]["first"])
    assert "•••" in str(failed_checks(result, "transformation", "nothing_rejected")["dim_number"]["first"])
    assert "not loaded: staff" in logged or "not loaded: dim_number" in logged
    assert email not in logged
    assert email not in str(result.get_asset_check_evaluations())
    assert wider.warehouse("SELECT value FROM warehouse.rejected WHERE value = :email", email=email), "it is kept"


def test_a_null_where_none_may_be_is_told_and_stops_no_other_row(platform: Platform) -> None:
    platform.totesys("UPDATE currency SET currency_code = 'XQX' WHERE currency_id = 1")
    result = platform.run()
    assert failed_checks(result, "transformation", "not_null") == {"dim_currency": {"nulls": 1}}
    assert platform.warehouse("SELECT count(*) FROM warehouse.dim_currency") == [[2]]


def replay_range(platform: Platform, first: str, last: str, *stages: str) -> dg.ExecuteInProcessResult:
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    with dg.partition_loading_context(effective_dt=platform.now):
        return platform.definitions.resolve_job_def("etl").execute_in_process(
            tags=tags,
            asset_selection=[
                spec.key for spec in platform.definitions.resolve_all_asset_specs() if spec.key.path[0] in stages
            ],
        )


def test_a_range_is_replayed_in_one_run_in_order_each_partition_with_its_own_figures(platform: Platform) -> None:
    platform.now -= timedelta(hours=1)
    partitions = []
    for units in (1, 2, 3):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        platform.run("ingestion")
        partitions.append(platform.partition)
        platform.next_window()
    result = replay_range(platform, partitions[0], partitions[-1], "transformation", "warehouse")
    history = platform.warehouse(
        "SELECT units_sold FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY captured_at"
    )
    assert history == [[1], [2], [3]]
    assert_warehouse_equals_totesys(platform)
    total = platform.totesys("SELECT count(*) FROM sales_order")[0][0]
    for stage in ("transformation", "warehouse"):
        rows = [metadata(result, f"{stage}/fact_sales_order", key)["dagster/row_count"] for key in partitions]
        assert rows == [total, 1, 1], stage
    again = replay_range(platform, partitions[0], partitions[-1], "transformation", "warehouse")
    assert [metadata(again, "warehouse/fact_sales_order", key)["dagster/row_count"] for key in partitions] == [0, 0, 0]


def test_a_range_of_ingestion_captures_into_the_present_and_says_so_of_the_others(platform: Platform) -> None:
    earlier = platform.partition
    platform.next_window()
    result = replay_range(platform, earlier, platform.partition, "ingestion")
    assert "totesys has no memory" in metadata(result, "ingestion/staff", earlier)["captured"]
    assert metadata(result, "ingestion/staff", platform.partition)["dagster/row_count"] == 20


def test_one_asset_of_one_partition_can_be_made_again(platform: Platform) -> None:
    platform.run()
    result = platform.run("transformation/dim_staff")
    assert [event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key] == [
        "dim_staff"
    ]
