"""Reconciliations: each full capture is also an audit of the warehouse: docs/adr/0016-full-captures-are-audits.md.

The source counted its rows and computed their checksum in the snapshot of the capture. The load does the same of its
own state as of that capture, and compares row by row, with the captured file, where the two differ.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
from pg8000.native import literal

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.postgres import (
    Connection,
    StatementRefusedError,
    column_list,
    csv_chunks,
    join_condition,
    quote_identifier,
    savepoint,
)
from etl_assets.catalog.stages import INGESTION
from etl_assets.ingestion.checksums import rows_and_checksum
from etl_assets.ingestion.csv_files import CapturedRows, ColumnNotCapturedError, CorruptObjectError
from etl_assets.ingestion.manifest import Capture, SourceChecksum
from etl_assets.schema.columns import CAPTURED_AT, DELETED, MASK, is_personal
from etl_assets.schema.table import Catalog, SharedColumns
from etl_assets.schema.types import sql_type
from etl_assets.transformation.star_table import StarTable, shared_columns
from etl_assets.warehouse.history import key_json, staged_rejected
from etl_assets.warehouse.ledger import count_repaired, exists
from etl_assets.warehouse.relations import PENDING, RECONCILIATIONS, relation

_MAX_KEYS = 20
_COLUMNS = (
    "captured_at",
    "star_table",
    "source_table",
    "source_rows",
    "warehouse_rows",
    "repaired",
    "set_apart",
    "source_checksum",
    "warehouse_checksum",
    "differing",
    "first_keys",
)


@dataclass(frozen=True)
class Reconciliation:
    """What a full capture said about a star table: the rows of its source table, and those here as of the capture.

    repaired: rows that ordinary captures had missed, and that this one brought.
    set_apart: rows that are rejected or pending. They are not a difference.
    source_checksum, warehouse_checksum: over the columns they share. None if they cannot be compared.
    differing: the number of rows that differ, after the repair; None if it is not known.
    first_keys: the first of them, by key, with personal data masked.
    """

    captured_at: datetime
    star_table: str
    source_table: str
    source_rows: int
    warehouse_rows: int
    repaired: int
    set_apart: int
    source_checksum: str | None
    warehouse_checksum: str | None
    differing: int | None
    first_keys: Sequence[Mapping[str, Any]] = ()

    @property
    def is_equal(self) -> bool | None:
        """Whether nothing differs but what is set apart; None if it is not known."""
        if self.differing is not None:
            return self.differing == 0
        return None if None in (self.source_checksum, self.warehouse_checksum) else False

    @property
    def keys_text(self) -> str:
        """The first keys, without the names of their columns."""
        return "; ".join(", ".join(map(str, key.values())) for key in self.first_keys)


def reconcile(
    connection: Connection,
    catalog: Catalog[StarTable],
    ingestion: Bucket,
    star: str,
    captures: Sequence[Capture],
    *,
    again: bool = False,
) -> list[Reconciliation]:
    """Compare a star table with full captures that are loaded in this transaction, record it, and return it.

    What is recorded already is returned as it is, unless it is to be compared `again`. A star table that shares no key
    with its source table is not compared.
    """
    shared = [each for each in shared_columns(catalog) if each.star == star] if captures else []
    if not shared:
        return []
    times = [capture.captured_at for capture in captures]
    known = {} if again else _recorded(connection, star, times)
    for capture in captures:
        if capture.captured_at not in known:
            known[capture.captured_at] = _Comparison(connection, catalog, ingestion, shared[0], capture).run()
            _record(connection, known[capture.captured_at])
    return [known[time] for time in times]


def latest_reconciliations(connection: Connection) -> dict[str, Reconciliation]:
    """Return the reconciliation with the latest full capture, by star table."""
    if not exists(connection, RECONCILIATIONS):
        return {}
    rows = connection.run(
        f"SELECT DISTINCT ON (star_table) {column_list(_COLUMNS)} FROM {RECONCILIATIONS} "
        "ORDER BY star_table, captured_at DESC"
    )
    return {each.star_table: each for each in _reconciliations(rows)}


def _recorded(connection: Connection, star: str, times: Sequence[datetime]) -> dict[datetime, Reconciliation]:
    rows = connection.run(
        f"""SELECT {column_list(_COLUMNS)} FROM {RECONCILIATIONS}
            WHERE star_table = :star AND captured_at = ANY(CAST(:times AS timestamp[]))""",
        star=star,
        times=times,
    )
    return {each.captured_at: each for each in _reconciliations(rows)}


def _reconciliations(rows: Iterable[Sequence[Any]]) -> Iterator[Reconciliation]:
    return (Reconciliation(**dict(zip(_COLUMNS, row, strict=True))) for row in rows)


def _record(connection: Connection, found: Reconciliation) -> None:
    values = {name: getattr(found, name) for name in _COLUMNS} | {"first_keys": json.dumps(found.first_keys)}
    replaced = ", ".join(f"{name} = excluded.{name}" for name in (*_COLUMNS, "reconciled_at"))
    connection.run(
        f"""INSERT INTO {RECONCILIATIONS} ({column_list(_COLUMNS)})
            VALUES ({", ".join(f":{name}" for name in _COLUMNS)})
            ON CONFLICT (star_table, captured_at) DO UPDATE SET {replaced}""",
        **values,
    )


@dataclass(frozen=True)
class _Comparison:
    """The comparison of a star table with the rows that its source table had in a capture."""

    connection: Connection
    catalog: Catalog[StarTable]
    ingestion: Bucket
    shared: SharedColumns
    capture: Capture

    @property
    def star(self) -> StarTable:
        return self.catalog.star(self.shared.star)

    @property
    def versions(self) -> str:
        return relation(self.star.versions)

    def run(self) -> Reconciliation:
        source = self._source()
        columns = {name: self.star.columns.field(name).type for name in source.columns} if source else {}
        if source:
            rows, checksum = rows_and_checksum(self.connection, self._state(), columns, **self._time)
        else:
            rows, checksum = self._count_rows(), None
        differing: int | None = None
        first_keys: Sequence[Mapping[str, Any]] = ()
        file = self.capture.files.get(self.shared.table)
        source_rows = source.rows if source else file.rows if file else 0
        set_apart = self._count_set_apart()
        if source and checksum is not None:
            differing = 0
            if (source.rows, source.checksum) != (rows, checksum):
                differing, first_keys = self._compare(source, columns, set_apart)
        return Reconciliation(
            captured_at=self.capture.captured_at,
            star_table=self.star.name,
            source_table=self.shared.table,
            source_rows=source_rows,
            warehouse_rows=rows,
            repaired=count_repaired(self.connection, self.star, [self.capture.captured_at]),
            set_apart=set_apart,
            source_checksum=source.checksum if source else None,
            warehouse_checksum=checksum,
            differing=differing,
            first_keys=first_keys,
        )

    def _source(self) -> SourceChecksum | None:
        """Return the checksum of the source, if it is over columns that are still shared and of the same types."""
        source = self.capture.checksums.get(self.star.name)
        types = {name: str(self.star.columns.field(name).type) for name in self.shared.columns}
        comparable = source and source.checksum is not None and source.columns.items() <= types.items()
        return source if comparable else None

    @property
    def _time(self) -> dict[str, Any]:
        return {"time": self.capture.captured_at}

    def _state(self) -> str:
        """Return the query of the rows of the star table as of the capture."""
        key = column_list(self.star.primary_key)
        return f"""SELECT {column_list(self.shared.columns)} FROM (
                SELECT DISTINCT ON ({key}) * FROM {self.versions}
                WHERE {CAPTURED_AT} <= CAST(:time AS timestamp) ORDER BY {key}, {CAPTURED_AT} DESC) latest
            WHERE NOT {DELETED}"""

    def _count_rows(self) -> int:
        [[count]] = self.connection.run(f"SELECT count(*) FROM ({self._state()}) rows", **self._time)
        return int(count)

    def _set_apart(self) -> str:
        """Return the query of the keys that the capture has, and whose version is rejected or pending."""
        star = self.star
        names = ", ".join(f"{literal(here)}, key -> {literal(self.shared.columns[here])}" for here in star.primary_key)
        same_key = join_condition(star.primary_key, "later", "version")
        return f"""SELECT key FROM {staged_rejected(star)}
            WHERE {CAPTURED_AT} = CAST(:time AS timestamp) AND "table" = {literal(star.name)}
            UNION
            SELECT jsonb_build_object({names}) FROM {staged_rejected(star)}
            WHERE {CAPTURED_AT} = CAST(:time AS timestamp) AND "table" = {literal(self.shared.table)}
            UNION
            SELECT pending.key
            FROM {PENDING} pending, jsonb_populate_record(NULL::{self.versions}, pending."row") version
            WHERE star_table = {literal(star.name)} AND pending.{CAPTURED_AT} <= CAST(:time AS timestamp)
            AND NOT EXISTS (SELECT FROM {self.versions} later WHERE {same_key}
                            AND later.{CAPTURED_AT} > pending.{CAPTURED_AT}
                            AND later.{CAPTURED_AT} <= CAST(:time AS timestamp))"""

    def _count_set_apart(self) -> int:
        [[count]] = self.connection.run(f"SELECT count(*) FROM ({self._set_apart()}) keys", **self._time)
        return int(count)

    def _compare(
        self, source: SourceChecksum, columns: Mapping[str, pa.DataType], set_apart: int
    ) -> tuple[int | None, Sequence[Mapping[str, Any]]]:
        """Return how many rows of the captured file and of the star table differ, and the first keys."""
        captured = quote_identifier(f"captured_{self.star.name}")
        definitions = ", ".join(f"{quote_identifier(name)} {sql_type(type_)}" for name, type_ in columns.items())
        self.connection.run(f"CREATE TEMPORARY TABLE {captured} ({definitions}) ON COMMIT DROP")
        try:
            for rows in self._captured_rows(columns):
                self._copy(captured, rows)
        except (CorruptObjectError, ColumnNotCapturedError):
            return None, []
        differing, first_keys = self._differing(captured, columns)
        in_file = rows_and_checksum(self.connection, f"SELECT * FROM {captured}", columns)
        if not (differing or set_apart or in_file == (source.rows, source.checksum)):
            differing = 1  # or more: the file is not what the source had
        self.connection.run(f"DROP TABLE {captured}")
        return differing, first_keys

    def _captured_rows(self, columns: Iterable[str]) -> Iterator[pa.Table]:
        """Yield the captured rows that fit their declaration, with the names of the star table."""
        source = self.catalog[self.shared.table]
        rows = CapturedRows(asset=f"{INGESTION}/{source.name}", table=source, open_bucket=lambda: self.ingestion)
        for batch in rows.read([self.capture]):
            yield batch.rows.select([self.shared.columns[name] for name in columns]).rename_columns([*columns])

    def _copy(self, table: str, rows: pa.Table) -> None:
        """Copy rows, without those that the warehouse cannot store: they are rejected."""
        try:
            with savepoint(self.connection):
                self.connection.copy_in(table, rows.column_names, csv_chunks(rows.to_batches()))
        except StatementRefusedError as refusal:
            if not refusal.is_about_data:
                raise
            if half := rows.num_rows // 2:
                self._copy(table, rows.slice(0, half))
                self._copy(table, rows.slice(half))

    def _differing(self, captured: str, columns: Iterable[str]) -> tuple[int, list[Mapping[str, Any]]]:
        star = self.star
        key = column_list(star.primary_key)
        shown = ", ".join(
            f"{literal(name)}, {literal(MASK) if is_personal(star.columns.field(name)) else quote_identifier(name)}"
            for name in star.primary_key
        )
        [[count, first_keys]] = self.connection.run(
            f"""WITH set_apart AS MATERIALIZED ({self._set_apart()}),
                differing AS (
                    SELECT {key} FROM {captured} captured FULL JOIN ({self._state()}) here USING ({key})
                    WHERE ROW({column_list(columns, "captured")}) IS DISTINCT FROM ROW({column_list(columns, "here")}))
                SELECT count(*), coalesce(jsonb_agg(key ORDER BY number) FILTER (WHERE number <= {_MAX_KEYS}), '[]')
                FROM (SELECT jsonb_build_object({shown}) AS key, row_number() OVER (ORDER BY {key}) AS number
                      FROM differing
                      WHERE {key_json(star, "differing")} NOT IN (SELECT key FROM set_apart)) numbered""",
            **self._time,
        )
        return int(count), first_keys
