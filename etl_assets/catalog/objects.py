"""Objects that a step wrote: what the log and the metadata of a materialization say about them."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class WrittenObject:
    """An object in a bucket.

    table: whose rows it has.
    partition: None for a table without partitions.
    captures: the ids of the captures that the rows are of.
    """

    table: str
    partition: str | None
    uri: str
    rows: int
    bytes: int
    sha256: str
    captures: Sequence[str]

    def log(self, log: logging.Logger) -> None:
        """Write a line with all of it."""
        log.info(f"wrote {self.rows} rows of {self.table} to {self.uri}", extra=asdict(self))


def objects_metadata(objects: Iterable[WrittenObject]) -> dict[str, Any]:
    """Return the size and the URIs of objects as metadata; `dagster/uri` is the last one."""
    uris = [each.uri for each in objects]
    metadata: dict[str, Any] = {"bytes": sum(each.bytes for each in objects), "uris": uris}
    return metadata | {"dagster/uri": uris[-1]} if uris else metadata
