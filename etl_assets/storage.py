"""What lies in the buckets: captured CSV and star Parquet, and how Dagster reaches them.

A star table of a partition lies at `<table>/<partition folder>/<table>-<time written>.parquet`; rows set apart on
the way lie under the same name below `rejected/`. The newest file of a partition counts.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv
from pydantic import PrivateAttr

from etl_assets.buckets import Bucket
from etl_assets.captures import Capture, CapturedFile, folder, in_partition, stamp
from etl_assets.environment import EnvironmentVariableError, required
from etl_assets.errors import PermanentError
from etl_assets.failures import permanent_failures_not_retried
from etl_assets.tables import (
    CAPTURED_AT,
    CAPTURED_AT_TYPE,
    REJECTED,
    Conformed,
    Table,
    concat,
    conform,
    frame,
)

_CHUNK_BYTES = 8 * 1024 * 1024
_CAPTURES = b"captures"
_REJECTED = b"rejected"
_COMPRESSION = "zstd"
REJECTED_FOLDER = "rejected"


class BucketResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """A bucket whose URL is in an environment variable."""

    variable: str
    _bucket: Bucket | None = PrivateAttr(default=None)

    def open(self) -> Bucket:
        """Open the bucket, once for each run.

        Raises:
            EnvironmentVariableError: the variable is missing or holds no URL of a bucket.
        """
        if self._bucket is None:
            url = required(self.variable)
            try:
                self._bucket = Bucket(url)
            except ValueError as error:
                raise EnvironmentVariableError(self.variable, str(error)) from error
        return self._bucket


class CorruptObjectError(PermanentError):
    """An object does not hold what was written to it."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(f"{key} {problem}")


class NotMaterializedError(PermanentError):
    """A star table has no file for a partition."""

    def __init__(self, table: str, partition: str) -> None:
        self.table = table
        self.partition = partition
        super().__init__(f"transformation/{table} has no partition {partition}: materialize it first")


class NotTransformedError(Exception):
    """A star table was made before a capture of the partition; another run may be about to make it."""

    def __init__(self, table: str, partition: str, missing: Iterable[str]) -> None:
        self.table = table
        self.partition = partition
        self.missing = tuple(sorted(missing))
        super().__init__(
            f"transformation/{table} of partition {partition} lacks the captures {', '.join(self.missing)}: "
            "materialize transformation/* of this partition first"
        )


def with_captures(rows: pa.Table, captures: Iterable[str]) -> pa.Table:
    """Note in the schema which captures rows were made from: some may have none."""
    return rows.replace_schema_metadata({_CAPTURES: _noted(captures)})


def _noted(captures: Iterable[str]) -> str:
    return json.dumps(sorted(captures))


def captures_of(schema: pa.Schema) -> frozenset[str]:
    """Give the ids of the captures noted by `with_captures`."""
    return frozenset(json.loads(schema.metadata[_CAPTURES]))


@dataclass(frozen=True)
class StarFile:
    """A star table of a partition, opened: its rows, those rejected on the way, and the captures it was made from."""

    rows: pq.ParquetFile
    rejected: pa.Table
    captures: frozenset[str]


def read_captured(bucket: Bucket, table: Table, partition: str) -> Conformed:
    """Read what the captures of a partition hold of a table, typed as declared; only captures with a manifest count.

    Raises:
        CorruptObjectError: an object is missing, or is not the one its manifest tells of.
    """
    made = in_partition(bucket, partition)
    whole = concat(captured_batches(bucket, table, made), table)
    return Conformed(with_captures(whole.rows, (capture.id for capture in made)), whole.rejected)


def captured_batches(bucket: Bucket, table: Table, captures: Iterable[Capture]) -> Iterator[Conformed]:
    """Read what captures hold of a table in batches, each of one capture, typed as declared.

    Raises:
        CorruptObjectError: an object is missing, or is not the one its manifest tells of.
    """
    for capture in captures:
        if file := capture.files.get(table.name):
            yield from _read_ahead(_read_csv(bucket, file, table, capture.captured_at))


def _read_ahead(batches: Iterator[Conformed]) -> Iterator[Conformed]:
    """Read each batch, in a thread, while the one before it is used: pyarrow parses and compresses without the GIL."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, batches, None)
        while batch := coming.result():
            coming = thread.submit(next, batches, None)
            yield batch


def _read_csv(bucket: Bucket, file: CapturedFile, table: Table, captured_at: datetime) -> Iterator[Conformed]:
    digest = hashlib.sha256()
    rows = 0
    column_names: list[str] = []
    try:
        with bucket.open(file.key) as stream:
            for chunk in _whole_rows(stream):
                digest.update(chunk)
                if not column_names:
                    header, _, chunk = chunk.partition(b"\n")
                    column_names = header.decode().split(",")
                parsed = _parse(chunk, column_names, table)
                rows += parsed.num_rows
                stamps = pa.repeat(pa.scalar(captured_at, CAPTURED_AT_TYPE), parsed.num_rows)
                yield conform(table, parsed.append_column(CAPTURED_AT, stamps))
    except FileNotFoundError as error:
        raise CorruptObjectError(file.key, "is missing, though its manifest is there") from error
    except pa.ArrowInvalid as error:
        raise CorruptObjectError(file.key, f"is not the CSV that was captured: {error}") from error
    if (rows, digest.hexdigest()) != (file.rows, file.sha256):
        raise CorruptObjectError(file.key, f"holds {rows} rows that differ from the {file.rows} captured")


def _whole_rows(stream: IO[bytes], block_bytes: int = _CHUNK_BYTES) -> Iterator[bytes]:
    """Cut CSV at row ends: pyarrow loses bytes where a quoted line end straddles two blocks (apache/arrow#51368)."""
    rest = b""
    while block := stream.read(block_bytes):
        data = rest + block
        end = _last_row_end(data)
        if end:
            yield data[:end]
        rest = data[end:]
    if rest:
        yield rest


def _last_row_end(data: bytes) -> int:
    """Find the end of the last whole row: after a line end with an even number of quotes before it."""
    end = data.rfind(b"\n") + 1
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end


def _parse(chunk: bytes, column_names: Sequence[str], table: Table) -> pa.Table:
    types = {column.name: column.type for column in table.columns}
    try:
        return _parse_as(chunk, column_names, types)
    except pa.ArrowInvalid:
        # PostgreSQL has values of these types that Arrow has not: infinity, NaN, bytes that are no UTF-8 (SQL_ASCII).
        return _parse_as(chunk, column_names, {name: _wider(type_) for name, type_ in types.items()})


def _wider(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_string(type_):
        return pa.binary()
    return pa.string() if pa.types.is_temporal(type_) or pa.types.is_decimal(type_) else type_


def _parse_as(chunk: bytes, column_names: Sequence[str], types: Mapping[str, pa.DataType]) -> pa.Table:
    return csv.read_csv(
        pa.py_buffer(chunk),
        csv.ReadOptions(column_names=column_names, block_size=len(chunk) + 16, use_threads=False),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        csv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            include_missing_columns=True,  # a column declared later is null in older captures
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )


class CapturedCsvIOManager(dg.IOManager):
    """Reads ingestion assets as frames. They are written by the capture itself, which streams them."""

    def __init__(self, bucket: BucketResource, tables: Iterable[Table]) -> None:
        self._bucket = bucket
        self._tables = {table.name: table for table in tables}

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Refuse: an ingestion asset is what a capture read, never a value."""
        raise NotImplementedError(f"{context.asset_key.to_user_string()} is written by the capture alone")

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Give the rows of the partitions, typed as declared, each with its `captured_at`."""
        with permanent_failures_not_retried():
            table = self._tables[context.asset_key.path[-1]]
            read = [read_captured(self._bucket.open(), table, key) for key in context.asset_partition_keys]
            return frame(concat(read, table).rows)


def captured_csv_io_manager(tables: Iterable[Table]) -> dg.IOManagerDefinition:
    """Make the IO manager of the ingestion bucket, which reads by the declarations of these tables."""

    @dg.io_manager(required_resource_keys={"ingestion_bucket"})
    def captured_csv(context: dg.InitResourceContext) -> CapturedCsvIOManager:
        return CapturedCsvIOManager(context.resources.ingestion_bucket, tables)

    return captured_csv


@contextmanager
def open_star(bucket: Bucket, table: str, partition: str, captures: Set[str] = frozenset()) -> Iterator[StarFile]:
    """Open the newest file of a star table in a partition that was made from these captures, others may be among them.

    Raises:
        NotMaterializedError: the partition has no file.
        NotTransformedError: none was made from all of the captures.
    """
    keys = bucket.objects(folder(table, partition))
    if not keys:
        raise NotMaterializedError(table, partition)
    missing: Set[str] = captures
    for key in reversed(keys):
        with _open_parquet(bucket, key) as rows:
            noted = rows.metadata.metadata
            made_from = frozenset(json.loads(noted[_CAPTURES]))
            if captures <= made_from:
                rejected = _read_rejected(bucket, key) if json.loads(noted[_REJECTED]) else REJECTED.empty_table()
                yield StarFile(rows, rejected, made_from)
                return
            missing = captures - made_from
    raise NotTransformedError(table, partition, missing)


def read_star(file: StarFile) -> pa.Table:
    """Read the rows of a star table."""
    return file.rows.read(use_threads=False)


def read_distinct(file: StarFile, column_names: Sequence[str]) -> pa.Table:
    """Read columns of a star table, each combination of values once."""
    schema = file.rows.schema_arrow
    found = pa.schema(schema.field(name) for name in column_names).empty_table()
    for batch in file.rows.iter_batches(columns=column_names, use_threads=False):
        both = pa.concat_tables([found, pa.Table.from_batches([batch])])
        found = both.group_by(column_names, use_threads=False).aggregate([])
    return found


def _read_rejected(bucket: Bucket, key: str) -> pa.Table:
    with _open_parquet(bucket, f"{REJECTED_FOLDER}/{key}") as file:
        return file.read(use_threads=False)


@contextmanager
def _open_parquet(bucket: Bucket, key: str) -> Iterator[pq.ParquetFile]:
    # Not pre-buffered, read without threads: otherwise pyarrow 26 may abort the process at exit (apache/arrow#34314).
    with bucket.open(key) as file:
        yield pq.ParquetFile(file, pre_buffer=False)


def write_star(
    bucket: Bucket, star: Table, partition: str, captures: Iterable[str], batches: Iterable[Conformed]
) -> tuple[str, int]:
    """Write a star table of a partition, made from these captures, as a new file; give its key and bytes.

    Before it appears, another has the rejected rows, if there are any.
    """
    key = f"{folder(star.name, partition)}/{star.name}-{stamp(datetime.now(UTC))}.parquet"
    rejected = [REJECTED.empty_table()]
    with bucket.create(key) as file:
        # zstd finds by itself what repeats: with dictionaries besides, files are larger, and slower to write.
        with pq.ParquetWriter(file, star.captured_columns, compression=_COMPRESSION, use_dictionary=False) as writer:
            for made in batches:
                writer.write_table(made.rows)
                rejected.append(made.rejected)
            apart = pa.concat_tables(rejected)
            writer.add_key_value_metadata({_CAPTURES: _noted(captures), _REJECTED: json.dumps(apart.num_rows)})
        if apart.num_rows:
            with bucket.create(f"{REJECTED_FOLDER}/{key}") as beside:
                pq.write_table(apart, beside, compression=_COMPRESSION)
    return key, file.size


class StarParquetIOManager(dg.IOManager):
    """Reads transformation assets as frames. They write themselves, with the rows they rejected."""

    def __init__(self, bucket: BucketResource) -> None:
        self._bucket = bucket

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        """Refuse: a star table is written with what was rejected, by the asset that makes it."""
        raise NotImplementedError(f"{context.asset_key.to_user_string()} writes itself")

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """Give the rows of the partitions."""
        table, parts = context.asset_key.path[-1], []
        with permanent_failures_not_retried():
            for partition in context.asset_partition_keys:
                with open_star(self._bucket.open(), table, partition) as file:
                    parts.append(read_star(file))
        return frame(pa.concat_tables(parts))


@dg.io_manager(required_resource_keys={"transformation_bucket"})
def star_parquet_io_manager(context: dg.InitResourceContext) -> StarParquetIOManager:
    """Make the IO manager of the transformation bucket."""
    return StarParquetIOManager(context.resources.transformation_bucket)
