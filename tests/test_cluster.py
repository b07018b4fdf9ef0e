"""The whole workflow, unchanged, on a Spark standalone cluster: a master, two workers and a Connect server.

Each is a process of its own with a working folder of its own, and none of them can import this project. The client has
no Java. What a cluster lacks of the project's code, the steps bring along.
"""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pyspark
import pytest
from place import Ended, Place, new_database, rows_of, until
from services import SHORT_LIVED_JAVA, free_port
from small import OF_EVERY_TYPE, flowers, tracked

from steps.core.spark import jars

pytestmark = pytest.mark.spark

CORES = 2  # of a worker
FILES, ROWS = 12, 150  # of which each file's last breaks the contract
DEPLOY, CONNECT = "org.apache.spark.deploy", "org.apache.spark.sql.connect.service.SparkConnectServer"


class Cluster:
    """`address` is that of its Connect server; each of `workers` is the folder of one, with what its tasks log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.workers = [folder / "first worker", folder / "second"]
        self._processes: list[subprocess.Popen[bytes]] = []
        master, connect = free_port(), free_port()
        self._uri, self.address = f"spark://127.0.0.1:{master}", f"sc://localhost:{connect}"
        self._start("master", "spark-class", f"{DEPLOY}.master.Master", *self._listen(), "-p", str(master))
        for worker in self.workers:
            size = ["-c", str(CORES), "-m", "1g", "-d", str(worker)]
            self._start(worker.name, "spark-class", f"{DEPLOY}.worker.Worker", *self._listen(), *size, self._uri)
        self._start("server", "spark-submit", *self._submit(connect), "--class", CONNECT)
        log = folder / "server" / "log"
        assert until(lambda: b"Spark Connect server started" in log.read_bytes(), seconds=120), log.read_text()[-3000:]
        # Else the one that is first may have boosted before the other is there.
        assert until(lambda: all(map(self._has_executor, self.workers)), seconds=120), log.read_text()[-3000:]

    def log_of(self, worker: Path) -> str:
        """What its executors have logged."""
        return "\n".join(path.read_text(errors="replace") for path in worker.glob("app-*/*/stderr"))

    def _has_executor(self, worker: Path) -> bool:
        return "Successfully registered with driver" in self.log_of(worker)

    def _listen(self) -> list[str]:
        return ["-h", "127.0.0.1", "--webui-port", str(free_port())]

    def _submit(self, port: int) -> list[str]:
        class_path = os.pathsep.join(str(jar) for jar in jars.needed(remote=False).downloaded())
        settings = {
            "spark.master": self._uri,
            "spark.driver.host": "127.0.0.1",
            "spark.executor.extraClassPath": class_path,
            "spark.executor.memory": "1g",
            "spark.task.cpus": str(CORES),  # a worker of XGBoost's has all cores of its machine
            "spark.ui.enabled": "false",
            # Of what is planned for large tables: 50 tasks for Delta's log alone.
            **dict.fromkeys(("spark.sql.shuffle.partitions", "spark.databricks.delta.snapshotPartitions"), "2"),
            "spark.connect.grpc.binding.port": str(port),
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        }
        given = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
        return [*given, "--driver-class-path", class_path]

    def _start(self, name: str, program: str, *words: str) -> None:
        folder, home = self._folder / name, Path(pyspark.__file__).parent
        folder.mkdir()
        clean = {key: value for key, value in Place(folder).environment.items() if key != "PYTHONPATH"}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(home / "bin" / program), *words],
                cwd=folder,
                # Threads of XGBoost's that wait do so without a core, as the workers share those of this machine.
                env={
                    **clean,
                    **SHORT_LIVED_JAVA,
                    "SPARK_HOME": str(home),
                    "PYSPARK_PYTHON": sys.executable,
                    "OMP_WAIT_POLICY": "passive",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)

    def stop(self) -> None:
        for process in self._processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Flowers with a value of every type, some of them missing, as their table is to hold them."""
    rows = flowers(FILES * (ROWS - 1))
    rows["day"] = pd.date_range("1990-01-01", periods=len(rows)).date
    rows["at"] = [f"2024-02-29T23:59:{second % 60:02}.123456Z" for second in range(len(rows))]
    rows.loc[::7, ["day", "at"]] = None
    return rows[list(OF_EVERY_TYPE)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, rows: pd.DataFrame) -> Place:
    """Where a user stands with a folder of CSV files and a config for them."""
    place = Place(tmp_path_factory.mktemp("user"))
    new_database(place.folder)
    (place.folder / "flowers").mkdir()
    for file in range(FILES):
        with (place.folder / "flowers" / f"{file:02}.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(OF_EVERY_TYPE)
            begin = file * (ROWS - 1)
            part = rows[begin : begin + ROWS - 1].astype(object)
            writer.writerows(part.where(part.notna(), None).to_numpy().tolist())
            writer.writerow([*[None] * 5, "yesterday", "setosa"])
    config = place.config(
        name="flowers",
        source={"uri": "flowers", "format": "csv"},
        columns=OF_EVERY_TYPE,
        target="species",
        rejects_at_most=0.5,
        model={"name": "flowers_model", "num_boost_round": 20},
        gate={"at_least": 0.5},
    )
    config.rename(place.folder / "flowers.yaml")
    return place


@pytest.fixture(scope="module")
def done(place: Place, cluster: Cluster) -> Ended:
    """The command of the laptop, with what a cluster needs beside it."""
    on_cluster = {
        "SPARK_REMOTE": cluster.address,
        "SPARK_CONNECT_AUTHENTICATE_TOKEN": "",
        "WORKFLOW_IN_MEMORY_MEBIBYTES": "0",  # all tables and sources are large
        "WORKFLOW_PROGRESS_SECONDS": "1",
        "JAVA_HOME": "/nowhere",
    }
    ended = Place(place.folder, on_cluster).step("main", config="flowers.yaml", engine="spark")
    assert ended.exit_code == 0, ended.text
    return ended


def test_every_row_is_in_the_table_or_among_the_rejects(place: Place, done: Ended, rows: pd.DataFrame) -> None:
    table = rows_of(place.lake("flowers"))
    assert table.num_rows == len(rows)
    stored = table.select(["petals", "color", "species", "day"]).to_pylist()
    expected = rows[["petals", "color", "species", "day"]].astype(object)
    expected = expected.where(expected.notna(), None).to_dict("records")
    assert sorted(map(repr, stored)) == sorted(map(repr, expected))
    assert pd.Series(table["petal_length"].to_numpy()).sum() == pytest.approx(rows["petal_length"].sum(), rel=1e-12)
    rejects = rows_of(place.lake("flowers_rejects"))
    assert sorted(Path(file).name for file in rejects["file"].to_pylist()) == [f"{n:02}.csv" for n in range(FILES)]


def test_the_model_was_boosted_by_both_workers_and_passes_the_gate(place: Place, done: Ended, cluster: Cluster) -> None:
    run = next(run for run in place.runs() if run.info.run_name == "train")
    assert run.data.params["model.engine"] == "spark"
    assert str(place.client.get_model_version_by_alias("flowers_model", "staging").version) == "1"
    for worker in cluster.workers:
        log = cluster.log_of(worker)
        assert re.search(r"BarrierTaskContext: Task \d+ from Stage .* finished global sync", log), log[-3000:]


def test_each_prediction_is_that_of_the_registered_model(place: Place, done: Ended) -> None:
    scored = rows_of(place.lake("flowers_predictions"))
    table = rows_of(place.lake("flowers"))
    with tracked(f"sqlite:///{place.folder / 'mlflow.db'}"), contextlib.chdir(place.folder):
        model = mlflow.pyfunc.load_model("models:/flowers_model/1")
        predicted = model.predict(table.to_pandas(date_as_object=True))
    names = ["petal_length", "petals", "color", "day", "species"]
    expected = pd.concat([table.select(names).to_pandas(), predicted[["prediction", "probability"]]], axis=1)
    found = scored.select([*names, "prediction", "probability"]).to_pandas()
    assert sorted(map(repr, found.to_numpy().tolist())) == sorted(map(repr, expected.to_numpy().tolist()))
    assert set(scored["model_uri"].to_pylist()) == {"models:/flowers_model/1"}


def test_the_log_shows_how_many_tasks_are_done(done: Ended) -> None:
    assert re.search(r"^train: .*\d of \d+ tasks, ", done.err, re.MULTILINE), done.err  # the others may take no second
