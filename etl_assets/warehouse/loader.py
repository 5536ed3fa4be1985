"""The load: one transaction that takes captures, those of a partition or all, oldest first. Loading is idempotent.

Each table goes through the same steps: stage the files, and the pending versions; stage tombstones; hold what refers to
rows that are not there; merge the versions that are new; update the quarantine.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from time import monotonic
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from etl_assets.adapters import postgres
from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection, StatementRefusedError, column_list, join_condition
from etl_assets.ingestion.manifest import Capture
from etl_assets.ingestion.present_keys import FIRST_AT, LAST_AT, read_present_keys
from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE
from etl_assets.schema.table import Catalog, Table, referenced_first
from etl_assets.transformation.complete_captures import can_lose_rows, captured_key, has_list
from etl_assets.transformation.parquet_files import StarFile
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse import history, quarantine
from etl_assets.warehouse.ddl import add_foreign_keys, create_missing, stored_tables, ungranted
from etl_assets.warehouse.history import staged, staged_rejected
from etl_assets.warehouse.ledger import (
    count_repaired,
    forget_changed,
    outdated_tables,
    record_captures,
    record_rows,
    record_rules,
    record_table_rows,
    rules_of_tables,
    table_rows,
)
from etl_assets.warehouse.quarantine import References
from etl_assets.warehouse.reconciliation import Reconciliation, reconcile
from etl_assets.warehouse.relations import PENDING, REJECTED, relation
from etl_assets.warehouse.staging import StagedRows

_MAX_RECONCILED = 10  # each takes a scan of the table
_LOCK = "totesys ETL: load"  # PostgreSQL hashes it into the key of an advisory lock.


class OutdatedFileError(Exception):
    """A file was made by another version of a star table's rule; another run may be about to make it again."""

    def __init__(self, star_table: str, partition: str) -> None:
        super().__init__(
            f"transformation/{star_table} of partition {partition} was made by another version of its rule: "
            "materialize transformation/* of this partition first"
        )


@dataclass(frozen=True)
class TableLoad:
    """What a load did to a table.

    read: rows of the file.
    changed: rows inserted or replaced, tombstones included.
    deleted: tombstones inserted, for rows that a capture no longer had.
    repaired: rows changed by full captures that were requested to find missed changes.
    quarantined: rows that these captures added or changed, and that are not loaded.
    unmatched: missing or surplus rows of a fact, compared with what was captured.
    outdated: whether nothing was loaded, because the table was built by another version of its rule.
    rows: of a dimension, and the current ones of a fact, after the load; None if nobody has counted them.
    seconds_read, seconds_write: for staging the file, and for merging it.
    reconciliations: with the full captures among those loaded, oldest first.
    """

    read: int = 0
    changed: int = 0
    deleted: int = 0
    repaired: int = 0
    quarantined: Sequence[quarantine.QuarantinedRow] = ()
    unmatched: int = 0
    outdated: bool = False
    rows: int | None = None
    seconds_read: float = 0.0
    seconds_write: float = 0.0
    reconciliations: Sequence[Reconciliation] = ()


@dataclass(frozen=True)
class Load:
    """What a load did to each table, the captures that were not loaded before, and why analysts cannot read, if so."""

    tables: Mapping[str, TableLoad]
    new_captures: Sequence[Capture]
    ungranted: str | None

    @property
    def outdated(self) -> list[str]:
        """The tables that nothing was loaded into, because they were built by another version of their rule."""
        return [name for name, table in self.tables.items() if table.outdated]

    @property
    def up_to_date(self) -> list[str]:
        """The other tables."""
        return [name for name, table in self.tables.items() if not table.outdated]


@dataclass(frozen=True)
class TableInput:
    """What is to be loaded into a star table: captures, oldest first, and the files that have their rows.

    replaces: whether this is all that the table is to have.
    staged: rows that are staged already, of other files.
    is_emptied: whether the rows of the table have been deleted.
    """

    captures: Sequence[Capture]
    files: Sequence[StarFile]
    replaces: bool = False
    staged: StagedRows | None = None
    is_emptied: bool = False


def lock(connection: Connection) -> None:
    """Wait until no other load is in progress, and keep others waiting until the transaction ends."""
    connection.run("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))", lock=_LOCK)


def load(
    connection: Connection,
    ingestion: Bucket,
    catalog: Catalog[StarTable],
    rules: Mapping[str, str],
    captures: Sequence[Capture],
    files: Mapping[str, StarFile],
) -> Load:
    """Load captures, oldest first, from the files of their star tables, in one transaction; none needs no file.

    `rules` are the versions of the rules of the star tables. Nothing is loaded into a table that was built by another:
    it waits to be rebuilt. The others are compared with full captures, whose objects are in the `ingestion` bucket.

    Raises:
        PredecessorNotLoadedError: the predecessor of a capture is not loaded.
        OutdatedFileError: a file was made by another version of its rule.
        SchemaMismatchError: a table of the warehouse does not match its declaration.
        DatabaseUnavailableError: the warehouse is down, or a table stays locked.
    """
    with postgres.transaction(connection):
        lock(connection)
        outdated = outdated_tables(connection, rules)
        inputs = {
            name: TableInput(captures, [files[name]] if captures else []) for name in rules if name not in outdated
        }
        for name in inputs if captures else ():
            if files[name].rule != rules[name]:
                raise OutdatedFileError(name, captures[0].partition)
        return load_tables(connection, ingestion, catalog, rules, captures, inputs)


class _RehearsedError(Exception):
    """The end of a rehearsal, which rolls it back."""


def rehearse(connection: Connection, catalog: Catalog[StarTable], rules: Mapping[str, str]) -> None:
    """Begin a load without captures: create what is missing, and the tables for staging. All of it is rolled back.

    Raises:
        SchemaMissingError: the role may not create a schema.
        SchemaMismatchError: a table of the warehouse does not match its declaration.
        StatementRefusedError: the warehouse refuses a statement.
        DatabaseUnavailableError: the warehouse is down, or a load in progress does not end.
    """
    stars = referenced_first(catalog.stars)
    with suppress(_RehearsedError), postgres.transaction(connection):
        lock(connection)
        create_missing(connection, stars, unchecked={*outdated_tables(connection, rules)})
        for star in stars:
            StagedRows(connection, star)
        raise _RehearsedError


def load_tables(
    connection: Connection,
    ingestion: Bucket,
    catalog: Catalog[StarTable],
    rules: Mapping[str, str],
    captures: Sequence[Capture],
    inputs: Mapping[str, TableInput],
) -> Load:
    """Load the input of each star table that has one, in the current transaction, and record captures as loaded.

    Raises:
        PredecessorNotLoadedError: the predecessor of a capture is not loaded.
        SchemaMismatchError: a table of the warehouse does not match its declaration.
    """
    stars = referenced_first(catalog.stars)
    created = create_missing(connection, stars, unchecked={star.name for star in stars} - set(inputs))
    new_captures = record_captures(connection, captures)
    loaders: dict[str, _TableLoader] = {}
    rows_before = table_rows(connection)
    tables = {star.name: TableLoad(outdated=True, rows=rows_before.get(star.name)) for star in stars}
    for star in stars:
        if star.name in inputs:
            references = catalog.references(star)
            shrinking = {name for name, loader in loaders.items() if loader.is_shrinking}
            source, *_ = star.inputs(catalog.stars)
            loaders[star.name] = _TableLoader(
                connection,
                ingestion,
                star,
                References(references, shrinking & {to.name for to in references.values()}),
                inputs[star.name],
                {capture.captured_at for capture in new_captures},
                catalog[source],
                rows_before.get(star.name),
                is_created=star in created or inputs[star.name].is_emptied,
            )
            tables[star.name] = loaders[star.name].load()
    for loader in reversed(loaders.values()):
        loader.delete_surplus()
    rows = {name: loader.count_rows() for name, loader in loaders.items()}
    for table in stored_tables(created):
        add_foreign_keys(connection, table)  # nothing was merged into some
    built_by = rules_of_tables(connection)
    record_rules(
        connection,
        {name: rules[name] for name, each in inputs.items() if each.replaces or built_by.get(name) != rules[name]},
    )
    record_table_rows(connection, rows)
    for name, table_input in inputs.items():
        full = _to_reconcile(table_input, new_captures)
        found = reconcile(connection, catalog, ingestion, name, full, again=table_input.replaces)
        tables[name] = replace(tables[name], rows=rows[name], reconciliations=found)
    return Load(tables, new_captures, ungranted(connection))


def _to_reconcile(table_input: TableInput, new_captures: Sequence[Capture]) -> list[Capture]:
    """Return the full captures to compare a table with: the latest ones, and of a rebuild, those that are new.

    The latest one is always among them.
    """
    full = [capture for capture in table_input.captures if capture.full][-_MAX_RECONCILED:]
    if not table_input.replaces:
        return full
    ids = {capture.id for capture in new_captures}
    return [capture for capture in full if capture.id in ids or capture is full[-1]]


@dataclass
class _TableLoader:
    """The load of one star table. Captures are identified by their time.

    source: the table's first input.
    rows_before: the number of its rows before the load, if it is recorded.
    """

    connection: Connection
    ingestion: Bucket
    star: StarTable
    references: References
    input: TableInput
    new_captures: Set[datetime]
    source: Table
    rows_before: int | None
    is_created: bool
    _rows: StagedRows = field(init=False)
    has_pending: bool = False
    is_shrinking: bool = False
    touched: int = 0
    added: int = 0
    changed: Counter[datetime] = field(default_factory=Counter)
    deleted: Counter[datetime] = field(default_factory=Counter)

    @property
    def is_derived(self) -> bool:
        """Whether it is made from star tables: it misses nothing by itself."""
        return isinstance(self.source, StarTable)

    @cached_property
    def _keys(self) -> history.RowKeys:
        return history.RowKeys(self.star, captured_key(self.star, self.source))

    @property
    def is_empty(self) -> bool:
        """Whether no version is loaded, or those that are do not count."""
        return self.is_created or self.input.replaces

    def load(self) -> TableLoad:
        connection, star = self.connection, self.star
        captures = {capture.captured_at: capture for capture in self.input.captures}
        expected = self._expected_rows()
        full = [captured_at for captured_at, capture in captures.items() if capture.is_full(self.source.name)]
        if self.input.replaces:
            quarantine.forget_pending(connection, star)
            forget_changed(connection, star)
        self.has_pending = quarantine.has_rows(connection, PENDING, star)
        has_earlier = not (self.is_empty and self._is_one_capture)  # versions that can be missing in a capture
        lists = self._lists() if has_earlier else {}
        files = [file for file in self.input.files if file.rows.metadata.num_rows or file.rejected.num_rows]
        if not (files or self.input.staged or full or lists or self.has_pending or self.references.shrinking):
            return TableLoad(unmatched=sum(expected.values()))
        rows = self._rows = self.input.staged or StagedRows(connection, star)
        for file in files:
            rows.add(file)
        unmatched = self._count_unmatched(expected)
        started = monotonic()
        rows.has_rejected |= quarantine.has_rows(connection, REJECTED, star)
        if self.has_pending:
            quarantine.restage_pending(connection, star)
        if (full or lists) and can_lose_rows(self.star, self.source) and has_earlier:
            self._stage_tombstones(full, lists)
        if self.input.replaces and not self.is_created:
            self._replace()
        else:
            self._merge()
        if full and has_earlier and not self.input.replaces and not star.keeps_every_version:
            self._repair_latest(full[-1])
        if self.references.shrinking and not self.input.replaces:
            self.touched += quarantine.hold_loaded(connection, star, self.references)
        record_rows(connection, "changed", star, self.changed)
        repairs = [captured_at for captured_at, capture in captures.items() if capture.repairs]
        if repairs and not self.is_derived and not self.input.replaces:
            self._record_repaired(repairs)
        new, every = sorted(self.new_captures & captures.keys()), sorted(captures)
        recorded, reported = (every, new) if self.input.replaces else (new, every)
        if rows.has_rejected:
            quarantine.record_rejected(
                connection,
                self._keys,
                recorded,
                sorted({*full} & {*recorded}),
                {captured_at: number for captured_at, number in lists.items() if captured_at in recorded},
                replaces=self.input.replaces,
            )
        quarantined = quarantine.quarantined_at(connection, star, reported)
        latest = max(captures, default=None)
        if latest in self.new_captures and latest in repairs and star.keeps_every_version:
            unmatched += self._row_count_gap(expected[latest] - self._count_unreadable(latest))
        return TableLoad(
            read=rows.read,
            changed=self.touched,
            deleted=self.deleted.total(),
            repaired=count_repaired(connection, star, repairs) if repairs else 0,
            quarantined=quarantined,
            unmatched=unmatched,
            seconds_read=rows.seconds,
            seconds_write=monotonic() - started,
        )

    def delete_surplus(self) -> None:
        """Delete the rows that other tables might have referred to until now."""
        if self.is_shrinking:
            same = join_condition(self.star.primary_key, "present", "surplus")
            self.connection.run(
                f"DELETE FROM {relation(self.star)} present USING {history.surplus(self.star)} surplus WHERE {same}"
            )

    def count_rows(self) -> int:
        """Return the number of rows after the load. An ordinary load knows how many it added; others count."""
        is_full = any(capture.is_full(self.source.name) for capture in self.input.captures)
        if self.rows_before is None or self.is_empty or is_full or self.references.shrinking:
            [[count]] = self.connection.run(history.count_rows(self.star))
            return int(count)
        return self.rows_before + self.added

    def _expected_rows(self) -> dict[datetime, int]:
        """Return the number of rows that each capture has of a fact, by its first input. Empty for a dimension."""
        return {
            capture.captured_at: capture.files[self.source.name].rows if self.source.name in capture.files else 0
            for capture in self.input.captures
            if self.star.keeps_every_version
        }

    def _lists(self) -> dict[datetime, int]:
        """Return the numbers of the lists of keys that captures have, by time."""
        captures = (capture for capture in self.input.captures if has_list(self.star, self.source, capture))
        return {capture.captured_at: number for number, capture in enumerate(captures)}

    def _stage_tombstones(self, full: Sequence[datetime], lists: Mapping[datetime, int]) -> None:
        connection, star = self.connection, self.star
        complete, keys = history.complete_captures(star), history.present_keys(star)
        connection.run(history.create_present_keys(star))
        times = pa.array(lists, CAPTURED_AT_TYPE)
        for batch in read_present_keys(self.ingestion, self.source, self.input.captures) if lists else ():
            numbers = [pc.index_in(batch.column(name), value_set=times) for name in (FIRST_AT, LAST_AT)]
            columns = (*star.primary_key, history.FIRST_LIST, history.LAST_LIST)
            ranges = pa.table([*batch.select(self._keys.source_key).columns, *numbers], names=columns)
            connection.copy_in(keys, columns, postgres.csv_chunks(ranges.to_batches()))
        connection.run(f"CREATE INDEX ON {keys} ({column_list(star.primary_key)})")
        connection.run(f"ANALYZE {keys}")
        connection.run(
            history.create_complete_captures(self._keys),
            times=[*full, *lists],
            lists=[*([None] * len(full)), *lists.values()],
            star=star.name,
            source=self.source.name,
        )
        connection.run(f"CREATE UNIQUE INDEX ON {complete} ({CAPTURED_AT})")
        connection.run(f"ANALYZE {complete}")
        connection.run(history.stage_tombstones(self._keys, is_empty=self.is_empty), lists=len(lists))

    @property
    def _is_one_capture(self) -> bool:
        return len(self.input.captures) == 1 and not self.has_pending

    @property
    def _known(self) -> dict[str, bool]:
        """What is known of the staged versions and those before them, as the SQL over them takes it."""
        return {"is_empty": self.is_empty, "one_capture": self._is_one_capture, "restaged": self.has_pending}

    def _merge(self) -> None:
        """Merge the staged versions that are new.

        A new table gets its foreign keys after its first rows: checking all at once takes a tenth of the time.
        """
        star, any_held = self.star, False
        if self.has_pending:
            any_held = quarantine.hold_unresolved(self.connection, star, self.references)
        if not any_held:
            try:
                with postgres.savepoint(self.connection):
                    counts = self.connection.run(
                        history.merge(star, history.new_versions(star, **self._known), **self._known)
                    )
                    self._add_foreign_keys()
            except StatementRefusedError as refusal:
                if not refusal.is_about_data:
                    raise
                quarantine.hold_unresolved(self.connection, star, self.references)
            else:
                self._count(counts)
                return
        last = self._keep_new()
        versions = history.numbered(star)
        self._run_accepted(history.merge(star, versions, is_empty=self.is_empty, restaged=self.has_pending), 1, last)
        self._add_foreign_keys()

    def _add_foreign_keys(self) -> None:
        if self.is_created:
            for table in stored_tables([self.star]):
                add_foreign_keys(self.connection, table)

    def _replace(self) -> None:
        """Make the table equal the staged versions that are new."""
        star = self.star
        quarantine.hold_unresolved(self.connection, star, self.references)
        last = self._keep_new()
        for captured_at, rows, tombstones in self.connection.run(history.count_wanted(star)):
            self.changed[captured_at] += rows
            self.deleted[captured_at] += tombstones
        changed, deleted = self.changed.copy(), self.deleted.copy()
        self._run_accepted(history.update(star), 1, last)
        self._delete_versions()
        if not star.keeps_every_version:
            self.connection.run(history.mark_replaced(star))
            self.touched = max(self.touched, self.connection.row_count)
        refused = self._rows.refused
        self._run_accepted(history.merge(star, history.numbered(star), is_empty=False, replaces=True), 1, last)
        if self._rows.refused > refused:
            self._delete_versions()
        if not star.keeps_every_version:
            self.connection.run(history.create_surplus(star))
            [[surplus]] = self.connection.run(f"SELECT count(*) FROM {history.surplus(star)}")
            self.is_shrinking = surplus > 0
        self.changed, self.deleted = changed, deleted

    def _repair_latest(self, captured_at: datetime) -> None:
        """Set right what others have done to the latest versions: they are not compared with what is captured."""
        self.connection.run(history.refresh_latest(self.star))
        self.changed[captured_at] += self.connection.row_count
        self.touched += self.connection.row_count

    def _delete_versions(self) -> None:
        self.connection.run(history.delete_surplus(self.star))
        self.touched += self.connection.row_count

    def _keep_new(self) -> int:
        """Keep the new versions in a temporary table, record those held as pending, and return the highest number."""
        star, table = self.star, history.new(self.star)
        self.connection.run(history.create_new(star, **self._known))
        self.connection.run(f"CREATE UNIQUE INDEX ON {table} ({history.NUMBER})")
        self.connection.run(f"ANALYZE {table}")
        if self.references.tables:
            quarantine.record_pending(self.connection, star, self.references)
            self.connection.run(history.create_substitutes(star, is_empty=self.is_empty))
        [[last]] = self.connection.run(f"SELECT coalesce(max({history.NUMBER}), 0) FROM {table}")
        return int(last)

    def _run_accepted(self, statement: str, first: int, last: int) -> None:
        """Run a statement over the new versions of these numbers that the warehouse accepts, and reject the others.

        It may have constraints of others.
        """
        try:
            with postgres.savepoint(self.connection):
                counts = self.connection.run(statement, first=first, last=last)
        except StatementRefusedError as refusal:
            if not refusal.is_about_data:
                raise
            if first < last:
                middle = (first + last) // 2
                self._run_accepted(statement, first, middle)
                self._run_accepted(statement, middle + 1, last)
                return
            self._rows.count_refused(refusal)
            reason = f"is refused by the warehouse: {refusal.summary}"
            quarantine.stage_refused(self.connection, self.star, first, reason)
        else:
            self._count(counts)

    def _count(self, counts: Sequence[Sequence[Any]]) -> None:
        for captured_at, rows, tombstones, _ in counts:
            self.changed[captured_at] += rows
            self.deleted[captured_at] += tombstones
            self.touched += rows
        self.added += next((added or 0 for *_, added in counts), 0)

    def _record_repaired(self, repairs: Sequence[datetime]) -> None:
        known = quarantine.count_corrected(self.connection, self.star, repairs) if self._rows.has_rejected else {}
        repaired = {
            captured_at: self.changed[captured_at] - self.deleted[captured_at] - known.get(captured_at, 0)
            for captured_at in repairs
        }
        record_rows(self.connection, "repaired", self.star, repaired)

    def _count_unmatched(self, expected: Mapping[datetime, int]) -> int:
        """Return how many rows are missing or surplus, compared with the number that each capture has."""
        if not expected:
            return 0
        found = Counter(
            dict(self.connection.run(f"SELECT {CAPTURED_AT}, count(*) FROM {staged(self.star)} GROUP BY 1"))
        )
        for captured_at, rows, _ in self._count_rejected() if self._rows.has_rejected else ():
            found[captured_at] += rows
        return sum(abs(rows - found[captured_at]) for captured_at, rows in expected.items())

    def _count_rejected(self) -> list[list[Any]]:
        """Return by time of capture the number of rejected rows, and of their keys."""
        return self.connection.run(
            f"""SELECT {CAPTURED_AT}, count(DISTINCT ("table", key, position, "row")), count(DISTINCT key)
                FROM {staged_rejected(self.star)} WHERE "table" IN (:star, :source) GROUP BY 1""",
            star=self.star.name,
            source=self.source.name,
        )

    def _count_unreadable(self, captured_at: datetime) -> int:
        """Return by how many the rejected rows of a capture exceed their keys."""
        return sum(rows - keys for time, rows, keys in self._count_rejected() if time == captured_at)

    def _row_count_gap(self, expected: int) -> int:
        """Return how many current facts are missing or surplus, if the latest capture is full and has `expected`."""
        [[present]] = self.connection.run(history.count_rows(self.star))
        missing = expected - quarantine.outstanding(self.connection, self.star) - int(present)
        return max(0, int(present) - expected) + max(0, missing)
