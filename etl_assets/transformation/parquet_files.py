"""Star rows in Parquet files.

A partition lies at `<table>/<partition folder>/<table>-<time written>.parquet`, rejected rows under the same key below
`rejected/`. Every materialization adds a file; the newest one counts. Users' own assets lie under `assets/<key>/`.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from time import monotonic

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etl_assets.adapters.object_store import Bucket, NewObject
from etl_assets.catalog.objects import WrittenObject
from etl_assets.ingestion.manifest import captured_at_of, key_timestamp, partition_folder
from etl_assets.schema.columns import CAPTURED_AT, CAPTURED_AT_TYPE
from etl_assets.schema.errors import PermanentError
from etl_assets.schema.rows import Rows
from etl_assets.schema.validation import REJECTED, ValidatedRows
from etl_assets.transformation.star_table import StarTable

REJECTED_FOLDER = "rejected"
REBUILDS_FOLDER = "rebuilds"
"""Where the files of rebuilds lie: a folder per star table, a file per rebuild."""

_CAPTURES = b"captures"
_REJECTED = b"rejected"
_RULE = b"rule"
_FIRST_CAPTURED_AT = b"first_captured_at"  # for people who look into a file
_LAST_CAPTURED_AT = b"last_captured_at"
_COMPRESSION = "zstd"
_SUFFIX = ".parquet"


class NotMaterializedError(PermanentError):
    """A table has no file for a partition."""

    def __init__(self, table: str, partition: str | None) -> None:
        problem = f"has no partition {partition}" if partition else "has no rows"
        super().__init__(f"{table} {problem}: materialize it first")


class NotTransformedError(Exception):
    """A star table was materialized before a capture of the partition; another run may be about to do it again."""

    def __init__(self, table: str, partition: str | None, missing: Iterable[str]) -> None:
        super().__init__(
            f"{table} of partition {partition} lacks the captures {', '.join(sorted(missing))}: "
            "materialize transformation/* of this partition first"
        )


class Clock:
    """Measures the seconds spent in each phase of a step, by `seconds_<phase>`."""

    def __init__(self) -> None:
        self._started = monotonic()
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to a phase, which may occur several times."""
        now = monotonic()
        self.seconds[f"seconds_{phase}"] += now - self._started
        self._started = now


@dataclass(frozen=True)
class StarFile:
    """An open file of a star table: its key, its rows, the rejected ones, and the ids of the captures it was made from.

    rule: the version of the rule it was made by; None in files of older releases and of users' own tables.
    """

    key: str
    rows: pq.ParquetFile
    rejected: pa.Table
    captures: frozenset[str]
    rule: str | None = None


@dataclass(frozen=True)
class FileOrigin:
    """What the metadata of a star table's file say: the captures it was made from, and by which rule (`StarFile`)."""

    key: str
    captures: frozenset[str]
    rule: str | None

    @classmethod
    def of(cls, key: str, file: pq.ParquetFile) -> "FileOrigin":
        """Return the origin of an open file."""
        metadata = file.metadata.metadata
        rule = metadata.get(_RULE)
        return cls(key, frozenset(json.loads(metadata[_CAPTURES])), None if rule is None else str(rule, "utf-8"))


def read_origin(bucket: Bucket, key: str) -> FileOrigin:
    """Return the origin of a file of a star table."""
    with _open_parquet(bucket, key) as file:
        return FileOrigin.of(key, file)


@contextmanager
def open_star(bucket: Bucket, key: str) -> Iterator[StarFile]:
    """Open a file of a star table."""
    with _open_parquet(bucket, key) as rows:
        yield _star_file(bucket, key, rows)


def _star_file(bucket: Bucket, key: str, rows: pq.ParquetFile) -> StarFile:
    """Return an open file with its rejected rows."""
    origin, rejected = FileOrigin.of(key, rows), REJECTED.empty_table()
    if json.loads(rows.metadata.metadata[_REJECTED]):
        with _open_parquet(bucket, f"{REJECTED_FOLDER}/{key}") as file:
            # Files of older releases have no positions.
            rejected = pa.concat_tables([file.read(use_threads=False), rejected], promote_options="default")
    return StarFile(key, rows, rejected, origin.captures, origin.rule)


def written_at(key: str) -> str:
    """Return when a file was written, from its key, as text that sorts by time."""
    return key.removesuffix(_SUFFIX)[-len(key_timestamp(datetime.min)) :]


@dataclass(frozen=True)
class StarBatches:
    """Rows to write to a file, in batches, and the ids of the captures they are made from.

    rule: the version of the rule they are made by, if they have one.
    """

    schema: pa.Schema
    captures: frozenset[str]
    batches: Iterable[ValidatedRows]
    rule: str | None = None


class StartOver(Exception):  # noqa: N818 (not an error)
    """The batches drawn so far must not be written: these ones must, instead."""

    def __init__(self, batches: Iterable[ValidatedRows]) -> None:
        super().__init__("draw these batches instead")
        self.batches = batches


@dataclass(frozen=True, kw_only=True)
class StarRows(Rows):
    """The rows of the newest files of a table in the transformation bucket.

    folder: where the table lies in the bucket.
    table: its declaration; None for a user's own table.
    skip_missing: whether partitions without a file have no rows, instead of being an error.
    """

    folder: str
    table: StarTable | None
    open_bucket: Callable[[], Bucket]
    skip_missing: bool = False

    @contextmanager
    def open(self, partition: str | None, captures: Set[str] = frozenset()) -> Iterator[StarFile]:
        """Open the newest file of a partition that was made from these captures, among others perhaps.

        Raises:
            NotMaterializedError: the partition has no file.
            NotTransformedError: no file was made from all of the captures.
        """
        bucket, missing = self.open_bucket(), captures
        keys = bucket.objects(_folder(self.folder, partition))
        if not keys:
            raise NotMaterializedError(self.asset, partition)
        for key in reversed(keys):
            with _open_parquet(bucket, key) as rows:
                missing = captures - FileOrigin.of(key, rows).captures
                if not missing:
                    yield _star_file(bucket, key, rows)
                    return
        raise NotTransformedError(self.asset, partition, missing)

    def schema(self) -> pa.Schema:
        """Return the declared columns and `captured_at`; of a user's own table, the columns of its newest file."""
        if self.table:
            return self.table.captured_columns
        for partition in self._present():
            with self.open(partition) as file:
                return file.rows.schema_arrow
        raise NotMaterializedError(self.asset, None)

    def batches(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, partition by partition."""
        for partition in self._present():
            with self.open(partition) as file:
                for batch in file.rows.iter_batches(use_threads=False):
                    yield pa.Table.from_batches([batch], file.rows.schema_arrow)

    def _present(self) -> Iterator[str | None]:
        for partition in self.partitions or (None,):
            if not self.skip_missing or self.open_bucket().objects(_folder(self.folder, partition)):
                yield partition


def _folder(name: str, partition: str | None) -> str:
    return partition_folder(name, partition) if partition else name


@contextmanager
def _open_parquet(bucket: Bucket, key: str) -> Iterator[pq.ParquetFile]:
    # Not pre-buffered, read without threads: otherwise pyarrow 26 may abort the process at exit (apache/arrow#34314).
    with bucket.open(key) as file:
        yield pq.ParquetFile(file, pre_buffer=False)


def read_rows(file: StarFile, times: Collection[datetime]) -> pa.Table:
    """Return the rows that a star table has of the captures of some times."""
    schema = file.rows.schema_arrow
    return pa.concat_tables([schema.empty_table(), *_of_captures(file, times, schema.names)])


def _of_captures(file: StarFile, times: Collection[datetime], column_names: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the rows of captures in batches. Row groups that have none of them are not read."""
    if not times:
        return
    first, last, wanted = min(times), max(times), pa.array(times, CAPTURED_AT_TYPE)
    column = file.rows.schema_arrow.names.index(CAPTURED_AT)

    def may_have(row_group: int) -> bool:
        range_ = file.rows.metadata.row_group(row_group).column(column).statistics
        return not (range_ and range_.has_min_max) or bool(range_.min <= last and range_.max >= first)

    row_groups = [*filter(may_have, range(file.rows.num_row_groups))]
    for batch in file.rows.iter_batches(row_groups=row_groups, columns=column_names, use_threads=False):
        rows = pa.Table.from_batches([batch])
        yield rows.filter(pc.is_in(rows.column(CAPTURED_AT), wanted))


def read_distinct(file: StarFile, column_names: Sequence[str], times: Collection[datetime]) -> pa.Table:
    """Return the distinct values that some columns of a star table have in the captures of some times.

    Of one capture, there are as many rows as the column with the most values needs. Values that stand in one row need
    not have done so in the file, which may have nearly as many combinations as rows.
    """
    schema = file.rows.schema_arrow
    distinct = {name: _Distinct(pa.schema([schema.field(CAPTURED_AT), schema.field(name)])) for name in column_names}
    for rows in _of_captures(file, times, [*column_names, CAPTURED_AT]):
        for values in distinct.values():
            values.add(rows)
    return _side_by_side({name: values.merged().sort_by(CAPTURED_AT) for name, values in distinct.items()})


class _Distinct:
    """The distinct rows among those added, which are merged whenever there are twice as many."""

    def __init__(self, schema: pa.Schema) -> None:
        self._parts = [schema.empty_table()]
        self._limit = 0

    def add(self, rows: pa.Table) -> None:
        """Add rows."""
        self._parts.append(_distinct(rows.select(self._parts[0].column_names)))
        if sum(part.num_rows for part in self._parts) > self._limit:
            self._limit = 2 * self.merged().num_rows

    def merged(self) -> pa.Table:
        """Return the distinct rows."""
        self._parts = [_distinct(pa.concat_tables(self._parts))]
        return self._parts[0]


def _distinct(rows: pa.Table) -> pa.Table:
    return rows.group_by(rows.column_names, use_threads=False).aggregate([])


def _side_by_side(columns: Mapping[str, pa.Table]) -> pa.Table:
    """Return columns as one table. Each is given with `captured_at`, sorted by that, and has values of all captures.

    If a column has fewer values of a capture than another, they are repeated.
    """
    counts = {name: np.unique(rows.column(CAPTURED_AT), return_counts=True)[1] for name, rows in columns.items()}
    lengths = np.maximum.reduce([*counts.values()])
    index = np.arange(lengths.sum()) - np.repeat(lengths.cumsum() - lengths, lengths)

    def repeated(name: str) -> pa.Table:
        starts = counts[name].cumsum() - counts[name]
        return columns[name].take(np.repeat(starts, lengths) + index % np.repeat(counts[name], lengths))

    tables = {name: repeated(name) for name in columns}
    times = next(iter(tables.values())).column(CAPTURED_AT)
    return pa.table({**{name: table.column(name) for name, table in tables.items()}, CAPTURED_AT: times})


@dataclass(frozen=True)
class WrittenStar:
    """The objects of a partition that was written: its rows, and the rejected ones if there are any.

    seconds: what writing took, without the time that the batches took to be produced.
    """

    rows: WrittenObject
    rejected: WrittenObject | None
    seconds: float


def write_star(bucket: Bucket, name: str, partition: str | None, star: StarBatches) -> WrittenStar:
    """Write a partition of a table as a new file. Rejected rows appear before it, in another file."""
    try:
        return _write(bucket, name, partition, star)
    except StartOver as instead:
        return write_star(bucket, name, partition, replace(star, batches=instead.batches))


def _write(bucket: Bucket, name: str, partition: str | None, star: StarBatches) -> WrittenStar:
    key = f"{_folder(name, partition)}/{name.rpartition('/')[2]}-{key_timestamp(datetime.now(UTC))}{_SUFFIX}"
    clock, rows, rejected = Clock(), 0, [REJECTED.empty_table()]
    with bucket.create(key) as file:
        # zstd alone finds repetition: with dictionaries as well, files are larger and slower to write.
        with pq.ParquetWriter(file, star.schema, compression=_COMPRESSION, use_dictionary=False) as writer:
            clock.lap("write")
            for batch in star.batches:
                clock.lap("produce")
                writer.write_table(batch.rows)
                rows += batch.rows.num_rows
                rejected.append(batch.rejected)
                clock.lap("write")
            clock.lap("produce")
            rejections = pa.concat_tables(rejected)
            captures = sorted(star.captures)
            metadata = {_CAPTURES: json.dumps(captures), _REJECTED: json.dumps(rejections.num_rows)}
            if star.rule is not None:
                metadata[_RULE] = star.rule
            if times := [captured_at_of(id_).isoformat(timespec="microseconds") for id_ in captures]:
                metadata |= {_FIRST_CAPTURED_AT: min(times), _LAST_CAPTURED_AT: max(times)}
            writer.add_key_value_metadata(metadata)
        if rejections.num_rows:
            rejected_key = f"{REJECTED_FOLDER}/{key}"
            with bucket.create(rejected_key) as beside:
                pq.write_table(rejections, beside, compression=_COMPRESSION)
    clock.lap("write")

    def written(key: str, rows: int, new: NewObject) -> WrittenObject:
        return WrittenObject(
            table=name,
            partition=partition,
            uri=f"{bucket.url}/{key}",
            rows=rows,
            bytes=new.size,
            sha256=new.sha256.hexdigest(),
            captures=captures,
        )

    return WrittenStar(
        written(key, rows, file),
        written(rejected_key, rejections.num_rows, beside) if rejections.num_rows else None,
        clock.seconds["seconds_write"],
    )
