"""Whether rows of a table went since the previous capture: docs/adr/0014-deletions-between-full-captures.md."""

import hashlib
from collections.abc import Iterable

from etl_assets.adapters.postgres import Connection, column_list, quote_identifier
from etl_assets.ingestion.changes import SOURCE_SCHEMA, relation
from etl_assets.ingestion.live_tables import MEMBERS
from etl_assets.ingestion.manifest import DeletionStatistics, LiveTable, RowCount
from etl_assets.schema.table import Table

# A standby does not count what it replays.
_STATISTICS = f"""{MEMBERS}
    SELECT c.relname::text,
           sum(pg_stat_get_tuples_deleted(m.oid))::bigint,
           string_agg(format('%s %s', m.oid, pg_stat_get_tuples_deleted(m.oid)), E'\\n' ORDER BY m.oid),
           (SELECT pg_stat_get_db_stat_reset_time(oid)::text FROM pg_database WHERE datname = current_database())
    FROM member m JOIN pg_class c ON c.oid = m.root
    WHERE current_setting('track_counts')::boolean AND NOT pg_is_in_recovery()
    GROUP BY c.relname"""


def deletion_statistics(connection: Connection, tables: Iterable[Table]) -> dict[str, DeletionStatistics]:
    """Return what the statistics say about deletions, by table; nothing if the source keeps none.

    A deletion is counted after its transaction has ended. So statistics that are read before a snapshot is taken count
    nothing that the snapshot does not see, and what is counted later is new to the next capture.
    """
    return {
        name: DeletionStatistics(deleted, hashlib.sha256(f"{reset_at}\n{counters}".encode()).hexdigest()[:16])
        for name, deleted, counters, reset_at in connection.run(
            _STATISTICS, schema=SOURCE_SCHEMA, tables=[table.name for table in tables]
        )
    }


def statistics_reason(before: DeletionStatistics | None, now: DeletionStatistics) -> str | None:
    """Return why rows of a table may have gone since the statistics of the previous capture, None if they have not."""
    if before is None:
        return "the previous capture has no statistics to compare with"
    if now.deleted > before.deleted:
        return f"rows deleted, by the source's statistics: {now.deleted - before.deleted}"
    return None if now == before else "the source's statistics were reset"


def count_rows(
    connection: Connection, table: Table, live: LiveTable, before: RowCount | None
) -> tuple[RowCount, int | None]:
    """Return the row count of a table, and how many of its rows have keys up to the last one of the count before."""
    types = {column.name: column.type for column in live.columns}
    keys = column_list(table.primary_key)
    last_key = {f"key_{number}": value for number, value in enumerate(before.last_key if before else ())}
    values = (f"CAST(:{name} AS {types[key]})" for name, key in zip(last_key, table.primary_key, strict=False))
    up_to_last = f"count(*) FILTER (WHERE ({keys}) <= ({', '.join(values)}))" if last_key else "0"
    [[rows, remaining]] = connection.run(f"SELECT count(*), {up_to_last} FROM {relation(table.name)}", **last_key)
    names = [f"t.{quote_identifier(name)}" for name in table.primary_key]
    last = connection.run(
        f"""SELECT {", ".join(f"{name}::text" for name in names)} FROM {relation(table.name)} t
            ORDER BY {", ".join(f"{name} DESC" for name in names)} LIMIT 1"""
    )
    return RowCount(rows, tuple(last[0]) if last else ()), remaining if before else None


def count_reason(before: RowCount | None, remaining: int | None) -> str | None:
    """Return why rows of a table may have gone since the row count of the previous capture, None if there is no sign.

    remaining: the number of rows whose keys are not after the last one of that count. Later ones are new.
    """
    if before is None or remaining is None:
        return "the previous capture has no row count to compare with"
    if remaining < before.rows:
        return f"rows deleted, by their number: {before.rows - remaining}"
    return None
