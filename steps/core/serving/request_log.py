"""The record of what a server was asked and what it answered, kept in a table without slowing the answers.

add() puts rows into a spool on this machine's disk, and one thread brings them from there into the table. So nothing
of what was added is lost when the process ends, also by SIGKILL: what is not in the table yet is in the spool, and the
next server with the same spool writes it. A machine that loses its power loses what was added in its last second or
two (SYNC_SECONDS). Where the spool is full, rows are dropped, counted and told.
"""

import atexit
import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from deltalake.exceptions import DeltaError

from steps.core.errors import DiskUnusable, TableUnfit, UserError
from steps.core.redaction import redacted
from steps.core.serving import request_table
from steps.core.serving.spool import Batch, Spool
from steps.core.tables.location import TableUri
from steps.core.tables.snapshot import Snapshot

logger = logging.getLogger(__name__)

BATCH_SECONDS = 60.0  # after which rows are written to the table; each batch is a version and a file of it
BATCH_BYTES = 32 * 2**20  # of a spool's file, after which rows are written earlier; what is in memory at once
SPOOL_BYTES = 2**30  # of each process: at 1 kB for a request of one row, a million requests
COMPACT_EVERY = 64  # versions, of which the writer of one puts the small files together
SYNC_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0  # between two attempts at a table that cannot be written
CLOSE_SECONDS = 5.0
TRANSIENT = (UserError, OSError, DeltaError, MemoryError)  # errors that may be over at the next attempt


class RequestLog:
    """Takes rows by add() until close(). It may be used from several threads."""

    def __init__(
        self,
        table: TableUri,
        spool: Path,
        *,
        batch_seconds: float = BATCH_SECONDS,
        batch_bytes: int = BATCH_BYTES,
        spool_bytes: int = SPOOL_BYTES,
    ) -> None:
        """`spool` is a folder of this machine, for all tables and processes; what others left there for this table is
        written first. DiskUnusable when it cannot be used."""
        self._table = table
        self._batch_seconds = batch_seconds
        try:
            self._spool = Spool(spool, table, batch_bytes=batch_bytes, limit_bytes=spool_bytes)
        except OSError as err:
            raise DiskUnusable(f"the spool of requests at {spool}", str(err)) from err
        self._lock = threading.Lock()
        self._rows = dict.fromkeys(("accepted", "written", "refused", "dropped"), 0)
        self._problem = ""  # why the table could not be written just now
        self._failures = 0  # attempts since it could
        self._next_attempt = 0.0
        self._version: int | None = None
        self._written_at = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # a thread that is at work in delta-rs while Python ends would crash it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, rows: pa.Table) -> None:
        """Keep rows, which have all columns of the table. It takes a write to a local file, whatever the lake does.

        Where the spool does not take them they are dropped; state() says how many were.
        """
        if not len(rows):
            return
        try:
            self._spool.append(rows)
        except OSError as err:
            self.drop(len(rows), str(err))
        else:
            self._count(accepted=len(rows))

    def close(self, wait_seconds: float = CLOSE_SECONDS) -> None:
        """Write what was added, or leave it in the spool where that takes longer."""
        atexit.unregister(self.close)
        self._stopping.set()
        self._thread.join(wait_seconds)
        if self._thread.is_alive() or self._problem:
            waiting = self.state()["spool_bytes"]
            logger.warning("%d bytes of the request log stay in its spool, and the next server writes them", waiting)

    def state(self) -> dict[str, Any]:
        """How it goes, for people and for JSON: `status` is ok, or away where the table cannot be written now, with
        the `problem`. Rows are of this process: accepted, written (also those that another left), refused by the table
        for their columns, and dropped. `spool_bytes` are on disk, in the folder `spool`, and in no table."""
        with self._lock:
            return {
                "status": "away" if self._problem else "ok",
                "problem": self._problem,
                "table": self._table.path,
                "version": self._version,
                "written_at": self._written_at,
                **{f"{what}_rows": count for what, count in self._rows.items()},
                "spool": str(self._spool.home),
                "spool_bytes": self._spool.size_bytes,
            }

    def _run(self) -> None:
        while not self._stopping.wait(SYNC_SECONDS):
            self._sync()
            if time.monotonic() >= self._next_attempt:
                self._write(is_due=self._spool.age_seconds() >= self._batch_seconds)
        self._spool.seal()
        self._write(is_due=False)
        self._spool.close()

    def _sync(self) -> None:
        try:
            self._spool.sync()
        except OSError as err:
            logger.error("the disk does not keep the spool of requests: %s", err)

    def _write(self, *, is_due: bool) -> None:
        """Bring batches into the table until one fails. Rows become a new one when they are due and none waits: where
        the table is away, one file grows and not their number."""
        if is_due and not self._spool.batches():
            self._spool.seal()
        for batch in self._spool.batches():
            try:
                table = self._write_batch(batch)
            except Exception as err:  # whatever it is: the rows stay where they are, and this thread is their only way
                self._fail(err)
                return
            self._recover()
            is_turn = table and table.version % COMPACT_EVERY == COMPACT_EVERY - 1  # one of several writers gets it
            if is_turn and not self._stopping.is_set():
                self._compact()

    def _write_batch(self, batch: Batch) -> Snapshot | None:
        """The version that has its rows; None where they are in none."""
        try:
            rows = batch.read()
        except FileNotFoundError:
            logger.error("%s is gone, with rows that were in no table yet", batch.path)
            rows = None
        if rows is None:
            self._spool.remove(batch)
            return None
        try:
            table = request_table.append(self._table, rows, writer=batch.writer, number=batch.number)
        except Exception as err:  # of delta-rs and Arrow too, for rows that they do not take
            if not self._is_refused(batch, err):
                raise
            path, unexpected = self._spool.refuse(batch), None if isinstance(err, TableUnfit) else err
            logger.error("%d rows of requests wait in %s: %s", len(rows), path, err, exc_info=unexpected)
            self._count(refused=len(rows))
            return None
        self._spool.remove(batch)
        self._count(written=len(rows))
        with self._lock:
            self._version, self._written_at = table.version, datetime.now(UTC).isoformat(timespec="seconds")
        return table

    def _is_refused(self, batch: Batch, error: Exception) -> bool:
        """Whether the table is there and does not take these rows, of which it has none, so that it will not later."""
        if isinstance(error, TableUnfit):
            return True
        return not isinstance(error, TRANSIENT) and not request_table.has(
            self._table, writer=batch.writer, number=batch.number
        )

    def _compact(self) -> None:
        try:
            request_table.compact(self._table)
        except Exception as err:  # all rows are in the table, and there will be a next time
            logger.warning("the small files of %s could not be put together: %s", self._table.path, err)

    def _fail(self, error: Exception) -> None:
        reason = redacted(str(error).partition("\n")[0]) or type(error).__name__
        if not self._failures:
            logger.warning(
                "requests cannot be written to %s, and wait in %s until they can: %s",
                self._table.path,
                self._spool.home,
                reason,
                exc_info=None if isinstance(error, TRANSIENT) else error,
            )
        with self._lock:
            self._problem = reason
        self._failures += 1
        self._next_attempt = time.monotonic() + min(LONGEST_PAUSE_SECONDS, 2.0**self._failures)

    def _recover(self) -> None:
        if not self._failures:
            return
        logger.warning("requests are written to %s again, after %d attempts", self._table.path, self._failures)
        with self._lock:
            self._problem = ""
        self._failures = 0

    def drop(self, rows: int, reason: str) -> None:
        """Count rows that are not kept. The log says so of the first, the tenth, the hundredth and so on: it may not
        fill."""
        with self._lock:
            before = self._rows["dropped"]
            self._rows["dropped"] = dropped = before + rows
        if len(str(dropped)) > len(str(before or "")):
            logger.error("%d rows so far were not kept in the request log: %s", dropped, reason)

    def _count(self, **rows: int) -> None:
        with self._lock:
            for what, count in rows.items():
                self._rows[what] += count
