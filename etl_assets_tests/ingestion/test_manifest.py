"""Manifests: the captures of an ingestion bucket."""

import json
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from etl_assets.adapters.object_store import Bucket
from etl_assets.ingestion.manifest import (
    Capture,
    CapturedFile,
    DeletionStatistics,
    LiveColumn,
    LiveTable,
    RowCount,
    Source,
    capture_id_of,
    captured_at_of,
    file_key,
    key_file_key,
    latest,
    list_after,
    list_partition,
    partition_folder,
    partition_of,
    publish,
    read_captures,
)
from etl_assets_tests.harness import ROOT, Platform

START = datetime(2024, 8, 14, 14, 20, 1, 2003)


def capture_of(captured_at: datetime, **values: object) -> Capture:
    defaults: dict[str, object] = {
        "captured_at": captured_at,
        "partition": f"{captured_at.replace(minute=captured_at.minute // 15 * 15):%Y-%m-%d-%H:%M}",
        "snapshot": f"{2**40 + 7}:{2**40 + 9}:{2**40 + 7}",
        "source": Source(7_000_000_000_000_000_001, 1, 16_384),
        "full_because": None,
        "previous": None,
        "files": {"staff": CapturedFile("staff/x.csv", 3, 120, "ab")},
    }
    return Capture(**(defaults | values))  # type: ignore[arg-type]


@pytest.fixture
def bucket(bucket_url: str) -> Bucket:
    return Bucket(bucket_url)


def test_a_capture_is_read_back_as_published(bucket: Bucket) -> None:
    capture = capture_of(
        START,
        previous="2024-08-14-14:00/x",
        full_because="asked for",
        earlier_files={"design": CapturedFile("design/x.csv", 2, 80, "cd")},
        files_unknown_until="2024-08-14-13:00/x",
        key_files={"design": CapturedFile("design/x.keys.csv", 0, 10, "ef")},
        key_reasons={"design": "rows deleted"},
        deletion_statistics={"design": DeletionStatistics(7, "ab")},
        row_counts={"staff": RowCount(3, ("1", "x"))},
    )
    publish(bucket, capture)
    assert list_partition(bucket, "2024-08-14-14:15") == [capture]
    assert bucket.objects("captures/2024/08/14/14-15") == ["captures/2024/08/14/14-15/2024-08-14_14.20.01.002003.json"]


def test_an_id_contains_the_partition_and_the_time() -> None:
    capture = capture_of(START)
    assert (partition_of(capture.id), captured_at_of(capture.id)) == ("2024-08-14-14:15", START)


def test_the_key_of_a_file_contains_the_id_of_its_capture() -> None:
    capture = capture_of(START)
    assert capture_id_of("sales_order", file_key("sales_order", capture.partition, capture.captured_at)) == capture.id


def test_the_keys_of_a_table_are_beside_its_rows() -> None:
    capture = capture_of(START)
    key = key_file_key("staff", capture.partition, capture.captured_at)
    assert key == "staff/2024/08/14/14-15/staff-2024-08-14_14.20.01.002003.keys.csv"
    assert (capture.has_keys("staff"), replace(capture, key_files=capture.files).has_keys("staff")) == (False, True)


def test_a_new_file_of_a_table_replaces_its_earlier_one() -> None:
    earlier = {name: CapturedFile(f"{name}/x.csv", 2, 80, "cd") for name in ("staff", "design")}
    capture = capture_of(START, earlier_files=earlier)
    assert capture.latest_files == {"design": earlier["design"], "staff": capture.files["staff"]}


def test_the_folder_of_a_partition_is_zero_padded() -> None:
    assert partition_folder("staff", "2024-01-02-03:00") == "staff/2024/01/02/03-00"


def test_the_latest_capture_is_found_across_years_and_within_a_window(bucket: Bucket) -> None:
    assert latest(bucket) is None
    for seconds in (0, 60, 400 * 86_400, 86_400, 400 * 86_400 + 1):
        publish(bucket, capture_of(START + timedelta(seconds=seconds)))
    assert latest(bucket) == capture_of(START + timedelta(seconds=400 * 86_400 + 1))


def test_a_latest_folder_without_manifests_is_skipped(bucket: Bucket) -> None:
    publish(bucket, capture_of(START))
    with bucket.create("captures/2024/08/15/00-00/half.json") as abandoned:
        abandoned.discard()
    assert latest(bucket) == capture_of(START)


def test_the_captures_after_one_are_listed_in_order_across_years(bucket: Bucket) -> None:
    captures = [capture_of(START + timedelta(seconds=after)) for after in (0, 1, 900, 86_400, 400 * 86_400)]
    for capture in reversed(captures):
        publish(bucket, capture)
    ids = [capture.id for capture in captures]
    assert list(list_after(bucket, None)) == ids
    for number, id_ in enumerate(ids, 1):
        assert list(list_after(bucket, id_)) == ids[number:]


@pytest.mark.parametrize("store", ["bucket_url", "s3_bucket"])
def test_many_captures_are_read_in_order(store: str, request: pytest.FixtureRequest) -> None:
    bucket = Bucket(request.getfixturevalue(store))
    column = LiveColumn("staff_id", "integer", 1)
    captures = [
        capture_of(
            START + timedelta(minutes=n),
            earlier_files={"design": CapturedFile("design/x.csv", n // 20, 80, "cd")},
            tables={"staff": LiveTable((column, *[column] * (n // 30)), {"storage": "ef"})},
        )
        for n in range(50)
    ]
    for capture in captures:
        publish(bucket, capture)
    ids = list(list_after(bucket, None))
    assert list(read_captures(bucket, ids)) == captures
    assert list(read_captures(bucket, reversed(ids))) == captures[::-1]
    assert list(read_captures(bucket, [])) == []


def test_a_capture_that_does_not_exist_is_an_error(bucket: Bucket) -> None:
    publish(bucket, capture_of(START))
    with pytest.raises(FileNotFoundError):
        list(read_captures(bucket, [capture_of(START).id, capture_of(START + timedelta(1)).id]))


def test_the_buckets_can_be_read_as_documented(platform: Platform) -> None:
    platform.refresh()
    page = (ROOT / "docs" / "buckets.md").read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    [[orders]] = platform.totesys("SELECT count(*) FROM sales_order")
    assert names["captured"].num_rows == len(names["orders"]) == orders
    assert [field for field in json.loads(names["capture"].to_json()) if f"`{field}`" not in page] == []
