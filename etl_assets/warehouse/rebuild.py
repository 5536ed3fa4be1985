"""The rebuild: star tables computed again from all captured files, and all captures that are not loaded, in one go.

What is in the warehouse then equals what a warehouse would hold into which every capture was loaded by the rules of
now. Nothing is visible of it before it is done, and nothing has changed if it is not: it can start over at any time.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from graphlib import TopologicalSorter

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import Connection, transaction
from etl_assets.catalog.stages import INGESTION, TRANSFORMATION, WAREHOUSE
from etl_assets.ingestion.csv_files import CapturedRows
from etl_assets.ingestion.manifest import Capture, list_after, read_captures
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.rows import Rows
from etl_assets.schema.table import Catalog, Table
from etl_assets.transformation.parquet_files import REBUILDS_FOLDER, StarRows, write_star
from etl_assets.transformation.star_table import StarTable
from etl_assets.transformation.transform import TransformStats, transform_captures
from etl_assets.warehouse.ddl import create_bookkeeping, stored_tables
from etl_assets.warehouse.ledger import forget_rules, loaded_captures, outdated_tables, record_rules
from etl_assets.warehouse.loader import Load, TableInput, load_tables, lock
from etl_assets.warehouse.plan import Kind, Phase, apply, as_text, plan
from etl_assets.warehouse.relations import relation
from etl_assets.warehouse.staging import StagedRows

_LOG = logging.getLogger(__name__)
_WORK_MEM = "128MB"
_ROWS_PER_SECOND = 20_000  # roughly: docs/performance.md


class HistoryIncompleteError(PermanentError):
    """The files do not have all captures, so a table that is built from them would lack a part of its history."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"capture {missing} is not in the ingestion bucket: restore its objects from an earlier version or a copy "
            "of the bucket, so that tables can be built from all captures. If they are lost, launch the job with "
            "keep_history: what is loaded then stays as it is. Nothing was changed"
        )


class RowsLostError(PermanentError):
    """The function of a star table makes fewer or more rows than there are captured rows."""

    def __init__(self, star: StarTable, difference: int) -> None:
        super().__init__(
            f"{star.name} has {difference} rows more or fewer than were captured: correct the function and deploy it; "
            "nothing was changed"
        )


@dataclass(frozen=True)
class Rebuild:
    """What a rebuild did.

    tables: the star tables that were computed again.
    captures: the number of captures that they were computed from.
    load: what was loaded.
    """

    tables: Sequence[str]
    captures: int
    load: Load


@dataclass(frozen=True)
class Stores:
    """Where captures, files and the warehouse are."""

    ingestion: Bucket
    transformation: Bucket
    connect: Callable[[], AbstractContextManager[Connection]]


def rebuild(
    stores: Stores,
    catalog: Catalog[StarTable],
    rules: Mapping[str, str],
    tables: Iterable[str] = (),
    *,
    keep_history: bool = False,
    log: logging.Logger = _LOG,
) -> Rebuild:
    """Compute star tables again: these, and those that were built by another version of their rule. Load the rest.

    With `keep_history`, these tables are not computed: they keep what they hold, and are loaded on by the rules of now.
    What will be changed is logged before, and each file that is written.

    Raises:
        UnknownTableError: there is no star table of a name.
        HistoryIncompleteError: a capture is loaded, or preceded another, that is not in the bucket.
        RowsLostError: a fact does not have a row for each captured one.
        EvolutionBlockedError: something of others stands in the way of a change of the tables.
        DatabaseUnavailableError: the warehouse is down, or a table stays locked.
    """
    files = _Files(stores, catalog, rules, log)
    captures = list(_captures_after(stores.ingestion, None))
    with stores.connect() as connection, transaction(connection):
        lock(connection)
        create_bookkeeping(connection)
        loaded = loaded_captures(connection)
        targets = _with_inputs({*tables, *outdated_tables(connection, rules)} if loaded else set(), catalog)
        captures += _captures_after(stores.ingestion, captures[-1].id if captures else None)
        planned = plan(connection, catalog.stars)
        log.info(as_text(planned))
        if targets and not keep_history:
            _check_complete(captures, loaded)
        apply(connection, planned, Phase.AT_ONCE, targets - planned.created)
        if keep_history:
            record_rules(connection, {name: rules[name] for name in targets})
            targets = set()
        elif targets:
            forget_rules(connection, targets)
    new_captures = [capture for capture in captures if capture.id not in loaded]
    wanted = {star.name: captures if star.name in targets else new_captures for star in catalog.stars}
    files.write(wanted)
    with stores.connect() as connection, transaction(connection):
        connection.run(f"SET LOCAL work_mem = '{_WORK_MEM}'")
        staged = {star.name: StagedRows(connection, star) for star in catalog.stars if wanted[star.name]}
        files.stage(staged)
        lock(connection)
        later = loaded_captures(connection) - {capture.id for capture in captures}
        if targets and later:
            missed = list(read_captures(stores.ingestion, sorted(later)))
            wanted |= {name: [*captures, *missed] for name in targets}
            files.write(dict.fromkeys(targets, missed))
            files.stage({name: staged[name] for name in targets})
        planned = plan(connection, catalog.stars)
        steps = apply(connection, planned, Phase.WITH_ROWS, targets - planned.created)
        emptied = {step.table for step in steps if step.kind is Kind.CHANGE_KEY}
        for table in stored_tables(catalog.star(name) for name in emptied):
            connection.run(f"DELETE FROM {relation(table)}")
        inputs = {
            name: TableInput(of_table, (), name in targets, staged.get(name), is_emptied=name in emptied)
            for name, of_table in wanted.items()
        }
        load = load_tables(connection, stores.ingestion, catalog, rules, new_captures, inputs)
        apply(connection, plan(connection, catalog.stars), Phase.AFTER_ROWS, targets)
    return Rebuild(sorted(targets), len(captures), load)


def _captures_after(ingestion: Bucket, id_: str | None) -> Iterator[Capture]:
    return read_captures(ingestion, list_after(ingestion, id_))


def expected_rebuilds(connection: Connection, catalog: Catalog[StarTable], rules: Mapping[str, str]) -> dict[str, str]:
    """Return by star table that is to be rebuilt why, how many rows it has and roughly how long that takes."""
    rows = dict(
        connection.run(
            """SELECT relname::text, greatest(reltuples::bigint, pg_stat_get_live_tuples(oid)) FROM pg_class
               WHERE relnamespace = to_regnamespace(:schema)""",
            schema=WAREHOUSE,
        )
    )
    expected = {}
    for name in sorted(_with_inputs({*outdated_tables(connection, rules)}, catalog)):
        seconds = rows.get(name, 0) / _ROWS_PER_SECOND
        duration = f"{seconds / 60:.0f} min" if seconds > 120 else f"{seconds + 1:.0f} s"
        expected[name] = f"about {rows.get(name, 0):,} rows, roughly {duration}"
    return expected


def _with_inputs(tables: set[str], catalog: Catalog[StarTable]) -> set[str]:
    """Return star tables, and the star tables that these are made from."""
    stars = {star.name for star in catalog.stars}
    inputs = {name for table in sorted(tables) for name in catalog.star(table).inputs(catalog.stars)} & stars
    return tables if inputs <= tables else _with_inputs(tables | inputs, catalog)


def _check_complete(captures: Sequence[Capture], loaded: set[str]) -> None:
    present = {capture.id for capture in captures}
    expected = loaded | {capture.previous for capture in captures if capture.previous}
    if missing := sorted(expected - present):
        raise HistoryIncompleteError(missing[0])


class _Files:
    """The files of a rebuild: one per star table, with its rows of many captures."""

    def __init__(
        self, stores: Stores, catalog: Catalog[StarTable], rules: Mapping[str, str], log: logging.Logger
    ) -> None:
        self._stores = stores
        self._catalog = catalog
        self._rules = rules
        self._log = log
        self._captures: dict[str, frozenset[str]] = {}

    def write(self, wanted: Mapping[str, Sequence[Capture]]) -> None:
        """Write the file of each star table of which captures are wanted."""
        stars = {star.name: star for star in self._catalog.stars}
        made_from = {name: star.inputs(self._catalog.stars) for name, star in stars.items()}
        for name in TopologicalSorter(made_from).static_order():
            if wanted.get(name):
                inputs = {each: self._input(self._catalog[each]) for each in made_from[name]}
                self._write(stars[name], inputs, wanted[name])

    def _write(self, star: StarTable, inputs: Mapping[str, Rows], captures: Sequence[Capture]) -> None:
        differences: list[int] = []

        def observe(stats: TransformStats) -> None:
            if star.keeps_every_version:
                differences.append(stats.difference)

        rule, only_changed = self._rules[star.name], self._needs_only_changed(star, inputs)
        batches = transform_captures(star, inputs, captures, observe, rule=rule, only_changed=only_changed)
        file = write_star(self._stores.transformation, f"{REBUILDS_FOLDER}/{star.name}", None, batches)
        if lost := sum(differences):
            raise RowsLostError(star, lost)
        self._captures[star.name] = frozenset(capture.id for capture in captures)
        for each in (file.rejected, file.rows):
            if each:
                each.log(self._log)

    def _needs_only_changed(self, star: StarTable, inputs: Mapping[str, Rows]) -> bool:
        """Whether rows that are as in the capture before can be left out: captured tables hardly have any."""
        is_derived = all(isinstance(rows, StarRows) for rows in inputs.values())
        is_input = any(star.name in other.inputs(self._catalog.stars) for other in self._catalog.stars)
        return is_derived and not (star.keeps_every_version or is_input)

    def _input(self, table: Table) -> Rows:
        if isinstance(table, StarTable):
            return self._rows(table)
        return CapturedRows(asset=f"{INGESTION}/{table.name}", table=table, open_bucket=lambda: self._stores.ingestion)

    def _rows(self, star: StarTable) -> StarRows:
        return StarRows(
            asset=f"{TRANSFORMATION}/{star.name}",
            folder=f"{REBUILDS_FOLDER}/{star.name}",
            table=star,
            open_bucket=lambda: self._stores.transformation,
        )

    def stage(self, staged: Mapping[str, StagedRows]) -> None:
        """Copy the file written last of each of these star tables into its temporary tables."""
        for name, rows in staged.items():
            with self._rows(rows.star).open(None, self._captures[name]) as file:
                rows.add(file)
