"""One Spark for a whole workflow: a JVM of our own that serves Spark Connect, or the server that SPARK_REMOTE names.

The driver serves; its children find the server through a private folder whose path they inherit, so that they can
start while the JVM does. A step that runs alone serves itself. The JVM reads its standard input and ends when that
closes, so it is gone when the process that started it is, however that ended. That process watches the JVM too, and
says in the folder why it ended; a session ends by that, and by a server or an object store that has gone silent.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pyspark
from pyspark.conf import SparkConf
from pyspark.errors import PySparkException
from pyspark.errors.exceptions.connect import SparkConnectGrpcException
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession
from pyspark.sql.connect.client import DefaultChannelBuilder
from pyspark.sql.connect.client.retries import DefaultPolicy
from pyspark.sql.connect.proto import AnalyzePlanRequest, SparkConnectServiceStub, UserContext
from pyspark.sql.connect.session import SparkSession as ConnectSession

from steps.core import jars, java, lifetime, machine, object_store, storage, waiting
from steps.core.config import PROJECT
from steps.core.errors import SettingInvalid, SparkUnavailable, UserError

MEETING_PLACE = "WORKFLOW_SPARK"  # environment variable: the folder in which the server says where it listens
# Environment variables that set a machine's own Spark or Hadoop, not ours: a bare path must stay on this disk, and no
# setting that is in no key may change a result. SPARK_REMOTE is empty where a server is started.
SETTINGS_OF_OTHERS = ("PYSPARK_SUBMIT_ARGS", "SPARK_REMOTE", "SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR")
TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"  # environment variable that Spark Connect's server reads
SMALL_BYTES = 256 * 2**20  # below it a job ends before the optimizing compiler pays: benchmarks/RESULTS.md
# One task where Spark and Delta plan for many: small data is done sooner, and in one file.
FOR_FEW_ROWS = {
    "spark.sql.leafNodeDefaultParallelism": "1",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
MEMORY = "SPARK_DRIVER_MEMORY"  # environment variable, Spark's own
START_SECONDS = 180  # with the jars downloaded on the way
STOP_SECONDS = 5  # for the thread that serves; it may hang on another process's download
FIRST_QUERY_LIMITS = 5  # times waiting.limit_seconds(): a busy cluster lets a query queue
RETRY_SECONDS = 1  # the longest pause before a client that lost its connection tries again


@contextlib.contextmanager
def serve(*paths: str, data_bytes: int | None) -> Iterator[None]:
    """Start Spark in the background for this process and its children; it ends with the block.

    `paths` are what it will read and write, `data_bytes` is the size of what will be processed, None when unknown.
    Returns at once: what goes wrong is told by session(). Does nothing where a server is there already.
    """
    if os.environ.get("SPARK_REMOTE") or os.environ.get(MEETING_PLACE):
        yield
        return
    java.check()
    heap_mebibytes()  # here, where a wrong setting can be told
    with machine.scratch("workflow-spark-") as folder:
        os.environ[MEETING_PLACE], os.environ[TOKEN] = str(folder), secrets.token_hex(16)
        small = data_bytes is not None and data_bytes < SMALL_BYTES
        server = _Server(folder, small=small, remote=any(map(storage.is_remote, paths)))
        try:
            server.start()
            yield
        finally:
            server.stop()
            del os.environ[MEETING_PLACE], os.environ[TOKEN]


@contextlib.contextmanager
def session(*paths: str, data_bytes: int | None) -> Iterator[SparkSession]:
    """A session on the server at hand, else on one of this process's own. SparkUnavailable says why not.

    Also in the middle of the block: for a JVM that has ended, or a server that has been silent for
    waiting.limit_seconds(). ObjectStoreUnavailable for a store of `paths` that has.
    """
    with serve(*paths, data_bytes=data_bytes):
        channel = _channel_at_hand()
        with _watched(channel, paths) as watch:
            try:
                yield _connect(channel, watch)
            except lifetime.Interrupted:
                hang_up(server_may_be_gone=True)
                raise
            except Exception as err:
                if failure := watch.why():
                    channel.close()  # so that nothing more waits for it
                    raise failure from err
                raise
            finally:
                hang_up()


def hang_up(*, server_may_be_gone: bool = False) -> None:
    """End the session, if there is one, and what the server does for it.

    Also one that was interrupted while it began: MLflow asks an active session for settings.
    """
    if connection := SparkSession.getActiveSession():
        if server_may_be_gone:
            connection.client.set_retry_policies([])
        connection.stop()


class _Channel(DefaultChannelBuilder):
    """The way to a server, for one session; `grpc` is the connection itself, by which a wait for it is ended."""

    def __init__(self, remote: str) -> None:
        super().__init__(remote)
        self.shown = _without_token(remote)
        self.set(self.PARAM_SESSION_ID, self.getDefault(self.PARAM_SESSION_ID, str(uuid.uuid4())))
        self.set(self.PARAM_USER_ID, self.getDefault(self.PARAM_USER_ID, machine.user()))

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


def _channel_at_hand() -> _Channel:
    if remote := os.environ.get("SPARK_REMOTE", ""):
        try:
            return _Channel(remote)
        except (PySparkException, ValueError) as err:  # whose text may hold a token
            reason = f"SPARK_REMOTE={_without_token(remote)} is no address of a Spark Connect server"
            raise SparkUnavailable(reason, next="set it as sc://host:port or sc://host:port/;token=...") from err
    return _Channel(_address(Path(os.environ[MEETING_PLACE])))


def _without_token(remote: str) -> str:
    return remote.partition(";")[0].rstrip("/")


def _watched(channel: _Channel, paths: Sequence[str]) -> waiting.Watch:
    """End the session of `channel` when what its work needs is gone."""
    stores = {path.split("/")[2]: object_store.service(path) for path in paths if storage.is_remote(path)}
    folder = os.environ.get(MEETING_PLACE, "")
    return waiting.Watch(
        waiting.Service(
            name=f"Spark at {channel.shown}",
            why_not=channel.silence,
            error=lambda reason: _unavailable(channel, reason),
        ),
        *stores.values(),
        fatal=lambda: _failure(Path(folder)) if folder else None,
        on_failure=lambda failure: channel.close(),
    )


def _unavailable(channel: _Channel, reason: str) -> SparkUnavailable:
    next = "start the server, or unset SPARK_REMOTE to use a Spark of this process's own"
    return SparkUnavailable(f"{channel.shown}: {reason}", next=next)


def _connect(channel: _Channel, watch: waiting.Watch | None = None) -> SparkSession:
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


def _run_a_query(connection: SparkSession, channel: _Channel, watch: waiting.Watch) -> None:
    """A server whose master or workers are gone answers, and lets every query wait without end."""
    limit_seconds = FIRST_QUERY_LIMITS * waiting.limit_seconds()
    failure = _unavailable(channel, f"it answers, but has run no query for {limit_seconds} s: it has no free worker")
    timer = threading.Timer(limit_seconds, watch.fail, [failure])
    timer.daemon = True
    timer.start()
    try:
        with waiting.told(f"Spark at {channel.shown}: it answers, but does not run a query yet (has it free workers?)"):
            connection.range(0, 1, 1, 1).collect()
    finally:
        timer.cancel()


def _address(folder: Path) -> str:
    """Wait until the server in our family has said where it listens, or why it cannot."""
    deadline = time.monotonic() + START_SECONDS
    with waiting.told("Spark to start"):
        while time.monotonic() < deadline:
            if failure := _failure(folder):
                raise failure
            if (folder / "port").exists():
                return f"sc://localhost:{(folder / 'port').read_text()}/;token={os.environ[TOKEN]}"
            time.sleep(0.05)
    raise SparkUnavailable(f"it did not start within {START_SECONDS} s", next=f"read {_keep_log(folder)}")


def _failure(folder: Path) -> SparkUnavailable | None:
    """What the process that serves has said in `folder` of a JVM that did not start, or has ended."""
    if not (folder / "failed").exists():
        return None
    reason, _, next = (folder / "failed").read_text().partition("\0")
    return SparkUnavailable(reason, next=next)


class _Server:
    """The JVM. `folder` takes its log, its scratch files and, when it is up, the file `port`."""

    def __init__(self, folder: Path, *, small: bool, remote: bool, archive_to: Path | None = None) -> None:
        self._folder = folder
        self._small = small
        self._remote = remote
        self._jars = jars.needed(remote=remote)
        self._archive_to = archive_to
        self._thread = threading.Thread(target=self._run, name="spark-server", daemon=True)
        self._stopped = threading.Event()
        self._kernel_kills = _kernel_kills()

    def start(self) -> None:
        # Here, not in the thread: a process that another thread starts meanwhile would see half an environment.
        # Workers must run this Python, and a SPARK_HOME of the machine's must not replace the pinned Spark.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        for name in SETTINGS_OF_OTHERS:
            os.environ.pop(name, None)
        self._thread.start()

    def stop(self) -> None:
        """End the JVM in whatever it does: also while it starts, or downloads its jars."""
        self._stopped.set()
        deadline = time.monotonic() + STOP_SECONDS
        while self._thread.is_alive() and (self._archive_to or time.monotonic() < deadline):
            if not self._archive_to:  # a JVM's own end takes half a second, and only the archive needs it
                lifetime.kill_children(working_in=self._folder)
            self._thread.join(0.05)

    def _run(self) -> None:
        try:
            with self._jars.first_download() as files:
                if self._stopped.is_set():
                    raise InterruptedError  # not a return, by which the jars would count as downloaded
                gateway = self._launch(files)
            self._use(gateway)
        except UserError as err:
            self._tell("failed", str(err))
        except Exception:  # whatever py4j raises: the children wait for one of the two files
            self._tell_why(None)

    def _use(self, gateway) -> None:  # type: ignore[no-untyped-def]
        """Serve until stop(), or until the JVM ends."""
        try:
            gateway.jvm.org.apache.spark.SparkContext.getOrCreate()
            service = getattr(gateway.jvm.org.apache.spark.sql.connect.service, "SparkConnectService$")
            self._tell("port", str(getattr(service, "MODULE$").localPort()))
            if self._small:
                self._warm_up(gateway)
            while not self._stopped.wait(waiting.LOOK_SECONDS) and gateway.proc.poll() is None:
                pass
        finally:
            exit_code = None if self._stopped.is_set() else _exit_code(gateway.proc)
            self._tell_why(exit_code)
            gateway.shutdown()
            if not (self._stopped.is_set() and self._archive_to):
                gateway.proc.kill()
            gateway.proc.stdin.close()
            gateway.proc.wait()

    def _warm_up(self, gateway) -> None:  # type: ignore[no-untyped-def]
        """Load the classes of a first job while the first step's interpreter starts: less for that step to wait."""
        rows = gateway.jvm.org.apache.spark.sql.SparkSession.builder().getOrCreate().range(1)
        rows.write().parquet(str(self._folder / "warm-up"))

    def _launch(self, files: list[Path]):  # type: ignore[no-untyped-def]  # py4j has no types
        conf = SparkConf(loadDefaults=False).setAll(list(self._settings(files).items()))
        with (self._folder / "spark.log").open("wb") as log:
            gateway = launch_gateway(conf, {"stdout": log, "stderr": log, "cwd": self._folder})
        return gateway

    def _settings(self, files: list[Path]) -> dict[str, str]:
        return {
            "spark.master": "local[*]",
            "spark.app.name": "tabular-workflow",
            "spark.driver.memory": f"{heap_mebibytes()}m",
            "spark.driver.maxResultSize": "0",
            "spark.driver.host": "localhost",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.extraJavaOptions": " ".join(self._java_options(files)),
            "spark.local.dir": str(self._folder),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": "0",
            # Nobody here brings classes of their own; apart, each session would compile all generated code anew.
            "spark.sql.artifact.isolation.enabled": "false",
            "spark.sql.warehouse.dir": str(self._folder / "warehouse"),
            "spark.sql.catalogImplementation": "in-memory",
            "spark.hadoop.fs.permissions.umask-mode": f"{_umask():03o}",  # Hadoop has one of its own, 022
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            **(FOR_FEW_ROWS if self._small else {}),
            **(object_store.for_spark() if self._remote else {}),
            **self._jars.settings(files),
        }

    def _java_options(self, files: list[Path]) -> Iterator[str]:
        yield f'-Djava.io.tmpdir="{self._folder}"'  # where the libraries that a JVM unpacks go with it
        yield "-XX:+ExitOnOutOfMemoryError"  # a JVM that lost a thread to it may hang, and must not be trusted
        if self._small:
            yield from ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        archive = self._jars.class_archive(files)
        if self._archive_to:
            yield f"-XX:ArchiveClassesAtExit={self._archive_to}"
        elif archive.exists():
            yield from (f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")

    def _tell(self, name: str, text: str) -> None:
        draft = self._folder / f"{name}.draft"
        draft.write_text(text)
        draft.rename(self._folder / name)

    def _tell_why(self, exit_code: int | None) -> None:
        """Say why the JVM ended, None when it did so while it started."""
        if self._stopped.is_set() or (self._folder / "failed").exists():
            return  # it was ended, and nobody waits for it
        log = self._folder / "spark.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        killed_by_kernel = _kernel_kills() > self._kernel_kills
        reason, next = why_it_ended(text, exit_code=exit_code, killed_by_kernel=killed_by_kernel)
        if is_not_downloaded(text):
            reason, next = (
                f"{self._jars.packages} could not be downloaded",
                "connect this machine to Maven Central once and run it again",
            )
        self._tell("failed", f"{reason}\0{next or f'read {_keep_log(self._folder)}'}")


def _exit_code(jvm: subprocess.Popen[bytes]) -> int | None:
    """None for one that lives; its connections may break a moment before it can be waited for."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return jvm.wait(timeout=1)
    return None


def why_it_ended(log: str, *, exit_code: int | None, killed_by_kernel: bool) -> tuple[str, str]:
    """Why a JVM ended, and what to do about it: "" where only its log can tell. The exit code is None for one that
    did not start."""
    last = next((line.strip() for line in reversed(log.splitlines()) if "rror" in line or "xception" in line), "")
    memory = f"it may use {heap_mebibytes()} MiB"
    if "java.lang.OutOfMemoryError" in log:
        line = next(line.strip() for line in reversed(log.splitlines()) if "java.lang.OutOfMemoryError" in line)
        return f"its JVM ran out of memory, of which {memory}: {line}", f"set {MEMORY} to more, such as 8g"
    if killed_by_kernel:
        return (
            f"the kernel ended its JVM because the machine is out of memory, of which {memory}",
            f"end other programs, or set {MEMORY} to less, such as 2g",
        )
    if exit_code == -signal.SIGKILL:
        return (
            "its JVM was ended by SIGKILL, from outside",
            f"run it again; if a limit of memory ended it, set {MEMORY} to less: {memory} now",
        )
    if exit_code is None:
        return f"its JVM did not start: {last or 'it said nothing'}", ""
    return f"its JVM ended with exit code {exit_code}: {last or 'it said nothing'}", ""


def is_not_downloaded(log: str) -> bool:
    return "unresolved dependency" in log or "UNRESOLVED DEPENDENCIES" in log


def _kernel_kills() -> int:
    """How many processes the kernel has ended on this machine for want of memory; 0 where it does not tell."""
    try:
        counts = Path("/proc/vmstat").read_text()
    except OSError:  # not Linux
        return 0
    found = re.search(r"^oom_kill (\d+)$", counts, re.MULTILINE)
    return int(found[1]) if found else 0


def _keep_log(folder: Path) -> str:
    """Where the log of the JVM stays when `folder` goes; for this user alone."""
    opened, kept = tempfile.mkstemp(prefix="workflow-spark-", suffix=".log")
    with os.fdopen(opened, "wb") as copy, contextlib.suppress(FileNotFoundError):
        copy.write((folder / "spark.log").read_bytes())
    return kept


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def heap_mebibytes() -> int:
    """SPARK_DRIVER_MEMORY, else half of the memory that this process may use, 1 to 31 GiB (above which pointers double
    in size)."""
    if given := os.environ.get(MEMORY, ""):
        size = re.fullmatch(r"(\d+)([mg])b?", given.lower())
        if not size:
            raise SettingInvalid(MEMORY, given, expected="a size such as 4g or 1500m")
        return int(size[1]) * (1024 if size[2] == "g" else 1)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.exists() and limit.read_text().strip().isdigit():
            memory = min(memory, int(limit.read_text()))
    return max(1024, min(31 * 1024, memory // 2 // 2**20))


def prepare(*paths: str) -> None:
    """Once a machine: download the jars and archive the classes that a small workflow loads, for faster starts.

    `paths` are those of the lake: at s3:// Spark needs more jars.
    """
    remote = any(map(storage.is_remote, paths))
    jar_set = jars.needed(remote=remote)
    if jar_set.is_prepared():
        return
    with machine.scratch("workflow-spark-") as folder:
        with session(*paths, data_bytes=0):
            pass
        archive = jar_set.class_archive(jar_set.downloaded())
        draft = folder / "classes.jsa"
        os.environ[TOKEN] = secrets.token_hex(16)
        server = _Server(folder, small=True, remote=remote, archive_to=draft)
        server.start()
        try:
            _exercise(_connect(_Channel(_address(folder))), folder)
        finally:
            server.stop()
        if draft.exists():
            os.replace(_moved_beside(draft, archive), archive)


def _moved_beside(draft: Path, archive: Path) -> Path:
    beside = archive.with_suffix(f".{os.getpid()}")
    beside.write_bytes(draft.read_bytes())
    return beside


def _exercise(connection: SparkSession, folder: Path) -> None:
    """Load the classes that steps will need: an aggregate over a CSV file, and its rows written as Parquet."""
    source = folder / "rows.csv"
    source.write_text("number,text\n1.0,a\n2.0,b\n")
    rows = connection.read.option("header", True).csv(str(source)).localCheckpoint(eager=False)
    rows.selectExpr("count(*)", "sum(cast(xxhash64(to_json(struct(*))) as decimal(20, 0)))", "min(number)").collect()
    rows.selectExpr("try_cast(number as double)", "text").write.parquet(str(folder / "table"))
    connection.stop()


if __name__ == "__main__":
    try:
        prepare(os.environ.get("LAKE_URI", "").replace("s3a:", "s3:", 1))
    except UserError as err:
        sys.exit(str(err))
