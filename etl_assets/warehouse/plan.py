"""What to change in the warehouse so that its tables and views are as declared: a value, shown before it is applied.

Nothing that somebody may read is lost: a column that is no longer declared is kept, unless it is declared as `dropped`;
columns, constraints, indexes and grants of others are left alone. Where a view of somebody else stands in the way, the
table is left as it is, and the view is named.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from time import monotonic, sleep

import pyarrow as pa
from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, DatabaseUnavailableError, quote_identifier
from etl_assets.schema.columns import CAPTURED_AT, VALID_FROM, VALID_TO, earlier_name
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.types import is_wider, sql_type
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse.ddl import (
    column_definition,
    comment_statement,
    foreign_key_statement,
    key_constraint,
    stored_columns,
    stored_tables,
    table_statement,
)
from etl_assets.warehouse.live import Dependent, LiveColumn, LiveConstraint, LiveWarehouse
from etl_assets.warehouse.relations import qualified, relation
from etl_assets.warehouse.views import (
    as_was_columns,
    as_was_joins,
    as_was_name,
    as_was_queries,
    note_views_statement,
    view_columns,
    view_names,
    view_queries,
    view_statements,
    views_version,
)

_LOCK_TIMEOUT = "200ms"
"""A statement that waits for a lock holds up every reader who comes after it. One who has that lock may wait for a lock
of ours: after a second (`deadlock_timeout`), PostgreSQL would end the reader's query."""

_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.2

_EXCLUSIVE, _SHARE_ROW_EXCLUSIVE = "ACCESS EXCLUSIVE", "SHARE ROW EXCLUSIVE"


class EvolutionBlockedError(PermanentError):
    """The warehouse cannot be changed as declared before someone has acted. The message says what to do."""


class Phase(StrEnum):
    """When a step may be applied.

    AT_ONCE: at any time, in a short transaction: rows and analysts' queries stay as they are.
    WITH_ROWS: in the transaction that replaces the rows of the table.
    AFTER_ROWS: when the rows fit.
    """

    AT_ONCE = "at once"
    WITH_ROWS = "with the rows"
    AFTER_ROWS = "after the rows"


class Kind(StrEnum):
    """What a step does. Steps of one phase are applied in this order."""

    CHANGE_KIND = "change kind"
    CREATE_TABLE = "create table"
    DROP_VIEW = "drop view"
    RENAME_COLUMN = "rename column"
    ADD_COLUMN = "add column"
    WIDEN_COLUMN = "widen column"
    KEEP_COLUMN = "keep column"
    DROP_FOREIGN_KEY = "drop foreign key"
    CHANGE_KEY = "change key"
    DROP_NOT_NULL = "drop not null"
    RETYPE_COLUMN = "retype column"
    DROP_COLUMN = "drop column"
    CHANGE_VIEW = "change view"
    CREATE_VIEW = "create view"
    SET_NOT_NULL = "set not null"
    ADD_FOREIGN_KEY = "add foreign key"


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of the change of a star table.

    subject: what it changes: columns, mostly.
    altered: the table that it alters, if that is the one of the versions of the star table.
    lock: the strongest lock that it takes on a table or view; empty if it takes none.
    rewrites: whether PostgreSQL rewrites or scans the table.
    rows: the estimated number of rows it rewrites or scans.
    dependents: what analysts have that reads the table or its views, such as `view public.sales`.
    blocked: why it cannot be applied, and what to do; empty if it can.
    """

    table: str
    kind: Kind
    subject: str
    statements: tuple[str, ...]
    phase: Phase
    altered: str = ""
    lock: str = _EXCLUSIVE
    rewrites: bool = False
    rows: int = 0
    dependents: tuple[str, ...] = ()
    blocked: str = ""


@dataclass(frozen=True)
class Plan:
    """The steps that make the warehouse as declared, in the order in which they are applied."""

    steps: tuple[Step, ...] = ()

    def of(self, phase: Phase, tables: Collection[str]) -> tuple[Step, ...]:
        """Return the steps of a phase for these tables."""
        return tuple(step for step in self.steps if step.phase == phase and step.table in tables)

    @property
    def tables(self) -> frozenset[str]:
        """The names of the tables that it changes."""
        return frozenset(step.table for step in self.steps)

    @property
    def created(self) -> frozenset[str]:
        """The names of the tables that it creates."""
        return frozenset(step.table for step in self.steps if step.kind is Kind.CREATE_TABLE)

    def ensure_possible(self, tables: Collection[str]) -> None:
        """Do nothing if no step for these tables is blocked.

        Raises:
            EvolutionBlockedError: a step is blocked, in whichever phase.
        """
        if reasons := dict.fromkeys(step.blocked for step in self.steps if step.blocked and step.table in tables):
            raise EvolutionBlockedError("; ".join(reasons))


def plan(connection: Connection, stars: Iterable[StarTable]) -> Plan:
    """Return how the tables and views of the warehouse differ from their declarations, as steps. Nothing is changed."""
    live = LiveWarehouse(connection)
    stars = tuple(stars)
    our_views = view_names(stars)
    changes = [
        _TableChange(live, table, our_views) if table.name in live.relations else _NewTable(table)
        for table in stored_tables(stars)
    ]
    refused = {change.star.name for change in changes if isinstance(change, _TableChange) and change.changes_kind}
    changes = [change for change in changes if change.star.versions_of not in refused]
    steps = [step for change in changes for step in change.steps()]
    steps += _foreign_keys(live, changes)
    for fact in stars:
        steps += _AsWasChange(live, fact, stars, changes).steps()
    phases, kinds = list(Phase), list(Kind)
    return Plan(tuple(sorted(steps, key=lambda step: (phases.index(step.phase), kinds.index(step.kind)))))


def apply(
    connection: Connection, planned: Plan, phase: Phase, tables: Collection[str], *, patience: float = _PATIENCE_SECONDS
) -> tuple[Step, ...]:
    """Run the steps of a phase for these tables, in the caller's transaction. Return them.

    The bookkeeping tables must exist (`create_missing`).

    Raises:
        EvolutionBlockedError: a step for these tables is blocked, in whichever phase. Nothing is changed.
        DatabaseUnavailableError: a table stays locked.
    """
    planned.ensure_possible(tables)
    steps = planned.of(phase, tables)
    if steps:
        statements = [statement for step in steps for statement in step.statements]
        if phase is Phase.WITH_ROWS:
            statements = [*_locks_of(planned.of(Phase.AFTER_ROWS, tables)), *statements]
        _run_patiently(connection, statements, patience)
    return steps


def _locks_of(steps: Iterable[Step]) -> list[str]:
    """Return the statement that locks what steps will lock later, if anything.

    Once locks are held that cannot be released before the end, others are not to be waited for.
    """
    tables = sorted(
        {qualified(step.altered or step.table) for step in steps if step.lock == _EXCLUSIVE and step.rewrites}
    )
    return [f"LOCK TABLE {', '.join(tables)} IN {_EXCLUSIVE} MODE"] if tables else []


def _run_patiently(connection: Connection, statements: Sequence[str], seconds: float) -> None:
    """Run statements. Where one does not get a lock at once, release those of all, and try again for some seconds."""
    deadline = monotonic() + seconds
    connection.run("SAVEPOINT steps")
    while True:
        try:
            with _short_lock_timeout(connection):
                for statement in statements:
                    connection.run(statement)
        except DatabaseUnavailableError:
            if monotonic() > deadline:
                raise
            connection.run("ROLLBACK TO SAVEPOINT steps")
            sleep(_PAUSE_SECONDS)
        else:
            connection.run("RELEASE SAVEPOINT steps")
            return


@contextmanager
def _short_lock_timeout(connection: Connection) -> Iterator[None]:
    [[before]] = connection.run("SHOW lock_timeout")
    connection.run(f"SET LOCAL lock_timeout = {literal(_LOCK_TIMEOUT)}")
    yield  # after an error, the rollback restores it
    connection.run(f"SET LOCAL lock_timeout = {literal(before)}")


def as_text(
    planned: Plan, reports: Mapping[str, Sequence[str]] | None = None, rebuilds: Mapping[str, str] | None = None
) -> str:
    """Return a plan for people to read.

    reports: by table, the names of the reports that read it.
    rebuilds: by table that must be rebuilt, what there is to say of that.
    """
    reports, rebuilds = reports or {}, rebuilds or {}
    paragraphs = []
    for table in dict.fromkeys((*(step.table for step in planned.steps), *rebuilds)):
        steps = [step for step in planned.steps if step.table == table]
        lines = [f"{table}: rebuild, {rebuilds[table]}" if table in rebuilds else table]
        for step in steps:
            touched = f", {'about ' + format(step.rows, ',') if step.rows else 'all'} rows" if step.rewrites else ""
            lock = f"lock {step.lock}" if step.lock else "no lock"
            place = f" in {step.altered}" if step.altered else ""
            lines.append(f"  {step.kind} {step.subject}{place} ({step.phase}; {lock}{touched})")
            lines += [f"    {' '.join(statement.split())};" for statement in step.statements]
            if step.blocked:
                lines.append(f"    BLOCKED: {step.blocked}")
        if dependents := sorted({name for step in steps for name in step.dependents}):
            lines.append(f"  read by {', '.join(dependents)}")
        if reports.get(table):
            lines.append(f"  reports: {', '.join(reports[table])}")
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs) or "nothing to change"


class _NewTable:
    """A star table that the warehouse does not have."""

    def __init__(self, star: StarTable) -> None:
        self.star = star
        self.target = star.name

    def steps(self) -> Iterator[Step]:
        star = self.star
        queries = view_queries(star, view_columns(star))
        statements = [table_statement(star), *view_statements(queries).values()]
        if queries:
            statements.append(note_views_statement(star.name, queries))
        yield Step(
            table=star.name,
            kind=Kind.CREATE_TABLE,
            subject=", ".join((star.name, *queries)),
            statements=tuple(statements),
            phase=Phase.AT_ONCE,
            lock="",
        )


class _TableChange:
    """How a live star table differs from its declaration. Columns have the names that they have after the renames.

    target: the star table that it belongs to.
    views, key: the columns of its views and the key that these use, as of the latest step.
    """

    def __init__(self, live: LiveWarehouse, star: StarTable, our_views: Set[str]) -> None:
        self.live, self.star, self._our_views = live, star, our_views
        self.target = star.versions_of or star.name
        present = live.relations[star.name]
        self.rows = present.rows
        self.renames = self._renames(present.columns)
        self.columns = {self.name(name): column for name, column in present.columns.items()}
        self.declared = {column.name: column for column in stored_columns(star)}
        found = {name: self.columns[name] for name in self.declared if name in self.columns}
        different = [name for name, column in found.items() if column.type != self.declared[name].type]
        self.added = [name for name in self.declared if name not in found]
        self.widened = [name for name in different if is_wider(self.declared[name].type, found[name].type)]
        self.retyped = [name for name in different if name not in self.widened]
        self.dropped = [name for name in star.dropped if name in self.columns]
        self.key = star.primary_key
        self._compare_keys()
        self.views = self._live_views()
        self.foreign_view_columns = self._foreign_view_columns()
        self.views_differ = self._views_differ()

    def _renames(self, columns: Mapping[str, LiveColumn]) -> dict[str, str]:
        """Return the new name of each column that is renamed, by its live one."""
        names = [(earlier_name(column), str(column.name)) for column in self.star.captured_columns]
        if self.star.record_id:
            names.append((self._live_record_id, self.star.record_id))
        return {old: new for old, new in names if old in columns and new not in columns and old is not None}

    def name(self, live_name: str) -> str:
        """Return the name of a live column after the renames."""
        return self.renames.get(live_name, live_name)

    @cached_property
    def _live_record_id(self) -> str | None:
        """The serial column that is the primary key, as only a table has that keeps every version."""
        columns = self.live.relations[self.star.name].columns
        keys = [constraint.columns for constraint in self.constraints("p")]
        return keys[0][0] if keys and len(keys[0]) == 1 and columns[keys[0][0]].fills_itself else None

    def constraints(self, kind: str) -> list[LiveConstraint]:
        return [each for each in self.live.constraints if each.table == self.star.name and each.kind == kind]

    def _compare_keys(self) -> None:
        star = self.star
        wanted = {*star.primary_key}
        if star.keeps_every_version:
            wanted.add(CAPTURED_AT)
            keys = [key for key in self.constraints("u") if CAPTURED_AT in key.columns]
            ours = [key for key in keys if key.name.startswith(f"{star.name}_") and key.name.endswith("_key")]
        else:
            keys = ours = self.constraints("p")
        columns = {key.name: [self.name(name) for name in key.columns] for key in keys}
        retypes_primary_key = not star.keeps_every_version and not wanted.isdisjoint(self.retyped)
        self.key_changes = retypes_primary_key or not any({*names} == wanted for names in columns.values())
        self.replaced_keys = ours if self.key_changes else []
        if self.replaced_keys:
            self.key = tuple(name for name in columns[ours[0].name] if name != CAPTURED_AT)

    def _live_views(self) -> dict[str, tuple[str, ...]]:
        views = {name: self.live.relations[name] for name in view_columns(self.star) if name in self.live.relations}
        return {name: tuple(map(self.name, view.columns)) for name, view in views.items() if view.kind == "v"}

    def _views_differ(self) -> bool:
        """Whether the views were created from other queries than those that they would be created from now."""
        noted = self.live.noted_views.get(self.star.name)
        if noted is None or self.foreign_view_columns:
            return False
        live_names = {new: old for old, new in self.renames.items()}
        columns = {name: self.live.relations[name].columns for name in self.views}
        key = [live_names.get(name, name) for name in self.key]
        return noted != views_version(view_queries(self.star, columns, key))

    def _foreign_view_columns(self) -> list[str]:
        """Return the columns of the views that are somebody else's: those that neither the table nor we have."""
        known = {*self.columns, VALID_FROM, VALID_TO}
        return [f"{view}.{name}" for view, columns in self.views.items() for name in columns if name not in known]

    def _wanted_views(self) -> dict[str, tuple[str, ...]]:
        """Return the columns of the views: those they have, in their order, and then those that they lack."""
        return {
            view: tuple(dict.fromkeys((*self.views.get(view, ()), *columns)))
            for view, columns in view_columns(self.star).items()
            if view in self.views or view not in self.live.relations
        }

    @property
    def needs_rows(self) -> bool:
        """Whether it has a step that needs the rows to be replaced."""
        return bool(self.key_changes or self.retyped or self.dropped)

    @property
    def changes_kind(self) -> bool:
        """Whether it was declared to keep every version, and now only the latest, or the other way round."""
        has_record_id = self._live_record_id is not None or self.star.record_id in self.columns
        return has_record_id != (self.star.record_id is not None)

    def declares(self, key: LiveConstraint) -> bool:
        """Whether a foreign key on the table is declared."""
        return len(key.columns) == 1 and self.star.foreign_keys.get(self.name(key.columns[0])) == key.references

    def owns(self, key: LiveConstraint) -> bool:
        """Whether a foreign key on the table is as one that was declared: others are somebody else's."""
        names = {_key_name(self.star.name, name) for name in (key.columns[0], self.name(key.columns[0]))}
        return len(key.columns) == 1 and key.references is not None and key.name in names

    def renames_key(self, key: LiveConstraint) -> bool:
        """Whether a foreign key on the table is renamed with its column."""
        return key.columns[0] in self.renames and key.name == _key_name(self.star.name, key.columns[0])

    def retypes(self, live_columns: Iterable[str]) -> bool:
        """Whether one of these columns gets another type that does not hold its values."""
        return not {*map(self.name, live_columns)}.isdisjoint(self.retyped)

    def _dependents(self, columns: Iterable[str] | None = None, *, of_views: bool = True) -> tuple[str, ...]:
        """Return what of others depends on these columns of the table (None: any), and on its views."""
        wanted = None if columns is None else {*columns}

        def depends(each: Dependent) -> bool:
            if each.on == self.star.name:
                return wanted is None or (each.column is not None and self.name(each.column) in wanted)
            return of_views and each.on in self.views

        others = (each for each in self.live.dependents if each.reader not in self._our_views)
        return tuple(dict.fromkeys(each.description for each in others if depends(each)))

    def _step(
        self,
        kind: Kind,
        subject: Iterable[str],
        statements: Iterable[str],
        phase: Phase,
        *,
        blocked: str = "",
        rewrites: bool = False,
    ) -> Step:
        return Step(
            table=self.target,
            kind=kind,
            subject=", ".join(subject),
            statements=tuple(statements),
            phase=phase,
            altered=self.star.name if self.star.versions_of and kind is not Kind.CHANGE_VIEW else "",
            rewrites=rewrites,
            rows=self.rows if rewrites else 0,
            dependents=self._dependents(),
            blocked=blocked,
        )

    def _alter(self, actions: Iterable[str]) -> str:
        return f"ALTER TABLE {relation(self.star)} {', '.join(actions)}"

    def _alter_columns(self, names: Iterable[str], action: str) -> str:
        return self._alter(f"ALTER COLUMN {quote_identifier(name)} {action}" for name in names)

    def _type(self, column: str) -> str:
        return sql_type(self.declared[column].type)

    def steps(self) -> Iterator[Step]:
        """Yield its steps, in order, without those on foreign keys."""
        if self.changes_kind:
            kept, wanted = ("the latest", "every") if self.star.keeps_every_version else ("every", "the latest")
            advice = (
                f"{self.star.name} keeps {kept} version of each row in the warehouse, and is declared to keep "
                f"{wanted}: declare the table by a new name"
            )
            yield self._step(Kind.CHANGE_KIND, [f"{kept} to {wanted}"], (), Phase.AT_ONCE, blocked=advice)
            return
        yield from self._steps_at_once()
        yield from self._steps_with_rows()
        yield from self._steps_after_rows()

    def _steps_at_once(self) -> Iterator[Step]:
        if self.renames:
            yield self._rename()
        if self.added:
            types = {name: self._type(name) for name in self.added}
            add = self._alter(f"ADD COLUMN {column_definition(self.declared[name])}" for name in self.added)
            subject = [f"{name} {type_}" for name, type_ in types.items()]
            yield self._step(Kind.ADD_COLUMN, subject, [add], Phase.AT_ONCE)
        if self.widened:
            subject = [f"{name} to {self._type(name)}" for name in self.widened]
            alter = self._alter(
                f"ALTER COLUMN {quote_identifier(name)} TYPE {self._type(name)}" for name in self.widened
            )
            yield self._alter_below_views(Kind.WIDEN_COLUMN, subject, self.widened, alter, Phase.AT_ONCE)
        if kept := [name for name in self._undeclared_required if name not in self._replaced_primary_key]:
            yield self._step(Kind.KEEP_COLUMN, kept, [self._alter_columns(kept, "DROP NOT NULL")], Phase.AT_ONCE)
        if self.views_differ or self.views != self._wanted_views():
            yield self._change_views(Phase.AT_ONCE)

    @property
    def _undeclared_required(self) -> list[str]:
        """The columns without which no row can be inserted, although no row has them any more."""
        known = {*self.declared, *self.star.dropped, self.star.record_id}
        return [
            name
            for name, column in self.columns.items()
            if name not in known and column.not_null and not column.fills_itself
        ]

    @property
    def _replaced_primary_key(self) -> set[str]:
        return {self.name(name) for key in self.replaced_keys if key.kind == "p" for name in key.columns}

    def _rename(self) -> Step:
        statements = []
        renamed_keys = {key.columns[0] for key in self.constraints("f") if self.renames_key(key)}
        for old, new in self.renames.items():
            rename = f"RENAME COLUMN {quote_identifier(old)} TO {quote_identifier(new)}"
            statements.append(f"ALTER TABLE {relation(self.star)} {rename}")
            views = [view for view in self.views if old in self.live.relations[view].columns]
            statements += [f"ALTER VIEW {qualified(view)} {rename}" for view in views]
            if old in renamed_keys:
                names = (quote_identifier(_key_name(self.star.name, name)) for name in (old, new))
                statements.append(f"ALTER TABLE {relation(self.star)} RENAME CONSTRAINT {' TO '.join(names)}")
        if self.views:
            statements.append(note_views_statement(self.star.name, view_queries(self.star, self.views, self.key)))
        subject = (f"{old} to {new}" for old, new in self.renames.items())
        return self._step(Kind.RENAME_COLUMN, subject, statements, Phase.AT_ONCE)

    def _steps_with_rows(self) -> Iterator[Step]:
        self.key = self.star.primary_key
        if self.replaced_keys:
            names = [key.name for key in self.replaced_keys]
            drop = self._alter(f"DROP CONSTRAINT {quote_identifier(name)}" for name in names)
            needed_by = [
                each.description
                for each in self.live.dependents
                if each.on == self.star.name and each.constraint in names
            ]
            blocked = _blocked(f"the key of {self.star.name}", needed_by)
            yield self._step(Kind.CHANGE_KEY, names, [drop], Phase.WITH_ROWS, blocked=blocked)
        optional = [
            name
            for name, column in self.columns.items()
            if column.not_null and name in self.declared and self.declared[name].nullable and name not in self.retyped
        ]
        optional += [name for name in self._undeclared_required if name in self._replaced_primary_key]
        if optional:
            drop = self._alter_columns(optional, "DROP NOT NULL")
            yield self._step(Kind.DROP_NOT_NULL, optional, [drop], Phase.WITH_ROWS)
        if self.retyped:
            subject = [f"{name} to {self._type(name)}" for name in self.retyped]
            columns = {quote_identifier(name): self._type(name) for name in self.retyped}
            actions = [f"ALTER COLUMN {name} DROP NOT NULL" for name in columns]
            actions += [f"ALTER COLUMN {name} TYPE {type_} USING NULL" for name, type_ in columns.items()]
            yield self._alter_below_views(
                Kind.RETYPE_COLUMN, subject, self.retyped, self._alter(actions), Phase.WITH_ROWS
            )
        if self.dropped:
            drop = self._alter(f"DROP COLUMN {quote_identifier(name)}" for name in self.dropped)
            yield self._alter_below_views(Kind.DROP_COLUMN, self.dropped, self.dropped, drop, Phase.WITH_ROWS)
        if self.replaced_keys and self.views and not (self.retyped or self.dropped):
            yield self._change_views(Phase.WITH_ROWS)

    def _steps_after_rows(self) -> Iterator[Step]:
        if self.key_changes:
            key = key_constraint(self.star)
            yield self._step(Kind.CHANGE_KEY, [key], [self._alter([f"ADD {key}"])], Phase.AFTER_ROWS, rewrites=True)
        required = [
            name
            for name, column in self.declared.items()
            if not column.nullable and (name in self.added or name in self.retyped or not self.columns[name].not_null)
        ]
        if required:
            statement = self._alter_columns(required, "SET NOT NULL")
            yield self._step(Kind.SET_NOT_NULL, required, [statement], Phase.AFTER_ROWS, rewrites=True)

    def _alter_below_views(
        self, kind: Kind, subject: Iterable[str], names: Sequence[str], alter: str, phase: Phase
    ) -> Step:
        """Return a step that alters columns which views may have: ours are dropped, and created again."""
        has_views = any(name in columns for columns in self.views.values() for name in names)
        what = ", ".join(f"{self.star.name}.{name}" for name in names)
        blocked = _blocked(what, self._dependents(names, of_views=has_views))
        if kind == Kind.WIDEN_COLUMN:
            rewrites = any(_is_rewritten(self.columns[name].type, self.declared[name].type) for name in names)
        else:
            rewrites = kind == Kind.RETYPE_COLUMN
        statements = [alter]
        if has_views:
            blocked = blocked or self._views_blocked()
            drop, live_views = f"DROP VIEW {', '.join(map(qualified, self.views))}", [*self.views]
            without = {*names} if kind == Kind.DROP_COLUMN else set()
            self.views = {
                view: tuple(name for name in columns if name not in without)
                for view, columns in self._wanted_views().items()
            }
            queries = view_queries(self.star, self.views, self.key)
            create = view_statements(queries, self.live.view_options).values()
            restore = [
                statement for view in live_views for statement in _restore(self.live, view, self.views[view], self.name)
            ]
            statements = [drop, alter, *create, *restore, note_views_statement(self.star.name, queries)]
            self.views_differ = False
        return self._step(kind, subject, statements, phase, blocked=blocked, rewrites=rewrites)

    def _change_views(self, phase: Phase) -> Step:
        """Return the step that creates the views that are missing, and replaces those that differ."""
        before, self.views = self.views, self._wanted_views()
        changed = [view for view in self.views if before.get(view) != self.views[view]] or [*self.views]
        queries = view_queries(self.star, self.views, self.key)
        statements = view_statements(
            {view: queries[view] for view in changed}, self.live.view_options, replace=True
        ).values()
        note = note_views_statement(self.star.name, queries)
        return self._step(Kind.CHANGE_VIEW, changed, [*statements, note], phase, blocked=self._views_blocked())

    def _views_blocked(self) -> str:
        """Return why the views cannot be replaced, or nothing: somebody else has added a column to one."""
        if self.foreign_view_columns:
            return (
                f"{', '.join(self.foreign_view_columns)}: somebody has added this to a view of ours, and it would be "
                "lost. Drop the view, and put the column into a view of your own"
            )
        return ""


def _restore(live: LiveWarehouse, view: str, columns: Collection[str], name: Callable[[str], str]) -> Iterator[str]:
    """Yield the statements that give a view with these columns its comments, its grants and its owner again.

    `name` returns the name that a column has now.
    """
    for (commented, column), text in live.comments.items():
        if commented == view and text is not None and (column is None or name(column) in columns):
            yield comment_statement(view, column and name(column), text, is_view=True)
    for granted, column, privilege, may_grant, role in live.view_grants:
        if granted == view and (column is None or name(column) in columns):
            of = f"{privilege} ({quote_identifier(name(column))})" if column else privilege
            to = "PUBLIC" if role is None else quote_identifier(role)
            option = " WITH GRANT OPTION" if may_grant else ""
            yield f"GRANT {of} ON {qualified(view)} TO {to}{option}"
    if view in live.view_owners:
        yield f"ALTER VIEW {qualified(view)} OWNER TO {quote_identifier(live.view_owners[view])}"


def _blocked(what: str, dependents: Iterable[str]) -> str:
    """Return that something cannot be changed because of dependents, and what to do, or nothing without any."""
    if names := ", ".join(dict.fromkeys(dependents)):
        return (
            f"{what} cannot be changed because of {names}: keep its definition and drop it, let the change be applied, "
            "and create it again"
        )
    return ""


def _is_rewritten(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether PostgreSQL rewrites a table to widen a column: not where only the precision of a numeric grows."""
    return not (pa.types.is_decimal(new) and old.scale == new.scale)


def _key_name(table: str, column: str) -> str:
    """Return the name that PostgreSQL gives to a foreign key."""
    return f"{table}_{column}_fkey"


def _foreign_keys(live: LiveWarehouse, changes: Sequence[_TableChange | _NewTable]) -> Iterator[Step]:
    """Yield the steps on foreign keys.

    A foreign key that is dropped because of the table it references is dropped by a step of that table. It returns by
    one, too, unless the rows of the table that it is on are replaced for a change of their own.
    """
    by_name = {change.star.name: change for change in changes if isinstance(change, _TableChange)}
    unchangeable = {name for name, change in by_name.items() if change.changes_kind}
    kept: set[tuple[str, str]] = set()
    dropped_for: dict[tuple[str, str], str] = {}
    for key in live.constraints:
        if key.kind != "f" or not unchangeable.isdisjoint((key.table, key.references)):
            continue
        change, referenced = by_name.get(key.table or ""), by_name.get(key.references or "")
        declares = change is not None and change.declares(key)
        owns = declares or (change is not None and change.owns(key))
        place = (key.table or "", change.name(key.columns[0]) if change else "")
        if change and ((owns and not declares) or change.retypes(key.columns)):
            because_of = change
        elif referenced and (referenced.key_changes or referenced.retypes(key.referenced_columns)):
            because_of = referenced
        else:
            if declares:
                kept.add(place)
            continue
        if declares:
            dropped_for[place] = because_of.target
        name = _key_name(*place) if change and change.renames_key(key) else key.name
        drop = f"ALTER TABLE {qualified(place[0])} DROP CONSTRAINT {quote_identifier(name)}"
        yield Step(
            table=because_of.target,
            kind=Kind.DROP_FOREIGN_KEY,
            subject=key.description,
            statements=(drop,) if owns else (),
            phase=Phase.WITH_ROWS,
            blocked="" if owns else _blocked(f"a column of {because_of.star.name}", [key.description]),
        )
    for each in changes:
        star, present = each.star, by_name.get(each.star.name)
        for column, to in star.foreign_keys.items():
            if (star.name, column) in kept or not unchangeable.isdisjoint((star.name, to)):
                continue
            needs_rows = present is not None and present.needs_rows
            yield Step(
                table=each.target if needs_rows else dropped_for.get((star.name, column), each.target),
                kind=Kind.ADD_FOREIGN_KEY,
                subject=f"{star.name}.{column} references {to}",
                statements=(foreign_key_statement(star, column),),
                phase=Phase.AFTER_ROWS,
                lock=_SHARE_ROW_EXCLUSIVE,
                rewrites=True,
                rows=present.rows if present else 0,
            )


class _AsWasChange:
    """How the live views that join a fact to the versions of its dimensions differ from their declaration.

    They are replaced where a column that they read is altered, and when their queries are others than those noted. A
    dimension that is new to the warehouse is joined after the rows.
    """

    def __init__(
        self,
        live: LiveWarehouse,
        fact: StarTable,
        stars: Sequence[StarTable],
        changes: Sequence[_TableChange | _NewTable],
    ) -> None:
        self.live = live
        self._queries = as_was_queries(fact, stars)
        self.views = {view: [*live.relations[view].columns] for view in self._queries if view in live.relations}
        self.stars = [self._with_kept_columns(star) for star in stars] if self.views else stars
        [self.fact] = [star for star in self.stars if star.name == fact.name]
        self.differ = live.noted_views.get(as_was_name(fact)) != views_version(self._live_queries())
        read = {fact.name, *(join.dimension.versions.name for join in as_was_joins(fact, stars))}
        if self.views and self.differ:  # they may join other tables
            read |= {each.on for each in live.dependents if each.reader in self.views}
        involved = [each for each in changes if each.star.name in read]
        self.present = [each for each in involved if isinstance(each, _TableChange)]
        self.waits = self.present != involved
        self.renames = self._renames()

    def _with_kept_columns(self, star: StarTable) -> StarTable:
        """Return a star table with columns that it no longer declares, and that the views read."""
        table = star.versions.name
        known = {*stored_columns(star).names, star.record_id, *star.dropped, *map(earlier_name, star.columns)}
        live = self.live.relations[table].columns if table in self.live.relations else {}
        if not live.keys() - known:
            return star
        read = {each.column for each in self.live.dependents if each.on == table and each.reader in self.views}
        kept = [pa.field(name, column.type) for name, column in live.items() if name in read - known and column.type]
        return replace(star, columns=pa.schema([*star.columns, *kept]))

    def _live_queries(self) -> dict[str, str]:
        """Return the declared queries, with the columns in the order in which the views have them."""
        declared = {*as_was_columns(self.fact, self.stars)}
        columns = {view: names for view, names in self.views.items() if {*names} == declared}
        return as_was_queries(self.fact, self.stars, columns)

    def _renames(self) -> dict[str, str]:
        """Return the new names of columns of the views, by their live ones."""
        renames = {each.star.name: each.renames for each in self.present}
        names = dict(renames.get(self.fact.name, {}))
        for join in as_was_joins(self.fact, self.stars):
            names |= join.renamed(renames.get(join.dimension.versions.name, {}))
        return names

    def _name(self, live_name: str) -> str:
        return self.renames.get(live_name, live_name)

    def steps(self) -> Iterator[Step]:
        """Yield the steps of each phase that has some."""
        if any(each.changes_kind for each in self.present):
            return
        if not self.views:
            yield from self._create()
            return
        at_once = [each for each in self.present if each.renames or each.added or each.widened]
        with_rows = [each for each in self.present if each.needs_rows]
        known = [star for star in self.stars if star.versions.name in self.live.relations]
        widens = any(each.widened for each in at_once)
        if widens or (at_once and not with_rows):
            yield from self._steps(Phase.AT_ONCE, at_once[0].target, known, retypes=widens)
        elif renames := self._rename_statements():
            yield self._step(Kind.CHANGE_VIEW, Phase.AT_ONCE, at_once[0].target, renames)
        if with_rows:
            retypes = any(each.retyped or each.dropped for each in with_rows)
            yield from self._steps(Phase.WITH_ROWS, with_rows[0].target, known, retypes=retypes)
        if self.differ and (self.waits or not (at_once or with_rows)):
            yield from self._steps(Phase.AFTER_ROWS, self.fact.name, self.stars, retypes=False)

    def _create(self) -> Iterator[Step]:
        if self._queries:
            note = note_views_statement(as_was_name(self.fact), self._queries)
            yield Step(
                table=self.fact.name,
                kind=Kind.CREATE_VIEW,
                subject=", ".join(self._queries),
                statements=(*view_statements(self._queries).values(), note),
                phase=Phase.AFTER_ROWS,
                lock="",
            )

    def _steps(self, phase: Phase, table: str, stars: Sequence[StarTable], *, retypes: bool) -> Iterator[Step]:
        """Yield the steps that replace the views by those that join these star tables.

        They are dropped for that only if a column of theirs goes or gets another type.
        """
        declared = as_was_columns(self.fact, stars)
        named = {view: [self._name(column) for column in columns] for view, columns in self.views.items()}
        kept = {view: [column for column in columns if column in declared] for view, columns in named.items()}
        columns = {view: tuple(dict.fromkeys((*names, *declared))) for view, names in kept.items()}
        queries = as_was_queries(self.fact, stars, columns)
        note = note_views_statement(as_was_name(self.fact), queries)
        in_place = kept == named and not retypes
        create = [*view_statements(queries, self.live.view_options, replace=in_place).values()]
        if in_place:
            renames = self._rename_statements() if phase is Phase.AT_ONCE else []
            yield self._step(Kind.CHANGE_VIEW, phase, table, [*renames, *create, note])
            return
        for view in self.views:
            create += _restore(self.live, view, declared, self._name)
        drop = f"DROP VIEW {', '.join(map(qualified, self.views))}"
        blocked = _blocked(", ".join(self.views), self._dependents)
        yield self._step(Kind.DROP_VIEW, phase, table, [drop], blocked)
        yield self._step(Kind.CREATE_VIEW, phase, table, [*create, note])

    @cached_property
    def _dependents(self) -> tuple[str, ...]:
        readers = [each for each in self.live.dependents if each.on in self.views and each.reader not in self.views]
        return tuple(dict.fromkeys(each.description for each in readers))

    def _step(self, kind: Kind, phase: Phase, table: str, statements: Iterable[str], blocked: str = "") -> Step:
        return Step(
            table=table,
            kind=kind,
            subject=", ".join(self.views),
            statements=tuple(statements),
            phase=phase,
            dependents=self._dependents,
            blocked=blocked,
        )

    def _rename_statements(self) -> list[str]:
        return [
            f"ALTER VIEW {qualified(view)} RENAME COLUMN {quote_identifier(old)} TO {quote_identifier(new)}"
            for view, columns in self.views.items()
            for old, new in self.renames.items()
            if old in columns
        ]
