"""Which files of a star table count."""

from collections.abc import Sequence
from datetime import timedelta

from etl_assets.adapters.object_store import Bucket
from etl_assets.ingestion.manifest import Capture
from etl_assets.lake.files import files_that_count
from etl_assets.transformation.parquet_files import REBUILDS_FOLDER, StarBatches, write_star
from etl_assets_tests.harness import NOON, write_capture
from etl_assets_tests.pipeline import STAR

CURRENCIES = STAR["dim_currency"]


def write(bucket: Bucket, captures: Sequence[Capture], rule: str = "now", *, is_rebuild: bool = False) -> str:
    """Write a file made from captures, below `rebuilds/` or in the partition of the first one. Return its key."""
    star = StarBatches(CURRENCIES.captured_columns, frozenset(capture.id for capture in captures), [], rule)
    name = f"{REBUILDS_FOLDER}/{CURRENCIES.name}" if is_rebuild else CURRENCIES.name
    written = write_star(bucket, name, None if is_rebuild else captures[0].partition, star)
    return written.rows.uri.removeprefix(f"{bucket.url}/")


def test_of_each_capture_the_newest_file_counts_wherever_it_lies(bucket_url: str) -> None:
    bucket = Bucket(bucket_url)
    first, second, third, fourth = captures = [
        write_capture(bucket, NOON + timedelta(minutes=minutes)) for minutes in (0, 1, 15, 30)
    ]
    for several in ([first], [first, second], [third], [fourth]):
        write(bucket, several)
    rebuilt = write(bucket, captures[:3], is_rebuild=True)
    write(bucket, [third, fourth], "of old")
    again, last = write(bucket, [second]), write(bucket, [fourth])
    counted = files_that_count(bucket, CURRENCIES.name, captures)
    assert counted == [(rebuilt, [first]), (again, [second]), (rebuilt, [third]), (last, [fourth])]
