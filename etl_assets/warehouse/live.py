"""The tables and views of the warehouse as they are, with what others have built on them: the catalog of PostgreSQL."""

from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from etl_assets.adapters.postgres import Connection
from etl_assets.schema.types import arrow_type
from etl_assets.warehouse.ddl import live_comments
from etl_assets.warehouse.relations import TABLES, is_ours, live_name


@dataclass(frozen=True)
class LiveColumn:
    """A column of a table or view.

    type: None if no Arrow type holds its values.
    fills_itself: whether it has a default, or is generated.
    """

    type: pa.DataType | None
    not_null: bool
    fills_itself: bool


@dataclass(frozen=True)
class LiveRelation:
    """A table or a view (`kind` v), with the estimated number of its rows, and its columns in order."""

    kind: str
    rows: int
    columns: dict[str, LiveColumn]


@dataclass(frozen=True)
class LiveConstraint:
    """A primary key (p), unique (u) or foreign key (f) constraint that is on a table of the warehouse or references it.

    table: None if it is on a table elsewhere. references: likewise.
    """

    name: str
    kind: str
    table: str | None
    columns: tuple[str, ...]
    references: str | None
    referenced_columns: tuple[str, ...]
    description: str


@dataclass(frozen=True)
class Dependent:
    """What depends on a table or view of the warehouse: on a column, on a constraint, or on the whole."""

    on: str
    column: str | None
    constraint: str | None
    reader: str | None
    description: str


class LiveWarehouse:
    """What the catalog of PostgreSQL says of the schema: each part is read once, when it is needed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def relations(self) -> dict[str, LiveRelation]:
        """The tables and views, by name."""
        relations: dict[str, LiveRelation] = {}
        for name, kind, rows, column, sql, is_enum, not_null, fills_itself in self._connection.run(
            f"""SELECT {live_name("c")}, c.relkind::text, greatest(c.reltuples, 0)::bigint, a.attname::text,
                      format_type(a.atttypid, a.atttypmod), t.typtype = 'e', a.attnotnull,
                      a.atthasdef OR a.attidentity <> ''
               FROM pg_class c
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               JOIN pg_type t ON t.oid = a.atttypid
               WHERE {is_ours("c")} AND c.relkind IN ('r', 'p', 'v')
               ORDER BY c.relname, a.attnum"""
        ):
            columns = relations.setdefault(name, LiveRelation(kind, rows, {})).columns
            columns[column] = LiveColumn(arrow_type(sql, is_enum=is_enum), not_null, fills_itself)
        return relations

    @cached_property
    def constraints(self) -> list[LiveConstraint]:
        """The keys of the tables, and the foreign keys that reference them."""
        columns = """ARRAY(SELECT a.attname::text FROM unnest({numbers}) WITH ORDINALITY AS n (number, position)
                     JOIN pg_attribute a ON a.attrelid = {of} AND a.attnum = n.number ORDER BY n.position)"""
        rows = self._connection.run(
            f"""SELECT k.conname::text, k.contype::text,
                       CASE WHEN {is_ours("t")} THEN {live_name("t")} END,
                       {columns.format(numbers="k.conkey", of="k.conrelid")},
                       CASE WHEN {is_ours("r")} THEN {live_name("r")} END,
                       {columns.format(numbers="k.confkey", of="k.confrelid")},
                       pg_describe_object('pg_constraint'::regclass, k.oid, 0)
                FROM pg_constraint k
                JOIN pg_class t ON t.oid = k.conrelid
                LEFT JOIN pg_class r ON r.oid = k.confrelid
                WHERE k.contype IN ('p', 'u', 'f') AND k.conparentid = 0
                AND ({is_ours("t")} OR {is_ours("r")})
                ORDER BY k.conname, k.oid"""
        )
        return [
            LiveConstraint(name, kind, table, tuple(own), references, tuple(referenced), description)
            for name, kind, table, own, references, referenced, description in rows
        ]

    @cached_property
    def dependents(self) -> list[Dependent]:
        """What depends on the tables and views, without the rules that make a view of one, and its own default."""
        rows = self._connection.run(
            f"""SELECT DISTINCT {live_name("c")}, a.attname::text, k.conname::text,
                      CASE WHEN {is_ours("v")} THEN {live_name("v")} END,
                      CASE WHEN r.rulename = '_RETURN' THEN pg_describe_object('pg_class'::regclass, v.oid, 0)
                           ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END
               FROM pg_depend d
               LEFT JOIN pg_constraint k ON d.refclassid = 'pg_constraint'::regclass AND k.oid = d.refobjid
               JOIN pg_class c ON c.oid = coalesce(k.conrelid, d.refobjid)
               LEFT JOIN pg_attribute a ON d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
                    AND a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
               LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
               LEFT JOIN pg_class v ON v.oid = r.ev_class
               LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
               LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
               WHERE {is_ours("c")}
               AND (d.refclassid = 'pg_class'::regclass OR k.oid IS NOT NULL)
               AND d.classid IN ('pg_rewrite'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass,
                                 'pg_proc'::regclass, 'pg_attrdef'::regclass, 'pg_publication_rel'::regclass)
               AND NOT (r.rulename = '_RETURN' AND r.ev_class = c.oid AND k.oid IS NULL) IS TRUE
               AND NOT (f.adrelid = c.oid AND f.adnum = d.refobjsubid) IS TRUE
               AND NOT t.tgisinternal IS TRUE
               ORDER BY 1, 5, 2, 3"""
        )
        return [Dependent(*row) for row in rows]

    @cached_property
    def noted_views(self) -> dict[str, str]:
        """The hashes of the queries of views, by star table."""
        if TABLES.rpartition(".")[2] not in self.relations:
            return {}
        rows = self._connection.run(f"SELECT star_table, views FROM {TABLES} WHERE views IS NOT NULL")
        return dict(rows)

    @cached_property
    def comments(self) -> dict[tuple[str, str | None], str | None]:
        """The comments on tables, views and columns."""
        return live_comments(self._connection)

    @cached_property
    def view_options(self) -> dict[str, dict[str, str]]:
        """The options of views that have some, such as `security_barrier`."""
        rows = self._connection.run(
            f"""SELECT {live_name("c")}, reloptions FROM pg_class c
                WHERE {is_ours("c")} AND relkind = 'v' AND reloptions IS NOT NULL"""
        )
        return {name: dict(option.split("=", 1) for option in options) for name, options in rows}

    @cached_property
    def view_owners(self) -> dict[str, str]:
        """The owners of views that are owned by somebody else."""
        rows = self._connection.run(
            f"""SELECT {live_name("c")}, pg_get_userbyid(relowner)::text FROM pg_class c
               WHERE {is_ours("c")} AND relkind = 'v'
               AND pg_get_userbyid(relowner) <> current_user"""
        )
        return dict(rows)

    @cached_property
    def view_grants(self) -> list[tuple[str, str | None, str, bool, str | None]]:
        """Each privilege on a view: view, column, privilege, whether it may be granted on, and the role (None: all)."""
        rows = self._connection.run(
            f"""SELECT {live_name("c")}, a.attname::text, g.privilege_type, g.is_grantable,
                      CASE WHEN g.grantee <> 0 THEN pg_get_userbyid(g.grantee)::text END
               FROM pg_class c
               CROSS JOIN LATERAL (
                   SELECT NULL::name AS attname, c.relacl AS acl
                   UNION ALL SELECT attname, attacl FROM pg_attribute
                   WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
               ) a
               CROSS JOIN LATERAL aclexplode(a.acl) g
               WHERE {is_ours("c")} AND c.relkind = 'v' AND g.grantee <> c.relowner
               ORDER BY 1, 2, 5, 3"""
        )
        return [tuple(row) for row in rows]
