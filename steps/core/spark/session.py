"""A session on Spark: on the server of this workflow, on one of this process's own, or at SPARK_REMOTE.

A session ends when its JVM does, and when the server or an object store has been silent for too long.
"""

import contextlib
import os
import threading
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.errors.exceptions.connect import SparkConnectGrpcException
from pyspark.sql import SparkSession
from pyspark.sql.connect.client import DefaultChannelBuilder
from pyspark.sql.connect.client.retries import DefaultPolicy
from pyspark.sql.connect.proto import AnalyzePlanRequest, SparkConnectServiceStub, UserContext
from pyspark.sql.connect.session import SparkSession as ConnectSession

from steps.core.errors import SparkUnavailable
from steps.core.process import interruption, processes, waiting
from steps.core.spark import server
from steps.core.storage import filesystem, s3

FIRST_QUERY_LIMITS = 5  # times waiting.limit_seconds(): a busy cluster lets a query queue
RETRY_SECONDS = 1  # the longest pause before a client that lost its connection tries again


@contextlib.contextmanager
def spark_session(*paths: str, data_bytes: int | None) -> Iterator[SparkSession]:
    """A session on the server at hand, else on one of this process's own. SparkUnavailable says why not.

    Also in the middle of the block: for a JVM that has ended, or a server that has been silent for
    waiting.limit_seconds(). ObjectStoreUnavailable for a store of `paths` that has.
    """
    with server.serve(*paths, data_bytes=data_bytes):
        channel = _channel_at_hand()
        with _watched(channel, paths) as watch:
            try:
                yield connect(channel, watch)
            except interruption.Interrupted:
                close_session(server_may_be_gone=True)
                raise
            except Exception as err:
                if failure := watch.cause():
                    channel.close()  # so that nothing more waits for it
                    raise failure from err
                raise
            finally:
                close_session()


def close_session(*, server_may_be_gone: bool = False) -> None:
    """End the session, if there is one, and what the server does for it.

    Also one that was interrupted while it began: MLflow asks an active session for settings.
    """
    if connection := SparkSession.getActiveSession():
        if server_may_be_gone:
            connection.client.set_retry_policies([])
        connection.stop()


class Channel(DefaultChannelBuilder):
    """The way to a server, for one session; `grpc` is the connection itself, by which a wait for it is ended."""

    def __init__(self, remote: str) -> None:
        super().__init__(remote)
        self.shown = _without_token(remote)
        self.set(self.PARAM_SESSION_ID, self.getDefault(self.PARAM_SESSION_ID, str(uuid.uuid4())))
        self.set(self.PARAM_USER_ID, self.getDefault(self.PARAM_USER_ID, processes.user()))

    def toChannel(self) -> grpc.Channel:
        self.grpc = super().toChannel()
        return self.grpc

    def close(self) -> None:
        """End what waits for an answer."""
        self.grpc.close()

    def silence(self) -> str:
        """Whether the server does not answer now, in words; "" when it does. A refusal is an answer."""
        request = AnalyzePlanRequest(
            session_id=self.get(self.PARAM_SESSION_ID),
            user_context=UserContext(user_id=self.get(self.PARAM_USER_ID)),
            spark_version=AnalyzePlanRequest.SparkVersion(),
        )
        try:
            server = SparkConnectServiceStub(self.grpc)
            server.AnalyzePlan(request, timeout=waiting.PROBE_SECONDS, metadata=self.metadata())
        except grpc.RpcError as err:
            silent = err.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            return "it does not answer" if silent else ""
        except (ValueError, AttributeError):  # closed, or not open yet
            pass
        return ""


def _channel_at_hand() -> Channel:
    if remote := os.environ.get("SPARK_REMOTE", ""):
        try:
            return Channel(remote)
        except (PySparkException, ValueError) as err:  # whose text may hold a token
            reason = f"SPARK_REMOTE={_without_token(remote)} is no address of a Spark Connect server"
            raise SparkUnavailable(reason, next="set it as sc://host:port or sc://host:port/;token=...") from err
    return Channel(server.address_of(Path(os.environ[server.SERVER_FOLDER])))


def _without_token(remote: str) -> str:
    return remote.partition(";")[0].rstrip("/")


def _watched(channel: Channel, paths: Sequence[str]) -> waiting.Watch:
    """End the session of `channel` when what its work needs is gone."""
    stores = {path.split("/")[2]: s3.service(path) for path in paths if filesystem.is_remote(path)}
    folder = os.environ.get(server.SERVER_FOLDER, "")
    return waiting.Watch(
        waiting.Service(
            name=f"Spark at {channel.shown}",
            unavailability=channel.silence,
            error=lambda reason: _unavailable(channel, reason),
        ),
        *stores.values(),
        fatal=lambda: server.failure_of(Path(folder)) if folder else None,
        on_failure=lambda failure: channel.close(),
    )


def _unavailable(channel: Channel, reason: str) -> SparkUnavailable:
    next = "start the server, or unset SPARK_REMOTE to use a Spark of this process's own"
    return SparkUnavailable(f"{channel.shown}: {reason}", next=next)


def connect(channel: Channel, watch: waiting.Watch | None = None) -> SparkSession:
    # What a client says that gives up, beside the error that it raises.
    warnings.filterwarnings("ignore", message=r"\[RETRIES_EXCEEDED\]", category=UserWarning)
    try:
        os.environ["SPARK_CONNECT_MODE_ENABLED"] = "1"  # as the builder does that takes no channel; functions go by it
        connection: SparkSession = ConnectSession.builder.channelBuilder(channel).create()  # type: ignore[assignment]
        connection.client.set_retry_policies([_retries(5)])
        connection.conf.set("spark.sql.session.timeZone", "UTC")
        connection.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")  # Delta's own timestamps
        if watch and os.environ.get("SPARK_REMOTE"):
            _run_a_query(connection, channel, watch)
    except (PySparkException, ValueError) as err:
        if isinstance(err, SparkConnectGrpcException) and err.getGrpcStatusCode() == grpc.StatusCode.UNAUTHENTICATED:
            raise SparkUnavailable(
                f"{channel.shown} refuses {'this token' if channel.token else 'a client without a token'}",
                next="set SPARK_REMOTE=sc://host:port/;token=..., with the token that the server was started with",
            ) from err
        raise _unavailable(channel, "it does not answer") from err
    connection.client.set_retry_policies([_retries(waiting.limit_seconds() // RETRY_SECONDS)])
    return connection


def _retries(times: int) -> DefaultPolicy:
    """Spark's own would try for more than ten minutes. Longer than these the watch does not wait."""
    return DefaultPolicy(max_retries=times, max_backoff=1000 * RETRY_SECONDS)


def _run_a_query(connection: SparkSession, channel: Channel, watch: waiting.Watch) -> None:
    """A server whose master or workers are gone answers, and lets every query wait without end."""
    limit_seconds = FIRST_QUERY_LIMITS * waiting.limit_seconds()
    failure = _unavailable(channel, f"it answers, but has run no query for {limit_seconds} s: it has no free worker")
    timer = threading.Timer(limit_seconds, watch.fail, [failure])
    timer.daemon = True
    timer.start()
    try:
        with waiting.announced(
            f"Spark at {channel.shown}: it answers, but does not run a query yet (has it free workers?)"
        ):
            connection.range(0, 1, 1, 1).collect()
    finally:
        timer.cancel()
