"""What analysts and their tools find in the warehouse."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from etl_assets.databases import Connection, StatementRefusedError, connect, quoted
from etl_assets.simulator import postgres
from etl_assets.simulator.postgres import Server
from etl_assets.tables import Table
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.declare import described
from etl_assets.warehouse.documentation import documentation
from etl_assets.warehouse.schema import WAREHOUSE, descriptions
from etl_assets_tests.platform import Platform

FACTS = [star for star in STAR_TABLES if star.record_id]


@pytest.fixture
def analyst(platform: Platform, server: Server) -> Iterator[Connection]:
    """A connection of someone who was made a member of the role `analyst`, after a run."""
    platform.run()
    name = f"ada_{platform.warehouse_url.partition('?')[0].rpartition('/')[2]}"
    platform.warehouse(f"CREATE ROLE {name} LOGIN IN ROLE analyst")
    try:
        with connect(platform.warehouse_url.replace("//postgres@", f"//{name}@")) as connection:
            yield connection
    finally:
        with connect(server.url()) as connection:
            connection.run(f"DROP ROLE {name}")


def test_an_analyst_reads_the_stars_and_their_views_and_the_loads_and_nothing_else(analyst: Connection) -> None:
    views = [f"{star.name}_{kind}" for star in FACTS for kind in ("current", "history")]
    for name in (*(star.name for star in STAR_TABLES), *views, "loads"):
        analyst.run(f"SELECT * FROM {WAREHOUSE}.{quoted(name)} LIMIT 1")
    for refused in (
        "SELECT * FROM warehouse.rejected",
        "SELECT * FROM warehouse.waiting",
        "DELETE FROM warehouse.fact_payment",
        "UPDATE warehouse.dim_staff SET first_name = 'x'",
        "TRUNCATE warehouse.loads",
        "CREATE TABLE warehouse.mine ()",
    ):
        with pytest.raises(StatementRefusedError, match="permission denied"):
            analyst.run(refused)


def test_what_an_analyst_may_read_is_granted_again_by_the_next_load(platform: Platform) -> None:
    platform.run()
    platform.warehouse("REVOKE SELECT ON warehouse.fact_payment_current FROM analyst")
    platform.next_window()
    platform.run()
    may = platform.warehouse("SELECT has_table_privilege('analyst', 'warehouse.fact_payment_current', 'SELECT')")
    assert may == [[True]]


def test_who_may_not_create_roles_loads_all_the_same_and_grants_when_the_role_is_there(
    platform: Platform, tmp_path: Path
) -> None:
    with postgres.serve(tmp_path / "own") as server:
        platform.warehouse_url = server.create_database("warehouse")
        platform.warehouse("CREATE ROLE loader LOGIN")
        platform.warehouse("ALTER DATABASE warehouse OWNER TO loader")
        platform.environment.setenv("WAREHOUSE_DATABASE_URL", server.url("warehouse", "loader"))
        platform.run()
        assert platform.warehouse("SELECT 1 FROM pg_roles WHERE rolname = 'analyst'") == []
        platform.warehouse("CREATE ROLE analyst")
        platform.next_window()
        platform.run()
        may = platform.warehouse("SELECT has_table_privilege('analyst', 'warehouse.fact_payment_current', 'SELECT')")
        assert may == [[True]]
    postgres.remove(tmp_path / "own")


def test_the_state_as_of_any_time_is_one_query(platform: Platform) -> None:
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
        platform.run(full_capture=True)
        times.append(platform.newest_capture.captured_at)
        platform.next_window()
    assert [platform.warehouse(query, time=time) for time in times] == [[[1]], [[2]], [], [[4]]]
    open_ended = platform.warehouse(
        "SELECT count(*) FROM warehouse.fact_sales_order_history WHERE valid_to = 'infinity'"
    )
    assert open_ended == platform.totesys("SELECT count(*) FROM sales_order")


def test_a_tool_for_business_intelligence_finds_the_stars_their_relations_and_what_all_of_it_means(
    analyst: Connection, platform: Platform
) -> None:
    """By SQLAlchemy's reflection and psycopg2, which is how Apache Superset and others look at a database."""
    analyst_url = platform.warehouse_url.replace("//postgres@", f"//{analyst.user.decode()}@")
    engine = sqlalchemy.create_engine(analyst_url.replace("postgresql://", "postgresql+psycopg2://"))
    try:
        found = sqlalchemy.inspect(engine)
        tables = set(found.get_table_names(WAREHOUSE))
        views = set(found.get_view_names(WAREHOUSE))
        assert tables >= {star.name for star in STAR_TABLES}
        assert views == {f"{star.name}_{kind}" for star in FACTS for kind in ("current", "history")}
        for star in STAR_TABLES:
            relations = {
                key["constrained_columns"][0]: (key["referred_schema"], key["referred_table"])
                for key in found.get_foreign_keys(star.name, WAREHOUSE)
            }
            assert relations == {column: (WAREHOUSE, to) for column, to in star.foreign_keys.items()}
            key = [star.record_id] if star.record_id else list(star.primary_key)
            assert found.get_pk_constraint(star.name, WAREHOUSE)["constrained_columns"] == key
        for name in (*(star.name for star in STAR_TABLES), *views):
            assert found.get_table_comment(name, WAREHOUSE)["text"], name
            for column in found.get_columns(name, WAREHOUSE):
                assert column["comment"], f"{name}.{column['name']}"
                assert not isinstance(column["type"], sqlalchemy.types.NullType)
    finally:
        engine.dispose()


def test_what_a_table_holds_is_said_again_when_it_is_declared_otherwise(platform: Platform) -> None:
    platform.run()
    platform.warehouse("COMMENT ON COLUMN warehouse.dim_staff.first_name IS 'something else'")
    platform.warehouse("COMMENT ON VIEW warehouse.fact_payment_current IS NULL")
    platform.next_window()
    platform.run()
    told = """SELECT col_description('warehouse.dim_staff'::regclass, attnum),
                     obj_description('warehouse.fact_payment_current'::regclass)
              FROM pg_attribute WHERE attrelid = 'warehouse.dim_staff'::regclass AND attname = 'first_name'"""
    assert platform.warehouse(told) == [
        ["First name.", "fact_payment: the present version of each, none of what was deleted."]
    ]


def test_the_page_about_the_warehouse_says_what_is_declared() -> None:
    page = Path(__file__).parents[1] / "docs" / "warehouse.md"
    assert page.read_text() == documentation(STAR_TABLES, TOTESYS_TABLES), "make docs"


def test_every_column_of_every_star_table_and_view_is_described() -> None:
    tables: dict[str, Table] = {table.name: table for table in (*TOTESYS_TABLES, *STAR_TABLES)}
    for star in STAR_TABLES:
        for (name, column), text in descriptions(described(star, tables)).items():
            assert text, f"{name}.{column}"
