"""What the tables of the source are, besides their rows: docs/adr/0012-captures-through-ddl.md."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pyarrow as pa

from etl_assets.adapters.postgres import Connection
from etl_assets.ingestion.manifest import LiveColumn, LiveTable
from etl_assets.schema.columns import earlier_name
from etl_assets.schema.table import JoinDependency, Table

MEMBERS = """
    WITH RECURSIVE member (root, oid) AS (
        SELECT c.oid, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = :schema AND c.relname = ANY(:tables) AND c.relkind IN ('r', 'p')
        UNION ALL
        SELECT member.root, i.inhrelid FROM member JOIN pg_inherits i ON i.inhparent = member.oid)"""
"""A table (`root`) with all its partitions and the tables that inherit from it: these hold its rows."""

# One row per table.
_LIVE_TABLES = f"""{MEMBERS},
    col AS (
        SELECT a.*, format_type(a.atttypid, a.atttypmod) AS type,
               has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
        FROM pg_attribute a WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid IN (SELECT root FROM member))
    SELECT c.relname::text,
           c.oid::text,
           (SELECT string_agg(format('%s %s', m.oid, pg_relation_filenode(m.oid)), E'\\n' ORDER BY m.oid)
            FROM member m WHERE m.root = c.oid),
           (SELECT string_agg(format('%s %s %s', col.attnum, col.type, col.attname), E'\\n' ORDER BY col.attnum)
            FROM col WHERE col.attrelid = c.oid),
           (SELECT string_agg(format('%s %s', col.attnum, col.attmissingval), E'\\n' ORDER BY col.attnum)
            FROM col WHERE col.attrelid = c.oid AND col.atthasmissing),
           (SELECT string_agg(format('%s %s', e.oid, e.enumlabel), E'\\n' ORDER BY e.oid)
            FROM pg_enum e WHERE e.enumtypid IN (SELECT col.atttypid FROM col WHERE col.attrelid = c.oid)),
           (SELECT string_agg(format('%s %s', d.adnum, pg_get_expr(d.adbin, d.adrelid)), E'\\n' ORDER BY d.adnum)
            FROM pg_attrdef d JOIN col ON col.attrelid = d.adrelid AND col.attnum = d.adnum
            WHERE d.adrelid = c.oid AND col.attgenerated <> ''),
           (SELECT array_agg(col.attname::text ORDER BY col.attnum) FROM col
            WHERE col.attrelid = c.oid AND col.readable),
           (SELECT array_agg(col.type ORDER BY col.attnum) FROM col WHERE col.attrelid = c.oid AND col.readable),
           (SELECT array_agg(col.attnum::int ORDER BY col.attnum) FROM col WHERE col.attrelid = c.oid AND col.readable)
    FROM pg_class c WHERE c.oid IN (SELECT root FROM member)"""
_ASPECTS = ("OID", "storage", "columns", "stored defaults", "enum labels", "generated columns")


def live_tables(connection: Connection, schema: str, tables: Iterable[Table]) -> dict[str, LiveTable]:
    """Return what the declared tables of a schema are now; a table that does not exist is left out."""
    declared = {table.name: table for table in tables}
    live = {}
    for name, *aspects, columns, types, positions in connection.run(_LIVE_TABLES, schema=schema, tables=[*declared]):
        live[name] = LiveTable(
            columns=tuple(
                LiveColumn(*column)
                for column in zip(columns or (), types or (), positions or (), strict=True)
                if column[0] not in declared[name].excluded
            ),
            fingerprint={
                aspect: hashlib.sha256(value.encode()).hexdigest()[:16]
                for aspect, value in zip(_ASPECTS, aspects, strict=True)
                if value is not None
            },
        )
    return live


def tables_with_policies(connection: Connection, schema: str, tables: Iterable[Table]) -> list[str]:
    """Return the declared tables of which a policy may hide rows from the user. A capture of them fails."""
    rows = connection.run(
        """SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = :schema AND c.relname = ANY(:tables) AND row_security_active(c.oid) ORDER BY 1""",
        schema=schema,
        tables=[table.name for table in tables],
    )
    return [name for [name] in rows]


def full_table_reasons(
    before: Mapping[str, LiveTable], now: Mapping[str, LiveTable], join_dependencies: Iterable[JoinDependency]
) -> dict[str, str]:
    """Return why tables must be captured whole, although row versions tell what was written: by table.

    These are the tables that are no longer what they were, and those that they join to, directly or not.
    """
    joins = tuple(join_dependencies)
    changed = {name: reason for name, table in now.items() if (reason := _difference(before.get(name), table))}
    reasons = dict(changed)
    for name, reason in changed.items():
        for joined in join_group(name, joins):
            reasons.setdefault(joined, f"it joins to {name}: {reason}")
    return reasons


def _difference(before: LiveTable | None, now: LiveTable) -> str | None:
    if before is None:
        return "it is captured for the first time"
    changed = [aspect for aspect in _ASPECTS if before.fingerprint.get(aspect) != now.fingerprint.get(aspect)]
    if not changed and before.columns != now.columns:
        changed = ["captured columns"]
    return f"its {' and '.join(changed)} changed" if changed else None


def join_group(table: str, join_dependencies: Iterable[JoinDependency]) -> set[str]:
    """Return a table with all that it joins to, directly or not."""
    joins = tuple(join_dependencies)
    group = {table}
    while more := {
        name for join in joins if group & {join.table, join.to} for name in (join.table, join.to) if name not in group
    }:
        group |= more
    return group


def as_live(table: Table, live: LiveTable) -> Table:
    """Return a declared table with the names that its columns have now, if those are their earlier ones."""
    names = {column.name: live_name(column, live.names) for column in table.columns}
    return replace(
        table,
        columns=pa.schema(column.with_name(names[column.name]) for column in table.columns),
        primary_key=tuple(names[name] for name in table.primary_key),
        foreign_keys={names[name]: to for name, to in table.foreign_keys.items()},
    )


def live_name(column: pa.Field, present: Iterable[str]) -> str:
    """Return the name of a declared column among those present: its earlier one, if only that is there."""
    earlier, names = earlier_name(column), {*present}
    return earlier if earlier and column.name not in names and earlier in names else str(column.name)
