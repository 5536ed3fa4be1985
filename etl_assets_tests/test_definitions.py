"""What Dagster loads."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.definitions import defs
from etl_assets.environment import EnvironmentVariableError, Settings
from etl_assets.reports.assets import declared
from etl_assets.tables import columns
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.declare import star_table
from etl_assets_tests.platform import Platform, failure

STAGES = ["totesys", "ingestion", "transformation", "warehouse"]
IN_ORDER = [*STAGES, "reports"]
ROOT = Path(__file__).parent.parent


@star_table(primary_key=("design_name",), columns=columns(design_name=pa.string()))
def dim_material(design: pd.DataFrame) -> pd.DataFrame:
    """Materials that designs are named after."""
    return design.drop_duplicates("design_name")


def stages(definitions: dg.Definitions) -> list[str]:
    return [spec.key.path[0] for spec in definitions.resolve_all_asset_specs()]


def test_every_declared_table_is_an_asset_of_each_stage() -> None:
    assert {stage: stages(defs).count(stage) for stage in STAGES} == dict.fromkeys(STAGES, 11)
    assert len(TOTESYS_TABLES) == len(STAR_TABLES) == 11


def test_a_new_dimension_is_one_function_under_one_declaration(platform: Platform) -> None:
    wider = Platform(
        platform.totesys_url,
        platform.warehouse_url,
        platform.buckets_url,
        platform.environment,
        star_tables=(*STAR_TABLES, dim_material),
    )
    assert stages(wider.definitions).count("transformation") == stages(wider.definitions).count("warehouse") == 12
    wider.run()
    loaded = wider.warehouse("SELECT count(*) FROM warehouse.dim_material")
    assert loaded == wider.totesys("SELECT count(DISTINCT design_name) FROM design")


def test_data_flow_one_way() -> None:
    for spec in defs.resolve_all_asset_specs():
        for dep in spec.deps:
            assert IN_ORDER.index(spec.key.path[0]) - IN_ORDER.index(dep.asset_key.path[0]) in (0, 1)
            assert spec.key.path[0] != "ingestion" or dep.asset_key.path == ["totesys", spec.key.path[1]]


def test_every_asset_has_group_owner_kinds_description_and_columns() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert spec.group_name == spec.key.path[0]
        assert spec.owners == ["team:data-engineering"]
        assert spec.kinds
        assert spec.description
        # What columns a report has is known when it is answered.
        assert spec.key.path[0] == "reports" or spec.metadata["dagster/column_schema"].columns


def test_a_report_follows_the_tables_it_is_answered_from() -> None:
    deps = {spec.key.path[-1]: {dep.asset_key.path[-1] for dep in spec.deps} for spec in defs.resolve_all_asset_specs()}
    assert deps["revenue_by_month"] == {"fact_sales_order", "dim_currency"}
    assert deps["page"] == {report.name for report in declared()}


@pytest.mark.parametrize("start", ["yesterday", "2026-13-01", "2026-11-01-00:00"])
def test_a_malformed_start_of_partitions_is_one_line_that_names_it(start: str) -> None:
    with pytest.raises(EnvironmentVariableError, match=f"^PARTITIONS_START must be a date .*{start}"):
        Settings.from_environment({"PARTITIONS_START": start})


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
    probe = """
import os, socket, sys, pkgutil, importlib
sys.addaudithook(lambda event, args: event == "socket.connect" and sys.exit("connects"))
import dagster, pandas, pyarrow.parquet, pyarrow.csv, pyarrow.fs, pg8000.native, boto3, pycountry, numpy
import etl_assets.environment
class Watched(dict):
    def __getitem__(self, key, *default):
        if key in set(etl_assets.environment.Variable) or key.startswith("AWS_"):
            sys.exit(f"reads {key}")
        return dict.get(self, key, *default)
    get = __contains__ = __getitem__
os.environ = Watched(os.environ)
for module in pkgutil.walk_packages(etl_assets.__path__, "etl_assets."):
    if not module.name.endswith(("definitions", "demo", "__main__")):
        importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_dagster_validates_the_workspace(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "--workspace", "workspace.yaml"]
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path), "DAGSTER_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
