"""One Spark for a whole workflow: a JVM of our own that serves Spark Connect, or the server that SPARK_REMOTE names.

The driver serves; its children find the server through a private folder whose path they inherit, so that they can
start while the JVM does. A step that runs alone serves itself. The JVM reads its standard input and ends when that
closes, so it is gone when the process that started it is, however that ended.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pyspark
from pyspark.conf import SparkConf
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from steps.core import java
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
DELTA_JARS = f"io.delta:delta-spark_{pyspark.__version__.rpartition('.')[0]}_2.13:{version('delta-spark')}"
# What Delta asks for and Spark has already; older copies of it would hide Spark's own.
IN_SPARK = "org.*:*,com.*:*,javax.*:*,commons-logging:*,commons-pool:*,io.airlift:*"


@contextlib.contextmanager
def serve(*, data_bytes: int | None) -> Iterator[None]:
    """Start Spark in the background for this process and its children; it ends with the block.

    `data_bytes` is the size of what will be processed, None when unknown. Returns at once: what goes wrong is told
    by connect(). Does nothing where a server is there already.
    """
    if os.environ.get("SPARK_REMOTE") or os.environ.get(MEETING_PLACE):
        yield
        return
    java.check()
    with tempfile.TemporaryDirectory(prefix="workflow-spark-", ignore_cleanup_errors=True) as folder:
        os.environ[MEETING_PLACE], os.environ[TOKEN] = folder, secrets.token_hex(16)
        server = _Server(Path(folder), small=data_bytes is not None and data_bytes < SMALL_BYTES)
        try:
            server.start()
            yield
        finally:
            server.stop()
            del os.environ[MEETING_PLACE], os.environ[TOKEN]


@contextlib.contextmanager
def session(*, data_bytes: int | None) -> Iterator[SparkSession]:
    """A session on the server at hand, else on one of this process's own. SparkUnavailable says why not."""
    with serve(data_bytes=data_bytes):
        connection = _connect(os.environ.get("SPARK_REMOTE") or _address(Path(os.environ[MEETING_PLACE])))
        try:
            yield connection
        finally:
            connection.stop()


def _connect(remote: str) -> SparkSession:
    where = remote.partition("/;")[0]  # what follows may hold a token
    next = "start the server, or unset SPARK_REMOTE to use a Spark of this process's own"
    try:
        connection: SparkSession = SparkSession.builder.remote(remote).getOrCreate()
        connection.conf.set("spark.sql.session.timeZone", "UTC")
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
    raise SparkUnavailable(f"it did not start within {START_SECONDS} s", next=f"read {folder / 'spark.log'}")


class _Server:
    """The JVM. `folder` takes its log, its scratch files and, when it is up, the file `port`."""

    def __init__(self, folder: Path, *, small: bool, archive_to: Path | None = None) -> None:
        self._folder = folder
        self._small = small
        self._archive_to = archive_to
        self._thread = threading.Thread(target=self._run, name="spark-server", daemon=True)
        self._stopped = threading.Event()

    def start(self) -> None:
        # Here, not in the thread: a process that another thread starts meanwhile would see half an environment.
        # Workers must run this Python, and a SPARK_HOME of the machine's must not replace the pinned Spark.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        os.environ.pop("PYSPARK_SUBMIT_ARGS", None)
        self._thread.start()

    def stop(self) -> None:
        """End the JVM and wait for it, also when it has not finished starting."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with _first_download() as jars:
                gateway = self._launch(jars)
        except UserError as err:
            self._tell("failed", str(err))
            return
        except (PySparkRuntimeError, OSError):
            self._tell("failed", "\0".join(self._why_not()))
            return
        try:
            gateway.jvm.org.apache.spark.SparkContext.getOrCreate()
            service = getattr(gateway.jvm.org.apache.spark.sql.connect.service, "SparkConnectService$")
            self._tell("port", str(getattr(service, "MODULE$").localPort()))
            if self._small:
                self._warm_up(gateway)
            self._stopped.wait()
        except Exception:  # whatever py4j raises: the children wait for one of the two files
            self._tell("failed", "\0".join(self._why_not()))
        finally:
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait()

    def _warm_up(self, gateway) -> None:  # type: ignore[no-untyped-def]
        """Load Delta's classes while the first step's interpreter starts: 2 s less for that step to wait."""
        rows = gateway.jvm.org.apache.spark.sql.SparkSession.builder().getOrCreate().range(1)
        rows.write().format("delta").save(str(self._folder / "warm-up"))

    def _launch(self, jars: list[Path]):  # type: ignore[no-untyped-def]  # py4j has no types
        conf = SparkConf(loadDefaults=False).setAll(list(self._settings(jars).items()))
        with (self._folder / "spark.log").open("wb") as log:
            gateway = launch_gateway(conf, {"stdout": log, "stderr": log, "cwd": self._folder})
        return gateway

    def _settings(self, jars: list[Path]) -> dict[str, str]:
        return {
            "spark.master": "local[*]",
            "spark.app.name": "tabular-workflow",
            "spark.driver.memory": f"{heap_mebibytes()}m",
            "spark.driver.maxResultSize": "0",
            "spark.driver.host": "localhost",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.extraJavaOptions": " ".join(self._java_options(jars)),
            "spark.local.dir": str(self._folder),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": "0",
            "spark.sql.warehouse.dir": str(self._folder / "warehouse"),
            "spark.sql.catalogImplementation": "in-memory",
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
            **(FOR_FEW_ROWS if self._small else {}),
            **_jar_settings(jars),
        }

    def _java_options(self, jars: list[Path]) -> Iterator[str]:
        if self._small:
            yield from ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        archive = _class_archive(jars)
        if self._archive_to:
            yield f"-XX:ArchiveClassesAtExit={self._archive_to}"
        elif archive.exists():
            yield from (f"-XX:SharedArchiveFile={archive}", "-Xlog:cds=off", "-Xlog:cds+dynamic=off")

    def _tell(self, name: str, text: str) -> None:
        draft = self._folder / f"{name}.draft"
        draft.write_text(text)
        draft.rename(self._folder / name)

    def _why_not(self) -> tuple[str, str]:
        """What the log of a JVM that did not come up says, and what to do about it."""
        log = (self._folder / "spark.log").read_text(errors="replace")
        if "unresolved dependency" in log or "UNRESOLVED DEPENDENCIES" in log:
            return (
                f"{DELTA_JARS} could not be downloaded",
                "connect this machine to Maven Central once and run it again",
            )
        last = next((line.strip() for line in reversed(log.splitlines()) if "rror" in line or "xception" in line), "")
        kept = Path(tempfile.gettempdir()) / f"workflow-spark-{os.getpid()}.log"
        kept.write_text(log)
        return f"its JVM did not start: {last or 'it said nothing'}", f"read {kept}"


def heap_mebibytes() -> int:
    """Half of the memory that this process may use, 1 to 31 GiB (above which pointers double in size)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if limit.exists() and limit.read_text().strip().isdigit():
            memory = min(memory, int(limit.read_text()))
    return max(1024, min(31 * 1024, memory // 2 // 2**20))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tabular-workflow"


@contextlib.contextmanager
def _first_download() -> Iterator[list[Path]]:
    """Delta's jars, or [] the first time: Spark then downloads them, one process at a time."""
    done = _cache() / f"{DELTA_JARS.replace(':', '-')}.done"
    if done.exists():
        yield sorted((_cache() / "jars").glob("*.jar"))
        return
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield sorted((_cache() / "jars").glob("*.jar")) if done.exists() else []
        done.touch()


def _jar_settings(jars: list[Path]) -> dict[str, str]:
    if jars:  # on the class path itself: no copy into each session, and the class archive covers them
        return {"spark.driver.extraClassPath": os.pathsep.join(map(str, jars))}
    return {"spark.jars.packages": DELTA_JARS, "spark.jars.excludes": IN_SPARK, "spark.jars.ivy": str(_cache())}


def _class_archive(jars: list[Path]) -> Path:
    """Where the JVM's class-data archive for these jars and this Java lies; it halves a small job's Spark time."""
    parts = [java.check(), pyspark.__version__, pyspark.__file__, *map(str, jars)]
    return _cache() / f"classes-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.jsa"


def prepare() -> None:
    """Once a machine: download the jars and archive the classes that a small workflow loads, for faster starts."""
    with tempfile.TemporaryDirectory(prefix="workflow-spark-") as name:
        folder = Path(name)
        with serve(data_bytes=0), session(data_bytes=0):
            pass
        with _first_download() as jars:
            archive = _class_archive(jars)
        if archive.exists():
            return
        draft = folder / "classes.jsa"
        os.environ[TOKEN] = secrets.token_hex(16)
        server = _Server(folder, small=True, archive_to=draft)
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
    """Load the classes that steps will need: an aggregate, two Delta writes and a read."""
    table = str(folder / "table")
    rows = connection.createDataFrame([(1.0, "a"), (2.0, "b")], "number double, text string")
    rows.selectExpr("count(*)", "sum(cast(xxhash64(to_json(struct(*))) as decimal(20, 0)))", "min(number)").collect()
    for _ in range(2):
        rows.write.format("delta").mode("overwrite").option("userMetadata", "{}").save(table)
    connection.read.format("delta").load(table).toPandas()
    connection.stop()


if __name__ == "__main__":
    try:
        prepare()
    except UserError as err:
        sys.exit(str(err))
