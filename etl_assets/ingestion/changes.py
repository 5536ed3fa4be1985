"""Which rows changed, as SQL over PostgreSQL row versions (`xmin`): docs/adr/0001-row-versions-not-timestamps.md."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from pg8000.native import literal

from etl_assets.adapters.postgres import Connection, column_list, quote_identifier
from etl_assets.ingestion.live_tables import MEMBERS, join_group
from etl_assets.ingestion.manifest import Capture, Source, bounds
from etl_assets.schema.table import JoinDependency, Table

SOURCE_SCHEMA = "public"
# Row versions are 32 bits wide: an age beyond half of that is indistinguishable from a negative one.
_WRAPAROUND = 2**32
_WAL_PAGE = 8192
_SMALLEST_WAL_SEGMENT = 2**20
_MAX_HORIZON_AGE = _WRAPAROUND // 2 - 1


def relation(table: str) -> str:
    """Return the qualified, quoted name of a source table."""
    return f"{quote_identifier(SOURCE_SCHEMA)}.{quote_identifier(table)}"


def written_from(alias: str, horizon: int) -> str:
    """Return the condition that a row was written by a transaction from the horizon on."""
    return f"age({alias}.xmin) <= age({literal(str(horizon))}::xid8::xid)"


def write_count(connection: Connection, tables: Sequence[Table]) -> tuple[int, datetime]:
    """Return a number that grows when rows of the tables are written, and the source's time (UTC, naive).

    It comes from PostgreSQL's cumulative statistics, which lag some seconds behind and may be reset (PostgreSQL manual,
    “The Cumulative Statistics System”). Those of a standby do not count what it replays: there it is the WAL position,
    which grows with any write to the cluster.
    """
    [[writes, now]] = connection.run(
        f"""{MEMBERS}
            SELECT coalesce(CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')
                                 ELSE sum(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid)
                                          + pg_stat_get_tuples_deleted(oid)) END, 0)::bigint,
                   clock_timestamp() AT TIME ZONE 'UTC'
            FROM member""",
        schema=SOURCE_SCHEMA,
        tables=[table.name for table in tables],
    )
    return writes, now


def end_of_record(position: int) -> int:
    """Return where the record before a WAL position ended: positions after a page's header count as the page's start.

    PostgreSQL names both, depending on whether it is about to write or has read (24 bytes, or 40 in the first page of a
    segment: `SizeOfXLogShortPHD`, `SizeOfXLogLongPHD` in `xlog_internal.h`).
    """
    page, offset = position // _WAL_PAGE * _WAL_PAGE, position % _WAL_PAGE
    return page if offset == 24 or (offset == 40 and page % _SMALLEST_WAL_SEGMENT == 0) else position


class SourceBehindError(Exception):
    """The source is a standby that has not replayed yet what the latest capture saw. It will catch up."""

    def __init__(self, position: str, previous: Capture) -> None:
        super().__init__(
            f"the source is a standby at {position}, behind capture {previous.id}, which was read from a server at "
            f"{_position(previous.wal_position, previous.snapshot)}: nothing is captured until it has caught up"
        )


def _position(wal_position: int | None, snapshot: str) -> str:
    return f"WAL position {wal_position:X}" if wal_position else f"transaction {bounds(snapshot)[1]}"


@dataclass(frozen=True)
class Position:
    """Where a server is in its history.

    snapshot: the text of `pg_current_snapshot()`.
    replayed: of a standby, the WAL position that it had replayed before the snapshot; None if it does not tell.
    """

    snapshot: str
    is_standby: bool
    replayed: int | None

    def __str__(self) -> str:
        return _position(self.replayed, self.snapshot)

    def is_behind(self, previous: Capture) -> bool:
        """Whether a capture saw what is not here yet."""
        if self.replayed is not None and previous.wal_position is not None:
            return self.replayed < previous.wal_position
        return bounds(self.snapshot)[1] < bounds(previous.snapshot)[1]


def full_capture_reason(previous: Capture | None, source: Source, position: Position) -> str | None:
    """Return why the horizon of the previous capture is useless, so that every row must be captured; None if it is not.

    Raises:
        SourceBehindError: the source is a standby of the same cluster, and behind the previous capture.
    """
    if previous is None:
        return "it is the first capture"
    before = previous.source
    same_cluster = (source.system_identifier, source.database_oid) == (before.system_identifier, before.database_oid)
    if position.is_standby and same_cluster and position.is_behind(previous):
        raise SourceBehindError(str(position), previous)
    if source != before:
        return f"the source is another server, or was started again: {source}, before {before}"
    oldest, next_ = bounds(position.snapshot)
    if oldest < previous.horizon:
        return f"the source went back from transaction {previous.horizon} to {oldest}"
    age = next_ - previous.horizon
    if age > _MAX_HORIZON_AGE:
        return f"the previous capture is {age} transactions old"
    return None


@dataclass(frozen=True)
class HeldBackHorizon:
    """A horizon that has not moved since the previous capture, because a transaction is open.

    transactions: how many transactions began after that one.
    held_by: whose transaction it is, and since when.
    """

    transactions: int
    held_by: str


def held_back_horizon(connection: Connection, previous: Capture | None, snapshot: str) -> HeldBackHorizon | None:
    """Return what holds the horizon of a snapshot back, or None if it has moved since the previous capture."""
    oldest, next_ = bounds(snapshot)
    if previous is None or oldest != previous.horizon or oldest == next_:
        return None
    holders = connection.run(
        """SELECT 'session ' || pid || coalesce(' (' || nullif(application_name, '') || ')', '') AS holder,
                  usename::text AS owner, datname::text AS database, xact_start AS since
           FROM pg_stat_activity WHERE backend_xid = CAST(CAST(:oldest AS xid8) AS xid)
           UNION ALL
           SELECT 'prepared transaction ' || gid, owner::text, database::text, prepared
           FROM pg_prepared_xacts WHERE transaction = CAST(CAST(:oldest AS xid8) AS xid)""",
        oldest=str(oldest),
    )
    descriptions = [
        f"{holder} of {owner} in {database}" + (f", since {since:%Y-%m-%d %H:%M:%S} UTC" if since else "")
        for holder, owner, database, since in holders
    ]
    held_by = descriptions[0] if descriptions else "a session that this server does not show"
    return HeldBackHorizon(next_ - oldest, f"transaction {oldest}: {held_by}")


@dataclass(frozen=True)
class ChangeQueries:
    """The queries of a capture: every row, or (`since` given) what changed since, with the rows that join to it.

    Every row of `full_tables` is captured all the same.
    """

    tables: Mapping[str, Table]
    join_dependencies: Sequence[JoinDependency]
    since: Capture | None
    full_tables: Set[str] = frozenset()

    def rows(self, table: str, columns: Sequence[str]) -> str:
        """Return the query for the rows of a table to capture."""
        query = f"SELECT {column_list(columns, 't')} FROM {relation(table)} t"
        if self.since is None or table in self.full_tables:
            return query
        return f"{query} WHERE {self._capture_predicate(table, 't')}"

    def tables_to_query(self, connection: Connection) -> list[Table]:
        """Return the tables to query: of a group that joins, all or none, depending on whether one of them changed.

        That takes one lookup per table; to find nothing with the joins would take several.
        """
        if self.since is None:
            return list(self.tables.values())
        joined = {name for join in self.join_dependencies for name in (join.table, join.to)}
        unchanged = {
            name for name in joined if name not in self.full_tables and not self._has_changes(connection, name)
        }
        return [
            table for table in self.tables.values() if not join_group(table.name, self.join_dependencies) <= unchanged
        ]

    def transactions(self, connection: Connection, table: str) -> set[int]:
        """Return the transactions from the horizon of `since` on that wrote the present rows of a table."""
        assert self.since
        horizon = self.since.horizon
        rows = connection.run(
            f"""SELECT DISTINCT t.xmin::text::bigint FROM {relation(table)} t WHERE {written_from("t", horizon)}"""
        )
        return {horizon + (id_ - horizon) % _WRAPAROUND for [id_] in rows}

    def _has_changes(self, connection: Connection, table: str) -> bool:
        exists = f"SELECT EXISTS (SELECT FROM {relation(table)} t WHERE {self._written_since('t')})"
        [[changed]] = connection.run(exists)
        return bool(changed)

    def _written_since(self, alias: str) -> str:
        """Return the condition that a row was written by a transaction that had not ended at the capture `since`.

        If a row of a transaction was captured, the transaction had ended, and all its rows were captured.
        """
        assert self.since
        written = written_from(alias, self.since.horizon)
        captured = ",".join(str(id_ % _WRAPAROUND) for id_ in self.since.captured_transactions)
        return f"{written} AND {alias}.xmin <> ALL ({literal(f'{{{captured}}}')}::xid[])" if captured else written

    def _capture_predicate(self, table: str, alias: str) -> str:
        """Return the condition that a row is affected by a change, or that an affected row needs it for a join."""
        conditions = [self._changed_predicate(table, alias)]
        for join in self.join_dependencies:
            if join.to == table:
                inner = f"{alias}_"
                key = column_list(self.tables[table].primary_key, alias)
                conditions.append(
                    f"{key} IN (SELECT {column_list([join.column], inner)} "
                    f"FROM {relation(join.table)} {inner} WHERE {self._capture_predicate(join.table, inner)})"
                )
        return " OR ".join(conditions)

    def _changed_predicate(self, table: str, alias: str) -> str:
        """Return the condition that a row changed, or that a row it joins to did."""
        conditions = [self._written_since(alias)]
        for join in self.join_dependencies:
            if join.table == table:
                inner = f"{alias}_"
                key = column_list(self.tables[join.to].primary_key, inner)
                conditions.append(
                    f"{column_list([join.column], alias)} IN (SELECT {key} "
                    f"FROM {relation(join.to)} {inner} WHERE {self._changed_predicate(join.to, inner)})"
                )
        return " OR ".join(conditions)
