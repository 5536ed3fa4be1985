"""What analysts and their tools see in the warehouse, and how an older warehouse is migrated."""

import itertools
import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy

from etl_assets.adapters.postgres import Connection, StatementRefusedError, connect, join_condition, transaction
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.schema.table import referenced_first
from etl_assets.simulator import postgres
from etl_assets.simulator.activity import create_missing_tables
from etl_assets.simulator.postgres import Server
from etl_assets.transformation import STAR_TABLES
from etl_assets.warehouse.ddl import SchemaMissingError, add_foreign_keys, comments, create_missing, stored_tables
from etl_assets.warehouse.documentation import documentation
from etl_assets.warehouse.plan import Plan, plan
from etl_assets.warehouse.relations import AS_OF, as_of, qualified
from etl_assets_tests.harness import (
    ROOT,
    Platform,
    assert_warehouse_equals_totesys,
    failed_counts,
    fill_empty_tables,
    make_history,
    new_database,
)
from etl_assets_tests.pipeline import CATALOG, FACTS

VIEWS = {f"{star.name}_history" for star in STAR_TABLES} | {
    f"{fact.name}_{kind}" for fact in FACTS for kind in ("current", "as_was")
}
"""The views of the schema `warehouse`."""


@pytest.fixture
def analyst(platform: Platform, server: Server) -> Iterator[Connection]:
    """A connection of a member of the role `analyst`, after a run."""
    platform.refresh()
    name = f"ada_{platform.warehouse_url.partition('?')[0].rpartition('/')[2]}"
    platform.warehouse(f"CREATE ROLE {name} LOGIN IN ROLE analyst")
    try:
        with connect(platform.warehouse_url.replace("//postgres@", f"//{name}@")) as connection:
            yield connection
    finally:
        with connect(server.url()) as connection:
            connection.run(f"DROP ROLE {name}")


def test_an_analyst_may_read_star_tables_views_and_loads_and_nothing_else(analyst: Connection) -> None:
    tables = {table.name for table in stored_tables(STAR_TABLES)}
    for name in tables | VIEWS | {"loads", "reconciliations"} | {*map(as_of, tables | VIEWS | {"loads"})}:
        analyst.run(f"SELECT * FROM {qualified(name)} LIMIT 1")
    for refused in (
        "SELECT * FROM warehouse.rejected",
        "SELECT * FROM warehouse.pending",
        "DELETE FROM warehouse.fact_payment",
        "UPDATE warehouse.dim_staff SET first_name = 'x'",
        "TRUNCATE warehouse.loads",
        "DELETE FROM warehouse.dim_staff_versions",
        "DELETE FROM as_of.dim_staff_versions",
        "CREATE TABLE warehouse.mine ()",
        "CREATE TABLE as_of.mine ()",
    ):
        with pytest.raises(StatementRefusedError, match="permission denied"):
            analyst.run(refused)


def test_a_revoked_grant_is_restored_by_the_next_load(platform: Platform) -> None:
    platform.refresh()
    platform.warehouse("REVOKE SELECT ON warehouse.fact_payment_current FROM analyst")
    platform.next_window()
    platform.refresh()
    may = platform.warehouse("SELECT has_table_privilege('analyst', 'warehouse.fact_payment_current', 'SELECT')")
    assert may == [[True]]


def test_a_user_who_may_not_create_roles_loads_and_grants_once_a_role_exists_that_is_nobodys_own(
    platform: Platform, tmp_path: Path
) -> None:
    privilege = "SELECT has_table_privilege('analyst', 'warehouse.fact_payment_current', 'SELECT')"
    with postgres.serve(tmp_path / "own") as server:
        platform.warehouse_url = server.create_database("warehouse")
        platform.warehouse("CREATE ROLE loader LOGIN")
        platform.warehouse("ALTER DATABASE warehouse OWNER TO loader")
        platform.environment.setenv("WAREHOUSE_DATABASE_URL", server.url("warehouse", "loader"))
        platform.refresh()
        first = platform.partition
        assert platform.warehouse("SELECT 1 FROM pg_roles WHERE rolname = 'analyst'") == []
        platform.warehouse("CREATE ROLE analyst LOGIN")
        platform.next_window()
        with dg.instance_for_test() as instance:
            run = platform.run("transformation", "warehouse", partition=first, instance=instance)
            logged = [record.message for record in instance.all_logs(run.run_id) if record.level == logging.WARNING]
        assert "nothing is granted to the role analyst, because it can log in" in " ".join(logged)
        assert platform.warehouse(privilege) == [[False]]
        platform.warehouse("ALTER ROLE analyst NOLOGIN")
        platform.refresh("transformation", "warehouse", partition=first)
        assert platform.warehouse(privilege) == [[True]]
    postgres.remove(tmp_path / "own")


def test_an_as_of_query_is_one_where_clause(platform: Platform) -> None:
    query = """SELECT units_sold FROM warehouse.fact_sales_order_history
               WHERE sales_order_id = 3 AND valid_from <= :time AND :time < valid_to"""
    times = []
    for change in (
        "UPDATE sales_order SET units_sold = 1 WHERE sales_order_id = 3",
        "UPDATE sales_order SET units_sold = 2 WHERE sales_order_id = 3",
        "DELETE FROM sales_order WHERE sales_order_id = 3",
        "INSERT INTO sales_order SELECT 3, created_at, last_updated, design_id, staff_id, counterparty_id, 4, "
        "unit_price, currency_id, agreed_delivery_date, agreed_payment_date, agreed_delivery_location_id "
        "FROM sales_order WHERE sales_order_id = 4",
    ):
        platform.totesys("ALTER TABLE transaction DROP CONSTRAINT IF EXISTS transaction_sales_order_id_fkey")
        platform.totesys(change)
        platform.refresh(full_capture=True)
        times.append(platform.latest_capture.captured_at)
        platform.next_window()
    assert [platform.warehouse(query, time=time) for time in times] == [[[1]], [[2]], [], [[4]]]
    open_ended = platform.warehouse(
        "SELECT count(*) FROM warehouse.fact_sales_order_history WHERE valid_to = 'infinity'"
    )
    assert open_ended == platform.totesys("SELECT count(*) FROM sales_order")


def test_a_bi_tool_finds_tables_views_foreign_keys_and_comments(analyst: Connection, platform: Platform) -> None:
    """Checked with SQLAlchemy's reflection over psycopg2, as Apache Superset and others inspect a database."""
    analyst_url = platform.warehouse_url.replace("//postgres@", f"//{analyst.user.decode()}@")
    engine = sqlalchemy.create_engine(analyst_url.replace("postgresql://", "postgresql+psycopg2://"))
    try:
        found = sqlalchemy.inspect(engine)
        tables = {table.name for table in stored_tables(STAR_TABLES)}
        assert {*found.get_table_names(WAREHOUSE)} >= tables
        assert {*found.get_view_names(WAREHOUSE)} == VIEWS
        assert {*found.get_view_names(AS_OF)} == tables | VIEWS | {"loads"}
        assert found.get_table_names(AS_OF) == []
        for star in STAR_TABLES:
            relations = {
                key["constrained_columns"][0]: (key["referred_schema"], key["referred_table"])
                for key in found.get_foreign_keys(star.name, WAREHOUSE)
            }
            assert relations == {column: (WAREHOUSE, to) for column, to in star.foreign_keys.items()}
            key = [star.record_id] if star.record_id else list(star.primary_key)
            assert found.get_pk_constraint(star.name, WAREHOUSE)["constrained_columns"] == key
        for schema, name in itertools.product((WAREHOUSE, AS_OF), tables | VIEWS):
            assert found.get_table_comment(name, schema)["text"], name
            for column in found.get_columns(name, schema):
                assert column["comment"], f"{schema}.{name}.{column['name']}"
                assert not isinstance(column["type"], sqlalchemy.types.NullType)
    finally:
        engine.dispose()


def test_a_comment_that_differs_is_set_again(platform: Platform) -> None:
    platform.refresh()
    platform.warehouse("COMMENT ON COLUMN warehouse.dim_staff.first_name IS 'something else'")
    platform.warehouse("COMMENT ON VIEW warehouse.fact_payment_current IS NULL")
    platform.next_window()
    platform.refresh()
    query = """SELECT col_description('warehouse.dim_staff'::regclass, attnum),
                     obj_description('warehouse.fact_payment_current'::regclass)
              FROM pg_attribute WHERE attrelid = 'warehouse.dim_staff'::regclass AND attname = 'first_name'"""
    assert platform.warehouse(query) == [
        ["First name.", "fact_payment: the latest version of each row, without deleted rows."]
    ]


_OLDER_RELEASE = Path(__file__).parent / "release_730c75d"  # with the suffixes of a database and of buckets

_SCHEMA = """
    SELECT c.oid::regclass::text, attname::text, relkind::text, format_type(atttypid, atttypmod), attnotnull::text,
           pg_get_expr(adbin, adrelid), col_description(c.oid, attnum), obj_description(c.oid, 'pg_class'),
           has_table_privilege('analyst', c.oid, 'SELECT')::text
    FROM pg_class c JOIN pg_attribute ON attrelid = c.oid LEFT JOIN pg_attrdef d ON adrelid = c.oid AND adnum = attnum
    WHERE relnamespace IN ('warehouse'::regnamespace, 'as_of'::regnamespace) AND relkind <> 'S' AND attnum > 0
    AND NOT attisdropped
    UNION ALL
    SELECT conrelid::regclass::text, conname::text, contype::text, pg_get_constraintdef(oid), '', '', '', '', ''
    FROM pg_constraint WHERE connamespace = 'warehouse'::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT format('%s.%s', schemaname, viewname), '', 'view', definition, '', '', '', '', ''
    FROM pg_views WHERE schemaname IN ('warehouse', 'as_of')
    UNION ALL
    SELECT p.oid::regprocedure::text, '', 'function', pg_get_functiondef(p.oid), '', '', '', obj_description(p.oid),
           has_function_privilege('analyst', p.oid, 'EXECUTE')::text
    FROM pg_proc p WHERE pronamespace IN ('warehouse'::regnamespace, 'as_of'::regnamespace)
    ORDER BY 1, 2, 3"""


def new_warehouse(server: Server) -> str:
    """Create a warehouse without rows. Return its URL."""
    url = new_database(server)
    with connect(url) as connection, transaction(connection):
        for star in create_missing(connection, referenced_first(CATALOG.stars)):
            add_foreign_keys(connection, star)
    return url


def without_versions_of_dimensions(platform: Platform) -> None:
    """Make the warehouse as the release of commit 401e124 left it, which kept only the latest version of dimensions."""
    with connect(platform.warehouse_url) as connection, transaction(connection):
        connection.run("DROP SCHEMA as_of CASCADE")
        for fact in FACTS:
            connection.run(f"DROP VIEW warehouse.{fact.name}_as_was")
        for star in STAR_TABLES:
            if star.versions is not star:
                same_key = join_condition(star.primary_key, "version", star.name)
                connection.run(
                    f"""UPDATE warehouse.{star.name} SET captured_at = (
                            SELECT max(captured_at) FROM warehouse.{star.name}_versions version
                            WHERE {same_key} AND NOT version.deleted)
                        WHERE deleted"""
                )
                connection.run(f"DROP TABLE warehouse.{star.name}_versions CASCADE")
                connection.run(f"ALTER TABLE warehouse.{star.name} DROP COLUMN deleted")
                connection.run(f"UPDATE warehouse.tables SET rule = 'before' WHERE star_table = '{star.name}'")
        connection.run("DELETE FROM warehouse.tables WHERE rule IS NULL")
        connection.run("UPDATE warehouse.tables SET views = 'before' WHERE views IS NOT NULL")


def test_a_warehouse_without_versions_of_dimensions_gets_them_by_the_rebuild_and_facts_are_loaded_meanwhile(
    platform: Platform, server: Server, tmp_path: Path
) -> None:
    make_history(platform)
    platform.totesys("INSERT INTO design VALUES (9999, now(), 'Short-lived', '/', 'short.json', now())")
    platform.refresh()
    platform.next_window()
    platform.totesys("DELETE FROM design WHERE design_id = 9999")
    platform.refresh(full_capture=True)
    platform.next_window()
    without_versions_of_dimensions(platform)
    reader = "CREATE VIEW public.mine AS SELECT * FROM warehouse.dim_design"
    platform.warehouse(reader)
    designs = platform.warehouse("SELECT * FROM public.mine ORDER BY design_id")

    platform.totesys("UPDATE design SET design_name = 'Renamed again' WHERE design_id = 1")
    platform.totesys("UPDATE sales_order SET units_sold = 77 WHERE sales_order_id = 5")
    loaded = platform.refresh(full_capture=True)

    outdated = {star.name for star in STAR_TABLES if star not in FACTS}
    assert {*failed_counts(loaded, "rule_is_current")} == outdated
    assert failed_counts(loaded, "no_missed_changes") == {}
    assert platform.warehouse("SELECT * FROM warehouse.dim_design ORDER BY design_id") == designs
    for schema in ("warehouse", "as_of"):
        order = f"SELECT units_sold FROM {schema}.fact_sales_order_current WHERE sales_order_id = 5"
        assert platform.warehouse(order) == [[77]]
    assert platform.warehouse("SELECT to_regclass('warehouse.fact_payment_as_was') IS NULL") == [[True]]

    assert {*platform.rebuild().tables} >= outdated

    assert platform.contents() == platform.from_scratch(server, tmp_path).contents()
    versions = (
        "SELECT design_name, deleted FROM warehouse.dim_design_versions WHERE design_id = :id ORDER BY captured_at"
    )
    assert platform.warehouse(versions, id=1)[1:] == [["Renamed", False], ["Renamed again", False]]
    assert platform.warehouse(versions, id=9999) == [["Short-lived", False], ["Short-lived", True]]
    assert [row[:-1] for row in designs if row[0] not in (1, 9999)] == platform.warehouse(
        "SELECT design_id, design_name, file_location, file_name FROM public.mine "
        "WHERE design_id NOT IN (1, 9999) ORDER BY 1"
    )
    platform.warehouse("DROP VIEW public.mine")
    with connect(new_warehouse(server)) as new, connect(platform.warehouse_url) as connection:
        assert connection.run(_SCHEMA) == new.run(_SCHEMA)
        assert plan(connection, CATALOG.stars) == Plan()
    platform.next_window()
    assert failed_counts(platform.refresh(full_capture=True), "rule_is_current") == {}


def test_a_warehouse_without_versions_of_dimensions_that_keeps_its_history_begins_with_the_latest(
    platform: Platform,
) -> None:
    platform.refresh()
    platform.next_window()
    without_versions_of_dimensions(platform)
    platform.rebuild(keep_history=True)
    for relation in ("warehouse.dim_design_versions", "as_of.dim_design"):
        latest = platform.warehouse("SELECT * FROM warehouse.dim_design ORDER BY 1")
        assert platform.warehouse(f"SELECT * FROM {relation} ORDER BY 1") == latest != []
    names = "SELECT count(*), count(design_name) FROM warehouse.fact_sales_order_as_was"
    [[orders, named]] = platform.warehouse(names)
    assert orders == named > 0
    platform.totesys("UPDATE design SET design_name = 'Renamed' WHERE design_id = 1")
    assert failed_counts(platform.refresh(full_capture=True), "no_missed_changes") == {}
    versions = "SELECT design_name FROM warehouse.dim_design_versions WHERE design_id = 1 ORDER BY captured_at"
    assert platform.warehouse(versions)[1:] == [["Renamed"]]


def test_a_role_that_may_not_create_a_schema_is_told_how_and_nothing_is_changed(server: Server) -> None:
    url = new_database(server)
    role = f"loader_{url.partition('?')[0].rpartition('/')[2]}"
    tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'warehouse'::regnamespace ORDER BY 1"
    with connect(url) as owner:
        owner.run(f"CREATE ROLE {role} LOGIN")
        try:
            owner.run(f"CREATE SCHEMA warehouse AUTHORIZATION {role}")
            owner.run("CREATE TABLE warehouse.waiting (star_table text)")
            owner.run(f"ALTER TABLE warehouse.waiting OWNER TO {role}")
            with connect(url.replace("//postgres@", f"//{role}@")) as connection:
                remedy = f'CREATE SCHEMA as_of AUTHORIZATION "{role}"'
                with pytest.raises(SchemaMissingError, match=f"lacks a schema, .* may not create it: run {remedy}$"):
                    create_missing(connection, CATALOG.stars)
                assert owner.run(tables) == [["waiting"]], "not even renamed"
                owner.run("DROP TABLE warehouse.waiting")
                owner.run(remedy)
                with transaction(connection):
                    create_missing(connection, referenced_first(CATALOG.stars))
                assert connection.run("SELECT count(*) FROM as_of.fact_payment_as_was") == [[0]]
        finally:
            owner.run(f"DROP OWNED BY {role}")
            owner.run(f"DROP ROLE {role}")


def test_a_warehouse_and_buckets_of_an_older_release_go_on_without_a_hand(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, new = new_database(server), new_warehouse(server)
    with connect(older) as connection:
        connection.run(_OLDER_RELEASE.with_suffix(".sql").read_text())
        create_missing_tables(connection)
        fill_empty_tables(connection)
        had = {
            name for [name] in connection.run("SELECT tablename::text FROM pg_tables WHERE schemaname = 'warehouse'")
        }
    with tarfile.open(_OLDER_RELEASE.with_suffix(".tar.gz")) as buckets:
        buckets.extractall(tmp_path, filter="data")
    platform = Platform(older, older, f"file://{tmp_path}", monkeypatch)
    stars = [star for star in STAR_TABLES if star.name in had]
    versions = platform.row_counts(stars)
    [pending] = platform.warehouse("SELECT star_table, key, captured_at FROM warehouse.waiting")

    platform.refresh()
    assert platform.row_counts(stars) == versions, "which rules it was built by is not known: it waits to be built anew"
    platform.rebuild()

    with connect(new) as connection, connect(older) as migrated:
        assert migrated.run(_SCHEMA) == connection.run(_SCHEMA)
        assert plan(migrated, CATALOG.stars) == Plan()
    assert platform.contents() == platform.from_scratch(server, tmp_path).contents()
    assert platform.warehouse("SELECT star_table, key, captured_at FROM warehouse.pending") == [pending]
    assert platform.row_counts(stars) == versions, "the rules are still the same"

    platform.totesys("UPDATE public.currency SET currency_code = 'GBP' WHERE currency_id = 9")
    platform.totesys("UPDATE public.payment SET payment_date = '2024-08-30' WHERE payment_id = 1")
    platform.next_window()
    platform.refresh()

    assert platform.warehouse("SELECT 1 FROM warehouse.pending UNION ALL SELECT 1 FROM warehouse.rejected") == []
    history = "SELECT captured_at, currency_id FROM warehouse.fact_sales_order WHERE sales_order_id = 1 ORDER BY 1"
    assert platform.warehouse(history)[2:] == [[pending[2], 9]], "loaded with its own capture time"
    assert_warehouse_equals_totesys(platform)


def test_bookkeeping_of_an_older_release_gets_the_columns_it_lacks(loaded: Platform) -> None:
    loaded.warehouse("DROP SCHEMA as_of CASCADE")
    loaded.warehouse("ALTER TABLE warehouse.loads DROP changed, DROP repaired")
    loaded.totesys("UPDATE design SET file_name = 'new' WHERE design_id = 1")
    loaded.refresh()
    assert loaded.warehouse("SELECT changed, repaired FROM warehouse.loads ORDER BY captured_at") == [
        [{}, {}],
        [{"dim_design": 1}, {}],
    ]


def test_the_warehouse_page_is_up_to_date() -> None:
    page = ROOT / "docs" / "warehouse.md"
    assert page.read_text() == documentation(CATALOG), "make docs"


def test_every_column_of_every_star_table_and_view_is_described() -> None:
    for star in CATALOG.stars:
        for (name, column), text in comments(star, CATALOG.stars).items():
            assert text, f"{name}.{column}"
