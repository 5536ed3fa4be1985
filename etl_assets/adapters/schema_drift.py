"""Live PostgreSQL tables, compared with their declarations."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from etl_assets.adapters.postgres import Connection, quote_identifier
from etl_assets.schema.columns import enum_values
from etl_assets.schema.errors import SchemaMismatchError
from etl_assets.schema.types import arrow_type


@dataclass(frozen=True)
class _LiveColumn:
    sql: str
    nullable: bool
    enum: tuple[str, ...]

    def problems(self, name: str, declared: pa.Field) -> Iterator[str]:
        if arrow_type(self.sql, is_enum=bool(self.enum)) != declared.type:
            yield f"{name} is {self.sql}, declared {declared.type}"
        elif self.nullable and not declared.nullable:
            yield f"{name} is nullable, declared NOT NULL"
        values = enum_values(declared)
        if values and not self.enum:
            yield f"{name} is {self.sql}, declared one of {', '.join(values)}"
        elif values:
            yield from (f"{name} allows {value}, which is not declared" for value in self.enum if value not in values)


@dataclass(frozen=True)
class Drift:
    """How a live table differs harmlessly from its declaration.

    undeclared: its columns that are not declared.
    stricter: those that are NOT NULL, and declared nullable.
    """

    undeclared: tuple[str, ...] = ()
    stricter: tuple[str, ...] = ()


_MISSING = _LiveColumn("missing", nullable=False, enum=())


def schema_drift(
    connection: Connection, schema: str, where: str, expected: Mapping[str, pa.Schema]
) -> dict[str, Drift]:
    """Return how the live tables of a schema differ harmlessly from the declared columns. `where` names the database.

    Raises:
        SchemaMismatchError: a declared table or column is missing, or cannot be read; or a column has another type, is
            nullable though declared NOT NULL, or allows an enum value that is not declared.
    """
    live: dict[str, dict[str, _LiveColumn]] = {}
    unreadable = set()
    for table, readable, column, sql, nullable, values in connection.run(
        """SELECT c.relname::text, has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'),
                  a.attname::text, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull,
                  (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e
                   WHERE e.enumtypid = a.atttypid)
           FROM pg_class c
           JOIN pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_attribute a ON a.attrelid = c.oid
           WHERE n.nspname = :schema AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
           ORDER BY c.relname, a.attnum""",
        schema=schema,
    ):
        live.setdefault(table, {})[column] = _LiveColumn(sql, nullable, tuple(values or ()))
        if not readable:
            unreadable.add(table)
    problems = []
    for table, declared in expected.items():
        if table not in live:
            problems.append(f"table {table} is missing")
            continue
        for column in declared:
            problems += live[table].get(column.name, _MISSING).problems(f"column {table}.{column.name}", column)
    if closed := sorted(unreadable & expected.keys()):
        problems.append(f"{', '.join(closed)} cannot be read: run {_grants(connection, schema, closed)}")
    if problems:
        raise SchemaMismatchError(where, problems)
    return {table: _drift(live[table], declared) for table, declared in expected.items()}


def _grants(connection: Connection, schema: str, tables: Iterable[str]) -> str:
    """Return the statements that let the user read tables of a schema."""
    [[user]] = connection.run("SELECT quote_ident(current_user)")
    place = quote_identifier(schema)
    names = ", ".join(f"{place}.{quote_identifier(table)}" for table in tables)
    return f"GRANT USAGE ON SCHEMA {place} TO {user}; GRANT SELECT ON {names} TO {user}"


def _drift(live: Mapping[str, _LiveColumn], declared: pa.Schema) -> Drift:
    return Drift(
        undeclared=tuple(name for name in live if name not in declared.names),
        stricter=tuple(
            name
            for name, column in live.items()
            if name in declared.names and declared.field(name).nullable and not column.nullable
        ),
    )
