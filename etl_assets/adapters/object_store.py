"""Write-once object stores by URL, `file:///path` or `s3://bucket/prefix`.

An object appears complete or not at all, and never overwrites another: docs/adr/0002-our-own-object-writer.md.
"""

import errno
import hashlib
import io
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import SplitResult, unquote, urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from etl_assets.schema.errors import PermanentError

_PART_BYTES = 8 * 1024 * 1024
_IN_MEMORY_BYTES = 32 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
# The client errors that a retry can fix (Amazon S3 API reference, “Error responses”).
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "RequestTimeout", "RequestTimeTooSkewed"}
_BUSY = {"OperationAborted", "ConditionalRequestConflict", "SlowDown", "TooManyRequests", "RequestLimitExceeded"}
_PASSING = re.compile("Throttl|Timeout|Internal")  # of S3 and of the KMS behind it
_NOT_IMPLEMENTED = 501
_SERVER_ERRORS = 500
_CONDITIONAL_WRITES = (
    " (the store must have conditional writes, If-None-Match, as Amazon S3, MinIO and Ceph have: without them one run "
    "could overwrite what another wrote)"
)
_CHECKSUMS = " (for a store without these checksums, set AWS_REQUEST_CHECKSUM_CALCULATION=when_required)"
_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class BucketRefusedError(PermanentError):
    """The store refused a request for good: there is no such bucket or no permission, or it lacks what is needed."""


class NewObject(io.RawIOBase):
    """An object being written. `Bucket.create` publishes it after its block, unless it has been discarded."""

    def __init__(self) -> None:
        super().__init__()
        self.discarded = False
        self.size = 0
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        """Append bytes."""
        view = memoryview(data).cast("B")
        self.sha256.update(view)
        self._append(view)
        self.size += view.nbytes
        return view.nbytes

    def _append(self, data: memoryview) -> None:
        raise NotImplementedError

    def writable(self) -> bool:
        """Return True."""
        return True

    def discard(self) -> None:
        """Delete what has been written."""
        self.discarded = True

    def publish(self) -> None:
        """Make the complete object visible, or raise `FileExistsError` if its key exists."""
        raise NotImplementedError


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in an error of the operating system that does not, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


class _LocalObject(NewObject):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Hidden from listings, so a file left by a crash is never read.
        self._temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        self._file = self._temporary.open("xb", buffering=0)

    def _append(self, data: memoryview) -> None:
        with _naming(self._path):
            while data.nbytes:
                data = data[self._file.write(data) :]

    def discard(self) -> None:
        super().discard()
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def publish(self) -> None:
        with _naming(self._path):
            os.fsync(self._file.fileno())
        self._file.close()
        try:
            os.link(self._temporary, self._path)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            raise BucketRefusedError(
                f"the file system of {self._path.parent} has no hard links, by which an object appears complete or not "
                "at all: put the bucket on another one, such as ext4, XFS, APFS or NFS"
            ) from error
        finally:
            self._temporary.unlink()
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _S3Object(NewObject):
    """Written by one PUT if it is smaller than a part, otherwise by a multipart upload."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        super().__init__()
        self._client = client
        self._address = {"Bucket": bucket, "Key": key}
        self._buffer = bytearray()
        self._upload: dict[str, str] = {}
        self._parts: list[dict[str, Any]] = []

    def _append(self, data: memoryview) -> None:
        self._buffer += data
        if len(self._buffer) >= _PART_BYTES:
            self._upload_part()

    def _upload_part(self) -> None:
        number = len(self._parts) + 1
        with _refusals(self._address):
            if not self._upload:
                response = self._client.create_multipart_upload(**self._address)
                self._upload = {**self._address, "UploadId": response["UploadId"]}
            response = self._client.upload_part(**self._upload, PartNumber=number, Body=bytes(self._buffer))
        self._parts.append({"PartNumber": number, "ETag": response["ETag"]})
        self._buffer.clear()

    def discard(self) -> None:
        super().discard()
        if self._upload:
            with suppress(ClientError, BotoCoreError):  # invisible if not aborted, and deleted by the lifecycle rule
                self._client.abort_multipart_upload(**self._upload)

    def publish(self) -> None:
        with _refusals(self._address):
            if self._upload:
                self._upload_part()
                self._client.complete_multipart_upload(
                    **self._upload, MultipartUpload={"Parts": self._parts}, IfNoneMatch="*"
                )
            else:
                self._client.put_object(**self._address, Body=bytes(self._buffer), IfNoneMatch="*")


class _LocalStore:
    def __init__(self, root: str) -> None:
        self._root = Path(root)

    def create(self, key: str) -> NewObject:
        return _LocalObject(self._root / key)

    def open(self, key: str) -> IO[bytes]:
        return (self._root / key).open("rb")

    def list(self, key: str) -> tuple[list[str], list[str]]:
        folders: list[str] = []
        objects: list[str] = []
        with suppress(FileNotFoundError), os.scandir(self._root / key) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    (folders if entry.is_dir() else objects).append(entry.name)
        return folders, objects

    def walk(self, key: str, after: str) -> Iterator[str]:
        folders, objects = self.list(key)
        for name in sorted([*(f"{folder}/" for folder in folders), *objects]):
            child = f"{key}/{name}"
            if not name.endswith("/"):
                if child > after:
                    yield child
            elif child >= after[: len(child)]:
                yield from self.walk(child[:-1], after)


class _S3Store:
    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def create(self, key: str) -> NewObject:
        return _S3Object(self._client, self._bucket, self._prefix + key)

    def open(self, key: str) -> IO[bytes]:
        address = {"Bucket": self._bucket, "Key": self._prefix + key}
        with ExitStack() as closing, _refusals(address):
            local = closing.enter_context(SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES))
            copyfileobj(self._client.get_object(**address)["Body"], local, _COPY_BYTES)
            closing.pop_all()  # complete: the caller closes it
        local.seek(0)
        return local

    def list(self, key: str) -> tuple[list[str], list[str]]:
        prefix = f"{self._prefix}{key}/"
        address = {"Bucket": self._bucket, "Prefix": prefix}
        folders, objects = [], []
        with _refusals(address):
            for page in self._client.get_paginator("list_objects_v2").paginate(**address, Delimiter="/"):
                folders += [entry["Prefix"][len(prefix) : -1] for entry in page.get("CommonPrefixes", ())]
                objects += [entry["Key"][len(prefix) :] for entry in page.get("Contents", ())]
        return folders, objects

    def walk(self, key: str, after: str) -> Iterator[str]:
        address = {"Bucket": self._bucket, "Prefix": f"{self._prefix}{key}/"}
        start = {"StartAfter": self._prefix + after} if after else {}
        with _refusals(address):
            for page in self._client.get_paginator("list_objects_v2").paginate(**address, **start):
                yield from (entry["Key"][len(self._prefix) :] for entry in page.get("Contents", ()))


@contextmanager
def _refusals(address: Mapping[str, str]) -> Iterator[None]:
    """Turn the permanent errors of S3 into `FileNotFoundError`, `FileExistsError` or `BucketRefusedError`."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "NoSuchKey":
            raise FileNotFoundError(str(error)) from error
        if code == "PreconditionFailed":
            raise FileExistsError(f"s3://{address['Bucket']}/{address['Key']}") from error
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == _NOT_IMPLEMENTED or (status < _SERVER_ERRORS and not _is_passing(code)):
            raise BucketRefusedError(f"bucket {address['Bucket']}: {error}{_advice(error, status)}") from error
        raise


def _advice(error: ClientError, status: int) -> str:
    """Return what to do about a refusal, if the bucket is not there or the store is not quite S3."""
    message = str(error).lower()
    if error.response["Error"]["Code"] == "NoSuchBucket":
        return " (create it, or correct the URL)"
    if "x-amz-checksum" in message:
        return _CHECKSUMS
    publishes = error.operation_name in ("PutObject", "CompleteMultipartUpload")
    unknown = "if-none-match" in message or (status == _NOT_IMPLEMENTED and publishes)
    return _CONDITIONAL_WRITES if unknown else ""


def _is_passing(code: str) -> bool:
    """Whether a retry can fix a client error of S3."""
    return code in _EXPIRED | _BUSY or _PASSING.search(code) is not None


def default_s3_client() -> Any:
    """Return a client with the region, endpoint and credentials that the AWS SDK finds."""
    return boto3.client("s3")


def split_url(url: str) -> SplitResult:
    """Return the parts of the URL of a bucket, `file:///path` or `s3://bucket[/prefix]`.

    Raises:
        ValueError: the URL is malformed. The message says what to do.
    """
    malformed = ValueError("must look like file:///path or s3://bucket/prefix")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise malformed from None
    is_complete = parts.netloc if parts.scheme == "s3" else parts.path
    if parts.scheme not in ("file", "s3") or not is_complete or "@" in parts.netloc:
        raise malformed
    if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
        raise ValueError(f"names a machine, {parts.netloc}: a path must be absolute, after three slashes, file:///path")
    if parts.netloc.startswith("arn:"):
        raise ValueError("has an ARN: give the alias of the access point, s3://<alias>/prefix")
    return parts


class Bucket:
    """The objects under a URL. Keys are relative to it, with `/` as separator.

    Permanent errors of S3 raise `BucketRefusedError`. Timeouts, lost connections and expired credentials raise boto3's
    own exceptions, after its retries.
    """

    def __init__(self, url: str, s3_client: Callable[[], Any] = default_s3_client) -> None:
        """Open the bucket at a URL, with the client that `s3_client` returns if it is on S3.

        Raises:
            ValueError: the URL is malformed.
        """
        parts = split_url(url)
        self.url = url.rstrip("/")
        path = unquote(parts.path).rstrip("/")
        self._store = (
            _S3Store(s3_client(), parts.netloc, path.lstrip("/")) if parts.scheme == "s3" else _LocalStore(path)
        )

    @contextmanager
    def create(self, key: str) -> Iterator[NewObject]:
        """Write an object. It is published after the block, and discarded on an exception.

        Raises:
            FileExistsError: an object with this key exists.
        """
        new = self._store.create(key)
        try:
            yield new
        except BaseException:
            new.discard()
            raise
        if not new.discarded:
            new.publish()

    def open(self, key: str) -> IO[bytes]:
        """Open an object as a seekable stream. An S3 object is downloaded first: to memory up to 32 MiB, else to disk.

        Raises:
            FileNotFoundError: no object has this key.
        """
        return self._store.open(key)

    def folders(self, key: str) -> list[str]:
        """Return the sorted keys of the folders directly in a folder."""
        folders, _ = self._store.list(key)
        return sorted(f"{key}/{name}" for name in folders)

    def objects(self, key: str) -> list[str]:
        """Return the sorted keys of the objects directly in a folder."""
        _, objects = self._store.list(key)
        return sorted(f"{key}/{name}" for name in objects)

    def walk(self, key: str, after: str = "") -> Iterator[str]:
        """Yield the keys of all objects below a folder, sorted, from the first one after the key `after`.

        S3 lists a thousand per request, whatever their folders.
        """
        return self._store.walk(key, after)
