"""The load: one transaction that takes captures, those of a partition or all, oldest first. Loading is idempotent.

Each table goes through the same steps: stage the files, and the pending versions; stage tombstones; hold what refers to
rows that are not there; merge the versions that are new; update the quarantine.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

from etl_assets.adapters import postgres
from etl_assets.adapters.postgres import Connection, StatementRefusedError, join_condition
from etl_assets.ingestion.manifest import Capture
from etl_assets.schema.columns import CAPTURED_AT
from etl_assets.schema.table import Catalog, referenced_first
from etl_assets.transformation.parquet_files import StarFile
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse import history, quarantine
from etl_assets.warehouse.ddl import PENDING, REJECTED, add_foreign_keys, create_missing, current, relation, ungranted
from etl_assets.warehouse.history import staged, staged_rejected
from etl_assets.warehouse.ledger import (
    count_repaired,
    forget_changed,
    outdated_tables,
    record_captures,
    record_rows,
    record_rules,
    rules_of_tables,
)
from etl_assets.warehouse.quarantine import References
from etl_assets.warehouse.staging import StagedRows

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
    deleted: tombstones inserted, for facts that a full capture no longer had.
    repaired: rows changed by full captures that were requested to find missed changes.
    quarantined: rows that these captures added or changed, and that are not loaded.
    unmatched: missing or surplus rows of a fact, compared with what was captured.
    outdated: whether nothing was loaded, because the table was built by another version of its rule.
    seconds_read, seconds_write: for staging the file, and for merging it.
    """

    read: int = 0
    changed: int = 0
    deleted: int = 0
    repaired: int = 0
    quarantined: Sequence[quarantine.QuarantinedRow] = ()
    unmatched: int = 0
    outdated: bool = False
    seconds_read: float = 0
    seconds_write: float = 0


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
    catalog: Catalog[StarTable],
    rules: Mapping[str, str],
    captures: Sequence[Capture],
    files: Mapping[str, StarFile],
) -> Load:
    """Load captures, oldest first, from the files of their star tables, in one transaction.

    `rules` are the versions of the rules of the star tables. Nothing is loaded into a table that was built by another:
    it waits to be rebuilt.

    Raises:
        PredecessorNotLoadedError: the predecessor of a capture is not loaded.
        OutdatedFileError: a file was made by another version of its rule.
        SchemaMismatchError: a table of the warehouse does not match its declaration.
        DatabaseUnavailableError: the warehouse is down, or a table stays locked.
    """
    with postgres.transaction(connection):
        lock(connection)
        outdated = outdated_tables(connection, rules)
        inputs = {name: TableInput(captures, [files[name]]) for name in files if name not in outdated}
        for name in inputs:
            if captures and files[name].rule != rules[name]:
                raise OutdatedFileError(name, captures[0].partition)
        return load_tables(connection, catalog, rules, captures, inputs)


def load_tables(
    connection: Connection,
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
    tables = {star.name: TableLoad(outdated=True) for star in stars}
    for star in stars:
        if star.name in inputs:
            references = catalog.references(star)
            shrinking = {name for name, loader in loaders.items() if loader.is_shrinking}
            source, *_ = star.inputs(catalog.stars)
            loaders[star.name] = _TableLoader(
                connection,
                star,
                References(references, shrinking & {to.name for to in references.values()}),
                inputs[star.name],
                {capture.captured_at for capture in new_captures},
                source,
                is_derived=isinstance(catalog[source], StarTable),
                is_created=star in created or inputs[star.name].is_emptied,
            )
            tables[star.name] = loaders[star.name].load()
    for loader in reversed(loaders.values()):
        loader.delete_surplus()
    for star in created:
        add_foreign_keys(connection, star)  # nothing was merged into some
    built_by = rules_of_tables(connection)
    record_rules(
        connection,
        {name: rules[name] for name, each in inputs.items() if each.replaces or built_by.get(name) != rules[name]},
    )
    return Load(tables, new_captures, ungranted(connection))


@dataclass
class _TableLoader:
    """The load of one star table. Captures are identified by their time.

    `source` is the table's first input; if that is a star table, it `is_derived`, and misses nothing by itself.
    """

    connection: Connection
    star: StarTable
    references: References
    input: TableInput
    new_captures: Set[datetime]
    source: str
    is_derived: bool
    is_created: bool
    _rows: StagedRows = field(init=False)
    has_pending: bool = False
    is_shrinking: bool = False
    touched: int = 0
    changed: Counter[datetime] = field(default_factory=Counter)
    deleted: Counter[datetime] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        """Whether no version is loaded, or those that are do not count."""
        return self.is_created or self.input.replaces

    def load(self) -> TableLoad:
        connection, star = self.connection, self.star
        captures = {capture.captured_at: capture for capture in self.input.captures}
        expected = self._expected_rows()
        full = [captured_at for captured_at, capture in captures.items() if capture.is_full(self.source)]
        if self.input.replaces:
            quarantine.forget_pending(connection, star)
            forget_changed(connection, star)
        self.has_pending = quarantine.has_rows(connection, PENDING, star)
        files = [file for file in self.input.files if file.rows.metadata.num_rows or file.rejected.num_rows]
        if not (files or self.input.staged or full or self.has_pending or self.references.shrinking):
            return TableLoad(unmatched=sum(expected.values()))
        rows = self._rows = self.input.staged or StagedRows(connection, star)
        for file in files:
            rows.add(file)
        unmatched = self._count_unmatched(expected)
        started = monotonic()
        rows.has_rejected |= quarantine.has_rows(connection, REJECTED, star)
        if self.has_pending:
            quarantine.restage_pending(connection, star)
        if full and star.keeps_every_version and not all(self._known.values()):  # else none can be missing
            self._stage_tombstones(full)
        if self.input.replaces and not self.is_created:
            self._replace()
        else:
            self._merge()
        if self.references.shrinking and not self.input.replaces:
            self.touched += quarantine.hold_loaded(connection, star, self.references)
        record_rows(connection, "changed", star, self.changed)
        repairs = [captured_at for captured_at, capture in captures.items() if capture.repairs]
        if repairs and not self.is_derived and not self.input.replaces:
            self._record_repaired(repairs)
        new, every = sorted(self.new_captures & captures.keys()), sorted(captures)
        recorded, reported = (every, new) if self.input.replaces else (new, every)
        if rows.has_rejected:
            in_full = sorted({*full} & {*recorded})
            quarantine.record_rejected(connection, star, recorded, in_full, replaces=self.input.replaces)
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

    def _expected_rows(self) -> dict[datetime, int]:
        """Return the number of rows that each capture has of a fact, by its first input. Empty for a dimension."""
        return {
            capture.captured_at: capture.files[self.source].rows if self.source in capture.files else 0
            for capture in self.input.captures
            if self.star.keeps_every_version
        }

    def _stage_tombstones(self, full: Sequence[datetime]) -> None:
        captures = history.full_captures(self.star)
        self.connection.run(history.create_full_captures(self.star), times=full)
        self.connection.run(f"CREATE UNIQUE INDEX ON {captures} ({CAPTURED_AT})")
        self.connection.run(f"ANALYZE {captures}")
        self.connection.run(history.stage_tombstones(self.star, is_empty=self.is_empty))

    @property
    def _known(self) -> dict[str, bool]:
        """What is known of the staged versions and those before them, as the SQL over them takes it."""
        one_capture = len(self.input.captures) == 1 and not self.has_pending
        return {"is_empty": self.is_empty, "one_capture": one_capture}

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
                    if self.is_created:
                        add_foreign_keys(self.connection, star)
            except StatementRefusedError as refusal:
                if not refusal.is_about_data:
                    raise
                quarantine.hold_unresolved(self.connection, star, self.references)
            else:
                self._count(counts)
                return
        last = self._keep_new()
        self._run_accepted(history.merge(star, history.numbered(star), is_empty=self.is_empty), 1, last)
        if self.is_created:
            add_foreign_keys(self.connection, star)

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
        if star.keeps_every_version:
            self.connection.run(history.delete_surplus(star))
            self.touched += self.connection.row_count
        else:
            self.connection.run(history.create_surplus(star))
            [[surplus]] = self.connection.run(f"SELECT count(*) FROM {history.surplus(star)}")
            self.is_shrinking = surplus > 0
            self.touched += surplus
        self._run_accepted(history.merge(star, history.numbered_absent(star), is_empty=False), 1, last)
        self.changed, self.deleted = changed, deleted

    def _keep_new(self) -> int:
        """Keep the new versions in a temporary table, record those held as pending, and return the highest number."""
        star, table = self.star, history.new(self.star)
        self.connection.run(history.create_new(star, **self._known))
        self.connection.run(f"CREATE UNIQUE INDEX ON {table} ({history.NUMBER})")
        self.connection.run(f"ANALYZE {table}")
        if self.references.tables:
            quarantine.record_pending(self.connection, star, self.references)
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
        for captured_at, rows, tombstones in counts:
            self.changed[captured_at] += rows
            self.deleted[captured_at] += tombstones
            self.touched += rows

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
            source=self.source,
        )

    def _count_unreadable(self, captured_at: datetime) -> int:
        """Return by how many the rejected rows of a capture exceed their keys."""
        return sum(rows - keys for time, rows, keys in self._count_rejected() if time == captured_at)

    def _row_count_gap(self, expected: int) -> int:
        """Return how many current facts are missing or surplus, if the latest capture is full and has `expected`."""
        [[present]] = self.connection.run(f"SELECT count(*) FROM {current(self.star)}")
        missing = expected - quarantine.outstanding(self.connection, self.star) - int(present)
        return max(0, int(present) - expected) + max(0, missing)
