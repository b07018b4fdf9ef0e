"""The Spark Connect server of a workflow: a JVM of our own that the driver starts and its steps attach to.

Steps find it through a private folder whose path they inherit, so that they can start while the JVM does. The JVM
reads its standard input and ends when that closes, so it is gone when the process that started it is, however that
ended. That process watches the JVM too, and says in the folder why it ended.
"""

import contextlib
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyspark
from pyspark.conf import SparkConf
from pyspark.java_gateway import launch_gateway

from steps.core.config import PROJECT
from steps.core.errors import SparkUnavailable, UserError
from steps.core.process import processes, scratch, waiting
from steps.core.spark import jars, java, jvm
from steps.core.storage import filesystem, s3

SERVER_FOLDER = "WORKFLOW_SPARK"  # environment variable: the folder in which the server says where it listens
# Environment variables that set a machine's own Spark or Hadoop, not ours: a bare path must stay on this disk, and no
# setting that is in no key may change a result. SPARK_REMOTE is empty where a server is started.
FOREIGN_SETTINGS = ("PYSPARK_SUBMIT_ARGS", "SPARK_REMOTE", "SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR")
TOKEN = "SPARK_CONNECT_AUTHENTICATE_TOKEN"  # environment variable that Spark Connect's server reads
SMALL_BYTES = 256 * 2**20  # below it a job ends before the optimizing compiler pays: benchmarks/RESULTS.md
# One task where Spark and Delta plan for many: small data is done sooner, and in one file.
SMALL_DATA_SETTINGS = {
    "spark.sql.leafNodeDefaultParallelism": "1",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
START_SECONDS = 180  # with the jars downloaded on the way
STOP_SECONDS = 5  # for the thread that serves; it may hang on another process's download


@contextlib.contextmanager
def serve(*paths: str, data_bytes: int | None) -> Iterator[None]:
    """Start Spark in the background for this process and its children; it ends with the block.

    `paths` are what it will read and write, `data_bytes` is the size of what will be processed, None when unknown.
    Returns at once: what goes wrong is told by session.spark_session(). Does nothing where a server is there already.
    """
    if os.environ.get("SPARK_REMOTE") or os.environ.get(SERVER_FOLDER):
        yield
        return
    java.check()
    jvm.heap_mebibytes()  # here, where a wrong setting can be told
    with scratch.scratch_folder("workflow-spark-") as folder:
        os.environ[SERVER_FOLDER], os.environ[TOKEN] = str(folder), secrets.token_hex(16)
        small = data_bytes is not None and data_bytes < SMALL_BYTES
        server = Server(folder, small=small, remote=any(map(filesystem.is_remote, paths)))
        try:
            server.start()
            yield
        finally:
            server.stop()
            del os.environ[SERVER_FOLDER], os.environ[TOKEN]


def address_of(folder: Path) -> str:
    """Wait until the server in our family has said where it listens, or why it cannot."""
    deadline = time.monotonic() + START_SECONDS
    with waiting.announced("Spark to start"):
        while time.monotonic() < deadline:
            if failure := failure_of(folder):
                raise failure
            if (folder / "port").exists():
                return f"sc://localhost:{(folder / 'port').read_text()}/;token={os.environ[TOKEN]}"
            time.sleep(0.05)
    raise SparkUnavailable(f"it did not start within {START_SECONDS} s", next=f"read {jvm.keep_log(folder)}")


def failure_of(folder: Path) -> SparkUnavailable | None:
    """What the process that serves has said in `folder` of a JVM that did not start, or has ended."""
    if not (folder / "failed").exists():
        return None
    reason, _, next = (folder / "failed").read_text().partition("\0")
    return SparkUnavailable(reason, next=next)


class Server:
    """The JVM. `folder` takes its log, its scratch files and, when it is up, the file `port`."""

    def __init__(self, folder: Path, *, small: bool, remote: bool, archive_to: Path | None = None) -> None:
        self._folder = folder
        self._small = small
        self._remote = remote
        self._jars = jars.needed(remote=remote)
        self._archive_to = archive_to
        self._thread = threading.Thread(target=self._run, name="spark-server", daemon=True)
        self._stopped = threading.Event()
        self._kernel_kills = jvm.kernel_kills()

    def start(self) -> None:
        # Here, not in the thread: a process that another thread starts meanwhile would see half an environment.
        # Workers must run this Python, and a SPARK_HOME of the machine's must not replace the pinned Spark.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        for name in FOREIGN_SETTINGS:
            os.environ.pop(name, None)
        self._thread.start()

    def stop(self) -> None:
        """End the JVM in whatever it does: also while it starts, or downloads its jars."""
        self._stopped.set()
        deadline = time.monotonic() + STOP_SECONDS
        while self._thread.is_alive() and (self._archive_to or time.monotonic() < deadline):
            if not self._archive_to:  # a JVM's own end takes half a second, and only the archive needs it
                processes.kill_children(working_in=self._folder)
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
            while not self._stopped.wait(waiting.POLL_SECONDS) and gateway.proc.poll() is None:
                pass
        finally:
            exit_code = None if self._stopped.is_set() else jvm.exit_code_of(gateway.proc)
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
            "spark.driver.memory": f"{jvm.heap_mebibytes()}m",
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
            **(SMALL_DATA_SETTINGS if self._small else {}),
            **(s3.for_spark() if self._remote else {}),
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
        killed_by_kernel = jvm.kernel_kills() > self._kernel_kills
        reason, next = jvm.why_it_ended(text, exit_code=exit_code, killed_by_kernel=killed_by_kernel)
        if jvm.is_not_downloaded(text):
            reason, next = (
                f"{self._jars.packages} could not be downloaded",
                "connect this machine to Maven Central once and run it again",
            )
        self._tell("failed", f"{reason}\0{next or f'read {jvm.keep_log(self._folder)}'}")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
