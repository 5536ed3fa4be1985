"""Rows that cannot be loaded yet, kept in the warehouse beside the others until they can.

`warehouse.rejected` holds the last version of each row that cannot be read as declared; its older versions are in the
transformation bucket, under `rejected/`. `warehouse.waiting` holds versions that are whole but refer to a row that is
not here, because that was rejected: they are loaded, each at its own time, when it arrives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from pg8000.native import literal

from etl_assets.databases import Connection, csv_chunks, equal, names, quoted
from etl_assets.tables import CAPTURED_AT
from etl_assets.transformation.declare import StarTable
from etl_assets.warehouse.schema import DELETED, WAREHOUSE, relation

_REJECTED = f"{WAREHOUSE}.rejected"
_WAITING = f"{WAREHOUSE}.waiting"
_STAGED_COLUMNS = (CAPTURED_AT, "table", "key", "column", "value", "reason", "row")


@dataclass(frozen=True)
class SetApart:
    """A row that was not loaded: the table and key to look for, the column and value at fault, and why."""

    table: str
    key: str
    column: str
    value: str | None
    reason: str


def staged(star: StarTable) -> str:
    """Name the temporary table that holds the rows of a load."""
    return quoted(f"staged_{star.name}")


def staged_rejected(star: StarTable) -> str:
    """Name the temporary table that holds the rejected rows of a load."""
    return quoted(f"rejected_{star.name}")


def key_of(star: StarTable, alias: str) -> str:
    """Compose a row's key as the JSON object that names it in quarantine."""
    parts = ", ".join(f"{literal(name)}, {alias}.{quoted(name)}" for name in star.primary_key)
    return f"jsonb_build_object({parts})"


def stage_rejected(connection: Connection, star: StarTable, rejected: pa.Table) -> None:
    """Copy rejected rows into a temporary table."""
    connection.run(
        f"""CREATE TEMPORARY TABLE {staged_rejected(star)} ON COMMIT DROP AS
            SELECT {CAPTURED_AT}, source_table AS "table", key, "column", value, reason, "row"
            FROM {_REJECTED} WITH NO DATA"""
    )
    if rejected.num_rows:
        batches = rejected.select(_STAGED_COLUMNS).to_batches()
        connection.copy_in(staged_rejected(star), _STAGED_COLUMNS, csv_chunks(batches))


def any_rejected(connection: Connection, star: StarTable) -> bool:
    """Tell whether rows of a star table are rejected."""
    return bool(connection.run(f"SELECT 1 FROM {_REJECTED} WHERE star_table = :star LIMIT 1", star=star.name))


def mend(connection: Connection, star: StarTable, at: datetime) -> None:
    """Let go of rejected rows of which a capture, staged, has a version that is whole."""
    connection.run(
        f"""DELETE FROM {_REJECTED} rejected USING {staged(star)} staged
            WHERE rejected.star_table = :star AND rejected.{CAPTURED_AT} <= staged.{CAPTURED_AT}
            AND staged.{CAPTURED_AT} = CAST(:at AS timestamp) AND rejected.key = {key_of(star, "staged")}""",
        star=star.name,
        at=at,
    )


def reject(connection: Connection, star: StarTable, at: datetime, *, full: bool) -> None:
    """Keep the rows that a capture, staged, brought and that were rejected, with its time if they are new or changed.

    A full capture has every row: what it does not reject is mended, or gone.
    """
    still = f"""EXISTS (SELECT FROM {staged_rejected(star)} again
        WHERE again.{CAPTURED_AT} = CAST(:at AS timestamp)
        AND (again."table", again.key, again."column") = (before.source_table, before.key, before."column"))"""
    seen = f"""EXISTS (SELECT FROM {staged_rejected(star)} again
        WHERE again.{CAPTURED_AT} = CAST(:at AS timestamp)
        AND (again."table", again.key) = (before.source_table, before.key))"""
    values = {"star": star.name, "at": at}
    connection.run(
        f"DELETE FROM {_REJECTED} before WHERE star_table = :star AND NOT {still}{'' if full else f' AND {seen}'}",
        **values,
    )
    connection.run(
        f"""INSERT INTO {_REJECTED} AS before
                (star_table, source_table, key, "column", {CAPTURED_AT}, value, reason, "row")
            SELECT DISTINCT ON ("table", key, "column")
                   CAST(:star AS text), "table", key, "column", {CAPTURED_AT}, value, reason, "row"
            FROM {staged_rejected(star)} WHERE {CAPTURED_AT} = CAST(:at AS timestamp)
            ON CONFLICT (star_table, source_table, key, "column") DO UPDATE
            SET {CAPTURED_AT} = excluded.{CAPTURED_AT}, value = excluded.value, reason = excluded.reason,
                "row" = excluded."row"
            WHERE before."row" <> excluded."row"
        """,
        **values,
    )


def any_waiting(connection: Connection, star: StarTable) -> bool:
    """Tell whether versions of a star table wait."""
    return bool(connection.run(f"SELECT 1 FROM {_WAITING} WHERE star_table = :star LIMIT 1", star=star.name))


def waiting_versions(star: StarTable, of: str = "") -> str:
    """Compose the versions that wait, shaped as the staged ones: all, or those with the key of the row aliased `of`."""
    same = f" AND waiting.key = {key_of(star, of)}" if of else ""
    return f"""SELECT version.*
        FROM {_WAITING} waiting, jsonb_populate_record(NULL::{staged(star)}, waiting."row") version
        WHERE waiting.star_table = {literal(star.name)}{same}"""


def release(connection: Connection, star: StarTable, references: Mapping[str, StarTable]) -> list[datetime]:
    """Stage the versions that need wait no longer; give the times of those captures."""
    resolved = " AND ".join(
        f"(version.{quoted(column)} IS NULL OR {_present(to, f'version.{quoted(column)}')})"
        for column, to in references.items()
    )
    there = equal((*star.primary_key, CAPTURED_AT), "there", "version")
    columns = (*star.captured_columns.names, DELETED)
    found = connection.run(
        f"""WITH released AS (
                DELETE FROM {_WAITING} WHERE ctid IN (
                    SELECT waiting.ctid
                    FROM {_WAITING} waiting, jsonb_populate_record(NULL::{staged(star)}, waiting."row") version
                    WHERE waiting.star_table = :star AND {resolved})
                RETURNING "row"),
            versions AS (
                SELECT version.* FROM released, jsonb_populate_record(NULL::{staged(star)}, released."row") version),
            added AS (
                INSERT INTO {staged(star)} ({names(columns)})
                SELECT {names(columns, "version")} FROM versions version
                WHERE NOT EXISTS (SELECT FROM {staged(star)} there WHERE {there}))
            SELECT DISTINCT {CAPTURED_AT} FROM versions""",
        star=star.name,
    )
    return [at for [at] in found]


def set_apart(
    connection: Connection,
    star: StarTable,
    references: Mapping[str, StarTable],
    at: datetime,
    is_new: str,
    before: str,
) -> bool:
    """Let the staged versions of a capture wait that refer to a row that is not here; tell whether there were new ones.

    `before` joins the version before each staged one, and `is_new` is the condition that they differ.
    """
    any_new = False
    for column, to in references.items():
        value = f"staged.{quoted(column)}"
        dangling = f"""staged.{CAPTURED_AT} = CAST(:at AS timestamp)
            AND {value} IS NOT NULL AND NOT {_present(to, value)}"""
        connection.run(
            f"""INSERT INTO {_WAITING} (star_table, key, {CAPTURED_AT}, "column", value, referenced, "row")
                SELECT :star, {key_of(star, "staged")}, staged.{CAPTURED_AT}, :column, CAST({value} AS text), :to,
                       to_jsonb(staged)
                FROM {staged(star)} staged {before}
                WHERE {dangling} AND {is_new}
                ON CONFLICT DO NOTHING""",
            star=star.name,
            column=column,
            to=to.name,
            at=at,
        )
        any_new = any_new or bool(connection.row_count)
        connection.run(f"DELETE FROM {staged(star)} staged WHERE {dangling}", at=at)
    return any_new


def _present(to: StarTable, value: str) -> str:
    [key] = to.primary_key
    return f"EXISTS (SELECT FROM {relation(to)} there WHERE there.{quoted(key)} = {value})"


def set_apart_at(connection: Connection, star: StarTable, at: datetime) -> list[SetApart]:
    """Give the rows that a capture brought, new or changed, and that are still not loaded."""
    found = connection.run(
        f"""SELECT source_table, CAST(key AS text), "column", value, reason
            FROM {_REJECTED} WHERE star_table = :star AND {CAPTURED_AT} = CAST(:at AS timestamp)
            UNION ALL
            SELECT star_table, CAST(key AS text), "column", value, 'refers to a row not in ' || referenced
            FROM {_WAITING} WHERE star_table = :star AND {CAPTURED_AT} = CAST(:at AS timestamp)
            ORDER BY 1, 2, 3""",
        star=star.name,
        at=at,
    )
    return [SetApart(*row) for row in found]


def outstanding(connection: Connection, star: StarTable) -> int:
    """Count the rows whose present state is not in the warehouse."""
    same = equal(star.primary_key, "later", "version")
    [[count]] = connection.run(
        f"""SELECT count(*) FROM (
                SELECT key FROM {_REJECTED} WHERE star_table = :star
                UNION
                SELECT latest.key
                FROM (SELECT DISTINCT ON (key) * FROM {_WAITING}
                      WHERE star_table = :star ORDER BY key, {CAPTURED_AT} DESC) latest,
                     jsonb_populate_record(NULL::{relation(star)}, latest."row") version
                WHERE NOT CAST(latest."row" ->> {literal(DELETED)} AS boolean)
                AND NOT EXISTS (SELECT FROM {relation(star)} later
                                WHERE {same} AND later.{CAPTURED_AT} > version.{CAPTURED_AT})
            ) rows""",
        star=star.name,
    )
    return int(count)
