import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import boto3
import pytest
from botocore.exceptions import ClientError

from etl_assets.adapters.object_store import Bucket, BucketRefusedError
from etl_assets_tests.chaos.faults import S3Proxy, s3_proxy

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
def test_an_object_reads_back_as_written(bucket: Bucket, parts: tuple[bytes, ...]) -> None:
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


def test_an_object_is_invisible_until_the_block_ends_or_if_discarded(bucket: Bucket) -> None:
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


def test_listings_are_sorted_and_match_the_folder_exactly(bucket: Bucket) -> None:
    for key in ("payment/2/b", "payment/2/a", "payment/1/a", "payment_type/2/a", "payment/c"):
        put(bucket, key)
    assert bucket.folders("payment") == ["payment/1", "payment/2"]
    assert bucket.objects("payment") == ["payment/c"]
    assert bucket.objects("payment/2") == ["payment/2/a", "payment/2/b"]
    assert bucket.objects("pay") == []


def test_a_walk_lists_all_objects_below_a_folder_from_any_key_on(bucket: Bucket) -> None:
    keys = ["a/1/x", "a/1/y", "a/10/z", "a/2", "a/2-3/w", "a/3/b/c"]
    for key in (*reversed(keys), "ab/1", "b"):
        put(bucket, key)
    assert list(bucket.walk("a")) == keys
    for number, key in enumerate(keys, 1):
        assert list(bucket.walk("a", key)) == keys[number:]
    assert list(bucket.walk("a", "a/1/xx")) == keys[1:]
    assert list(bucket.walk("c")) == []


def test_a_listing_of_many_pages_is_complete(s3_bucket: str) -> None:
    client, name = boto3.client("s3"), s3_bucket.removeprefix("s3://")
    for number in range(1_100):
        client.put_object(Bucket=name, Key=f"many/{number:05}", Body=b"")
    assert Bucket(s3_bucket).objects("many") == [f"many/{number:05}" for number in range(1_100)]
    assert list(Bucket(s3_bucket).walk("many", "many/00049")) == [f"many/{number:05}" for number in range(50, 1_100)]


def test_a_file_left_by_a_crash_is_not_listed(bucket_url: str, tmp_path: Path) -> None:
    bucket = Bucket(bucket_url)
    put(bucket, "a/b")
    (tmp_path / "buckets/a/.c.csv.0123").write_text("half")
    assert bucket.objects("a") == ["a/b"]


@pytest.mark.parametrize(
    "url", ["/a/path", "ftp://host/a", "s3://", "file://", "s3://key:s3cret@bucket", "s3://[s3cret"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must look like") as error:
        Bucket(url)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("file://relative/path", "a path must be absolute, after three slashes, file:///path"),
        ("s3://arn:aws:s3:eu-west-2:123456789012:accesspoint/ap/x", r"the alias of the access point, s3://<alias>/"),
    ],
)
def test_a_url_that_would_lead_elsewhere_is_refused_with_advice(url: str, advice: str) -> None:
    with pytest.raises(ValueError, match=advice):
        Bucket(url)


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (501, "NotImplemented", r"\(the store must have conditional writes"),
        (400, "InvalidArgument: If-None-Match", r"\(the store must have conditional writes"),
        (400, "InvalidRequest: x-amz-checksum-type", "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
        (400, "KMS.DisabledException", "by the test$"),
    ],
)
def test_a_store_that_is_not_quite_s3_is_refused_with_advice(
    s3_bucket: str, proxied: S3Proxy, status: int, code: str, advice: str
) -> None:
    proxied.fault = lambda request: "If-None-Match" in request.headers and request.refuse(status, code)
    with pytest.raises(BucketRefusedError, match=f"{code}.*{advice}"):
        put(Bucket(s3_bucket), "a/b", b"x")


@pytest.mark.parametrize("code", ["ThrottlingException", "KMS.ThrottlingException", "KMS.KMSInternalException"])
def test_a_busy_key_service_is_an_outage(s3_bucket: str, proxied: S3Proxy, code: str) -> None:
    proxied.fault = lambda request: request.command == "PUT" and request.refuse(400, code)
    with pytest.raises(ClientError, match=code):
        put(Bucket(s3_bucket), "a/b", b"x")


@pytest.fixture
def proxied(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """A proxy in front of S3, in which a test can put a fault."""
    assert s3_bucket
    with s3_proxy(os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        yield proxy


@pytest.fixture
def files_of_a_megabyte() -> Iterator[None]:
    """The operating system refuses to write larger files, with an error that does not name them."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(MEGABYTE), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("files_of_a_megabyte")
def test_an_error_of_the_file_system_names_the_file_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=rf"File too large: '{tmp_path}/a/b'"):
        put(Bucket(f"file://{tmp_path}"), "a/b", 2 * MEGABYTE)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.fixture
def exfat(tmp_path: Path) -> Iterator[Path]:
    """A folder on exFAT, which has no hard links."""
    image, folder = tmp_path / "image", tmp_path / "exfat"
    if os.geteuid() != 0 or not shutil.which("mount.exfat-fuse") or not shutil.which("mkfs.exfat"):
        pytest.skip("needs root and Debian's exfat-fuse and exfatprogs")
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(10 * len(MEGABYTE))
    run(["mkfs.exfat", image], check=True, capture_output=True)
    loop = run(["losetup", "--find", "--show", image], capture_output=True, text=True)
    if loop.returncode or run(["mount.exfat-fuse", loop.stdout.strip(), folder], capture_output=True).returncode:
        pytest.skip("this machine cannot mount exFAT")
    yield folder
    run(["umount", folder], check=True)
    run(["losetup", "--detach", loop.stdout.strip()], check=True)


def test_a_file_system_without_hard_links_is_refused_with_advice_and_nothing_is_left(exfat: Path) -> None:
    with pytest.raises(BucketRefusedError, match=r"has no hard links, .* put the bucket on another one"):
        put(Bucket(f"file://{exfat}"), "a/b", b"x")
    assert list((exfat / "a").iterdir()) == []


def test_a_missing_bucket_is_a_permanent_error_and_a_missing_object_is_not_found(s3_bucket: str) -> None:
    with pytest.raises(BucketRefusedError, match="bucket nowhere: An error occurred \\(NoSuchBucket\\)"):
        Bucket("s3://nowhere").objects("a")
    with pytest.raises(BucketRefusedError, match="NoSuchBucket"):
        put(Bucket("s3://nowhere"), "a", b"x")
    with pytest.raises(FileNotFoundError, match="NoSuchKey"):
        Bucket(s3_bucket).open("a")
