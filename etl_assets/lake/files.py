"""Which files of a star table count: of each capture, the newest that was made from it."""

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import groupby, takewhile

from etl_assets.adapters.object_store import Bucket
from etl_assets.adapters.read_ahead import map_ahead
from etl_assets.catalog.stages import TRANSFORMATION
from etl_assets.ingestion.manifest import Capture, partition_folder
from etl_assets.schema.errors import PermanentError
from etl_assets.transformation.parquet_files import REBUILDS_FOLDER, FileOrigin, read_origin, written_at


class NoFileError(PermanentError):
    """A star table has no file of the first capture, so nothing can be said of it."""

    def __init__(self, table: str, capture: Capture | None) -> None:
        problem = _missing(table, capture) if capture else "nothing is captured yet: launch the job etl"
        super().__init__(f"{table} has no rows: {problem}")


class LakeBehindWarning(UserWarning):
    """There are files of later captures, which do not count yet, as in the warehouse. The message says why."""


def _missing(table: str, capture: Capture) -> str:
    return (
        f"no file by its rule has capture {capture.id}: materialize {TRANSFORMATION}/{table} of partition "
        f"{capture.partition}, or launch the job rebuild for {table}"
    )


def files_that_count(bucket: Bucket, table: str, captures: Sequence[Capture]) -> list[tuple[str, list[Capture]]]:
    """Return the keys of the files to read of a star table, each with consecutive captures to take from it.

    Files made by different versions of the table's rule are not mixed: those count whose captures, from the first one
    on without a gap, reach furthest. So a table whose rule has changed is as before until it is rebuilt, and captures
    after one that is not transformed wait for it. A `LakeBehindWarning` says so.

    Raises:
        NoFileError: no file has the first capture.
    """
    by_rule: defaultdict[str | None, dict[str, str]] = defaultdict(dict)
    for origin in _origins_newest_first(bucket, table, captures):
        for id_ in origin.captures:
            by_rule[origin.rule].setdefault(id_, origin.key)

    def reached(files: Mapping[str, str]) -> list[Capture]:
        return [*takewhile(lambda capture: capture.id in files, captures)]

    chosen: Mapping[str, str] = max(by_rule.values(), key=lambda files: len(reached(files)), default={})
    counted = reached(chosen)
    if not counted:
        raise NoFileError(table, captures[0] if captures else None)
    later = captures[len(counted) :]
    if any(capture.id in files for files in by_rule.values() for capture in later):
        message = f"{table} is shown as of {counted[-1].captured_at}: {_missing(table, later[0])}"
        warnings.warn(message, LakeBehindWarning, stacklevel=2)
    return [(key, [*group]) for key, group in groupby(counted, lambda capture: chosen[capture.id])]


def _origins_newest_first(bucket: Bucket, table: str, captures: Iterable[Capture]) -> Iterator[FileOrigin]:
    """Yield the origins of the files of a star table, but of those whose captures a later rebuild has all."""
    rebuilt = [*_read_origins(bucket, bucket.objects(f"{REBUILDS_FOLDER}/{table}"))]
    by_folder: defaultdict[str, set[str]] = defaultdict(set)
    for capture in captures:
        by_folder[partition_folder(table, capture.partition)].add(capture.id)

    def is_rebuilt(key: str, ids: Set[str]) -> bool:
        return any(ids <= origin.captures and written_at(origin.key) > written_at(key) for origin in rebuilt)

    keys = (key for key in bucket.walk(table) if not is_rebuilt(key, by_folder[key.rpartition("/")[0]]))
    origins = [*rebuilt, *_read_origins(bucket, keys)]
    yield from sorted(origins, key=lambda origin: written_at(origin.key), reverse=True)


def _read_origins(bucket: Bucket, keys: Iterable[str]) -> Iterator[FileOrigin]:
    return map_ahead(lambda key: read_origin(bucket, key), keys)
