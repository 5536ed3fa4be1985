"""The checks of totesys and of the warehouse: what captures and loads need of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from etl_assets.adapters.postgres import Connection, quote_identifier
from etl_assets.catalog.stages import TOTESYS, WAREHOUSE
from etl_assets.ingestion import capture
from etl_assets.ingestion.changes import SOURCE_SCHEMA, relation
from etl_assets.ingestion.deletions import deletion_statistics
from etl_assets.ingestion.live_tables import tables_with_policies
from etl_assets.preflight.checks import NotSetError, Preflight, PreflightError
from etl_assets.reports.status import read_clock
from etl_assets.schema.table import Catalog, Table
from etl_assets.transformation.star_table import StarTable
from etl_assets.warehouse import loader
from etl_assets.warehouse.ddl import closed_to_analysts, missing_grants
from etl_assets.warehouse.relations import ANALYST

OLDEST_POSTGRESQL = 13
_MAX_SECONDS_APART = 60  # much less than a window, which has the captures that were made in it

Connect = Callable[[], AbstractContextManager[Connection]]


def check_source(preflight: Preflight, connect: Connect, tables: Sequence[Table]) -> None:
    """Check what a capture needs of the source."""
    _check_database(
        preflight,
        TOTESYS,
        connect,
        {
            "server": (partial(_server, may_be_standby=True), None),
            "clock": (_clock, None),
            "tables": (partial(_source_tables, tables), None),
            "row security": (partial(_row_security, tables), None),
            "capture": (partial(_capture, tables), "tables"),
            "deletions": (partial(_deletions, tables), None),
        },
    )


def check_warehouse(
    preflight: Preflight, connect: Connect, catalog: Catalog[StarTable], rules: Mapping[str, str]
) -> None:
    """Check what a load needs of the warehouse."""
    _check_database(
        preflight,
        WAREHOUSE,
        connect,
        {
            "server": (_server, None),
            "clock": (_clock, None),
            "rights": (partial(_warehouse_rights, catalog), None),
            "load": (partial(_load, catalog, rules), "rights"),
            "analysts": (_analysts, None),
        },
    )


def _check_database(
    preflight: Preflight,
    part: str,
    connect: Connect,
    checks: Mapping[str, tuple[Callable[[Connection], str], str | None]],
) -> None:
    """Connect to a database, and make the checks that are given by name: what to look at, and the check it needs."""
    connected = f"{part} connection"
    opened: list[Connection] = []
    with ExitStack() as stack:

        def reach() -> str:
            opened.append(stack.enter_context(connect()))
            [[user, database]] = opened[0].run("SELECT current_user::text, current_database()::text")
            return f"as {user} to the database {database}"

        def on_connection(look: Callable[[Connection], str]) -> Callable[[], str]:
            return lambda: look(opened[0])

        preflight.check(connected, reach)
        for name, (look, needs) in checks.items():
            preflight.check(f"{part} {name}", on_connection(look), f"{part} {needs}" if needs else connected)


def _server(connection: Connection, *, may_be_standby: bool = False) -> str:
    [[version, number, is_standby]] = connection.run(
        """SELECT current_setting('server_version'), current_setting('server_version_num')::int / 10000,
                  pg_is_in_recovery()"""
    )
    if number < OLDEST_POSTGRESQL:
        raise PreflightError(f"PostgreSQL {version} is too old: upgrade it to {OLDEST_POSTGRESQL} or newer")
    if is_standby and not may_be_standby:
        raise PreflightError(f"PostgreSQL {version} is a standby, which cannot be written: give the URL of the primary")
    return f"PostgreSQL {version}, {'standby' if is_standby else 'primary'}"


def _clock(connection: Connection) -> str:
    ahead = read_clock(connection).seconds_ahead
    if abs(ahead) > _MAX_SECONDS_APART:
        raise PreflightError(
            f"{ahead:+.0f} s from that of this machine: set both by NTP, or captures get into the wrong partitions"
        )
    return f"{ahead:+z.1f} s from that of this machine"


def _source_tables(tables: Sequence[Table], connection: Connection) -> str:
    warnings = capture.schema_warnings(connection, tables)
    return "; ".join([f"{len(tables)} can be read, and match their declarations", *warnings])


def _row_security(tables: Sequence[Table], connection: Connection) -> str:
    if hidden := tables_with_policies(connection, SOURCE_SCHEMA, tables):
        [[user]] = connection.run("SELECT current_user::text")
        names = ", ".join(relation(name) for name in hidden)
        raise PreflightError(
            f"a policy may hide rows of {names}, so a capture fails: run ALTER ROLE {quote_identifier(user)} BYPASSRLS"
        )
    return "no policy hides rows"


def _capture(tables: Sequence[Table], connection: Connection) -> str:
    source = capture.rehearse(connection, tables)
    return f"can begin: tables locked, snapshot taken; system {source.system_identifier}, timeline {source.timeline_id}"


def _deletions(tables: Sequence[Table], connection: Connection) -> str:
    if len(deletion_statistics(connection, tables)) == len(tables):
        return "counted by the statistics"
    return "not counted by the statistics (a standby, or track_counts is off): each capture counts rows instead"


def _warehouse_rights(catalog: Catalog[StarTable], connection: Connection) -> str:
    if missing := missing_grants(connection, catalog.stars):
        raise PreflightError(f"the user lacks rights: as an administrator, run {'; '.join(missing)}")
    return "what is there can be changed, and temporary tables created"


def _load(catalog: Catalog[StarTable], rules: Mapping[str, str], connection: Connection) -> str:
    loader.rehearse(connection, catalog, rules)
    return "can begin: what is missing was created, and rolled back"


def _analysts(connection: Connection) -> str:
    if reason := closed_to_analysts(connection):
        raise NotSetError(reason)
    return f"members of the role {ANALYST} can read what is loaded"
