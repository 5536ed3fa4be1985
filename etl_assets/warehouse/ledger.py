"""`warehouse.loads`: which captures are loaded, and how many rows each changed; `warehouse.tables`: rules and rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from etl_assets.adapters.postgres import Connection
from etl_assets.ingestion.manifest import Capture, partition_of
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.relations import LOADS, TABLES


class PredecessorNotLoadedError(Exception):
    """The predecessor of a capture is not loaded. Another run may be about to load it."""

    def __init__(self, capture: Capture, missing: str) -> None:
        super().__init__(
            f"capture {capture.id} follows capture {missing}, which is not loaded: "
            f"materialize transformation/* and warehouse/* of partition {partition_of(missing)} first"
        )


@dataclass(frozen=True)
class LatestLoad:
    """The latest load that changed a star table: the times of its capture and of itself (UTC, naive), and its rows."""

    captured_at: datetime
    loaded_at: datetime
    rows: int


def latest_loaded(connection: Connection, until: datetime | None = None) -> str | None:
    """Return the id of the latest loaded capture, or of the latest up to a time (UTC, naive), or None."""
    is_earlier = f"CAST(:until AS timestamp) IS NULL OR {CAPTURED_AT} <= :until"
    capture: str | None = _latest(connection, "capture", is_earlier, until=until)
    return capture


def latest_change(connection: Connection) -> datetime | None:
    """Return the time (UTC, naive) when a star table was last changed by a load or built anew, or None."""
    changed_at: datetime | None = _latest(connection, "loaded_at", "changed <> '{}'")
    [[built_at]] = connection.run(f"SELECT max(built_at) FROM {TABLES}") if exists(connection, TABLES) else [[None]]
    return max(filter(None, (changed_at, built_at)), default=None)


def exists(connection: Connection, table: str) -> bool:
    """Whether a bookkeeping table of the warehouse exists."""
    [[exists]] = connection.run("SELECT to_regclass(:table) IS NOT NULL", table=table)
    return bool(exists)


def _latest(connection: Connection, column: str, condition: str, **values: Any) -> Any:
    if not exists(connection, LOADS):
        return None
    rows = connection.run(f"SELECT {column} FROM {LOADS} WHERE {condition} ORDER BY captured_at DESC LIMIT 1", **values)
    return rows[0][0] if rows else None


def latest_loads(connection: Connection) -> dict[str, LatestLoad]:
    """Return the latest load that changed each star table, by table. `loads` must exist."""
    rows = connection.run(
        f"""SELECT DISTINCT ON (star) star, captured_at, loaded_at, CAST(rows AS bigint)
            FROM {LOADS} CROSS JOIN LATERAL jsonb_each_text(changed) AS change (star, rows)
            ORDER BY star, captured_at DESC"""
    )
    return {star: LatestLoad(*load) for star, *load in rows}


def loaded_captures(connection: Connection) -> set[str]:
    """Return the ids of all loaded captures."""
    return {id_ for [id_] in connection.run(f"SELECT capture FROM {LOADS}")} if exists(connection, LOADS) else set()


def record_captures(connection: Connection, captures: Sequence[Capture]) -> list[Capture]:
    """Record captures as loaded, oldest first, and return those that were not recorded yet.

    Raises:
        PredecessorNotLoadedError: the predecessor of a capture is not loaded.
    """
    ids = {id_ for capture in captures for id_ in (capture.id, capture.previous) if id_}
    loaded = {
        id_ for [id_] in connection.run(f"SELECT capture FROM {LOADS} WHERE capture = ANY(:ids)", ids=sorted(ids))
    }
    new_captures = []
    for capture in captures:
        if capture.previous and capture.previous not in loaded:
            raise PredecessorNotLoadedError(capture, capture.previous)
        if capture.id not in loaded:
            loaded.add(capture.id)
            new_captures.append(capture)
    if new_captures:
        connection.run(
            f"""INSERT INTO {LOADS} (capture, captured_at, previous, full_capture)
                SELECT * FROM unnest(CAST(:captures AS text[]), CAST(:times AS timestamp[]),
                                     CAST(:previous AS text[]), CAST(:full AS boolean[]))""",
            captures=[capture.id for capture in new_captures],
            times=[capture.captured_at for capture in new_captures],
            previous=[capture.previous for capture in new_captures],
            full=[capture.full for capture in new_captures],
        )
    return new_captures


def record_rows(connection: Connection, column: str, star: StarTable, rows: Mapping[datetime, int]) -> None:
    """Add to the numbers of rows `changed` or `repaired`, by time of capture, so that a rerun can report them."""
    if rows := {captured_at: count for captured_at, count in rows.items() if count}:
        connection.run(
            f"""UPDATE {LOADS}
                SET {column} = {column} || jsonb_build_object(
                    CAST(:star AS text), coalesce(CAST({column} ->> :star AS bigint), 0) + count)
                FROM unnest(CAST(:times AS timestamp[]), CAST(:counts AS bigint[])) AS rows (captured_at, count)
                WHERE loads.captured_at = rows.captured_at""",
            star=star.name,
            times=list(rows),
            counts=list(rows.values()),
        )


def forget_changed(connection: Connection, star: StarTable) -> None:
    """Forget how many rows of a table each capture changed."""
    connection.run(
        f"UPDATE {LOADS} SET changed = changed - CAST(:star AS text) WHERE jsonb_exists(changed, :star)", star=star.name
    )


def count_repaired(connection: Connection, star: StarTable, times: Sequence[datetime]) -> int:
    """Return the number of rows that captures repaired, as recorded."""
    [[rows]] = connection.run(
        f"""SELECT coalesce(sum(CAST(repaired ->> :star AS integer)), 0) FROM {LOADS}
            WHERE captured_at = ANY(CAST(:times AS timestamp[]))""",
        star=star.name,
        times=times,
    )
    return int(rows)


def rules_of_tables(connection: Connection) -> dict[str, str]:
    """Return by star table of the warehouse the version of the rule that it was built by, if that is known."""
    if not exists(connection, TABLES):
        return {}
    return dict(connection.run(f"SELECT star_table, rule FROM {TABLES} WHERE rule IS NOT NULL"))


def outdated_tables(connection: Connection, rules: Mapping[str, str]) -> list[str]:
    """Return the star tables that were built by another version of their rule, or that history is not loaded into yet.

    There are none as long as nothing is loaded.
    """
    if latest_loaded(connection) is None:
        return []
    built_by = rules_of_tables(connection)
    return [name for name, rule in rules.items() if built_by.get(name) != rule]


def record_rules(connection: Connection, rules: Mapping[str, str]) -> None:
    """Record by which version of its rule each of these star tables is built."""
    connection.run(
        f"""INSERT INTO {TABLES} AS known (star_table, rule, built_at)
            SELECT *, now() AT TIME ZONE 'UTC' FROM unnest(CAST(:stars AS text[]), CAST(:rules AS text[]))
            ON CONFLICT (star_table) DO UPDATE SET rule = excluded.rule, built_at = excluded.built_at""",
        stars=list(rules),
        rules=list(rules.values()),
    )


def forget_rules(connection: Connection, stars: Iterable[str]) -> None:
    """Forget by which version of its rule each of these star tables is built: it is to be rebuilt."""
    connection.run(f"UPDATE {TABLES} SET rule = NULL WHERE star_table = ANY(:stars)", stars=list(stars))


def table_rows(connection: Connection) -> dict[str, int]:
    """Return the number of rows of each star table, where it is recorded."""
    return dict(connection.run(f"SELECT star_table, row_count FROM {TABLES} WHERE row_count IS NOT NULL"))


def record_table_rows(connection: Connection, rows: Mapping[str, int]) -> None:
    """Record the number of rows of each of these star tables."""
    connection.run(
        f"""UPDATE {TABLES} SET row_count = counted.rows
            FROM unnest(CAST(:stars AS text[]), CAST(:counts AS bigint[])) AS counted (star_table, rows)
            WHERE tables.star_table = counted.star_table AND row_count IS DISTINCT FROM counted.rows""",
        stars=list(rows),
        counts=list(rows.values()),
    )
