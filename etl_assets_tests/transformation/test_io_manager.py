"""Assets of users, downstream of every stage: what they get, what they may return, and the errors they get."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest
from dagster._core.workspace.autodiscovery import loadable_targets_from_loaded_module
from dagster_aws.s3 import S3Resource

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.adapters.settings import EnvironmentVariableError
from etl_assets.catalog.stages import REPORTS
from etl_assets.definitions import definitions, defs
from etl_assets.reports.answers import answer_reports, answer_table
from etl_assets.reports.report import ReportError, load_reports
from etl_assets.schema.rows import Rows
from etl_assets.simulator.postgres import Server
from etl_assets_tests import own_assets, own_jobs
from etl_assets_tests.harness import ROOT, Platform, failure, new_database
from etl_assets_tests.pipeline import SOURCE, STAR

FACT, DESIGN = ["transformation", "fact_sales_order"], ["warehouse", "dim_design"]
IO_MANAGER = "transformation_io_manager"
TYPES: list[Any] = [pd.DataFrame, pa.Table, pa.RecordBatchReader, Rows]


@pytest.fixture(scope="module")
def loaded(
    server: Server, busy_totesys: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Platform, str, str]]:
    """The platform after two windows with a change between them, and the windows."""
    with pytest.MonkeyPatch.context() as environment:
        buckets = f"file://{tmp_path_factory.mktemp('buckets')}"
        platform = Platform(new_database(server, busy_totesys), new_database(server), buckets, environment)
        platform.now -= timedelta(hours=1)
        platform.refresh()
        first = platform.partition
        platform.next_window()
        platform.totesys("UPDATE sales_order SET units_sold = 7, unit_price = 2.50 WHERE sales_order_id = 1")
        platform.refresh()
        yield platform, first, platform.partition


def run(assets: list[dg.AssetsDefinition], **how: Any) -> dg.ExecuteInProcessResult:
    definitions = dg.Definitions.merge(defs, dg.Definitions(assets=assets))
    return definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[asset.key for asset in assets], raise_on_error=False, **how
    )


def over(first: str, last: str) -> dict[str, Any]:
    return {"tags": {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}}


def taking(key: list[str], annotation: Any = None, **more: Any) -> tuple[dg.AssetsDefinition, list[Any]]:
    """An asset that takes another as an input, and what it got."""
    got: list[Any] = []

    def taker(rows) -> None:  # type: ignore[no-untyped-def]
        got.append(rows.read_all() if isinstance(rows, pa.RecordBatchReader) else rows)

    if annotation:
        taker.__annotations__["rows"] = annotation
    decorate = dg.asset(ins={"rows": dg.AssetIn(key, metadata=more)}, partitions_def=own_assets.WINDOWS)
    return decorate(taker), got


def returning(value: Any, **how: Any) -> dg.AssetsDefinition:
    @dg.asset(**({"io_manager_key": IO_MANAGER} | how))
    def returned():  # type: ignore[no-untyped-def]
        return value

    return returned


def read_back(asset: dg.AssetsDefinition, partition: str | None = None, python_type: Any = pd.DataFrame) -> Any:
    definitions = dg.Definitions.merge(defs, dg.Definitions(assets=[asset]))
    return definitions.load_asset_value(asset.key, python_type=python_type, partition_key=partition)


def test_a_module_of_15_lines_takes_transformation_and_warehouse(loaded: tuple[Platform, str, str]) -> None:
    platform, first, second = loaded
    lines = Path(own_assets.__file__).read_text().partition('"""\n')[2].splitlines()
    assert len([line for line in lines if line.strip()]) <= 15
    for partition in (first, second):  # as a backfill launches them: a run for each partition of a range
        result = run([own_assets.order_values], partition_key=partition)
        assert result.success
    assert run([own_assets.units_by_design]).success
    values = read_back(own_assets.order_values, second)
    assert [str(value) for value in values["value"]] == ["17.50"]
    assert values["value"].dtype.pyarrow_dtype.scale == 2
    assert len(read_back(own_assets.order_values, first)) == platform.totesys("SELECT count(*) FROM sales_order")[0][0]
    units: Any = own_assets.defs.load_asset_value(["units_by_design"], python_type=pd.DataFrame)
    assert sorted(map(tuple, units.itertuples(index=False))) == sorted(
        map(
            tuple,
            platform.totesys(
                "SELECT design_name, sum(units_sold) FROM sales_order JOIN design USING (design_id) GROUP BY 1"
            ),
        )
    )


@pytest.mark.parametrize(("module", "page"), [(own_assets, "io-managers"), (own_jobs, "operations")])
def test_a_documented_module_is_the_tested_one_and_dagster_loads_it(module: ModuleType, page: str) -> None:
    code = Path(str(module.__file__)).read_text().partition('"""\n')[2].strip()
    assert code in (ROOT / "docs" / f"{page}.md").read_text()
    assert [target.attribute for target in loadable_targets_from_loaded_module(module)] == ["defs"]


def test_materializations_of_users_have_rows_bytes_uri_and_seconds(loaded: tuple[Platform, str, str]) -> None:
    platform, _, second = loaded
    [event] = run([own_assets.order_values], partition_key=second).asset_materializations_for_node("order_values")
    assert event.metadata["dagster/partition_row_count"].value == 1
    assert "dagster/row_count" not in event.metadata, "how many rows all partitions have is not known"
    uri = str(event.metadata["dagster/uri"].value)
    assert uri.startswith(f"{platform.transformation_url}/assets/order_values/")
    assert event.metadata["bytes"].value == Path(uri.removeprefix("file://")).stat().st_size
    assert float(str(event.metadata["seconds_write"].value)) >= 0


@pytest.mark.parametrize("annotation", TYPES, ids=lambda type_: type_.__name__)
@pytest.mark.parametrize("key", [["ingestion", "sales_order"], FACT, ["warehouse", "fact_sales_order"]], ids="/".join)
def test_inputs_of_every_stage_have_the_annotated_type(
    loaded: tuple[Platform, str, str], key: list[str], annotation: Any
) -> None:
    asset, got = taking(key, annotation)
    assert run([asset], partition_key=loaded[2]).success
    [value] = got
    if isinstance(value, Rows):
        assert isinstance(value, annotation)
        value = value.to_arrow()
    if isinstance(value, pd.DataFrame):
        assert annotation is pd.DataFrame
        assert value["units_sold"].dtype == pd.ArrowDtype(pa.int32())
        value = pa.Table.from_pandas(value, preserve_index=False)
    declared = SOURCE["sales_order"] if key[0] == "ingestion" else STAR["fact_sales_order"]
    assert value.schema.names == declared.captured_columns.names
    assert value.schema.types == declared.captured_columns.types
    [changed] = value.filter(pa.compute.equal(value["sales_order_id"], 1)).to_pylist()
    assert (changed["units_sold"], str(changed["unit_price"])) == (7, "2.50")
    assert value.num_rows > 1 if key[0] == "warehouse" else value.num_rows == 1


def test_an_input_without_annotation_opens_nothing_until_rows_are_wanted(
    loaded: tuple[Platform, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRANSFORMATION_URL", "INGESTION_URL", "WAREHOUSE_DATABASE_URL"):
        monkeypatch.setenv(name, "nonsense")
    for key in (["ingestion", "sales_order"], FACT, DESIGN):
        asset, got = taking(key)
        assert run([asset], partition_key=loaded[2]).success
        with pytest.raises(EnvironmentVariableError):
            got[0].to_pandas()


def test_several_partitions_are_one_frame_or_a_dict_as_annotated(loaded: tuple[Platform, str, str]) -> None:
    _, first, second = loaded
    asset, whole = taking(FACT, pd.DataFrame)
    assert run([asset], **over(first, second)).success
    asset, by_partition = taking(FACT, dict[str, pd.DataFrame])
    assert run([asset], **over(first, second)).success
    assert list(by_partition[0]) == [first, second]
    assert len(by_partition[0][second]) == 1
    assert len(whole[0]) == sum(map(len, by_partition[0].values()))


def test_a_run_over_a_range_stores_a_dict_by_partition(loaded: tuple[Platform, str, str]) -> None:
    _, first, second = loaded

    @dg.asset(ins={"orders": dg.AssetIn(FACT)}, partitions_def=own_assets.WINDOWS, io_manager_key=IO_MANAGER)
    def counts(orders: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
        return {partition: pd.DataFrame({"orders": [len(rows)]}) for partition, rows in orders.items()}

    result = run([counts], **over(first, second))
    assert [event.partition for event in result.asset_materializations_for_node("counts")] == [first, second]
    assert read_back(counts, second)["orders"].tolist() == [1]
    assert read_back(counts, first)["orders"].tolist()[0] > 1
    alone = run([counts], partition_key=second)
    assert alone.success
    assert read_back(counts, second, pa.Table).to_pylist() == [{"orders": 1}]


@pytest.mark.parametrize("kind", ["frame", "table", "reader"])
def test_frames_tables_and_readers_are_stored_and_the_newest_counts(
    loaded: tuple[Platform, str, str], kind: str
) -> None:
    for number in (1, 2):
        table = pa.table({"n": pa.array([number, None], pa.int16()), "text": ["", "ä"]})
        value: Any = {
            "frame": table.to_pandas(types_mapper=pd.ArrowDtype),
            "table": table,
            "reader": pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(1))),
        }[kind]
        asset = returning(value, name=f"stored_{kind}")
        assert run([asset]).success
    assert read_back(asset, python_type=pa.Table).equals(table)
    assert read_back(asset)["n"].dtype == pd.ArrowDtype(pa.int16())


def test_an_index_with_names_survives(loaded: tuple[Platform, str, str]) -> None:
    totals = pd.DataFrame({"design": ["a", "b", "a"], "units": [1, 2, 3]}).groupby("design").sum()
    asset = returning(totals)
    assert run([asset]).success
    assert read_back(asset)["units"].to_dict() == {"a": 4, "b": 2}


def test_users_tables_never_lie_where_star_tables_do(loaded: tuple[Platform, str, str]) -> None:
    platform, _, _ = loaded
    before = sorted(Path(platform.transformation_url.removeprefix("file://")).glob("dim_design/**/*.parquet"))
    assert run([returning(pd.DataFrame({"n": [1]}), name="dim_design")]).success
    after = sorted(Path(platform.transformation_url.removeprefix("file://")).glob("dim_design/**/*.parquet"))
    assert before == after


def test_history_is_read_on_request(loaded: tuple[Platform, str, str]) -> None:
    platform, _, second = loaded
    key = ["warehouse", "fact_sales_order"]
    asset, got = taking(key, pa.Table, history=True)
    assert run([asset], partition_key=second).success
    versions = sorted(
        (row for row in got[0].to_pylist() if row["sales_order_id"] == 1), key=lambda row: row["valid_from"]
    )
    assert [row["units_sold"] for row in versions][-1] == 7
    assert [row["valid_to"] for row in versions] == [versions[1]["valid_from"], None]
    [[count]] = platform.warehouse("SELECT count(*) FROM warehouse.fact_sales_order_history")
    assert got[0].num_rows == count


def test_every_report_is_loaded_with_the_types_of_its_result_and_without_rows_too(
    loaded: tuple[Platform, str, str],
) -> None:
    platform, _, second = loaded
    with defs.get_asset_value_loader() as loader:
        for report in load_reports()[0]:
            rows = loader.load_asset_value([REPORTS, report.name], python_type=pa.Table)
            assert isinstance(rows, pa.Table)
            with connect(platform.warehouse_url) as connection:
                [answer], _ = answer_reports(connection, [report])
                empty = answer_table(connection, replace(report, query=f"SELECT * FROM ({report.query}) rows LIMIT 0"))
            assert rows.num_rows == len(answer.rows), report.name
            assert rows.schema == empty.schema, report.name
    types = dict(zip(rows.schema.names, rows.schema.types, strict=True))
    assert (types["currency"], types["units"], types["revenue"]) == (pa.string(), pa.int64(), pa.decimal128(38, 18))
    asset, got = taking([REPORTS, "top_designs"], pd.DataFrame)
    assert run([asset], partition_key=second).success
    [[revenue]] = platform.warehouse("SELECT sum(units_sold * unit_price) FROM warehouse.fact_sales_order_current")
    assert 0 < got[0]["revenue"].sum() <= revenue


def test_a_report_that_cannot_be_a_table_is_named_with_its_columns(loaded: tuple[Platform, str, str]) -> None:
    platform, _, _ = loaded
    report = load_reports()[0][-1]
    for query, problem in (
        ("SELECT interval '1 day' AS lag", "column lag is interval, for which there is no Arrow type: CAST it AS text"),
        ("SELECT date 'infinity' AS due", "column due has a value that no Arrow date32"),
        ("SELECT numeric 'NaN' AS share", "column share has a value that no Arrow decimal128"),
    ):
        changed = replace(report, query=query, chart=None, units={})
        with connect(platform.warehouse_url) as connection, pytest.raises(ReportError, match=re.escape(problem)):
            answer_table(connection, changed)


def test_the_page_of_reports_is_loaded_as_its_html(loaded: tuple[Platform, str, str]) -> None:
    platform, _, _ = loaded
    page = [REPORTS, "page"]
    with defs.get_asset_value_loader() as loader:
        with pytest.raises(dg.Failure, match="reports/page has no page: materialize it first"):
            loader.load_asset_value(page)
        with pytest.raises(dg.Failure, match="it is HTML, annotate the input as str"):
            loader.load_asset_value(page, python_type=pd.DataFrame)
        with Bucket(platform.transformation_url).create("reports/2026-11-28_00.00.00.000000.html") as file:
            file.write(b"<!doctype html>")
        assert loader.load_asset_value(page, python_type=str) == "<!doctype html>"


def test_a_live_table_is_loaded_as_a_full_capture_would_have_it(loaded: tuple[Platform, str, str]) -> None:
    _, first, _ = loaded
    with defs.get_asset_value_loader() as loader:
        live = loader.load_asset_value(["totesys", "design"], python_type=pa.Table)
        captured = loader.load_asset_value(["ingestion", "design"], python_type=pa.Table, partition_key=first)
    assert isinstance(live, pa.Table)
    assert isinstance(captured, pa.Table)
    assert live.schema == captured.schema
    key = [("design_id", "ascending")]
    assert live.drop("captured_at").sort_by(key) == captured.drop("captured_at").sort_by(key)


def test_a_partition_without_captures_is_a_typed_empty_frame(loaded: tuple[Platform, str, str]) -> None:
    asset, got = taking(["ingestion", "staff"], pd.DataFrame)
    assert run([asset], partition_key="2026-11-01-00:00").success
    assert len(got[0]) == 0
    assert got[0]["staff_id"].dtype == pd.ArrowDtype(pa.int32())


def test_a_table_without_rows_in_a_partition_is_a_typed_empty_frame(loaded: tuple[Platform, str, str]) -> None:
    asset, got = taking(["transformation", "dim_staff"], pd.DataFrame)
    assert run([asset], partition_key=loaded[2]).success
    assert len(got[0]) == 0
    assert got[0]["staff_id"].dtype == pd.ArrowDtype(pa.int32())


def test_a_partition_never_materialized_is_named_unless_it_may_be_missing(loaded: tuple[Platform, str, str]) -> None:
    missing = "2026-11-01-00:00"
    asset, _ = taking(FACT, pd.DataFrame)
    result = run([asset], partition_key=missing)
    assert f"transformation/fact_sales_order has no partition {missing}: materialize it first" in failure(result)
    asset, got = taking(FACT, pd.DataFrame, allow_missing_partitions=True)
    assert run([asset], partition_key=missing).success
    assert len(got[0]) == 0
    assert "unit_price" in got[0].columns


@pytest.mark.parametrize("asset", [["ingestion", "design"], FACT], ids="/".join)
def test_a_partitioned_asset_is_not_loaded_without_a_partition(
    loaded: tuple[Platform, str, str], asset: list[str]
) -> None:
    with pytest.raises(dg.Failure, match=f'^{"/".join(asset)} is partitioned: say which rows .* partition_key="20'):
        defs.load_asset_value(asset, python_type=pd.DataFrame)


def test_the_rules_of_the_warehouse_are_metadata_and_no_table_to_load(loaded: tuple[Platform, str, str]) -> None:
    with pytest.raises(dg.Failure, match=r"^rules is no star table: the star tables are dim_counterparty,"):
        defs.load_asset_value(["warehouse", "rules"], python_type=pd.DataFrame)


def test_a_warehouse_without_the_table_is_told_to_be_loaded_first(
    loaded: tuple[Platform, str, str], warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_DATABASE_URL", warehouse_url)
    with pytest.raises(dg.Failure, match=r"^warehouse/dim_design does not exist yet: materialize warehouse/\* first$"):
        defs.load_asset_value(DESIGN, python_type=pd.DataFrame)


def test_a_users_table_never_materialized_is_named(loaded: tuple[Platform, str, str]) -> None:
    with pytest.raises(dg.Failure, match="never has no rows: materialize it first"):
        read_back(returning(None, name="never"))


def test_a_type_that_cannot_be_loaded_is_named_with_those_that_can(loaded: tuple[Platform, str, str]) -> None:
    asset, _ = taking(FACT, int)
    message = failure(run([asset], partition_key=loaded[2]))
    assert "transformation/fact_sales_order cannot be loaded as <class 'int'>" in message
    assert "pandas.DataFrame, pyarrow.Table or pyarrow.RecordBatchReader" in message
    asset, _ = taking(DESIGN, dict[str, pd.DataFrame])
    assert "warehouse/dim_design cannot be loaded as" in failure(run([asset], partition_key=loaded[2]))


@pytest.mark.parametrize("value", [5, ["a"], {"n": [1]}, None], ids=repr)
def test_a_value_that_cannot_be_stored_is_named_with_those_that_can(
    loaded: tuple[Platform, str, str], value: Any
) -> None:
    message = failure(run([returning(value)]))
    assert "returned returned a" in message
    assert "pandas.DataFrame" in message or "partitions of the run" in message


def test_one_frame_for_several_partitions_is_refused_with_two_ways_out(loaded: tuple[Platform, str, str]) -> None:
    _, first, second = loaded
    message = failure(run([own_assets.order_values], **over(first, second)))
    assert "order_values returned one DataFrame for 2 partitions" in message
    assert "multi_run(1)" in message
    asset = returning({first: pd.DataFrame()}, partitions_def=own_assets.WINDOWS)
    message = failure(run([asset], **over(first, second)))
    assert f"returned a dict with the keys {first}; the partitions of the run are {first}, {second}" in message


@pytest.mark.parametrize("io_manager", ["ingestion_io_manager", "warehouse_io_manager"])
def test_io_managers_that_only_read_say_which_one_writes(loaded: tuple[Platform, str, str], io_manager: str) -> None:
    result = run([returning(pd.DataFrame({"n": [1]}), io_manager_key=io_manager)])
    assert "only reads" in failure(result)
    assert "transformation_io_manager" in failure(result)
    assert not [event for event in result.all_events if event.is_step_up_for_retry]


@pytest.mark.parametrize("scheme", ["file", "s3"])
def test_any_value_of_an_asset_without_an_io_manager_is_stored_below_the_transformation_url(
    scheme: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = request.getfixturevalue("s3_bucket") if scheme == "s3" else f"file://{tmp_path}/a folder"
    monkeypatch.setenv("TRANSFORMATION_URL", f"{url}/transformation".replace(" ", "%20"))

    @dg.asset
    def prices() -> dict[str, Any]:
        return {"Alloy": [1, 2.5], "Cotton": None}

    @dg.asset
    def dearest(prices: dict[str, Any]) -> float:
        return float(max(prices["Alloy"]))

    assert run([prices, dearest]).success
    assert run([prices]).success, "overwritten, as by any IO manager of Dagster"
    platform = dg.Definitions.merge(defs, dg.Definitions(assets=[prices, dearest]))
    assert platform.load_asset_value("dearest") == 2.5
    if scheme == "s3":
        listed = boto3.client("s3").list_objects_v2(Bucket=url.removeprefix("s3://"))["Contents"]
        assert {each["Key"] for each in listed} == {f"transformation/pickles/{name}" for name in ("prices", "dearest")}
    else:
        assert (tmp_path / "a folder/transformation/pickles/dearest").is_file()


def test_the_s3_resource_of_dagster_aws_decides_how_buckets_are_opened(
    s3_bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSFORMATION_URL", s3_bucket)
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    s3 = S3Resource(
        endpoint_url=s3_endpoint, region_name="eu-west-2", aws_access_key_id="me", aws_secret_access_key="s3cret"
    )
    platform = definitions(s3=s3)
    for asset in (returning(pd.DataFrame({"a": [1]})), returning("any value", io_manager_key="io_manager")):
        result = dg.materialize([asset], resources=platform.resources)
        assert result.success
    keys = [each["Key"] for each in s3.get_client().list_objects_v2(Bucket=s3_bucket.removeprefix("s3://"))["Contents"]]
    assert [key.partition("/")[0] for key in keys] == ["assets", "pickles"]
