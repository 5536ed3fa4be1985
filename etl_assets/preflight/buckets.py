"""The checks of a bucket."""

from collections.abc import Callable

from etl_assets.adapters.object_store import Bucket, BucketRefusedError
from etl_assets.preflight.checks import Preflight

KEY = "preflight/write-once"
_TEXT = b"Written by `python -m etl_assets check`, which sees that it cannot be overwritten.\n"


def check_bucket(preflight: Preflight, name: str, open_bucket: Callable[[], Bucket]) -> None:
    """Check that a bucket can be listed, written once and read.

    The first check of a bucket writes an object, which stays; no later one may overwrite it.
    """

    def list_() -> str:
        bucket = open_bucket()
        bucket.folders("preflight")
        return bucket.url

    listed, written = f"{name} bucket", f"{name} write-once"
    preflight.check(listed, list_)
    preflight.check(written, lambda: _write_once(open_bucket()), listed)
    preflight.check(f"{name} read", lambda: _read(open_bucket()), written)


def _write_once(bucket: Bucket) -> str:
    for _ in range(2):
        try:
            with bucket.create(KEY) as new:
                new.write(_TEXT)
        except FileExistsError:
            return f"{KEY} is there, and is not overwritten"
    raise BucketRefusedError(
        f"{bucket.url}/{KEY} was overwritten: the store ignores If-None-Match, so one run could overwrite what another "
        "wrote. Use one with conditional writes, as Amazon S3, MinIO and Ceph have"
    )


def _read(bucket: Bucket) -> str:
    with bucket.open(KEY) as file:
        return f"{len(file.read())} bytes of {KEY}"
