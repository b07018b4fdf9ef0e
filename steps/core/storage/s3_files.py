"""Files in an object store, as files.Files asks for them: objects whose URIs begin with s3://, read by boto3."""

import errno
import io
import os
from collections.abc import Collection, Iterator
from typing import IO, Any

from steps.core.storage import globs, s3
from steps.core.storage.interface import Replaced, Stored

READ_AHEAD_BYTES = 2**16  # of an object that is read bit by bit
FOLDER_ENDINGS = ("/", "_$folder$")  # of objects of 0 bytes that consoles and Hadoop write for a folder


def matching(pattern: str) -> Iterator[tuple[str, Stored]]:
    before_wildcards = pattern[: min((at for at in map(pattern.find, "*?[") if at >= 0), default=len(pattern))]
    parts = pattern.split("/")
    return ((uri, stored) for uri, stored in _objects(before_wildcards) if globs.means(parts, uri.split("/")))


def below(folder: str) -> Iterator[tuple[str, Stored]]:
    return _objects(f"{folder}/")


def is_folder(path: str) -> bool:
    return any(True for _ in below(path))


def subfolders(folder: str) -> list[str]:
    bucket, key = s3.locate(folder)
    prefix = f"{key}/" if key else ""
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    return [entry["Prefix"][len(prefix) : -1] for page in pages for entry in page.get("CommonPrefixes", [])]


def sizes(folder: str, names: Collection[str]) -> dict[str, int]:
    """One listing of the folder: asking for each object takes a request for each."""
    stored = {uri.removeprefix(f"{folder}/"): file.size_bytes for uri, file in below(folder)}
    return {name: stored[name] for name in names if name in stored}


def read(path: str) -> bytes:
    return bytes(_get(path)["Body"].read())


def open(path: str, size_bytes: int) -> IO[bytes]:
    return io.BufferedReader(_Object(path, size_bytes), READ_AHEAD_BYTES)


def write(path: str, content: bytes) -> None:
    bucket, key = s3.locate(path)
    s3.client().put_object(Bucket=bucket, Key=key, Body=content)


def create(path: str, content: bytes) -> bool:
    from botocore.exceptions import ClientError

    bucket, key = s3.locate(path)
    try:
        s3.client().put_object(Bucket=bucket, Key=key, Body=content, IfNoneMatch="*")
    except ClientError as err:
        if s3.code(err) not in ("PreconditionFailed", "ConditionalRequestConflict"):
            raise
        return False
    return True


def remove_file(path: str) -> None:
    bucket, key = s3.locate(path)
    s3.client().delete_object(Bucket=bucket, Key=key)


def remove(folder: str) -> None:
    bucket, _ = s3.locate(folder)
    for key in [entry["Key"] for entry in _entries(f"{folder}/")]:
        s3.client().delete_object(Bucket=bucket, Key=key)


def remove_if_empty(folder: str) -> None:
    """Nothing to do: an object store has no empty folders."""


class _Object(io.RawIOBase):
    """An object, of which only what is asked for is transferred."""

    def __init__(self, uri: str, size_bytes: int) -> None:
        self._uri = uri
        self._size_bytes = size_bytes
        self._position = 0
        self._only_if: dict[str, str] = {}  # once some of it was read: it is still the same object

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        size_bytes = min(len(buffer), self._size_bytes - self._position)
        if size_bytes <= 0:
            return 0
        last = self._position + size_bytes - 1
        answer = _get(self._uri, Range=f"bytes={self._position}-{last}", **self._only_if)
        content = answer["Body"].read()
        if len(content) != size_bytes:
            raise Replaced(f"{self._uri} has {len(content)} of the {size_bytes} bytes from {self._position} on")
        self._only_if = {"IfMatch": answer["ETag"]}
        buffer[:size_bytes] = content
        self._position += size_bytes
        return size_bytes


def _get(uri: str, **settings: str) -> Any:
    from botocore.exceptions import ClientError

    bucket, key = s3.locate(uri)
    try:
        return s3.client().get_object(Bucket=bucket, Key=key, **settings)
    except ClientError as err:
        if s3.code(err) == "NoSuchKey":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), uri) from err
        if s3.code(err) in ("PreconditionFailed", "InvalidRange"):
            raise Replaced(uri) from err
        raise


def _objects(prefix: str) -> Iterator[tuple[str, Stored]]:
    """All whose URIs begin with `prefix`, but for those that stand for a folder."""
    bucket, _ = s3.locate(prefix)
    for entry in _entries(prefix):
        if entry["Size"] or not entry["Key"].endswith(FOLDER_ENDINGS):
            modified = entry["LastModified"].timestamp()
            stored = Stored(size_bytes=entry["Size"], modified=modified, version=entry["ETag"])
            yield f"{s3.SCHEME}{bucket}/{entry['Key']}", stored


def _entries(prefix: str) -> Iterator[dict[str, Any]]:
    """What the store lists of all whose URIs begin with `prefix`."""
    bucket, key = s3.locate(prefix)
    for page in s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key):
        yield from page.get("Contents", [])
