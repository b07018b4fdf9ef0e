"""One Spark for a whole workflow: a JVM of our own that serves Spark Connect, or the server that SPARK_REMOTE names.

The driver serves; its children find the server through a private folder whose path they inherit, so that they can
start while the JVM does. A step that runs alone serves itself. The JVM reads its standard input and ends when that
closes, so it is gone when the process that started it is, however that ended.
"""

import contextlib
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyspark
from pyspark.conf import SparkConf
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from steps.core import jars, java, lifetime, machine, object_store, storage
from steps.core.config import PROJECT
from steps.core.errors import SparkUnavailable, UserError

MEETING_PLACE = "WORKFLOW_SPARK"  # environment variable: the folder in which the server says where it listens
TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"  # environment variable that Spark Connect's server reads
SMALL_BYTES = 256 * 2**20  # below it a job ends before the optimizing compiler pays: benchmarks/RESULTS.md
# One task where Spark and Delta plan for many: small data is done sooner, and in one file.
FOR_FEW_ROWS = {
    "spark.sql.leafNodeDefaultParallelism": "1",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
START_SECONDS = 180  # with the jars downloaded on the way


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
    with machine.scratch("workflow-spark-") as folder:
        os.environ[MEETING_PLACE], os.environ[TOKEN] = str(folder), secrets.token_hex(16)
        small = data_bytes is not None and data_bytes < SMALL_BYTES
        server = _Server(folder, small=small, remote=any(map(storage.is_remote, paths)))
        try:
            server.start()
            yield
        except lifetime.Interrupted:
            server.give_up()
            raise
        finally:
            server.stop()
            del os.environ[MEETING_PLACE], os.environ[TOKEN]


@contextlib.contextmanager
def session(*paths: str, data_bytes: int | None) -> Iterator[SparkSession]:
    """A session on the server at hand, else on one of this process's own. SparkUnavailable says why not."""
    with serve(*paths, data_bytes=data_bytes):
        try:
            yield _connect(os.environ.get("SPARK_REMOTE") or _address(Path(os.environ[MEETING_PLACE])))
        except lifetime.Interrupted:
            hang_up(server_may_be_gone=True)
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


def _connect(remote: str) -> SparkSession:
    where = remote.partition("/;")[0]  # what follows may hold a token
    next = "start the server, or unset SPARK_REMOTE to use a Spark of this process's own"
    try:
        connection: SparkSession = SparkSession.builder.remote(remote).getOrCreate()
        connection.conf.set("spark.sql.session.timeZone", "UTC")
        connection.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")  # Delta's own timestamps
    except (PySparkException, ValueError) as err:
        raise SparkUnavailable(f"{where} does not answer", next=next) from err
    return connection


def _address(folder: Path) -> str:
    """Wait until the server in our family has said where it listens, or why it cannot."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if (folder / "port").exists():
            return f"sc://localhost:{(folder / 'port').read_text()}/;token={os.environ[TOKEN]}"
        if (folder / "failed").exists():
            reason, _, next = (folder / "failed").read_text().partition("\0")
            raise SparkUnavailable(reason, next=next)
        time.sleep(0.05)
    raise SparkUnavailable(f"it did not start within {START_SECONDS} s", next=f"read {_keep_log(folder)}")


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

    def start(self) -> None:
        # Here, not in the thread: a process that another thread starts meanwhile would see half an environment.
        # Workers must run this Python, and a SPARK_HOME of the machine's must not replace the pinned Spark.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        for name in ("PYSPARK_SUBMIT_ARGS", "SPARK_REMOTE"):  # the latter is empty here
            os.environ.pop(name, None)
        self._thread.start()

    def stop(self) -> None:
        """End the JVM and wait for it, also when it has not finished starting."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def give_up(self) -> None:
        """End the JVM in whatever it does: while it starts, or downloads its jars, stop() would have to wait."""
        self._stopped.set()
        lifetime.end_children()

    def _run(self) -> None:
        try:
            with self._jars.first_download() as files:
                gateway = self._launch(files)
        except UserError as err:
            self._tell("failed", str(err))
            return
        except (PySparkRuntimeError, OSError):
            self._tell_why_not()
            return
        try:
            gateway.jvm.org.apache.spark.SparkContext.getOrCreate()
            service = getattr(gateway.jvm.org.apache.spark.sql.connect.service, "SparkConnectService$")
            self._tell("port", str(getattr(service, "MODULE$").localPort()))
            if self._small:
                self._warm_up(gateway)
            self._stopped.wait()
        except Exception:  # whatever py4j raises: the children wait for one of the two files
            self._tell_why_not()
        finally:
            gateway.shutdown()
            if not self._archive_to:  # a JVM's own end takes half a second, and only the archive needs it
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

    def _tell_why_not(self) -> None:
        if not self._stopped.is_set():  # else it was ended, and nobody waits for it
            self._tell("failed", "\0".join(self._why_not()))

    def _why_not(self) -> tuple[str, str]:
        """What the log of a JVM that did not come up says, and what to do about it."""
        log = (self._folder / "spark.log").read_text(errors="replace")
        if "unresolved dependency" in log or "UNRESOLVED DEPENDENCIES" in log:
            return (
                f"{self._jars.packages} could not be downloaded",
                "connect this machine to Maven Central once and run it again",
            )
        last = next((line.strip() for line in reversed(log.splitlines()) if "rror" in line or "xception" in line), "")
        return f"its JVM did not start: {last or 'it said nothing'}", f"read {_keep_log(self._folder)}"


def _keep_log(folder: Path) -> str:
    """Where the log of the JVM stays when `folder` goes; for this user alone."""
    opened, kept = tempfile.mkstemp(prefix="workflow-spark-", suffix=".log")
    with os.fdopen(opened, "wb") as copy:
        copy.write((folder / "spark.log").read_bytes())
    return kept


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def heap_mebibytes() -> int:
    """Half of the memory that this process may use, 1 to 31 GiB (above which pointers double in size)."""
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
            _exercise(_connect(_address(folder)), folder)
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
