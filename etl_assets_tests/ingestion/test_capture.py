"""The capture: it may capture a row twice, it never misses one."""

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import DatabaseUnavailableError, StatementRefusedError, connect, transaction
from etl_assets.catalog.stages import CAPTURE_OP
from etl_assets.ingestion.capture import LaterWindowCapturedError, capture
from etl_assets.ingestion.changes import Position, end_of_record, full_capture_reason
from etl_assets.ingestion.manifest import Capture, list_partition, partition_folder
from etl_assets.schema.errors import SchemaMismatchError
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation.star_table import join_dependencies
from etl_assets_tests.harness import Platform, failed_checks, failure, until
from etl_assets_tests.pipeline import CATALOG, SOURCE, read_captured

WAITING_FOR_A_TABLE = """
    SELECT pid FROM pg_locks
    WHERE NOT granted AND relation IS NOT NULL AND database = (
        SELECT oid FROM pg_database WHERE datname = current_database())"""


def row_counts(captured: Capture) -> dict[str, int]:
    return {table: file.rows for table, file in captured.files.items()}


def captured_keys(platform: Platform, table: str) -> list[int]:
    captured = read_captured(Bucket(platform.ingestion_url), SOURCE[table], platform.partition)
    return list(captured.rows.column(f"{table}_id").to_pylist())


def only_manifest(platform: Platform) -> Path:
    [path] = Path(platform.ingestion_url.removeprefix("file://")).glob("captures/*/*/*/*/*.json")
    return path


@pytest.fixture
def captured(platform: Platform) -> Platform:
    """The platform after a first capture, in the next window."""
    platform.refresh("ingestion")
    platform.next_window()
    return platform


def test_the_first_capture_is_a_full_one_and_records_why(platform: Platform) -> None:
    platform.refresh("ingestion")
    first = platform.latest_capture
    assert first.full_because == "it is the first capture"
    assert row_counts(first) == {name: platform.totesys(f"SELECT count(*) FROM {name}")[0][0] for name in SOURCE}


def test_a_capture_without_changes_writes_a_manifest_and_no_file(captured: Platform) -> None:
    first = captured.latest_capture
    captured.refresh("ingestion")
    second = captured.latest_capture
    assert (second.files, second.full, second.previous) == ({}, False, first.id)
    assert Bucket(captured.ingestion_url).objects(partition_folder("staff", captured.partition)) == []


def test_a_change_without_a_new_last_updated_is_captured(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x' WHERE design_id IN (2, 4)")
    captured.refresh("ingestion")
    assert row_counts(captured.latest_capture) == {"design": 2}


def test_a_row_with_a_wrong_last_updated_is_captured(captured: Platform) -> None:
    captured.totesys("UPDATE payment SET last_updated = '1970-01-01' WHERE payment_id = 1")
    captured.totesys("UPDATE payment SET last_updated = '2999-01-01' WHERE payment_id = 2")
    captured.refresh("ingestion")
    assert sorted(captured_keys(captured, "payment")) == [1, 2]


def test_a_transaction_open_during_captures_is_captured_once_it_commits(captured: Platform) -> None:
    with connect(captured.totesys_url) as late, connect(captured.totesys_url) as other:
        late.run("BEGIN")
        late.run("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
        late.run("SAVEPOINT nested")
        late.run("UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 2")
        for key in (8, 9):  # newer transactions commit and are captured
            other.run("UPDATE sales_order SET units_sold = 3 WHERE sales_order_id = :key", key=key)
            captured.refresh("ingestion")
            assert 1 not in captured_keys(captured, "sales_order")
            captured.next_window()
        late.run("COMMIT")
    captured.refresh("ingestion")
    assert {1, 2} <= set(captured_keys(captured, "sales_order"))


def test_what_a_held_back_horizon_lets_captures_read_again_is_stored_twice_at_most(captured: Platform) -> None:
    with connect(captured.totesys_url) as late, connect(captured.totesys_url) as other:
        other.run("UPDATE sales_order SET units_sold = 3 WHERE sales_order_id = 5")
        late.run("BEGIN")
        late.run("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
        late.run("SAVEPOINT nested")
        late.run("UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 2")
        other.run("UPDATE sales_order SET units_sold = 3 WHERE sales_order_id IN (3, 4)")
        other.run("UPDATE department SET manager = 'x' WHERE department_id = 1")
        read = []
        for units in (None, None, 4, 4, None):
            if units:
                other.run("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 4", units=units)
            result = captured.run("ingestion")
            read.append(sorted(captured_keys(captured, "sales_order")))
            captured.next_window()
        assert read == [[3, 4, 5], [3, 4], [4], [4], []]
        assert captured.latest_capture.files == {}
        [held] = failed_checks(result, "ingestion", "horizon_advances").values()
        assert held["transactions_since"] >= 5
        assert re.fullmatch(
            r"transaction \d+: session \d+ \(etl_assets\) of postgres in test_\d+, since .* UTC", held["held_by"]
        )
        late.run("COMMIT")
    captured.refresh("ingestion")
    assert sorted(captured_keys(captured, "sales_order")) == [1, 2]
    captured.next_window()
    captured.refresh("ingestion")
    assert (captured.latest_capture.files, captured.latest_capture.captured_transactions) == ({}, ())


def test_a_forgotten_prepared_transaction_is_named_with_its_owner(captured: Platform) -> None:
    with connect(captured.totesys_url) as connection:
        connection.run("BEGIN")
        connection.run("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
        connection.run("PREPARE TRANSACTION 'two-phase'")
    try:
        for _ in range(2):
            captured.totesys("UPDATE department SET manager = manager WHERE department_id = 1")
            result = captured.run("ingestion")
            captured.next_window()
        [held] = failed_checks(result, "ingestion", "horizon_advances").values()
        assert "prepared transaction two-phase of postgres in test_" in held["held_by"]
    finally:
        captured.totesys("ROLLBACK PREPARED 'two-phase'")


def test_a_rolled_back_change_is_not_captured(captured: Platform) -> None:
    with connect(captured.totesys_url) as connection:
        connection.run("BEGIN")
        connection.run("UPDATE sales_order SET units_sold = 1")
        connection.run("ROLLBACK")
    captured.refresh("ingestion")
    assert captured.latest_capture.files == {}


def test_a_vacuumed_and_frozen_table_is_not_captured_again(captured: Platform) -> None:
    captured.refresh("ingestion")
    captured.next_window()
    captured.totesys("VACUUM FREEZE sales_order")
    captured.refresh("ingestion")
    assert "sales_order" not in captured.latest_capture.files


def test_a_changed_department_is_captured_with_its_staff(captured: Platform) -> None:
    captured.totesys("UPDATE department SET department_name = 'Vending' WHERE department_id = 3")
    captured.refresh("ingestion")
    members = [key for [key] in captured.totesys("SELECT staff_id FROM staff WHERE department_id = 3")]
    assert sorted(captured_keys(captured, "staff")) == sorted(members)
    assert captured_keys(captured, "department") == [3]


def test_a_changed_member_of_staff_is_captured_with_their_department_only(captured: Platform) -> None:
    captured.totesys("UPDATE staff SET first_name = 'Ada' WHERE staff_id = 7")
    captured.refresh("ingestion")
    [[department]] = captured.totesys("SELECT department_id FROM staff WHERE staff_id = 7")
    assert (captured_keys(captured, "staff"), captured_keys(captured, "department")) == ([7], [department])


def test_a_full_capture_captures_every_row(captured: Platform) -> None:
    captured.run("ingestion", full_capture=True)
    full = captured.latest_capture
    assert full.full_because == "asked for"
    assert row_counts(full)["sales_order"] == captured.totesys("SELECT count(*) FROM sales_order")[0][0]


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"system_identifier": 1}, "another server, or was started again"),
        ({"timeline_id": 99}, "another server, or was started again"),
        ({"database_oid": 1}, "another server, or was started again"),
        ({"started_at": "2024-08-22 12:00:00+00"}, "another server, or was started again"),
        ({"started_at": None}, "another server, or was started again"),
        ({"snapshot": f"{2**62}:{2**62}:"}, "went back"),
    ],
)
def test_a_replaced_failed_over_or_restored_source_gets_a_full_capture(
    captured: Platform, change: dict[str, Any], because: str
) -> None:
    before, path = captured.latest_capture, only_manifest(captured)
    manifest = json.loads(path.read_text())
    if "snapshot" not in change:
        change = {"source": manifest["source"] | change}
    path.write_text(json.dumps(manifest | change))
    captured.refresh("ingestion")
    after = captured.latest_capture
    assert because in (after.full_because or "")
    assert row_counts(after) == row_counts(before)


def test_a_horizon_too_old_to_compare_is_a_reason_for_a_full_capture(captured: Platform) -> None:
    previous = captured.latest_capture

    def reason(now: int) -> str | None:
        return full_capture_reason(
            previous, previous.source, Position(f"{now}:{now}:", is_standby=False, replayed=None)
        )

    assert "transactions old" in str(reason(previous.horizon + 2**31))
    assert reason(previous.horizon + 2**31 - 1) is None


@pytest.mark.parametrize(
    ("position", "end"),
    [
        (8192 + 24, 8192),
        (8192 + 40, 8192 + 40),
        (2**20 + 40, 2**20),
        (2**20 + 24, 2**20),
        (2**20 + 48, 2**20 + 48),
        (0, 0),
    ],
)
def test_a_wal_position_after_the_header_of_a_page_is_the_start_of_the_page(position: int, end: int) -> None:
    assert end_of_record(position) == end


def test_a_clock_set_back_does_not_reorder_captures(captured: Platform) -> None:
    path = only_manifest(captured)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"captured_at": "2999-01-01T00:00:00.000000"}))
    captured.refresh("ingestion")
    assert str(captured.latest_capture.captured_at) == "2999-01-01 00:00:00.000001"


def test_nothing_is_captured_into_a_past_window_and_its_metadata_says_so(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x'")
    before = captured.latest_capture
    captured.next_window()
    result = captured.run("ingestion", partition=before.partition)
    assert captured.latest_capture == before
    [materialization, *_] = result.asset_materializations_for_node(CAPTURE_OP)
    assert "nothing: a capture reads the source as it is now" in str(materialization.metadata["captured"].value)


def test_files_without_a_manifest_are_ignored(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x' WHERE design_id = 1")
    captured.refresh("ingestion")
    [manifest] = Bucket(captured.ingestion_url).objects(partition_folder("captures", captured.partition))
    Path(f"{captured.ingestion_url.removeprefix('file://')}/{manifest}").unlink()
    assert captured_keys(captured, "design") == []
    captured.refresh("ingestion")
    assert captured_keys(captured, "design") == [1]


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("ALTER TABLE payment RENAME paid TO settled", "column payment.paid is missing"),
        (
            "ALTER TABLE payment ALTER payment_amount TYPE numeric(12,4)",
            "column payment.payment_amount is numeric(12,4)",
        ),
        ("ALTER TABLE payment RENAME TO payments", "table payment is missing"),
        ("ALTER TABLE payment DROP paid", "column payment.paid is missing"),
        ("ALTER TABLE staff ALTER first_name DROP NOT NULL", "column staff.first_name is nullable, declared NOT NULL"),
        (
            """ALTER TYPE "TransactionType" ADD VALUE 'REFUND'""",
            "column transaction.transaction_type allows REFUND, which is not declared",
        ),
        (
            "ALTER TABLE transaction ALTER transaction_type TYPE text",
            "column transaction.transaction_type is text, declared one of SALE, PURCHASE",
        ),
    ],
)
def test_a_changed_source_schema_fails_and_writes_nothing(platform: Platform, ddl: str, message: str) -> None:
    platform.totesys(ddl)
    with pytest.raises(SchemaMismatchError, match=re.escape(message)):
        platform.refresh("ingestion")
    assert Bucket(platform.ingestion_url).folders("payment") == []
    assert Bucket(platform.ingestion_url).folders("captures") == []


def test_a_read_only_role_is_sufficient(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.totesys(
        """DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
           GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"""
    )
    monkeypatch.setenv("TOTESYS_DATABASE_URL", platform.totesys_url.replace("postgres@", "reader@"))
    platform.refresh("ingestion")
    assert row_counts(platform.latest_capture).keys() == SOURCE.keys()


def test_a_missing_privilege_is_reported_with_the_table(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.totesys(
        """DO $$ BEGIN CREATE ROLE limited LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
           GRANT SELECT ON staff TO limited"""
    )
    monkeypatch.setenv("TOTESYS_DATABASE_URL", platform.totesys_url.replace("postgres@", "limited@"))
    with pytest.raises(
        SchemaMismatchError, match=r"payment, .* cannot be read: run GRANT .* GRANT SELECT ON .*payment"
    ):
        platform.refresh("ingestion")


def test_all_tables_are_read_in_one_snapshot(totesys_url: str, bucket_url: str) -> None:
    """A change that is committed after the snapshot is left to the next capture."""
    bucket = Bucket(bucket_url)

    class InsertingBucket(Bucket):
        def create(self, key: str) -> Any:
            if key.startswith("address/"):
                with connect(totesys_url) as other:
                    other.run("INSERT INTO currency (currency_code, last_updated) VALUES ('SEK', now())")
            return super().create(key)

    with connect(totesys_url) as connection:
        during = capture(
            connection, InsertingBucket(bucket_url), TOTESYS_TABLES, join_dependencies(CATALOG), "2024-08-14-14:15"
        )
    with connect(totesys_url) as connection:
        after = capture(connection, bucket, TOTESYS_TABLES, join_dependencies(CATALOG), "2024-08-14-14:30")
    assert row_counts(during.captures[0])["currency"] == 3
    assert row_counts(after.captures[0]) == {"currency": 1}


def test_a_full_capture_follows_an_ordinary_one_from_the_same_snapshot(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x' WHERE design_id = 2")
    captured.run("ingestion", full_capture=True)
    ordinary, full = list_partition(Bucket(captured.ingestion_url), captured.partition)
    assert (row_counts(ordinary), ordinary.full, full.full) == ({"design": 1}, False, True)
    assert (full.previous, full.snapshot) == (ordinary.id, ordinary.snapshot)
    assert full.captured_at > ordinary.captured_at


def test_a_full_capture_into_a_past_window_fails(captured: Platform) -> None:
    past = captured.partition
    captured.next_window()
    result = captured.run("ingestion", partition=past, full_capture=True, raise_on_error=False)
    assert f"partition {past} has ended, and a capture can only be made now" in failure(result)


def test_nothing_is_captured_into_a_window_before_the_latest_capture(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x' WHERE design_id = 2")
    with (
        connect(captured.totesys_url) as connection,
        pytest.raises(LaterWindowCapturedError, match=f"the latest capture is in {captured.latest_capture.partition}"),
    ):
        capture(connection, Bucket(captured.ingestion_url), TOTESYS_TABLES, (), "2024-08-14-14:15")


def test_row_level_security_fails_the_capture(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.totesys(
        """DO $$ BEGIN CREATE ROLE restricted LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
           GRANT SELECT ON ALL TABLES IN SCHEMA public TO restricted;
           ALTER TABLE staff ENABLE ROW LEVEL SECURITY"""
    )
    monkeypatch.setenv("TOTESYS_DATABASE_URL", platform.totesys_url.replace("postgres@", "restricted@"))
    refusal = 'query would be affected by row-level security policy for table "staff"'
    with pytest.raises(StatementRefusedError, match=refusal):
        platform.refresh("ingestion")


def test_a_stricter_column_than_declared_is_a_warning(platform: Platform) -> None:
    platform.totesys("UPDATE department SET location = ''")
    platform.totesys("ALTER TABLE department ALTER location SET NOT NULL")
    failed = failed_checks(platform.run("ingestion"), "ingestion", "schema_matches")
    assert failed == {"department": {"differences": 1, "first": "column location is NOT NULL, declared nullable"}}


def test_concurrent_captures_follow_each_other(captured: Platform) -> None:
    with connect(captured.totesys_url) as holder:
        holder.run("BEGIN")
        holder.run("LOCK TABLE payment IN ACCESS EXCLUSIVE MODE")
        runs = [threading.Thread(target=captured.refresh, args=("ingestion",)) for _ in range(2)]
        for run in runs:
            run.start()
        until(lambda: len(holder.run(WAITING_FOR_A_TABLE)) == 2, seconds=30)
        holder.run("COMMIT")
        for run in runs:
            run.join(timeout=30)
    first, second = list_partition(Bucket(captured.ingestion_url), captured.partition)
    assert second.previous == first.id


def test_a_capture_that_waits_for_another_one_too_long_is_an_outage(totesys_url: str, bucket_url: str) -> None:
    with connect(totesys_url) as other, transaction(other):
        other.run("SELECT pg_advisory_xact_lock(hashtextextended('totesys ETL: capture', 0))")
        with (
            connect(f"{totesys_url}&lock_timeout=1") as connection,
            pytest.raises(DatabaseUnavailableError, match="another capture has not ended in 1 seconds"),
        ):
            capture(connection, Bucket(bucket_url), TOTESYS_TABLES, (), "2024-08-14-14:15")


def test_a_capture_published_before_the_lock_is_held_is_followed(totesys_url: str, bucket_url: str) -> None:
    class OvertakenBucket(Bucket):
        """Another capture is made, of a later change, after this one has looked for the latest capture."""

        other: Capture | None = None

        def folders(self, below: str) -> list[str]:
            found = super().folders(below)
            if not self.other:
                with connect(totesys_url) as connection:
                    connection.run("UPDATE design SET file_name = 'x' WHERE design_id = 1")
                    [self.other] = capture(
                        connection, Bucket(bucket_url), TOTESYS_TABLES, (), "2024-08-14-14:15"
                    ).captures
            return found

    bucket = OvertakenBucket(bucket_url)
    with connect(totesys_url) as connection:
        [made] = capture(connection, bucket, TOTESYS_TABLES, (), "2024-08-14-14:15").captures
    assert bucket.other
    assert (made.previous, made.files) == (bucket.other.id, {})


def test_a_table_that_was_locked_is_captured_as_it_is_once_the_lock_is_released(captured: Platform) -> None:
    """TRUNCATE ignores snapshots: to one from before it the table is empty, whatever was inserted since."""
    with connect(captured.totesys_url) as holder:
        with transaction(holder):
            holder.run("CREATE TEMPORARY TABLE kept ON COMMIT DROP AS SELECT * FROM payment WHERE payment_id < 4")
            holder.run("TRUNCATE payment")
            run = threading.Thread(target=captured.refresh, args=("ingestion",))
            run.start()
            until(lambda: holder.run(WAITING_FOR_A_TABLE), seconds=30)
            holder.run("INSERT INTO payment SELECT * FROM kept")
        run.join(timeout=30)
    assert sorted(captured_keys(captured, "payment")) == [1, 2, 3]
