"""The Parquet files of star tables."""

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.ingestion.manifest import partition_folder
from etl_assets.schema.validation import REJECTED, ValidatedRows
from etl_assets.transformation.code_version import rule_versions
from etl_assets.transformation.parquet_files import NotTransformedError, StarBatches, write_star
from etl_assets_tests.harness import Platform, failure
from etl_assets_tests.pipeline import CATALOG, STAR, star_input


def test_a_new_file_of_a_partition_overwrites_no_other(platform: Platform) -> None:
    platform.refresh("ingestion", "transformation")
    platform.totesys("UPDATE currency SET currency_code = 'JPY' WHERE currency_id = 1")
    platform.refresh("ingestion", "transformation")
    keys = Bucket(platform.transformation_url).objects(partition_folder("dim_currency", platform.partition))
    folder = platform.transformation_url.removeprefix("file://")
    assert [pq.ParquetFile(f"{folder}/{key}").metadata.num_rows for key in keys] == [3, 4]


def test_a_user_asset_gets_dataframes_of_two_stages(platform: Platform) -> None:
    platform.refresh("ingestion", "transformation")
    inputs: dict[str, pd.DataFrame] = {}

    @dg.asset(
        ins={"staff": dg.AssetIn(["ingestion", "staff"]), "dim_staff": dg.AssetIn(["transformation", "dim_staff"])},
        partitions_def=platform.definitions.resolve_job_def("etl").partitions_def,
    )
    def user_asset(staff: pd.DataFrame, dim_staff: pd.DataFrame) -> None:
        inputs.update(staff=staff, dim_staff=dim_staff)

    definitions = dg.Definitions.merge(dg.Definitions([user_asset]), platform.definitions)
    with dg.partition_loading_context(effective_dt=platform.now):
        definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[user_asset.key], partition_key=platform.partition
        )
    assert inputs["staff"]["department_id"].dtype == pd.ArrowDtype(pa.int32())
    [[staff]] = platform.totesys("SELECT count(*) FROM staff")
    assert len(inputs["staff"]) == len(inputs["dim_staff"]) == staff


def test_a_partition_that_is_not_transformed_is_named(platform: Platform) -> None:
    platform.refresh("ingestion")
    message = failure(platform.run("warehouse", raise_on_error=False))
    assert f"has no partition {platform.partition}: materialize it first" in message


def test_the_latest_file_with_all_requested_captures_is_read(bucket_url: str) -> None:
    bucket, partition, currency = Bucket(bucket_url), "2024-08-14-14:15", STAR["dim_currency"]
    a, b, c, d = (f"{partition}/2024-08-14_14.{minute}.00.000000" for minute in (15, 16, 17, 18))
    empty = ValidatedRows(currency.captured_columns.empty_table(), REJECTED.empty_table())
    for captures in ([a, b], [a, b, c], [a]):
        star = StarBatches(currency.captured_columns, frozenset(captures), [empty])
        write_star(bucket, currency.name, partition, star)
    rows = star_input(bucket, currency, partition)
    for requested, captures_of_file in ((set(), {a}), ({a}, {a}), ({a, b}, {a, b, c})):
        with rows.open(partition, requested) as file:
            assert file.captures == captures_of_file
            metadata = file.rows.metadata.metadata
            assert metadata[b"first_captured_at"] == b"2024-08-14T14:15:00.000000"
            assert metadata[b"last_captured_at"] == f"2024-08-14T14:{14 + len(file.captures)}:00.000000".encode()
    with (
        pytest.raises(NotTransformedError, match=f"dim_currency of partition {partition} lacks the captures {d}"),
        rows.open(partition, {a, d}),
    ):
        pass


@pytest.mark.parametrize("rule", ["0123456789abcdef", None])
def test_a_file_tells_the_version_of_the_rule_it_was_made_by(bucket_url: str, rule: str | None) -> None:
    bucket, partition, currency = Bucket(bucket_url), "2024-08-14-14:15", STAR["dim_currency"]
    write_star(bucket, currency.name, partition, StarBatches(currency.captured_columns, frozenset(), [], rule))
    with star_input(bucket, currency, partition).open(partition) as file:
        assert file.rule == rule


def test_the_files_of_a_run_tell_the_version_of_their_rule(platform: Platform) -> None:
    platform.refresh("ingestion", "transformation")
    bucket = Bucket(platform.transformation_url)
    for name, rule in rule_versions(CATALOG).items():
        with star_input(bucket, STAR[name], platform.partition).open(platform.partition) as file:
            assert file.rule == rule
