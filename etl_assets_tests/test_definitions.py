"""The definitions that Dagster loads, and what one more declaration adds to them."""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from time import time
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
from dagster._core.execution.asset_backfill import AssetBackfillData

from etl_assets.adapters.postgres import connect
from etl_assets.adapters.settings import EnvironmentVariableError, Settings
from etl_assets.automation.jobs import capture_partitions
from etl_assets.catalog.stages import INGESTION, REPORTS, TOTESYS, TRANSFORMATION, WAREHOUSE
from etl_assets.definitions import definitions, defs
from etl_assets.reports.assets import report_assets
from etl_assets.reports.report import load_reports, parse
from etl_assets.schema.columns import CAPTURED_AT, MONEY, columns, enum, optional
from etl_assets.schema.table import Table
from etl_assets.simulator.activity import create_missing_tables
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.star_table import StarTable, star_table
from etl_assets_tests.harness import ROOT, Platform, current_rows, failure
from etl_assets_tests.pipeline import SOURCE, STAR

STAGES = [TOTESYS, INGESTION, TRANSFORMATION, WAREHOUSE, REPORTS]


def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def check_names(definitions: dg.Definitions, asset: str) -> set[str]:
    graph = definitions.resolve_asset_graph()
    return {check.name for check in graph.get_check_keys_for_assets({dg.AssetKey.from_user_string(asset)})}


def columns_with_lineage(spec: dg.AssetSpec) -> set[str]:
    return {column for column, origins in spec.metadata["dagster/column_lineage"].deps_by_column.items() if origins}


def test_every_declared_table_is_an_asset_of_each_stage() -> None:
    assert {name for name in specs(defs) if not name.startswith(REPORTS)} == {
        *(f"{stage}/{name}" for stage in (TOTESYS, INGESTION) for name in SOURCE),
        *(f"{stage}/{name}" for stage in (TRANSFORMATION, WAREHOUSE) for name in STAR),
        "warehouse/rules",
    }


COMPLAINT = Table(
    name="complaint",
    description="Complaints about payments, and what was paid back.",
    primary_key=("complaint_id",),
    columns=columns(
        complaint_id=pa.int32(),
        payment_id=pa.int32(),
        amount=MONEY,
        reason=enum("DAMAGED", "LATE"),
        resolved_at=optional(pa.timestamp("ms")),
    ),
    foreign_keys={"payment_id": "payment"},
)


@star_table(
    record_id="complaint_record_id",
    primary_key=("complaint_id",),
    columns=columns(complaint_id=pa.int32(), currency_id=pa.int32(), amount=MONEY, reason=pa.string()),
    foreign_keys={"currency_id": "dim_currency"},
)
def fact_complaint(complaint: pd.DataFrame, payment: pd.DataFrame) -> pd.DataFrame:
    """Complaints, each in the currency of its payment."""
    return complaint.merge(payment, how="left", on=["payment_id", CAPTURED_AT], validate="m:1")


def test_a_twelfth_source_table_is_one_declaration_and_the_simulator_has_it(platform: Platform) -> None:
    extended = platform.declaring(COMPLAINT, fact_complaint)
    assert specs(extended.definitions).keys() - specs(defs).keys() == {
        *(f"{stage}/complaint" for stage in (TOTESYS, INGESTION)),
        *(f"{stage}/fact_complaint" for stage in (TRANSFORMATION, WAREHOUSE)),
    }
    assert check_names(extended.definitions, "ingestion/complaint") == check_names(defs, "ingestion/design") != set()
    assert columns_with_lineage(specs(extended.definitions)["ingestion/complaint"]) == {*COMPLAINT.columns.names}
    with connect(platform.totesys_url) as connection:
        for _ in range(2):  # the second time, it is there
            create_missing_tables(connection, [*SOURCE.values(), COMPLAINT])
        connection.run("INSERT INTO complaint VALUES (1, 1, 9.99, 'LATE', NULL)")
        [[currency]] = connection.run("SELECT currency_id FROM payment WHERE payment_id = 1")
    extended.refresh()
    assert current_rows(extended, fact_complaint) == [[1, currency, Decimal("9.99"), "LATE"]]


@star_table(primary_key=("design_name",), columns=columns(design_name=pa.string()))
def dim_material(design: pd.DataFrame) -> pd.DataFrame:
    """Materials that designs are named after."""
    return design.drop_duplicates("design_name")


@star_table(
    record_id="order_record_id",
    primary_key=("sales_order_id",),
    columns=columns(sales_order_id=pa.int32(), design_id=pa.int32(), agreed_payment_date=pa.date32()),
    foreign_keys={"design_id": "dim_design", "agreed_payment_date": "dim_date"},
)
def fact_order(sales_order: pd.DataFrame) -> pd.DataFrame:
    """Sales orders by design and agreed date of payment."""
    return sales_order


@pytest.mark.parametrize(
    ("star", "like", "constraints", "source"),
    [
        (dim_material, "dim_design", {"p"}, "SELECT DISTINCT design_name FROM design"),
        (
            fact_order,
            "fact_sales_order",
            {"p", "u", "f"},
            "SELECT sales_order_id, design_id, agreed_payment_date::date FROM sales_order",
        ),
    ],
    ids=["dimension", "fact"],
)
def test_a_new_star_table_is_one_declared_function(
    star: StarTable, like: str, constraints: set[str], source: str, platform: Platform
) -> None:
    extended = platform.declaring(star)
    assets = {f"{stage}/{star.name}": f"{stage}/{like}" for stage in (TRANSFORMATION, WAREHOUSE)}
    assert specs(extended.definitions).keys() - specs(defs).keys() == assets.keys()
    unlike = {"matches_source"} if star is dim_material else set()  # its rows are not those of a source table
    for asset, existing in assets.items():
        assert check_names(extended.definitions, asset) == check_names(defs, existing) - unlike != set()
        assert columns_with_lineage(specs(extended.definitions)[asset]) == {*star.columns.names}
    assert all(evaluation.passed for evaluation in extended.run().get_asset_check_evaluations())
    assert sorted(current_rows(extended, star)) == sorted(extended.totesys(source))
    table = f"'warehouse.{star.name}'::regclass"
    assert extended.warehouse(f"SELECT obj_description({table})") == [[star.description]]
    kinds = extended.warehouse(f"SELECT contype::text FROM pg_constraint WHERE conrelid = {table} AND contype <> 'n'")
    assert {kind for [kind] in kinds} == constraints


def test_a_new_report_is_one_sql_file(platform: Platform) -> None:
    text = """-- title: Orders by design
-- answers: Number of sales orders of each design that was ever ordered.
-- chart: bar x=design_id y=orders
SELECT design_id, count(*) AS orders FROM warehouse.fact_sales_order_current JOIN warehouse.dim_design USING (design_id)
GROUP BY design_id
"""
    reports = report_assets([*load_reports()[0], parse("orders_by_design", text)], [], STAR_TABLES)
    extended = dg.Definitions(assets=[reports], resources=platform.definitions.resources)
    assert specs(extended).keys() - specs(defs).keys() == {"reports/orders_by_design"}
    deps = {
        name: {dep.asset_key.to_user_string() for dep in specs(extended)[f"reports/{name}"].deps}
        for name in ("orders_by_design", "page")
    }
    assert deps["orders_by_design"] == {"warehouse/fact_sales_order", "warehouse/dim_design"}
    assert "reports/orders_by_design" in deps["page"]
    platform.run()
    result = extended.resolve_implicit_global_asset_job_def().execute_in_process()
    [event] = [
        event
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["reports", "orders_by_design"])
    ]
    [[designs]] = platform.totesys("SELECT count(DISTINCT design_id) FROM sales_order")
    assert event.materialization.metadata["dagster/row_count"].value == designs
    assert "chart" in event.materialization.metadata


def test_data_flows_one_way() -> None:
    for spec in defs.resolve_all_asset_specs():
        for dep in spec.deps:
            assert STAGES.index(spec.key.path[0]) - STAGES.index(dep.asset_key.path[0]) in (0, 1)
            assert spec.key.path[0] != INGESTION or dep.asset_key.path == [TOTESYS, spec.key.path[1]]


def test_every_asset_has_group_owner_kinds_description_and_columns() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.group_name == spec.key.path[0]
        assert spec.owners == ["team:data-engineering"]
        assert spec.kinds
        assert spec.description
        # The columns of a report are known when its query has run.
        assert spec.key.path[0] == REPORTS or spec.metadata["dagster/column_schema"].columns


def test_every_job_schedule_sensor_and_op_has_a_description() -> None:
    repository = defs.get_repository_def()
    own_jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    ops = [node for job in own_jobs for node in job.graph.node_defs]
    definitions: list[Any] = [*own_jobs, *ops, *repository.schedule_defs, *repository.sensor_defs]
    for definition in definitions:
        assert definition.description, definition.name
        assert "Raises:" not in definition.description, definition.name


def test_a_report_depends_on_the_tables_it_queries_and_the_page_on_all_reports() -> None:
    deps = {spec.key.path[-1]: {dep.asset_key.path[-1] for dep in spec.deps} for spec in defs.resolve_all_asset_specs()}
    assert deps["revenue_by_month"] == {"fact_sales_order", "dim_currency"}
    assert deps["page"] == {report.name for report in load_reports()[0]}


@pytest.mark.parametrize(
    "start",
    ["yesterday", "2026-13-01", "2026-11-01-00:00", "2026-W45-1", "2026-11-01T10:30:00", "2026-11-01T10:30+01:00"],
)
def test_a_malformed_start_of_partitions_raises_one_line_that_names_it(start: str) -> None:
    with pytest.raises(
        EnvironmentVariableError, match=f"^PARTITIONS_START must be a day or a moment .*{re.escape(start)}"
    ):
        Settings.from_environment({"PARTITIONS_START": start})


def test_a_first_partition_in_the_future_is_refused_with_the_variable() -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    line = f"^PARTITIONS_START is {tomorrow:%Y-%m-%dT%H:%M}, in the future: set it to"
    with pytest.raises(EnvironmentVariableError, match=line):
        definitions(settings=Settings(partitions_start=tomorrow))


@pytest.mark.parametrize(
    ("start", "first"), [("2026-11-02", "2026-11-02-00:00"), ("2026-11-02T10:45", "2026-11-02-10:45")]
)
def test_partitions_begin_at_a_day_or_a_moment(start: str, first: str) -> None:
    settings = Settings.from_environment({"PARTITIONS_START": start})
    assert capture_partitions(settings.partitions_start).get_first_partition_key() == first


def test_a_first_partition_that_begins_within_a_window_is_refused_with_the_variable() -> None:
    settings = Settings.from_environment({"PARTITIONS_START": "2026-11-02T10:40"})
    with pytest.raises(
        EnvironmentVariableError, match=r"^PARTITIONS_START is 2026-11-02T10:40, within a window: set it"
    ):
        definitions(settings=settings)


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("TOTESYS_DATABASE_URL", "", "TOTESYS_DATABASE_URL is not set"),
        ("WAREHOUSE_DATABASE_URL", "http://x", "WAREHOUSE_DATABASE_URL must look like postgresql://"),
        ("INGESTION_URL", "", "INGESTION_URL is not set"),
        ("INGESTION_URL", "ftp://x/y", "INGESTION_URL must look like file:///path or s3://bucket/prefix"),
        ("TRANSFORMATION_URL", "", "TRANSFORMATION_URL is not set"),
    ],
)
def test_a_missing_or_malformed_variable_fails_the_run_with_a_line_that_names_it(
    platform: Platform, variable: str, value: str, line: str
) -> None:
    platform.environment.setenv(variable, value)
    result = platform.run(raise_on_error=False)
    assert not result.success
    assert line in failure(result)


def test_importing_the_package_reads_no_environment_and_connects_nowhere() -> None:
    program = """
import os, socket, sys, pkgutil, importlib
sys.addaudithook(lambda event, args: event == "socket.connect" and sys.exit("connects"))
import dagster, pandas, pyarrow.parquet, pyarrow.csv, pyarrow.fs, pg8000.native, boto3, pycountry, numpy
import etl_assets.adapters.settings
class Unread(dict):
    def __getitem__(self, key, *default):
        if key in set(etl_assets.adapters.settings.Variable) or key.startswith("AWS_"):
            sys.exit(f"reads {key}")
        return dict.get(self, key, *default)
    get = __contains__ = __getitem__
os.environ = Unread(os.environ)
for module in pkgutil.walk_packages(etl_assets.__path__, "etl_assets."):
    if not module.name.endswith(("definitions", "__main__")):
        importlib.import_module(module.name)
"""
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert (completed.returncode, completed.stderr) == (0, "")


def test_dagster_validates_the_workspace(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "--workspace", "workspace.yaml"]
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path), "DAGSTER_DISABLE_TELEMETRY": "1"}
    completed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert completed.returncode == 0, completed.stderr


@pytest.mark.parametrize(
    ("asset", "reason"),
    [
        ("ingestion/staff", "a capture reads them from one snapshot"),
        ("warehouse/dim_staff", "a load writes them in one transaction"),
    ],
)
def test_a_table_that_cannot_be_materialized_alone_is_refused_and_its_description_says_why(
    asset: str, reason: str, platform: Platform
) -> None:
    with pytest.raises(dg.DagsterInvalidSubsetError, match="does not support subsetting"):
        platform.run(asset)
    assert f"only: {reason}" in str(specs(platform.definitions)[asset].description)


@pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning")  # Dagster's own call
@pytest.mark.parametrize("stages", [STAGES[2:4], STAGES[1:4], STAGES[1:]], ids=", ".join)
def test_dagster_takes_a_range_of_several_stages_as_equal_for_all_tables_of_an_op(stages: list[str]) -> None:
    graph = defs.resolve_asset_graph()
    selected = [key for key in graph.executable_asset_keys if key.path[0] in stages]
    windows = ["2026-11-01-00:00", "2026-11-01-00:30"]
    with dg.DagsterInstance.ephemeral() as instance:
        backfill = AssetBackfillData.from_asset_partitions(graph, windows, selected, instance, time(), False)
    ranges = backfill.target_subset.partitions_subsets_by_asset_key
    first, *others = (ranges[dg.AssetKey([WAREHOUSE, name])] for name in STAR)
    assert not any(first != other for other in others)  # as Dagster compares them: != is not the opposite of ==


def test_the_retry_of_an_interrupted_run_does_the_steps_that_were_skipped_too() -> None:
    assert defs.resolve_job_def("etl").tags["dagster/retry_strategy"] == "ALL_STEPS"


@pytest.mark.parametrize("job", ["ingestion", "transformation", "warehouse"])
def test_each_stage_has_a_job_of_its_own_with_a_limit_and_on_ecs_a_task_definition(job: str) -> None:
    on_ecs = definitions(settings=Settings(run_task_definition="totesys-etl-run"))
    for platform in (defs, on_ecs):
        definition = platform.resolve_job_def(job)
        assert {key.path[0] for key in definition.asset_layer.selected_asset_keys} == {job}
        assert 0 < int(definition.tags["dagster/max_runtime"]) <= 3_600
    assert json.loads(definition.tags["ecs/run_task_kwargs"]) == {"taskDefinition": f"totesys-etl-run-{job}"}
    assert "ecs/run_task_kwargs" not in on_ecs.resolve_job_def("etl").tags
