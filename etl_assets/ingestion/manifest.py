"""A capture: every row of the source that may have changed since the previous capture, as of one snapshot.

It is stored in the ingestion bucket as one CSV object per table with rows,
`<table>/<YYYY>/<MM>/<DD>/<HH-MM>/<table>-<captured_at>.csv`, one of the same name with `.keys.csv` per table of which
all primary keys were taken, and a manifest, which is written last:
`captures/<YYYY>/<MM>/<DD>/<HH-MM>/<captured_at>.json`. A capture exists once its manifest does. Keys sort by time.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from typing import Any

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.read_ahead import map_ahead
from etl_assets.catalog.partitions import PARTITION_KEY_FORMAT

REQUESTED = "asked for"  # why every row was captured, in the manifests of existing captures too

_FOLDER_FORMAT = "%Y/%m/%d/%H-%M"
_TIMESTAMP_FORMAT = "%Y-%m-%d_%H.%M.%S.%f"
_MANIFESTS = "captures"
_SUFFIX = ".json"
_FOLDER_DEPTH = _FOLDER_FORMAT.count("/") + 1


def partition_folder(name: str, partition: str) -> str:
    """Return the folder of a partition below the folder `name`."""
    return f"{name}/{datetime.strptime(partition, PARTITION_KEY_FORMAT):{_FOLDER_FORMAT}}"


def key_timestamp(time: datetime) -> str:
    """Return a time as text that sorts by time."""
    return f"{time:{_TIMESTAMP_FORMAT}}"


@dataclass(frozen=True)
class Source:
    """Identifies the server a capture was read from, from one start to the next: docs/adr/0011-which-server-it-was.md.

    started_at: when the server started, by its clock. Copies of a server, and the instances of a managed service, may
        have all the rest in common. None in manifests of older releases.
    """

    system_identifier: int
    timeline_id: int
    database_oid: int
    started_at: str | None = None


@dataclass(frozen=True)
class CapturedFile:
    """The object that holds the captured rows of one table, or the primary keys of all its rows."""

    key: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class LiveColumn:
    """A column as the source has it: its name, its type as `format_type` gives it, and its number (`attnum`)."""

    name: str
    type: str
    position: int


@dataclass(frozen=True)
class LiveTable:
    """What a table was when it was captured.

    columns: those captured.
    fingerprint: of all that can change what its rows say without writing them, by aspect.
    """

    columns: tuple[LiveColumn, ...]
    fingerprint: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns captured."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class DeletionStatistics:
    """What the source's statistics say about deletions from a table.

    deleted: how many rows of it were deleted.
    counters: a hash of the counters of the table and each of its partitions, and of the time of their last reset.
    """

    deleted: int
    counters: str


@dataclass(frozen=True)
class RowCount:
    """The number of rows of a table, and its last primary key as text, by column; empty if it has no rows."""

    rows: int
    last_key: tuple[str, ...]


@dataclass(frozen=True)
class SourceChecksum:
    """The rows that a source table had, and their checksum over the columns that a star table takes from it.

    columns: their names in the star table, and their types.
    checksum: None if the source refused to compute it.
    """

    rows: int
    columns: Mapping[str, str]
    checksum: str | None


@dataclass(frozen=True)
class Capture:
    """A capture, as its manifest describes it.

    captured_at: the time of its snapshot, UTC by the source's clock (naive).
    partition: the partition key.
    snapshot: the text of PostgreSQL's `pg_current_snapshot()` (64-bit xmin:xmax:in progress).
    wal_position: where in its write-ahead log a server has all that the snapshot saw. None in manifests of older
        releases, and if the server does not tell.
    full_because: why every row was captured; None if only changes were.
    previous: the id of the previous capture, or None.
    files: by table; a table without rows has none.
    earlier_files: by table without rows, its file in the latest capture that has rows of it.
    files_unknown_until: `earlier_files` has none of this capture (its id) and of those before, because an older release
        wrote the manifest of the next one; None if it covers all captures.
    captured_transactions: those from the horizon on whose rows are in this capture or an earlier one, so that the next
        capture need not have them again. Recorded only while the horizon does not move.
    key_files: by table, the primary keys of all its rows, if they were taken. That of an empty table has no rows.
    key_columns: by table of `key_files`, the columns of its primary key.
    key_reasons: by table of `key_files`, why its keys were taken.
    deletion_statistics: by table, as of a moment before the snapshot; empty if the source keeps none.
    row_counts: by table; empty if the source keeps statistics.
    checksums: by star table, if every row was captured; manifests of older releases have none.
    """

    captured_at: datetime
    partition: str
    snapshot: str
    source: Source
    full_because: str | None
    previous: str | None
    files: Mapping[str, CapturedFile]
    earlier_files: Mapping[str, CapturedFile] = field(default_factory=dict)
    files_unknown_until: str | None = None
    wal_position: int | None = None
    captured_transactions: Sequence[int] = ()
    tables: Mapping[str, LiveTable] = field(default_factory=dict)
    full_tables: Mapping[str, str] = field(default_factory=dict)
    key_files: Mapping[str, CapturedFile] = field(default_factory=dict)
    key_columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    key_reasons: Mapping[str, str] = field(default_factory=dict)
    deletion_statistics: Mapping[str, DeletionStatistics] = field(default_factory=dict)
    row_counts: Mapping[str, RowCount] = field(default_factory=dict)
    checksums: Mapping[str, SourceChecksum] = field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        """Its partition and time."""
        return f"{self.partition}/{key_timestamp(self.captured_at)}"

    @property
    def horizon(self) -> int:
        """The transaction id below which every transaction had ended at the snapshot."""
        return bounds(self.snapshot)[0]

    @property
    def full(self) -> bool:
        """Whether every row was captured."""
        return self.full_because is not None

    def is_full(self, table: str) -> bool:
        """Whether every row of a table was captured."""
        return self.full or table in self.full_tables

    def has_keys(self, table: str) -> bool:
        """Whether the primary keys of all rows of a table were taken, beside its changed rows."""
        return table in self.key_files

    @property
    def repairs(self) -> bool:
        """Whether it was requested to find what earlier captures missed, which should be nothing."""
        return self.full_because == REQUESTED

    @property
    def latest_files(self) -> Mapping[str, CapturedFile]:
        """The file of each table in the latest capture that has rows of it, as far as is known."""
        return {**self.earlier_files, **self.files}

    def to_json(self) -> bytes:
        """Return the manifest."""
        fields = asdict(self) | {"captured_at": self.captured_at.isoformat(timespec="microseconds"), "full": self.full}
        return json.dumps(fields, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Capture":
        """Return the capture that a manifest describes."""
        fields: dict[str, Any] = json.loads(text)
        return cls(
            captured_at=datetime.fromisoformat(fields["captured_at"]),
            partition=fields["partition"],
            snapshot=fields["snapshot"],
            source=Source(**fields["source"]),
            full_because=fields["full_because"],
            previous=fields["previous"],
            files=_files(fields["files"]),
            earlier_files=_files(fields.get("earlier_files", {})),
            files_unknown_until=fields.get("files_unknown_until", fields["previous"]),
            wal_position=fields.get("wal_position"),
            captured_transactions=tuple(fields.get("captured_transactions", ())),
            tables={name: _live_table(table) for name, table in fields.get("tables", {}).items()},
            full_tables=fields.get("full_tables", {}),
            key_files=_files(fields.get("key_files", {})),
            key_columns={name: tuple(columns) for name, columns in fields.get("key_columns", {}).items()},
            key_reasons=fields.get("key_reasons", {}),
            deletion_statistics={
                name: DeletionStatistics(**each) for name, each in fields.get("deletion_statistics", {}).items()
            },
            row_counts={
                name: RowCount(each["rows"], tuple(each["last_key"]))
                for name, each in fields.get("row_counts", {}).items()
            },
            checksums={star: SourceChecksum(**each) for star, each in fields.get("checksums", {}).items()},
        )


def _live_table(fields: Mapping[str, Any]) -> LiveTable:
    return LiveTable(tuple(LiveColumn(**column) for column in fields["columns"]), fields["fingerprint"])


def _files(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, CapturedFile]:
    return {table: CapturedFile(**file) for table, file in fields.items()}


def bounds(snapshot: str) -> tuple[int, int]:
    """Return the ids below which every transaction had ended at a snapshot, and from which none had begun."""
    oldest, next_, _ = snapshot.split(":")
    return int(oldest), int(next_)


def partition_of(id_: str) -> str:
    """Return the partition of a capture from its id."""
    return id_.partition("/")[0]


def captured_at_of(id_: str) -> datetime:
    """Return the time of a capture from its id (UTC, naive)."""
    return datetime.strptime(id_.partition("/")[2], _TIMESTAMP_FORMAT)


def file_key(table: str, partition: str, captured_at: datetime) -> str:
    """Return the key of the file of a table in a capture."""
    return f"{_file_stem(table, partition, captured_at)}.csv"


def key_file_key(table: str, partition: str, captured_at: datetime) -> str:
    """Return the key of the file with the primary keys of a table in a capture."""
    return f"{_file_stem(table, partition, captured_at)}.keys.csv"


def _file_stem(table: str, partition: str, captured_at: datetime) -> str:
    return f"{partition_folder(table, partition)}/{table}-{key_timestamp(captured_at)}"


def capture_id_of(table: str, file_key: str) -> str:
    """Return the id of the capture that a file of a table belongs to."""
    folder, _, name = file_key.removeprefix(f"{table}/").rpartition("/")
    return _id(folder, name.removeprefix(f"{table}-").removesuffix(".csv"))


def publish(bucket: Bucket, capture: Capture) -> None:
    """Write the manifest of a capture, which makes it exist."""
    with bucket.create(_key(capture.id)) as manifest:
        manifest.write(capture.to_json())


def _key(id_: str) -> str:
    partition, _, time = id_.partition("/")
    return f"{partition_folder(_MANIFESTS, partition)}/{time}{_SUFFIX}"


def _id(folder: str, time: str) -> str:
    return f"{datetime.strptime(folder, _FOLDER_FORMAT):{PARTITION_KEY_FORMAT}}/{time}"


def list_partition(bucket: Bucket, partition: str) -> list[Capture]:
    """Return the captures of a partition, oldest first."""
    return list(_read_all(bucket, bucket.objects(partition_folder(_MANIFESTS, partition))))


def latest(bucket: Bucket) -> Capture | None:
    """Return the latest capture, found from the latest folder back: the requests do not grow with history."""
    key = _latest_key(bucket, _MANIFESTS, _FOLDER_DEPTH)
    return _read(bucket, key) if key else None


def list_after(bucket: Bucket, id_: str | None) -> Iterator[str]:
    """Yield the ids of the captures after one, or of all, oldest first. Only keys from there on are listed."""
    for key in bucket.walk(_MANIFESTS, _key(id_) if id_ else ""):
        folder, _, time = key.removeprefix(f"{_MANIFESTS}/").removesuffix(_SUFFIX).rpartition("/")
        yield _id(folder, time)


def read_captures(bucket: Bucket, ids: Iterable[str]) -> Iterator[Capture]:
    """Yield the captures with these ids, in their order."""
    return _read_all(bucket, map(_key, ids))


def _latest_key(bucket: Bucket, below: str, depth: int) -> str | None:
    if depth == 0:
        return max(bucket.objects(below), default=None)
    for child in reversed(bucket.folders(below)):
        if key := _latest_key(bucket, child, depth - 1):
            return key
    return None


def _read(bucket: Bucket, key: str) -> Capture:
    with bucket.open(key) as manifest:
        return Capture.from_json(manifest.read())


def _read_all(bucket: Bucket, keys: Iterable[str]) -> Iterator[Capture]:
    """Yield captures. What is equal in consecutive ones is one object: many of them are held at once."""
    previous: Capture | None = None
    for capture in map_ahead(partial(_read, bucket), keys):
        previous = _sharing(capture, previous) if previous else capture
        yield previous


def _sharing(capture: Capture, previous: Capture) -> Capture:
    known: Mapping[str, CapturedFile] = previous.latest_files
    earlier = {name: known[name] if known.get(name) == file else file for name, file in capture.earlier_files.items()}
    same: dict[str, Any] = {
        name: value
        for name in ("tables", "deletion_statistics", "row_counts")
        if (value := getattr(previous, name)) == getattr(capture, name)
    }
    return replace(capture, earlier_files=earlier, **same)
