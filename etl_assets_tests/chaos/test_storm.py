"""Concurrent writers, captures and loads, some of which are killed."""

import os
import random
import signal
from collections.abc import Callable
from threading import Event
from time import monotonic, sleep

import pytest

from etl_assets.transformation import STAR_TABLES
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.history import all_captures, assert_history_is_exact, loaded_versions
from etl_assets_tests.chaos.writers import Writer
from etl_assets_tests.expected import CURRENT_STATE
from etl_assets_tests.harness import Platform, current_rows
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
        full = draw.random() < 0.2
        started = [processes.start(platform, full=full) for _ in range(2 if draw.random() < 0.2 else 1)]
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

    versions = assert_history_is_exact(platform)
    assert_current_rows_equal_totesys(platform)
    assert_foreign_keys_resolve(platform)
    assert platform.warehouse("SELECT * FROM warehouse.rejected") == []
    assert platform.warehouse("SELECT * FROM warehouse.pending") == []
    [[written, deleted]] = platform.totesys(
        "SELECT count(*), count(*) FILTER (WHERE version IS NULL) FROM recorded.versions WHERE number > :before",
        before=before,
    )
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
        transactions_rolled_back=rolled_back,
        facts_written=written,
        facts_deleted=deleted,
        versions_checked=versions,
        rows_lost=versions - sum(map(len, loaded_versions(platform).values())),
    )


def assert_current_rows_equal_totesys(platform: Platform) -> None:
    """Assert that facts equal totesys, and that dimensions do, except for rows deleted in totesys."""
    for star in STAR_TABLES:
        if star.name not in CURRENT_STATE:
            continue
        source = set(map(tuple, platform.totesys(CURRENT_STATE[star.name])))
        rows = current_rows(platform, star)
        current = set(map(tuple, rows))
        assert len(current) == len(rows), f"{star.name}: duplicate rows"
        assert source <= current, f"{star.name}: {len(source - current)} rows are missing or wrong"
        if star.keeps_every_version:
            assert current == source, f"{star.name}: {len(current - source)} rows too many"
        else:
            assert {row[0] for row in current - source}.isdisjoint(row[0] for row in source), star.name


def assert_foreign_keys_resolve(platform: Platform) -> None:
    for star in STAR_TABLES:
        for column, to in star.foreign_keys.items():
            referenced = f"SELECT {STAR[to].primary_key[0]} FROM warehouse.{to}"
            assert platform.warehouse(f"SELECT 1 FROM warehouse.{star.name} WHERE {column} NOT IN ({referenced})") == []
