"""The load: one transaction that takes the captures of a partition, oldest first. Loading is idempotent.

Each table goes through the same steps: stage its file, and release the pending versions whose references have arrived;
then, capture by capture, stage tombstones, update the quarantine, merge and count.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from time import monotonic

import pyarrow as pa

from etl_assets.adapters import postgres
from etl_assets.adapters.postgres import Connection, StatementRefusedError, column_list
from etl_assets.ingestion.manifest import Capture
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.table import Catalog, referenced_first
from etl_assets.schema.validation import Rejection, rejections
from etl_assets.transformation.parquet_files import StarFile
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse import quarantine
from etl_assets.warehouse.ddl import (
    DELETED,
    PENDING,
    REJECTED,
    add_foreign_keys,
    create_missing,
    current,
    relation,
    ungranted,
)
from etl_assets.warehouse.history import OF_CAPTURE, merge, stage_tombstones, staged, staged_rejected
from etl_assets.warehouse.ledger import record_captures, record_rows, repaired_rows

_LOCK = "totesys ETL: load"  # PostgreSQL hashes it into the key of an advisory lock.
_BATCH_ROWS = 64 * 1024
_MAX_REFUSED_ROWS = 1_000


class RowsRefusedError(PermanentError):
    """The warehouse refuses too many rows of a table: its rule is wrong, not they."""

    def __init__(self, star: StarTable, refusal: StatementRefusedError) -> None:
        super().__init__(
            f"the warehouse refuses more than {_MAX_REFUSED_ROWS:,} rows of {star.name}: {refusal.summary}. Drop or "
            "correct the constraint or trigger. Nothing is lost: the captures are kept, and catch_up loads them"
        )


@dataclass(frozen=True)
class TableLoad:
    """What a load did to a table.

    read: rows of the file.
    changed: rows inserted or replaced, tombstones included.
    deleted: tombstones inserted, for facts that a full capture no longer had.
    repaired: rows changed by full captures that were requested to find missed changes.
    quarantined: rows that these captures added or changed, and that are not loaded.
    unmatched: missing or surplus rows of a fact, compared with what was captured.
    seconds_read, seconds_write: for staging the file, and for merging it.
    """

    read: int = 0
    changed: int = 0
    deleted: int = 0
    repaired: int = 0
    quarantined: Sequence[quarantine.QuarantinedRow] = ()
    unmatched: int = 0
    seconds_read: float = 0
    seconds_write: float = 0


@dataclass(frozen=True)
class Load:
    """What a load did to each table, the captures that were not loaded before, and why analysts cannot read, if so."""

    tables: Mapping[str, TableLoad]
    new_captures: Sequence[Capture]
    ungranted: str | None


def load(
    connection: Connection, catalog: Catalog[StarTable], captures: Sequence[Capture], files: Mapping[str, StarFile]
) -> Load:
    """Load captures, oldest first, from the files of their star tables, in one transaction.

    Raises:
        PredecessorNotLoadedError: the predecessor of a capture is not loaded.
        SchemaMismatchError: a table of the warehouse does not match its declaration.
        DatabaseUnavailableError: the warehouse is down, or a table stays locked.
    """
    loads_by_table: dict[str, TableLoad] = {}
    with postgres.transaction(connection):
        connection.run("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))", lock=_LOCK)
        stars = referenced_first(catalog.stars)
        created = create_missing(connection, stars)
        new_captures = record_captures(connection, captures)
        for star in stars:
            source, *_ = star.inputs(catalog.stars)
            loads_by_table[star.name] = _TableLoader(
                connection,
                star,
                catalog.references(star),
                files[star.name],
                {capture.captured_at: capture for capture in captures},
                {capture.captured_at for capture in new_captures},
                source,
                _expected_rows(star, source, captures),
                is_derived=source in files,
                is_empty=star in created,
            ).load()
        for star in created:
            add_foreign_keys(connection, star)  # nothing was merged into some
        return Load(loads_by_table, new_captures, ungranted(connection))


def _expected_rows(star: StarTable, source: str, captures: Sequence[Capture]) -> dict[datetime, int]:
    """Return the number of rows that each capture has of a fact: those of its first input. Empty for a dimension."""
    return {
        capture.captured_at: capture.files[source].rows if source in capture.files else 0
        for capture in captures
        if star.keeps_every_version
    }


@dataclass
class _TableLoader:
    """The load of one star table. Captures are identified by their time.

    `source` is the table's first input; if that is a star table, it `is_derived`, and misses nothing by itself.
    """

    connection: Connection
    star: StarTable
    references: Mapping[str, StarTable]
    file: StarFile
    captures: Mapping[datetime, Capture]
    new_captures: Set[datetime]
    source: str
    expected_rows: Mapping[datetime, int]
    is_derived: bool
    is_empty: bool
    has_pending: bool = False
    has_rejected: bool = False
    refused: int = 0
    changed: int = 0
    deleted: int = 0

    def load(self) -> TableLoad:
        connection, star, rejected = self.connection, self.star, self.file.rejected
        has_full = any(capture.is_full(self.source) for capture in self.captures.values())
        has_input = self.file.rows.metadata.num_rows or rejected.num_rows or has_full
        self.has_pending = quarantine.has_rows(connection, PENDING, star)
        if not has_input and not self.has_pending:
            return TableLoad(unmatched=sum(self.expected_rows.values()))
        started = monotonic()
        quarantine.create_staged_rejected(connection, star)
        quarantine.stage_rejected(connection, star, rejected)
        read = self._stage()
        unmatched = sum(abs(rows - self._count_staged(time)) for time, rows in self.expected_rows.items())
        staged_at = monotonic()
        self.has_rejected |= bool(rejected.num_rows) or quarantine.has_rows(connection, REJECTED, star)
        released = quarantine.release(connection, star, self.references) if self.has_pending else []
        for captured_at in sorted({*self.captures, *released}):
            self._load_capture(captured_at, self.captures.get(captured_at))
        repairs = [captured_at for captured_at, capture in self.captures.items() if capture.repairs]
        repaired = sum(repaired_rows(connection, star, captured_at) for captured_at in repairs)
        quarantined: list[quarantine.QuarantinedRow] = []
        if self.has_rejected or self.has_pending:
            for captured_at in self.captures:
                quarantined += quarantine.quarantined_at(connection, star, captured_at)
        latest = max(self.captures, default=None)
        if latest in self.new_captures and latest in repairs and star.keeps_every_version:
            rows, keys = self._count_rejected(latest)
            unmatched += self._row_count_gap(self.expected_rows[latest] - (rows - keys))
        seconds = (staged_at - started, monotonic() - staged_at)
        return TableLoad(read, self.changed, self.deleted, repaired, quarantined, unmatched, *seconds)

    def _stage(self) -> int:
        """Copy the file into a temporary table, and return the number of rows."""
        table, columns = staged(self.star), self.star.captured_columns.names
        self.connection.run(
            f"CREATE TEMPORARY TABLE {table} ON COMMIT DROP AS "
            f"SELECT {column_list(columns)}, false AS {DELETED} FROM {relation(self.star)} WITH NO DATA"
        )
        self.connection.run(f"ALTER TABLE {table} ALTER {DELETED} SET DEFAULT false")
        batches = partial(self.file.rows.iter_batches, _BATCH_ROWS, columns=columns, use_threads=False)
        try:
            with postgres.savepoint(self.connection):
                rows = self.connection.copy_in(table, columns, postgres.csv_chunks(batches()))
        except StatementRefusedError as refusal:
            if not refusal.is_about_data:
                raise
            rows = sum(self._stage_storable(pa.Table.from_batches([batch])) for batch in batches())
        self.connection.run(f"ANALYZE {table} ({column_list((*self.star.primary_key, CAPTURED_AT))})")
        return rows

    def _stage_storable(self, rows: pa.Table) -> int:
        """Stage the rows that the warehouse can store, and reject the others. Return the number of all."""
        columns = self.star.captured_columns.names
        try:
            with postgres.savepoint(self.connection):
                return self.connection.copy_in(staged(self.star), columns, postgres.csv_chunks(rows.to_batches()))
        except StatementRefusedError as refusal:
            if rows.num_rows > 1:
                half = rows.num_rows // 2
                return self._stage_storable(rows.slice(0, half)) + self._stage_storable(rows.slice(half))
            self._count_refused(refusal)
            rejection = Rejection(0, self._unstorable_column(rows), f"cannot be stored: {refusal.summary}")
            rejected = rejections(self.star.name, self.star.primary_key, rows, [rejection], first_position=0)
            quarantine.stage_rejected(self.connection, self.star, rejected, refused=True)
            return 1

    def _unstorable_column(self, row: pa.Table) -> str:
        """Return the column of a row whose value the warehouse cannot store."""
        for name, value in row.to_pylist()[0].items():
            try:
                with postgres.savepoint(self.connection):
                    self.connection.run("SELECT CAST(:value AS text)", value=None if value is None else str(value))
            except StatementRefusedError:
                return str(name)
        return self.star.primary_key[0]

    def _count_refused(self, refusal: StatementRefusedError) -> None:
        self.refused += 1
        self.has_rejected = True
        if self.refused > _MAX_REFUSED_ROWS:
            raise RowsRefusedError(self.star, refusal)

    def _load_capture(self, captured_at: datetime, capture: Capture | None) -> None:
        """Merge the staged versions of one time. Without a capture, these are released ones."""
        connection, star = self.connection, self.star
        writes_tombstones = capture is not None and capture.is_full(self.source) and star.keeps_every_version
        if writes_tombstones:
            connection.run(stage_tombstones(star, self.has_pending), captured_at=captured_at)
        try:
            with postgres.savepoint(connection):
                merged = self._merge(captured_at)
        except StatementRefusedError as refusal:
            if not refusal.is_about_data:
                raise
            self.has_pending |= quarantine.hold_unresolved(
                connection, star, self.references, captured_at, self.has_pending
            )
            merged = self._merge_accepted(captured_at)
        missed = merged
        if self.has_rejected:
            if capture and capture.repairs:
                missed -= quarantine.count_corrected(connection, star, captured_at)
            quarantine.clear_corrected(connection, star, captured_at)
            if capture and captured_at in self.new_captures:
                quarantine.record_rejected(connection, star, captured_at, is_full=capture.is_full(self.source))
            elif self.refused:
                quarantine.record_refused(connection, star, captured_at)
        tombstones = self._count_tombstones(captured_at) if writes_tombstones else 0
        self.is_empty = False
        self.changed += merged
        self.deleted += tombstones
        record_rows(connection, "changed", star, captured_at, merged)
        if capture and capture.repairs and not self.is_derived:
            record_rows(connection, "repaired", star, captured_at, missed - tombstones)

    def _merge(self, captured_at: datetime, rows: Sequence[str] | None = None) -> int:
        """Merge the staged versions of one time, or some `rows` of them. Return the number inserted or replaced.

        A new table gets its foreign keys after its first rows: checking all at once takes a tenth of the time.

        Raises:
            StatementRefusedError: a row breaks a constraint.
        """
        statement = merge(self.star, self.has_pending, is_empty=self.is_empty, only_rows=rows is not None)
        self.connection.run(statement, captured_at=captured_at, **({} if rows is None else {"rows": rows}))
        merged = int(self.connection.row_count)
        if self.is_empty:
            add_foreign_keys(self.connection, self.star)
        return merged

    def _merge_accepted(self, captured_at: datetime, rows: Sequence[str] | None = None) -> int:
        """Merge the rows that the warehouse accepts, and reject the others: it may have constraints of others."""
        try:
            with postgres.savepoint(self.connection):
                return self._merge(captured_at, rows)
        except StatementRefusedError as refusal:
            if not refusal.is_about_data:
                raise
            if rows is None:
                rows = quarantine.staged_at(self.connection, self.star, captured_at)
            if len(rows) > 1:
                half = len(rows) // 2
                return self._merge_accepted(captured_at, rows[:half]) + self._merge_accepted(captured_at, rows[half:])
            self._count_refused(refusal)
            reason = f"is refused by the warehouse: {refusal.summary}"
            quarantine.stage_refused(self.connection, self.star, rows[0], reason)
            return 0

    def _count_staged(self, captured_at: datetime) -> int:
        """Return the number of staged rows of a capture, rejected ones included."""
        [[count]] = self.connection.run(
            f"SELECT count(*) FROM {staged(self.star)} WHERE {OF_CAPTURE}", captured_at=captured_at
        )
        rejected, _ = self._count_rejected(captured_at)
        return int(count) + rejected

    def _count_rejected(self, captured_at: datetime) -> tuple[int, int]:
        """Return the number of rejected rows of a capture, and of their keys."""
        [[rows, keys]] = self.connection.run(
            f"""SELECT count(DISTINCT ("table", key, position, "row")), count(DISTINCT key)
                FROM {staged_rejected(self.star)} WHERE {OF_CAPTURE} AND "table" IN (:star, :source)""",
            captured_at=captured_at,
            star=self.star.name,
            source=self.source,
        )
        return int(rows), int(keys)

    def _count_tombstones(self, captured_at: datetime) -> int:
        [[count]] = self.connection.run(
            f"SELECT count(*) FROM {staged(self.star)} WHERE {OF_CAPTURE} AND {DELETED}", captured_at=captured_at
        )
        return int(count)

    def _row_count_gap(self, expected: int) -> int:
        """Return how many current facts are missing or surplus, if the latest capture is full and has `expected`."""
        [[present]] = self.connection.run(f"SELECT count(*) FROM {current(self.star)}")
        missing = expected - quarantine.outstanding(self.connection, self.star) - int(present)
        return max(0, int(present) - expected) + max(0, missing)
