"""Recovery after an outage of the warehouse, by Dagster's daemon alone."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

import pytest

from etl_assets.adapters.postgres import DatabaseUnavailableError, connect
from etl_assets.simulator import postgres
from etl_assets_tests.chaos.history import all_captures, assert_history_is_exact
from etl_assets_tests.harness import ROOT, Platform, assert_warehouse_equals_totesys, dagster_service, until

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
            versions = assert_history_is_exact(platform)
    postgres.remove(home)
    figures(faults_tried=MISSED, faults_survived=MISSED, versions_checked=versions)


def count_loads(platform: Platform) -> int:
    [[exists]] = platform.warehouse("SELECT to_regclass('warehouse.loads') IS NOT NULL")
    return int(platform.warehouse("SELECT count(*) FROM warehouse.loads")[0][0]) if exists else 0
