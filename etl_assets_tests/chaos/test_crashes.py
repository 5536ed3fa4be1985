"""Runs that are killed with SIGKILL at points of every kind, and run again."""

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.history import all_captures, assert_history_is_exact
from etl_assets_tests.chaos.processes import Point, Work, delete_rows, make_changes
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys
from etl_assets_tests.pipeline import read_captured, star_input

pytestmark = pytest.mark.chaos

# The begin and end of Dagster's steps, and what they make last.
LABELS_OF_STEPS = [
    "call ingestion/assets:ingestion_assets.<locals>.ingestion",
    "return ingestion/manifest:publish",
    "return ingestion/assets:ingestion_assets.<locals>.ingestion",
    "return transformation/parquet_files:write_star",
    "return adapters/postgres:transaction",
    "return warehouse/assets:warehouse_assets.<locals>.warehouse",
]
# What they do: each write to a bucket and each message to a server, and what is around them.
LABELS = [
    "call ingestion/capture:capture",
    "call adapters/postgres:Connection.copy_out",
    "call ingestion/capture:_HeadWriter.write",
    "return ingestion/capture:_copy",
    "return ingestion/deletions:deletion_statistics",
    "call ingestion/capture:_with_keys",
    "return ingestion/capture:_with_keys",
    "call ingestion/manifest:publish",
    "return ingestion/manifest:publish",
    "call ingestion/csv_files:CapturedRows.captures",
    "call adapters/read_ahead:read_ahead",
    "return transformation/transform:transform",
    "call transformation/parquet_files:write_star",
    "return transformation/parquet_files:write_star",
    "c_call write in object_store:_LocalObject._append",
    "c_call fsync in object_store:_LocalObject.publish",
    "c_call link in object_store:_LocalObject.publish",
    "c_return link in object_store:_LocalObject.publish",
    "return adapters/object_store:_LocalObject.publish",
    "call warehouse/loader:load",
    "return warehouse/ddl:create_missing",
    "return warehouse/ledger:record_captures",
    "call adapters/postgres:Connection.copy_in",
    "c_call write in postgres:Connection.handle_COPY_DATA",
    "return warehouse/staging:StagedRows.add",
    "call ingestion/present_keys:read_present_keys",
    "call warehouse/loader:_TableLoader._stage_tombstones",
    "return warehouse/loader:_TableLoader._stage_tombstones",
    "return warehouse/loader:_TableLoader._merge",
    "return warehouse/loader:_TableLoader.load",
    "return adapters/postgres:transaction",
    "return warehouse/loader:load",
    "c_call flush in core:_flush",
    "c_return flush in core:_flush",
]
LABELS_ON_S3 = [
    "call adapters/object_store:_S3Object.publish",
    "return adapters/object_store:_S3Object.publish",
    "return ingestion/capture:_with_keys",
    "call ingestion/manifest:publish",
    "return ingestion/manifest:publish",
    "return transformation/parquet_files:write_star",
    "return warehouse/loader:_TableLoader._stage_tombstones",
    "return adapters/postgres:transaction",
]
MESSAGES = ("c_call flush in core:_flush", "c_return flush in core:_flush")
PARTS = 2


def choose_points(labels: list[str], counts: dict[str, int]) -> list[Point]:
    """Return for each label the first point, the last, and one between; ten between for messages to a server."""
    draw = random.Random(SEED)
    points = []
    for label in labels:
        count = counts[label]
        between = draw.sample(range(1, count + 1), min(count, 10 if label in MESSAGES else 1))
        points += [(label, number) for number in sorted({1, count, *between})]
    return points


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_killed_and_done_again_loads_exactly_the_same(
    part: int, platform: Platform, tmp_path: Path, figures: Callable[..., None]
) -> None:
    counts = count_points(platform, processes.refresh, tmp_path / "points")
    points = choose_points(LABELS, counts)[part::PARTS]
    figures(**kill_and_do_again(platform, processes.refresh, points, full=part == PARTS - 1))


def test_a_run_of_dagster_that_is_killed_and_run_again_loads_exactly_the_same(
    platform: Platform, tmp_path: Path, figures: Callable[..., None]
) -> None:
    counts = count_points(platform, processes.etl, tmp_path / "points")
    figures(**kill_and_do_again(platform, processes.etl, choose_points(LABELS_OF_STEPS, counts)))


def test_what_is_killed_and_done_again_on_s3_loads_exactly_the_same(
    totesys_url: str,
    warehouse_url: str,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    platform = Platform(totesys_url, warehouse_url, s3_bucket, monkeypatch)
    counts = count_points(platform, processes.refresh, tmp_path / "points")
    figures(**kill_and_do_again(platform, processes.refresh, choose_points(LABELS_ON_S3, counts)))


def count_points(platform: Platform, work: Work, file: Path) -> dict[str, int]:
    """Return by label how many points there are when changes are captured and loaded."""
    platform.refresh()
    platform.next_window()
    make_changes(platform, random.Random(SEED))
    delete_rows(platform)
    return processes.count_points(platform, work, file)


def kill_and_do_again(platform: Platform, work: Work, points: list[Point], *, full: bool = False) -> dict[str, int]:
    """Kill the work at each point, and do it again. Return figures."""
    draw = random.Random(SEED)
    killed = 0
    for number, point in enumerate(points):
        platform.next_window()
        make_changes(platform, draw)
        delete_rows(platform)
        code = processes.finish(processes.start(platform, work, at=point, full=full))
        assert code in (-signal.SIGKILL, 0), f"at {point}"
        killed += code == -signal.SIGKILL
        if number % 2:
            make_changes(platform, draw)
        assert processes.finish(processes.start(platform, work, full=full)) == 0, f"again after {point}"
        try:
            assert_warehouse_equals_totesys(platform)
        except AssertionError as error:
            raise AssertionError(f"after {point}") from error
    assert killed > 0.9 * len(points), "too few points were reached"
    assert_buckets_are_readable(platform)
    captures = all_captures(platform)
    with_keys = sum(capture.has_keys("payment") for capture in captures)
    assert with_keys >= len(points), "each deletion is found by the capture after it"
    checked = assert_history_is_exact(platform)
    return {
        "runs_killed": killed,
        "faults_tried": killed,
        "faults_survived": killed,
        "captures": len(captures),
        "key_lists": sum(len(capture.key_files) for capture in captures),
        "versions_checked": checked.versions,
        "deletions_checked": checked.deletions,
        "moments_checked": checked.moments,
    }


def assert_buckets_are_readable(platform: Platform) -> None:
    """Assert that all files that manifests name, and all star files, are complete."""
    for capture in all_captures(platform):
        for table in TOTESYS_TABLES:
            read_captured(Bucket(platform.ingestion_url), table, capture.partition)
        for star in STAR_TABLES:
            with star_input(Bucket(platform.transformation_url), star, capture.partition).open(
                capture.partition
            ) as file:
                assert file.rows.read(use_threads=False).num_rows == file.rows.metadata.num_rows
