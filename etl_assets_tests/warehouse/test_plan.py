"""How the warehouse follows the declarations: steps that are planned, shown, and applied."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from etl_assets.__main__ import main
from etl_assets.adapters.postgres import (
    Connection,
    DatabaseUnavailableError,
    StatementRefusedError,
    connect,
    transaction,
)
from etl_assets.schema.columns import columns, optional, renamed_from
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.table import Catalog, referenced_first
from etl_assets.simulator.postgres import Server
from etl_assets.totesys import TOTESYS_TABLES
from etl_assets.transformation import STAR_TABLES
from etl_assets.transformation.code_version import code_version
from etl_assets.transformation.star_table import StarTable, star_table, with_descriptions
from etl_assets.warehouse.ddl import add_foreign_keys, create_missing, stored_tables
from etl_assets.warehouse.plan import EvolutionBlockedError, Kind, Phase, Plan, Step, apply, as_text, plan
from etl_assets.warehouse.relations import as_of, qualified
from etl_assets_tests.harness import new_database, until

SALE_RELATIONS = [f"{schema}fact_sale{kind}" for schema in ("", "as_of.") for kind in ("", "_current", "_history")]
STARS = referenced_first(with_descriptions(Catalog(TOTESYS_TABLES, STAR_TABLES)).stars)

_SNAPSHOT = """
    SELECT concat(nullif(nspname || '.', 'warehouse.'), c.relname), c.oid::text, c.relacl::text, a.attname::text,
           format_type(a.atttypid, a.atttypmod), a.attnotnull::text, col_description(c.oid, a.attnum),
           CASE c.relkind WHEN 'v' THEN pg_get_viewdef(c.oid) END
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relnamespace IN ('warehouse'::regnamespace, 'as_of'::regnamespace) ORDER BY c.oid, a.attnum"""


def transform(sales: pd.DataFrame) -> pd.DataFrame:
    return sales


def dimension(**changes: Any) -> StarTable:
    declared: dict[str, Any] = {
        "name": "dim_shop",
        "description": "Shops.",
        "primary_key": ("shop_id",),
        "columns": columns(shop_id=pa.int32(), town=pa.string(), area=optional(pa.float32())),
        "transform": transform,
    }
    return StarTable(**(declared | changes))


def fact(**changes: Any) -> StarTable:
    declared: dict[str, Any] = {
        "name": "fact_sale",
        "description": "Sales.",
        "primary_key": ("sale_id",),
        "record_id": "sale_record_id",
        "foreign_keys": {"shop_id": "dim_shop"},
        "columns": columns(sale_id=pa.int32(), shop_id=pa.int32(), units=pa.int32(), price=pa.decimal128(10, 2)),
        "transform": transform,
    }
    return StarTable(**(declared | changes))


@pytest.fixture
def warehouse(warehouse_url: str) -> Iterator[Connection]:
    """A warehouse with a dimension and a fact, and a row of each."""
    with connect(warehouse_url) as connection:
        create(connection, dimension(), fact())
        for table in ("dim_shop", "dim_shop_versions"):
            connection.run(f"INSERT INTO warehouse.{table} VALUES (1, 'Leeds', 2.5, '2024-01-01')")
        connection.run(
            "INSERT INTO warehouse.fact_sale (sale_id, shop_id, units, price, captured_at) "
            "VALUES (7, 1, 3, 9.99, '2024-01-01')"
        )
        yield connection


@pytest.fixture
def role(warehouse_url: str) -> Iterator[str]:
    with connect(warehouse_url) as connection:
        connection.run("CREATE ROLE auditor")
        yield "auditor"
        connection.run("DROP OWNED BY auditor")
        connection.run("DROP ROLE auditor")


def create(connection: Connection, *stars: StarTable) -> None:
    with transaction(connection):
        for star in create_missing(connection, stars):
            add_foreign_keys(connection, star)


def apply_all(connection: Connection, *stars: StarTable, replace_rows: Callable[[], object] = lambda: None) -> Plan:
    """Apply all phases, as a rebuild does. Afterwards, nothing is left to do."""
    planned = plan(connection, stars)
    with transaction(connection):
        apply(connection, planned, Phase.AT_ONCE, planned.tables)
    with transaction(connection):
        apply(connection, planned, Phase.WITH_ROWS, planned.tables)
        replace_rows()
        apply(connection, planned, Phase.AFTER_ROWS, planned.tables)
    assert plan(connection, stars) == Plan()
    return planned


def update_shop(connection: Connection, values: str) -> None:
    for table in ("dim_shop", "dim_shop_versions"):
        connection.run(f"UPDATE warehouse.{table} SET {values}")


def kinds(steps: Plan | tuple[Step, ...]) -> list[tuple[str, str, str]]:
    return [
        (step.phase.name, step.kind.value, step.altered or step.table)
        for step in (steps.steps if isinstance(steps, Plan) else steps)
    ]


def column_names(connection: Connection, relation: str) -> list[str]:
    connection.run(f"SELECT * FROM {qualified(relation)} LIMIT 0")
    return [column["name"] for column in connection.columns]


def type_of(connection: Connection, relation: str, column: str) -> list[Any]:
    [found] = connection.run(
        """SELECT format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
           WHERE attrelid = to_regclass(:relation) AND attname = :column""",
        relation=qualified(relation),
        column=column,
    )
    return found


def test_nothing_is_planned_for_what_is_as_declared_and_the_catalog_is_read_few_times(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(warehouse_url) as connection:
        create(connection, *STARS)
        statements: list[str] = []
        run = Connection._run

        def counted(self: Connection, sql: str, *rest: Any) -> list[list[Any]]:
            statements.append(sql)
            return run(self, sql, *rest)

        monkeypatch.setattr(Connection, "_run", counted)
        with transaction(connection, snapshot=True):
            statements.clear()
            assert plan(connection, STARS) == Plan()
            assert len(statements) == 3
    assert as_text(Plan()) == "nothing to change"


def test_a_missing_table_is_created_as_a_load_creates_it(warehouse_url: str, server: Server) -> None:
    with connect(warehouse_url) as connection, connect(new_database(server)) as other:
        create(connection, *STARS)
        create(other)
        planned = apply_all(other, *STARS)
        tables = [table.name for table in stored_tables(STARS)]
        assert [(kind, name) for _, kind, name in kinds(planned)][: len(tables)] == [
            ("create table", name) for name in tables
        ]
        create(other, *STARS)
        query = _SNAPSHOT.replace("c.oid::text", "''").replace("BY c.oid", "BY 1")
        assert other.run(query) == connection.run(query)


def test_an_added_column_leaves_an_analysts_view_a_grant_an_index_and_an_extra_column_alone(
    warehouse_url: str, role: str
) -> None:
    with connect(warehouse_url) as connection:
        create(connection, *STARS)
        connection.run("CREATE VIEW mine AS SELECT * FROM warehouse.fact_sales_order_current")
        connection.run("CREATE VIEW mine_too AS SELECT * FROM warehouse.fact_sales_order_as_was")
        connection.run(f"GRANT SELECT ON warehouse.fact_sales_order_current TO {role}")
        connection.run(f"GRANT SELECT (units_sold) ON warehouse.fact_sales_order TO {role}")
        connection.run("CREATE INDEX mine_index ON warehouse.fact_sales_order (units_sold)")
        connection.run("ALTER TABLE warehouse.fact_sales_order ADD note text NOT NULL DEFAULT 'x'")
        before = [row for row in connection.run(_SNAPSHOT) if row[3] != "discount"]
        [order] = [star for star in STARS if star.name == "fact_sales_order"]
        more = replace(order, columns=order.columns.append(pa.field("discount", pa.int32(), nullable=False)))
        stars = [more if star is order else star for star in STARS]
        assert kinds(plan(connection, stars)) == [
            ("AT_ONCE", "add column", "fact_sales_order"),
            ("AT_ONCE", "change view", "fact_sales_order"),
            ("AT_ONCE", "change view", "fact_sales_order"),
            ("AFTER_ROWS", "set not null", "fact_sales_order"),
        ]
        planned = apply_all(connection, *stars)
        assert planned.steps[0].dependents == ("view mine",)
        after = connection.run(_SNAPSHOT)
        ours = [f"fact_sales_order{kind}" for kind in ("", "_current", "_history", "_as_was")]
        assert [row[:-1] for row in after if row[3] != "discount"] == [row[:-1] for row in before]
        assert {row[0] for row in after if row[3] == "discount"} == {*ours, *map(as_of, ours)}
        assert column_names(connection, "fact_sales_order_current")[-1] == "discount"
        assert column_names(connection, "fact_sales_order_history")[-3:] == ["valid_from", "valid_to", "discount"]
        assert "mine_index" in {name for [name] in connection.run("SELECT relname::text FROM pg_class")}
        assert connection.run("SELECT * FROM mine") == connection.run("SELECT * FROM mine_too") == []


def test_an_added_optional_column_stays_nullable(warehouse: Connection) -> None:
    shop = dimension(columns=dimension().columns.append(pa.field("floor", pa.int16())))
    assert kinds(apply_all(warehouse, shop, fact())) == [
        ("AT_ONCE", "add column", "dim_shop"),
        ("AT_ONCE", "add column", "dim_shop_versions"),
        ("AT_ONCE", "change view", "dim_shop"),
    ]
    for table in ("dim_shop", "dim_shop_versions"):
        assert type_of(warehouse, table, "floor") == ["smallint", False]


def test_views_of_an_older_release_are_noted_and_not_replaced(warehouse: Connection) -> None:
    warehouse.run("DROP TABLE warehouse.tables")
    before = warehouse.run(_SNAPSHOT)
    assert plan(warehouse, [dimension(), fact()]) == Plan()
    create(warehouse, dimension(), fact())
    assert [row[1:] for row in warehouse.run(_SNAPSHOT) if row[0] != "tables" and "tables_" not in row[0]] == [
        row[1:] for row in before
    ]
    assert warehouse.run("SELECT star_table, rule, built_at, length(views) FROM warehouse.tables ORDER BY 1") == [
        ["dim_shop_versions", None, None, 16],
        ["fact_sale", None, None, 16],
    ]
    assert plan(warehouse, [dimension(), fact()]) == Plan()


def test_views_are_replaced_if_their_definition_changed(warehouse: Connection) -> None:
    warehouse.run("UPDATE warehouse.tables SET views = 'of another release'")
    warehouse.run("CREATE VIEW mine AS SELECT * FROM warehouse.fact_sale_current")
    warehouse.run("ALTER VIEW warehouse.fact_sale_current SET (security_barrier = true)")
    before = warehouse.run(_SNAPSHOT)
    assert kinds(apply_all(warehouse, dimension(), fact())) == [
        ("AT_ONCE", "change view", "dim_shop"),
        ("AT_ONCE", "change view", "fact_sale"),
    ]
    assert warehouse.run(_SNAPSHOT) == before
    options = warehouse.run("SELECT reloptions FROM pg_class WHERE oid = 'warehouse.fact_sale_current'::regclass")
    assert options == [[["security_barrier=true"]]]


def test_a_missing_view_is_created(warehouse: Connection) -> None:
    warehouse.run("DROP VIEW warehouse.fact_sale_history")
    assert kinds(apply_all(warehouse, dimension(), fact())) == [("AT_ONCE", "change view", "fact_sale")]
    assert column_names(warehouse, "fact_sale_history") == [
        "sale_record_id", "sale_id", "shop_id", "units", "price", "captured_at", "deleted", "valid_from", "valid_to",
    ]  # fmt: skip


def test_a_column_that_somebody_added_to_a_view_of_ours_is_left_and_blocks_its_replacement(
    warehouse: Connection,
) -> None:
    [[query]] = warehouse.run("SELECT pg_get_viewdef('warehouse.fact_sale_current'::regclass)")
    warehouse.run(
        "CREATE OR REPLACE VIEW warehouse.fact_sale_current AS "
        f"SELECT *, units * price AS amount FROM ({query.rstrip(';')}) ours"
    )
    assert plan(warehouse, [dimension(), fact()]) == Plan()
    more = fact(columns=fact().columns.append(pa.field("discount", pa.int32())))
    with pytest.raises(EvolutionBlockedError, match=r"^fact_sale_current\.amount: somebody has added"):
        apply(warehouse, plan(warehouse, [dimension(), more]), Phase.AT_ONCE, ["fact_sale"])


def test_a_rename_keeps_the_data_the_foreign_key_and_an_analysts_view(warehouse: Connection) -> None:
    warehouse.run("CREATE VIEW mine AS SELECT shop_id, units FROM warehouse.fact_sale_current")
    renamed = fact(
        columns=columns(
            sale_id=pa.int32(),
            store_id=renamed_from("shop_id", pa.int32()),
            pieces=renamed_from("units", pa.int64()),
            price=pa.decimal128(10, 2),
        ),
        foreign_keys={"store_id": "dim_shop"},
    )
    planned = plan(warehouse, [dimension(), renamed])
    assert kinds(planned)[0] == ("AT_ONCE", "rename column", "fact_sale")
    same_type = replace(renamed, columns=renamed.columns.set(2, renamed.columns.field("pieces").with_type(pa.int32())))
    assert kinds(apply_all(warehouse, dimension(), same_type)) == [("AT_ONCE", "rename column", "fact_sale")]
    assert warehouse.run("SELECT shop_id, units FROM mine") == [[1, 3]]
    for relation in SALE_RELATIONS:
        assert warehouse.run(f"SELECT store_id, pieces FROM {qualified(relation)}") == [[1, 3]]
    foreign_keys = warehouse.run(
        "SELECT conname::text FROM pg_constraint WHERE conrelid = 'warehouse.fact_sale'::regclass AND contype = 'f'"
    )
    assert foreign_keys == [["fact_sale_store_id_fkey"]]


def test_a_renamed_key_keeps_its_constraint(warehouse: Connection) -> None:
    renamed = fact(
        primary_key=("number",),
        columns=columns(
            number=renamed_from("sale_id", pa.int32()), shop_id=pa.int32(), units=pa.int32(), price=pa.decimal128(10, 2)
        ),
    )
    shop = dimension(
        primary_key=("shop_number",),
        columns=columns(shop_number=renamed_from("shop_id", pa.int32()), town=pa.string(), area=optional(pa.float32())),
    )
    assert {kind for _, kind, _ in kinds(apply_all(warehouse, shop, renamed))} == {"rename column"}


def test_a_record_id_is_renamed(warehouse: Connection) -> None:
    assert kinds(apply_all(warehouse, dimension(), fact(record_id="version"))) == [
        ("AT_ONCE", "rename column", "fact_sale")
    ]
    assert warehouse.run("SELECT version, sale_id FROM warehouse.fact_sale_current") == [[1, 7]]


def widened() -> list[StarTable]:
    shop = dimension(columns=columns(shop_id=pa.int64(), town=pa.string(), area=optional(pa.float64())))
    sale = fact(columns=columns(sale_id=pa.int64(), shop_id=pa.int64(), units=pa.int64(), price=pa.decimal128(12, 2)))
    return [shop, sale]


def test_widening_keeps_the_data_and_the_views_with_their_grants_and_comments(warehouse: Connection, role: str) -> None:
    warehouse.run(f"GRANT SELECT ON warehouse.fact_sale_current TO {role} WITH GRANT OPTION")
    warehouse.run(f"GRANT SELECT (sale_id) ON warehouse.fact_sale_history TO {role}")
    warehouse.run("GRANT SELECT ON warehouse.fact_sale_history TO PUBLIC")
    warehouse.run("COMMENT ON COLUMN warehouse.fact_sale_current.units IS 'Pieces.'")
    warehouse.run("ALTER VIEW warehouse.fact_sale_current SET (security_barrier = true)")
    query = """SELECT c.relname::text, c.relacl::text, c.reloptions, obj_description(c.oid), a.attname::text,
                      a.attacl::text, col_description(c.oid, a.attnum)
               FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
               WHERE relkind = 'v' AND relnamespace IN ('warehouse'::regnamespace, 'as_of'::regnamespace)
               ORDER BY relnamespace, 1, 5"""
    before = warehouse.run(query)
    planned = apply_all(warehouse, *widened())
    assert kinds(planned) == [
        ("AT_ONCE", "widen column", "dim_shop"),
        ("AT_ONCE", "widen column", "dim_shop_versions"),
        ("AT_ONCE", "widen column", "fact_sale"),
    ]
    assert warehouse.run(query) == before
    assert type_of(warehouse, "fact_sale_current", "units") == ["bigint", False]
    assert type_of(warehouse, "fact_sale", "price") == ["numeric(12,2)", True]
    assert warehouse.run("SELECT shop_id, units, price FROM warehouse.fact_sale_history")[0][:2] == [1, 3]


def test_only_the_precision_of_a_numeric_is_widened_without_a_rewrite(warehouse: Connection) -> None:
    for price, rewrites in ((pa.decimal128(12, 2), False), (pa.decimal128(13, 3), True)):
        sale = fact(columns=columns(sale_id=pa.int32(), shop_id=pa.int32(), units=pa.int32(), price=price))
        [step] = plan(warehouse, [dimension(), sale]).steps
        assert (step.kind, step.rewrites) == ("widen column", rewrites)
        [[before]] = warehouse.run("SELECT pg_relation_filenode('warehouse.fact_sale')")
        apply_all(warehouse, dimension(), sale)
        [[after]] = warehouse.run("SELECT pg_relation_filenode('warehouse.fact_sale')")
        assert (after != before) == rewrites


@pytest.mark.parametrize(
    ("obstacle", "name"),
    [
        ("CREATE VIEW mine AS SELECT units FROM warehouse.fact_sale_current", "view mine"),
        ("CREATE MATERIALIZED VIEW mine AS SELECT units FROM warehouse.fact_sale", "materialized view mine"),
        ("CREATE VIEW mine AS SELECT sale_id FROM warehouse.fact_sale_history", "view mine"),
        ("CREATE POLICY mine ON warehouse.fact_sale USING (units > 0)", "policy mine on table warehouse.fact_sale"),
        (
            "CREATE FUNCTION mine() RETURNS bigint BEGIN ATOMIC SELECT sum(units) FROM warehouse.fact_sale; END",
            r"function mine\(\)",
        ),
        (
            "CREATE RULE mine AS ON UPDATE TO warehouse.fact_sale WHERE new.units < 0 DO INSTEAD NOTHING",
            "rule mine on table warehouse.fact_sale",
        ),
        (
            "ALTER TABLE warehouse.fact_sale ADD twice int GENERATED ALWAYS AS (units * 2) STORED",
            "default value for column twice of table warehouse.fact_sale",
        ),
    ],
)
def test_what_others_built_on_a_column_blocks_its_widening_by_name_and_nothing_is_changed(
    warehouse: Connection, obstacle: str, name: str
) -> None:
    warehouse.run(obstacle)
    before = warehouse.run(_SNAPSHOT)
    planned = plan(warehouse, [*widened()])
    message = f"cannot be changed because of {name}: keep its definition and drop it, let the change be applied"
    with pytest.raises(EvolutionBlockedError, match=message), transaction(warehouse):
        apply(warehouse, planned, Phase.AT_ONCE, ["fact_sale"])
    assert warehouse.run(_SNAPSHOT) == before
    assert "BLOCKED: " in as_text(planned)
    with transaction(warehouse):
        assert apply(warehouse, planned, Phase.AT_ONCE, ["dim_shop"]), "another table is not blocked"


def test_a_view_on_another_column_of_the_table_does_not_block_a_widening(warehouse: Connection) -> None:
    warehouse.run("CREATE VIEW mine AS SELECT town FROM warehouse.dim_shop")
    apply_all(warehouse, widened()[0], fact())
    assert warehouse.run("SELECT town FROM mine") == [["Leeds"]]


def test_a_blocked_later_phase_blocks_the_earlier_ones(warehouse: Connection) -> None:
    warehouse.run("CREATE VIEW mine AS SELECT units FROM warehouse.fact_sale_current")
    changed = fact(
        columns=columns(
            sale_id=pa.int32(), shop_id=pa.int32(), units=pa.string(), price=pa.decimal128(10, 2), more=pa.int32()
        )
    )
    assert issubclass(EvolutionBlockedError, PermanentError)
    with pytest.raises(EvolutionBlockedError, match=r"fact_sale\.units cannot be changed because of view mine"):
        apply(warehouse, plan(warehouse, [dimension(), changed]), Phase.AT_ONCE, ["fact_sale"])


def test_a_retyped_column_is_emptied_with_the_rows_and_not_null_after_them(warehouse: Connection) -> None:
    retyped = fact(
        columns=columns(sale_id=pa.int32(), shop_id=pa.int32(), units=pa.string(), price=pa.decimal128(10, 2))
    )
    planned = apply_all(
        warehouse,
        dimension(),
        retyped,
        replace_rows=lambda: warehouse.run("UPDATE warehouse.fact_sale SET units = 'three'"),
    )
    assert kinds(planned) == [("WITH_ROWS", "retype column", "fact_sale"), ("AFTER_ROWS", "set not null", "fact_sale")]
    assert type_of(warehouse, "fact_sale", "units") == ["character varying", True]
    assert warehouse.run("SELECT units FROM warehouse.fact_sale_current") == [["three"]]


def test_a_retyped_key_takes_its_foreign_keys_with_it(warehouse: Connection) -> None:
    shop = dimension(columns=columns(shop_id=pa.string(), town=pa.string(), area=optional(pa.float32())))
    sale = fact(columns=fact().columns.set(1, pa.field("shop_id", pa.string(), nullable=False)))

    def replace_rows() -> None:
        update_shop(warehouse, "shop_id = 'L1'")
        warehouse.run("UPDATE warehouse.fact_sale SET shop_id = 'L1'")

    planned = apply_all(warehouse, shop, sale, replace_rows=replace_rows)
    assert [step for step in kinds(planned) if "key" in step[1]] == [
        ("WITH_ROWS", "drop foreign key", "fact_sale"),
        ("WITH_ROWS", "change key", "dim_shop"),
        ("AFTER_ROWS", "change key", "dim_shop"),
        ("AFTER_ROWS", "add foreign key", "fact_sale"),
    ]


def test_a_column_that_is_no_longer_declared_is_kept_and_may_be_null(warehouse: Connection) -> None:
    warehouse.run("ALTER TABLE warehouse.fact_sale ADD note text NOT NULL DEFAULT 'x'")
    less = fact(columns=columns(sale_id=pa.int32(), shop_id=pa.int32(), price=pa.decimal128(10, 2)))
    assert kinds(apply_all(warehouse, dimension(), less)) == [("AT_ONCE", "keep column", "fact_sale")]
    assert type_of(warehouse, "fact_sale", "units") == ["integer", False]
    assert type_of(warehouse, "fact_sale", "note") == ["text", True]
    assert warehouse.run("SELECT units FROM warehouse.fact_sale_current") == [[3]]
    create(warehouse, dimension(), less)
    assert kinds(apply_all(warehouse, dimension(), fact())) == [("AFTER_ROWS", "set not null", "fact_sale")]


def test_a_dropped_column_is_dropped_with_the_rows_unless_an_analysts_view_needs_it(warehouse: Connection) -> None:
    less = fact(columns=columns(sale_id=pa.int32(), shop_id=pa.int32(), price=pa.decimal128(10, 2)), dropped=("units",))
    warehouse.run("CREATE VIEW mine AS SELECT units FROM warehouse.fact_sale")
    with pytest.raises(EvolutionBlockedError, match=r"fact_sale\.units cannot be changed because of view mine"):
        apply(warehouse, plan(warehouse, [dimension(), less]), Phase.WITH_ROWS, ["fact_sale"])
    warehouse.run("DROP VIEW mine")
    warehouse.run("GRANT SELECT ON warehouse.fact_sale_current TO PUBLIC")
    assert kinds(apply_all(warehouse, dimension(), less)) == [("WITH_ROWS", "drop column", "fact_sale")]
    for relation in SALE_RELATIONS:
        assert "units" not in column_names(warehouse, relation)
    assert warehouse.run(
        "SELECT relacl::text LIKE '%,=r/%' FROM pg_class WHERE oid = 'warehouse.fact_sale_current'::regclass"
    ) == [[True]]


def test_the_key_of_a_fact_changes_and_its_views_with_it(warehouse: Connection) -> None:
    rekeyed = fact(primary_key=("sale_id", "shop_id"))
    warehouse.run("CREATE VIEW mine AS SELECT units FROM warehouse.fact_sale_current")
    planned = apply_all(warehouse, dimension(), rekeyed)
    assert kinds(planned) == [
        ("WITH_ROWS", "change key", "fact_sale"),
        ("WITH_ROWS", "change view", "fact_sale"),
        ("AFTER_ROWS", "change key", "fact_sale"),
    ]
    [[key]] = warehouse.run(
        """SELECT pg_get_constraintdef(oid) FROM pg_constraint
           WHERE conrelid = 'warehouse.fact_sale'::regclass AND contype = 'u'"""
    )
    assert key == "UNIQUE (sale_id, shop_id, captured_at)"
    [[view]] = warehouse.run("SELECT pg_get_viewdef('warehouse.fact_sale_current'::regclass)")
    assert "DISTINCT ON (fact_sale.sale_id, fact_sale.shop_id)" in view


def test_a_fact_gets_a_new_column_as_its_key_and_loses_the_one_it_had(warehouse: Connection) -> None:
    rekeyed = fact(
        primary_key=("ticket",),
        columns=columns(ticket=pa.string(), shop_id=pa.int32(), units=pa.int32(), price=pa.decimal128(10, 2)),
        dropped=("sale_id",),
    )
    planned = apply_all(
        warehouse,
        dimension(),
        rekeyed,
        replace_rows=lambda: warehouse.run("UPDATE warehouse.fact_sale SET ticket = 'a'"),
    )
    assert kinds(planned) == [
        ("AT_ONCE", "add column", "fact_sale"),
        ("AT_ONCE", "change view", "fact_sale"),
        ("WITH_ROWS", "change key", "fact_sale"),
        ("WITH_ROWS", "drop column", "fact_sale"),
        ("AFTER_ROWS", "change key", "fact_sale"),
        ("AFTER_ROWS", "set not null", "fact_sale"),
    ]
    assert column_names(warehouse, "fact_sale_current")[-1] == "ticket"


def test_views_of_another_owner_keep_him(warehouse: Connection, role: str) -> None:
    warehouse.run(f"GRANT ALL ON SCHEMA warehouse TO {role}")
    warehouse.run(f"GRANT SELECT ON warehouse.fact_sale TO {role}")
    warehouse.run(f"ALTER VIEW warehouse.fact_sale_current OWNER TO {role}")
    apply_all(warehouse, *widened())
    owners = warehouse.run(
        "SELECT viewname::text, viewowner::text FROM pg_views WHERE schemaname = 'warehouse' ORDER BY viewname"
    )
    assert owners == [["dim_shop_history", "postgres"], ["fact_sale_current", role], ["fact_sale_history", "postgres"]]


def test_a_foreign_key_of_somebody_else_on_a_retyped_column_blocks_it(warehouse: Connection) -> None:
    warehouse.run(
        "ALTER TABLE warehouse.fact_sale "
        "ADD CONSTRAINT mine FOREIGN KEY (units) REFERENCES warehouse.dim_shop NOT VALID"
    )
    retyped = fact(columns=fact().columns.set(2, pa.field("units", pa.string(), nullable=False)))
    with pytest.raises(EvolutionBlockedError, match=r"constraint mine on table warehouse\.fact_sale"):
        apply(warehouse, plan(warehouse, [dimension(), retyped]), Phase.WITH_ROWS, ["fact_sale"])


def test_the_key_of_a_dimension_changes_and_foreign_keys_return_after_the_rows(warehouse: Connection) -> None:
    rekeyed = dimension(
        primary_key=("number",), columns=columns(number=pa.int32(), town=pa.string(), area=optional(pa.float32()))
    )
    planned = apply_all(warehouse, rekeyed, fact(), replace_rows=lambda: update_shop(warehouse, "number = 1"))
    assert kinds(planned) == [
        ("AT_ONCE", "add column", "dim_shop"),
        ("AT_ONCE", "add column", "dim_shop_versions"),
        ("AT_ONCE", "keep column", "dim_shop_versions"),
        ("AT_ONCE", "change view", "dim_shop"),
        ("WITH_ROWS", "drop foreign key", "dim_shop"),
        ("WITH_ROWS", "change key", "dim_shop"),
        ("WITH_ROWS", "change key", "dim_shop_versions"),
        ("WITH_ROWS", "drop not null", "dim_shop"),
        ("WITH_ROWS", "change view", "dim_shop"),
        ("AFTER_ROWS", "change key", "dim_shop"),
        ("AFTER_ROWS", "change key", "dim_shop_versions"),
        ("AFTER_ROWS", "set not null", "dim_shop"),
        ("AFTER_ROWS", "set not null", "dim_shop_versions"),
        ("AFTER_ROWS", "add foreign key", "dim_shop"),
    ]
    assert type_of(warehouse, "dim_shop", "shop_id") == ["integer", False]
    with pytest.raises(StatementRefusedError, match="foreign key"):
        warehouse.run("UPDATE warehouse.fact_sale SET shop_id = 2")


@pytest.mark.parametrize(
    ("obstacle", "name"),
    [
        ("CREATE TABLE mine (shop int REFERENCES warehouse.dim_shop)", "constraint mine_shop_fkey on table mine"),
        ("CREATE VIEW mine AS SELECT shop_id, town FROM warehouse.dim_shop GROUP BY shop_id", "view mine"),
    ],
)
def test_what_others_built_on_a_key_blocks_its_change(warehouse: Connection, obstacle: str, name: str) -> None:
    warehouse.run(obstacle)
    rekeyed = dimension(primary_key=("town",))
    with pytest.raises(EvolutionBlockedError, match=name):
        apply(warehouse, plan(warehouse, [rekeyed, fact()]), Phase.AT_ONCE, ["dim_shop"])


def test_foreign_keys_follow_their_declaration_and_those_of_others_are_left(warehouse: Connection) -> None:
    warehouse.run(
        "ALTER TABLE warehouse.fact_sale "
        "ADD CONSTRAINT mine FOREIGN KEY (units) REFERENCES warehouse.dim_shop NOT VALID"
    )
    planned = apply_all(warehouse, dimension(), fact(foreign_keys={}))
    assert kinds(planned) == [("WITH_ROWS", "drop foreign key", "fact_sale")]
    assert (
        warehouse.run(
            "SELECT conname::text FROM pg_constraint WHERE contype = 'f' AND conname LIKE '%fkey' "
            "AND conrelid = 'warehouse.fact_sale'::regclass"
        )
        == []
    )
    planned = apply_all(warehouse, dimension(), fact())
    assert kinds(planned) == [("AFTER_ROWS", "add foreign key", "fact_sale")]
    other = dimension(name="dim_place")
    planned = apply_all(
        warehouse,
        dimension(),
        other,
        fact(foreign_keys={"shop_id": "dim_place"}),
        replace_rows=lambda: warehouse.run("INSERT INTO warehouse.dim_place SELECT * FROM warehouse.dim_shop"),
    )
    assert kinds(planned) == [
        ("AT_ONCE", "create table", "dim_place"),
        ("AT_ONCE", "create table", "dim_place_versions"),
        ("WITH_ROWS", "drop foreign key", "fact_sale"),
        ("AFTER_ROWS", "add foreign key", "fact_sale"),
    ]


def test_a_table_cannot_change_between_every_and_the_latest_version(warehouse: Connection) -> None:
    for stars, advice in (
        ([dimension(), fact(record_id=None)], "fact_sale keeps every version .* declared to keep the latest: declare"),
        ([dimension(record_id="version"), fact()], "dim_shop keeps the latest version .* by a new name"),
    ):
        planned = plan(warehouse, stars)
        assert [step.kind for step in planned.steps] == [Kind.CHANGE_KIND]
        with pytest.raises(EvolutionBlockedError, match=advice):
            apply(warehouse, planned, Phase.AT_ONCE, planned.tables)


def test_nullability_follows_the_declaration(warehouse: Connection) -> None:
    shop = dimension(columns=columns(shop_id=pa.int32(), town=optional(pa.string()), area=pa.float32()))
    assert kinds(apply_all(warehouse, shop, fact())) == [
        ("WITH_ROWS", "drop not null", "dim_shop"),
        ("WITH_ROWS", "drop not null", "dim_shop_versions"),
        ("AFTER_ROWS", "set not null", "dim_shop"),
        ("AFTER_ROWS", "set not null", "dim_shop_versions"),
    ]
    for table in ("dim_shop", "dim_shop_versions"):
        assert type_of(warehouse, table, "town")[1:] + type_of(warehouse, table, "area")[1:] == [False, True]


def test_a_step_does_not_wait_long_for_readers_and_the_limit_is_restored(
    warehouse: Connection, warehouse_url: str
) -> None:
    planned = plan(warehouse, widened())
    with connect(warehouse_url) as reader, transaction(reader):
        reader.run("SELECT * FROM warehouse.fact_sale_current")
        with pytest.raises(DatabaseUnavailableError, match="lock timeout"), transaction(warehouse):
            apply(warehouse, planned, Phase.AT_ONCE, planned.tables, patience=0.5)
    with transaction(warehouse):
        apply(warehouse, planned, Phase.AT_ONCE, planned.tables)
        assert warehouse.run("SHOW lock_timeout") == [["1min"]]


def test_a_step_gives_way_to_a_reader_who_would_wait_for_it_for_ever(warehouse: Connection, warehouse_url: str) -> None:
    planned = plan(warehouse, widened())

    def widen() -> None:
        with transaction(warehouse):
            apply(warehouse, planned, Phase.AT_ONCE, planned.tables)

    with connect(warehouse_url) as reader, connect(warehouse_url) as observer, ThreadPoolExecutor(1) as executor:
        with transaction(reader):
            reader.run("SELECT * FROM warehouse.fact_sale_current")
            applied = executor.submit(widen)
            until(lambda: observer.run("SELECT 1 FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"))
            assert reader.run("SELECT town FROM warehouse.dim_shop") == [["Leeds"]]
        applied.result()
    assert plan(warehouse, widened()).of(Phase.AT_ONCE, planned.tables) == ()


def test_a_load_leaves_tables_alone_that_wait_for_a_rebuild(warehouse: Connection) -> None:
    before = warehouse.run(_SNAPSHOT)
    changed = fact(description="Other.", columns=fact().columns.append(pa.field("more", pa.int32())))
    new = dimension(name="dim_new")
    with transaction(warehouse):
        assert create_missing(warehouse, [dimension(), new, changed], {"fact_sale", "dim_new"}) == []
    assert warehouse.run(_SNAPSHOT) == before


def test_a_load_accepts_a_column_that_is_not_yet_not_null_and_comments_on_what_there_is(warehouse: Connection) -> None:
    more = fact(columns=fact().columns.append(pa.field("discount", pa.int32(), nullable=False)))
    planned = plan(warehouse, [dimension(), more])
    warehouse.run(planned.steps[0].statements[0])
    create(warehouse, dimension(), more)
    assert "discount" not in column_names(warehouse, "fact_sale_current")


def test_a_column_cannot_be_declared_and_dropped() -> None:
    with pytest.raises(ValueError, match=r"dim_shop: columns that are declared and dropped: \['town'\]"):
        dimension(dropped=("town",))

    @star_table(primary_key=("shop_id",), columns=columns(shop_id=pa.int32()), dropped=("old",))
    def dim_shop(shop: pd.DataFrame) -> pd.DataFrame:
        """Shops."""
        return shop

    assert dim_shop.dropped == ("old",)


def test_descriptions_and_versions_ignore_how_a_column_was_called() -> None:
    [design] = [star for star in STAR_TABLES if star.name == "dim_design"]
    index = design.columns.get_field_index("file_name")
    renamed = renamed_from("file", design.columns.field("file_name")).with_name("file_name")
    star = replace(design, columns=design.columns.set(index, renamed))
    assert code_version(star) == code_version(design)
    star = replace(star, dropped=("old",))
    assert code_version(star) != code_version(design), "a rebuild drops it"
    catalog = with_descriptions(
        Catalog(TOTESYS_TABLES, tuple(star if each is design else each for each in STAR_TABLES))
    )
    described = catalog.star("dim_design")
    assert described.dropped == ("old",)
    assert described.columns.field("file_name").metadata[b"earlier_name"] == b"file"


def test_a_plan_says_what_is_changed_how_and_who_reads_it(warehouse: Connection) -> None:
    warehouse.run("CREATE VIEW mine AS SELECT town FROM warehouse.dim_shop")
    warehouse.run("ANALYZE warehouse.dim_shop")
    shop = dimension(columns=dimension().columns.append(pa.field("floor", pa.int16(), nullable=False)))
    text = as_text(plan(warehouse, [shop, fact()]), {"dim_shop": ["sales_by_town"]}, {"dim_shop": "about 2 minutes"})
    assert (
        re.sub(r"(AS SELECT|VALUES) .*;", r"\1 …;", text)
        == """\
dim_shop: rebuild, about 2 minutes
  add column floor smallint (at once; lock ACCESS EXCLUSIVE)
    ALTER TABLE warehouse."dim_shop" ADD COLUMN "floor" smallint;
  add column floor smallint in dim_shop_versions (at once; lock ACCESS EXCLUSIVE)
    ALTER TABLE warehouse."dim_shop_versions" ADD COLUMN "floor" smallint;
  change view dim_shop_history, as_of.dim_shop, as_of.dim_shop_versions, as_of.dim_shop_history \
(at once; lock ACCESS EXCLUSIVE)
    CREATE OR REPLACE VIEW warehouse."dim_shop_history" AS SELECT …;
    CREATE OR REPLACE VIEW as_of."dim_shop" AS SELECT …;
    CREATE OR REPLACE VIEW as_of."dim_shop_versions" AS SELECT …;
    CREATE OR REPLACE VIEW as_of."dim_shop_history" AS SELECT …;
    INSERT INTO warehouse.tables (star_table, views) VALUES …;
  set not null floor (after the rows; lock ACCESS EXCLUSIVE, about 1 rows)
    ALTER TABLE warehouse."dim_shop" ALTER COLUMN "floor" SET NOT NULL;
  set not null floor in dim_shop_versions (after the rows; lock ACCESS EXCLUSIVE, all rows)
    ALTER TABLE warehouse."dim_shop_versions" ALTER COLUMN "floor" SET NOT NULL;
  read by view mine
  reports: sales_by_town"""
    )


def test_the_command_prints_the_plan_and_changes_nothing(
    warehouse_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WAREHOUSE_DATABASE_URL", warehouse_url)
    with connect(warehouse_url) as connection:
        main(["plan"])
        assert "create table fact_payment" in capsys.readouterr().out
        assert connection.run("SELECT to_regnamespace('warehouse')::text") == [[None]]
        create(connection, *STARS)
        main(["plan"])
        assert capsys.readouterr().out == "nothing to change\n"
        connection.run("ALTER TABLE warehouse.dim_staff DROP COLUMN location")
        main(["plan"])
        printed = capsys.readouterr().out
        assert "add column location character varying (at once" in printed
        assert "reports: staff_league" in printed
    monkeypatch.delenv("WAREHOUSE_DATABASE_URL")
    with pytest.raises(SystemExit, match="WAREHOUSE_DATABASE_URL is not set"):
        main(["plan"])
    monkeypatch.setenv("WAREHOUSE_DATABASE_URL", "postgresql://etl@127.0.0.1:1/warehouse")
    with pytest.raises(SystemExit, match="no connection to PostgreSQL"):
        main(["plan"])


_AS_WAS = ["fact_sale_as_was", "as_of.fact_sale_as_was"]
_OF_SHOPS = ["dim_shop_history", "as_of.dim_shop", "as_of.dim_shop_versions", "as_of.dim_shop_history"]
_SALE_COLUMNS = ["sale_record_id", "sale_id", "shop_id", "units", "price", "sold_at", "captured_at", "deleted"]


def dated(*more: pa.Field, **changes: Any) -> StarTable:
    """Return the fact with the time of the sale, and more columns."""
    declared = [*fact().columns, *columns(sold_at=pa.timestamp("us")), *more]
    return fact(**({"columns": pa.schema(declared), "event_time": ("sold_at",)} | changes))


@pytest.fixture
def dated_warehouse(warehouse_url: str) -> Iterator[Connection]:
    """A warehouse with two versions of a dimension row, and a sale between them."""
    with connect(warehouse_url) as connection:
        create(connection, dimension(), dated())
        connection.run("INSERT INTO warehouse.dim_shop VALUES (1, 'York', 2.5, '2024-02-01')")
        connection.run(
            "INSERT INTO warehouse.dim_shop_versions "
            "VALUES (1, 'Leeds', 2.5, '2024-01-01'), (1, 'York', 2.5, '2024-02-01')"
        )
        connection.run(
            "INSERT INTO warehouse.fact_sale (sale_id, shop_id, units, price, sold_at, captured_at) "
            "VALUES (7, 1, 3, 9.99, '2024-01-15', '2024-02-01')"
        )
        yield connection


def shop_with(**types: pa.DataType | pa.Field) -> StarTable:
    """Return the dimension with other declarations of some columns, or more columns."""
    declared = {column.name: column for column in dimension().columns}
    return dimension(columns=pa.schema((declared | {column.name: column for column in columns(**types)}).values()))


_RENAMED_SHOP = dimension(
    columns=columns(shop_id=pa.int32(), city=renamed_from("town", pa.string()), area=optional(pa.float32()))
)
_SHOP_CHANGES: dict[str, tuple[StarTable, list[str]]] = {
    "a renamed column": (_RENAMED_SHOP, ["city", "area"]),
    "an added column": (shop_with(floor=optional(pa.int16())), ["town", "area", "floor"]),
    "a wider column": (shop_with(area=optional(pa.float64())), ["town", "area"]),
    "a column of another type": (shop_with(area=optional(pa.string())), ["town", "area"]),
    "a dropped column": (dimension(columns=columns(shop_id=pa.int32(), town=pa.string()), dropped=("area",)), ["town"]),
}
"""A dimension's declaration, and the columns without its key that its views have afterwards."""
_IN_PLACE = ("a renamed column", "an added column")


def view_properties(connection: Connection) -> dict[tuple[str, str], list[Any]]:
    """Return what others have set on the views, by view and column."""
    rows = connection.run(
        """SELECT concat(nullif(nspname || '.', 'warehouse.'), relname), attname::text, relacl::text, reloptions,
                  pg_get_userbyid(relowner)::text, obj_description(c.oid), attacl::text, col_description(c.oid, attnum)
           FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid
           WHERE nspname IN ('warehouse', 'as_of') AND relkind = 'v'"""
    )
    return {(view, column): properties for view, column, *properties in rows}


@pytest.mark.parametrize("name", _SHOP_CHANGES)
def test_views_that_read_a_changed_dimension_have_its_columns_and_keep_what_others_set(
    dated_warehouse: Connection, role: str, name: str
) -> None:
    shop, of_shop = _SHOP_CHANGES[name]
    dated_warehouse.run(f"GRANT ALL ON SCHEMA warehouse, as_of TO {role}")
    dated_warehouse.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA warehouse TO {role}")
    owned = ("as_of.fact_sale_as_was", "as_of.dim_shop")
    for view in (*_AS_WAS, *_OF_SHOPS):
        town = "shop_town" if view in _AS_WAS else "town"
        if view in owned:
            dated_warehouse.run(f"ALTER VIEW {qualified(view)} OWNER TO {role}")
        else:
            dated_warehouse.run(f"GRANT SELECT ON {qualified(view)} TO {role} WITH GRANT OPTION")
        dated_warehouse.run(f"GRANT SELECT ({town}) ON {qualified(view)} TO PUBLIC")
        dated_warehouse.run(f"COMMENT ON VIEW {qualified(view)} IS 'Mine.'")
        dated_warehouse.run(f"COMMENT ON COLUMN {qualified(view)}.{town} IS 'Where it is.'")
        dated_warehouse.run(f"ALTER VIEW {qualified(view)} SET (security_barrier = true)")
    before = view_properties(dated_warehouse)

    apply_all(dated_warehouse, shop, dated())

    for view in _AS_WAS:
        assert column_names(dated_warehouse, view) == [*_SALE_COLUMNS, *(f"shop_{column}" for column in of_shop)]
    for view in _OF_SHOPS:
        assert {*column_names(dated_warehouse, view)} >= {"shop_id", *of_shop}
    area = {"a wider column": "double precision", "a column of another type": "character varying"}.get(name, "real")
    if "area" in of_shop:
        for view, column in (("fact_sale_as_was", "shop_area"), ("as_of.dim_shop", "area")):
            assert type_of(dated_warehouse, view, column) == [area, False]
    after = view_properties(dated_warehouse)
    new_names = {"town": "city", "shop_town": "shop_city"} if name == "a renamed column" else {}
    expected = {(view, new_names.get(column, column)): properties for (view, column), properties in before.items()}
    assert {place: after[place] for place in expected.keys() & after.keys()} == {
        place: properties for place, properties in expected.items() if place in after
    }
    assert {column for _, column in expected.keys() - after.keys()} == (
        {"area", "shop_area"} if name == "a dropped column" else set()
    )
    assert dated_warehouse.run(f"SELECT shop_{of_shop[0]} FROM warehouse.fact_sale_as_was") == [["Leeds"]]


@pytest.mark.parametrize("name", _SHOP_CHANGES)
@pytest.mark.parametrize("relation", ["warehouse.fact_sale_as_was", "as_of.fact_sale_as_was", "as_of.dim_shop"])
def test_an_analysts_view_on_the_star_as_was_blocks_only_what_postgresql_refuses(
    dated_warehouse: Connection, relation: str, name: str
) -> None:
    shop, _ = _SHOP_CHANGES[name]
    dated_warehouse.run(f"CREATE VIEW mine AS SELECT * FROM {relation}")
    if name in _IN_PLACE:
        apply_all(dated_warehouse, shop, dated())
        assert len(dated_warehouse.run("SELECT * FROM mine")) == 1
        return
    before = dated_warehouse.run(_SNAPSHOT)
    planned = plan(dated_warehouse, [shop, dated()])
    message = "cannot be changed because of view mine: keep its definition and drop it, let the change be applied"
    with pytest.raises(EvolutionBlockedError, match=message), transaction(dated_warehouse):
        apply(dated_warehouse, planned, Phase.AT_ONCE, ["dim_shop"])
    assert dated_warehouse.run(_SNAPSHOT) == before
    assert "read by view mine" in as_text(planned)
    dated_warehouse.run("DROP VIEW mine")
    apply_all(dated_warehouse, shop, dated())


def test_the_columns_of_a_fact_change_in_its_view_as_was(dated_warehouse: Connection, role: str) -> None:
    dated_warehouse.run("CREATE VIEW mine AS SELECT units, shop_town FROM warehouse.fact_sale_as_was")
    renamed = dated()
    pieces = renamed_from("units", pa.int32()).with_name("pieces").with_nullable(False)
    renamed = replace(renamed, columns=renamed.columns.set(2, pieces).append(pa.field("note", pa.string())))
    apply_all(dated_warehouse, dimension(), renamed)
    for view in _AS_WAS:
        names = ["pieces" if name == "units" else name for name in _SALE_COLUMNS]
        assert column_names(dated_warehouse, view) == [*names, "shop_town", "shop_area", "note"]
    assert dated_warehouse.run("SELECT * FROM mine") == [[3, "Leeds"]]
    dated_warehouse.run("DROP VIEW mine")
    dated_warehouse.run(f"GRANT SELECT ON warehouse.fact_sale_as_was TO {role}")
    wider = replace(renamed, columns=renamed.columns.set(2, pieces.with_type(pa.int64())))
    apply_all(dated_warehouse, dimension(), wider)
    assert type_of(dated_warehouse, "fact_sale_as_was", "pieces") == ["bigint", False]
    assert dated_warehouse.run(f"SELECT has_table_privilege('{role}', 'warehouse.fact_sale_as_was', 'SELECT')") == [
        [True]
    ]


def test_views_as_was_that_are_missing_are_planned(dated_warehouse: Connection) -> None:
    before = dated_warehouse.run(_SNAPSHOT.replace("c.oid::text", "''").replace("BY c.oid", "BY 1"))
    dated_warehouse.run("DROP VIEW warehouse.fact_sale_as_was, as_of.fact_sale_as_was")
    assert kinds(apply_all(dated_warehouse, dimension(), dated())) == [("AFTER_ROWS", "create view", "fact_sale")]
    create(dated_warehouse, dimension(), dated())
    after = dated_warehouse.run(_SNAPSHOT.replace("c.oid::text", "''").replace("BY c.oid", "BY 1"))
    assert after == before


def test_a_column_that_is_no_longer_declared_stays_in_the_view_as_was(dated_warehouse: Connection) -> None:
    dated_warehouse.run("ALTER TABLE warehouse.dim_shop_versions ADD remark text")
    dated_warehouse.run("CREATE VIEW mine AS SELECT units, shop_area FROM warehouse.fact_sale_as_was")
    shop = dimension(columns=columns(shop_id=pa.int32(), town=pa.string()))
    less = replace(dated(), columns=dated().columns.remove(2))
    assert {kind for _, kind, _ in kinds(apply_all(dated_warehouse, shop, less))} == {"keep column"}
    more = replace(less, columns=less.columns.append(pa.field("note", pa.string())))
    apply_all(dated_warehouse, replace(shop, columns=shop.columns.append(pa.field("floor", pa.int16()))), more)
    for view in _AS_WAS:
        names = [*_SALE_COLUMNS, "shop_town", "shop_area", "note", "shop_floor"]
        assert column_names(dated_warehouse, view) == names, "and not a column of somebody else"
    assert dated_warehouse.run("SELECT * FROM mine") == [[3, 2.5]]


def test_a_changed_key_changes_the_view_as_was_with_the_rows(dated_warehouse: Connection) -> None:
    dated_warehouse.run("CREATE VIEW mine AS SELECT sale_id, shop_town FROM warehouse.fact_sale_as_was")
    rekeyed = dated(pa.field("ticket", pa.string(), nullable=False), primary_key=("ticket",))
    planned = plan(dated_warehouse, [dimension(), rekeyed])
    with transaction(dated_warehouse):
        apply(dated_warehouse, planned, Phase.AT_ONCE, planned.tables)
    assert "ticket" not in column_names(dated_warehouse, "fact_sale_as_was"), "no row has one yet"
    apply_all(
        dated_warehouse,
        dimension(),
        rekeyed,
        replace_rows=lambda: dated_warehouse.run("UPDATE warehouse.fact_sale SET ticket = 'a'"),
    )
    [[view]] = dated_warehouse.run("SELECT pg_get_viewdef('warehouse.fact_sale_as_was'::regclass)")
    assert "DISTINCT ON (fact_sale.ticket)" in view
    assert dated_warehouse.run("SELECT * FROM mine") == [[7, "Leeds"]]


@pytest.mark.parametrize("price", [pa.decimal128(10, 2), pa.decimal128(12, 2), pa.string()])
def test_a_new_dimension_is_joined_in_the_view_as_was_after_the_rows_and_a_grant_is_kept(
    dated_warehouse: Connection, role: str, price: pa.DataType
) -> None:
    """Whatever else changes with it: the table of the dimension is created with its rows, as a rebuild does."""
    dated_warehouse.run(f"GRANT SELECT ON warehouse.fact_sale_as_was TO {role}")
    region = dimension(
        name="dim_region", primary_key=("region_id",), columns=columns(region_id=pa.int32(), name=pa.string())
    )
    sale = dated(
        pa.field("region_id", pa.int32(), nullable=False),
        foreign_keys={"shop_id": "dim_shop", "region_id": "dim_region"},
    )
    sale = replace(sale, columns=sale.columns.set(3, pa.field("price", price)))
    stars = [dimension(), region, sale]
    planned = plan(dated_warehouse, stars)
    with transaction(dated_warehouse):
        apply(dated_warehouse, planned, Phase.AT_ONCE, {"fact_sale"})
    for view in _AS_WAS:
        assert {*column_names(dated_warehouse, view)} - {"region_id"} == {*_SALE_COLUMNS, "shop_town", "shop_area"}
    with transaction(dated_warehouse):
        apply(dated_warehouse, plan(dated_warehouse, stars), Phase.WITH_ROWS, {"fact_sale"})
        create_missing(dated_warehouse, stars)
        for table in ("dim_region", "dim_region_versions"):
            dated_warehouse.run(f"INSERT INTO warehouse.{table} VALUES (5, 'North', '2024-02-01')")
        dated_warehouse.run("UPDATE warehouse.fact_sale SET region_id = 5")
        apply(dated_warehouse, plan(dated_warehouse, stars), Phase.AFTER_ROWS, {"fact_sale"})
    assert plan(dated_warehouse, stars) == Plan()
    for view in _AS_WAS:
        assert {*column_names(dated_warehouse, view)} == {
            *_SALE_COLUMNS, "shop_town", "shop_area", "region_id", "region_name"
        }  # fmt: skip
        assert dated_warehouse.run(f"SELECT shop_town, region_name FROM {qualified(view)}") == [["Leeds", "North"]]
    granted = f"SELECT has_table_privilege('{role}', 'warehouse.fact_sale_as_was', 'SELECT')"
    assert dated_warehouse.run(granted) == [[True]]


def test_a_fact_that_gets_another_dimension_has_its_columns_in_place_of_those_of_the_other(
    dated_warehouse: Connection, role: str
) -> None:
    dated_warehouse.run(f"GRANT SELECT ON warehouse.fact_sale_as_was TO {role}")
    place = dimension(name="dim_place", columns=columns(shop_id=pa.int32(), country=pa.string()))
    sale = dated(foreign_keys={"shop_id": "dim_place"})

    def replace_rows() -> None:
        for table in ("dim_place", "dim_place_versions"):
            dated_warehouse.run(f"INSERT INTO warehouse.{table} VALUES (1, 'England', '2024-01-01')")

    wider = shop_with(area=optional(pa.float64()))  # which the view still reads
    apply_all(dated_warehouse, wider, place, sale, replace_rows=replace_rows)
    for view in _AS_WAS:
        assert column_names(dated_warehouse, view) == [*_SALE_COLUMNS, "shop_country"]
    granted = f"SELECT has_table_privilege('{role}', 'warehouse.fact_sale_as_was', 'SELECT')"
    assert dated_warehouse.run(granted) == [[True]]


def test_a_step_takes_the_lock_that_it_names(dated_warehouse: Connection) -> None:
    shop = dimension(
        primary_key=("number",),
        columns=columns(
            number=pa.int32(), city=renamed_from("town", pa.string()), area=optional(pa.float64()), size=pa.int16()
        ),
    )
    sale = dated(
        columns=columns(sale_id=pa.int64(), shop_id=pa.int32(), price=pa.float64(), sold_at=pa.timestamp("us")),
        dropped=("units",),
    )
    strength = ["", "ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE"]
    strength += ["SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"]
    planned = plan(dated_warehouse, [shop, sale])
    assert {step.kind for step in planned.steps} >= {
        Kind.DROP_VIEW,
        Kind.CREATE_VIEW,
        Kind.CHANGE_KEY,
        Kind.SET_NOT_NULL,
    }
    for step in planned.steps:
        if step.phase == Phase.AFTER_ROWS:
            update_shop(dated_warehouse, "number = 1, size = 1")
            dated_warehouse.run("UPDATE warehouse.fact_sale SET price = 1")
        with transaction(dated_warehouse):
            for statement in step.statements:
                dated_warehouse.run(statement)
            modes = dated_warehouse.run(
                """SELECT DISTINCT mode FROM pg_locks LEFT JOIN pg_class c ON c.oid = relation
                   WHERE pid = pg_backend_pid() AND locktype = 'relation' AND (relname IS NULL OR relname <> 'tables'
                   AND relkind IN ('r', 'v') AND relnamespace IN ('warehouse'::regnamespace, 'as_of'::regnamespace))"""
            )
        taken = {
            "".join(f" {c}" if c.isupper() else c for c in mode.removesuffix("Lock")).strip().upper()
            for [mode] in modes
        }
        assert max(taken, key=strength.index) == step.lock, step.kind
    assert plan(dated_warehouse, [shop, sale]) == Plan()
