"""Captured CSV, read back with the declared types."""

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, groupby
from typing import IO

import numpy as np
import pyarrow as pa
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions, read_csv

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.read_ahead import in_batches, map_ahead, read_ahead
from etl_assets.ingestion.live_tables import live_name
from etl_assets.ingestion.manifest import Capture, CapturedFile, list_partition
from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE, missing_value
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.rows import Rows
from etl_assets.schema.table import Table
from etl_assets.schema.types import lenient_csv_type
from etl_assets.schema.validation import ValidatedRows, validate

_CHUNK_BYTES = 8 * 1024 * 1024
_SMALL_BYTES = 1024 * 1024  # files up to this size are read several at a time
_REQUEST_BYTES = 64 * 1024  # what could be read in the time that a request takes


class CorruptObjectError(PermanentError):
    """An object differs from what was written."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}: restore the object from an earlier version or a copy of the bucket")


class ColumnMissingError(Exception):
    """CSV lacks a column that may not be null, and nothing is declared to stand there instead."""

    def __init__(self, column: str) -> None:
        super().__init__(f"the CSV has no column {column}")
        self.column = column


class ColumnNotCapturedError(PermanentError):
    """A capture lacks a column that may not be null, and its declaration does not say what stands there instead."""

    def __init__(self, table: str, column: str, key: str) -> None:
        super().__init__(
            f"{key} has no column {column}, because {table} had none when it was captured: declare what stands there "
            f'instead, {column}=missing_as("…", …), the name that the column had, {column}=renamed_from("…", …), or '
            f"that it may be null, {column}=optional(…) (docs/evolution.md)"
        )


@dataclass(frozen=True)
class _CaptureFile:
    """The file of the table in a capture, or the file of its keys.

    content: its bytes, if it is small and exists; None if it is read as a stream.
    body: where its rows begin in `content`; 0 if this is not what was captured.
    """

    file: CapturedFile
    captured_at: datetime
    content: bytes | None = None
    body: int = 0

    @property
    def header(self) -> bytes:
        """The first row of CSV, which names the columns."""
        return (self.content or b"")[: self.body]

    def fetched(self, bucket: Bucket) -> "_CaptureFile":
        """Return it with its content."""
        try:
            with bucket.open(self.file.key) as stream:
                content = stream.read()
        except FileNotFoundError:
            return self
        is_whole = hashlib.sha256(content).hexdigest() == self.file.sha256 and _last_row_end(content) == len(content)
        return replace(self, content=content, body=_header_end(content) + 1 if content and is_whole else 0)


def _fetch_ahead(bucket: Bucket, files: Iterable[_CaptureFile]) -> Iterator[_CaptureFile]:
    """Yield small files with their contents, which are read several at a time."""

    def fetch(several: list[_CaptureFile]) -> list[_CaptureFile]:
        return [each.fetched(bucket) for each in several]

    requests = in_batches(files, lambda each: each.file.bytes + _REQUEST_BYTES, _SMALL_BYTES)
    return chain.from_iterable(map_ahead(fetch, requests))


def _by_size(files: Iterable[_CaptureFile]) -> Iterator[tuple[bool, Iterator[_CaptureFile]]]:
    """Yield consecutive files that are all small, or all large, and whether they are small."""
    return groupby(files, lambda each: each.file.bytes <= _SMALL_BYTES)


def _groups(files: Iterable[_CaptureFile]) -> Iterator[list[_CaptureFile]]:
    """Yield files that can be parsed together: of the same columns, as captured, and not too many."""
    for _, same in groupby(files, lambda each: each.header or each.file.key):
        yield from in_batches(same, lambda each: each.file.bytes, _CHUNK_BYTES)


def _read_group(bucket: Bucket, table: Table, group: Sequence[_CaptureFile]) -> Iterator[ValidatedRows]:
    """Yield the rows of files of the same columns. Those that have an exceptional value or an error are read alone."""
    [first, *others] = group
    if not others:
        yield from _read_file(bucket, table, first)
        return
    counts = [each.file.rows for each in group]
    text = b"".join([first.header, *((each.content or b"")[each.body :] for each in group)])
    try:
        [rows] = parse_csv([text], table.columns, lenient=False)
    except (ColumnMissingError, pa.ArrowInvalid):
        rows = None
    if rows is None or rows.num_rows != sum(counts):
        half = len(group) // 2
        yield from _read_group(bucket, table, group[:half])
        yield from _read_group(bucket, table, group[half:])
        return
    times = np.repeat(np.array([each.captured_at for each in group], "datetime64[us]"), counts)
    yield validate(table, rows.append_column(CAPTURED_AT, pa.array(times, CAPTURED_AT_TYPE)))


def _read_file(bucket: Bucket, table: Table, of: _CaptureFile) -> Iterator[ValidatedRows]:
    file, digest, rows = of.file, hashlib.sha256(), 0
    try:
        with bucket.open(file.key) if of.content is None else io.BytesIO(of.content) as stream:
            for batch in parse_csv(_digested(whole_rows(stream), digest), table.columns):
                times = pa.repeat(pa.scalar(of.captured_at, CAPTURED_AT_TYPE), batch.num_rows)
                yield validate(table, batch.append_column(CAPTURED_AT, times), first_position=rows)
                rows += batch.num_rows
    except FileNotFoundError as error:
        raise CorruptObjectError(file.key, "is missing, although its manifest exists") from error
    except ColumnMissingError as error:
        raise ColumnNotCapturedError(table.name, error.column, file.key) from None
    except pa.ArrowInvalid as error:
        problem = ": ".join(str(error).split(": ")[:2])  # what follows quotes the row
        raise CorruptObjectError(file.key, f"is not the CSV that was captured: {problem}") from None
    if (rows, digest.hexdigest()) != (file.rows, file.sha256):
        raise CorruptObjectError(file.key, f"holds {rows} rows that differ from the {file.rows} captured")


def _digested(chunks: Iterable[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


@dataclass(frozen=True, kw_only=True)
class CapturedRows(Rows):
    """The captured rows of a table, with their `captured_at`. A partition without captures has none.

    `batches` leaves out the rows that do not fit the declaration; `read` returns them too.
    """

    table: Table
    open_bucket: Callable[[], Bucket]

    def schema(self) -> pa.Schema:
        """Return the declared columns and `captured_at`."""
        return self.table.captured_columns

    def captures(self, partition: str) -> list[Capture]:
        """Return the captures of a partition, oldest first."""
        return list_partition(self.open_bucket(), partition)

    def read(self, captures: Iterable[Capture]) -> Iterator[ValidatedRows]:
        """Yield the rows of captures in batches, capture by capture, and those that were rejected.

        A batch is of one capture with many rows, or of several with few: one batch each would cost more than its rows.

        Raises:
            CorruptObjectError: an object is missing, or differs from its manifest.
            ColumnNotCapturedError: a capture lacks a column, and nothing is declared to stand there instead.
        """
        bucket = self.open_bucket()
        files = (
            _CaptureFile(file, capture.captured_at)
            for capture in captures
            if (file := capture.files.get(self.table.name))
        )
        for is_small, consecutive in _by_size(files):
            for group in _groups(_fetch_ahead(bucket, consecutive)) if is_small else ([each] for each in consecutive):
                yield from _read_group(bucket, self.table, group)

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, capture by capture."""
        for partition in self.partitions:
            yield from (batch.rows for batch in read_ahead(self.read(self.captures(partition))))


def read_key_files(bucket: Bucket, table: Table, captures: Iterable[Capture]) -> Iterator[tuple[datetime, pa.Table]]:
    """Yield the keys of a table that each capture has, which has a list of them, whole, with its time.

    Keys that do not fit their declaration are left out.

    Raises:
        CorruptObjectError: an object is missing, or differs from its manifest.
    """
    keys = replace(table, columns=pa.schema(map(table.columns.field, table.primary_key)), foreign_keys={}, excluded=())
    files = (_CaptureFile(each.key_files[table.name], each.captured_at) for each in captures)
    for is_small, consecutive in _by_size(files):
        for each in _fetch_ahead(bucket, consecutive) if is_small else consecutive:
            rows = [batch.rows.select(keys.columns.names) for batch in _read_file(bucket, keys, each)]
            yield each.captured_at, pa.concat_tables(rows)


def parse_csv(chunks: Iterable[bytes], columns: pa.Schema, *, lenient: bool = True) -> Iterator[pa.Table]:
    """Yield the rows of CSV that PostgreSQL wrote, a table of the declared columns per chunk.

    The first chunk begins with the header; each ends where a row does (`whole_rows`). A column that the CSV lacks is
    read by its earlier name, or holds what is declared to stand there instead (`missing_as`), or null. A value that its
    column's type cannot hold is read as `lenient_csv_type`, unless it shall be an error.

    Raises:
        ColumnMissingError: the CSV lacks a column that may not be null.
        pyarrow.ArrowInvalid: a chunk is not CSV of these columns.
    """
    header: list[str] = []
    for chunk in chunks:
        if not header:
            header, chunk = _cut_header(chunk)
            names = {column.name: live_name(column, header) for column in columns}
            types = {names[column.name]: column.type for column in columns if names[column.name] in header}
        try:
            rows = _parse(chunk, header, types)
        except pa.ArrowInvalid:
            if not lenient:
                raise
            rows = _parse(chunk, header, {name: lenient_csv_type(type_) for name, type_ in types.items()})
        yield pa.table(
            [
                rows.column(names[column.name]) if names[column.name] in types else _stand_in(column, rows.num_rows)
                for column in columns
            ],
            names=columns.names,
        )


def _cut_header(chunk: bytes) -> tuple[list[str], bytes]:
    """Return the column names in the first row of CSV, and what follows it."""
    end = _header_end(chunk)
    [names] = csv.reader(io.StringIO(chunk[:end].decode(), newline=""))
    return names, chunk[end + 1 :]


def _header_end(chunk: bytes) -> int:
    """Return where the line end after the first row of CSV is."""
    end = chunk.index(b"\n")
    while chunk.count(b'"', 0, end) % 2:  # a name may have line ends
        end = chunk.index(b"\n", end + 1)
    return end


def _stand_in(column: pa.Field, rows: int) -> pa.Array:
    value = missing_value(column)
    if value is None:
        raise ColumnMissingError(column.name)
    return pa.repeat(value, rows)


def _parse(chunk: bytes, column_names: Sequence[str], types: Mapping[str, pa.DataType]) -> pa.Table:
    if not chunk:
        return pa.schema(types.items()).empty_table()
    return read_csv(
        pa.py_buffer(chunk),
        ReadOptions(column_names=column_names, block_size=len(chunk) + 16, use_threads=False),
        ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )


def whole_rows(stream: IO[bytes], block_bytes: int = _CHUNK_BYTES) -> Iterator[bytes]:
    """Yield CSV cut at row ends: pyarrow loses bytes of a quoted line end between two blocks (apache/arrow#51368)."""
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
    """Return the end of the last whole row: after a line end that an even number of quotes precedes."""
    end = data.rfind(b"\n") + 1
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end
