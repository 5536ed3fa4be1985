"""The capture: it may read a row again, it never misses one."""

import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etl_assets.buckets import Bucket
from etl_assets.captures import Capture, folder, in_partition
from etl_assets.databases import connect
from etl_assets.ingestion import LaterWindowCapturedError, capture
from etl_assets.storage import read_captured
from etl_assets.tables import Table, columns
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.assets import joins
from etl_assets_tests.platform import WAITS, Platform, failed_checks, failure, until

SOURCE = {table.name: table for table in TOTESYS_TABLES}


def rows(made: Capture) -> dict[str, int]:
    return {table: file.rows for table, file in made.files.items()}


def captured_keys(platform: Platform, table: str) -> list[int]:
    made = read_captured(Bucket(platform.ingestion_url), SOURCE[table], platform.partition)
    return list(made.rows.column(f"{table}_id").to_pylist())


@pytest.fixture
def captured(platform: Platform) -> Platform:
    """The platform after a first capture, in the window after it."""
    platform.run("ingestion")
    platform.next_window()
    return platform


def test_the_first_capture_takes_every_row_and_says_why(platform: Platform) -> None:
    platform.run("ingestion")
    made = platform.newest_capture
    assert made.full_because == "it is the first capture"
    assert rows(made) == {name: platform.totesys(f"SELECT count(*) FROM {name}")[0][0] for name in SOURCE}


def test_a_capture_where_nothing_changed_writes_a_manifest_and_no_file(captured: Platform) -> None:
    first = captured.newest_capture
    captured.run("ingestion")
    made = captured.newest_capture
    assert (made.files, made.full, made.previous) == ({}, False, first.id)
    assert Bucket(captured.ingestion_url).objects(folder("staff", captured.partition)) == []


def test_an_edit_that_leaves_last_updated_alone_is_captured(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x' WHERE design_id IN (2, 4)")
    captured.run("ingestion")
    assert rows(captured.newest_capture) == {"design": 2}


def test_a_row_stamped_by_a_wrong_clock_is_captured(captured: Platform) -> None:
    captured.totesys("UPDATE payment SET last_updated = '1970-01-01' WHERE payment_id = 1")
    captured.totesys("UPDATE payment SET last_updated = '2999-01-01' WHERE payment_id = 2")
    captured.run("ingestion")
    assert sorted(captured_keys(captured, "payment")) == [1, 2]


def test_a_transaction_open_during_captures_is_captured_once_it_commits(captured: Platform) -> None:
    with connect(captured.totesys_url) as late, connect(captured.totesys_url) as other:
        late.run("BEGIN")
        late.run("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
        late.run("SAVEPOINT inner_one")
        late.run("UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 2")
        for key in (8, 9):  # younger transactions commit, captures go on
            other.run("UPDATE sales_order SET units_sold = 3 WHERE sales_order_id = :key", key=key)
            captured.run("ingestion")
            assert 1 not in captured_keys(captured, "sales_order")
            captured.next_window()
        late.run("COMMIT")
    captured.run("ingestion")
    assert {1, 2} <= set(captured_keys(captured, "sales_order"))


def test_a_rolled_back_change_is_not_captured(captured: Platform) -> None:
    with connect(captured.totesys_url) as connection:
        connection.run("BEGIN")
        connection.run("UPDATE sales_order SET units_sold = 1")
        connection.run("ROLLBACK")
    captured.run("ingestion")
    assert captured.newest_capture.files == {}


def test_a_vacuumed_and_frozen_table_gives_nothing_anew(captured: Platform) -> None:
    captured.run("ingestion")
    captured.next_window()
    captured.totesys("VACUUM FREEZE sales_order")
    captured.run("ingestion")
    assert "sales_order" not in captured.newest_capture.files


def test_a_changed_department_is_captured_with_its_staff(captured: Platform) -> None:
    captured.totesys("UPDATE department SET department_name = 'Vending' WHERE department_id = 3")
    captured.run("ingestion")
    members = [key for [key] in captured.totesys("SELECT staff_id FROM staff WHERE department_id = 3")]
    assert sorted(captured_keys(captured, "staff")) == sorted(members)
    assert captured_keys(captured, "department") == [3]


def test_a_changed_member_of_staff_is_captured_with_their_department_alone(captured: Platform) -> None:
    captured.totesys("UPDATE staff SET first_name = 'Ada' WHERE staff_id = 7")
    captured.run("ingestion")
    [[department]] = captured.totesys("SELECT department_id FROM staff WHERE staff_id = 7")
    assert (captured_keys(captured, "staff"), captured_keys(captured, "department")) == ([7], [department])


def test_a_full_capture_takes_every_row(captured: Platform) -> None:
    captured.run("ingestion", full_capture=True)
    made = captured.newest_capture
    assert made.full_because == "asked for"
    assert rows(made)["sales_order"] == captured.totesys("SELECT count(*) FROM sales_order")[0][0]


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"system_identifier": 1}, "another cluster, timeline or database"),
        ({"timeline_id": 99}, "another cluster, timeline or database"),
        ({"database_oid": 1}, "another cluster, timeline or database"),
        ({"snapshot": f"{2**62}:{2**62}:"}, "gone back"),
    ],
)
def test_a_replaced_failed_over_or_restored_source_is_captured_whole(
    captured: Platform, change: dict[str, Any], because: str
) -> None:
    made = captured.newest_capture
    [path] = Path(captured.ingestion_url.removeprefix("file://")).glob("captures/*/*/*/*/*.json")
    facts = json.loads(path.read_text())
    if "snapshot" not in change:
        change = {"source": facts["source"] | change}
    path.write_text(json.dumps(facts | change))
    captured.run("ingestion")
    after = captured.newest_capture
    assert because in (after.full_because or "")
    assert rows(after) == rows(made)


def test_a_horizon_too_old_to_compare_takes_every_row(captured: Platform) -> None:
    from etl_assets.ingestion import _full_because

    made = captured.newest_capture
    now = made.horizon + 2**31
    assert "transactions old" in (_full_because(made, made.source, f"{now}:{now}:") or "")
    assert _full_because(made, made.source, f"{now - 1}:{now - 1}:") is None


def test_a_clock_that_was_set_back_does_not_reorder_captures(captured: Platform) -> None:
    [path] = Path(captured.ingestion_url.removeprefix("file://")).glob("captures/*/*/*/*/*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"captured_at": "2999-01-01T00:00:00.000000"}))
    captured.run("ingestion")
    assert str(captured.newest_capture.captured_at) == "2999-01-01 00:00:00.000001"


def test_an_older_partition_captures_nothing_and_says_so(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x'")
    before = captured.newest_capture
    captured.next_window()
    older = before.partition
    result = captured.run("ingestion", partition=older)
    assert captured.newest_capture == before
    [materialization, *_] = result.asset_materializations_for_node("ingestion")
    assert "nothing: totesys has no memory" in str(materialization.metadata["captured"].value)


def test_files_of_a_capture_without_a_manifest_are_ignored(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x' WHERE design_id = 1")
    captured.run("ingestion")
    [manifest] = Bucket(captured.ingestion_url).objects(folder("captures", captured.partition))
    Path(f"{captured.ingestion_url.removeprefix('file://')}/{manifest}").unlink()
    assert captured_keys(captured, "design") == []
    captured.run("ingestion")
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
        (
            "ALTER TABLE staff ALTER first_name DROP NOT NULL",
            "column staff.first_name may be null, declared never null",
        ),
        (
            """ALTER TYPE "TransactionType" ADD VALUE 'REFUND'""",
            "column transaction.transaction_type may be REFUND, which is not declared",
        ),
        (
            "ALTER TABLE transaction ALTER transaction_type TYPE text",
            "column transaction.transaction_type is text, declared one of SALE, PURCHASE",
        ),
    ],
)
def test_a_changed_source_fails_at_once_by_name_and_writes_nothing(platform: Platform, ddl: str, message: str) -> None:
    platform.totesys(ddl)
    result = platform.run("ingestion", raise_on_error=False)
    assert not result.success
    assert message in failure(result)
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert Bucket(platform.ingestion_url).folders("payment") == []
    assert Bucket(platform.ingestion_url).folders("captures") == []


def test_a_new_column_is_a_warning_and_the_rest_is_captured(platform: Platform) -> None:
    platform.totesys("ALTER TABLE currency ADD symbol text")
    result = platform.run("ingestion")
    [failed] = [evaluation for evaluation in result.get_asset_check_evaluations() if not evaluation.passed]
    assert failed.asset_key.path == ["ingestion", "currency"]
    assert failed.severity.value == "WARN"
    assert failed.metadata["deviations"].value == "column symbol is not declared"


def test_a_read_only_role_is_enough(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.totesys(
        """DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
           GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"""
    )
    monkeypatch.setenv("TOTESYS_DATABASE_URL", platform.totesys_url.replace("postgres@", "reader@"))
    platform.run("ingestion")
    assert len(rows(platform.newest_capture)) == 11


def test_a_table_that_may_not_be_read_is_named(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.totesys(
        """DO $$ BEGIN CREATE ROLE nosy LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
           GRANT SELECT ON staff TO nosy"""
    )
    monkeypatch.setenv("TOTESYS_DATABASE_URL", platform.totesys_url.replace("postgres@", "nosy@"))
    assert "table payment may not be read: its owner must GRANT SELECT on it" in failure(
        platform.run("ingestion", raise_on_error=False)
    )


def test_the_ingestion_op_cannot_be_subset(platform: Platform) -> None:
    with pytest.raises(Exception, match=r"can_subset|subset"):
        platform.run("ingestion/staff")


def test_all_tables_are_read_in_one_snapshot(totesys_url: str, bucket_url: str) -> None:
    """A change made while the capture is under way, after its snapshot, is left to the next."""
    bucket = Bucket(bucket_url)

    class Meanwhile(Bucket):
        def create(self, key: str) -> Any:
            if key.startswith("address/"):
                with connect(totesys_url) as other:
                    other.run("INSERT INTO currency (currency_code, last_updated) VALUES ('SEK', now())")
            return super().create(key)

    with connect(totesys_url) as connection:
        during = capture(
            connection, Meanwhile(bucket_url), TOTESYS_TABLES, joins(STAR_TABLES, TOTESYS_TABLES), "2024-08-14-14:15"
        )
    with connect(totesys_url) as connection:
        after = capture(connection, bucket, TOTESYS_TABLES, joins(STAR_TABLES, TOTESYS_TABLES), "2024-08-14-14:30")
    assert rows(during.captures[0])["currency"] == 3
    assert rows(after.captures[0]) == {"currency": 1}


def test_a_twelfth_table_is_one_declaration(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.totesys("CREATE TABLE colour (colour_id integer PRIMARY KEY, colour_name text NOT NULL)")
    platform.totesys("INSERT INTO colour VALUES (1, 'navy')")
    colour = Table(
        name="colour",
        description="Colours.",
        primary_key=("colour_id",),
        columns=columns(colour_id=pa.int32(), colour_name=pa.string()),
    )
    wider = Platform(
        platform.totesys_url,
        platform.warehouse_url,
        platform.buckets_url,
        monkeypatch,
        source_tables=(*TOTESYS_TABLES, colour),
    )
    wider.run()
    made = read_captured(Bucket(wider.ingestion_url), colour, wider.partition)
    assert made.rows.column("colour_name").to_pylist() == ["navy"]


def test_a_full_capture_is_an_ordinary_one_and_one_of_every_row_from_the_same_snapshot(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x' WHERE design_id = 2")
    captured.run("ingestion", full_capture=True)
    ordinary, full = in_partition(Bucket(captured.ingestion_url), captured.partition)
    assert (rows(ordinary), ordinary.full, full.full) == ({"design": 1}, False, True)
    assert (full.previous, full.snapshot) == (ordinary.id, ordinary.snapshot)
    assert full.captured_at > ordinary.captured_at


def test_a_full_capture_into_a_window_that_is_over_is_refused(captured: Platform) -> None:
    older = captured.partition
    captured.next_window()
    result = captured.run("ingestion", partition=older, full_capture=True, raise_on_error=False)
    assert f"can only be made now, not into partition {older}" in failure(result)


def test_nothing_is_captured_into_a_window_before_that_of_the_newest_capture(captured: Platform) -> None:
    captured.totesys("UPDATE design SET file_name = 'x' WHERE design_id = 2")
    with (
        connect(captured.totesys_url) as connection,
        pytest.raises(LaterWindowCapturedError, match=f"one is there of {captured.newest_capture.partition}"),
    ):
        capture(connection, Bucket(captured.ingestion_url), TOTESYS_TABLES, (), "2024-08-14-14:15")


def test_a_policy_that_hides_rows_fails_the_capture_instead_of_losing_them(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.totesys(
        """DO $$ BEGIN CREATE ROLE watched LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
           GRANT SELECT ON ALL TABLES IN SCHEMA public TO watched;
           ALTER TABLE staff ENABLE ROW LEVEL SECURITY"""
    )
    monkeypatch.setenv("TOTESYS_DATABASE_URL", platform.totesys_url.replace("postgres@", "watched@"))
    message = failure(platform.run("ingestion", raise_on_error=False))
    assert 'query would be affected by row-level security policy for table "staff"' in message


def test_a_column_that_is_never_null_though_it_may_be_is_a_warning(platform: Platform) -> None:
    platform.totesys("UPDATE department SET location = ''")
    platform.totesys("ALTER TABLE department ALTER location SET NOT NULL")
    failed = failed_checks(platform.run("ingestion"), "ingestion", "as_declared")
    assert failed == {"department": {"deviations": "column location is never null, declared optional"}}


def test_a_capture_waits_for_another_and_follows_it(captured: Platform) -> None:
    with connect(captured.totesys_url) as holder:
        holder.run("BEGIN")
        holder.run("LOCK TABLE payment IN ACCESS EXCLUSIVE MODE")
        runs = [threading.Thread(target=captured.run, args=("ingestion",)) for _ in range(2)]
        for run in runs:
            run.start()
        until(lambda: holder.run(WAITS), seconds=30)
        holder.run("COMMIT")
        for run in runs:
            run.join(timeout=30)
    first, second = in_partition(Bucket(captured.ingestion_url), captured.partition)
    assert second.previous == first.id
