"""One writer of a table at s3:// at a time, on whatever machine: a lease, kept as an object beside the tables.

Delta's commit to an object store is two requests, a look and a put: of two writers that commit in the same moment one
replaces the other's commit, and both are told that theirs is done. So there is one writer at a time. A lease is taken,
renewed and given back by conditional puts, and no clock is compared with another machine's.
"""

import contextlib
import json
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

from steps.core import lifetime, machine, object_store
from steps.core.errors import LeaseLost, ObjectStoreUnavailable, TableBusy

FOLDER = "_leases"  # beside the tables; a name that Spark and Delta pass over
RENEW_SECONDS = 5
STALE_SECONDS = 30  # unrenewed for so long, as seen by whoever waits, it is taken over
ENDED_SECONDS = lifetime.GRACE_SECONDS + 2  # the same where its process has ended: by then its JVM has, too
LOOK_SECONDS = 0.2
WAIT_MINUTES = 60
CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey")  # S3's codes


@contextlib.contextmanager
def held(table: str, *, run_id: str) -> Iterator[None]:
    """In this block the calling process is the one writer of the table at an s3:// URI; others are told of its run.

    Waits for another, and says for whom; TableBusy after WAIT_MINUTES. A lease that is not renewed is taken over after
    STALE_SECONDS, or ENDED_SECONDS where its process has ended on this machine. LeaseLost at the end when that happened
    to this one. A block that is interrupted leaves it to others to take over: its Spark may still be writing.
    """
    lease = _Lease(table, f"{machine.user()}@{socket.gethostname()}, run {run_id[:8]}")
    lease.take()
    try:
        yield
    except Exception:
        lease.give_back()
        raise
    except BaseException:
        lease.abandon()
        raise
    if not lease.give_back():
        raise LeaseLost(table, seconds=STALE_SECONDS)


class _Found(NamedTuple):
    """A lease as it lies there; `writer` is "" when it was given back."""

    etag: str
    lease_id: str
    writer: str
    process: str


class _Lease:
    def __init__(self, table: str, writer: str) -> None:
        self._table = table
        self._writer = writer
        lake, _, name = table.rpartition("/")
        self._bucket, self._key = object_store.locate(f"{lake}/{FOLDER}/{name}")
        self._id = uuid.uuid4().hex
        self._renewals = 0
        self._etag = ""  # of the object while it is ours
        self._put_at = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> None:
        seen, since, told = "", 0.0, ""
        deadline = time.monotonic() + 60 * WAIT_MINUTES
        while not self._etag:
            found, now = self._read(), time.monotonic()
            if found is None:
                self._etag = self._put(IfNoneMatch="*")
                continue
            if found.etag != seen:
                seen, since = found.etag, now
            ended = lifetime.has_ended(found.process)
            if self._is_free(found) or now - since > (ENDED_SECONDS if ended else STALE_SECONDS):
                self._etag = self._put(IfMatch=found.etag)
                continue
            if told != found.writer:
                told = found.writer
                print(f"waiting for {told}, which writes {self._table}", file=sys.stderr, flush=True)
            if now > deadline:
                raise TableBusy(self._table, found.writer, minutes=WAIT_MINUTES)
            time.sleep(LOOK_SECONDS)
        if self._put(IfNoneMatch="*"):
            reason = "it ignores the conditions of puts, without which two writers lose each other's commits"
            raise ObjectStoreUnavailable(self._table, object_store.endpoint(), reason)
        self._thread.start()

    def give_back(self) -> bool:
        """Whether it was ours to the end; where the store does not tell, whether nobody could take it over yet."""
        self.abandon()
        try:
            while self._etag and not self._put(IfMatch=self._etag, writer=""):
                self._etag = self._etag_if_ours()  # by a put whose answer was lost
        except ObjectStoreUnavailable:  # it goes stale
            return time.monotonic() - self._put_at < STALE_SECONDS
        return bool(self._etag)

    def abandon(self) -> None:
        """Renew it no more."""
        self._ended.set()
        self._thread.join()

    def _is_free(self, found: _Found) -> bool:
        """Given back, or ours by a put whose answer was lost."""
        return not found.writer or found.lease_id == self._id

    def _keep(self) -> None:
        """Renew it until it is given back, or is another's."""
        while self._etag and not self._ended.wait(RENEW_SECONDS):
            with contextlib.suppress(ObjectStoreUnavailable):  # tried again soon, and told by the write itself
                self._etag = self._put(IfMatch=self._etag) or self._etag_if_ours()

    def _etag_if_ours(self) -> str:
        found = self._read()
        return found.etag if found and found.lease_id == self._id else ""

    def _read(self) -> _Found | None:
        answer = self._ask("get_object")
        if answer is None:
            return None
        try:
            said = json.loads(answer["Body"])
            return _Found(answer["ETag"], said["lease_id"], said["writer"], said["process"])
        except (ValueError, TypeError, KeyError):  # of another make
            return _Found(answer["ETag"], "", "an unknown writer", "")

    def _put(self, *, writer: str | None = None, **condition: str) -> str:
        """The new ETag, "" when the condition does not hold."""
        began = time.monotonic()
        self._renewals += 1  # so that no two contents, and no two ETags, are the same
        said = {"lease_id": self._id, "writer": self._writer if writer is None else writer}
        said |= {"process": lifetime.this_process(), "renewals": str(self._renewals)}
        answer = self._ask("put_object", Body=json.dumps(said).encode(), **condition)
        if answer:
            self._put_at = began
        return answer["ETag"] if answer else ""

    def _ask(self, what: str, **given: Any) -> dict[str, Any] | None:
        """The store's answer, its body read; None when a condition does not hold or there is no such object."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(object_store.client(), what)(Bucket=self._bucket, Key=self._key, **given)
            return answer | ({"Body": answer["Body"].read()} if "Body" in answer else {})
        except (ClientError, BotoCoreError) as err:
            if object_store.code(err) in CONDITION_FAILED:
                return None
            raise ObjectStoreUnavailable(self._table, object_store.endpoint(), object_store.reason(err)) from err
