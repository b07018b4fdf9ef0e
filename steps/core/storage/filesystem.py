"""Files, wherever they lie: in a folder, or at s3://."""

import contextlib
import errno
import glob
import io
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from steps.core.errors import DiskUnusable, causes
from steps.core.storage import s3

DISK_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE,
    errno.ENFILE, errno.ESTALE,
}  # fmt: skip
DISK_REASONS = re.compile(
    "|".join(
        [
            *(re.escape(os.strerror(number)) for number in sorted(DISK_ERRNOS)),
            "No usable temporary directory found",  # Python's, where TMPDIR and all others are full or read-only
            "Mkdirs failed to create",  # Hadoop's
        ]
    )
)
TEXT_CHARACTERS = 300  # of another program's message
READ_AHEAD_BYTES = 2**16  # of an object


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A file: how large, when it was written (seconds since 1970), and what changes when it is written again."""

    size_bytes: int
    modified: float
    version: str


def disk_failure(error: BaseException | None) -> DiskUnusable | None:
    """What `error` says of a disk, in the words of the system, of Delta's own code, or of Java's."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in DISK_ERRNOS:
            return DiskUnusable(str(cause.filename or "a file"), os.strerror(cause.errno))
        if isinstance(cause, Exception) and (reason := DISK_REASONS.search(str(cause))):
            line = next(line for line in str(cause).splitlines() if reason.group() in line)
            return DiskUnusable("a file cannot be read or written", " ".join(line.split())[:TEXT_CHARACTERS])
    return None


def is_remote(path: str) -> bool:
    return path.startswith(s3.SCHEME)


def options(path: str) -> dict[str, str] | None:
    """What deltalake must be told to read a table there."""
    return s3.for_deltalake() if is_remote(path) else None


def for_spark(path: str) -> str:
    """`path` as Spark reads and writes it: Hadoop's own S3 client goes by another scheme."""
    return path.replace(s3.SCHEME, "s3a://", 1) if is_remote(path) else path


def files(path: str) -> dict[str, Stored]:
    """All files below a folder, at any depth, by their names relative to it."""
    if is_remote(path):
        return {name.removeprefix(f"{path}/"): file for name, file in _objects(f"{path}/")}
    return {file.relative_to(path).as_posix(): _looked_at(file) for file in Path(path).rglob("*") if file.is_file()}


def matching_files(path: str) -> dict[str, Stored]:
    """The files that a path, folder or glob means, by their paths."""
    if is_remote(path):
        parts = path.split("/")
        return {name: file for name, file in _objects(_before_wildcards(path)) if _is_below(name.split("/"), parts)}
    roots = [Path(match) for match in glob.glob(path)] or [Path(path)]
    found = [file for root in roots for file in ([root] if root.is_file() else root.rglob("*"))]
    return {str(file): _looked_at(file) for file in found if file.is_file()}


def start_of(path: str, size_bytes: int) -> bytes:
    """The first bytes of a file."""
    if is_remote(path):
        return s3.read(path, size_bytes)
    with open(path, "rb") as opened:
        return opened.read(size_bytes)


def opened(path: str, size_bytes: int) -> IO[bytes]:
    """A file to read and seek in; `size_bytes` is its size."""
    if is_remote(path):
        return io.BufferedReader(_RemoteFile(path, size_bytes), READ_AHEAD_BYTES)
    return open(path, "rb")


def read(path: str) -> bytes:
    """All of a file."""
    return s3.read(path) if is_remote(path) else Path(path).read_bytes()


def write(path: str, content: bytes) -> None:
    """A new file, or one in place of the file that is there, in a folder that need not be there yet."""
    if is_remote(path):
        s3.put(path, content)
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)


def create(path: str, content: bytes) -> bool:
    """Write a file whole unless there is one; whether there was none."""
    if is_remote(path):
        return s3.put(path, content, replace=False)
    draft = Path(f"{path}.{uuid.uuid4().hex}")
    draft.write_bytes(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def remove_folder(path: str) -> None:
    """A folder and all files below it."""
    if is_remote(path):
        s3.remove(f"{path}/")
    else:
        shutil.rmtree(path)


def remove_if_empty(path: str) -> None:
    """Remove a folder in which nothing is left; an object store has none such."""
    if not is_remote(path):
        with contextlib.suppress(OSError):  # something is in it
            os.rmdir(path)


def missing(path: str, names: Collection[str]) -> list[str]:
    """Those of `names` that are not there below a folder."""
    if is_remote(path):
        there = files(path)
        return [name for name in names if name not in there]
    return [name for name in names if not os.path.exists(os.path.join(path, name))]


def damaged(path: str, sizes: Mapping[str, int]) -> dict[str, int | None]:
    """Those of these files below a folder that have another size than this, with what they have; None when gone."""
    if is_remote(path):
        there = {name: file.size_bytes for name, file in files(path).items()}
    else:
        paths = {name: os.path.join(path, name) for name in sizes}
        there = {name: os.path.getsize(file) for name, file in paths.items() if os.path.exists(file)}
    return {name: there.get(name) for name, size in sizes.items() if there.get(name) != size}


def is_delta(path: str) -> bool:
    """Whether a folder has the log of a Delta table."""
    if is_remote(path):
        return "_delta_log" in s3.folders(path)
    return os.path.isdir(os.path.join(path, "_delta_log"))


def tables(path: str) -> list[str]:
    """The paths of the Delta tables right below a folder."""
    if is_remote(path):
        return [each for each in (f"{path}/{name}" for name in s3.folders(path)) if is_delta(each)]
    return sorted(str(log.parent) for log in Path(path).glob("*/_delta_log"))


class _RemoteFile(io.RawIOBase):
    """An object, of which only what is asked for is transferred."""

    def __init__(self, uri: str, size_bytes: int) -> None:
        self._uri = uri
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size_bytes}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        size_bytes = min(len(buffer), self._size_bytes - self._at)
        if size_bytes <= 0:
            return 0
        buffer[:size_bytes] = s3.read(self._uri, size_bytes, start=self._at)
        self._at += size_bytes
        return size_bytes


def _objects(prefix: str) -> Iterator[tuple[str, Stored]]:
    for each in s3.objects(prefix):
        yield each.uri, Stored(size_bytes=each.size_bytes, modified=each.modified, version=each.etag)


def _looked_at(file: Path) -> Stored:
    looked = file.stat()
    return Stored(size_bytes=looked.st_size, modified=looked.st_mtime, version=str(looked.st_mtime_ns))


def _before_wildcards(path: str) -> str:
    return path[: min((at for at in map(path.find, "*?[") if at >= 0), default=len(path))]


def _is_below(name: list[str], pattern: list[str]) -> bool:
    """Whether `pattern`, part by part, fits a name or a folder that it is in."""
    return len(name) >= len(pattern) and all(map(fnmatchcase, name, pattern))
