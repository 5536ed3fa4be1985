"""Rules that hold for the warehouse tables, whoever has written to them."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from etl_assets.adapters.postgres import Connection, column_list, join_condition, quote_identifier, transaction
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.table import Catalog
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import DELETED, current, relation
from etl_assets.warehouse.quarantine import outstanding

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
        return {
            star.name: audit(connection, star, catalog.references(star)) if star.name in names else Audit()
            for star in catalog.stars
        }


def audit(connection: Connection, star: StarTable, references: Mapping[str, StarTable]) -> Audit:
    """Return how many rows break a rule. The table is scanned only for a rule that no constraint enforces."""
    key = (*star.primary_key, CAPTURED_AT) if star.keeps_every_version else star.primary_key
    return Audit(
        outstanding=outstanding(connection, star),
        duplicates=0 if _is_enforced(connection, star, "pu", key) else _duplicates(connection, star, key),
        dangling=sum(
            _dangling(connection, star, column, to)
            for column, to in references.items()
            if not _is_enforced(connection, star, "f", [column], to)
        ),
        not_current=_not_current(connection, star, star.record_id) if star.record_id else 0,
    )


def _is_enforced(
    connection: Connection, star: StarTable, kinds: str, columns: Sequence[str], to: StarTable | None = None
) -> bool:
    """Whether there is a validated constraint on exactly these columns.

    `kinds` are values of `pg_constraint.contype`; `to` is the table that a foreign key must reference.
    """
    constraints = connection.run(
        """SELECT 1 FROM pg_constraint
           WHERE conrelid = to_regclass(:relation) AND contype = ANY(:kinds) AND convalidated
           AND (CAST(:to AS text) IS NULL OR confrelid = to_regclass(:to))
           AND (SELECT array_agg(attname::text ORDER BY attname) FROM pg_attribute
                WHERE attrelid = conrelid AND attnum = ANY(conkey)) = :columns""",
        relation=relation(star),
        kinds=list(kinds),
        to=relation(to) if to else None,
        columns=sorted(columns),
    )
    return bool(constraints)


def _duplicates(connection: Connection, star: StarTable, key: Sequence[str]) -> int:
    groups = f"SELECT count(*) n FROM {relation(star)} GROUP BY {column_list(key)}"
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
