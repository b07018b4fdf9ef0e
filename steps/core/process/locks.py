"""Exclusive locks between the processes of one machine, which end with their holder."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from steps.core.errors import LockNotReleased
from steps.core.process import console, processes

WAIT_MINUTES = 60  # for another process that holds the lock
POLL_SECONDS = 0.05
LOCK_FILE_MODE = 0o666  # every user of the folder has to open the file, which is empty
MODE_SECONDS = 1  # from the creation of a lock file until its mode is set


@contextlib.contextmanager
def exclusive_lock(kind: str, path: str, name: str = "") -> Iterator[None]:
    """Hold the lock of `path`, and of `name` in it, in this block. LockNotReleased after WAIT_MINUTES.

    The lock is a file beside what `path` leads to, so that spellings, environments and users share it. What a server
    has (`path` is a URI) is locked on this machine only.
    """
    lock_path = _lock_path(kind, path, name)
    lock_file = _acquire(lock_path, Wait(f"{kind} {name or path}", minutes=WAIT_MINUTES))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # another user's file in a folder like /tmp stays, for the next holder
            lock_path.unlink()
        os.close(lock_file)


def lock_holder(path: str | Path) -> str:
    """The process that holds a lock on a file, as text for a message; "another process" if that is not known."""
    try:
        status = os.stat(path)
        identity = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
        pids = {int(fields[4]) for fields in held if fields[5] == identity} - {0, os.getpid()}
        return processes.describe(psutil.Process(min(pids)))
    except (OSError, ValueError, psutil.Error):  # not Linux, or a process that this one may not see
        return "another process"


class Wait:
    """A wait for another process: it is announced once, and it has an end."""

    def __init__(self, subject: str, *, minutes: float) -> None:
        self._subject = subject
        self._minutes = minutes
        self._deadline = time.monotonic() + 60 * minutes
        self._is_announced = False

    def pause(self, holder: Callable[[], str]) -> None:
        """Sleep for POLL_SECONDS. `holder` returns the other process, as text. LockNotReleased at the end."""
        if time.monotonic() > self._deadline:
            raise LockNotReleased(self._subject, holder(), minutes=self._minutes)
        if not self._is_announced:
            console.message(f"waiting for {holder()}, which is at work on {self._subject}")
            self._is_announced = True
        time.sleep(POLL_SECONDS)


def _lock_path(kind: str, path: str, name: str) -> Path:
    if "://" in path:  # /tmp, not TMPDIR, which may differ between processes
        return Path(f"/tmp/workflow-{_digest(kind, path, name)}.lock")
    guarded = Path(os.path.realpath(path))
    guarded.parent.mkdir(parents=True, exist_ok=True)
    return guarded.with_name(f".workflow-{_digest(kind, guarded.name, name)}.lock")


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _acquire(path: Path, wait: Wait) -> int:
    """The file descriptor of the lock file at `path`, locked by this process."""
    while True:
        lock_file = _open_or_create(path)
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, lock_file):
                return lock_file
            os.close(lock_file)  # its holder has removed it meanwhile
        except BlockingIOError:
            os.close(lock_file)
            wait.pause(lambda: lock_holder(path))
        except BaseException:
            os.close(lock_file)
            raise


def _open_or_create(path: Path) -> int:
    deadline = time.monotonic() + MODE_SECONDS
    while True:
        try:
            return _open(path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another process was quicker
                lock_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                os.fchmod(lock_file, LOCK_FILE_MODE)  # whatever the umask
                return lock_file
        except PermissionError:  # another user created it just now, and has not set its mode yet
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # a lock on NFS needs a file that is open for writing
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _is_at(path: Path, file: int) -> bool:
    """Whether `path` still names the open `file`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
