"""Rules that hold for the warehouse tables, whoever has written to them."""

from collections.abc import Container, Mapping, Set
from dataclasses import dataclass

from etl_assets.adapters.postgres import Connection, column_list, join_condition, quote_identifier, transaction
from etl_assets.catalog.stages import WAREHOUSE
from etl_assets.schema.columns import CAPTURED_AT, DELETED
from etl_assets.schema.table import Catalog
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import stored_tables
from etl_assets.warehouse.quarantine import outstanding
from etl_assets.warehouse.relations import current, relation

_NEWEST_ROWS = 1_000


@dataclass(frozen=True)
class Audit:
    """The number of rows of a table that break a rule. All are zero in a sound warehouse.

    outstanding: rows whose latest version is quarantined.
    duplicates: rows that repeat the key of another row.
    dangling: foreign keys that do not resolve.
    not_current: of the newest facts, those that the `_current` view lacks, repeats, or has although they are deleted.
    """

    outstanding: int = 0
    duplicates: int = 0
    dangling: int = 0
    not_current: int = 0


def audit_tables(connection: Connection, catalog: Catalog[StarTable], names: Container[str]) -> dict[str, Audit]:
    """Return by star table how many rows break a rule, as of one snapshot. Only those named are looked at."""
    with transaction(connection, snapshot=True):
        constraints = _constraints(connection)
        return {
            star.name: _audit(connection, star, catalog.references(star), constraints)
            if star.name in names
            else Audit()
            for star in catalog.stars
        }


@dataclass(frozen=True)
class _Constraint:
    """A validated constraint: the names of its table, of its columns, and of the table that it references, if any."""

    table: str
    columns: frozenset[str]
    references: str | None = None


def _constraints(connection: Connection) -> set[_Constraint]:
    """Return the keys of the warehouse, and the foreign keys that reference its tables."""
    rows = connection.run(
        """SELECT t.relname::text, r.relname::text,
                  ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY(conkey))
           FROM pg_constraint JOIN pg_class t ON t.oid = conrelid LEFT JOIN pg_class r ON r.oid = confrelid
           WHERE contype IN ('p', 'u', 'f') AND convalidated
           AND t.relnamespace = to_regnamespace(:schema)
           AND coalesce(r.relnamespace, t.relnamespace) = t.relnamespace""",
        schema=WAREHOUSE,
    )
    return {_Constraint(table, frozenset(columns), references) for table, references, columns in rows}


def _audit(
    connection: Connection, star: StarTable, references: Mapping[str, StarTable], constraints: Set[_Constraint]
) -> Audit:
    """Return how many rows break a rule. The table is scanned only for a rule that no constraint enforces."""
    tables = stored_tables([star])
    return Audit(
        outstanding=outstanding(connection, star),
        duplicates=sum(
            _duplicates(connection, table)
            for table in tables
            if _Constraint(table.name, frozenset(_key(table))) not in constraints
        ),
        dangling=sum(
            _dangling(connection, table, column, to)
            for table in tables
            for column, to in references.items()
            if _Constraint(table.name, frozenset([column]), to.name) not in constraints
        ),
        not_current=_not_current(connection, star, star.record_id) if star.record_id else 0,
    )


def _key(star: StarTable) -> tuple[str, ...]:
    return (*star.primary_key, CAPTURED_AT) if star.keeps_every_version else star.primary_key


def _duplicates(connection: Connection, star: StarTable) -> int:
    groups = f"SELECT count(*) n FROM {relation(star)} GROUP BY {column_list(_key(star))}"
    [[count]] = connection.run(f"SELECT coalesce(sum(n - 1), 0) FROM ({groups}) keys")
    return int(count)


def _dangling(connection: Connection, star: StarTable, column: str, to: StarTable) -> int:
    value, key = f"fact.{quote_identifier(column)}", f"referenced.{quote_identifier(*to.primary_key)}"
    [[count]] = connection.run(
        f"""SELECT count(*) FROM {relation(star)} fact WHERE {value} IS NOT NULL
            AND NOT EXISTS (SELECT FROM {relation(to)} referenced WHERE {key} = {value})"""
    )
    return int(count)


def _not_current(connection: Connection, star: StarTable, record_id: str) -> int:
    key, first = column_list(star.primary_key), quote_identifier(star.primary_key[0])
    [[count]] = connection.run(
        f"""WITH newest AS (
                SELECT DISTINCT {key} FROM (
                    SELECT {key} FROM {relation(star)}
                    ORDER BY {quote_identifier(record_id)} DESC LIMIT {_NEWEST_ROWS}) rows),
            present AS (
                SELECT {key}, count(*) AS times FROM {current(star)}
                WHERE {first} = ANY(ARRAY(SELECT {first} FROM newest)) GROUP BY {key})
            SELECT count(*) FROM newest LEFT JOIN present USING ({key})
            WHERE coalesce(times, 0) <> (
                SELECT CASE WHEN {DELETED} THEN 0 ELSE 1 END FROM {relation(star)} version
                WHERE {join_condition(star.primary_key, "version", "newest")} ORDER BY {CAPTURED_AT} DESC LIMIT 1)"""
    )
    return int(count)
