"""A storm: writers by the dozen, captures and loads meanwhile, some of them killed."""

import os
import random
import signal
from collections.abc import Callable
from threading import Event
from time import monotonic, sleep

import pytest

from etl_assets.automation import REPLAY
from etl_assets.buckets import Bucket
from etl_assets.captures import following, partition_of
from etl_assets.databases import connect, names, quoted
from etl_assets.transformation import STAR_TABLES
from etl_assets.warehouse.load import last_loaded
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.history import assert_history_is_exact, captures, loaded
from etl_assets_tests.chaos.writers import Writer
from etl_assets_tests.oracle import CURRENT_STATE
from etl_assets_tests.platform import Platform

pytestmark = pytest.mark.chaos

WRITERS = 10
SECONDS = int(os.environ.get("CHAOS_SECONDS", "75"))


def test_nothing_is_lost_and_nothing_is_there_twice_after_a_storm(
    quiet: Platform, figures: Callable[..., None]
) -> None:
    draw = random.Random(SEED)
    stop = Event()
    writers = [Writer(quiet.totesys_url, SEED + number, stop) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    [[before]] = quiet.totesys("SELECT max(number) FROM noted.versions")
    runs = killed = full = succeeded = 0
    until = monotonic() + SECONDS
    while monotonic() < until:
        quiet.next_window()
        whole = draw.random() < 0.2
        under_way = [processes.run(quiet, full=whole) for _ in range(2 if draw.random() < 0.2 else 1)]
        runs += len(under_way)
        full += whole
        if draw.random() < 0.4:
            sleep(draw.uniform(0.2, 3.0))
            for process in under_way:
                if process.is_alive():
                    os.kill(process.pid or 0, signal.SIGKILL)
        for process in under_way:
            code = processes.finish(process)
            killed += code == -signal.SIGKILL
            succeeded += code == 0
        if draw.random() < 0.5:
            catch_up(quiet)
    stop.set()
    for writer in writers:
        writer.join(timeout=60)
        assert not writer.is_alive()
        assert writer.failed is None
    quiet.next_window()
    catch_up(quiet)
    assert processes.finish(processes.run(quiet, full=True)) == 0

    versions = assert_history_is_exact(quiet)
    assert_present_state_equals_totesys(quiet)
    assert_no_key_leads_nowhere(quiet)
    assert quiet.warehouse("SELECT * FROM warehouse.rejected") == []
    assert quiet.warehouse("SELECT * FROM warehouse.waiting") == []
    [[written, deleted]] = quiet.totesys(
        "SELECT count(*), count(*) FILTER (WHERE version IS NULL) FROM noted.versions WHERE number > :before",
        before=before,
    )
    rolled_back = sum(writer.rolled_back for writer in writers)
    assert killed
    assert full
    assert succeeded
    assert written > 1_000, "that was no storm"
    assert deleted > 20
    assert rolled_back
    figures(
        faults_tried=killed,
        faults_survived=killed,
        runs_killed=killed,
        runs=runs,
        captures=len(captures(quiet)),
        transactions_rolled_back=rolled_back,
        facts_written=written,
        facts_deleted=deleted,
        versions_checked=versions,
        rows_lost=versions - sum(map(len, loaded(quiet).values())),
    )


def catch_up(platform: Platform) -> None:
    """Load what is captured and not loaded, oldest first, as the sensor does."""
    bucket = Bucket(platform.ingestion_url)
    while True:
        with connect(platform.warehouse_url) as connection:
            capture = next(following(bucket, last_loaded(connection)), None)
        if capture is None:
            return
        assert processes.finish(processes.run(platform, job=REPLAY, partition=partition_of(capture))) == 0


def assert_present_state_equals_totesys(platform: Platform) -> None:
    """Facts are what totesys has; dimensions have it all, and keep what was deleted."""
    for star in STAR_TABLES:
        if star.name not in CURRENT_STATE:
            continue
        source = set(map(tuple, platform.totesys(CURRENT_STATE[star.name])))
        current = f"{star.name}_current" if star.record_id else star.name
        rows = platform.warehouse(f"SELECT {names(star.columns.names)} FROM warehouse.{quoted(current)}")
        present = set(map(tuple, rows))
        assert len(present) == len(rows), f"{star.name}: a row is there twice"
        assert source <= present, f"{star.name}: {len(source - present)} rows are missing or wrong"
        if star.record_id:
            assert present == source, f"{star.name}: {len(present - source)} rows too many"
        else:
            assert {row[0] for row in present - source}.isdisjoint(row[0] for row in source), star.name


def assert_no_key_leads_nowhere(platform: Platform) -> None:
    keys = {star.name: star.primary_key[0] for star in STAR_TABLES}
    for star in STAR_TABLES:
        for column, to in star.foreign_keys.items():
            assert platform.warehouse(
                f"""SELECT count(*) FROM warehouse.{star.name} WHERE {column} NOT IN (
                        SELECT {keys[to]} FROM warehouse.{to})"""
            ) == [[0]]
