"""A table that one process cannot hold is scored by Spark's workers: here, and on a cluster without this project."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyspark
import pytest
from deltalake import DeltaTable
from place import PROJECT, Ended, Place, new_database, rows_of, until
from services import free_port
from small import flowers

from steps.core.spark import jars

pytestmark = pytest.mark.spark

COLUMNS: dict[str, dict[str, Any]] = {
    "petal_length": {"type": "double"},
    "petals": {"type": "long"},
    "wild": {"type": "boolean"},
    "color": {"type": "string"},
    "day": {"type": "date", "feature": False},
    "at": {"type": "timestamp", "feature": False},
    "species": {"type": "string"},
}
PLAIN = {"double", "long", "boolean", "string", "date", "timestamp"}
SCORED = ["prediction", "probability", "probabilities"]
INFER_BY_WORKERS = """
from steps.core.tables import location, snapshot
snapshot.IN_MEMORY_BYTES = 0
from steps import infer
infer.main()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, served: dict[str, str]) -> Place:
    """Where a table with every type was ingested, and a model of it has passed the gate."""
    place = Place(tmp_path_factory.mktemp("workers"), served)
    new_database(place.folder)
    rows = flowers(300)
    rows["day"] = pd.date_range("1990-01-01", periods=len(rows)).date
    rows["at"] = [f"2024-02-29T23:59:{second % 60:02}.123456Z" for second in range(len(rows))]
    rows.loc[::7, ["day", "at"]] = None
    rows.to_csv(place.folder / "flowers.csv", index=False)
    config = place.config(
        name="flowers",
        source={"uri": "flowers.csv"},
        columns=COLUMNS,
        target="species",
        model={"name": "flowers_model", "num_boost_round": 20},
        gate={"at_least": 0.5},
    )
    config.rename(place.folder / "flowers.yaml")
    for step in ("ingest", "train", "evaluate", "infer"):
        ended = place.step(step, config="flowers.yaml")
        assert ended.exit_code == 0, ended.text
    return place


def infer_by_workers(place: Place, name: str, **extra: str) -> Ended:
    """infer of the same table into the predictions of another config, as if it did not fit in memory."""
    elsewhere = Place(place.folder, {**place.extra, "PYTHONPATH": str(PROJECT), **extra})
    return elsewhere.run(sys.executable, "-c", INFER_BY_WORKERS, *given_to_infer(place, name))


def given_to_infer(place: Place, name: str) -> list[str]:
    """Its parameters, of which the config is made here."""
    config = (place.folder / "flowers.yaml").read_text().replace("name: flowers\n", f"name: {name}\n", 1)
    (place.folder / f"{name}.yaml").write_text(config)
    return [f"--config={name}.yaml", f"--table={place.lake('flowers')}", "--model=models:/flowers_model@staging"]


def is_equal_to_what_was_scored_in_memory(place: Place, name: str) -> bool:
    expected, scored = (rows_of(place.lake(f"{table}_predictions")) for table in ("flowers", name))
    assert scored.schema.names == expected.schema.names
    columns = [*COLUMNS, *SCORED, "model_uri", "table_uri"]
    return sorted(map(repr, scored.select(columns).to_pylist())) == sorted(
        map(repr, expected.select(columns).to_pylist())
    )


@pytest.fixture(scope="module")
def scored(trained: Place) -> Ended:
    return infer_by_workers(trained, "by_workers")


class TestWorkersOfThisMachine:
    def test_they_score_to_the_last_bit_as_one_process_does(self, trained: Place, scored: Ended) -> None:
        assert scored.exit_code == 0, scored.text
        assert scored.out == f"infer: predictions = {trained.lake('by_workers_predictions@v0')}\n"
        assert is_equal_to_what_was_scored_in_memory(trained, "by_workers")

    def test_every_type_is_plain_for_a_second_reader(self, trained: Place, scored: Ended) -> None:
        for name in ("flowers", "flowers_predictions", "by_workers_predictions"):
            table = DeltaTable(trained.lake(name))
            kinds = {field.name: field.type for field in table.schema().fields}
            assert {getattr(kind, "type", "") for kind in kinds.values()} - {"map"} <= PLAIN, kinds
            assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
        probabilities = pa.schema(DeltaTable(trained.lake("by_workers_predictions")).schema().to_arrow())
        assert str(probabilities.field("probabilities").type).startswith("map<string")

    def test_status_lineage_and_the_next_infer_go_on_from_there(self, trained: Place, scored: Ended) -> None:
        again = infer_by_workers(trained, "by_workers")
        assert again.out == scored.out, again.text
        told = trained.step("lineage", uri=trained.lake("by_workers_predictions@v0"))
        assert f"{trained.lake('flowers@v0')}\n" in told.out, told.text


def test_a_jvm_that_is_killed_while_they_write_ends_infer_and_the_next_one_goes_on(trained: Place) -> None:
    alone = Place(trained.folder, {"WORKFLOW_SPARK": "", "PYTHONPATH": str(PROJECT)})
    process = subprocess.Popen(
        [sys.executable, "-c", INFER_BY_WORKERS, *given_to_infer(trained, "killed")],
        cwd=alone.folder,
        env=alone.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        predictions = Path(trained.lake("killed_predictions"))
        assert until(lambda: process.poll() is not None or list(predictions.rglob("_temporary")), seconds=90)
        for pid, command in trained.processes().items():
            if "/java " in command:
                os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (1, ""), err
    assert "SparkUnavailable: Spark cannot be used: its JVM was ended by SIGKILL" in err
    assert "Traceback" not in err
    assert not DeltaTable.is_deltatable(str(predictions))
    assert infer_by_workers(trained, "killed").out == f"infer: predictions = {predictions}@v0\n"
    assert is_equal_to_what_was_scored_in_memory(trained, "killed")


@contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A Spark master, a worker and a Connect server, none of which can import this project; the server's address."""
    home, (master, connect) = Path(pyspark.__file__).parent, (free_port(), free_port())
    class_path = os.pathsep.join(str(jar) for jar in jars.needed(remote=False).downloaded())
    settings = {
        "spark.master": f"spark://127.0.0.1:{master}",
        "spark.driver.host": "127.0.0.1",
        "spark.executor.extraClassPath": class_path,
        "spark.executor.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.connect.grpc.binding.port": str(connect),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    }
    given = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    deploy, server = "org.apache.spark.deploy", "org.apache.spark.sql.connect.service.SparkConnectServer"
    uri, address = f"spark://127.0.0.1:{master}", ["-h", "127.0.0.1", "--webui-port", str(free_port())]
    commands = [
        ["spark-class", f"{deploy}.master.Master", *address, "-p", str(master)],
        ["spark-class", f"{deploy}.worker.Worker", *address, "-c", "1", "-m", "1g", "-d", str(folder), uri],
        ["spark-submit", *given, "--driver-class-path", class_path, "--class", server],
    ]
    commands[1][commands[1].index("--webui-port") + 1] = str(free_port())
    clean = {name: value for name, value in Place(folder).environment.items() if name != "PYTHONPATH"}
    environment = {**clean, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable}
    processes = []
    with (folder / "log").open("wb") as log:
        for program, *words in commands:
            processes.append(
                subprocess.Popen(
                    [str(home / "bin" / program), *words],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
    try:
        started = until(lambda: b"Spark Connect server started" in (folder / "log").read_bytes(), seconds=90)
        assert started, (folder / "log").read_text()[-3000:]
        yield f"sc://localhost:{connect}"
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_workers_of_a_cluster_need_no_file_of_this_project(trained: Place, tmp_path: Path) -> None:
    with cluster(tmp_path) as address:
        extra = {"SPARK_REMOTE": address, "SPARK_CONNECT_AUTHENTICATE_TOKEN": "", "JAVA_HOME": "/nowhere"}
        ended = infer_by_workers(trained, "by_cluster", **extra)
    assert ended.exit_code == 0, ended.text
    assert is_equal_to_what_was_scored_in_memory(trained, "by_cluster")
