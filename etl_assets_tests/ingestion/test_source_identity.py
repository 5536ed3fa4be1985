"""Which server a capture was read from: copies, standbys and restarts, behind one address."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import connect
from etl_assets.ingestion.capture import capture
from etl_assets.ingestion.changes import SourceBehindError, write_count
from etl_assets.ingestion.manifest import Capture, RowCount, list_partition
from etl_assets.schema.columns import columns
from etl_assets.schema.table import Table
from etl_assets.simulator import postgres
from etl_assets_tests.harness import until

PARTITION = "2024-08-22-12:00"
ITEM = Table(name="item", description="", primary_key=("id",), columns=columns(id=pa.int32(), units=pa.int32()))


class Address:
    """An address behind which one of several servers answers: a link to the folder of its socket."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self._link = folder / "address"
        self.bucket = bucket

    def lead_to(self, server: postgres.Server) -> None:
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(server.socket_folder)

    def capture(self, *, full: bool = False) -> Capture:
        with connect(f"postgresql://postgres@/totesys?host={self._link}") as connection:
            return capture(connection, self.bucket, [ITEM], [], PARTITION, full=full).captures[-1]

    def rows(self, of: Capture) -> dict[int, int]:
        """The units by id in a capture."""
        if not of.files:
            return {}
        with self.bucket.open(of.files["item"].key) as file:
            lines = file.read().decode().splitlines()[1:]
        return {int(id_): int(units) for id_, units in (line.split(",") for line in lines)}


def run(server: postgres.Server, sql: str) -> list[list[Any]]:
    with connect(server.url("totesys")) as connection:
        return connection.run(sql)


@dataclass(frozen=True)
class Cluster:
    """Servers in folders of their own, which are stopped and removed at the end."""

    folder: Path
    stack: ExitStack

    def home(self, name: str) -> Path:
        return self.folder / name

    def serve(self, name: str, **settings: str) -> postgres.Server:
        if not postgres.data_folder(self.home(name)).exists():
            self.stack.callback(postgres.remove, self.home(name))
        return self.stack.enter_context(postgres.serve(self.home(name), **settings))

    def copy(self, server: postgres.Server, name: str, *options: str) -> postgres.Server:
        """Copy the data of a running server, and start another one on it."""
        home = self.home(name)
        folder = postgres.data_folder(home)
        folder.mkdir(parents=True)
        shutil.chown(folder, postgres.data_folder(self.home("primary")).owner())
        data = folder / "data"
        where = ("--host", str(server.socket_folder), "--username", "postgres", "--pgdata", str(data))
        postgres.run(home, "pg_basebackup", *where, "--checkpoint=fast", "--no-sync", *options)
        return self.serve(name)

    def standby(self, server: postgres.Server, name: str) -> postgres.Server:
        return self.copy(server, name, "--write-recovery-conf")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


@pytest.fixture
def address(tmp_path: Path, bucket_url: str) -> Address:
    return Address(tmp_path, Bucket(bucket_url))


@pytest.fixture
def primary(cluster: Cluster, address: Address) -> postgres.Server:
    """A server with ten items, which were captured through the address."""
    server = cluster.serve("primary")
    server.create_database("totesys")
    run(server, "CREATE TABLE item (id integer PRIMARY KEY, units integer NOT NULL)")
    run(server, "INSERT INTO item SELECT n, n FROM generate_series(1, 10) n")
    address.lead_to(server)
    address.capture()
    return server


def position(server: postgres.Server) -> Any:
    """The position up to which a standby must replay to have all that a primary has."""
    return run(server, "SELECT pg_current_wal_lsn()::text")[0][0]


def await_replay(standby: postgres.Server, of: postgres.Server) -> None:
    until(lambda: run(standby, f"SELECT pg_last_wal_replay_lsn() >= '{position(of)}'") == [[True]])


def test_a_copy_that_went_its_own_way_is_captured_whole_although_its_transactions_are_further(
    cluster: Cluster, address: Address, primary: postgres.Server
) -> None:
    clone = cluster.copy(primary, "clone")
    run(primary, "UPDATE item SET units = 100 WHERE id = 1")
    latest = address.capture()
    for _ in range(20):
        run(clone, "UPDATE item SET units = units + 1 WHERE id = 2")
    address.lead_to(clone)
    captured = address.capture()
    assert captured.horizon > latest.horizon
    same = ("system_identifier", "timeline_id", "database_oid")
    assert all(getattr(captured.source, name) == getattr(latest.source, name) for name in same)
    assert "another server" in str(captured.full_because)
    assert address.rows(captured) == {1: 1, 2: 22, **{n: n for n in range(3, 11)}}


def test_a_standby_that_lags_is_an_outage_and_never_taken_for_a_restored_source(
    cluster: Cluster, address: Address, primary: postgres.Server
) -> None:
    standby = cluster.standby(primary, "standby")
    await_replay(standby, of=primary)
    run(standby, "SELECT pg_wal_replay_pause()")
    run(primary, "INSERT INTO item VALUES (11, 11)")
    run(primary, "UPDATE item SET units = 100 WHERE id = 1")
    before = address.capture()
    address.lead_to(standby)
    for full in (False, True):
        with pytest.raises(SourceBehindError, match=r"the source is a standby at WAL position .*, behind capture"):
            address.capture(full=full)
    assert list_partition(address.bucket, PARTITION)[-1] == before
    address.lead_to(primary)
    run(primary, "UPDATE item SET units = 200 WHERE id = 2")
    back = address.capture()
    assert (back.full_because, address.rows(back)) == (None, {2: 200})
    run(standby, "SELECT pg_wal_replay_resume()")
    await_replay(standby, of=primary)
    address.lead_to(standby)
    caught_up = address.capture()
    assert "another server" in str(caught_up.full_because)
    assert address.rows(caught_up) == {1: 100, 2: 200, **{n: n for n in range(3, 12)}}
    with connect(standby.url("totesys")) as connection:
        before_write, _ = write_count(connection, [ITEM])
        run(primary, "UPDATE item SET units = 300 WHERE id = 3")
        await_replay(standby, of=primary)
        assert write_count(connection, [ITEM])[0] > before_write, "`source_activity` sees it"
    assert address.rows(address.capture()) == {3: 300}


def test_deletions_are_noticed_by_the_row_count_of_a_standby(
    cluster: Cluster, address: Address, primary: postgres.Server
) -> None:
    standby = cluster.standby(primary, "standby")
    await_replay(standby, of=primary)
    address.lead_to(standby)
    first = address.capture()
    assert (first.full, first.deletion_statistics, first.row_counts) == (True, {}, {"item": RowCount(10, ("10",))})
    for statement, rows in (
        ("INSERT INTO item VALUES (11, 11)", None),
        ("DELETE FROM item WHERE id = 3", 10),
        ("WITH gone AS (DELETE FROM item WHERE id = 4) INSERT INTO item VALUES (12, 12)", 10),
        ("DELETE FROM item", 0),
    ):
        run(primary, statement)
        await_replay(standby, of=primary)
        captured = address.capture()
        assert not captured.full
        assert [file.rows for file in captured.key_files.values()] == ([] if rows is None else [rows])


def test_edits_that_never_reached_the_promoted_standby_are_taken_back(
    cluster: Cluster, address: Address, primary: postgres.Server
) -> None:
    standby = cluster.standby(primary, "standby")
    await_replay(standby, of=primary)
    run(standby, "ALTER SYSTEM SET primary_conninfo = ''")  # it gets no more
    run(standby, "SELECT pg_reload_conf()")
    until(lambda: run(standby, "SELECT count(*) FROM pg_stat_wal_receiver") == [[0]])
    run(primary, "UPDATE item SET units = 100 WHERE id = 1")
    lost = address.capture()
    assert address.rows(lost) == {1: 100}
    postgres.run(cluster.home("standby"), "pg_ctl", "promote")
    address.lead_to(standby)
    captured = address.capture()
    assert "another server" in str(captured.full_because)
    assert captured.source.timeline_id == lost.source.timeline_id + 1, "before any checkpoint"
    assert address.rows(captured) == {n: n for n in range(1, 11)}
    run(standby, "UPDATE item SET units = 2000 WHERE id = 2")
    assert address.rows(address.capture()) == {2: 2000}


@pytest.mark.usefixtures("primary")
def test_a_server_that_was_started_again_is_captured_whole(cluster: Cluster, address: Address) -> None:
    postgres.run(cluster.home("primary"), "pg_ctl", "--mode=fast", "--log=log", "restart")
    assert "was started again" in str(address.capture().full_because)
    assert (address.capture().full_because, address.capture().files) == (None, {})


def test_a_capture_waits_until_the_source_cannot_lose_what_it_has(address: Address, primary: postgres.Server) -> None:
    run(primary, "ALTER SYSTEM SET synchronous_commit = off")
    run(primary, "ALTER SYSTEM SET wal_writer_delay = '3s'")
    run(primary, "SELECT pg_reload_conf()")
    until(lambda: run(primary, "SHOW synchronous_commit") == [["off"]])
    run(primary, "UPDATE item SET units = 100 WHERE id = 1")
    captured = address.capture()
    assert address.rows(captured) == {1: 100}
    [[flushed]] = run(primary, "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint")
    assert captured.wal_position
    assert flushed >= captured.wal_position


def test_a_capture_does_not_wait_for_what_nobody_has_committed(address: Address, primary: postgres.Server) -> None:
    with connect(primary.url("totesys")) as late:
        late.run("BEGIN")
        late.run("UPDATE item SET units = 100 WHERE id = 1")
        started = monotonic()
        assert address.capture().files == {}
        assert monotonic() - started < 5, "the log is not flushed to its end"
