"""The Spark Connect server of a workflow: a JVM that the driver starts and its steps attach to.

Steps find it through a private folder, whose path they inherit, so they can start while the JVM does. The JVM reads its
standard input and ends when that closes, so it never outlives the process that started it. That process watches the
JVM too, and writes into the folder why it ended.
"""

import contextlib
import errno
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyspark

from steps.core.config import PROJECT
from steps.core.errors import SparkUnavailable, UserError
from steps.core.process import locks, processes, scratch, waiting
from steps.core.spark import gateway, jars, java, jvm
from steps.core.storage import filesystem, s3

FOLDER_VARIABLE = "WORKFLOW_SPARK"  # environment variable: the server's folder
TOKEN_VARIABLE = "SPARK_CONNECT_AUTHENTICATE_TOKEN"  # environment variable that Spark Connect's server reads
# Environment variables of a machine's own Spark or Hadoop: a bare path must stay on this disk, and only settings that
# reuse compares may change a result. SPARK_REMOTE is empty where a server is started.
UNSET_VARIABLES = ("PYSPARK_SUBMIT_ARGS", "SPARK_REMOTE", "SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR")
PORT, FAILURE = "port", "failed"  # files in the server's folder
SMALL_BYTES = 256 * 2**20  # smaller jobs end before the optimizing compiler pays off: benchmarks/RESULTS.md
# One task where Spark and Delta plan for many: small data is processed sooner, and into one file.
SMALL_DATA_SETTINGS = {
    "spark.sql.leafNodeDefaultParallelism": "1",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
}
DATABASE = "jdbc:"  # begins the address of a source that Spark reads by a driver
START_SECONDS = 180  # including the download of the jars
STOP_SECONDS = 5  # for the thread that runs the JVM, which may wait for another process's download


@contextlib.contextmanager
def serve(*paths: str, data_bytes: int | None) -> Iterator[None]:
    """Start Spark in the background for this process and its children. It ends with the block.

    `paths` are what it will read and write, `data_bytes` is the size of the data, None if unknown. Returns at once:
    what fails later is raised by session.spark_session(). Does nothing if there is a server already.
    """
    if os.environ.get("SPARK_REMOTE") or os.environ.get(FOLDER_VARIABLE):
        yield
        return
    java.check()
    jvm.heap_mebibytes()  # raises for a wrong setting
    with scratch.scratch_folder("workflow-spark-") as folder:
        os.environ[FOLDER_VARIABLE], os.environ[TOKEN_VARIABLE] = str(folder), secrets.token_hex(16)
        small = data_bytes is not None and data_bytes < SMALL_BYTES
        database = any(path.startswith(DATABASE) for path in paths)
        server = Server(folder, small=small, remote=any(map(filesystem.is_remote, paths)), database=database)
        try:
            server.start()
            yield
        finally:
            server.stop()
            del os.environ[FOLDER_VARIABLE], os.environ[TOKEN_VARIABLE]


def is_own() -> bool:
    """Whether the server is one of this workflow's own, on this machine."""
    return not os.environ.get("SPARK_REMOTE")


def wait_for_address(folder: Path) -> str:
    """The address of the server with this folder, once it listens. SparkUnavailable if it fails to start."""
    deadline = time.monotonic() + START_SECONDS
    with waiting.announced("Spark to start"):
        while time.monotonic() < deadline:
            if failure := read_failure(folder):
                raise failure
            if (folder / PORT).exists():
                return f"sc://localhost:{(folder / PORT).read_text()}/;token={os.environ[TOKEN_VARIABLE]}"
            time.sleep(0.05)
    raise SparkUnavailable(f"it did not start within {START_SECONDS} s", next=f"read {jvm.keep_log(folder)}")


def read_failure(folder: Path) -> SparkUnavailable | None:
    """Why the JVM of the server with this folder did not start, or has ended; None while it runs."""
    if not (folder / FAILURE).exists():
        return None
    reason, _, next = (folder / FAILURE).read_text().partition("\0")
    return SparkUnavailable(reason, next=next)


def is_not_from_py4j(record: logging.LogRecord) -> bool:
    """A filter of the root logger, by which py4j logs the traceback of each broken connection, which it raises too."""
    return record.module != "java_gateway"


class Server:
    """A thread that runs the JVM. `folder` takes the log, scratch files, and the port or the failure."""

    def __init__(
        self, folder: Path, *, small: bool, remote: bool, database: bool = False, archive_to: Path | None = None
    ) -> None:
        self._folder = folder
        self._small = small
        self._remote = remote
        self._jars = jars.needed(remote=remote, database=database)
        self._archive_to = archive_to  # where to write an archive of the loaded classes
        self._thread = threading.Thread(target=self._run, name="spark-server", daemon=True)
        self._stopped = threading.Event()
        self._oom_kills = jvm.count_oom_kills()

    def start(self) -> None:
        """Start the JVM in a thread, with its settings in this process's environment."""
        # Not in the thread: another thread could start a process meanwhile, with half of these variables.
        # Workers must run this Python, and a SPARK_HOME of the machine's must not replace the pinned Spark.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        # By the machine's locale Java reads the names of files (LC_ALL=C loses é) and writes letters and numbers.
        os.environ["LC_ALL"] = "C.UTF-8"
        for name in UNSET_VARIABLES:
            os.environ.pop(name, None)
        logging.getLogger().addFilter(is_not_from_py4j)
        self._thread.start()

    def stop(self) -> None:
        """End the JVM, also while it starts or downloads its jars."""
        self._stopped.set()
        deadline = time.monotonic() + STOP_SECONDS
        while self._thread.is_alive() and (self._archive_to or time.monotonic() < deadline):
            if not self._archive_to:  # a regular end takes half a second, and only the archive needs it
                processes.kill_children(working_in=self._folder)
            self._thread.join(0.05)

    def _run(self) -> None:
        try:
            self._use(self._launch())
        except UserError as err:
            self._write(FAILURE, str(err))
        except OSError as err:
            if err.errno not in (errno.EACCES, errno.EROFS):
                self._write_failure(None)
                return
            next = "set HOME or XDG_CACHE_HOME to a folder that may be written, for what Spark downloads once"
            self._write(FAILURE, f"{err.filename}: {err.strerror}\0{next}")
        except Exception as err:  # whatever it is: steps wait for the port or the failure
            from py4j.protocol import Py4JError
            from pyspark.errors import PySparkException

            self._write_failure(None)
            if not self._stopped.is_set() and not isinstance(err, Py4JError | PySparkException):
                raise

    def _launch(self) -> Any:  # py4j has no types
        """Start the JVM. The first one on a machine downloads the jars; other processes wait for that."""
        if not (files := self._jars.downloaded()):
            with locks.exclusive_lock("jars", str(self._jars.folder)):
                files = self._jars.downloaded() or gateway.download(self._jars, self._folder)
        if self._stopped.is_set():
            raise InterruptedError
        return gateway.launch(self._settings(files), self._folder)

    def _use(self, jvm_gateway: Any) -> None:
        """Serve until stop(), or until the JVM ends."""
        try:
            gateway.name_user(jvm_gateway)
            jvm_gateway.jvm.org.apache.spark.SparkContext.getOrCreate()
            service = getattr(jvm_gateway.jvm.org.apache.spark.sql.connect.service, "SparkConnectService$")
            self._write(PORT, str(getattr(service, "MODULE$").localPort()))
            if self._small:
                self._warm_up(jvm_gateway)
            while not self._stopped.wait(waiting.POLL_SECONDS) and jvm_gateway.proc.poll() is None:
                pass
        finally:
            self._write_failure(None if self._stopped.is_set() else jvm.exit_code_of(jvm_gateway.proc))
            gateway.end(jvm_gateway, at_once=not (self._stopped.is_set() and self._archive_to))

    def _warm_up(self, jvm_gateway: Any) -> None:
        """Load the classes of a first job while the first step's interpreter starts, so that the step waits less."""
        rows = jvm_gateway.jvm.org.apache.spark.sql.SparkSession.builder().getOrCreate().range(1)
        rows.write().parquet(str(self._folder / "warm-up"))

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
            # No session brings classes of its own. Isolated sessions would each compile all generated code again.
            "spark.sql.artifact.isolation.enabled": "false",
            "spark.sql.warehouse.dir": str(self._folder / "warehouse"),
            "spark.sql.catalogImplementation": "in-memory",
            "spark.hadoop.fs.permissions.umask-mode": f"{_umask():03o}",  # Hadoop's own default is 022
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            **(SMALL_DATA_SETTINGS if self._small else {}),
            **(s3.for_spark() if self._remote else {}),
            **self._jars.settings(files),
        }

    def _java_options(self, files: list[Path]) -> Iterator[str]:
        yield f'-Djava.io.tmpdir="{self._folder}"'  # libraries that the JVM unpacks are removed with the folder
        yield from gateway.user_options()
        yield "-XX:+ExitOnOutOfMemoryError"  # a JVM that lost a thread to it may hang, and must not be trusted
        if self._small:
            yield from ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        if self._archive_to:
            yield f"-XX:ArchiveClassesAtExit={self._archive_to}"
        elif archive := self._jars.archive_to_use(files):
            yield from (f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")

    def _write_failure(self, exit_code: int | None) -> None:
        """Write why the JVM ended; the exit code is None for one that did not start."""
        if self._stopped.is_set() or (self._folder / FAILURE).exists():
            return
        log = self._folder / jvm.LOG
        text = log.read_text(errors="replace") if log.exists() else ""
        killed_by_kernel = jvm.count_oom_kills() > self._oom_kills
        reason, next = jvm.end_reason(text, exit_code=exit_code, killed_by_kernel=killed_by_kernel)
        if jvm.is_download_failure(text):
            reason = f"{self._jars.packages} could not be downloaded"
            next = "connect this machine to Maven Central once and run it again"
        self._write(FAILURE, f"{reason}\0{next or f'read {jvm.keep_log(self._folder)}'}")

    def _write(self, name: str, text: str) -> None:
        """Write a file that readers see whole or not at all."""
        draft = self._folder / f"{name}.draft"
        draft.write_text(text)
        draft.rename(self._folder / name)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
