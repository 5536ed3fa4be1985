"""What a capture is: everything of the 11 tables that may have changed since the one before, at one instant.

Stored in the ingestion bucket as one CSV object for each table that has rows,
`<table>/<YYYY>/<MM>/<DD>/<HH-MM>/<table>-<captured_at>.csv`, and, written last, its manifest
`captures/<YYYY>/<MM>/<DD>/<HH-MM>/<captured_at>.json`. A capture exists when its manifest does.
Keys sort by time.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from etl_assets.buckets import Bucket

PARTITION_FORMAT = "%Y-%m-%d-%H:%M"
"""A partition key: the start of the window, UTC, in which the capture was made."""

ASKED_FOR = "asked for"
"""Why a capture is full that need not have been."""

_FOLDER_FORMAT = "%Y/%m/%d/%H-%M"
_STAMP_FORMAT = "%Y-%m-%d_%H.%M.%S.%f"
_MANIFESTS = "captures"
_MANIFEST = ".json"
_FOLDER_DEPTH = _FOLDER_FORMAT.count("/") + 1


def folder(name: str, partition: str) -> str:
    """Give the folder of a partition below the folder `name`."""
    return f"{name}/{datetime.strptime(partition, PARTITION_FORMAT):{_FOLDER_FORMAT}}"


def stamp(time: datetime) -> str:
    """Write a time so that keys sort by it."""
    return f"{time:{_STAMP_FORMAT}}"


@dataclass(frozen=True)
class Source:
    """The database a capture was read from: horizons of one mean nothing in another."""

    system_identifier: int
    timeline_id: int
    database_oid: int


@dataclass(frozen=True)
class CapturedFile:
    """The object that holds a table's rows of a capture."""

    key: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Capture:
    """A capture, as its manifest tells it.

    captured_at: when, UTC by the source's clock (naive).
    partition: the partition key.
    snapshot: what it could see, as PostgreSQL's `pg_current_snapshot()` tells it (64-bit xmin:xmax:in progress).
    full_because: why every row was taken, or None when only changes were.
    previous: the id of the capture before, or None.
    files: by table; a table without rows has none.
    """

    captured_at: datetime
    partition: str
    snapshot: str
    source: Source
    full_because: str | None
    previous: str | None
    files: Mapping[str, CapturedFile]

    @property
    def id(self) -> str:
        """What names it: its partition and time."""
        return capture_id(self.partition, stamp(self.captured_at))

    @property
    def horizon(self) -> int:
        """The transaction id below which every transaction had ended when its snapshot was taken."""
        return int(self.snapshot.split(":")[0])

    @property
    def full(self) -> bool:
        """Whether every row was taken."""
        return self.full_because is not None

    @property
    def repairs(self) -> bool:
        """Whether it was taken to find what those before had missed: there should be nothing."""
        return self.full_because == ASKED_FOR

    def to_json(self) -> bytes:
        """Write the manifest."""
        facts = asdict(self) | {
            "captured_at": self.captured_at.isoformat(timespec="microseconds"),
            "full": self.full,
        }
        return json.dumps(facts, indent=1).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Capture":
        """Read a manifest."""
        facts: dict[str, Any] = json.loads(text)
        return cls(
            captured_at=datetime.fromisoformat(facts["captured_at"]),
            partition=facts["partition"],
            snapshot=facts["snapshot"],
            source=Source(**facts["source"]),
            full_because=facts["full_because"],
            previous=facts["previous"],
            files={table: CapturedFile(**file) for table, file in facts["files"].items()},
        )


def capture_id(partition: str, time: str) -> str:
    """Name a capture by its partition and the stamp of its time."""
    return f"{partition}/{time}"


def partition_of(id_: str) -> str:
    """Give the partition of a capture from its id."""
    return id_.partition("/")[0]


def captured_at_of(id_: str) -> datetime:
    """Give the time of a capture from its id."""
    return datetime.strptime(id_.partition("/")[2], _STAMP_FORMAT)


def publish(bucket: Bucket, capture: Capture) -> None:
    """Write a capture's manifest: from now on it exists."""
    with bucket.create(_key(capture.id)) as manifest:
        manifest.write(capture.to_json())


def _key(id_: str) -> str:
    partition, _, time = id_.partition("/")
    return f"{folder(_MANIFESTS, partition)}/{time}{_MANIFEST}"


def in_partition(bucket: Bucket, partition: str) -> list[Capture]:
    """Give the captures of a partition, oldest first."""
    return [_read(bucket, key) for key in bucket.objects(folder(_MANIFESTS, partition))]


def newest(bucket: Bucket) -> Capture | None:
    """Find the newest capture, from the newest folder back: the requests do not grow with history."""
    key = _newest_key(bucket, _MANIFESTS, _FOLDER_DEPTH)
    return _read(bucket, key) if key else None


def following(bucket: Bucket, id_: str | None) -> Iterator[str]:
    """Give the ids of the captures after one, or of all, oldest first; only the folders from there on are listed."""
    for key in _keys_after(bucket, _MANIFESTS, _FOLDER_DEPTH, _key(id_) if id_ else ""):
        partition, _, time = key.removeprefix(f"{_MANIFESTS}/").removesuffix(_MANIFEST).rpartition("/")
        yield capture_id(f"{datetime.strptime(partition, _FOLDER_FORMAT):{PARTITION_FORMAT}}", time)


def _keys_after(bucket: Bucket, below: str, depth: int, start: str) -> Iterator[str]:
    if depth == 0:
        yield from (key for key in bucket.objects(below) if key > start)
        return
    for child in bucket.folders(below):
        if child >= start[: len(child)]:
            yield from _keys_after(bucket, child, depth - 1, start)


def _newest_key(bucket: Bucket, below: str, depth: int) -> str | None:
    if depth == 0:
        return max(bucket.objects(below), default=None)
    for child in reversed(bucket.folders(below)):
        if found := _newest_key(bucket, child, depth - 1):
            return found
    return None


def _read(bucket: Bucket, key: str) -> Capture:
    with bucket.open(key) as manifest:
        return Capture.from_json(manifest.read())
