"""A session on Spark: on the server of this workflow, on one of this process's own, or at SPARK_REMOTE.

A session fails when its JVM ends, and when the server or an object store has been silent for too long.
"""

import contextlib
import os
import sys
import threading
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import grpc
from pyspark.errors import PySparkException
from pyspark.errors.exceptions.connect import SparkConnectGrpcException
from pyspark.sql import SparkSession
from pyspark.sql.connect.client import DefaultChannelBuilder
from pyspark.sql.connect.client.retries import DefaultPolicy
from pyspark.sql.connect.proto import AnalyzePlanRequest, SparkConnectServiceStub, UserContext
from pyspark.sql.connect.session import SparkSession as ConnectSession
from pyspark.sql.connect.shell.progress import StageInfo

from steps.core.errors import SparkUnavailable
from steps.core.process import interruption, processes, progress, waiting
from steps.core.spark import connect_server
from steps.core.storage import filesystem, s3

FIRST_QUERY_LIMITS = 5  # times waiting.limit_seconds(): on a busy cluster a query is queued
RETRY_SECONDS = 1  # the longest pause before a client that lost its connection tries again
CONNECT_RETRIES = 5
TASKS = ("num_completed_tasks", "num_tasks")  # Spark's names


@contextlib.contextmanager
def spark_session(*paths: str, data_bytes: int | None) -> Iterator[SparkSession]:
    """A session on the server that is there, else on one of this process's own (see connect_server.serve()).

    SparkUnavailable if there is none, and in the middle of the block if its JVM ends or it has been silent for
    waiting.limit_seconds(). ObjectStoreUnavailable if the object store of `paths` has been.
    """
    with connect_server.serve(*paths, data_bytes=data_bytes):
        channel = _channel()
        with _watched(channel, paths) as watch:
            try:
                with _shown_tasks(connect(channel, watch)) as session:
                    yield session
            except interruption.Interrupted:
                close_session(retry=False)
                raise
            except Exception as err:
                if failure := watch.cause():
                    channel.close()  # ends all other requests
                    raise failure from err
                raise
            finally:
                close_session()


class Channel(DefaultChannelBuilder):
    """How one session reaches its server. close() ends every request that waits for an answer."""

    def __init__(self, remote: str) -> None:
        super().__init__(remote)
        self.address = _without_token(remote)
        self.set(self.PARAM_SESSION_ID, self.getDefault(self.PARAM_SESSION_ID, str(uuid.uuid4())))
        self.set(self.PARAM_USER_ID, self.getDefault(self.PARAM_USER_ID, processes.user()))

    def toChannel(self) -> grpc.Channel:
        """Open the connection, as PySpark asks for it."""
        self._connection = super().toChannel()
        return self._connection

    def close(self) -> None:
        self._connection.close()

    def unavailability(self) -> str:
        """Why the server does not answer now, "" if it does. A refusal is an answer."""
        request = AnalyzePlanRequest(
            session_id=self.get(self.PARAM_SESSION_ID),
            user_context=UserContext(user_id=self.get(self.PARAM_USER_ID)),
            spark_version=AnalyzePlanRequest.SparkVersion(),
        )
        try:
            stub = SparkConnectServiceStub(self._connection)
            stub.AnalyzePlan(request, timeout=waiting.PROBE_SECONDS, metadata=self.metadata())
        except grpc.RpcError as err:
            is_silent = err.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            return "it does not answer" if is_silent else ""
        except (ValueError, AttributeError):  # closed, or not open yet
            pass
        return ""


def connect(channel: Channel, watch: waiting.Watch | None = None) -> SparkSession:
    """Begin the session of `channel`. With a watch, a cluster at SPARK_REMOTE has to run a query first."""
    # The client warns that it gives up, and raises an error too.
    warnings.filterwarnings("ignore", message=r"\[RETRIES_EXCEEDED\]", category=UserWarning)
    try:
        # PySpark's functions look at this variable, which its builder sets only without a channel.
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"
        session: SparkSession = ConnectSession.builder.channelBuilder(channel).create()  # type: ignore[assignment]
        session.client.set_retry_policies([_retries(CONNECT_RETRIES)])
        session.conf.set("spark.sql.session.timeZone", "UTC")
        session.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")  # as Delta keeps timestamps
        if watch and os.environ.get("SPARK_REMOTE"):
            _run_first_query(session, channel, watch)
    except (PySparkException, ValueError) as err:
        if isinstance(err, SparkConnectGrpcException) and err.getGrpcStatusCode() == grpc.StatusCode.UNAUTHENTICATED:
            raise SparkUnavailable(
                f"{channel.address} refuses {'this token' if channel.token else 'a client without a token'}",
                next="set SPARK_REMOTE=sc://host:port/;token=..., with the token that the server was started with",
            ) from err
        raise _unavailable(channel, "it does not answer") from err
    session.client.set_retry_policies([_retries(waiting.limit_seconds() // RETRY_SECONDS)])
    return session


@contextlib.contextmanager
def _shown_tasks(session: SparkSession) -> Iterator[SparkSession]:
    """A block in which the user sees how many tasks of a query are done, as Spark itself says every two seconds."""
    with progress.shown() as shown:

        def count_tasks(stages: Iterable[StageInfo] | None, *, done: bool, **_: object) -> None:
            if found := list(stages or []):
                completed, total = (sum(getattr(stage, name) for stage in found) for name in TASKS)
                is_whole = done and sys.exception() is None  # the last tasks are not told of one by one
                shown.set("tasks", total if is_whole else completed, total=total)

        session.client.register_progress_handler(count_tasks)  # type: ignore[arg-type]  # its type is a class
        yield session


def close_session(*, retry: bool = True) -> None:
    """Close the session, if there is one, and cancel its queries. Without `retry`, the server may be gone.

    Even one that was interrupted while it began: MLflow asks an active session for settings.
    """
    if session := SparkSession.getActiveSession():
        if not retry:
            session.client.set_retry_policies([])
        session.stop()


def _channel() -> Channel:
    if remote := os.environ.get("SPARK_REMOTE", ""):
        try:
            return Channel(remote)
        except (PySparkException, ValueError) as err:  # whose text may hold a token
            reason = f"SPARK_REMOTE={_without_token(remote)} is no address of a Spark Connect server"
            raise SparkUnavailable(reason, next="set it as sc://host:port or sc://host:port/;token=...") from err
    return Channel(connect_server.wait_for_address(Path(os.environ[connect_server.FOLDER_VARIABLE])))


def _without_token(remote: str) -> str:
    return remote.partition(";")[0].rstrip("/")


def _watched(channel: Channel, paths: Sequence[str]) -> waiting.Watch:
    """Close `channel` when Spark or the object store of `paths` is gone."""
    stores = {path.split("/")[2]: s3.service(path) for path in paths if filesystem.is_remote(path)}
    folder = os.environ.get(connect_server.FOLDER_VARIABLE, "")
    return waiting.Watch(
        waiting.Service(
            name=f"Spark at {channel.address}",
            unavailability=channel.unavailability,
            error=lambda reason: _unavailable(channel, reason),
        ),
        *stores.values(),
        fatal=lambda: connect_server.read_failure(Path(folder)) if folder else None,
        on_failure=lambda failure: channel.close(),
    )


def _unavailable(channel: Channel, reason: str) -> SparkUnavailable:
    next = "start the server, or unset SPARK_REMOTE to use a Spark of this process's own"
    return SparkUnavailable(f"{channel.address}: {reason}", next=next)


def _retries(times: int) -> DefaultPolicy:
    """Spark's own policy would try for more than ten minutes; the watch waits no longer than the limit."""
    return DefaultPolicy(max_retries=times, max_backoff=1000 * RETRY_SECONDS)


def _run_first_query(session: SparkSession, channel: Channel, watch: waiting.Watch) -> None:
    """Fail if no query runs: a server whose master or workers are gone answers, but every query waits without end."""
    limit_seconds = FIRST_QUERY_LIMITS * waiting.limit_seconds()
    failure = _unavailable(channel, f"it answers, but has run no query for {limit_seconds} s: it has no free worker")
    timer = threading.Timer(limit_seconds, watch.fail, [failure])
    timer.daemon = True
    timer.start()
    try:
        with waiting.announced(
            f"Spark at {channel.address}: it answers, but does not run a query yet (has it free workers?)"
        ):
            session.range(0, 1, 1, 1).collect()
    finally:
        timer.cancel()
