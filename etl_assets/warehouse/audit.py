"""What must be true of the tables of the warehouse, whoever has written to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etl_assets.databases import Connection, equal, names, quoted
from etl_assets.tables import CAPTURED_AT
from etl_assets.transformation.declare import StarTable
from etl_assets.warehouse.quarantine import outstanding
from etl_assets.warehouse.schema import DELETED, current, relation

_SAMPLED = 1_000


@dataclass(frozen=True)
class Audit:
    """The rows of a table that break a rule: there should be none.

    outstanding: rows whose present state is not here, because they are set apart.
    duplicates: rows of a key that another has.
    dangling: rows that refer to none.
    not_current: facts, of the newest, that the view of the present has not once; or has, though they are deleted.
    """

    outstanding: int
    duplicates: int
    dangling: int
    not_current: int


def audit(connection: Connection, star: StarTable, references: Mapping[str, StarTable]) -> Audit:
    """Look for rows that break a rule.

    What a constraint of PostgreSQL sees to is not counted again, so that this costs nothing; if it is not there any
    more, the table is read.
    """
    key = (*star.primary_key, CAPTURED_AT) if star.record_id else star.primary_key
    duplicates = 0 if _constrained(connection, star, "pu", key) else _duplicates(connection, star, key)
    dangling = sum(
        _dangling(connection, star, column, to)
        for column, to in references.items()
        if not _constrained(connection, star, "f", [column], to)
    )
    return Audit(
        outstanding=outstanding(connection, star),
        duplicates=duplicates,
        dangling=dangling,
        not_current=_not_current(connection, star, star.record_id) if star.record_id else 0,
    )


def _constrained(
    connection: Connection, star: StarTable, kinds: str, columns: Sequence[str], to: StarTable | None = None
) -> bool:
    """Tell whether a validated constraint on exactly these columns is there; kinds as pg_constraint has them.

    Of a foreign key, `to` is the table it must refer to.
    """
    return bool(
        connection.run(
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
    )


def _duplicates(connection: Connection, star: StarTable, key: Sequence[str]) -> int:
    [[count]] = connection.run(
        f"SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) n FROM {relation(star)} GROUP BY {names(key)}) keys"
    )
    return int(count)


def _dangling(connection: Connection, star: StarTable, column: str, to: StarTable) -> int:
    [key] = to.primary_key
    [[count]] = connection.run(
        f"""SELECT count(*) FROM {relation(star)} fact WHERE fact.{quoted(column)} IS NOT NULL
            AND NOT EXISTS (SELECT FROM {relation(to)} there WHERE there.{quoted(key)} = fact.{quoted(column)})"""
    )
    return int(count)


def _not_current(connection: Connection, star: StarTable, record_id: str) -> int:
    """Count, of the keys of the newest rows, those that the view of the present has not as often as it must."""
    key, first = names(star.primary_key), quoted(star.primary_key[0])
    [[count]] = connection.run(
        f"""WITH newest AS (
                SELECT DISTINCT {key}
                FROM (SELECT {key} FROM {relation(star)} ORDER BY {quoted(record_id)} DESC LIMIT {_SAMPLED}) rows),
            present AS (
                SELECT {key}, count(*) AS times FROM {current(star)}
                WHERE {first} = ANY(ARRAY(SELECT {first} FROM newest)) GROUP BY {key})
            SELECT count(*) FROM newest LEFT JOIN present USING ({key})
            WHERE coalesce(times, 0) <> (
                SELECT CASE WHEN {DELETED} THEN 0 ELSE 1 END FROM {relation(star)} version
                WHERE {equal(star.primary_key, "version", "newest")} ORDER BY {CAPTURED_AT} DESC LIMIT 1)"""
    )
    return int(count)
