"""`warehouse.loads`: which captures are loaded, and how many rows each changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from etl_assets.adapters.postgres import Connection
from etl_assets.ingestion.manifest import Capture, partition_of
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import LOADS


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


def latest_loaded(connection: Connection) -> str | None:
    """Return the id of the latest loaded capture, or None."""
    capture: str | None = _latest(connection, "capture", "true")
    return capture


def latest_change(connection: Connection) -> datetime | None:
    """Return the time (UTC, naive) of the latest capture that changed a star table, or None."""
    captured_at: datetime | None = _latest(connection, "captured_at", "changed <> '{}'")
    return captured_at


def _latest(connection: Connection, column: str, condition: str) -> Any:
    [[exists]] = connection.run("SELECT to_regclass(:loads) IS NOT NULL", loads=LOADS)
    if not exists:
        return None
    rows = connection.run(f"SELECT {column} FROM {LOADS} WHERE {condition} ORDER BY captured_at DESC LIMIT 1")
    return rows[0][0] if rows else None


def latest_loads(connection: Connection) -> dict[str, LatestLoad]:
    """Return the latest load that changed each star table, by table. `loads` must exist."""
    rows = connection.run(
        f"""SELECT DISTINCT ON (star) star, captured_at, loaded_at, CAST(rows AS bigint)
            FROM {LOADS} CROSS JOIN LATERAL jsonb_each_text(changed) AS change (star, rows)
            ORDER BY star, captured_at DESC"""
    )
    return {star: LatestLoad(*load) for star, *load in rows}


def record_captures(connection: Connection, captures: Sequence[Capture]) -> list[Capture]:
    """Record captures as loaded, oldest first, and return those that were not recorded yet.

    Raises:
        PredecessorNotLoadedError: the predecessor of a capture is not loaded.
    """
    new_captures = []
    for capture in captures:
        if capture.previous and not connection.run(
            f"SELECT 1 FROM {LOADS} WHERE capture = :previous", previous=capture.previous
        ):
            raise PredecessorNotLoadedError(capture, capture.previous)
        connection.run(
            f"""INSERT INTO {LOADS} (capture, captured_at, previous, full_capture)
                VALUES (:capture, :captured_at, :previous, :full_capture)
                ON CONFLICT (capture) DO NOTHING""",
            capture=capture.id,
            captured_at=capture.captured_at,
            previous=capture.previous,
            full_capture=capture.full,
        )
        if connection.row_count:
            new_captures.append(capture)
    return new_captures


def record_rows(connection: Connection, column: str, star: StarTable, captured_at: datetime, rows: int) -> None:
    """Add to the number of rows `changed` or `repaired` by a capture, so that a rerun can report them."""
    if rows:
        connection.run(
            f"""UPDATE {LOADS}
                SET {column} = {column} || jsonb_build_object(
                    CAST(:star AS text), coalesce(CAST({column} ->> :star AS bigint), 0) + CAST(:rows AS bigint))
                WHERE captured_at = CAST(:captured_at AS timestamp)""",
            star=star.name,
            rows=rows,
            captured_at=captured_at,
        )


def repaired_rows(connection: Connection, star: StarTable, captured_at: datetime) -> int:
    """Return the number of rows that a capture repaired, as recorded."""
    [[rows]] = connection.run(
        f"""SELECT coalesce(CAST(repaired ->> :star AS integer), 0) FROM {LOADS}
            WHERE captured_at = CAST(:captured_at AS timestamp)""",
        star=star.name,
        captured_at=captured_at,
    )
    return int(rows)
