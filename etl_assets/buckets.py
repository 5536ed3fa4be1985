"""Buckets: folders under a URL, `file:///path` or `s3://bucket/prefix`, whose objects are written once.

An object appears whole or not at all, and never replaces another. Reading and listing are pyarrow's. Writing is
ours, because a pyarrow stream commits what it has when an exception closes it, and overwrites.
"""

import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pyarrow as pa
from botocore.exceptions import ClientError
from pyarrow import fs

_PART_BYTES = 8 * 1024 * 1024


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
        if not self._upload:
            response = self._client.create_multipart_upload(**self._address)
            self._upload = {**self._address, "UploadId": response["UploadId"]}
        number = len(self._parts) + 1
        response = self._client.upload_part(**self._upload, PartNumber=number, Body=bytes(self._buffer))
        self._parts.append({"PartNumber": number, "ETag": response["ETag"]})
        self._buffer.clear()

    def discard(self) -> None:
        super().discard()
        if self._upload:
            self._client.abort_multipart_upload(**self._upload)

    def publish(self) -> None:
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


class Bucket:
    """The objects under a URL. Keys are relative to it, their parts separated by `/`."""

    def __init__(self, url: str) -> None:
        """Open the bucket at a URL.

        Raises:
            ValueError: the URL is neither `file:///path` nor `s3://bucket[/prefix]`.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("file", "s3") or not (parts.netloc if parts.scheme == "s3" else parts.path):
            raise ValueError("must look like file:///path or s3://bucket/prefix")
        self.url = url.rstrip("/")
        self._filesystem, root = fs.FileSystem.from_uri(self.url)
        self._root = root.rstrip("/")
        self._client = boto3.client("s3") if parts.scheme == "s3" else None

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    @contextmanager
    def create(self, key: str) -> Iterator[NewObject]:
        """Write an object: published at the end of the block, discarded on an exception.

        Raises:
            FileExistsError: there is one of that key.
        """
        new: NewObject
        if self._client:
            bucket, _, path = self._path(key).partition("/")
            new = _S3Object(self._client, bucket, path)
        else:
            new = _LocalObject(Path(self._path(key)))
        try:
            yield new
        except BaseException:
            new.discard()
            raise
        if not new.discarded:
            new.publish()

    def open(self, key: str) -> pa.NativeFile:
        """Open an object for reading, anywhere in it."""
        return self._filesystem.open_input_file(self._path(key))

    def stream(self, key: str) -> pa.NativeFile:
        """Open an object for reading once, from its beginning."""
        return self._filesystem.open_input_stream(self._path(key), buffer_size=1024 * 1024)

    def folders(self, key: str) -> list[str]:
        """List the keys of the folders directly in a folder, in order."""
        return self._list(key, fs.FileType.Directory)

    def objects(self, key: str) -> list[str]:
        """List the keys of the objects directly in a folder, in order."""
        return self._list(key, fs.FileType.File)

    def _list(self, key: str, type_: fs.FileType) -> list[str]:
        entries = self._filesystem.get_file_info(fs.FileSelector(self._path(key), allow_not_found=True))
        return sorted(
            f"{key}/{entry.base_name}"
            for entry in entries
            if entry.type is type_ and not entry.base_name.startswith(".")
        )
