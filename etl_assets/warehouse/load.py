"""The load: one transaction that takes the captures of a partition in their order.

It notes each in `warehouse.loads`, which refuses a capture whose predecessor is not there. What is loaded already
changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

import pyarrow.parquet as pq
from pg8000.native import literal

from etl_assets.captures import Capture, partition_of
from etl_assets.databases import (
    FOREIGN_KEY_VIOLATION,
    Connection,
    StatementRefusedError,
    csv_chunks,
    equal,
    names,
    savepoint,
    transaction,
)
from etl_assets.storage import StarFile
from etl_assets.tables import CAPTURED_AT, referenced_first
from etl_assets.transformation.declare import StarTable
from etl_assets.warehouse.quarantine import (
    SetApart,
    any_rejected,
    any_waiting,
    key_of,
    mend,
    outstanding,
    reject,
    release,
    set_apart,
    set_apart_at,
    stage_rejected,
    staged,
    staged_rejected,
    waiting_versions,
)
from etl_assets.warehouse.schema import DELETED, WAREHOUSE, add_foreign_keys, create_missing, current, relation

_LOCK = "totesys ETL: load"  # hashed by the server into the key of an advisory lock
_BATCH_ROWS = 64 * 1024


class PredecessorNotLoadedError(Exception):
    """A capture cannot be loaded before the one it follows; another run may be about to load that."""

    def __init__(self, capture: Capture, missing: str) -> None:
        self.capture = capture.id
        self.missing = missing
        self.partition = partition_of(missing)
        super().__init__(
            f"capture {capture.id} follows capture {missing}, which is not in the warehouse: "
            f"materialize transformation/* and warehouse/* of partition {self.partition} first"
        )


@dataclass(frozen=True)
class TableLoad:
    """What a load did to a table.

    read: rows of the file.
    changed: rows inserted or replaced; versions of facts that close a deleted one are among them.
    deleted: facts closed because a full capture had them no more.
    repaired: rows that these captures changed, being full ones to find what the others had missed.
    set_apart: rows that these captures brought, new or changed, and that are not loaded.
    unmatched: rows of a fact too many or too few, compared with what was captured.
    seconds_read, seconds_write: for staging the file, and for merging it.
    """

    read: int = 0
    changed: int = 0
    deleted: int = 0
    repaired: int = 0
    set_apart: Sequence[SetApart] = ()
    unmatched: int = 0
    seconds_read: float = 0
    seconds_write: float = 0


@dataclass(frozen=True)
class Load:
    """What a load did: to each table, and which captures are loaded that were not before."""

    tables: Mapping[str, TableLoad]
    taken: Sequence[Capture]


def load(
    connection: Connection,
    star_tables: Sequence[StarTable],
    captures: Sequence[Capture],
    files: Mapping[str, StarFile],
) -> Load:
    """Load captures, oldest first, from the files of their star tables, in one transaction.

    Raises:
        PredecessorNotLoadedError: a capture follows one that is not loaded.
        SchemaMismatchError: a table of the warehouse is not as declared.
        DatabaseUnavailableError: the warehouse is down, or a table stays locked.
    """
    by_name = {star.name: star for star in star_tables}
    done: dict[str, TableLoad] = {}
    with transaction(connection):
        connection.run("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))", lock=_LOCK)
        ordered = referenced_first(star_tables)
        created = create_missing(connection, ordered)
        taken = _note_loads(connection, captures)
        for star in ordered:
            references = {column: by_name[to] for column, to in star.foreign_keys.items()}
            captured = {
                capture.captured_at: capture.files[source].rows if source in capture.files else 0
                for capture in captures
                for source in star.inputs(star_tables)[:1]
                if star.record_id
            }
            loaded_now = {each.captured_at for each in taken}
            is_empty = star in created
            done[star.name] = _load_table(
                connection, star, references, captures, loaded_now, files[star.name], captured, is_empty=is_empty
            )
        for star in created:
            add_foreign_keys(connection, star)  # those that nothing was merged into
    return Load(done, taken)


def last_loaded(connection: Connection) -> str | None:
    """Give the id of the newest capture that is loaded, if any."""
    found: str | None = _of_loads(connection, "capture", "true")
    return found


def last_change(connection: Connection) -> datetime | None:
    """Give the time of the newest capture that changed a star table, if any (UTC, naive)."""
    found: datetime | None = _of_loads(connection, "captured_at", "changed <> '{}'")
    return found


def _of_loads(connection: Connection, column: str, condition: str) -> Any:
    """Give a column of the newest load of which a condition is true, if there is one."""
    [[there]] = connection.run("SELECT to_regclass(:loads) IS NOT NULL", loads=f"{WAREHOUSE}.loads")
    if not there:
        return None
    found = connection.run(
        f"SELECT {column} FROM {WAREHOUSE}.loads WHERE {condition} ORDER BY captured_at DESC LIMIT 1"
    )
    return found[0][0] if found else None


def _note_loads(connection: Connection, captures: Sequence[Capture]) -> list[Capture]:
    """Note captures as loaded; give those that were not."""
    noted = []
    for capture in captures:
        if capture.previous and not connection.run(
            f"SELECT 1 FROM {WAREHOUSE}.loads WHERE capture = :previous", previous=capture.previous
        ):
            raise PredecessorNotLoadedError(capture, capture.previous)
        connection.run(
            f"""INSERT INTO {WAREHOUSE}.loads (capture, captured_at, previous, full_capture)
                VALUES (:capture, :captured_at, :previous, :full_capture)
                ON CONFLICT (capture) DO NOTHING""",
            capture=capture.id,
            captured_at=capture.captured_at,
            previous=capture.previous,
            full_capture=capture.full,
        )
        if connection.row_count:
            noted.append(capture)
    return noted


def _load_table(
    connection: Connection,
    star: StarTable,
    references: Mapping[str, StarTable],
    captures: Sequence[Capture],
    loaded_now: set[datetime],
    file: StarFile,
    captured: Mapping[datetime, int],
    *,
    is_empty: bool,
) -> TableLoad:
    brings = file.rows.metadata.num_rows or file.rejected.num_rows or any(capture.full for capture in captures)
    if not brings and not any_waiting(connection, star):
        return TableLoad(unmatched=sum(captured.values()))
    started = monotonic()
    read = _stage(connection, star, file.rows)
    stage_rejected(connection, star, file.rejected)
    unmatched = sum(abs(rows - _brought(connection, star, at)) for at, rows in captured.items())
    staged_at = monotonic()
    rejects = bool(file.rejected.num_rows) or any_rejected(connection, star)
    waits = any_waiting(connection, star)
    released = release(connection, star, references) if waits else []
    made = {capture.captured_at: capture for capture in captures}
    changed = deleted = 0
    for at in sorted({*made, *released}):
        capture = made.get(at)
        closes = bool(capture and capture.full and star.record_id)
        if closes:
            _stage_closings(connection, star, at, waits)
        if rejects:
            mend(connection, star, at)
            if at in loaded_now:
                reject(connection, star, at, full=made[at].full)
        try:
            with savepoint(connection):
                merged = _merge(connection, star, at, waits, is_empty=is_empty)
        except StatementRefusedError as error:
            if error.sqlstate != FOREIGN_KEY_VIOLATION:
                raise
            waits |= set_apart(connection, star, references, at, _is_new(star), _before(star, waits))
            merged = _merge(connection, star, at, waits, is_empty=is_empty)
        closed = _count_closings(connection, star, at) if closes else 0
        is_empty = False
        changed += merged
        deleted += closed
        _note(connection, "changed", star, at, merged)
        if capture and capture.repairs:
            _note(connection, "repaired", star, at, merged - closed)
    repaired = sum(_repairs(connection, star, at) for at, capture in made.items() if capture.repairs)
    apart = [row for at in made for row in set_apart_at(connection, star, at)] if rejects or waits else []
    if captures and captures[-1].repairs and captures[-1].captured_at in loaded_now and star.record_id:
        unmatched += _astray(connection, star, captured[captures[-1].captured_at])
    return TableLoad(read, changed, deleted, repaired, apart, unmatched, staged_at - started, monotonic() - staged_at)


def _brought(connection: Connection, star: StarTable, at: datetime) -> int:
    """Count the rows of a capture, staged, and those of it that were rejected."""
    [[count]] = connection.run(
        f"""SELECT (SELECT count(*) FROM {staged(star)} WHERE {CAPTURED_AT} = CAST(:at AS timestamp))
                 + (SELECT count(*) FROM (SELECT DISTINCT key, "row" FROM {staged_rejected(star)}
                                          WHERE {CAPTURED_AT} = CAST(:at AS timestamp)) rejected)""",
        at=at,
    )
    return int(count)


def _astray(connection: Connection, star: StarTable, captured: int) -> int:
    """Count the present facts too many or too few, when a full capture, the newest, had so many."""
    [[present]] = connection.run(f"SELECT count(*) FROM {current(star)}")
    return max(0, int(present) - captured) + max(0, captured - outstanding(connection, star) - int(present))


def _note(connection: Connection, column: str, star: StarTable, at: datetime, rows: int) -> None:
    """Note what a load changed or repaired: a run that dies after its load must not take that with it."""
    if rows:
        connection.run(
            f"""UPDATE {WAREHOUSE}.loads
                SET {column} = {column} || jsonb_build_object(
                    CAST(:star AS text), coalesce(CAST({column} ->> :star AS bigint), 0) + CAST(:rows AS bigint))
                WHERE captured_at = CAST(:at AS timestamp)""",
            star=star.name,
            rows=rows,
            at=at,
        )


def _repairs(connection: Connection, star: StarTable, at: datetime) -> int:
    [[rows]] = connection.run(
        f"""SELECT coalesce(CAST(repaired ->> :star AS integer), 0) FROM {WAREHOUSE}.loads
            WHERE captured_at = CAST(:at AS timestamp)""",
        star=star.name,
        at=at,
    )
    return int(rows)


def _stage(connection: Connection, star: StarTable, file: pq.ParquetFile) -> int:
    """Copy the rows of a file into a temporary table; give their number."""
    columns = star.captured_columns.names
    connection.run(
        f"CREATE TEMPORARY TABLE {staged(star)} ON COMMIT DROP AS "
        f"SELECT {names(columns)}, false AS {DELETED} FROM {relation(star)} WITH NO DATA"
    )
    connection.run(f"ALTER TABLE {staged(star)} ALTER {DELETED} SET DEFAULT false")
    batches = file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)
    rows = connection.copy_in(staged(star), columns, csv_chunks(batches))
    connection.run(f"ANALYZE {staged(star)} ({names((*star.primary_key, CAPTURED_AT))})")
    return rows


def _versions(star: StarTable, waits: bool, of: str = "") -> str:
    """Compose the versions that are there, those that wait among them, shaped as the staged ones.

    Of those that wait, only the ones with the key of the row aliased `of`, if it is given.
    """
    deleted = DELETED if star.record_id else f"false AS {DELETED}"
    loaded = f"SELECT {names(star.captured_columns.names)}, {deleted} FROM {relation(star)}"
    return f"({loaded} UNION ALL {waiting_versions(star, of)})" if waits else f"({loaded})"


def _before(star: StarTable, waits: bool) -> str:
    """Compose the join of each staged version to the one at or before its time."""
    return f"""LEFT JOIN LATERAL (
            SELECT before.* FROM {_versions(star, waits, of="staged")} before
            WHERE {equal(star.primary_key, "before", "staged")} AND before.{CAPTURED_AT} <= staged.{CAPTURED_AT}
            ORDER BY before.{CAPTURED_AT} DESC LIMIT 1
        ) before ON true"""


def _none_before(star: StarTable) -> str:
    """Compose the same join where nothing is there yet: to look for each of many rows takes as long as to insert it."""
    return f"LEFT JOIN (SELECT * FROM {staged(star)} WHERE false) before ON true"


def _is_new(star: StarTable) -> str:
    """Compose the condition that a staged version is not there, and says other than the one before it."""
    columns = (*star.columns.names, DELETED)
    return f"""(before.{CAPTURED_AT} IS NULL
            OR before.{CAPTURED_AT} < staged.{CAPTURED_AT}
               AND ROW({names(columns, "before")}) IS DISTINCT FROM ROW({names(columns, "staged")}))"""


def _stage_closings(connection: Connection, star: StarTable, at: datetime, waits: bool) -> None:
    """Stage a closing version of every fact that a full capture, staged, has no more.

    A row it rejected is still there. If it is not known which fact a rejected row is, none is closed.
    """
    key = names(star.primary_key)
    key_names = ", ".join(literal(name) for name in star.primary_key)
    connection.run(
        f"""INSERT INTO {staged(star)} ({names(star.columns.names)}, {CAPTURED_AT}, {DELETED})
            SELECT {names(star.columns.names, "latest")}, CAST(:at AS timestamp), true
            FROM (SELECT DISTINCT ON ({key}) * FROM {_versions(star, waits)} versions
                  WHERE {CAPTURED_AT} <= CAST(:at AS timestamp)
                  AND NOT EXISTS (SELECT FROM {staged(star)} present
                                  WHERE present.{CAPTURED_AT} = CAST(:at AS timestamp)
                                  AND {equal(star.primary_key, "present", "versions")})
                  ORDER BY {key}, {CAPTURED_AT} DESC) latest
            WHERE NOT latest.{DELETED}
            AND NOT EXISTS (SELECT FROM {staged_rejected(star)} rejected
                            WHERE rejected.{CAPTURED_AT} = CAST(:at AS timestamp)
                            AND rejected.key = {key_of(star, "latest")})
            AND NOT EXISTS (SELECT FROM {staged_rejected(star)} unknown
                            WHERE unknown.{CAPTURED_AT} = CAST(:at AS timestamp)
                            AND NOT jsonb_exists_all(unknown.key, ARRAY[{key_names}]))""",
        at=at,
    )


def _count_closings(connection: Connection, star: StarTable, at: datetime) -> int:
    [[count]] = connection.run(
        f"SELECT count(*) FROM {staged(star)} WHERE {CAPTURED_AT} = CAST(:at AS timestamp) AND {DELETED}", at=at
    )
    return int(count)


def _merge(connection: Connection, star: StarTable, at: datetime, waits: bool, *, is_empty: bool) -> int:
    """Merge what a capture, staged, brought; give the number of rows inserted or replaced.

    An empty table has no foreign keys yet, and gets them: to check those of many rows at once, when they are there,
    takes a tenth of the time of checking each as it comes.

    Raises:
        StatementRefusedError: with FOREIGN_KEY_VIOLATION, if a row refers to one that is not here.
    """
    before = _before(star, waits) if waits or not is_empty else _none_before(star)
    connection.run(_merge_versions(star, before) if star.record_id else _merge_latest(star), at=at)
    merged = int(connection.row_count)
    if is_empty:
        add_foreign_keys(connection, star)
    return merged


def _merge_versions(star: StarTable, before: str) -> str:
    columns = (*star.captured_columns.names, DELETED)
    return f"""
        INSERT INTO {relation(star)} ({names(columns)})
        SELECT {names(columns, "staged")}
        FROM {staged(star)} staged {before}
        WHERE staged.{CAPTURED_AT} = CAST(:at AS timestamp) AND {_is_new(star)}"""


def _merge_latest(star: StarTable) -> str:
    """Compose: insert a row, or replace the one there if it differs and is not newer."""
    columns = star.captured_columns.names
    replaced = [name for name in columns if name not in star.primary_key]
    compared = [name for name in star.columns.names if name not in star.primary_key]
    return f"""
        INSERT INTO {relation(star)} AS present ({names(columns)})
        SELECT {names(columns)} FROM {staged(star)} WHERE {CAPTURED_AT} = CAST(:at AS timestamp)
        ON CONFLICT ({names(star.primary_key)}) DO UPDATE
        SET ({names(replaced)}) = ROW({names(replaced, "excluded")})
        WHERE present.{CAPTURED_AT} <= excluded.{CAPTURED_AT}
        AND ROW({names(compared, "present")}) IS DISTINCT FROM ROW({names(compared, "excluded")})"""
