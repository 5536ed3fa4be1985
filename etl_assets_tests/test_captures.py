from datetime import datetime, timedelta

import pytest

from etl_assets.buckets import Bucket
from etl_assets.captures import (
    Capture,
    CapturedFile,
    Source,
    captured_at_of,
    folder,
    following,
    in_partition,
    newest,
    partition_of,
    publish,
)

START = datetime(2024, 8, 14, 14, 20, 1, 2003)


def made(at: datetime, **facts: object) -> Capture:
    partition = f"{at.replace(minute=at.minute // 15 * 15):%Y-%m-%d-%H:%M}"
    given: dict[str, object] = {
        "captured_at": at,
        "partition": partition,
        "snapshot": f"{2**40 + 7}:{2**40 + 9}:{2**40 + 7}",
        "source": Source(7_000_000_000_000_000_001, 1, 16_384),
        "full_because": None,
        "previous": None,
        "files": {"staff": CapturedFile("staff/x.csv", 3, 120, "ab")},
    }
    return Capture(**(given | facts))  # type: ignore[arg-type]


@pytest.fixture
def bucket(bucket_url: str) -> Bucket:
    return Bucket(bucket_url)


def test_a_manifest_tells_a_capture_exactly(bucket: Bucket) -> None:
    capture = made(START, previous="2024-08-14-14:00/x", full_because="asked for")
    publish(bucket, capture)
    assert in_partition(bucket, "2024-08-14-14:15") == [capture]
    assert bucket.objects("captures/2024/08/14/14-15") == ["captures/2024/08/14/14-15/2024-08-14_14.20.01.002003.json"]


def test_an_id_tells_partition_and_time() -> None:
    capture = made(START)
    assert (partition_of(capture.id), captured_at_of(capture.id)) == ("2024-08-14-14:15", START)


def test_keys_of_a_partition_are_zero_padded() -> None:
    assert folder("staff", "2024-01-02-03:00") == "staff/2024/01/02/03-00"


def test_the_newest_capture_is_found_across_years_and_within_a_window(bucket: Bucket) -> None:
    assert newest(bucket) is None
    for after in (0, 60, 400 * 86_400, 86_400, 400 * 86_400 + 1):
        publish(bucket, made(START + timedelta(seconds=after)))
    found = newest(bucket)
    assert found
    assert found.captured_at == START + timedelta(seconds=400 * 86_400 + 1)


def test_an_empty_newest_folder_is_passed_over(bucket: Bucket, tmp_path: object) -> None:
    publish(bucket, made(START))
    with bucket.create("captures/2024/08/15/00-00/half.json") as abandoned:
        abandoned.discard()
    assert newest(bucket) == made(START)


def test_the_captures_that_follow_one_are_told_in_order_across_years(bucket: Bucket) -> None:
    at = [START + timedelta(seconds=after) for after in (0, 1, 900, 86_400, 400 * 86_400)]
    for time in reversed(at):
        publish(bucket, made(time))
    ids = [made(time).id for time in at]
    assert list(following(bucket, None)) == ids
    for number, id_ in enumerate(ids, 1):
        assert list(following(bucket, id_)) == ids[number:]
