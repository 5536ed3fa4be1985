"""Concurrent writers, captures and loads, some of which are killed."""

import os
import random
import signal
from collections.abc import Callable
from threading import Event
from time import monotonic, sleep

import pytest

from etl_assets.adapters.postgres import connect
from etl_assets.lake import Lake
from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.history import (
    RECORDED,
    all_captures,
    assert_history_is_exact,
    finds_deletions,
    source_of,
    visible_rows,
)
from etl_assets_tests.chaos.writers import Writer
from etl_assets_tests.expected import CURRENT_STATE
from etl_assets_tests.harness import Platform, assert_lake_equals_warehouse, current_rows
from etl_assets_tests.pipeline import STAR

pytestmark = pytest.mark.chaos

WRITERS = 10
SECONDS = int(os.environ.get("CHAOS_SECONDS", "75"))


def test_concurrent_writers_and_killed_runs_lose_and_duplicate_nothing(
    platform: Platform, figures: Callable[..., None]
) -> None:
    draw = random.Random(SEED)
    stop = Event()
    writers = [Writer(platform.totesys_url, SEED + number, stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    [[before]] = platform.totesys("SELECT max(number) FROM recorded.versions")
    runs = killed = full_captures = succeeded = 0
    deadline = monotonic() + SECONDS
    while monotonic() < deadline or not (killed and full_captures and succeeded):
        platform.next_window()
        full = draw.random() < 0.15
        work = draw.choice([processes.etl, processes.refresh, processes.refresh])
        started = [processes.start(platform, work, full=full) for _ in range(2 if draw.random() < 0.2 else 1)]
        runs += len(started)
        full_captures += full
        if draw.random() < 0.4:
            sleep(draw.uniform(0.2, 3.0))
            for process in started:
                if process.is_alive():
                    os.kill(process.pid or 0, signal.SIGKILL)
        for process in started:
            code = processes.finish(process)
            killed += code == -signal.SIGKILL
            succeeded += code == 0
        if draw.random() < 0.5:
            processes.catch_up(platform)
    stop.set()
    for writer in writers:
        writer.join(timeout=60)
        assert not writer.is_alive()
        assert writer.failed is None
    platform.next_window()
    processes.catch_up(platform)
    assert processes.finish(processes.start(platform, full=True)) == 0

    checked = assert_history_is_exact(platform)
    assert_current_rows_equal_totesys(platform)
    assert_foreign_keys_resolve(platform)
    assert platform.warehouse("SELECT * FROM warehouse.rejected") == []
    assert platform.warehouse("SELECT * FROM warehouse.pending") == []
    assert_lake_equals_warehouse(Lake(), platform.warehouse)
    found, found_in_dimensions = count_deletions_found_by_keys(platform)
    [[written, deleted, truncated]] = platform.totesys(
        """SELECT count(*), count(*) FILTER (WHERE version IS NULL),
                  (SELECT count(*) FROM recorded.truncations)
           FROM recorded.versions WHERE number > :before""",
        before=before,
    )
    assert found > 10, "too few deletions were found by ordinary captures"
    assert found_in_dimensions
    rolled_back = sum(writer.rolled_back for writer in writers)
    assert written > 1_000, "too few changes"
    assert deleted > 20
    assert rolled_back
    figures(
        faults_tried=killed,
        faults_survived=killed,
        runs_killed=killed,
        runs=runs,
        captures=len(all_captures(platform)),
        key_lists=sum(len(capture.key_files) for capture in all_captures(platform)),
        transactions_rolled_back=rolled_back,
        versions_written=written,
        rows_deleted=deleted,
        truncations=truncated,
        versions_checked=checked.versions,
        deletions_checked=checked.deletions,
        deletions_found_by_ordinary_captures=found,
        of_dimension_rows=found_in_dimensions,
        moments_checked=checked.moments,
        rows_lost=0,  # or an assertion would have failed
        rows_doubled=0,
    )


def count_deletions_found_by_keys(platform: Platform) -> tuple[int, int]:
    """Return how many deletions were found by the keys that ordinary captures took; and how many in dimensions.

    Assert that each capture that tells which rows are there left exactly these open.
    """
    found = in_dimensions = 0
    with visible_rows(platform) as visible, connect(platform.warehouse_url) as connection:
        for capture in all_captures(platform):
            connection.run("SELECT set_config('etl_assets.as_of', :time, false)", time=str(capture.captured_at))
            for star in RECORDED:
                if not finds_deletions(capture, star):
                    continue
                key, versions = star.primary_key[0], star.versions.name
                rows = connection.run(f"SELECT {key} FROM as_of.{star.name}_history WHERE valid_to = 'infinity'")
                assert sorted(key for [key] in rows) == sorted(visible.rows(star, capture)), (
                    f"{star.name} at {capture.captured_at}"
                )
                if capture.has_keys(source_of(star)):
                    [[closed]] = connection.run(
                        f"SELECT count(*) FROM warehouse.{versions} WHERE deleted AND captured_at = :at",
                        at=capture.captured_at,
                    )
                    found += closed
                    in_dimensions += 0 if star.keeps_every_version else closed
    return found, in_dimensions


def assert_current_rows_equal_totesys(platform: Platform) -> None:
    """Assert that facts and dimensions, without deleted rows, equal totesys."""
    for star in RECORDED:
        source = set(map(tuple, platform.totesys(CURRENT_STATE[star.name])))
        rows = current_rows(platform, star)
        current = set(map(tuple, rows))
        assert len(current) == len(rows), f"{star.name}: duplicate rows"
        assert source <= current, f"{star.name}: {len(source - current)} rows are missing or wrong"
        assert current == source, f"{star.name}: {len(current - source)} rows too many"


def assert_foreign_keys_resolve(platform: Platform) -> None:
    for star in STAR_TABLES:
        for column, to in star.foreign_keys.items():
            referenced = f"SELECT {STAR[to].primary_key[0]} FROM warehouse.{to}"
            assert platform.warehouse(f"SELECT 1 FROM warehouse.{star.name} WHERE {column} NOT IN ({referenced})") == []
