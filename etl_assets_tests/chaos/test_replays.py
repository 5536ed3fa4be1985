"""Replays: in any order, repeated, concurrent, and of the whole history into an empty warehouse."""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import sleep

import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.manifest import list_after, list_partition, partition_of
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.history import all_captures, assert_history_is_exact
from etl_assets_tests.chaos.processes import delete_rows, make_changes
from etl_assets_tests.harness import Platform, assert_warehouse_equals_totesys, new_database
from etl_assets_tests.pipeline import SOURCE, STAR, Pipeline

pytestmark = pytest.mark.chaos

PARTITIONS = 24
ODD_CHANGES = {
    3: ["DELETE FROM payment WHERE payment_id IN (1, 2)"],
    5: ["UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = 3"],
    7: [
        "INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())",
        "UPDATE sales_order SET currency_id = 9 WHERE sales_order_id IN (1, 2, 3)",
    ],
    9: ["UPDATE sales_order SET currency_id = 1 WHERE sales_order_id = 2"],
    11: ["UPDATE currency SET currency_code = 'GBP' WHERE currency_id = 9"],
    13: ["UPDATE payment SET payment_date = '2024-09-01' WHERE payment_id = 3"],
    14: [
        "INSERT INTO department VALUES (60, 'Passing', 'x', 'y', now(), now())",
        "INSERT INTO staff VALUES (60, 'Ada', 'x', 60, 'x', now(), now()), (61, 'Alan', 'x', 60, 'x', now(), now())",
    ],
    15: ["DELETE FROM payment WHERE payment_id = 4", "DELETE FROM staff WHERE staff_id = 60"],
    16: [
        "INSERT INTO staff VALUES (60, 'Ada', 'x', 60, 'x', now(), now())",
        "DELETE FROM staff WHERE staff_id = 61",
        "DELETE FROM payment WHERE payment_id = 6",
        "UPDATE payment SET payment_id = 1000000 WHERE payment_id = 7",
    ],
    17: ["UPDATE payment SET payment_date = 'never' WHERE payment_id = 5"],
    18: ["SET track_counts = off; DELETE FROM staff WHERE staff_id = 60"],
    20: ["TRUNCATE payment", "UPDATE sales_order SET currency_id = 1 WHERE currency_id = 9"],
    21: ["DELETE FROM currency WHERE currency_id = 9"],
}
"""By partition: deletions, rejected rows, pending facts and their corrections."""


def test_replays_in_any_order_and_into_an_empty_warehouse_load_the_same_history(
    platform: Platform, server: Server, tmp_path: Path, figures: Callable[..., None]
) -> None:
    draw = random.Random(SEED)
    bucket = Bucket(platform.ingestion_url)
    pipeline = Pipeline(platform.totesys_url, platform.warehouse_url, bucket, bucket)
    for number in range(PARTITIONS):
        make_changes(platform, draw)
        for change in ODD_CHANGES.get(number, ()):
            platform.totesys(f"SELECT pg_stat_force_next_flush(); {change}")
        pipeline.capture(platform.partition, full=number % 5 == 4)
        if number % 3 == 0:  # several captures in one window
            make_changes(platform, draw)
            pipeline.capture(platform.partition)
        pipeline.transform(platform.partition)
        pipeline.load(platform.partition)
        platform.next_window()
    before = platform.contents()
    captures = all_captures(platform)
    for table, versions, keys in (
        ("payment", "fact_payment", {1, 2, 4, 6, 7}),
        ("staff", "dim_staff_versions", {60, 61}),
        ("currency", "dim_currency_versions", {9}),
    ):
        times = [capture.captured_at for capture in captures if capture.has_keys(table)]
        found = platform.warehouse(
            f"SELECT {table}_id FROM warehouse.{versions} WHERE deleted AND captured_at = ANY(:times)", times=times
        )
        assert {key for [key] in found} == keys, f"deletions of {table} that ordinary captures found"
    partitions = list(dict.fromkeys(partition_of(id_) for id_ in list_after(bucket, None)))
    assert len(partitions) == PARTITIONS

    for partition in draw.sample(partitions * 2, len(partitions) * 2):
        if draw.random() < 0.5:
            pipeline.transform(partition)
        pipeline.load(partition)
    assert platform.contents() == before

    empty = Pipeline(platform.totesys_url, new_database(server), bucket, bucket)
    for partition in partitions:
        empty.transform(partition)
        empty.load(partition)
    platform.warehouse_url = empty.warehouse_url
    assert platform.contents() == before

    at_once = replace(empty, warehouse_url=new_database(server), transformation=Bucket(f"file://{tmp_path}/at_once"))
    at_once.rebuild()
    platform.warehouse_url = at_once.warehouse_url
    assert platform.contents() == before
    at_once.rebuild(*STAR)
    assert platform.contents() == before
    figures(replays=3 * len(partitions), key_lists=sum(len(capture.key_files) for capture in captures))


def test_a_replay_of_the_whole_history_by_dagster_fills_an_empty_warehouse(platform: Platform, server: Server) -> None:
    draw = random.Random(SEED)
    for number in range(4):
        make_changes(platform, draw)
        assert processes.finish(processes.start(platform, full=number == 2)) == 0
        platform.next_window()
    before = platform.contents()
    platform.warehouse_url = new_database(server)
    for id_ in list_after(Bucket(platform.ingestion_url), None):
        assert processes.finish(processes.start(platform, processes.replay, partition=partition_of(id_))) == 0
    assert platform.contents() == before


def test_concurrent_runs_load_the_same_as_consecutive_ones(platform: Platform, figures: Callable[..., None]) -> None:
    draw = random.Random(SEED)
    rounds = 8
    for number in range(rounds):
        make_changes(platform, draw)
        delete_rows(platform)
        concurrent = [processes.start(platform, full=number % 4 == 3) for _ in range(2)]
        if number % 2:  # another one while they transform and load
            while len(list_partition(Bucket(platform.ingestion_url), platform.partition)) < len(concurrent):
                sleep(0.01)
            platform.next_window()
            concurrent.append(processes.start(platform))
        assert [processes.finish(process) for process in concurrent] == [0] * len(concurrent)
        assert_warehouse_equals_totesys(platform)
        platform.next_window()
    figures(faults_tried=rounds, faults_survived=rounds, versions_checked=assert_history_is_exact(platform).versions)


HOSTILE_TEXTS = (
    "'; DROP TABLE payment; --",
    '"; DROP SCHEMA warehouse CASCADE; --',
    "../../../etc/passwd",
    "..%2f..%2f",
    "a/b/c.csv",
    "$(rm -rf /)",
    "{0.__class__}",
    "%s %(a)s :a $1 ?",
    "\\",
    "\\.",
    "=cmd|' /C calc'!A0",
    "{{7*7}}",
)


WINDOW, TIME = r"\d{4}/\d\d/\d\d/\d\d-\d\d", r"\d{4}-\d\d-\d\d_\d\d\.\d\d\.\d\d\.\d{6}"
KEY = re.compile(rf"captures/{WINDOW}/{TIME}\.json|(rejected/)?([a-z_]+)/{WINDOW}/\2-{TIME}\.(csv|parquet)")


def test_hostile_text_is_loaded_as_text_and_is_in_no_object_key(
    platform: Platform, figures: Callable[..., None]
) -> None:
    with connect(platform.totesys_url) as connection:
        for number, text in enumerate(HOSTILE_TEXTS, 1):
            connection.run(
                """INSERT INTO design (design_id, design_name, file_location, file_name, last_updated)
                   VALUES (:number, :text, :text, :text, now())""",
                number=10_000 + number,
                text=text,
            )
            connection.run("UPDATE payment SET payment_date = :t WHERE payment_id = :n", t=text, n=number)
            connection.run("UPDATE department SET department_name = :t WHERE department_id = 1", t=text)
    platform.run()
    loaded = platform.warehouse(
        "SELECT design_name FROM warehouse.dim_design WHERE design_id > 10000 ORDER BY design_id"
    )
    assert [name for [name] in loaded] == [*HOSTILE_TEXTS]
    rejected = platform.warehouse("SELECT value FROM warehouse.rejected ORDER BY (key->>'payment_id')::int")
    assert [value for [value] in rejected] == [*HOSTILE_TEXTS]
    keys = [*all_keys(platform.ingestion_url), *all_keys(platform.transformation_url)]
    assert len(keys) == len(SOURCE) + len(STAR) + 2, "a file of each table, the manifest, rejected rows"
    for key in keys:
        assert KEY.fullmatch(key), key
    figures(faults_tried=len(HOSTILE_TEXTS), faults_survived=len(HOSTILE_TEXTS))


def all_keys(url: str) -> list[str]:
    root = Path(url.removeprefix("file://"))
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
