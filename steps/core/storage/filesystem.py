"""Files, wherever they lie: the module for their path (local_files, s3_files) does what is asked."""

from collections.abc import Collection, Mapping
from typing import IO

from steps.core.errors import ObjectStoreUnavailable
from steps.core.storage import local_files, s3, s3_files
from steps.core.storage.interface import Files
from steps.core.storage.interface import Replaced as Replaced  # what reading an opened object raises
from steps.core.storage.interface import Stored as Stored  # what files() and matching_files() return

LOCAL: Files = local_files
REMOTE: Files = s3_files


def is_remote(path: str) -> bool:
    """Whether a path is in an object store."""
    return path.startswith(s3.SCHEME)


def unavailability(path: str) -> ObjectStoreUnavailable | None:
    """Why the object store of a path cannot be asked now; None where it can, or where there is none."""
    if is_remote(path) and (reason := s3.unavailability(path)):
        return s3.unavailable(path, reason)
    return None


def options(path: str) -> dict[str, str] | None:
    """deltalake's storage options for a table there."""
    return s3.for_deltalake() if is_remote(path) else None


def for_spark(path: str) -> str:
    """`path` as Spark reads and writes it: Hadoop's own S3 client goes by another scheme."""
    return path.replace(s3.SCHEME, "s3a://", 1) if is_remote(path) else path


def files(folder: str) -> dict[str, Stored]:
    """All files below a folder, at any depth, by their names relative to it."""
    return {path.removeprefix(f"{folder}/"): stored for path, stored in _place(folder).below(folder)}


def matching_files(pattern: str) -> dict[str, Stored]:
    """The files that a path, folder or glob means, by their paths."""
    return dict(_place(pattern).matching(pattern))


def opened(path: str, size_bytes: int) -> IO[bytes]:
    """A file to read and seek in; `size_bytes` is its size."""
    return _place(path).open(path, size_bytes)


def read(path: str) -> bytes:
    """All of a file. FileNotFoundError when there is none."""
    return _place(path).read(path)


def write(path: str, content: bytes) -> None:
    """A new file, or one in place of the file that is there, in a folder that need not be there yet."""
    _place(path).write(path, content)


def create(path: str, content: bytes) -> bool:
    """Write a file whole unless there is one; whether there was none."""
    return _place(path).create(path, content)


def remove_file(path: str) -> None:
    """A file that is there."""
    _place(path).remove_file(path)


def remove_folder(folder: str) -> None:
    """A folder and all files below it."""
    _place(folder).remove(folder)


def remove_if_empty(folder: str) -> None:
    """Remove a folder in which nothing is left; an object store has none such."""
    _place(folder).remove_if_empty(folder)


def missing(folder: str, names: Collection[str]) -> list[str]:
    """Those of `names` that are not there below a folder."""
    sizes = _place(folder).sizes(folder, names)
    return [name for name in names if name not in sizes]


def damaged(folder: str, expected: Mapping[str, int]) -> dict[str, int | None]:
    """Those of these files below a folder that have not the expected size, with what they have; None when gone."""
    sizes = _place(folder).sizes(folder, expected)
    return {name: sizes.get(name) for name, size_bytes in expected.items() if sizes.get(name) != size_bytes}


def is_delta(folder: str) -> bool:
    """Whether a folder has the log of a Delta table."""
    return _place(folder).is_folder(f"{folder}/_delta_log")


def tables(folder: str) -> list[str]:
    """The paths of the Delta tables right below a folder."""
    paths = (f"{folder}/{name}" for name in _place(folder).subfolders(folder))
    return sorted(path for path in paths if is_delta(path))


def _place(path: str) -> Files:
    return REMOTE if is_remote(path) else LOCAL
