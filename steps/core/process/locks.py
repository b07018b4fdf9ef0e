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

WAIT_MINUTES = 60  # for another process that has the lock
LOOK_SECONDS = 0.05  # how often a waiting process looks


LOCK_MODE = 0o666  # of a lock file, which is empty: another user of the same folder has to open it
MODE_SECONDS = 1  # time for the maker of a lock file to set its mode


@contextlib.contextmanager
def exclusive_lock(kind: str, path: str, name: str = "") -> Iterator[None]:
    """Wait until no other process is in such a block for what lies at `path`, and for `name` in it.

    The lock is a file beside what `path` leads to, so that neither the spelling nor the environment nor the user makes
    a second one. What a server has (`path` is a URI) is locked on this machine only. LockNotReleased after
    WAIT_MINUTES.
    """
    lock_path = _lock_path(kind, path, name)
    lock = _locked(lock_path, Wait(f"{kind} {name or path}", minutes=WAIT_MINUTES))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # another user's, in a folder like /tmp: it stays, and serves the next
            lock_path.unlink()
        os.close(lock)


def lock_holder(path: str | Path) -> str:
    """The process that has a lock on a file, as text for a message; where that cannot be told, "another process"."""
    try:
        status = os.stat(path)
        identity = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" not in line]
        pids = {int(fields[4]) for fields in locks if fields[5] == identity} - {0, os.getpid()}
        return processes.describe(psutil.Process(min(pids)))
    except (OSError, ValueError, psutil.Error):  # not Linux, or a process that this one may not see
        return "another process"


class Wait:
    """A wait for another process: says once for whom, and has an end."""

    def __init__(self, what: str, *, minutes: float) -> None:
        self._what = what
        self._minutes = minutes
        self._deadline = time.monotonic() + 60 * minutes
        self._is_announced = False

    def go_on(self, who: Callable[[], str]) -> None:
        """Sleep a moment. `who` is asked for the other process, as text. LockNotReleased at the end."""
        if time.monotonic() > self._deadline:
            raise LockNotReleased(self._what, who(), minutes=self._minutes)
        if not self._is_announced:
            console.message(f"waiting for {who()}, which is at work on {self._what}")
            self._is_announced = True
        time.sleep(LOOK_SECONDS)


def _lock_path(kind: str, path: str, name: str) -> Path:
    if "://" in path:  # /tmp, not TMPDIR, which may be another for each process
        return Path(f"/tmp/workflow-{_digest(kind, path, name)}.lock")
    guarded = Path(os.path.realpath(path))
    guarded.parent.mkdir(parents=True, exist_ok=True)
    return guarded.with_name(f".workflow-{_digest(kind, guarded.name, name)}.lock")


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _locked(path: Path, wait: Wait) -> int:
    """The file descriptor of the lock file at `path`, once it is locked by this process."""
    while True:
        lock = _open_lock(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(path, lock):
                return lock
            os.close(lock)  # whoever held it has removed it meanwhile
        except BlockingIOError:
            os.close(lock)
            wait.go_on(lambda: lock_holder(path))
        except BaseException:
            os.close(lock)
            raise


def _open_lock(path: Path) -> int:
    """Open the lock file, or make it: for every user who can get there, as they wait for each other."""
    deadline = time.monotonic() + MODE_SECONDS
    while True:
        try:
            return _open_existing(path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):  # another process was quicker
                lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                os.fchmod(lock, LOCK_MODE)
                return lock
        except PermissionError:  # another user made it just now, and has not set its mode yet
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_SECONDS)


def _open_existing(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)  # a lock on NFS needs a file that is open for writing
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _is_at(path: Path, file: int) -> bool:
    """Whether `path` names the open `file` still."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False
