"""Rebuilds that are killed at points of every phase, and rebuilds while others capture, load and read."""

import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pytest

from etl_assets.adapters.postgres import Connection, connect, quote_identifier
from etl_assets.catalog.stages import INGESTION, TRANSFORMATION, WAREHOUSE
from etl_assets.simulator.postgres import Server
from etl_assets.warehouse.plan import Phase
from etl_assets_tests import changed_rules
from etl_assets_tests.chaos import SEED, processes
from etl_assets_tests.chaos.history import all_captures
from etl_assets_tests.chaos.processes import Point, make_changes
from etl_assets_tests.harness import Platform, make_history, new_database, until

pytestmark = pytest.mark.chaos

Contents = dict[str, list[tuple[Any, ...]]]

# What is done before anything but new columns can be seen: files, the first transaction, and the second until COMMIT.
LABELS = [
    "return warehouse/loader:lock",
    "return warehouse/ledger:forget_rules",
    "return warehouse/plan:_short_lock_timeout",
    "call warehouse/rebuild:_Files.write",
    "call transformation/parquet_files:write_star",
    "c_call link in object_store:_LocalObject.publish",
    "c_return link in object_store:_LocalObject.publish",
    "return warehouse/rebuild:_Files._write",
    "call warehouse/rebuild:_Files.stage",
    "call adapters/postgres:Connection.copy_in",
    "return adapters/postgres:csv_chunks",
    "return warehouse/staging:StagedRows.add",
    "call warehouse/loader:load_tables",
    "return warehouse/ddl:create_missing",
    "return warehouse/ledger:record_captures",
    "return warehouse/loader:_TableLoader._stage_tombstones",
    "return warehouse/quarantine:hold_unresolved",
    "return warehouse/loader:_TableLoader._keep_new",
    "return warehouse/loader:_TableLoader._run_accepted",
    "return warehouse/history:delete_surplus",
    "return warehouse/loader:_TableLoader._replace",
    "return warehouse/loader:_TableLoader._merge",
    "return warehouse/quarantine:record_rejected",
    "return warehouse/loader:_TableLoader.load",
    "return warehouse/loader:_TableLoader.delete_surplus",
    "call warehouse/ledger:record_rules",
    "return warehouse/loader:load_tables",
]
# Likewise, once for each phase.
LABELS_OF_PHASES = ["call warehouse/plan:apply", "return warehouse/plan:apply"]
AFTER_COMMIT = ["return warehouse/rebuild:rebuild"]
# Messages to the server; COMMIT is among the last ones.
MESSAGES = ["c_call flush in core:_flush", "c_return flush in core:_flush"]
RANDOM_MESSAGES = 4
LAST_MESSAGES = 2
PARTS = 2


@dataclass(frozen=True)
class Aged:
    """A platform with a history, and a capture that is transformed but not loaded, before a rebuild for changed rules.

    expected: what is in a warehouse that is built from scratch by the changed rules.
    """

    platform: Platform
    expected: Contents
    before: Contents
    server: Server

    @property
    def deployed(self) -> Platform:
        return changed_rules.with_changed_rules(self.platform)

    @contextmanager
    def copied(self, folder: Path) -> Iterator["Aged"]:
        """Copy its warehouse and its buckets, and drop the copies after the block."""
        buckets = folder / "buckets"
        shutil.copytree(self.platform.buckets_url.removeprefix("file://"), buckets)
        url = new_database(self.server, _database(self.platform.warehouse_url))
        yield replace(self, platform=_platform_like(self.platform, url, buckets))
        with connect(self.server.url()) as connection:
            connection.run(f"DROP DATABASE {quote_identifier(_database(url))} WITH (FORCE)")
        shutil.rmtree(buckets)


def _database(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _platform_like(like: Platform, warehouse: str, buckets: Path) -> Platform:
    platform = Platform(like.totesys_url, warehouse, f"file://{buckets}", like.environment)
    platform.now = like.now
    return platform


@pytest.fixture(scope="module")
def template(server: Server, small_totesys: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aged]:
    folder = tmp_path_factory.mktemp("aged")
    with pytest.MonkeyPatch.context() as environment:
        platform = Platform(
            new_database(server, small_totesys), new_database(server), f"file://{folder}/buckets", environment
        )
        make_history(platform)
        make_changes(platform, random.Random(SEED))
        deployed = changed_rules.with_changed_rules(platform)
        deployed.refresh(INGESTION, TRANSFORMATION)
        expected = deployed.from_scratch(server, folder).contents()
        yield Aged(platform, expected, platform.contents(), server)


@pytest.fixture
def aged(template: Aged, monkeypatch: pytest.MonkeyPatch) -> Aged:
    """The template, whose environment is that of the test."""
    platform = copy(template.platform)
    platform.environment = monkeypatch
    return replace(template, platform=platform)


def choose_points(counts: dict[str, int]) -> list[Point]:
    """Return for each label the first point, the last, or one between; more of the messages."""
    draw = random.Random(SEED)
    points: list[Point] = []
    for label in [*LABELS, *AFTER_COMMIT]:
        count = counts[label]
        points.append((label, draw.choice((1, count, draw.randint(1, count)))))
    points += [(label, number) for label in LABELS_OF_PHASES for number in range(1, len(Phase) + 1)]
    for label in MESSAGES:
        count = counts[label]
        numbers = {*range(count - LAST_MESSAGES + 1, count + 1), *draw.sample(range(1, count), RANDOM_MESSAGES)}
        points += [(label, number) for number in sorted(numbers)]
    return points


@pytest.mark.parametrize("part", range(PARTS))
def test_a_rebuild_that_is_killed_changes_nothing_visible_and_is_done_again(
    aged: Aged, part: int, tmp_path: Path, figures: Callable[..., None]
) -> None:
    with aged.copied(tmp_path) as copied:
        counts = processes.count_points(copied.platform, changed_rules.rebuild, tmp_path / "points")
        assert copied.deployed.contents() == aged.expected
    killed = committed = 0
    for number, point in enumerate(choose_points(counts)[part::PARTS]):
        with aged.copied(tmp_path) as copied:
            code = processes.finish(processes.start(copied.platform, changed_rules.rebuild, at=point))
            assert code in (-signal.SIGKILL, 0), f"at {point}"
            killed += code == -signal.SIGKILL
            until(lambda copied=copied: not sessions(copied.platform))  # type: ignore[misc]
            try:
                is_done = copied.platform.warehouse("SELECT to_regclass('warehouse.dim_place')") != [[None]]
                assert not (is_done and point[0] in (*LABELS, *LABELS_OF_PHASES)), "the rebuild is not done"
                assert is_done or point[0] not in AFTER_COMMIT, "the rebuild is done"
                committed += is_done
                if not is_done:
                    assert_nothing_visible_has_changed(copied)
                    if number % 2:
                        assert_other_tables_are_loaded(copied)
                copied.deployed.rebuild()
                assert copied.deployed.contents() == aged.expected
            except AssertionError as error:
                raise AssertionError(f"after {point}") from error
    assert killed > 0.9 * len(choose_points(counts)[part::PARTS]), "too few points were reached"
    assert 0 < committed < killed / 2
    figures(runs_killed=killed, faults_tried=killed, faults_survived=killed, killed_after_commit=committed)


def sessions(platform: Platform) -> list[list[Any]]:
    """Return the sessions of the platform: the server ends one when it sees that its client is gone."""
    return platform.warehouse(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )


def assert_nothing_visible_has_changed(aged: Aged) -> None:
    """Assert that the warehouse has the rows of before; in the new column, if it is there, they have none."""
    assert aged.platform.contents() == aged.before
    for relation in ("fact_sales_order", "fact_sales_order_current", "fact_sales_order_history"):
        totals = f"SELECT count(to_jsonb(orders) ->> 'total_amount') FROM warehouse.{relation} orders"
        assert aged.platform.warehouse(totals) == [[0]], relation


def assert_other_tables_are_loaded(aged: Aged) -> None:
    """Load the new capture, and assert that tables whose rules are the same have it, and others are as before.

    New facts are pending that refer to rows which the others do not have yet.
    """
    loaded = aged.deployed.refresh(WAREHOUSE)
    waiting = {name for name, table in loaded.items() if any(load.outdated for load in table.loads)}
    assert {"dim_design", "dim_place", "fact_sales_order"} <= waiting
    assert not {"dim_staff", "dim_counterparty", "dim_location"} & waiting
    contents = aged.platform.contents()
    for name in contents.keys() & loaded.keys():
        if name.startswith("fact_") and name not in waiting:
            assert {*aged.before[name]} <= {*contents[name]} <= {*aged.expected[name]}, name
        else:
            assert contents[name] == (aged.before if name in waiting else aged.expected)[name], name
    assert len(contents["loads"]) == len(aged.before["loads"]) + 1


SECONDS = 20
LONGEST_WAIT_SECONDS = 5.0


def rebuild_again_and_again(platform: Platform, partition: str, full: bool) -> bool:
    """Rebuild for two deployments in turn."""
    deadline = monotonic() + SECONDS
    while monotonic() < deadline:
        for tables in changed_rules.ALTERNATIVES:
            platform.declaring(*tables).rebuild()
    return True


def refresh_again_and_again(platform: Platform, partition: str, full: bool) -> bool:
    """Change totesys, and capture, transform and load by the rules of either deployment."""
    draw = random.Random(SEED)
    deadline = monotonic() + SECONDS
    while monotonic() < deadline:
        platform.next_window()
        make_changes(platform, draw)
        deployed = platform.declaring(*draw.choice(changed_rules.ALTERNATIVES))
        deployed.refresh(full_capture=draw.random() < 0.2)
    return True


def test_rebuilds_go_on_while_others_capture_load_and_read(
    platform: Platform, server: Server, tmp_path: Path, figures: Callable[..., None]
) -> None:
    make_history(platform)
    started = [processes.start(platform, work) for work in (rebuild_again_and_again, refresh_again_and_again)]
    longest, answers = 0.0, Counter[tuple[str, bool]]()
    with connect(platform.warehouse_url) as connection:
        connection.run("SET ROLE analyst")
        while any(process.is_alive() for process in started):
            for read in (all_have_totals, all_are_in_capitals):
                before = monotonic()
                answers[read.__name__, read(connection)] += 1
                longest = max(longest, monotonic() - before)
    assert [processes.finish(process) for process in started] == [0, 0]
    assert len(answers) == 4, "the analyst has seen each deployment"
    assert longest < LONGEST_WAIT_SECONDS
    platform.now += timedelta(days=30)
    deployed = platform.declaring(*changed_rules.ALTERNATIVES[0])
    deployed.refresh()
    deployed.rebuild()
    assert deployed.contents() == deployed.from_scratch(server, tmp_path).contents()
    figures(captures=len(all_captures(platform)), queries=answers.total(), longest_wait_in_ms=int(longest * 1000))


def all_have_totals(connection: Connection) -> bool:
    """Whether all sales orders have their total, or none: the column need not exist."""
    [[rows, totals, wrong]] = connection.run(
        """SELECT count(*), count(total), count(*) FILTER (WHERE total <> units_sold * unit_price)
           FROM (SELECT CAST(to_jsonb(orders) ->> 'total_amount' AS numeric) AS total, units_sold, unit_price
                 FROM warehouse.fact_sales_order_current orders) orders"""
    )
    assert rows
    assert totals in (0, rows)
    assert not wrong
    return bool(totals)


def all_are_in_capitals(connection: Connection) -> bool:
    """Whether the names of all designs are in capitals, or none."""
    [[rows, others]] = connection.run(
        "SELECT count(*), count(*) FILTER (WHERE design_name <> upper(design_name)) FROM warehouse.dim_design"
    )
    assert rows
    assert others in (0, rows)
    return not others
