"""transformation → warehouse: schema `warehouse` of a PostgreSQL. A dimension's row is the latest version of an
entity, a fact's row one version of an event.

A load is one transaction. It takes the captures of a partition in their order and notes each in `warehouse.loads`,
which refuses a capture whose predecessor is not there. What is loaded already changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import monotonic

import dagster as dg
import pyarrow.parquet as pq
from pg8000.native import literal

from etl_assets.captures import Capture, in_partition, partition_of
from etl_assets.catalogue import table_metadata
from etl_assets.databases import (
    Connection,
    DatabaseResource,
    csv_chunks,
    names,
    new_columns,
    quoted,
    sql_type,
    transaction,
)
from etl_assets.errors import PermanentError
from etl_assets.failures import RETRY_OUTAGES, permanent_failures_not_retried
from etl_assets.storage import BucketResource, captures_of, open_star
from etl_assets.tables import CAPTURED_AT, referenced_first
from etl_assets.transformation.assets import TRANSFORMATION
from etl_assets.transformation.declare import StarTable

WAREHOUSE = "warehouse"

_DELETED = "deleted"
_LOCK = "totesys ETL: load"  # hashed by the server into the key of an advisory lock
_BATCH_ROWS = 64 * 1024

_LOADS = f"""
CREATE TABLE {WAREHOUSE}.loads (
    capture text PRIMARY KEY,
    captured_at timestamp NOT NULL UNIQUE,
    previous text REFERENCES {WAREHOUSE}.loads,
    full_capture boolean NOT NULL,
    loaded_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')
);
COMMENT ON TABLE {WAREHOUSE}.loads IS 'The captures of totesys that are here, each after the one before it.';
"""


class PredecessorNotLoadedError(PermanentError):
    """A capture cannot be loaded before the one it follows."""

    def __init__(self, capture: Capture, missing: str) -> None:
        self.capture = capture.id
        self.missing = missing
        self.partition = partition_of(missing)
        super().__init__(
            f"capture {capture.id} follows capture {missing}, which is not in the warehouse: "
            f"materialize transformation/* and warehouse/* of partition {self.partition} first"
        )


class NotTransformedError(PermanentError):
    """A star table was made before a capture of the partition."""

    def __init__(self, table: str, partition: str, missing: Iterable[str]) -> None:
        self.table = table
        self.partition = partition
        self.missing = tuple(sorted(missing))
        super().__init__(
            f"transformation/{table} of partition {partition} lacks the captures {', '.join(self.missing)}: "
            "materialize transformation/* of this partition first"
        )


@dataclass(frozen=True)
class TableLoad:
    """What a load did to a table: rows read from the file, rows inserted or changed, seconds taken."""

    read: int
    changed: int
    seconds: float


def load(
    connection: Connection,
    star_tables: Sequence[StarTable],
    captures: Sequence[Capture],
    files: Mapping[str, pq.ParquetFile],
) -> dict[str, TableLoad]:
    """Load captures, oldest first, from the files of their star tables, in one transaction.

    Raises:
        PredecessorNotLoadedError: a capture follows one that is not loaded.
        SchemaMismatchError: a table of the warehouse is not as declared.
        StatementRefusedError: a row breaks a foreign key, for example; it names table, column and key.
        DatabaseUnavailableError: the warehouse is down.
    """
    done: dict[str, TableLoad] = {}
    with transaction(connection):
        connection.run("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))", lock=_LOCK)
        ordered = referenced_first(star_tables)
        _create_missing(connection, ordered)
        _note_loads(connection, captures)
        for star in ordered:
            started = monotonic()
            read = _stage(connection, star, files[star.name])
            changed = sum(_merge(connection, star, capture) for capture in captures) if read else 0
            done[star.name] = TableLoad(read, changed, monotonic() - started)
    return done


def _note_loads(connection: Connection, captures: Sequence[Capture]) -> None:
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


def _relation(star: StarTable) -> str:
    return f"{WAREHOUSE}.{quoted(star.name)}"


def _staged(star: StarTable) -> str:
    return quoted(f"staged_{star.name}")


def _stage(connection: Connection, star: StarTable, file: pq.ParquetFile) -> int:
    """Copy the rows of a file into a temporary table; give their number."""
    columns = star.captured_columns.names
    connection.run(
        f"CREATE TEMPORARY TABLE {_staged(star)} ON COMMIT DROP AS "
        f"SELECT {names(columns)} FROM {_relation(star)} WITH NO DATA"
    )
    batches = file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False)
    rows = connection.copy_in(_staged(star), columns, csv_chunks(batches))
    connection.run(f"ANALYZE {_staged(star)}")
    return rows


def _merge(connection: Connection, star: StarTable, capture: Capture) -> int:
    merge = _merge_versions if star.record_id else _merge_latest
    connection.run(merge(star), captured_at=capture.captured_at)
    return int(connection.row_count)


def _merge_versions(star: StarTable) -> str:
    """Compose: insert a version unless it is there, or says the same as the one just before it in capture time."""
    columns = star.captured_columns.names
    [key] = star.primary_key
    same_event = f"before.{quoted(key)} = staged.{quoted(key)}"
    return f"""
        INSERT INTO {_relation(star)} ({names(columns)})
        SELECT {names(columns, "staged")}
        FROM {_staged(star)} staged
        LEFT JOIN LATERAL (
            SELECT before.* FROM {_relation(star)} before
            WHERE {same_event} AND before.{CAPTURED_AT} <= staged.{CAPTURED_AT}
            ORDER BY before.{CAPTURED_AT} DESC LIMIT 1
        ) before ON true
        WHERE staged.{CAPTURED_AT} = CAST(:captured_at AS timestamp)
        AND (before.{CAPTURED_AT} IS NULL
             OR before.{CAPTURED_AT} < staged.{CAPTURED_AT}
                AND (before.{_DELETED}
                     OR ROW({names(star.columns.names, "before")})
                        IS DISTINCT FROM ROW({names(star.columns.names, "staged")})))
        ORDER BY staged.{quoted(key)}"""


def _merge_latest(star: StarTable) -> str:
    """Compose: insert a row, or replace the one there if it differs and is not newer."""
    columns = star.captured_columns.names
    replaced = [name for name in columns if name not in star.primary_key]
    compared = [name for name in star.columns.names if name not in star.primary_key]
    return f"""
        INSERT INTO {_relation(star)} AS present ({names(columns)})
        SELECT {names(columns)} FROM {_staged(star)} WHERE {CAPTURED_AT} = CAST(:captured_at AS timestamp)
        ON CONFLICT ({names(star.primary_key)}) DO UPDATE
        SET ({names(replaced)}) = ROW({names(replaced, "excluded")})
        WHERE present.{CAPTURED_AT} <= excluded.{CAPTURED_AT}
        AND ROW({names(compared, "present")}) IS DISTINCT FROM ROW({names(compared, "excluded")})"""


def _create_missing(connection: Connection, ordered: Sequence[StarTable]) -> None:
    """Create what is not there, and only that: DDL on what analysts are reading would wait for them.

    Raises:
        SchemaMismatchError: a table that is there is not as declared.
    """
    present = {
        name
        for [name] in connection.run(
            "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(:schema)",
            schema=WAREHOUSE,
        )
    }
    if "loads" not in present:
        connection.run(f"CREATE SCHEMA IF NOT EXISTS {WAREHOUSE}")
        connection.run(_LOADS)
    for star in ordered:
        if star.name not in present:
            for statement in _ddl(star):
                connection.run(statement)
    new_columns(
        connection,
        WAREHOUSE,
        WAREHOUSE,
        {star.name: star.captured_columns for star in ordered if star.name in present},
    )


def _ddl(star: StarTable) -> Iterator[str]:
    """Compose a star table, and the view of its present state if it is a fact."""
    definitions = [
        f"{quoted(column.name)} {sql_type(column.type)}{'' if column.nullable else ' NOT NULL'}"
        for column in star.captured_columns
    ]
    definitions += [
        f"FOREIGN KEY ({quoted(column)}) REFERENCES {WAREHOUSE}.{quoted(to)}"
        for column, to in star.foreign_keys.items()
    ]
    if star.record_id:
        definitions.insert(0, f"{quoted(star.record_id)} serial PRIMARY KEY")
        definitions.insert(len(star.captured_columns) + 1, f"{_DELETED} boolean NOT NULL DEFAULT false")
        definitions.append(f"UNIQUE ({names(star.primary_key)}, {CAPTURED_AT})")
    else:
        definitions.append(f"PRIMARY KEY ({names(star.primary_key)})")
    yield f"CREATE TABLE {_relation(star)} ({', '.join(definitions)})"
    yield f"COMMENT ON TABLE {_relation(star)} IS {literal(star.description)}"
    if star.record_id:
        view = f"{WAREHOUSE}.{quoted(star.name + '_current')}"
        key = names(star.primary_key)
        yield f"""CREATE VIEW {view} AS
            SELECT * FROM (
                SELECT DISTINCT ON ({key}) * FROM {_relation(star)} ORDER BY {key}, {CAPTURED_AT} DESC
            ) latest
            WHERE NOT {_DELETED}"""
        yield f"COMMENT ON VIEW {view} IS {literal(f'{star.name}: the present version of each.')}"


def warehouse_assets(
    star_tables: Sequence[StarTable], partitions: dg.TimeWindowPartitionsDefinition
) -> dg.AssetsDefinition:
    """Make the warehouse assets: one op for all, because a load is one transaction."""

    @dg.multi_asset(
        name=WAREHOUSE,
        specs=[
            dg.AssetSpec(
                [WAREHOUSE, star.name],
                deps=[[TRANSFORMATION, star.name]],
                description=star.description,
                metadata=table_metadata(star, f"{WAREHOUSE}.{star.name}", versioned=bool(star.record_id)),
                kinds={"postgres", "table"},
            )
            for star in star_tables
        ],
        partitions_def=partitions,
        can_subset=False,
        retry_policy=RETRY_OUTAGES,
    )
    def warehouse(
        context: dg.AssetExecutionContext,
        warehouse_database: DatabaseResource,
        ingestion_bucket: BucketResource,
        transformation_bucket: BucketResource,
    ) -> Iterator[dg.MaterializeResult]:  # type: ignore[type-arg]
        partition = context.partition_key
        with permanent_failures_not_retried(), ExitStack() as stack:
            captures = in_partition(ingestion_bucket.open(), partition)
            bucket = transformation_bucket.open()
            files = {star.name: stack.enter_context(open_star(bucket, star.name, partition)) for star in star_tables}
            for name, file in files.items():
                missing = {capture.id for capture in captures} - captures_of(file.schema_arrow)
                if missing:
                    raise NotTransformedError(name, partition, missing)
            connection = stack.enter_context(warehouse_database.connect())
            done = load(connection, star_tables, captures, files)
        context.log.info(f"loaded {len(captures)} captures, {sum(table.changed for table in done.values())} rows")
        for name, table in done.items():
            yield dg.MaterializeResult(
                asset_key=[WAREHOUSE, name],
                metadata={
                    "dagster/row_count": table.changed,
                    "rows read": table.read,
                    "captures": len(captures),
                    "seconds": table.seconds,
                },
            )

    return warehouse
