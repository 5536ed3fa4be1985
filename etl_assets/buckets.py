"""Buckets: folders under a URL, `file:///path` or `s3://bucket/prefix`, whose objects are written once.

An object appears whole or not at all, and never replaces another: docs/adr/0002-our-own-object-writer.md.
"""

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from etl_assets.errors import PermanentError

_PART_BYTES = 8 * 1024 * 1024
_IN_MEMORY_BYTES = 32 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
_S3_CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 4})
_CLIENT_AT_FAULT = range(400, 500)
# Among those, the errors that trying again can mend (Amazon S3 API reference, “Error responses”).
_PASSING = {
    "ExpiredToken",
    "TokenRefreshRequired",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "OperationAborted",
    "ConditionalRequestConflict",
    "SlowDown",
    "TooManyRequests",
}


class BucketRefusedError(PermanentError):
    """S3 refused a request: the bucket or object is not there, or permission is missing."""

    def __init__(self, bucket: str, error: ClientError) -> None:
        self.bucket = bucket
        self.code = error.response["Error"]["Code"]
        super().__init__(f"bucket {bucket}: {error}")


class NewObject(io.RawIOBase):
    """An object being written. It is published at the end of `Bucket.create`, unless discarded before."""

    def __init__(self) -> None:
        super().__init__()
        self.discarded = False
        self.size = 0

    def write(self, data: Any) -> int:
        """Append bytes."""
        view = memoryview(data).cast("B")
        self._append(view)
        self.size += view.nbytes
        return view.nbytes

    def _append(self, data: memoryview) -> None:
        raise NotImplementedError

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def discard(self) -> None:
        """Leave nothing behind."""
        self.discarded = True

    def publish(self) -> None:
        """Make the object appear, whole.

        Raises:
            FileExistsError: there is one of that key.
        """
        raise NotImplementedError


class _LocalObject(NewObject):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Hidden from listings; what a crash leaves behind is never read.
        self._temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        self._file = self._temporary.open("xb", buffering=0)

    def _append(self, data: memoryview) -> None:
        while data.nbytes:
            data = data[self._file.write(data) :]

    def discard(self) -> None:
        super().discard()
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def publish(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()
        try:
            os.link(self._temporary, self._path)
        finally:
            self._temporary.unlink()
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _S3Object(NewObject):
    """A single PUT when small, a multipart upload when not."""

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
        with _refusals(self._address["Bucket"]):
            if not self._upload:
                response = self._client.create_multipart_upload(**self._address)
                self._upload = {**self._address, "UploadId": response["UploadId"]}
            response = self._client.upload_part(**self._upload, PartNumber=number, Body=bytes(self._buffer))
        self._parts.append({"PartNumber": number, "ETag": response["ETag"]})
        self._buffer.clear()

    def discard(self) -> None:
        super().discard()
        if self._upload:
            # What is not aborted is never seen, and removed by the bucket's lifecycle; what went wrong is being raised.
            with suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(**self._upload)

    def publish(self) -> None:
        with _refusals(self._address["Bucket"]):
            try:
                if self._upload:
                    self._upload_part()
                    self._client.complete_multipart_upload(
                        **self._upload, MultipartUpload={"Parts": self._parts}, IfNoneMatch="*"
                    )
                else:
                    self._client.put_object(**self._address, Body=bytes(self._buffer), IfNoneMatch="*")
            except ClientError as error:
                if error.response["Error"]["Code"] == "PreconditionFailed":
                    raise FileExistsError(f"s3://{self._address['Bucket']}/{self._address['Key']}") from error
                raise


class _Folder:
    """Objects as files below a folder."""

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


class _S3:
    """Objects under a prefix of an S3 bucket."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = boto3.client("s3", config=_S3_CONFIG)

    def create(self, key: str) -> NewObject:
        return _S3Object(self._client, self._bucket, self._prefix + key)

    def open(self, key: str) -> IO[bytes]:
        local = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 (the caller closes it)
        try:
            with _refusals(self._bucket):
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
                copyfileobj(answer["Body"], local, _COPY_BYTES)
        except BaseException:
            local.close()
            raise
        local.seek(0)
        return local

    def list(self, key: str) -> tuple[list[str], list[str]]:
        below = f"{self._prefix}{key}/"
        folders, objects = [], []
        pages = self._client.get_paginator("list_objects_v2")
        with _refusals(self._bucket):
            for page in pages.paginate(Bucket=self._bucket, Prefix=below, Delimiter="/"):
                folders += [found["Prefix"][len(below) : -1] for found in page.get("CommonPrefixes", ())]
                objects += [found["Key"][len(below) :] for found in page.get("Contents", ())]
        return folders, objects


@contextmanager
def _refusals(bucket: str) -> Iterator[None]:
    """Tell what S3 refused for good from what may pass."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "NoSuchKey":
            raise FileNotFoundError(str(error)) from error
        if error.response["ResponseMetadata"]["HTTPStatusCode"] in _CLIENT_AT_FAULT and code not in _PASSING:
            raise BucketRefusedError(bucket, error) from error
        raise


class Bucket:
    """The objects under a URL. Keys are relative to it, their parts separated by `/`.

    What S3 refuses for good raises `BucketRefusedError`; a time-out, a broken connection or an expired credential
    raises as boto3 tells it, after boto3's own retries.
    """

    def __init__(self, url: str) -> None:
        """Open the bucket at a URL.

        Raises:
            ValueError: the URL is neither `file:///path` nor `s3://bucket[/prefix]`.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("file", "s3") or not (parts.netloc if parts.scheme == "s3" else parts.path):
            raise ValueError("must look like file:///path or s3://bucket/prefix")
        self.url = url.rstrip("/")
        path = unquote(parts.path).rstrip("/")
        self._store = _S3(parts.netloc, path.lstrip("/")) if parts.scheme == "s3" else _Folder(path)

    @contextmanager
    def create(self, key: str) -> Iterator[NewObject]:
        """Write an object: published at the end of the block, discarded on an exception.

        Raises:
            FileExistsError: there is one of that key.
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
        """Open an object for reading, anywhere in it; one of S3 is fetched whole, into memory if it is small.

        Raises:
            FileNotFoundError: there is none of that key.
        """
        return self._store.open(key)

    def folders(self, key: str) -> list[str]:
        """List the keys of the folders directly in a folder, in order."""
        folders, _ = self._store.list(key)
        return sorted(f"{key}/{name}" for name in folders)

    def objects(self, key: str) -> list[str]:
        """List the keys of the objects directly in a folder, in order."""
        _, objects = self._store.list(key)
        return sorted(f"{key}/{name}" for name in objects)
