"""infrastructure/kubernetes: the Connect server's settings, and the pod that it makes executors of."""

import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyspark
import pytest
from cloud import KUBERNETES, container, manifest, pods
from composed import COMPOSE
from place import until
from services import SHORT_LIVED_JAVA, free_port

JAR_CLASSES = (  # where Spark's settings are defined
    ("spark-launcher", "org/apache/spark/launcher/SparkLauncher.class"),
    ("spark-core", "org/apache/spark/internal/config/package$.class"),
    ("spark-core", "org/apache/spark/internal/config/UI$.class"),
    ("spark-kubernetes", "org/apache/spark/deploy/k8s/Config$.class"),
    ("spark-connect_", "org/apache/spark/sql/connect/config/Connect$.class"),
    ("spark-catalyst", "org/apache/spark/sql/internal/StaticSQLConf$.class"),
)
OF_PLUGINS = ("spark.hadoop.", "spark.sql.catalog.spark_catalog")
IN_TWO_PARTS = {"spark.kubernetes.authenticate.executor": ".serviceAccountName"}  # a prefix, and what Spark adds to it


def spark_settings(text: str) -> dict[str, str]:
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    return {line[0]: line[1] for line in lines if line}


class TestSpark:
    conf = (KUBERNETES / "base/spark/spark-defaults.conf").read_text(encoding="utf-8")

    def given(self) -> dict[str, str]:
        """Of the file and of the command line."""
        words = container(pods("production")["spark-connect"])["args"]
        options = [word.removeprefix("--conf=").split("=", 1) for word in words if word.startswith("--conf=")]
        return spark_settings(self.conf) | {name: value for name, value in options}

    def test_each_setting_is_one_that_this_spark_has(self) -> None:
        """It says nothing of others."""
        known = b""
        for name, entry in JAR_CLASSES:
            jar = next(Path(pyspark.__file__).parent.glob(f"jars/{name}*.jar"))
            known += zipfile.ZipFile(jar).read(entry)
        names = [name for name in self.given() if not name.startswith(OF_PLUGINS)]
        for prefix, rest in IN_TWO_PARTS.items():
            names = [prefix if name == prefix + rest else name for name in names]
        constants = {
            name: bytes([1]) + len(name).to_bytes(2, "big") + name.encode() for name in names
        }  # of a class file
        assert [name for name, constant in constants.items() if constant not in known] == []

    def test_what_is_set_in_compose_too_is_the_same(self) -> None:
        composed = spark_settings((COMPOSE / "spark/spark-defaults.conf").read_text(encoding="utf-8"))
        differs = {name for name, value in self.given().items() if composed.get(name, value) != value}
        assert differs == {"spark.master", "spark.driver.host"}
        assert set(composed) - set(self.given()) == {
            "spark.master.rest.enabled",  # there is no master
            *["spark.hadoop.fs.s3a.endpoint", "spark.hadoop.fs.s3a.path.style.access"],  # AWS's own S3
        }

    def test_its_ports_are_those_that_are_let_through(self) -> None:
        given = self.given()
        ports = {
            int(given[name])
            for name in ("spark.driver.port", "spark.blockManager.port", "spark.connect.grpc.binding.port")
        }
        assert {entry["containerPort"] for entry in container(pods("production")["spark-connect"])["ports"]} == ports

    @pytest.mark.parametrize(("overlay", "cores", "gibibytes"), [("dev", 4, 16), ("production", 8, 32)])
    def test_an_executor_fits_on_a_node(self, overlay: str, cores: int, gibibytes: int) -> None:
        size = manifest(overlay, "ConfigMap", "spark-size")["data"]
        memory = int(size["EXECUTOR_MEMORY"].removesuffix("g")) + int(
            size["EXECUTOR_MEMORY_OVERHEAD"].removesuffix("g")
        )
        assert int(size["EXECUTOR_CORES"]) < cores  # the rest is of the node's own pods
        assert gibibytes * 0.6 < memory < gibibytes * 0.85


# A driver on a master without workers: whatever it computes is computed by an executor that came by itself.
DRIVER = """
import sys
from pyspark.sql import SparkSession
master, port = sys.argv[1:]
settings = {"spark.driver.host": "127.0.0.1", "spark.driver.port": port, "spark.ui.enabled": "false"}
spark = SparkSession.builder.master(master).config(map=settings).getOrCreate()
print("ready", flush=True)
print(spark.sparkContext.parallelize(range(100), 2).map(lambda number: number * 2).sum(), flush=True)
spark.stop()
"""


class TestExecutor:
    @pytest.mark.spark
    def test_the_command_of_its_pod_starts_one_that_works_and_ends_with_its_driver(self, tmp_path: Path) -> None:
        home = Path(pyspark.__file__).parent
        common = {
            **SHORT_LIVED_JAVA,
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
        }
        master, port = f"spark://127.0.0.1:{free_port()}", str(free_port())
        address = ["--host", "127.0.0.1", "--port", master.rpartition(":")[2], "--webui-port", str(free_port())]
        set_by_spark = {
            **{"SPARK_DRIVER_URL": f"spark://CoarseGrainedScheduler@127.0.0.1:{port}", "SPARK_EXECUTOR_ID": "1"},
            **{"SPARK_EXECUTOR_CORES": "1", "SPARK_EXECUTOR_MEMORY": "512m", "SPARK_APPLICATION_ID": "spark-1"},
            **{"SPARK_EXECUTOR_POD_IP": "127.0.0.1", "SPARK_EXECUTOR_POD_NAME": "spark-exec-1"},
            **{"SPARK_RESOURCE_PROFILE_ID": "0", "SPARK_JAVA_OPT_0": f"-Dspark.driver.port={port}"},
            "SPARK_JAVA_OPT_1": "-Dtext=two words",
        }
        of_the_image = {"SPARK_HOME": str(home), "SPARK_CONF_DIR": str(tmp_path)}
        words = [*container(pods("production")["spark-executor"])["command"], "executor"]
        with _process([home / "bin/spark-class", "org.apache.spark.deploy.master.Master", *address], common):
            assert until(lambda: _listens(int(address[3])), seconds=60)
            with _process([sys.executable, "-c", DRIVER, master, port], common) as driver:
                assert driver.stdout is not None
                assert driver.stdout.readline() == "ready\n"
                with _process(words, common | of_the_image | set_by_spark) as executor:
                    assert driver.stdout.readline() == "9900\n"
                    assert executor.wait(60) == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _process(words: Sequence[object], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = list(map(str, words))
    process = subprocess.Popen(
        command, env=environment, cwd=environment["HOME"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
