"""Deletions between full captures: when a capture takes the keys of a table, and that none is missed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection, connect, transaction
from etl_assets.catalog.stages import CAPTURE_OP
from etl_assets.ingestion import capture as capture_module
from etl_assets.ingestion import live_tables as live_tables_module
from etl_assets.ingestion.changes import write_count
from etl_assets.ingestion.csv_files import read_key_files
from etl_assets.ingestion.manifest import RowCount, list_partition
from etl_assets.schema.columns import columns
from etl_assets.schema.table import Table
from etl_assets_tests.harness import Platform
from etl_assets_tests.pipeline import SOURCE

STATISTICS_FIELDS = ("key_files", "key_columns", "key_reasons", "deletion_statistics", "row_counts")


def change(connection: Connection, *statements: str) -> None:
    """Change the source in one transaction, and have its statistics count the changes at once."""
    with transaction(connection):
        for statement in statements:
            connection.run(statement)
        connection.run("SELECT pg_stat_force_next_flush()")


def changed(platform: Platform, *statements: str) -> None:
    with connect(platform.totesys_url) as connection:
        change(connection, *statements)


def capture(platform: Platform) -> dict[str, list[int]]:
    """Make a capture in a window of its own. Return the keys that it has, by table."""
    platform.next_window()
    platform.refresh("ingestion")
    return key_lists(platform)


def key_lists(platform: Platform) -> dict[str, list[int]]:
    latest, bucket = platform.latest_capture, Bucket(platform.ingestion_url)
    lists = {}
    for name in latest.key_files:
        [(at, keys)] = read_key_files(bucket, SOURCE[name], [latest])
        assert at == latest.captured_at
        lists[name] = sorted(keys.column(f"{name}_id").to_pylist())
    return lists


def present(platform: Platform, table: str) -> list[int]:
    return [key for [key] in platform.totesys(f"SELECT {table}_id FROM {table} ORDER BY {table}_id")]


@pytest.fixture
def captured(platform: Platform) -> Platform:
    """The platform after a first capture."""
    platform.refresh("ingestion")
    return platform


@pytest.fixture
def uncounted(platform: Platform) -> Platform:
    """The platform after a first capture of a source that keeps no statistics."""
    [[database]] = platform.totesys("SELECT current_database()::text")
    platform.totesys(f"ALTER DATABASE {database} SET track_counts = off")
    platform.refresh("ingestion")
    return platform


def test_a_deletion_that_the_statistics_count_brings_the_keys_of_its_table(captured: Platform) -> None:
    changed(captured, "DELETE FROM payment WHERE payment_id IN (2, 4)")
    keys = capture(captured)
    latest = captured.latest_capture
    assert keys == {"payment": present(captured, "payment")}
    assert not {2, 4} & {*keys["payment"]}
    assert (latest.files, latest.has_keys("payment"), latest.has_keys("design")) == ({}, True, False)
    assert latest.key_reasons == {"payment": "rows deleted, by the source's statistics: 2"}
    assert capture(captured) == {}


def test_a_capture_without_deletions_has_no_keys(captured: Platform) -> None:
    changed(
        captured,
        "UPDATE payment SET paid = NOT paid",
        "INSERT INTO currency VALUES (9, 'SEK', now(), now())",
        "UPDATE department SET location = 'x'",
    )
    captured.totesys("VACUUM payment")
    assert capture(captured) == {}
    assert captured.latest_capture.files.keys() == {"payment", "currency", "department", "staff"}
    assert captured.latest_capture.row_counts == {}


@pytest.mark.parametrize("source", ["captured", "uncounted"])
def test_a_row_that_another_one_takes_the_place_of_is_noticed(source: str, request: pytest.FixtureRequest) -> None:
    platform: Platform = request.getfixturevalue(source)
    changed(
        platform,
        "CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM payment WHERE payment_id = 3",
        "DELETE FROM payment WHERE payment_id = 3",
        "UPDATE kept SET payment_id = 1000000",
        "INSERT INTO payment SELECT * FROM kept",
    )
    keys = capture(platform)["payment"]
    assert keys == present(platform, "payment")
    assert (3 in keys, 1_000_000 in keys) == (False, True)


def test_an_aborted_deletion_costs_no_more_than_a_key_list(captured: Platform) -> None:
    with connect(captured.totesys_url) as connection:
        connection.run("BEGIN")
        connection.run("DELETE FROM payment")
        connection.run("ROLLBACK")
        connection.run("SELECT pg_stat_force_next_flush()")
    assert capture(captured) == {"payment": present(captured, "payment")}


@pytest.mark.parametrize("source", ["captured", "uncounted"])
def test_an_empty_table_has_an_empty_key_list(source: str, request: pytest.FixtureRequest) -> None:
    platform: Platform = request.getfixturevalue(source)
    changed(platform, "DELETE FROM payment")
    assert capture(platform) == {"payment": []}
    file = platform.latest_capture.key_files["payment"]
    with Bucket(platform.ingestion_url).open(file.key) as keys:
        assert (file.rows, keys.read()) == (0, b"payment_id\n")
    assert capture(platform) == {}


def test_a_truncated_table_is_captured_whole_and_needs_no_keys(captured: Platform) -> None:
    before = captured.latest_capture.deletion_statistics
    captured.totesys("TRUNCATE payment")
    assert capture(captured) == {}
    latest = captured.latest_capture
    assert (latest.is_full("payment"), latest.full, "payment" in latest.files) == (True, False, False)
    assert latest.deletion_statistics.keys() == before.keys() == SOURCE.keys()
    assert capture(captured) == {}


def test_a_full_capture_has_no_keys_and_the_ordinary_one_before_it_does(captured: Platform) -> None:
    changed(captured, "DELETE FROM payment WHERE payment_id = 2")
    captured.next_window()
    captured.refresh("ingestion", full_capture=True)
    ordinary, full = list_partition(Bucket(captured.ingestion_url), captured.partition)
    assert [[*each.key_files] for each in (ordinary, full)] == [["payment"], []]
    assert ordinary.deletion_statistics == full.deletion_statistics
    assert capture(captured) == {}


@pytest.mark.parametrize(
    "reset", ["pg_stat_reset()", "pg_stat_reset_single_table_counters('payment'::regclass)"], ids=["all", "one"]
)
def test_a_deletion_that_brings_reset_statistics_to_what_they_were_is_noticed(captured: Platform, reset: str) -> None:
    changed(captured, "DELETE FROM payment WHERE payment_id = 2")
    assert capture(captured).keys() == {"payment"}
    counted = captured.latest_capture.deletion_statistics["payment"].deleted
    captured.totesys(f"SELECT {reset}")
    changed(captured, "DELETE FROM payment WHERE payment_id = 3")
    keys = capture(captured)
    assert captured.latest_capture.deletion_statistics["payment"].deleted == counted == 1
    assert 3 not in keys["payment"]
    assert captured.latest_capture.key_reasons["payment"] == "the source's statistics were reset"
    assert capture(captured) == {}


def test_a_deletion_from_tables_that_join_is_noticed_although_nothing_was_written(captured: Platform) -> None:
    changed(captured, "INSERT INTO department VALUES (1000, 'x', 'x', 'x', now(), now())")
    assert capture(captured) == {}
    changed(captured, "DELETE FROM department WHERE department_id = 1000")
    assert capture(captured) == {"department": present(captured, "department")}
    assert captured.latest_capture.files == {}


def test_deletions_from_partitions_are_noticed_and_counted_as_writes(platform: Platform) -> None:
    platform.totesys("ALTER TABLE payment RENAME TO payment_before")
    platform.totesys("CREATE TABLE payment (LIKE payment_before) PARTITION BY RANGE (payment_id)")
    platform.totesys("CREATE TABLE payment_1 PARTITION OF payment FOR VALUES FROM (0) TO (10)")
    platform.totesys("CREATE TABLE payment_2 PARTITION OF payment DEFAULT")
    changed(platform, "INSERT INTO payment SELECT * FROM payment_before")
    platform.refresh("ingestion")
    with connect(platform.totesys_url) as connection:
        before, _ = write_count(connection, [SOURCE["payment"]])
        change(connection, "DELETE FROM payment WHERE payment_id IN (2, 20)")
        assert write_count(connection, [SOURCE["payment"]])[0] == before + 2
    assert capture(platform) == {"payment": present(platform, "payment")}
    changed(platform, "DELETE FROM payment_2 WHERE payment_id = 21")
    assert capture(platform) == {"payment": present(platform, "payment")}
    assert capture(platform) == {}


@pytest.fixture
def deletes_after_the_snapshot(captured: Platform, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Statements that are run, and counted, once a capture has taken its snapshot."""
    statements: list[str] = []
    live_tables = live_tables_module.live_tables

    def after_the_snapshot(*arguments: Any) -> Any:
        while statements:
            changed(captured, statements.pop())
        return live_tables(*arguments)

    monkeypatch.setattr(capture_module, "live_tables", after_the_snapshot)
    yield statements
    assert not statements


@pytest.mark.parametrize("before", ["", "DELETE FROM payment WHERE payment_id = 2"], ids=["alone", "after another"])
def test_a_deletion_committed_after_the_snapshot_is_left_to_the_next_capture(
    captured: Platform, deletes_after_the_snapshot: list[str], before: str
) -> None:
    if before:
        changed(captured, before)
    deletes_after_the_snapshot.append("DELETE FROM payment WHERE payment_id = 5")
    during = capture(captured)
    assert during.keys() == ({"payment"} if before else set())
    assert 5 in during.get("payment", [5])
    assert capture(captured) == {"payment": present(captured, "payment")}
    assert captured.latest_capture.key_reasons == {"payment": "rows deleted, by the source's statistics: 1"}
    assert capture(captured) == {}


def test_a_deletion_that_is_counted_after_a_capture_that_sees_it_is_noticed_by_the_next_one(captured: Platform) -> None:
    with connect(captured.totesys_url) as connection:
        connection.run("BEGIN")
        connection.run("DELETE FROM payment WHERE payment_id = 2")
        connection.run("COMMIT AND CHAIN")  # sessions report to the statistics when they are idle
        assert capture(captured) == {}
        assert 2 not in present(captured, "payment")
        connection.run("SELECT pg_stat_force_next_flush()")
        connection.run("COMMIT")
    assert capture(captured) == {"payment": present(captured, "payment")}


def test_without_statistics_the_row_count_shows_deletions(uncounted: Platform) -> None:
    first, payments = uncounted.latest_capture, present(uncounted, "payment")
    assert first.deletion_statistics == {}
    assert first.row_counts["payment"] == RowCount(len(payments), (str(payments[-1]),))
    changed(uncounted, "INSERT INTO currency VALUES (9, 'SEK', now(), now())", "UPDATE payment SET paid = NOT paid")
    assert capture(uncounted) == {}
    changed(uncounted, "DELETE FROM payment WHERE payment_id = 2", "UPDATE payment SET paid = NOT paid")
    assert capture(uncounted) == {"payment": present(uncounted, "payment")}
    assert uncounted.latest_capture.key_reasons == {"payment": "rows deleted, by their number: 1"}
    changed(uncounted, "DELETE FROM currency WHERE currency_id = 9")
    changed(uncounted, *(f"INSERT INTO currency VALUES ({n}, 'NOK', now(), now())" for n in (10, 11)))
    assert capture(uncounted) == {"currency": present(uncounted, "currency")}
    assert capture(uncounted) == {}


def test_the_row_count_works_for_keys_of_several_columns(platform: Platform) -> None:
    line = Table(
        name="line",
        description="",
        primary_key=("code", "at", "line_id"),
        columns=columns(line_id=pa.int32(), code=pa.string(), at=pa.timestamp("us")),
    )
    platform.totesys(
        "CREATE TABLE line (line_id integer NOT NULL, code text NOT NULL, at timestamp NOT NULL, "
        "PRIMARY KEY (code, at, line_id))"
    )
    [[database]] = platform.totesys("SELECT current_database()::text")
    platform.totesys(f"ALTER DATABASE {database} SET track_counts = off")
    declared = platform.declaring(line)
    declared.refresh("ingestion")
    assert declared.latest_capture.row_counts["line"] == RowCount(0, ())
    for statement, taken in (
        ("INSERT INTO line VALUES (1, 'a''b', '2024-01-01'), (2, 'a''b', '2024-01-01'), (3, 'b', '2024-01-01')", None),
        ("INSERT INTO line VALUES (4, 'b', '2024-01-01')", None),
        ("WITH gone AS (DELETE FROM line WHERE line_id = 1) INSERT INTO line VALUES (1, 'b', '2024-01-02')", 4),
        ("SELECT 1", None),
    ):
        declared.totesys(statement)
        declared.next_window()
        declared.refresh("ingestion")
        file = declared.latest_capture.key_files.get("line")
        assert (file and file.rows) == taken
    assert declared.latest_capture.row_counts["line"] == RowCount(4, ("b", "2024-01-02 00:00:00", "1"))


def test_what_was_counted_in_another_way_before_cannot_be_compared(captured: Platform) -> None:
    [[database]] = captured.totesys("SELECT current_database()::text")
    for value, reason in (("off", "row count"), ("on", "statistics")):
        captured.totesys(f"ALTER DATABASE {database} SET track_counts = {value}")
        changed(captured, "DELETE FROM payment WHERE payment_id IN (SELECT max(payment_id) FROM payment)")
        assert capture(captured) == {name: present(captured, name) for name in SOURCE}
        reasons = {*captured.latest_capture.key_reasons.values()}
        assert reasons == {f"the previous capture has no {reason} to compare with"}
        assert capture(captured) == {}


def test_after_a_capture_of_an_older_release_all_keys_are_taken_once(captured: Platform) -> None:
    [path] = Path(captured.ingestion_url.removeprefix("file://")).glob("captures/*/*/*/*/*.json")
    manifest = json.loads(path.read_text())
    for field in STATISTICS_FIELDS:
        del manifest[field]
    path.write_text(json.dumps(manifest))
    assert not captured.latest_capture.has_keys("payment")
    changed(captured, "DELETE FROM payment WHERE payment_id = 2")
    assert capture(captured) == {name: present(captured, name) for name in SOURCE}
    assert capture(captured) == {}


def test_a_read_only_role_is_sufficient(captured: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    captured.totesys(
        """DO $$ BEGIN CREATE ROLE key_reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
           GRANT SELECT ON ALL TABLES IN SCHEMA public TO key_reader"""
    )
    changed(captured, "DELETE FROM payment WHERE payment_id = 2")
    monkeypatch.setenv("TOTESYS_DATABASE_URL", captured.totesys_url.replace("postgres@", "key_reader@"))
    assert capture(captured) == {"payment": present(captured, "payment")}


def test_the_metadata_say_how_many_keys_were_taken_and_why(captured: Platform) -> None:
    changed(captured, "DELETE FROM payment WHERE payment_id = 2")
    captured.next_window()
    materializations = {
        each.asset_key.path[-1]: each.metadata
        for each in captured.run("ingestion").asset_materializations_for_node(CAPTURE_OP)
        if each.asset_key
    }
    payment, file = materializations["payment"], captured.latest_capture.key_files["payment"]
    assert payment["keys"].value == file.rows == len(present(captured, "payment"))
    assert payment["keys_because"].value == "rows deleted, by the source's statistics: 1"
    assert payment["keys_uri"].value == f"{captured.ingestion_url}/{file.key}"
    assert "keys" not in materializations["design"]
