"""Rows that cannot be loaded yet, kept in the warehouse until they can.

`warehouse.rejected` has the latest version of each row that does not fit its declaration; older versions are in the
transformation bucket under `rejected/`. `warehouse.pending` has versions that reference a row that is not in the
warehouse, because it was rejected or never existed. When it arrives, they are loaded with their own `captured_at`.
"""

from collections.abc import Mapping, Sequence, Set
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
from etl_assets.schema.columns import CAPTURED_AT, DELETED
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import stored_columns
from etl_assets.warehouse.history import (
    FIRST_LIST,
    HELD,
    LAST_LIST,
    LIST,
    NUMBER,
    RowKeys,
    delete_latest,
    key_json,
    new,
    present_keys,
    refresh_latest,
    staged,
    staged_rejected,
    surplus,
)
from etl_assets.warehouse.relations import PENDING, REJECTED, relation

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


def stage_refused(connection: Connection, star: StarTable, number: int, reason: str) -> None:
    """Move a new version, given by its number, to the rejected rows, once for each capture that repeats it.

    Its key stands for the columns at fault.
    """
    columns, flags = (*star.columns.names, DELETED), ", ".join(literal(name) for name in (CAPTURED_AT, HELD, NUMBER))
    connection.run(
        f"""WITH refused AS (DELETE FROM {new(star)} WHERE {NUMBER} = :number RETURNING *),
            repeated AS (
                DELETE FROM {staged(star)} staged USING {new(star)} version
                WHERE version.{NUMBER} = :number AND {join_condition(star.primary_key, "staged", "version")}
                AND staged.{CAPTURED_AT} >= version.{CAPTURED_AT}
                AND NOT EXISTS (
                    SELECT FROM {staged(star)} other WHERE {join_condition(star.primary_key, "other", "version")}
                    AND other.{CAPTURED_AT} BETWEEN version.{CAPTURED_AT} AND staged.{CAPTURED_AT}
                    AND ROW({column_list(columns, "other")}) IS DISTINCT FROM ROW({column_list(columns, "version")}))
                RETURNING staged.{CAPTURED_AT})
            INSERT INTO {staged_rejected(star)} ({column_list(_STAGED_COLUMNS)})
            SELECT repeated.{CAPTURED_AT}, :star, {key_json(star, "refused")}, :column, to_jsonb(refused) ->> :column,
                   :reason, CAST(to_jsonb(refused) - ARRAY[{flags}] AS text), NULL, true
            FROM refused CROSS JOIN repeated""",
        number=number,
        star=star.name,
        column=star.primary_key[0],
        reason=reason,
    )


def has_rows(connection: Connection, table: str, star: StarTable) -> bool:
    """Whether a table of the quarantine, `REJECTED` or `PENDING`, has rows of a star table."""
    return bool(connection.run(f"SELECT 1 FROM {table} WHERE star_table = :star LIMIT 1", star=star.name))


def count_corrected(connection: Connection, star: StarTable, times: Sequence[datetime]) -> dict[datetime, int]:
    """Return by time of capture the loaded rows whose earlier versions were rejected: they were not missed."""
    rows = connection.run(
        f"""SELECT loaded.{CAPTURED_AT}, count(*) FROM {relation(star.versions)} loaded
            WHERE loaded.{CAPTURED_AT} = ANY(CAST(:times AS timestamp[])) AND NOT loaded.{DELETED} AND EXISTS (
                SELECT FROM {REJECTED} rejected
                WHERE rejected.star_table = :star AND rejected.key = {key_json(star, "loaded")})
            GROUP BY loaded.{CAPTURED_AT}""",
        star=star.name,
        times=times,
    )
    return dict(rows)


def record_rejected(
    connection: Connection,
    keys: RowKeys,
    recorded: Sequence[datetime],
    full: Sequence[datetime],
    lists: Mapping[datetime, int],
    *,
    replaces: bool,
) -> None:
    """Make `REJECTED` hold the rows of a star table whose latest version is rejected.

    Rejections count that are of captures to be `recorded`, those of rows that the warehouse refused, and, unless it
    `replaces` them, those known before. A rejection ends with a valid version of the row, or with a `full` capture or a
    list of keys that does not have it. One that captures repeat unchanged keeps the time of the first.
    """
    star = keys.star
    listed = (
        f"""SELECT key, {FIRST_LIST}, {LAST_LIST} FROM {present_keys(star)} present
            CROSS JOIN LATERAL unnest(ARRAY[{keys.of("present")}]) AS key
            WHERE key IN (SELECT key FROM rejection)"""
        if lists
        else f"SELECT key, 0 AS {FIRST_LIST}, 0 AS {LAST_LIST} FROM rejection WHERE false"
    )
    known = (
        ""
        if replaces
        else f"""UNION ALL
                SELECT source_table, key, "column", max({CAPTURED_AT}) OVER (PARTITION BY source_table, key),
                       {CAPTURED_AT}, value, reason, "row"
                FROM {REJECTED} WHERE star_table = :star"""
    )
    connection.run(
        f"""CREATE TEMPORARY TABLE {_latest_rejected(star)} ON COMMIT DROP AS
            WITH rejection AS MATERIALIZED (
                SELECT DISTINCT ON (source_table, key, "column", seen_at) * FROM (
                    SELECT "table" AS source_table, key, "column", {CAPTURED_AT} AS seen_at,
                           {CAPTURED_AT} AS first_seen_at, min(value) AS value, min(reason) AS reason,
                           string_agg("row", E'\n' ORDER BY "row") AS "row"
                    FROM {staged_rejected(star)}
                    WHERE refused OR {CAPTURED_AT} = ANY(CAST(:recorded AS timestamp[]))
                    GROUP BY "table", key, "column", {CAPTURED_AT} {known}) rejections
                ORDER BY source_table, key, "column", seen_at, first_seen_at),
            valid AS MATERIALIZED (
                SELECT key, {CAPTURED_AT} AS valid_at FROM {staged(star)} staged
                CROSS JOIN LATERAL unnest(ARRAY[{keys.of("staged")}]) AS key
                WHERE NOT {DELETED} AND key IN (SELECT key FROM rejection)),
            listed AS MATERIALIZED ({listed}),
            occasion AS (
                SELECT *, lag(seen_at) OVER by_time AS before, lead(seen_at) OVER by_time AS after
                FROM (SELECT DISTINCT source_table, key, seen_at FROM rejection) occasions
                WINDOW by_time AS (PARTITION BY source_table, key ORDER BY seen_at)),
            version AS (
                SELECT rejection.*, after IS NULL AS is_latest,
                       earlier.key IS NULL OR {_ended(keys, "rejection.key", "before", "rejection.seen_at")} AS is_first
                FROM rejection JOIN occasion USING (source_table, key, seen_at)
                LEFT JOIN rejection earlier ON earlier.seen_at = occasion.before
                AND (earlier.source_table, earlier.key, earlier."column", earlier."row")
                    = (rejection.source_table, rejection.key, rejection."column", rejection."row")),
            run AS (
                SELECT *, count(*) FILTER (WHERE is_first) OVER (
                    PARTITION BY source_table, key, "column" ORDER BY seen_at) AS run
                FROM version)
            SELECT source_table, key, "column", first_value(first_seen_at) OVER same AS {CAPTURED_AT},
                   first_value(value) OVER same AS value, first_value(reason) OVER same AS reason, "row",
                   is_latest AND NOT {_ended(keys, "run.key", "seen_at", "CAST('infinity' AS timestamp)")}
                   AS is_outstanding
            FROM run WINDOW same AS (PARTITION BY source_table, key, "column", run ORDER BY seen_at)""",
        star=star.name,
        recorded=recorded,
        full=full,
        listed=[*lists],
        lists=[*lists.values()],
    )
    connection.run(
        f"""DELETE FROM {REJECTED} known WHERE star_table = :star AND NOT EXISTS (
                SELECT FROM {_latest_rejected(star)} latest
                WHERE is_outstanding AND (latest.source_table, latest.key, latest."column")
                                         = (known.source_table, known.key, known."column"))""",
        star=star.name,
    )
    connection.run(
        f"""INSERT INTO {REJECTED} AS known
                (star_table, source_table, key, "column", {CAPTURED_AT}, value, reason, "row")
            SELECT CAST(:star AS text), source_table, key, "column", {CAPTURED_AT}, value, reason, "row"
            FROM {_latest_rejected(star)} WHERE is_outstanding
            ON CONFLICT (star_table, source_table, key, "column") DO UPDATE
            SET {CAPTURED_AT} = excluded.{CAPTURED_AT}, value = excluded.value, reason = excluded.reason,
                "row" = excluded."row"
            WHERE (known.{CAPTURED_AT}, known.value, known.reason, known."row")
                  IS DISTINCT FROM (excluded.{CAPTURED_AT}, excluded.value, excluded.reason, excluded."row")""",
        star=star.name,
    )


def _latest_rejected(star: StarTable) -> str:
    return quote_identifier(f"latest_rejected_{star.name}")


def _ended(keys: RowKeys, key: str, after: str, until: str) -> str:
    """Return the condition that a rejection of a key seen at one time had ended by another."""
    return f"""(EXISTS (SELECT FROM valid WHERE valid.key = {key} AND valid_at >= {after} AND valid_at <= {until})
        OR EXISTS (SELECT FROM unnest(CAST(:full AS timestamp[])) AS full_capture (full_at)
                   WHERE full_at > {after} AND full_at < {until})
        OR EXISTS (SELECT FROM unnest(CAST(:listed AS timestamp[]), CAST(:lists AS integer[]))
                        AS lists (listed_at, {LIST})
                   WHERE listed_at > {after} AND listed_at < {until} AND {keys.identify(key)}
                   AND NOT EXISTS (SELECT FROM listed WHERE listed.key = {key}
                                   AND lists.{LIST} BETWEEN {FIRST_LIST} AND {LAST_LIST})))"""


def restage_pending(connection: Connection, star: StarTable) -> None:
    """Move the pending versions of a table to the staged ones, unless these have them."""
    same_version = join_condition((*star.primary_key, CAPTURED_AT), "present", "version")
    columns = (*star.captured_columns.names, DELETED)
    connection.run(
        f"""WITH pending AS (DELETE FROM {PENDING} WHERE star_table = :star RETURNING "row")
            INSERT INTO {staged(star)} ({column_list(columns)})
            SELECT {column_list(columns, "version")}
            FROM pending, jsonb_populate_record(NULL::{staged(star)}, pending."row" || '{{"{HELD}": false}}') version
            WHERE NOT EXISTS (SELECT FROM {staged(star)} present WHERE {same_version})""",
        star=star.name,
    )


def forget_pending(connection: Connection, star: StarTable) -> None:
    """Delete the pending versions of a table."""
    connection.run(f"DELETE FROM {PENDING} WHERE star_table = :star", star=star.name)


@dataclass(frozen=True)
class References:
    """The tables that a star table refers to, by foreign key column.

    shrinking: those of them that are about to lose the rows in their temporary table `surplus`.
    """

    tables: Mapping[str, StarTable]
    shrinking: Set[str] = frozenset()

    def resolves(self, column: str, alias: str) -> str:
        """Return the condition that a foreign key of a row resolves."""
        to = self.tables[column]
        value, [key] = f"{alias}.{quote_identifier(column)}", to.primary_key
        same = f"referenced.{quote_identifier(key)} = {value}"
        stays = f"AND NOT EXISTS (SELECT FROM {surplus(to)} referenced WHERE {same})"
        exists = f"EXISTS (SELECT FROM {relation(to)} referenced WHERE {same})"
        return f"({value} IS NULL OR {exists} {stays if to.name in self.shrinking else ''})"

    def unresolved(self, alias: str) -> str:
        """Return the query of the first foreign key of a row that does not resolve: column, value and table."""
        keys = ", ".join(
            f"({number}, {literal(column)}, CAST({alias}.{quote_identifier(column)} AS text), {literal(to.name)}, "
            f"{self.resolves(column, alias)})"
            for number, (column, to) in enumerate(self.tables.items())
        )
        return f"""SELECT "column", value, referenced
            FROM (VALUES {keys}) AS keys (number, "column", value, referenced, resolves)
            WHERE NOT resolves ORDER BY number LIMIT 1"""


def hold_unresolved(connection: Connection, star: StarTable, references: References) -> bool:
    """Mark the staged versions as held whose foreign keys do not all resolve; return whether there are any."""
    any_held = False
    for column in references.tables:
        name = quote_identifier(column)
        connection.run(
            f"""UPDATE {staged(star)} SET {HELD} = true WHERE {name} IN (
                    SELECT {name} FROM (SELECT DISTINCT {name} FROM {staged(star)}) version
                    WHERE NOT {references.resolves(column, "version")})"""
        )
        any_held |= connection.row_count > 0
    return any_held


def record_pending(connection: Connection, star: StarTable, references: References) -> None:
    """Record the new versions that are held."""
    _record_pending(connection, star, references, f"SELECT * FROM {new(star)} WHERE {HELD}")


def hold_loaded(connection: Connection, star: StarTable, references: References) -> int:
    """Move the loaded versions that refer to a row that is about to go to `PENDING`; return how many."""
    columns = stored_columns(star).names
    resolve = " AND ".join(references.resolves(column, "loaded") for column in references.tables)
    [[count]] = connection.run(
        f"""WITH gone AS (DELETE FROM {relation(star.versions)} loaded WHERE NOT ({resolve})
                          RETURNING {column_list(columns, "loaded")}),
            versions AS (INSERT INTO {staged(star)} ({column_list(columns)}) SELECT * FROM gone RETURNING 1)
            SELECT count(*) FROM versions"""
    )
    if count:
        _record_pending(connection, star, references, f"SELECT * FROM {staged(star)}")
        if not star.keeps_every_version:
            connection.run(delete_latest(star))
            connection.run(refresh_latest(star))
    return int(count)


def _record_pending(connection: Connection, star: StarTable, references: References, versions: str) -> None:
    connection.run(
        f"""INSERT INTO {PENDING} (star_table, key, {CAPTURED_AT}, "column", value, referenced, "row")
            SELECT :star, {key_json(star, "version")}, version.{CAPTURED_AT}, "column", value, referenced,
                   to_jsonb(version) - ARRAY[{literal(HELD)}, {literal(NUMBER)}]
            FROM ({versions}) version CROSS JOIN LATERAL ({references.unresolved("version")}) unresolved
            ON CONFLICT DO NOTHING""",
        star=star.name,
    )


def quarantined_at(connection: Connection, star: StarTable, times: Sequence[datetime]) -> list[QuarantinedRow]:
    """Return the rows that captures added or changed and that are still not loaded."""
    rows = connection.run(
        f"""SELECT source_table, CAST(key AS text), "column", value, reason
            FROM {REJECTED} WHERE star_table = :star AND {CAPTURED_AT} = ANY(CAST(:times AS timestamp[]))
            UNION ALL
            SELECT star_table, CAST(key AS text), "column", value, 'references a row that is not in ' || referenced
            FROM {PENDING} WHERE star_table = :star AND {CAPTURED_AT} = ANY(CAST(:times AS timestamp[]))
            ORDER BY 1, 2, 3""",
        star=star.name,
        times=times,
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
                     jsonb_populate_record(NULL::{relation(star.versions)}, latest."row") version
                WHERE NOT CAST(latest."row" ->> {literal(DELETED)} AS boolean)
                AND NOT EXISTS (SELECT FROM {relation(star.versions)} later
                                WHERE {same_key} AND later.{CAPTURED_AT} > version.{CAPTURED_AT})
            ) rows""",
        star=star.name,
    )
    return int(count)
