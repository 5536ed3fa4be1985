"""Declarations and rules that change on a warehouse with history, and what a rebuild makes of it.

The yardstick: it equals a warehouse into which all captures are loaded one by one, by the declarations of now.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.schema.columns import columns, missing_as, optional, renamed_from
from etl_assets.schema.table import Table, UnknownTableError
from etl_assets.simulator.postgres import Server
from etl_assets.transformation.star_table import ColumnOf, StarTable, star_table
from etl_assets.warehouse.loader import OutdatedFileError
from etl_assets.warehouse.plan import EvolutionBlockedError
from etl_assets.warehouse.rebuild import HistoryIncompleteError, RowsLostError
from etl_assets_tests.changed_rules import IN_CAPITALS, PLACES, WITH_TOTAL
from etl_assets_tests.harness import Platform, failed_counts, make_history, new_database, unique_numbers
from etl_assets_tests.pipeline import SOURCE, STAR

ORDERS = STAR["fact_sales_order"]
PAYMENTS = STAR["fact_payment"]
DESIGNS = STAR["dim_design"]


@pytest.fixture(scope="module")
def aged(server: Server, busy_totesys: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """The names of databases, and a folder of buckets, with a history. Copies of them are used."""
    buckets = tmp_path_factory.mktemp("buckets")
    names = f"aged_totesys_{next(unique_numbers)}", f"aged_warehouse_{next(unique_numbers)}"
    totesys, warehouse = server.create_database(names[0], busy_totesys), server.create_database(names[1])
    with pytest.MonkeyPatch.context() as environment:
        make_history(Platform(totesys, warehouse, f"file://{buckets}", environment))
    return *names, buckets


@pytest.fixture
def platform(aged: tuple[str, str, Path], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """The platform after a history, in a later window."""
    totesys, warehouse, buckets = aged
    shutil.copytree(buckets, tmp_path / "buckets")
    platform = Platform(
        new_database(server, totesys), new_database(server, warehouse), f"file://{tmp_path}/buckets", monkeypatch
    )
    for _ in range(10):
        platform.next_window()
    return platform


def with_columns(table: Any, **types: Any) -> Any:
    """Return a table with other declarations of some columns, or more columns."""
    declared = {column.name: column for column in table.columns} | {column.name: column for column in columns(**types)}
    return replace(table, columns=pa.schema(declared.values()))


def without_column(table: Any, name: str, **changes: Any) -> Any:
    return replace(table, columns=table.columns.remove(table.columns.get_field_index(name)), **changes)


def renaming(table: StarTable, transform: Callable[..., pd.DataFrame], old: str, column: pa.Field) -> StarTable:
    """Return a star table with a column under another name."""
    renamed = [column if each.name == old else each for each in table.columns]
    [source] = [name for name in table.inputs(()) if name in SOURCE]
    return replace(
        table,
        columns=pa.schema(renamed),
        transform=transform,
        derived_from={**table.derived_from, column.name: (ColumnOf(source, old),)},
    )


def with_units(sales_order: pd.DataFrame) -> pd.DataFrame:
    return ORDERS.transform(sales_order).rename(columns={"units_sold": "units"})


@star_table(
    record_id="transaction_record_id",
    primary_key=("transaction_id",),
    columns=columns(transaction_id=pa.int32(), transaction_type=pa.string()),
)
def fact_transaction(transaction: pd.DataFrame) -> pd.DataFrame:
    """Transactions: every version that a capture saw."""
    return transaction


SHOP = Table(
    name="shop", description="Shops.", primary_key=("shop_id",), columns=columns(shop_id=pa.int32(), name=pa.string())
)


@star_table(primary_key=("shop_id",), columns=columns(shop_id=pa.int32(), name=pa.string()))
def dim_shop(shop: pd.DataFrame) -> pd.DataFrame:
    """Shops."""
    return shop


@dataclass(frozen=True)
class Change:
    """What changes at the source before a capture, and what is declared then."""

    declared: tuple[Table, ...]
    ddl: tuple[str, ...] = ()
    captured_before: bool = True


DESIGN = SOURCE["design"]
CHANGES = {
    "a source column that may be null": Change(
        (with_columns(DESIGN, stars=optional(pa.int32())), with_columns(DESIGNS, stars=optional(pa.int32()))),
        ("ALTER TABLE design ADD stars integer", "UPDATE design SET stars = 3 WHERE design_id = 2"),
    ),
    "a source column with a default, declared later": Change(
        (with_columns(DESIGN, stars=missing_as("0", pa.int32())), with_columns(DESIGNS, stars=pa.int32())),
        ("ALTER TABLE design ADD stars integer NOT NULL DEFAULT 5",),
    ),
    "a source column that is renamed": Change(
        (with_columns(without_column(DESIGN, "file_name"), file=renamed_from("file_name", pa.string())),
         with_columns(without_column(DESIGNS, "file_name"), file=renamed_from("file_name", pa.string())),),
        ("ALTER TABLE design RENAME file_name TO file",),
        captured_before=False,
    ),
    "a source column that is widened": Change(
        (with_columns(SOURCE["sales_order"], units_sold=pa.int64()), with_columns(ORDERS, units_sold=pa.int64())),
        ("ALTER TABLE sales_order ALTER units_sold TYPE bigint",
         "UPDATE sales_order SET units_sold = 3000000000 WHERE sales_order_id = 5"),
        captured_before=False,
    ),
    "a source column that is dropped": Change(
        (without_column(DESIGN, "file_name"), without_column(DESIGNS, "file_name", dropped=("file_name",))),
        ("ALTER TABLE design DROP file_name",),
        captured_before=False,
    ),
    "a column from one long captured": Change((with_columns(PAYMENTS, company_ac_number=pa.int32()),)),
    "a derived column": Change((WITH_TOTAL,)),
    "a column that is renamed": Change(
        (renaming(ORDERS, with_units, "units_sold", renamed_from("units_sold", pa.int32()).with_name("units")),)
    ),
    "a column that is widened": Change((with_columns(ORDERS, units_sold=pa.int64()),)),
    "a column that is retyped": Change((with_columns(PAYMENTS, payment_amount=pa.string()),)),
    "a column that is no longer declared": Change((without_column(ORDERS, "units_sold"),)),
    "a column that is dropped": Change((without_column(ORDERS, "units_sold", dropped=("units_sold",)),)),
    "a rule": Change((IN_CAPITALS,)),
    "a key": Change((replace(PAYMENTS, primary_key=("transaction_id",)),)),
    "a dimension with a foreign key from an existing fact, and orphans": Change(
        (PLACES, replace(ORDERS, foreign_keys={**ORDERS.foreign_keys, "agreed_delivery_location_id": "dim_place"})),
    ),
    "a fact": Change((fact_transaction,)),
    "a source table with rows": Change(
        (SHOP, dim_shop),
        ("CREATE TABLE shop (shop_id integer PRIMARY KEY, name text NOT NULL)",
         "INSERT INTO shop SELECT n, 'shop ' || n FROM generate_series(1, 500) n"),
    ),
}  # fmt: skip


def record_ids(platform: Platform) -> dict[tuple[Any, ...], int]:
    """Return the record ids of sales orders by version."""
    rows = platform.warehouse("SELECT sales_order_id, captured_at, sales_record_id FROM warehouse.fact_sales_order")
    return {tuple(version): record_id for *version, record_id in rows}


@pytest.mark.parametrize("name", CHANGES)
def test_after_a_change_and_a_rebuild_the_warehouse_equals_one_built_from_scratch(
    platform: Platform, server: Server, tmp_path: Path, name: str
) -> None:
    change = CHANGES[name]
    for statement in change.ddl:
        platform.totesys(statement)
    if change.ddl and change.captured_before:
        platform.refresh()
        platform.next_window()
    before = record_ids(platform)
    deployed = platform.declaring(*change.declared)
    deployed.refresh()
    rebuilt = deployed.rebuild()
    assert {star.name for star in change.declared if isinstance(star, StarTable)} <= {*rebuilt.tables}
    assert deployed.contents() == deployed.from_scratch(server, tmp_path).contents()
    after = record_ids(deployed)
    assert {version: after[version] for version in before if version in after}.items() <= before.items()
    deployed.next_window()
    deployed.totesys("UPDATE sales_order SET unit_price = 9.99 WHERE sales_order_id = 6")
    assert deployed.rebuild().tables == []
    assert failed_counts(deployed.refresh(full_capture=True), "no_missed_changes") == {}


def rows_of_analysts(platform: Platform) -> list[list[Any]]:
    return platform.warehouse("SELECT * FROM public.by_units ORDER BY 1")


def test_a_dimension_may_get_another_key(platform: Platform, server: Server, tmp_path: Path) -> None:
    declared = platform.declaring(PLACES)
    declared.rebuild()
    changed = declared.declaring(replace(PLACES, primary_key=("country", "place_id")))
    assert changed.rebuild().tables == ["dim_place"]
    assert changed.contents() == changed.from_scratch(server, tmp_path).contents()
    changed.totesys("UPDATE address SET country = 'Elsewhere' WHERE address_id = 2")
    changed.refresh()
    assert changed.contents() == changed.from_scratch(server, tmp_path / "again").contents()


def test_what_others_put_into_the_warehouse_survives_a_rebuild(platform: Platform) -> None:
    name = platform.warehouse_url.partition("?")[0].rpartition("/")[2]
    for statement in (
        """CREATE VIEW public.by_units AS SELECT units_sold, count(*) FROM warehouse.fact_sales_order_current
           GROUP BY units_sold""",
        f"CREATE ROLE reader_{name}",
        f"GRANT SELECT ON warehouse.fact_sales_order_current TO reader_{name}",
        "CREATE INDEX by_price ON warehouse.fact_sales_order (unit_price)",
        "ALTER TABLE warehouse.fact_sales_order ADD remark text",
        "UPDATE warehouse.fact_sales_order SET remark = 'seen' WHERE sales_order_id = 7",
        "CREATE TABLE warehouse.notes (note text)",
        "INSERT INTO warehouse.notes VALUES ('kept')",
    ):
        platform.warehouse(statement)
    before = rows_of_analysts(platform)
    platform.declaring(WITH_TOTAL).rebuild()
    assert rows_of_analysts(platform) == before
    assert platform.warehouse("SELECT remark FROM warehouse.fact_sales_order WHERE sales_order_id = 7") == [["seen"]]
    assert platform.warehouse("SELECT * FROM warehouse.notes") == [["kept"]]
    assert platform.warehouse("SELECT to_regclass('warehouse.by_price') IS NOT NULL") == [[True]]
    current = "warehouse.fact_sales_order_current"
    assert platform.warehouse(f"SELECT has_table_privilege('reader_{name}', '{current}', 'SELECT')") == [[True]]
    platform.warehouse(f"DROP OWNED BY reader_{name}")
    platform.warehouse(f"DROP ROLE reader_{name}")


def test_a_fact_that_gets_a_dimension_is_joined_to_it_as_it_was_and_grants_of_others_are_kept(
    platform: Platform,
) -> None:
    role = f"reader_{platform.warehouse_url.partition('?')[0].rpartition('/')[2]}"
    platform.warehouse(f"CREATE ROLE {role}")
    platform.warehouse(f"GRANT SELECT ON warehouse.fact_sales_order_as_was TO {role}")
    [[address]] = platform.totesys("SELECT min(address_id) FROM address WHERE address_id % 3 <> 1")  # not left out
    to_places = {**ORDERS.foreign_keys, "agreed_delivery_location_id": "dim_place"}
    deployed = platform.declaring(with_columns(replace(ORDERS, foreign_keys=to_places), units_sold=pa.int64()), PLACES)
    deployed.rebuild()
    deployed.totesys("UPDATE address SET country = 'Elsewhere' WHERE address_id = :address", address=address)
    deployed.refresh()
    for schema in ("warehouse", "as_of"):
        [[orders]] = deployed.warehouse(f"SELECT count(*) FROM {schema}.fact_sales_order_current")
        countries = deployed.warehouse(
            f"""SELECT count(*), count(agreed_delivery_location_country),
                       count(*) FILTER (WHERE agreed_delivery_location_country = 'Elsewhere')
                FROM {schema}.fact_sales_order_as_was"""
        )
        assert countries == [[orders, orders, 0]], "they are older"
        places = f"SELECT country FROM {schema}.dim_place WHERE place_id = :address"
        assert deployed.warehouse(places, address=address) == [["Elsewhere"]]
    view = "warehouse.fact_sales_order_as_was"
    assert deployed.warehouse(f"SELECT has_table_privilege('{role}', '{view}', 'SELECT')") == [[True]]
    phones = "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(:view) AND attname LIKE '%location_phone'"
    assert deployed.warehouse(phones, view=view) == [], "a column of the dimension that it referred to before"
    platform.warehouse(f"DROP OWNED BY {role}")
    platform.warehouse(f"DROP ROLE {role}")


def test_a_view_of_others_on_a_column_whose_type_changes_is_named_and_nothing_is_changed(platform: Platform) -> None:
    platform.warehouse("CREATE VIEW public.by_units AS SELECT units_sold FROM warehouse.fact_sales_order")
    before = platform.contents()
    deployed = platform.declaring(with_columns(ORDERS, units_sold=pa.string()))
    with pytest.raises(EvolutionBlockedError, match="because of view by_units: keep its definition"):
        deployed.rebuild()
    assert platform.contents() == before
    platform.warehouse("DROP VIEW public.by_units")
    assert "fact_sales_order" in deployed.rebuild().tables


def test_until_it_is_rebuilt_nothing_is_loaded_into_a_table_whose_rule_has_changed_and_a_check_says_so(
    platform: Platform, server: Server, tmp_path: Path
) -> None:
    deployed = platform.declaring(IN_CAPITALS)
    before = deployed.contents()
    deployed.totesys("UPDATE design SET design_name = 'changed' WHERE design_id = 3")
    deployed.totesys("UPDATE payment SET paid = NOT paid WHERE payment_id = 9")
    loaded = deployed.refresh(full_capture=True)
    assert failed_counts(loaded, "rule_is_current") == {"dim_design": 1}
    assert failed_counts(loaded, "no_missed_changes") == {}
    after = deployed.contents()
    assert after["dim_design"] == before["dim_design"]
    assert len(after["fact_payment"]) == len(before["fact_payment"]) + 1, "other tables are loaded"
    deployed.rebuild()
    assert deployed.contents() == deployed.from_scratch(server, tmp_path).contents()
    deployed.next_window()
    assert failed_counts(deployed.refresh(full_capture=True), "rule_is_current") == {}


def test_a_changed_rule_makes_no_false_versions(platform: Platform) -> None:
    versions = len(platform.contents()["fact_sales_order"])
    deployed = platform.declaring(WITH_TOTAL)
    deployed.rebuild()
    deployed.refresh(full_capture=True)
    assert len(deployed.contents()["fact_sales_order"]) == versions
    amounts = deployed.warehouse("SELECT total_amount = units_sold * unit_price FROM warehouse.fact_sales_order")
    assert amounts == [[True]] * versions, "filled over all history"


def test_a_changed_file_of_another_rule_is_not_loaded(platform: Platform) -> None:
    [[first]] = platform.warehouse("SELECT capture FROM warehouse.loads ORDER BY captured_at LIMIT 1")
    partition = first.partition("/")[0]
    deployed = platform.declaring(WITH_TOTAL)
    deployed.rebuild()
    before = deployed.contents()
    with pytest.raises(OutdatedFileError, match=f"of partition {partition} was made by another version of its rule"):
        deployed.refresh("warehouse", partition=partition)
    deployed.refresh("transformation", "warehouse", partition=partition)
    assert deployed.contents() == before


def test_a_lost_warehouse_is_rebuilt_from_all_captures_in_one_go(platform: Platform, server: Server) -> None:
    before = platform.contents()
    platform.warehouse_url = new_database(server)
    platform.environment.setenv("WAREHOUSE_DATABASE_URL", platform.warehouse_url)
    rebuilt = platform.rebuild()
    assert len(rebuilt.load.new_captures) == rebuilt.captures == len(before["loads"])
    assert platform.contents() == before
    assert platform.rebuild().load.new_captures == []


def test_a_rebuild_loads_captures_that_are_not_loaded(platform: Platform, server: Server, tmp_path: Path) -> None:
    for units in (11, 12, 13):
        platform.totesys("UPDATE sales_order SET units_sold = :units WHERE sales_order_id = 2", units=units)
        platform.refresh("ingestion")
        platform.next_window()
    assert len(platform.rebuild().load.new_captures) == 3
    assert platform.contents() == platform.from_scratch(server, tmp_path).contents()


def test_tables_can_be_rebuilt_although_they_are_up_to_date(platform: Platform) -> None:
    before = platform.contents()
    platform.warehouse("UPDATE warehouse.fact_payment SET payment_amount = 0 WHERE payment_id = 5")
    platform.warehouse("UPDATE warehouse.dim_staff SET first_name = 'x' WHERE staff_id = 1")
    platform.warehouse("DELETE FROM warehouse.fact_sales_order WHERE sales_order_id = 8")
    rebuilt = platform.rebuild("fact_payment", "dim_staff", "fact_sales_order")
    changed = {name: table.changed for name, table in rebuilt.load.tables.items() if table.changed}
    assert changed == {"fact_payment": 2, "dim_staff": 1, "fact_sales_order": 1}
    assert platform.contents() == before
    with pytest.raises(UnknownTableError, match="fact_nothing is no star table: the star tables are dim_counterparty,"):
        platform.rebuild("fact_nothing")


def test_rows_that_the_warehouse_refuses_wait_in_a_rebuild_too(platform: Platform) -> None:
    platform.warehouse("ALTER TABLE warehouse.dim_design ADD CHECK (design_name <> 'RENAMED') NOT VALID")
    platform.warehouse("ALTER TABLE warehouse.fact_sales_order ADD CHECK (units_sold <> 1) NOT VALID")
    [[first_name]] = platform.totesys("SELECT upper(design_name) FROM design WHERE design_id = 2")
    deployed = platform.declaring(IN_CAPITALS, WITH_TOTAL)
    deployed.rebuild()
    assert deployed.warehouse("SELECT design_name FROM warehouse.dim_design WHERE design_id = 2") == [[first_name]]
    assert deployed.warehouse("SELECT 1 FROM warehouse.dim_design WHERE design_name = 'RENAMED'") == []
    assert deployed.warehouse("SELECT 1 FROM warehouse.fact_sales_order WHERE units_sold = 1") == []
    refused = (
        "SELECT star_table, key FROM warehouse.rejected WHERE reason LIKE 'is refused by the warehouse%' ORDER BY 1"
    )
    assert deployed.warehouse(refused) == [
        ["dim_design", {"design_id": 1}],
        ["fact_sales_order", {"sales_order_id": 2}],
    ], "order 1 has a later version that is not refused"


def test_without_all_captures_nothing_is_rebuilt(platform: Platform) -> None:
    before = platform.contents()
    [[lost]] = platform.warehouse("SELECT capture FROM warehouse.loads ORDER BY captured_at OFFSET 2 LIMIT 1")
    [manifest] = Path(platform.ingestion_url.removeprefix("file://"), "captures").rglob(
        f"{lost.partition('/')[2]}.json"
    )
    manifest.unlink()
    with pytest.raises(HistoryIncompleteError, match=f"capture {lost} is not in the ingestion bucket"):
        platform.declaring(WITH_TOTAL).rebuild()
    assert platform.contents() == before


def loses_rows(sales_order: pd.DataFrame) -> pd.DataFrame:
    return ORDERS.transform(sales_order).head(10)


def test_a_function_that_loses_rows_fails_the_rebuild_and_changes_nothing(platform: Platform) -> None:
    before = platform.contents()
    with pytest.raises(RowsLostError, match=r"fact_sales_order has \d+ rows more or fewer than were captured"):
        platform.declaring(replace(ORDERS, transform=loses_rows)).rebuild()
    assert platform.contents() == before
