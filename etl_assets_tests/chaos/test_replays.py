"""Everything again: in any order, twice, at the same time, from the beginning into nothing."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from time import sleep

import pytest

from etl_assets.automation import REPLAY
from etl_assets.buckets import Bucket
from etl_assets.captures import following, in_partition, partition_of
from etl_assets.databases import connect
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.history import assert_history_is_exact
from etl_assets_tests.chaos.pipeline import Pipeline
from etl_assets_tests.chaos.test_crashes import live
from etl_assets_tests.conftest import fresh
from etl_assets_tests.platform import Platform
from etl_assets_tests.test_etl import assert_warehouse_equals_totesys

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
    15: ["DELETE FROM payment WHERE payment_id = 4"],
    17: ["UPDATE payment SET payment_date = 'never' WHERE payment_id = 5"],
}
"""By partition: deletions, rejected rows, facts that wait for them, and their mending."""


def test_all_partitions_again_in_any_order_and_the_whole_history_into_an_empty_warehouse(
    quiet: Platform, server: Server, figures: Callable[..., None]
) -> None:
    draw = random.Random(SEED)
    lake = Bucket(quiet.ingestion_url)
    stages = Pipeline(quiet.totesys_url, quiet.warehouse_url, lake)
    for number in range(PARTITIONS):
        live(quiet, draw)
        for change in ODD_CHANGES.get(number, ()):
            quiet.totesys(change)
        stages.capture(quiet.partition, full=number % 5 == 4)
        if number % 3 == 0:  # several captures in one window
            live(quiet, draw)
            stages.capture(quiet.partition)
        stages.transform(quiet.partition)
        stages.load(quiet.partition)
        quiet.next_window()
    before = quiet.contents()
    assert sum(row[-1] for row in before["fact_payment"]) == 3, "three payments are closed"
    partitions = list(dict.fromkeys(partition_of(id_) for id_ in following(lake, None)))
    assert len(partitions) == PARTITIONS

    for partition in draw.sample(partitions * 2, len(partitions) * 2):
        if draw.random() < 0.5:
            stages.transform(partition)
        stages.load(partition)
    assert quiet.contents() == before

    empty = Pipeline(quiet.totesys_url, fresh(server), lake)
    for partition in partitions:
        empty.transform(partition)
        empty.load(partition)
    quiet.warehouse_url = empty.warehouse_url
    assert quiet.contents() == before
    figures(replays=3 * len(partitions))


def test_a_replay_by_dagster_of_the_whole_history_fills_an_empty_warehouse(quiet: Platform, server: Server) -> None:
    draw = random.Random(SEED)
    for number in range(4):
        live(quiet, draw)
        assert processes.finish(processes.run(quiet, full=number == 2)) == 0
        quiet.next_window()
    before = quiet.contents()
    quiet.warehouse_url = fresh(server)
    for id_ in following(Bucket(quiet.ingestion_url), None):
        assert processes.finish(processes.run(quiet, job=REPLAY, partition=partition_of(id_))) == 0
    assert quiet.contents() == before


def test_two_ticks_at_once_do_what_one_after_the_other_would(quiet: Platform, figures: Callable[..., None]) -> None:
    draw = random.Random(SEED)
    rounds = 8
    for number in range(rounds):
        live(quiet, draw)
        together = [processes.run(quiet, full=number % 4 == 3) for _ in range(2)]
        if number % 2:  # and the next, while they transform and load
            while len(in_partition(Bucket(quiet.ingestion_url), quiet.partition)) < len(together):
                sleep(0.01)
            quiet.next_window()
            together.append(processes.run(quiet))
        assert [processes.finish(process) for process in together] == [0] * len(together)
        assert_warehouse_equals_totesys(quiet)
        quiet.next_window()
    figures(faults_tried=rounds, faults_survived=rounds, versions_checked=assert_history_is_exact(quiet))


HOSTILE = (
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


WINDOW, STAMP = r"\d{4}/\d\d/\d\d/\d\d-\d\d", r"\d{4}-\d\d-\d\d_\d\d\.\d\d\.\d\d\.\d{6}"
KEY = re.compile(rf"captures/{WINDOW}/{STAMP}\.json|(rejected/)?([a-z_]+)/{WINDOW}/\2-{STAMP}\.(csv|parquet)")


def test_hostile_text_stays_text_and_keys_are_made_of_declared_names_and_times(
    quiet: Platform, figures: Callable[..., None]
) -> None:
    with connect(quiet.totesys_url) as connection:
        for number, text in enumerate(HOSTILE, 1):
            connection.run("UPDATE design SET design_name = :t, file_name = :t WHERE design_id = :n", t=text, n=number)
            connection.run("UPDATE payment SET payment_date = :t WHERE payment_id = :n", t=text, n=number)
            connection.run("UPDATE department SET department_name = :t WHERE department_id = 1", t=text)
    quiet.run()
    names = quiet.warehouse("SELECT design_name FROM warehouse.dim_design ORDER BY design_id LIMIT :n", n=len(HOSTILE))
    assert [name for [name] in names] == list(HOSTILE)
    rejected = quiet.warehouse("SELECT value FROM warehouse.rejected ORDER BY (key->>'payment_id')::int")
    assert [value for [value] in rejected] == list(HOSTILE)
    keys = [*all_keys(quiet.ingestion_url), *all_keys(quiet.transformation_url)]
    assert len(keys) == 11 + 1 + 11 + 1
    for key in keys:
        assert KEY.fullmatch(key), key
    figures(faults_tried=len(HOSTILE), faults_survived=len(HOSTILE))


def all_keys(url: str) -> list[str]:
    root = Path(url.removeprefix("file://"))
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
