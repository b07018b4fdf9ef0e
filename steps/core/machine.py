"""What processes on one machine share: their user, locks that end with their holder, and folders for scratch files."""

import contextlib
import fcntl
import getpass
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

OWNED = ".owned"  # a scratch folder's file on which its owner holds a lock
YOUNG_SECONDS = 60  # a folder younger than that may not be locked yet


def user() -> str:
    """The name of whoever runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without one
        return f"uid {os.getuid()}"


@contextlib.contextmanager
def alone(*what: str) -> Iterator[None]:
    """Wait until this user has no other process here that is in such a block for the same `what`."""
    name = hashlib.sha256("\0".join(what).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"workflow-{os.getuid()}-{name}.lock"
    while True:
        with path.open("w") as lock:
            _wait_for(lock, what)
            if not _is_at(path, lock):
                continue  # whoever held it has taken it away meanwhile
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextlib.contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A folder that goes with the block or, when this process is killed, with the next remove_left_folders()."""
    folder = tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    with folder, Path(folder.name, OWNED).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(folder.name)


def remove_left_folders() -> None:
    """Remove this user's scratch folders whose owner is gone."""
    for owned in Path(tempfile.gettempdir()).glob(f"workflow-*/{OWNED}"):
        with contextlib.suppress(OSError):  # locked by its owner, or another start removes it now
            if owned.stat().st_uid == os.getuid() and time.time() - owned.stat().st_mtime > YOUNG_SECONDS:
                with owned.open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(owned.parent, ignore_errors=True)


def _wait_for(lock: IO[str], what: tuple[str, ...]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process, which is at work on {what[0]} {what[-1]}", file=sys.stderr, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_at(path: Path, file: IO[str]) -> bool:
    """Whether `path` names the open `file` still."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
