from pathlib import Path

import boto3
import pytest

from etl_assets.buckets import Bucket, BucketRefusedError

MEGABYTE = b"x" * 1024 * 1024


@pytest.fixture(params=["file", "s3"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    url = request.getfixturevalue("bucket_url" if request.param == "file" else "s3_bucket")
    return Bucket(f"{url}/prefix")


def put(bucket: Bucket, key: str, *parts: bytes) -> None:
    with bucket.create(key) as new:
        for part in parts:
            new.write(part)


def read(bucket: Bucket, key: str) -> bytes:
    with bucket.open(key) as stream:
        return bytes(stream.read())


@pytest.mark.parametrize("parts", [(), (b"a", b"", b"bc"), (MEGABYTE,) * 20], ids=["empty", "small", "20 MB"])
def test_what_is_written_is_read_back(bucket: Bucket, parts: tuple[bytes, ...]) -> None:
    put(bucket, "a/b.csv", *parts)
    assert read(bucket, "a/b.csv") == b"".join(parts)
    with bucket.open("a/b.csv") as file:
        assert file.seek(0, 2) == len(b"".join(parts))


@pytest.mark.parametrize("parts", [(b"half",), (MEGABYTE,) * 20], ids=["small", "20 MB"])
def test_an_exception_leaves_nothing_behind(bucket: Bucket, parts: tuple[bytes, ...]) -> None:
    with pytest.raises(ZeroDivisionError), bucket.create("a/b.csv") as new:
        for part in parts:
            new.write(part)
        raise ZeroDivisionError
    assert bucket.objects("a") == []


def test_nothing_is_seen_before_the_end_or_when_discarded(bucket: Bucket) -> None:
    with bucket.create("a/b.csv") as new:
        new.write(b"half")
        assert bucket.objects("a") == []
        new.discard()
    assert bucket.objects("a") == []


@pytest.mark.parametrize("parts", [(b"second",), (MEGABYTE,) * 10], ids=["small", "10 MB"])
def test_an_object_is_never_overwritten(bucket: Bucket, parts: tuple[bytes, ...]) -> None:
    put(bucket, "a/b.csv", b"first")
    with pytest.raises(FileExistsError):
        put(bucket, "a/b.csv", *parts)
    assert read(bucket, "a/b.csv") == b"first"
    assert bucket.objects("a") == ["a/b.csv"]


def test_a_folder_is_matched_exactly_and_listed_in_order(bucket: Bucket) -> None:
    for key in ("payment/2/b", "payment/2/a", "payment/1/a", "payment_type/2/a", "payment/c"):
        put(bucket, key)
    assert bucket.folders("payment") == ["payment/1", "payment/2"]
    assert bucket.objects("payment") == ["payment/c"]
    assert bucket.objects("payment/2") == ["payment/2/a", "payment/2/b"]
    assert bucket.objects("pay") == []


def test_a_listing_of_many_pages_is_whole(s3_bucket: str) -> None:
    client, name = boto3.client("s3"), s3_bucket.removeprefix("s3://")
    for number in range(1_100):
        client.put_object(Bucket=name, Key=f"many/{number:05}", Body=b"")
    assert Bucket(s3_bucket).objects("many") == [f"many/{number:05}" for number in range(1_100)]


def test_what_a_crash_left_behind_is_not_listed(bucket_url: str, tmp_path: Path) -> None:
    bucket = Bucket(bucket_url)
    put(bucket, "a/b")
    (tmp_path / "buckets/a/.c.csv.0123").write_text("half")
    assert bucket.objects("a") == ["a/b"]


@pytest.mark.parametrize("url", ["/a/path", "ftp://host/a", "s3://", "file://"])
def test_a_url_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must look like"):
        Bucket(url)


def test_a_bucket_that_is_not_there_is_refused_for_good_and_an_object_is_missing(s3_bucket: str) -> None:
    with pytest.raises(BucketRefusedError, match="bucket nowhere: An error occurred \\(NoSuchBucket\\)"):
        Bucket("s3://nowhere").objects("a")
    with pytest.raises(BucketRefusedError, match="NoSuchBucket"):
        put(Bucket("s3://nowhere"), "a", b"x")
    with pytest.raises(FileNotFoundError, match="NoSuchKey"):
        Bucket(s3_bucket).open("a")
