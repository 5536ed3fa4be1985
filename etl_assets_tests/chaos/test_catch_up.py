"""Recovery after an outage of the warehouse, or its loss: by Dagster's daemon alone, or by a rebuild."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

import pytest

from etl_assets.adapters.postgres import DatabaseUnavailableError, connect
from etl_assets.catalog.stages import INGESTION
from etl_assets.simulator import postgres
from etl_assets.simulator.postgres import Server
from etl_assets_tests.chaos import SEED
from etl_assets_tests.chaos.history import all_captures, assert_history_is_exact
from etl_assets_tests.harness import (
    ROOT,
    Platform,
    assert_warehouse_equals_totesys,
    dagster_service,
    make_history,
    new_database,
    until,
)

pytestmark = pytest.mark.chaos

MISSED = 3


@contextmanager
def daemon(platform: Platform, home: Path) -> Iterator[None]:
    """Run Dagster's daemon with the sensor `catch_up` on."""
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environment = os.environ | platform.variables | {"DAGSTER_HOME": str(home), "PARTITIONS_START": "2024-01-01"}
    workspace = ["--workspace", str(ROOT / "workspace.yaml")]
    start = [sys.executable, "-m", "dagster", "sensor", "start", "catch_up", *workspace]
    subprocess.run(start, env=environment, cwd=ROOT, check=True, capture_output=True)
    with dagster_service(home / "daemon", environment, "dagster._daemon", "run", *workspace):
        yield


def test_captures_made_during_an_outage_of_the_warehouse_are_loaded_after_it(
    totesys_url: str, bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Callable[..., None]
) -> None:
    home = tmp_path / "warehouse"
    port = str(5_000 + os.getpid() % 20_000)
    settings = {"listen_addresses": "127.0.0.1", "port": port}
    url = f"postgresql://postgres@127.0.0.1:{port}/warehouse?sslmode=disable"
    with postgres.serve(home, **settings), connect(url.replace("/warehouse", "/postgres")) as connection:
        connection.run("CREATE DATABASE warehouse")
    platform = Platform(totesys_url, url, bucket_url, monkeypatch)
    platform.now -= timedelta(minutes=15 * (MISSED + 1))
    for units in range(MISSED):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 1", units=units)
        with pytest.raises(DatabaseUnavailableError):
            platform.refresh()
        platform.next_window()
    assert len(all_captures(platform)) == MISSED

    with daemon(platform, tmp_path / "dagster"):
        until(lambda: "Sensor tick caught an error" in (tmp_path / "dagster" / "daemon.stdout").read_text())
        with postgres.serve(home, **settings):
            deadline = monotonic() + 300
            while count_loads(platform) < MISSED:
                assert monotonic() < deadline, (tmp_path / "dagster" / "daemon.stdout").read_text()[-3000:]
                sleep(1)
            assert_warehouse_equals_totesys(platform)
            versions = assert_history_is_exact(platform).versions
    postgres.remove(home)
    figures(faults_tried=MISSED, faults_survived=MISSED, versions_checked=versions)


def count_loads(platform: Platform) -> int:
    [[exists]] = platform.warehouse("SELECT to_regclass('warehouse.loads') IS NOT NULL")
    return int(platform.warehouse("SELECT count(*) FROM warehouse.loads")[0][0]) if exists else 0


CAPTURES = 120
CAPTURES_A_WINDOW = 5
SMALL_CHANGES = [
    "UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id % 20 = :n",
    "UPDATE purchase_order SET item_quantity = item_quantity + 1 WHERE purchase_order_id = :n",
    "UPDATE payment SET paid = NOT paid WHERE payment_id % 20 = :n",
    "UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id = :n",
    "UPDATE payment SET payment_date = '2024-09-01' WHERE payment_id <= :n AND payment_date = 'tomorrow'",
    "DELETE FROM payment WHERE payment_id = 20 + :n",
    "UPDATE design SET design_name = design_name || '.' WHERE design_id = :n",
    "UPDATE department SET location = location || '.' WHERE department_id = :n",
    "INSERT INTO currency VALUES (10 + :n, 'XQX', now(), now()) ON CONFLICT DO NOTHING",
    """UPDATE sales_order SET currency_id = (SELECT max(currency_id) FROM currency WHERE currency_id <= 10 + :n)
       WHERE sales_order_id = :n""",
    "UPDATE currency SET currency_code = 'EUR' WHERE currency_id = 10 + :n",
]
"""Edits of a row or a few, deletions, rows that are rejected or pending, and their corrections."""


def test_many_small_captures_are_loaded_by_one_rebuild_even_into_a_new_warehouse(
    platform: Platform, server: Server, tmp_path: Path, figures: Callable[..., None]
) -> None:
    make_history(platform)
    loaded = len(all_captures(platform))
    draw = random.Random(SEED)
    for number in range(CAPTURES):
        for change in draw.sample(SMALL_CHANGES, 2):
            platform.totesys(change, n=draw.randint(1, 20))
        platform.refresh(INGESTION, full_capture=number % 40 == 20)
        if number % CAPTURES_A_WINDOW == CAPTURES_A_WINDOW - 1:
            platform.next_window()
    expected = platform.from_scratch(server, tmp_path).contents()
    assert expected["rejected"]
    assert expected["pending"]
    assert any(row[-1] for row in expected["fact_payment"]), "there are tombstones"

    seconds = {}
    captures = len(all_captures(platform))
    for warehouse, missing in ((platform.warehouse_url, captures - loaded), (new_database(server), captures)):
        behind = Platform(platform.totesys_url, warehouse, platform.buckets_url, platform.environment)
        started = monotonic()
        rebuilt = behind.rebuild()
        seconds[missing] = monotonic() - started
        assert rebuilt.tables == []
        assert len(rebuilt.load.new_captures) == missing
        assert behind.contents() == expected
        assert behind.rebuild().load.new_captures == []
        assert behind.contents() == expected
    figures(captures_missed=sum(seconds), ms_to_load_them=int(1000 * sum(seconds.values())))
