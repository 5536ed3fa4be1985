"""Each full capture is an audit: every table is compared with its source table, by PostgreSQL on both sides."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.adapters.postgres import connect, transaction
from etl_assets.ingestion.checksums import rows_and_checksum
from etl_assets.ingestion.manifest import SourceChecksum
from etl_assets.schema.columns import MONEY, columns, personal
from etl_assets.schema.table import Table
from etl_assets.simulator.activity import Totesys, create_schema
from etl_assets.simulator.postgres import Server
from etl_assets.transformation.star_table import shared_columns, star_table
from etl_assets.warehouse.reconciliation import Reconciliation, latest_reconciliations
from etl_assets_tests.harness import Platform, failed_checks, failed_counts, new_database, unique_numbers
from etl_assets_tests.pipeline import CATALOG, SOURCE, STAR

RECONCILED = {shared.star: shared.table for shared in shared_columns(CATALOG)}
ORDERS = STAR["fact_sales_order"]


def latest(platform: Platform) -> dict[str, Reconciliation]:
    with connect(platform.warehouse_url) as connection:
        return latest_reconciliations(connection)


def full_refresh(platform: Platform) -> dict[str, int]:
    """Load a full capture, and return by table how many rows differ, if any."""
    different = failed_counts(platform.refresh(full_capture=True), "matches_source")
    platform.next_window()
    return different


def different(platform: Platform) -> dict[str, int | None]:
    return {name: each.differing for name, each in latest(platform).items() if not each.is_equal}


def keys(found: Reconciliation) -> list[int]:
    return [value for key in found.first_keys for value in key.values()]


def test_after_a_full_capture_every_table_is_equal_to_its_source_table(loaded: Platform) -> None:
    loaded.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    loaded.totesys("DELETE FROM payment WHERE payment_id IN (1, 2)")
    assert full_refresh(loaded) == {}
    found = latest(loaded)
    assert {name: each.source_table for name, each in found.items()} == RECONCILED
    for each in found.values():
        rows = loaded.totesys(f"SELECT count(*) FROM {each.source_table}")
        assert rows == [[each.source_rows]] == [[each.warehouse_rows]]
        assert each.source_checksum == each.warehouse_checksum is not None
        assert (each.is_equal, each.differing, each.repaired, each.set_apart) == (True, 0, 0, 0)


def test_the_first_capture_is_compared_as_well_and_captures_of_changes_are_not(loaded: Platform) -> None:
    loaded.totesys("UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 1")
    loaded.refresh()
    assert loaded.warehouse("SELECT DISTINCT captured_at FROM warehouse.reconciliations") == loaded.warehouse(
        "SELECT captured_at FROM warehouse.loads WHERE full_capture"
    )


def units_of_three_orders_are_wrong(sales_order: pd.DataFrame) -> pd.DataFrame:
    rows = ORDERS.transform(sales_order)
    wrong = rows["sales_order_id"].isin([7, 8, 30])
    return rows.assign(units_sold=rows["units_sold"].mask(wrong, rows["units_sold"] + 1))


def test_what_a_transformation_falsifies_fails_the_check_with_the_keys(platform: Platform) -> None:
    wrong = platform.declaring(replace(ORDERS, transform=units_of_three_orders_are_wrong))
    failed = failed_checks(wrong.run(), "warehouse", "matches_source")
    assert failed.keys() == {"fact_sales_order"}
    metadata = failed["fact_sales_order"]
    rows = platform.row_counts()["fact_sales_order"]
    captured_at = f"{platform.latest_capture.captured_at} UTC"
    assert metadata == {"differing": 3, "full_captures": 1, "not_compared": 0, "captured_at": captured_at} | {
        "source_rows": rows,
        "warehouse_rows": rows,
        "first_keys": "7; 8; 30",
    }
    assert different(wrong) == {"fact_sales_order": 3}


def every_order_is_of_one_bag(sales_order: pd.DataFrame) -> pd.DataFrame:
    return ORDERS.transform(sales_order).assign(units_sold=1)


def test_at_most_twenty_keys_are_given(platform: Platform) -> None:
    platform.totesys("UPDATE sales_order SET units_sold = 2")
    wrong = platform.declaring(replace(ORDERS, transform=every_order_is_of_one_bag))
    full_refresh(wrong)
    found = latest(wrong)["fact_sales_order"]
    assert found.differing == found.source_rows > 20
    assert keys(found) == list(range(1, 21))


def test_a_column_that_is_computed_on_purpose_is_not_compared(platform: Platform) -> None:
    computed = replace(ORDERS, transform=every_order_is_of_one_bag, computed=("units_sold",))
    assert full_refresh(platform.declaring(computed)) == {}
    assert latest(platform)["fact_sales_order"].is_equal


def test_a_version_changed_by_hand_is_repaired_and_then_equal(loaded: Platform) -> None:
    loaded.warehouse("UPDATE warehouse.fact_sales_order SET units_sold = 0 WHERE sales_order_id IN (1, 2, 3)")
    loaded.warehouse("UPDATE warehouse.fact_sales_order SET created_date = '2024-01-01' WHERE sales_order_id = 4")
    assert full_refresh(loaded) == {}
    found = latest(loaded)["fact_sales_order"]
    assert (found.repaired, found.is_equal) == (4, True)


def test_a_row_that_only_the_warehouse_has_as_of_the_capture_differs(loaded: Platform) -> None:
    loaded.warehouse(
        """CREATE FUNCTION warehouse.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF new.deleted THEN RETURN NULL; END IF; RETURN new; END $$"""
    )
    loaded.warehouse(
        "CREATE TRIGGER keep BEFORE INSERT ON warehouse.fact_payment FOR EACH ROW EXECUTE FUNCTION warehouse.keep()"
    )
    loaded.totesys("DELETE FROM payment WHERE payment_id IN (5, 6)")
    assert full_refresh(loaded) == {"fact_payment": 2}
    found = latest(loaded)["fact_payment"]
    assert (found.warehouse_rows - found.source_rows, keys(found)) == (2, [5, 6])


def test_rows_set_apart_explain_a_difference(loaded: Platform) -> None:
    loaded.totesys("UPDATE payment SET payment_date = 'tomorrow' WHERE payment_id IN (1, 2)")
    loaded.totesys("UPDATE sales_order SET created_at = 'infinity' WHERE sales_order_id = 9")
    loaded.totesys("INSERT INTO currency (currency_id, currency_code, last_updated) VALUES (9, 'XQX', now())")
    loaded.totesys("UPDATE sales_order SET currency_id = 9 WHERE sales_order_id IN (3, 4)")
    loaded.totesys("UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id = 9")
    loaded.totesys("UPDATE payment SET paid = NOT paid WHERE payment_id = 1")
    assert full_refresh(loaded) == {}
    found = latest(loaded)
    assert {name: each.set_apart for name, each in found.items() if each.set_apart} == {
        "fact_payment": 2,
        "fact_sales_order": 3,
        "dim_currency": 1,
    }
    assert all(each.is_equal for each in found.values())
    assert found["fact_sales_order"].source_checksum != found["fact_sales_order"].warehouse_checksum


def test_rows_set_apart_do_not_hide_a_difference(platform: Platform) -> None:
    platform.totesys("UPDATE sales_order SET agreed_payment_date = 'tomorrow' WHERE sales_order_id IN (1, 7)")
    wrong = platform.declaring(replace(ORDERS, transform=units_of_three_orders_are_wrong))
    assert full_refresh(wrong) == {"fact_sales_order": 2}
    assert keys(latest(wrong)["fact_sales_order"]) == [8, 30]


def test_a_full_capture_is_compared_with_the_state_as_of_it_whatever_is_loaded_with_it(loaded: Platform) -> None:
    loaded.refresh("ingestion", full_capture=True)
    full = loaded.latest_capture
    loaded.totesys("UPDATE sales_order SET units_sold = units_sold + 1 WHERE sales_order_id IN (1, 2)")
    loaded.totesys("UPDATE staff SET first_name = 'Changed' WHERE staff_id = 1")
    loaded.refresh("ingestion")
    loaded.totesys("DELETE FROM payment WHERE payment_id = 1")
    loaded.refresh("ingestion", full_capture=True)
    assert failed_counts(loaded.refresh("transformation", "warehouse"), "matches_source") == {}
    times = loaded.warehouse("SELECT captured_at, bool_and(differing = 0) FROM warehouse.reconciliations GROUP BY 1")
    assert len(times) == 3
    assert [full.captured_at, True] in times
    assert [loaded.latest_capture.captured_at, True] in times


def test_replays_change_no_reconciliation_and_report_a_difference_again(platform: Platform) -> None:
    wrong = platform.declaring(replace(ORDERS, transform=units_of_three_orders_are_wrong))
    wrong.refresh()
    first = wrong.partition
    recorded = "SELECT * FROM warehouse.reconciliations ORDER BY star_table, captured_at"
    before = wrong.warehouse(recorded)
    wrong.next_window()
    wrong.refresh()
    for _ in range(2):
        replayed = wrong.refresh("transformation", "warehouse", partition=first)
        assert failed_counts(replayed, "matches_source") == {"fact_sales_order": 3}
    assert wrong.warehouse(recorded) == before


def test_a_rebuild_compares_the_latest_full_capture_again(platform: Platform) -> None:
    wrong = platform.declaring(replace(ORDERS, transform=units_of_three_orders_are_wrong))
    assert [full_refresh(wrong) for _ in range(2)] == [{"fact_sales_order": 3}] * 2
    corrected = wrong.declaring(ORDERS)
    corrected.rebuild()
    assert different(corrected) == {}
    assert corrected.warehouse(
        "SELECT differing FROM warehouse.reconciliations WHERE star_table = 'fact_sales_order' ORDER BY captured_at"
    ) == [[3], [0]]


def test_a_rebuild_compares_full_captures_that_were_not_loaded(platform: Platform) -> None:
    for _ in range(2):
        platform.refresh("ingestion", full_capture=True)
        platform.next_window()
    platform.rebuild()
    times = platform.warehouse("SELECT captured_at, bool_and(differing = 0) FROM warehouse.reconciliations GROUP BY 1")
    assert [equal for _, equal in times] == [True, True]


def manifest_of_latest(platform: Platform) -> Path:
    return max(Path(platform.ingestion_url.removeprefix("file://")).glob("captures/*/*/*/*/*.json"))


def change_manifest(platform: Platform, **fields: Any) -> None:
    path = manifest_of_latest(platform)
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | fields))


def test_without_the_checksums_of_the_source_the_rows_are_counted_and_nothing_is_claimed(platform: Platform) -> None:
    platform.refresh("ingestion")
    change_manifest(platform, checksums={})  # as an older release writes it
    assert failed_counts(platform.refresh("transformation", "warehouse"), "matches_source") == {}
    for each in latest(platform).values():
        assert each.source_rows == each.warehouse_rows > 0
        assert (each.is_equal, each.differing, each.source_checksum, each.warehouse_checksum) == (None,) * 4


def test_checksums_over_columns_that_are_no_longer_shared_are_not_compared(platform: Platform) -> None:
    platform.refresh("ingestion")
    declared = replace(ORDERS, computed=("unit_price",))
    changed = platform.declaring(declared)
    changed.refresh("transformation", "warehouse")
    assert {name for name, each in latest(changed).items() if each.is_equal is None} == {"fact_sales_order"}


def test_checksums_over_fewer_columns_than_are_shared_now_are_compared(platform: Platform) -> None:
    fewer = platform.declaring(replace(ORDERS, computed=("unit_price",)))
    fewer.refresh("ingestion")
    assert "unit_price" not in fewer.latest_capture.checksums["fact_sales_order"].columns
    platform.refresh("transformation", "warehouse")
    assert all(each.is_equal for each in latest(platform).values())


def test_a_file_that_is_not_what_the_source_had_is_found(platform: Platform) -> None:
    platform.refresh("ingestion")
    file = platform.latest_capture.files["design"]
    path = Path(platform.ingestion_url.removeprefix("file://")) / file.key
    path.write_bytes(path.read_bytes().replace(b"/", b"_"))  # as if COPY had written it
    files = {name: vars(each) for name, each in platform.latest_capture.files.items()}
    files["design"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    change_manifest(platform, files=files)
    assert failed_counts(platform.refresh("transformation", "warehouse"), "matches_source") == {"dim_design": 1}
    assert latest(platform)["dim_design"].first_keys == []


PERSON = Table(
    name="person",
    description="People.",
    primary_key=("email", "number"),
    columns=columns(email=personal(pa.string()), number=pa.int32(), nickname=pa.string()),
    excluded=("secret",),
)


@star_table(
    primary_key=("address", "number"),
    columns=columns(address=pa.string(), number=pa.int32(), nickname=pa.string()),
    derived_from={"address": "person.email"},
)
def dim_person(person: pd.DataFrame) -> pd.DataFrame:
    """People, one of whom is called differently."""
    return person.assign(nickname=person["nickname"].str.replace("Zaphod", "Ford")).rename(columns={"email": "address"})


@pytest.fixture
def people(platform: Platform) -> Platform:
    platform.totesys(
        "CREATE TABLE person (email text, number int, nickname text NOT NULL, secret text, PRIMARY KEY (email, number))"
    )
    platform.totesys("INSERT INTO person VALUES ('a@x', 1, 'Arthur', 's'), ('z@x', 1, 'Zaphod', 't')")
    return platform.declaring(PERSON, dim_person)


def test_personal_parts_of_keys_are_masked_and_excluded_columns_are_not_read(people: Platform) -> None:
    assert full_refresh(people) == {"dim_person": 1}
    found = latest(people)["dim_person"]
    assert found.first_keys == [{"address": "•••", "number": 1}]
    assert (*people.latest_capture.checksums["dim_person"].columns,) == ("address", "number", "nickname")
    people.totesys("UPDATE person SET nickname = 'Trillian' WHERE number = 1")
    assert full_refresh(people) == {}


def totesys_in(encoding: str, server: Server) -> str:
    name = f"in_{encoding.lower()}_{next(unique_numbers)}"
    with connect(server.url()) as connection:
        connection.run(f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    with connect(server.url(name)) as connection:
        create_schema(connection)
        Totesys(connection, seed=1).generate_history(date(2024, 8, 21), date(2024, 8, 22))
    return server.url(name)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_text_of_another_encoding_and_dates_of_another_style_are_equal(
    encoding: str, server: Server, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(totesys_in(encoding, server), warehouse_url, bucket_url, monkeypatch)
    platform.totesys("UPDATE design SET file_name = 'Größe ÿ', design_name = '' WHERE design_id = 1")
    platform.totesys(f"ALTER DATABASE {platform.totesys('SELECT current_database()')[0][0]} SET DateStyle = 'German'")
    platform.totesys("UPDATE purchase_order SET item_code = 'ß, ''\"\\' WHERE purchase_order_id = 1")
    assert full_refresh(platform) == {}
    found = latest(platform)
    assert all(each.is_equal and each.source_checksum == each.warehouse_checksum for each in found.values())


def test_bytes_that_are_no_text_fail_no_capture_and_are_set_apart(
    server: Server, warehouse_url: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(totesys_in("SQL_ASCII", server), warehouse_url, bucket_url, monkeypatch)
    platform.totesys(
        "UPDATE design SET file_name = convert_from(:bytes, 'SQL_ASCII') WHERE design_id = 1", bytes=b"\xffA"
    )
    assert full_refresh(platform) == {}
    found = latest(platform)["dim_design"]
    assert (found.set_apart, found.is_equal, found.source_rows - found.warehouse_rows) == (1, True, 1)


@pytest.fixture
def databases(server: Server) -> list[str]:
    """Databases in which the same values are to have the same checksum."""
    latin1 = f"hash_latin1_{next(unique_numbers)}"
    with connect(server.url()) as connection:
        connection.run(f"CREATE DATABASE {latin1} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        connection.run(f"ALTER DATABASE {latin1} SET DateStyle = 'SQL, DMY'")
        connection.run(f"ALTER DATABASE {latin1} SET TimeZone = 'Asia/Tokyo'")
    return [new_database(server), server.url(latin1)]


def checksum(url: str, rows: str, **types: pa.DataType) -> str | None:
    with connect(url) as connection, transaction(connection):
        return rows_and_checksum(connection, f"SELECT * FROM (VALUES {rows}) AS t ({', '.join(types)})", types)[1]


def test_the_checksum_of_the_same_rows_is_the_same_in_any_order_scale_encoding_and_style(databases: list[str]) -> None:
    types: Mapping[str, pa.DataType] = {
        "i": pa.int32(), "t": pa.string(), "m": MONEY, "b": pa.bool_(), "d": pa.date32(), "s": pa.timestamp("us"),
        "f": pa.float64(),
    }  # fmt: skip
    first = "(1, 'é', 1.50, true, date '2024-08-22', timestamp '2024-08-22 09:13:10.366', 0.1::float8)"
    second = "(2, 'x', 'NaN', false, date 'infinity', timestamp '-infinity', 'NaN'::float8)"
    rows = [f"{first}, {second}", f"{second}, {first}", f"{first.replace('1.50', '1.5000')}, {second}"]
    found = {checksum(url, text, **types) for url in databases for text in rows}
    assert len(found) == 1
    assert found != {None}


@pytest.mark.parametrize(
    ("these", "those"),
    [
        ("('', 'x')", "(NULL, 'x')"),
        ("('NULL', 'x')", "(NULL, 'x')"),
        ("('a,b', 'c')", "('a', 'b,c')"),
        ("('a'',''b', 'c')", "('a', 'b'',''c')"),
        (r"('a\', 'b')", r"('a', '\b')"),
        ("('a', 'b'), ('c', 'd')", "('a', 'd'), ('c', 'b')"),
        ("('a', 'b')", "('a', 'b'), ('a', 'b')"),
        ("('a', 'b'), ('a', 'b'), ('a', 'b')", "('a', 'b')"),
        ("('é', 'x')", "('e', 'x')"),
    ],
)
def test_the_checksum_of_other_rows_is_another(databases: list[str], these: str, those: str) -> None:
    for url in databases:
        types = {"a": pa.string(), "b": pa.string()}
        assert checksum(url, these, **types) != checksum(url, those, **types)


def test_columns_are_shared_that_are_copied_from_the_first_input_whose_key_is_the_tables() -> None:
    shared = {each.star: each for each in shared_columns(CATALOG)}
    assert shared.keys() == {name for name in STAR if name != "dim_date"}
    assert shared["fact_sales_order"].columns["sales_staff_id"] == "staff_id"
    assert shared["dim_location"].columns["location_id"] == "address_id"
    assert (*shared["dim_staff"].columns,) == ("staff_id", "first_name", "last_name", "email_address")
    assert (*shared["dim_currency"].columns,) == ("currency_id", "currency_code")
    assert not {"created_date", "agreed_payment_date"} & shared["fact_sales_order"].columns.keys()
    assert all(each.table in SOURCE for each in shared.values())


def test_only_declared_columns_can_be_computed() -> None:
    with pytest.raises(ValueError, match=r"computed columns that are not declared: \['x'\]"):
        replace(ORDERS, computed=("x",))


def test_manifests_keep_checksums(platform: Platform) -> None:
    platform.refresh("ingestion")
    checksums = platform.latest_capture.checksums
    assert {name: each.rows for name, each in checksums.items()} == {
        star: platform.totesys(f"SELECT count(*) FROM {table}")[0][0] for star, table in RECONCILED.items()
    }
    assert isinstance(checksums["dim_design"], SourceChecksum)
    assert checksums["dim_design"].columns["design_id"] == "int32"
    platform.totesys("UPDATE design SET file_name = 'x' WHERE design_id = 1")
    platform.refresh("ingestion")
    assert platform.latest_capture.checksums == {}
