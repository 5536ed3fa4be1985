"""Rows that cannot be loaded yet, kept in the warehouse until they can.

`warehouse.rejected` has the latest version of each row that does not fit its declaration; older versions are in the
transformation bucket under `rejected/`. `warehouse.pending` has versions that reference a row that is not in the
warehouse, because it was rejected or never existed. When it arrives, they are loaded with their own `captured_at`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
from pg8000.native import literal

from etl_assets.adapters.postgres import (
    UNTRANSLATABLE_CHARACTER,
    Connection,
    StatementRefusedError,
    column_list,
    csv_chunks,
    join_condition,
    quote_identifier,
    savepoint,
)
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import DELETED, PENDING, REJECTED, relation
from etl_assets.warehouse.history import OF_CAPTURE, is_new, join_previous, key_json, staged, staged_rejected

_STAGED_COLUMNS = (CAPTURED_AT, "table", "key", "column", "value", "reason", "row", "position", "refused")


@dataclass(frozen=True)
class QuarantinedRow:
    """A row that was not loaded: its table and key, the invalid column and value, and the reason."""

    table: str
    key: str
    column: str
    value: str | None
    reason: str


def create_staged_rejected(connection: Connection, star: StarTable) -> None:
    """Create the temporary table of a load's rejected rows."""
    connection.run(
        f"""CREATE TEMPORARY TABLE {staged_rejected(star)} ON COMMIT DROP AS
            SELECT {CAPTURED_AT}, source_table AS "table", key, "column", value, reason, "row",
                   CAST(NULL AS bigint) AS position, false AS refused
            FROM {REJECTED} WITH NO DATA"""
    )


def stage_rejected(connection: Connection, star: StarTable, rejected: pa.Table, *, refused: bool = False) -> None:
    """Copy rejected rows, or rows `refused` by the warehouse, into their temporary table.

    Characters that the warehouse cannot store are escaped.
    """
    if not rejected.num_rows:
        return
    rejected = rejected.select(_STAGED_COLUMNS[:-1]).append_column("refused", pa.repeat(refused, rejected.num_rows))
    try:
        with savepoint(connection):
            _copy_rejected(connection, star, rejected)
    except StatementRefusedError as error:
        if error.sqlstate != UNTRANSLATABLE_CHARACTER:
            raise
        _copy_rejected(connection, star, _in_ascii(rejected))


def _copy_rejected(connection: Connection, star: StarTable, rejected: pa.Table) -> None:
    connection.copy_in(staged_rejected(star), _STAGED_COLUMNS, csv_chunks(rejected.to_batches()))


def _in_ascii(rejected: pa.Table) -> pa.Table:
    for index, name in enumerate(rejected.column_names):
        if pa.types.is_string(rejected.schema.field(name).type):
            texts = [text and text.encode("ascii", "backslashreplace").decode() for text in rejected[name].to_pylist()]
            if name == "key":  # in which a single backslash would be an escape of jsonb
                texts = [text.replace("\\u", "\\\\u") for text in texts]
            rejected = rejected.set_column(index, name, pa.array(texts, pa.string()))
    return rejected


def staged_at(connection: Connection, star: StarTable, captured_at: datetime) -> list[str]:
    """Return the staged rows of a capture, as their `ctid`."""
    rows = connection.run(
        f"SELECT CAST(ctid AS text) FROM {staged(star)} WHERE {OF_CAPTURE} ORDER BY ctid", captured_at=captured_at
    )
    return [row for [row] in rows]


def stage_refused(connection: Connection, star: StarTable, row: str, reason: str) -> None:
    """Move a staged row, given as its `ctid`, to the rejected rows. Its key stands for the columns at fault."""
    connection.run(
        f"""WITH refused AS (DELETE FROM {staged(star)} WHERE ctid = CAST(:row AS tid) RETURNING *)
            INSERT INTO {staged_rejected(star)} ({column_list(_STAGED_COLUMNS)})
            SELECT {CAPTURED_AT}, :star, {key_json(star, "refused")}, :column, to_jsonb(refused) ->> :column, :reason,
                   CAST(to_jsonb(refused) - {literal(CAPTURED_AT)} AS text), NULL, true
            FROM refused""",
        row=row,
        star=star.name,
        column=star.primary_key[0],
        reason=reason,
    )


def has_rows(connection: Connection, table: str, star: StarTable) -> bool:
    """Whether a table of the quarantine, `REJECTED` or `PENDING`, has rows of a star table."""
    return bool(connection.run(f"SELECT 1 FROM {table} WHERE star_table = :star LIMIT 1", star=star.name))


def count_corrected(connection: Connection, star: StarTable, captured_at: datetime) -> int:
    """Return the number of merged rows of a capture whose earlier versions were rejected: they were not missed."""
    not_deleted = f"AND NOT merged.{DELETED}" if star.keeps_every_version else ""
    [[count]] = connection.run(
        f"""SELECT count(*) FROM {relation(star)} merged WHERE merged.{OF_CAPTURE} {not_deleted} AND EXISTS (
                SELECT FROM {REJECTED} rejected
                WHERE rejected.star_table = :star AND rejected.key = {key_json(star, "merged")})""",
        star=star.name,
        captured_at=captured_at,
    )
    return int(count)


def clear_corrected(connection: Connection, star: StarTable, captured_at: datetime) -> None:
    """Delete the rejections of rows of which a staged capture has a valid version."""
    connection.run(
        f"""DELETE FROM {REJECTED} rejected USING {staged(star)} staged
            WHERE rejected.star_table = :star AND rejected.{CAPTURED_AT} <= staged.{CAPTURED_AT}
            AND staged.{OF_CAPTURE} AND rejected.key = {key_json(star, "staged")}""",
        star=star.name,
        captured_at=captured_at,
    )


def record_rejected(connection: Connection, star: StarTable, captured_at: datetime, *, is_full: bool) -> None:
    """Replace the rejections of rows that a staged capture rejected. Unchanged ones keep their `captured_at`.

    A full capture has every row: what it does not reject has been corrected or deleted.
    """
    same_row = f"""FROM {staged_rejected(star)} staged
        WHERE staged.{OF_CAPTURE} AND (staged."table", staged.key) = (known.source_table, known.key)"""
    connection.run(
        f"""DELETE FROM {REJECTED} known WHERE star_table = :star
            AND NOT EXISTS (SELECT {same_row} AND staged."column" = known."column")
            {"" if is_full else f"AND EXISTS (SELECT {same_row})"}""",
        star=star.name,
        captured_at=captured_at,
    )
    _record(connection, star, captured_at, "true")


def record_refused(connection: Connection, star: StarTable, captured_at: datetime) -> None:
    """Record the staged versions of one time that the warehouse refused, of captures loaded before too."""
    _record(connection, star, captured_at, "refused")


def _record(connection: Connection, star: StarTable, captured_at: datetime, condition: str) -> None:
    """Add or replace rejections. Rows with the same key are one, which has all of them, a line each."""
    connection.run(
        f"""INSERT INTO {REJECTED} AS known
                (star_table, source_table, key, "column", {CAPTURED_AT}, value, reason, "row")
            SELECT CAST(:star AS text), "table", key, "column", {CAPTURED_AT}, min(value), min(reason),
                   string_agg("row", E'\n' ORDER BY "row")
            FROM {staged_rejected(star)} WHERE {OF_CAPTURE} AND {condition}
            GROUP BY "table", key, "column", {CAPTURED_AT}
            ON CONFLICT (star_table, source_table, key, "column") DO UPDATE
            SET {CAPTURED_AT} = excluded.{CAPTURED_AT}, value = excluded.value, reason = excluded.reason,
                "row" = excluded."row"
            WHERE known."row" <> excluded."row"
        """,
        star=star.name,
        captured_at=captured_at,
    )


def release(connection: Connection, star: StarTable, references: Mapping[str, StarTable]) -> list[datetime]:
    """Stage the pending versions whose references have arrived, and return the times of their captures."""
    resolved = " AND ".join(
        f"(version.{quote_identifier(column)} IS NULL OR {_exists(to, f'version.{quote_identifier(column)}')})"
        for column, to in references.items()
    )
    same_version = join_condition((*star.primary_key, CAPTURED_AT), "present", "version")
    columns = (*star.captured_columns.names, DELETED)
    rows = connection.run(
        f"""WITH released AS (
                DELETE FROM {PENDING} WHERE ctid IN (
                    SELECT pending.ctid
                    FROM {PENDING} pending, jsonb_populate_record(NULL::{staged(star)}, pending."row") version
                    WHERE pending.star_table = :star AND {resolved})
                RETURNING "row"),
            versions AS (
                SELECT version.* FROM released, jsonb_populate_record(NULL::{staged(star)}, released."row") version),
            added AS (
                INSERT INTO {staged(star)} ({column_list(columns)})
                SELECT {column_list(columns, "version")} FROM versions version
                WHERE NOT EXISTS (SELECT FROM {staged(star)} present WHERE {same_version}))
            SELECT DISTINCT {CAPTURED_AT} FROM versions""",
        star=star.name,
    )
    return [captured_at for [captured_at] in rows]


def hold_unresolved(
    connection: Connection, star: StarTable, references: Mapping[str, StarTable], captured_at: datetime, pending: bool
) -> bool:
    """Move staged versions of a capture whose foreign keys do not resolve to `pending`; return whether any is new."""
    any_new = False
    for column, to in references.items():
        value = f"staged.{quote_identifier(column)}"
        unresolved = f"staged.{OF_CAPTURE} AND {value} IS NOT NULL AND NOT {_exists(to, value)}"
        connection.run(
            f"""INSERT INTO {PENDING} (star_table, key, {CAPTURED_AT}, "column", value, referenced, "row")
                SELECT :star, {key_json(star, "staged")}, staged.{CAPTURED_AT}, :column, CAST({value} AS text), :to,
                       to_jsonb(staged)
                FROM {staged(star)} staged {join_previous(star, pending)}
                WHERE {unresolved} AND {is_new(star)}
                ON CONFLICT DO NOTHING""",
            star=star.name,
            column=column,
            to=to.name,
            captured_at=captured_at,
        )
        any_new = any_new or bool(connection.row_count)
        connection.run(f"DELETE FROM {staged(star)} staged WHERE {unresolved}", captured_at=captured_at)
    return any_new


def _exists(to: StarTable, value: str) -> str:
    [key] = to.primary_key
    return f"EXISTS (SELECT FROM {relation(to)} referenced WHERE referenced.{quote_identifier(key)} = {value})"


def quarantined_at(connection: Connection, star: StarTable, captured_at: datetime) -> list[QuarantinedRow]:
    """Return the rows that a capture added or changed and that are still not loaded."""
    rows = connection.run(
        f"""SELECT source_table, CAST(key AS text), "column", value, reason
            FROM {REJECTED} WHERE star_table = :star AND {OF_CAPTURE}
            UNION ALL
            SELECT star_table, CAST(key AS text), "column", value, 'references a row that is not in ' || referenced
            FROM {PENDING} WHERE star_table = :star AND {OF_CAPTURE}
            ORDER BY 1, 2, 3""",
        star=star.name,
        captured_at=captured_at,
    )
    return [QuarantinedRow(*row) for row in rows]


def row_counts(connection: Connection) -> dict[str, tuple[int, int]]:
    """Return the number of rows in `PENDING` and in `REJECTED`, by star table."""
    rows = connection.run(
        f"""SELECT star_table, count(DISTINCT key) FILTER (WHERE source_table IS NULL),
                   count(DISTINCT (source_table, key)) FILTER (WHERE source_table IS NOT NULL)
            FROM (SELECT star_table, NULL AS source_table, key FROM {PENDING}
                  UNION ALL SELECT star_table, source_table, key FROM {REJECTED}) quarantine
            GROUP BY star_table"""
    )
    return {star: (pending, rejected) for star, pending, rejected in rows}


def outstanding(connection: Connection, star: StarTable) -> int:
    """Return the number of rows whose latest version is not loaded."""
    same_key = join_condition(star.primary_key, "later", "version")
    [[count]] = connection.run(
        f"""SELECT count(*) FROM (
                SELECT key FROM {REJECTED} WHERE star_table = :star
                UNION
                SELECT latest.key
                FROM (SELECT DISTINCT ON (key) * FROM {PENDING}
                      WHERE star_table = :star ORDER BY key, {CAPTURED_AT} DESC) latest,
                     jsonb_populate_record(NULL::{relation(star)}, latest."row") version
                WHERE NOT CAST(latest."row" ->> {literal(DELETED)} AS boolean)
                AND NOT EXISTS (SELECT FROM {relation(star)} later
                                WHERE {same_key} AND later.{CAPTURED_AT} > version.{CAPTURED_AT})
            ) rows""",
        star=star.name,
    )
    return int(count)
