"""Rows that wait on this machine's disk until they are in a table.

Each writer has a folder of its own below that of the table, locked while its process lives. Rows are appended to a
file there (Arrow's stream format: a schema, then one message for each append). A file that is sealed is a batch: it
never changes, so the writer's id and the file's number tell whether it is in the table, also in another process. A
folder whose writer has ended is taken over by the next one that starts.

What append() took outlives this process however it ends, as the kernel has it by then. After sync() it outlives the
machine.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from steps.core.process import locks
from steps.core.tables.location import TableUri

logger = logging.getLogger(__name__)

FOLDER = "WORKFLOW_SPOOL"  # environment variable
OWNED = ".owned"  # a file in a writer's folder, locked by its process
REFUSED = "refused"  # the folder of batches that the table did not take
ENDING = ".arrows"
PRIVATE = 0o600  # requests may tell of persons


def default_folder() -> Path:
    """WORKFLOW_SPOOL, else a folder of this user's that a restart of the machine does not empty."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(os.environ.get(FOLDER) or Path(state, "tabular-workflow", "requests"))


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows that are committed together, in a file that does not change. `number` counts the batches of `writer`."""

    path: Path
    writer: str
    number: int
    size_bytes: int

    def read(self) -> pa.Table | None:
        """All rows that were written whole; None where there are none. FileNotFoundError when the file is gone."""
        content = pa.BufferReader(self.path.read_bytes())
        rows: list[pa.RecordBatch] = []
        try:
            for batch in pa.ipc.open_stream(content):
                rows.append(batch)
        except (pa.ArrowInvalid, OSError) as err:  # what a machine that lost its power has left
            logger.warning("%s ends in rows that were not written whole: %s", self.path, err)
        return pa.Table.from_batches(rows).combine_chunks() if rows else None


class Spool:
    """The rows of one writer, and of those before it that have ended. Several threads may use it; sync() is for one."""

    def __init__(self, folder: Path, table: TableUri, *, batch_bytes: int, limit_bytes: int) -> None:
        """`folder` is that of all tables. OSError when it cannot be used."""
        self.writer = uuid.uuid4().hex
        self.home = folder / f"{table.name}-{hashlib.sha256(table.path.encode()).hexdigest()[:12]}"
        self._folder = self.home / self.writer
        self._batch_bytes, self._limit_bytes = batch_bytes, limit_bytes
        self._lock = threading.Lock()
        self._waiting: list[Batch] = []
        self._owned: dict[Path, int] = {}  # folders of writers, and the descriptors of their locks
        self._number = 0
        self._file = -1  # the descriptor of the file that is appended to; -1 for none
        self._file_bytes = 0
        self._opened_at = 0.0
        self._schema: pa.Schema | None = None
        self._to_sync: set[int] = set()
        self._to_close: set[int] = set()
        self.size_bytes = 0
        self.home.mkdir(parents=True, exist_ok=True)
        with locks.exclusive_lock("the spool", str(self.home)):
            self._take_over()
            self._folder.mkdir(mode=0o700)
            self._own(self._folder)
            self._take_refused()

    def append(self, rows: pa.Table) -> None:
        """Add rows, all or none. OSError when the disk does not take them, or the limit does not."""
        schema = rows.schema.remove_metadata()
        message = b"".join(batch.serialize().to_pybytes() for batch in rows.combine_chunks().to_batches())
        with self._lock:
            if self.size_bytes + len(message) > self._limit_bytes:
                raise OSError(errno.ENOSPC, f"the spool {self.home} has reached its {self._limit_bytes:,} bytes")
            if self._file < 0 or schema != self._schema:
                self._begin(schema)
            self._write(message)
            if self._file_bytes >= self._batch_bytes:
                self._seal()

    def seal(self) -> None:
        """Make a batch of the rows since the last one, where there are any."""
        with self._lock:
            self._seal()

    def batches(self) -> list[Batch]:
        """What is to be committed, in this order."""
        with self._lock:
            return list(self._waiting)

    def age_seconds(self) -> float:
        """Since when the oldest row that is in no batch is here; 0 for none."""
        with self._lock:
            return time.monotonic() - self._opened_at if self._file >= 0 else 0.0

    def sync(self) -> None:
        """Have the disk keep what was appended so far."""
        with self._lock:
            to_sync, to_close = self._to_sync, self._to_close
            self._to_sync, self._to_close = set(), set()
        try:
            for file in to_sync:
                os.fsync(file)
            if to_sync:
                self._sync_names()
        finally:
            for file in to_close:
                os.close(file)

    def remove(self, batch: Batch) -> None:
        """Forget a batch that the table has."""
        batch.path.unlink(missing_ok=True)
        self._forget(batch)
        if batch.path.parent != self._folder:
            self._release_if_empty(batch.path.parent)

    def refuse(self, batch: Batch) -> Path:
        """Lay a batch aside that the table does not take, until the next writer tries again; where it is then.

        It goes on counting for the limit.
        """
        folder = self.home / REFUSED
        folder.mkdir(mode=0o700, exist_ok=True)
        kept = batch.path.rename(folder / f"{batch.writer}-{batch.number:08}{ENDING}")
        with self._lock:
            self._waiting.remove(batch)
        return kept

    def close(self) -> None:
        """Let the next writer have what is in no table."""
        self.seal()
        self.sync()
        for folder in list(self._owned):
            self._release_if_empty(folder)
        for lock in self._owned.values():
            os.close(lock)
        self._owned.clear()

    def _begin(self, schema: pa.Schema) -> None:
        self._seal()
        path = self._path(self._number + 1)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, PRIVATE)
        self._number += 1
        self._file_bytes, self._schema, self._opened_at = 0, schema, time.monotonic()
        self._write(schema.serialize().to_pybytes())

    def _write(self, content: bytes) -> None:
        """All of it, or nothing after it: rows behind a torn message could not be read."""
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._file_bytes)
            self._seal()
            raise
        self._file_bytes += len(content)
        self.size_bytes += len(content)
        self._to_sync.add(self._file)

    def _seal(self) -> None:
        if self._file < 0:
            return
        path = self._path(self._number)
        self._waiting.append(Batch(path=path, writer=self.writer, number=self._number, size_bytes=self._file_bytes))
        self._to_close.add(self._file)
        self._file = -1

    def _sync_names(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}{ENDING}"

    def _forget(self, batch: Batch) -> None:
        with self._lock:
            self._waiting.remove(batch)
            self.size_bytes -= batch.size_bytes

    def _take_over(self) -> None:
        """The batches of writers that have ended."""
        for owned in sorted(self.home.glob(f"*/{OWNED}")):
            folder = owned.parent
            if self._own(folder):
                for path in sorted(folder.glob(f"*{ENDING}")):
                    self._add(
                        Batch(path=path, writer=folder.name, number=int(path.stem), size_bytes=path.stat().st_size)
                    )
                self._release_if_empty(folder)

    def _take_refused(self) -> None:
        """As batches of this writer: numbers before those that the table has of another would pass for known."""
        for path in sorted((self.home / REFUSED).glob(f"*{ENDING}")):
            self._number += 1
            size_bytes = path.stat().st_size
            moved = path.rename(self._path(self._number))
            self._add(Batch(path=moved, writer=self.writer, number=self._number, size_bytes=size_bytes))

    def _add(self, batch: Batch) -> None:
        self._waiting.append(batch)
        self.size_bytes += batch.size_bytes

    def _own(self, folder: Path) -> bool:
        """Whether the folder's lock is this process's now; not where its writer lives, or has just removed it."""
        try:
            lock = os.open(folder / OWNED, os.O_RDWR | os.O_CREAT, PRIVATE)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self._owned[folder] = lock
        return True

    def _release_if_empty(self, folder: Path) -> None:
        if not any(batch.path.parent == folder for batch in self.batches()):
            shutil.rmtree(folder, ignore_errors=True)
            os.close(self._owned.pop(folder))
