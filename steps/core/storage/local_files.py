"""Files in folders of this machine, as files.Files asks for them."""

import builtins
import contextlib
import errno
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from steps.core.storage import disk, globs
from steps.core.storage.interface import Stored

NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # a link in a circle leads to no file


def matching(pattern: str) -> Iterator[tuple[str, Stored]]:
    parts = pattern.split("/")
    before = "/".join(parts[: globs.fixed_depth(parts)]) or "/"
    found = (file for root in glob.glob(before) for file in _found(root, ()))
    if before == pattern:
        return found
    # A folder that cannot be read may hold files that the glob means.
    return ((path, file) for path, file in found if globs.means(parts, path.split("/")) or _is_closed(path, file))


def below(folder: str) -> Iterator[tuple[str, Stored]]:
    for path in map(str, Path(folder).rglob("*")):
        if (status := _status(path)) and stat.S_ISREG(status.st_mode):
            yield path, stored_as(status)


def is_folder(path: str) -> bool:
    return os.path.isdir(path)


def subfolders(folder: str) -> list[str]:
    return [path.name for path in Path(folder).glob("*") if path.is_dir()]


def sizes(folder: str, names: Collection[str]) -> dict[str, int]:
    statuses = {name: _status(os.path.join(folder, name)) for name in names}
    return {name: status.st_size for name, status in statuses.items() if status}


def read(path: str) -> bytes:
    with open(path, 0) as file:
        return file.read()


def open(path: str, size_bytes: int) -> IO[bytes]:
    return builtins.open(path, "rb")


def write(path: str, content: bytes) -> None:
    with disk.named_in_errors(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content)


def create(path: str, content: bytes) -> bool:
    draft = Path(f"{path}.{uuid.uuid4().hex}")
    with disk.named_in_errors(path):
        draft.write_bytes(content)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def remove_file(path: str) -> None:
    os.unlink(path)


def remove(folder: str) -> None:
    shutil.rmtree(folder)


def remove_if_empty(folder: str) -> None:
    with contextlib.suppress(OSError):  # something is in it
        os.rmdir(folder)


def _found(path: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, Stored]]:
    """A file, or those below a folder. `above` are the folders on the way to it, by device and inode."""
    try:
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode):
            yield path, stored_as(status)
        elif not stat.S_ISDIR(status.st_mode):
            yield path, _unreadable("it is no file, but a pipe, a socket or a device")
        elif identity in above:
            yield path, _unreadable("it is a link to a folder that it is in")
        else:
            for name in sorted(os.listdir(path)):
                yield from _found(os.path.join(path, name), (*above, identity))
    except OSError as err:
        is_link = os.path.islink(path) and err.errno in (errno.ENOENT, errno.ELOOP)
        target = f"it is a link to {os.readlink(path)}, which is not there" if is_link else os.strerror(err.errno or 0)
        yield path, _unreadable("it is a link in a circle" if err.errno == errno.ELOOP else target)


def _is_closed(path: str, file: Stored) -> bool:
    return bool(file.problem) and os.path.isdir(path)


def _unreadable(problem: str) -> Stored:
    return Stored(size_bytes=0, modified=0, version="", problem=problem)


def _status(path: str) -> os.stat_result | None:
    """By one question, as a file may go between two; None where nothing is there."""
    try:
        return os.stat(path)
    except OSError as err:
        if err.errno in NOT_THERE:
            return None
        raise


def stored_as(status: os.stat_result) -> Stored:
    """What is known of a file by its status."""
    # By the inode and its change too: a copy that replaces a file may have its size and its time.
    version = f"{status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
    return Stored(size_bytes=status.st_size, modified=status.st_mtime, version=version)
