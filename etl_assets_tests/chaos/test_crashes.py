"""The run's process killed with SIGKILL at every kind of moment, and run again: as if it had never crashed."""

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from etl_assets.buckets import Bucket
from etl_assets.databases import connect
from etl_assets.simulator.activity import Totesys
from etl_assets.storage import open_star, read_captured
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.history import assert_history_is_exact, captures
from etl_assets_tests.platform import Platform
from etl_assets_tests.test_etl import assert_warehouse_equals_totesys

pytestmark = pytest.mark.chaos

# The borders of every step, and within: each effect on a bucket, each word to a server.
MOMENTS = [
    "call ingestion:ingestion_assets.<locals>.ingestion",
    "call ingestion:capture",
    "call databases:Connection.copy_out",
    "call ingestion:_Digest.write",
    "return ingestion:_copy",
    "call captures:publish",
    "return captures:publish",
    "return ingestion:ingestion_assets.<locals>.ingestion",
    "call storage:read_captured",
    "call storage:captured_batches",
    "return transformation/assets:transform",
    "call storage:write_star",
    "return storage:write_star",
    "c_call write in buckets:_LocalObject._append",
    "c_call fsync in buckets:_LocalObject.publish",
    "c_call link in buckets:_LocalObject.publish",
    "c_return link in buckets:_LocalObject.publish",
    "return buckets:_LocalObject.publish",
    "call warehouse/load:load",
    "return warehouse/schema:create_missing",
    "return warehouse/load:_note_loads",
    "call databases:Connection.copy_in",
    "c_call write in databases:Connection.handle_COPY_DATA",
    "return warehouse/load:_stage",
    "return warehouse/load:_merge",
    "return warehouse/load:_load_table",
    "return databases:transaction",
    "return warehouse/load:load",
    "return warehouse/assets:warehouse_assets.<locals>.warehouse",
    "c_call flush in core:_flush",
    "c_return flush in core:_flush",
]
MOMENTS_ON_S3 = [
    "call buckets:_S3Object.publish",
    "return buckets:_S3Object.publish",
    "call captures:publish",
    "return captures:publish",
    "return storage:write_star",
    "return databases:transaction",
]
DENSE = ("c_call flush in core:_flush", "c_return flush in core:_flush")
PARTS = 4


def chosen(moments: list[str], counts: dict[str, int]) -> list[processes.Point]:
    """The first and last time of each moment, one between, and ten of each word to a server."""
    draw = random.Random(SEED)
    found = []
    for label in moments:
        count = counts[label]
        between = draw.sample(range(1, count + 1), min(count, 10 if label in DENSE else 1))
        found += [(label, number) for number in sorted({1, count, *between})]
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_killed_anywhere_and_run_again_leaves_what_one_never_killed_would(
    part: int, quiet: Platform, tmp_path: Path, figures: Callable[..., None]
) -> None:
    counts = counts_of_a_run(quiet, tmp_path / "points")
    killed = kill_and_run_again(quiet, chosen(MOMENTS, counts)[part::PARTS], full=part == PARTS - 1)
    versions = assert_history_is_exact(quiet)
    figures(runs_killed=killed, faults_tried=killed, faults_survived=killed, versions_checked=versions)


def test_the_same_over_s3(
    totesys_url: str,
    warehouse_url: str,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    figures: Callable[..., None],
) -> None:
    platform = Platform(totesys_url, warehouse_url, s3_bucket, monkeypatch)
    counts = counts_of_a_run(platform, tmp_path / "points")
    killed = kill_and_run_again(platform, chosen(MOMENTS_ON_S3, counts))
    versions = assert_history_is_exact(platform)
    figures(runs_killed=killed, faults_tried=killed, faults_survived=killed, versions_checked=versions)


def counts_of_a_run(platform: Platform, notes: Path) -> dict[str, int]:
    """How often each moment comes in an ordinary run."""
    assert processes.finish(processes.run(platform)) == 0
    platform.next_window()
    live(platform, random.Random(SEED))
    return processes.points(platform, notes)


def kill_and_run_again(platform: Platform, points: list[processes.Point], *, full: bool = False) -> int:
    """At each point kill a run and run again; give how many were killed."""
    draw = random.Random(SEED)
    killed = 0
    for number, point in enumerate(points):
        platform.next_window()
        live(platform, draw)
        code = processes.finish(processes.run(platform, at=point, full=full))
        assert code in (-signal.SIGKILL, 0), f"at {point}"
        killed += code == -signal.SIGKILL
        if number % 2:
            live(platform, draw)
        assert processes.finish(processes.run(platform, full=full)) == 0, f"run again after {point}"
        assert_warehouse_equals_totesys_again(platform, f"killed at {point}")
    assert killed > 0.9 * len(points), "a moment that is not reached proves nothing"
    assert_buckets_are_whole(platform)
    return killed


def live(platform: Platform, draw: random.Random) -> None:
    """A little of everything: sales, purchases, payments marked as paid, silent edits."""
    with connect(platform.totesys_url) as connection:
        totesys = Totesys(connection, seed=draw.randrange(2**32))
        [[now]] = connection.run("SELECT localtimestamp(3)")
        totesys.sell(now)
        totesys.purchase(now)
        for table in ("sales_order", "purchase_order", "design"):
            totesys.edit_silently(table)
        connection.run("UPDATE department SET location = :place WHERE department_id = 2", place=str(draw.random()))
        connection.run("UPDATE payment SET paid = NOT paid WHERE payment_id % 7 = :n", n=draw.randrange(7))


def assert_warehouse_equals_totesys_again(platform: Platform, when: str) -> None:
    try:
        assert_warehouse_equals_totesys(platform)
    except AssertionError as error:
        raise AssertionError(when) from error


def assert_buckets_are_whole(platform: Platform) -> None:
    """Whatever a manifest names is there, whole; every star file can be read."""
    for capture in captures(platform):
        for table in TOTESYS_TABLES:
            read_captured(Bucket(platform.ingestion_url), table, capture.partition)
        for star in STAR_TABLES:
            with open_star(Bucket(platform.transformation_url), star.name, capture.partition) as file:
                assert file.rows.read(use_threads=False).num_rows == file.rows.metadata.num_rows
